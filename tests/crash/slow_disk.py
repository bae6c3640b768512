#!/usr/bin/env python3
"""Searches while each fdatasync of the log takes 2 s and many clients write.

    slow_disk.py [--short] [--count N] [--seed N]

N rounds, each first without and then with the slow disk, behind nginx, with as many clients that write in both as there are places for writes four times over. Every search
is answered, and sooner than one sync takes. Every write is answered, too: done, or 503 OverloadedError with Retry-After, and then the text says whether it may still be
done. One that says it was not done is not there in the end. p99 of searches in the median of the rounds is printed for three states: nobody writes, many write to a fast
disk, many write to a slow one. That the last is at most 1.2 times the first is what the design is for; a timing decides nothing here.
"""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, Oracle, Writer  # noqa: E402
from report import Campaign  # noqa: E402
from searching import Searcher, known_texts, measure, p99  # noqa: E402

SYNC_S = 2.0
SETTLE_S = 60
SEARCHERS, KNOWN = 2, 2000
# In the proportions of the presets: as many workers are left by the writes as searches may take at a time.
SETTINGS = ("workers=16", "write_workers=8", "read_workers=8", "write_deadline_ms=8000", "log_level=warn", "checkpoint_interval=3600", "snapshot_interval=0")
WRITERS = 32


class Patient(Writer):
    """Its refusals are looked at, too."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.refused, self.not_done = 0, []

    def write(self, client, method, tail, body, values):
        acks = len(self.acks)
        client.seen.clear()
        super().write(client, method, tail, body, values)
        if len(self.acks) > acks:
            return
        self.refused += 1
        found = client.seen.get(503, "")
        if "OverloadedError" not in found or "retry-after" not in client.headers:
            self.unexpected.append("a write had neither success nor a refusal in form: %s %s" % (found, list(client.seen)))
        if "it was not done" in found:
            for id, value in values.items():
                self.oracle.refused(id, value)


class Bench:
    def __init__(self, campaign, instance):
        self.campaign, self.instance = campaign, instance
        self.fixed, self.known = known_texts(instance, "fixed", KNOWN, campaign.rng)
        self.p99 = {}

    def measure(self, state, seconds):
        searchers = [Searcher(self.instance, self.fixed, self.known, self.campaign.rng.random()) for _ in range(SEARCHERS)]
        times, faults = measure(searchers, seconds)
        for text in faults:
            self.campaign.wrong("%s: %s" % (state, text))
        if not times:
            self.campaign.wrong("%s: no search was answered" % state)
            return
        if times[-1] >= SYNC_S:
            self.campaign.wrong("%s: a search took %.0f ms" % (state, 1000 * times[-1]))
        self.p99.setdefault(state, []).append(p99(times))

    def median(self, state):
        found = sorted(self.p99.get(state, [0.0]))
        return 1000 * found[len(found) // 2]


def settle(client):
    """What the writes before have left to do behind them is no business of the measurement after."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline and client.metric("quire_index_tail_chunks") != 0:
        time.sleep(0.1)


def run(campaign, instance):
    flag = os.path.join(instance.dir, "slow")
    instance.start({"QUIRE_IO_FAULT": "fdatasync:delay=%d,path=wal,file=%s" % (1000 * SYNC_S, flag)})
    seconds = 2 if campaign.short else 10
    oracle = Oracle()
    client = Client(instance)
    library = client.library("main")
    bench = Bench(campaign, instance)
    bench.measure("warming up", 1)
    done = {"fast": 0, "slow": 0}
    refused = 0
    for number in range(campaign.count):
        settle(client)
        bench.measure("nobody writes", seconds)
        for disk in ("fast", "slow"):
            if disk == "slow":
                settle(client)
                with open(flag, "w"):
                    pass
            writers = [Patient(instance, library, oracle, "%s%d-%d" % (disk, number, i), campaign.rng.random()) for i in range(WRITERS)]
            for w in writers:
                w.start()
            time.sleep(0.2)
            bench.measure("many write, %s disk" % disk, seconds + (2 * SYNC_S if disk == "slow" else 0))
            for w in writers:
                w.stopping.set()
            for w in writers:
                w.join()
            for text in [t for w in writers for t in w.unexpected]:
                campaign.wrong("%s disk: %s" % (disk, text))
            done[disk] += sum(len(w.acks) for w in writers)
            refused += sum(w.refused for w in writers)
        os.unlink(flag)
        campaign.injections += 1
    if not done["slow"]:
        campaign.wrong("no write was done while the disk was slow")
    campaign.take(oracle.check(client, library))
    client.close()
    if instance.stop() != 0:
        campaign.wrong("the stop was not in order")
    print("writes done: %d with a fast disk, %d with a slow one; %d refused" % (done["fast"], done["slow"], refused))
    for state in bench.p99:
        print("searches, p99: %6.1f ms  %s" % (bench.median(state), state))
    quiet, slow = bench.median("nobody writes"), bench.median("many write, slow disk")
    print("slow disk against nobody writing: %.2f times" % (slow / quiet if quiet else 0))
    return slow


def main():
    campaign = Campaign("slow-disk", short=1, long=7, doc=__doc__)
    with Instance(*SETTINGS) as instance:
        worst_ms = run(campaign, instance)
        if campaign.faults:
            instance.keep()
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
