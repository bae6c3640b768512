#!/usr/bin/env python3
"""kill -9 of the supervisor at random moments while clients write.

    kill_supervisor.py [--short] [--count N] [--seed N]

After each kill: no worker is left, the start recovers, every acknowledged write is there with its text, nothing is there that was not sent. Each fourth round the
arenas are removed as well; each third is killed again in the middle of its recovery. 
"""

import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
from instance import SERVE, Client, Instance, Oracle, Writer  # noqa: E402
from processes import living  # noqa: E402
from report import Campaign  # noqa: E402


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
    if living(pid):
        instance.kill_supervisor()


def main():
    campaign = Campaign("kill-supervisor", short=20, long=2000, doc=__doc__)
    rng, seed = campaign.rng, campaign.seed
    instance = Instance("workers=4", "wal_segment_bytes=262144", "snapshot_interval=1", "snapshot_every_ops=3")
    recoveries = []
    oracle = Oracle()
    try:
        instance.start()
        client = Client(instance)
        status, library = client.request("POST", "/v1/libraries", {"name": "crash"})
        assert status == 201, status
        library = library["id"]
        writers = [Writer(instance, library, oracle, "w%d" % i, seed * 10 + i) for i in range(4)]
        for round in range(campaign.count):
            for i, old in enumerate(writers):
                new = Writer(instance, library, oracle, old.prefix, rng.random())
                new.number, new.ids = old.number, old.ids
                writers[i] = new
                new.start()
            time.sleep(rng.uniform(0.02, 0.6))
            for pid in instance.kill_supervisor():
                campaign.wrong("orphan: process %d" % pid)
            campaign.injections += 1
            for w in writers:
                w.stopping.set()
            for w in writers:
                w.join()
                campaign.take(w.unexpected)
            if round % 4 == 3:
                shutil.rmtree(os.path.join(instance.dir, "data", "vectors"), ignore_errors=True)
            if round % 3 == 2:
                kill_in_recovery(instance, rng)
            began = time.monotonic()
            instance.start()
            recoveries.append(time.monotonic() - began)
            client.close()
            touched = set().union(*[w.touched for w in writers])
            campaign.take(oracle.check(client, library, None if round == campaign.count - 1 else touched))
            if campaign.faults:
                break
        client.close()
    finally:
        instance.stop()
        if not campaign.faults:
            instance.remove()
    if oracle.acknowledged == 0:
        campaign.wrong("nothing was acknowledged: the test saw nothing")
    print("%d writes acknowledged" % oracle.acknowledged)
    sys.exit(campaign.finish(1000 * max(recoveries, default=0)))


if __name__ == "__main__":
    main()
