#!/usr/bin/env python3
"""kill -9 of random workers every 50 ms under mixed load, and SIGSTOP of some.

    kill_workers.py SECONDS [SEED]

Writes go on (acknowledged ones in every second of the run), no reply is wrong, searches fail only while their own worker dies and nginx has no other, nothing
acknowledged is lost, the lock is never stuck. Then the time from a kill to a serving replacement is measured in quiet. Prints a table line.
"""

import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
from instance import Client, Instance, Oracle, Writer, sentence, state_of  # noqa: E402


class Searcher(threading.Thread):
    """Searches for known texts; the right chunk must come first."""

    def __init__(self, instance, library, known, seed):
        super().__init__(daemon=True)
        self.instance, self.library, self.known = instance, library, known
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.done = self.failed = 0
        self.wrong = []
        self.worst = 0.0

    def run(self):
        client = Client(self.instance)
        while not self.stopping.is_set():
            id, text = self.rng.choice(self.known)
            began = time.monotonic()
            status, reply = client.request("POST", "/v1/libraries/%s/search" % self.library, {"query": text, "k": 3})
            if status == 200:
                self.done += 1
                self.worst = max(self.worst, time.monotonic() - began)
                best = reply["results"][0] if reply["results"] else None
                if best is None or best["chunk"]["text"] != text or best["distance"] > 1e-3:
                    self.wrong.append("search for %s found %s" % (id, best and (best["document_id"], best["distance"])))
            elif status in (503, None):
                self.failed += 1
            else:
                self.wrong.append("search: status %s %s" % (status, reply))
        client.close()


def respawn_times(instance, count):
    """Kills one worker in quiet and waits until as many as before are ready, by what the server says of itself."""
    times = []
    supervisor = instance.supervisor()
    for _ in range(count):
        before = set(instance.children(supervisor))
        victim = sorted(before)[0]
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        while time.monotonic() - began < 10:
            now = set(instance.children(supervisor))
            fresh = now - before
            # A worker that serves waits in poll for a connection; the marker is its process title, set when it enters its loop.
            if len(now) >= len(before) and fresh and all(serving(p) for p in fresh):
                break
            time.sleep(0.001)
        times.append(time.monotonic() - began)
    return times


def serving(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            if b"worker" not in f.read():
                return False
        with open("/proc/%d/wchan" % pid) as f:
            waits = f.read()
        return "poll" in waits or "epoll" in waits or (waits in ("0", "") and state_of(pid) == "S")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def main():
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(4), "little")
    rng = random.Random(seed)
    instance = Instance("workers=4", "watchdog_pin_ms=500", "write_deadline_ms=1000", "watchdog_request_ms=1500", "watchdog_lock_ms=50")
    faults = []
    oracle = Oracle()
    kills = stops = 0
    try:
        instance.start()
        client = Client(instance)
        status, library = client.request("POST", "/v1/libraries", {"name": "workers"})
        assert status == 201, status
        status, fixed = client.request("POST", "/v1/libraries", {"name": "fixed"})
        library, fixed = library["id"], fixed["id"]
        known = []
        for i in range(200):
            text = sentence(rng, 14) + " %d" % i
            status, _ = client.request("POST", "/v1/libraries/%s/documents" % fixed, {"id": "k%d" % i, "title": "k", "texts": [text]})
            assert status == 201, status
            known.append(("k%d" % i, text))
        writers = [Writer(instance, library, oracle, "w%d" % i, seed * 10 + i) for i in range(2)]
        searchers = [Searcher(instance, fixed, known, seed * 100 + i) for i in range(3)]
        for t in writers + searchers:
            t.start()
        supervisor = instance.supervisor()
        began = time.monotonic()
        turn = 0
        while time.monotonic() - began < seconds:
            time.sleep(0.05)
            workers = instance.children(supervisor)
            if not workers:
                continue
            turn += 1
            try:
                if turn % 20 == 0:
                    os.kill(rng.choice(workers), signal.SIGSTOP)
                    stops += 1
                else:
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    kills += 1
            except ProcessLookupError:
                pass
        ended = time.monotonic()
        for t in writers + searchers:
            t.stopping.set()
        for t in writers + searchers:
            t.join()
        if instance.supervisor() != supervisor or state_of(supervisor) in ("Z", ""):
            faults.append("the supervisor ended")
        for w in writers:
            faults += w.unexpected
        for s in searchers:
            faults += s.wrong
        acks = sorted(t for w in writers for t in w.acks)
        gaps = [b - a for a, b in zip([began] + acks, acks + [ended])]
        if len(acks) < seconds:
            faults.append("only %d writes were acknowledged in %.0f s" % (len(acks), seconds))
        # Both writers can be held up by stopped workers until the watchdog ends them, which takes a second here.
        if max(gaps, default=0) > 5:
            faults.append("no write was acknowledged for %.1f s" % max(gaps))
        faults += oracle.check(client, library)
        respawns = sorted(respawn_times(instance, 15))
        searched = sum(s.done for s in searchers)
        failed = sum(s.failed for s in searchers)
        client.close()
    finally:
        stopped = instance.stop()
    if stopped != 0:
        faults.append("the stop was not in order")
    if searched == 0:
        faults.append("no search was answered")
    print("| test | kills | stops | acknowledged | searches | failed searches | longest gap between acks | respawn median, worst | faults |")
    print("| kill workers | %d | %d | %d | %d | %d | %.0f ms | %.0f ms, %.0f ms | %d |" % (
        kills, stops, oracle.acknowledged, searched, failed, 1000 * max(gaps, default=0), 1000 * respawns[len(respawns) // 2], 1000 * respawns[-1], len(faults)))
    for f in faults[:20]:
        print("  " + f)
    if faults:
        print("seed %d, instance kept: %s" % (seed, instance.dir))
        sys.exit(1)
    instance.remove()


if __name__ == "__main__":
    main()
