#!/usr/bin/env python3
"""kill -9 of the supervisor at random moments while clients write.

    kill_supervisor.py ROUNDS [SEED]

After each kill: no worker is left, the start recovers, every acknowledged write is there with its text, nothing is there that was not sent. Each fourth round the
arenas are removed as well; each third is killed again in the middle of its recovery. Prints a table line and exits 0 when nothing was found.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
from instance import SERVE, Client, Instance, Oracle, Writer, state_of  # noqa: E402


def kill_in_recovery(instance, rng):
    """Starts and kills the supervisor after a few milliseconds, wherever it then is."""
    process = subprocess.Popen([SERVE, instance.dir, "start"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(rng.uniform(0.0, 0.25))
    deadline = time.monotonic() + 5
    while process.poll() is None and time.monotonic() < deadline:
        for pid in [int(p) for p in os.listdir("/proc") if p.isdigit()]:
            try:
                with open("/proc/%d/cmdline" % pid, "rb") as f:
                    words = f.read().split(b"\0")
                if words[0].endswith(b"/quired") and os.path.join(instance.dir, "quire.conf").encode() in words and b"-t" not in words:
                    os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass
        time.sleep(0.005)
    process.wait()
    # It may have become ready before the first look.
    try:
        pid = instance.supervisor()
    except (FileNotFoundError, ValueError):
        return
    if state_of(pid) not in ("Z", ""):
        instance.kill_supervisor()


def main():
    rounds = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(4), "little")
    rng = random.Random(seed)
    instance = Instance("workers=4", "wal_segment_bytes=262144", "snapshot_interval=1", "snapshot_every_ops=3")
    faults, recoveries, orphans = [], [], 0
    oracle = Oracle()
    try:
        instance.start()
        client = Client(instance)
        status, library = client.request("POST", "/v1/libraries", {"name": "crash"})
        assert status == 201, status
        library = library["id"]
        writers = [Writer(instance, library, oracle, "w%d" % i, seed * 10 + i) for i in range(4)]
        for round in range(rounds):
            for i, old in enumerate(writers):
                new = Writer(instance, library, oracle, old.prefix, rng.random())
                new.number, new.ids = old.number, old.ids
                writers[i] = new
                new.start()
            time.sleep(rng.uniform(0.02, 0.6))
            left = instance.kill_supervisor()
            orphans += len([p for p in left if state_of(p) not in ("Z", "")])
            for w in writers:
                w.stopping.set()
            for w in writers:
                w.join()
                faults += w.unexpected
            if round % 4 == 3:
                shutil.rmtree(os.path.join(instance.dir, "data", "vectors"), ignore_errors=True)
            if round % 3 == 2:
                kill_in_recovery(instance, rng)
            began = time.monotonic()
            instance.start()
            recoveries.append(time.monotonic() - began)
            client.close()
            touched = set().union(*[w.touched for w in writers])
            faults += oracle.check(client, library, None if round == rounds - 1 else touched)
            if faults:
                break
        client.close()
    finally:
        client.close()
        instance.stop()
    if not faults and orphans == 0:
        instance.remove()
    lost = len([f for f in faults if f.startswith("lost")])
    doubled = len([f for f in faults if f.startswith("doubled")])
    print("| test | injections | acknowledged | lost | doubled | wrong | orphans | worst start |")
    print("| kill supervisor | %d | %d | %d | %d | %d | %d | %.2f s |" % (
        len(recoveries), oracle.acknowledged, lost, doubled, len(faults) - lost - doubled, orphans, max(recoveries, default=0)))
    for f in faults[:20]:
        print("  " + f)
    if faults or orphans:
        print("seed %d, instance kept: %s" % (seed, instance.dir))
        sys.exit(1)
    if oracle.acknowledged == 0:
        print("nothing was acknowledged: the test saw nothing")
        sys.exit(1)


if __name__ == "__main__":
    main()
