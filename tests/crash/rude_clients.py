#!/usr/bin/env python3
"""Searches while others are slow, greedy or break off in the middle (tests/lib/rude.py has the ways), through nginx and TLS with its site as it is installed.

    rude_clients.py [--short] [--count N] [--seed N]

N rounds; in each, every way: first a while without, then as long with it. No search may fail or find the wrong thing, nor be slower than a second or two; what is refused is
refused early. In the end the same supervisor and the same workers are there, with as many descriptors as before, no place is taken, and memory is what it was. p99 of
the searches with and without each way is printed, from phases that alternate, so that the machine's own noise is in both. At most 1.5 times is what the design is for; a timing
decides nothing here.
"""

import contextlib
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, sentence  # noqa: E402
from report import Campaign  # noqa: E402
from rude import WAYS, Rude  # noqa: E402
from running import children_of  # noqa: E402
from searching import Searcher, known_texts, measure, p99  # noqa: E402

SETTINGS = ("log_level=warn", "checkpoint_interval=3600", "snapshot_interval=0")
RATE = 200  # as the installed site has it
SEARCHERS = ("127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6")
PAUSE_S = 0.008  # keeps each below its rate
KNOWN = 2000
SETTLE_S = 20
GROWTH_KB, NGINX_GROWTH_KB = 16 << 10, 64 << 10  # of one process: what an allocator keeps


def kilobytes(pid):
    """Memory of its own."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return next(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))
    except (OSError, StopIteration):
        return 0


def descriptors(pid, vectors):
    """How many it has. Of a library's files, which a worker opens when it first looks into the library, only those count that are open twice."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.listdir("/proc/%d/fd" % pid):
            with contextlib.suppress(OSError):
                found.append(os.readlink("/proc/%d/fd/%s" % (pid, entry)))
    files = [name for name in found if name.startswith(vectors)]
    return len(found) - len(set(files))


class Server:
    """The processes of an instance, as they are."""

    def __init__(self, instance):
        self.supervisor = instance.supervisor()
        self.workers = sorted(children_of(self.supervisor))
        with open(os.path.join(instance.dir, "nginx.pid")) as f:
            self.nginx = children_of(int(f.read()))
        self.descriptors = {pid: descriptors(pid, os.path.join(instance.data, "vectors")) for pid in [self.supervisor] + self.workers}
        self.memory = {pid: kilobytes(pid) for pid in [self.supervisor] + self.workers + self.nginx}

    def faults_against(self, before):
        faults = []
        if (self.supervisor, self.workers) != (before.supervisor, before.workers):
            faults.append("processes were lost: %s before, %s after" % (before.workers, self.workers))
        if sorted(self.nginx) != sorted(before.nginx):
            faults.append("nginx has lost a worker")
        for pid, count in self.descriptors.items():
            if count != before.descriptors.get(pid, count):
                faults.append("process %d has %s descriptors, and had %s" % (pid, count, before.descriptors[pid]))
        for pid, size in self.memory.items():
            growth = size - before.memory.get(pid, size)
            if growth > (NGINX_GROWTH_KB if pid in self.nginx else GROWTH_KB):
                faults.append("process %d has grown by %d KiB" % (pid, growth))
        return faults


class Bench:
    def __init__(self, campaign, instance, ways):
        self.campaign, self.instance = campaign, instance
        self.ways = ways
        self.library, self.known = known_texts(instance, "known", KNOWN, campaign.rng)
        client = Client(instance)
        self.victim = client.library("rude")
        for begin in range(0, 1000, 200):
            some = [{"id": "v%d" % i, "title": sentence(campaign.rng), "texts": [sentence(campaign.rng)]} for i in range(begin, begin + 200)]
            client.request("POST", "/v1/libraries/%s/documents/batch" % self.victim, {"documents": some})
        client.close()
        self.quiet, self.rude = ({way: [] for way in self.ways} for _ in range(2))
        self.done = dict.fromkeys(self.ways, 0)
        self.statuses = {way: {} for way in self.ways}
        self.nginx_kb = dict.fromkeys(self.ways, 0)

    def measure(self, state, seconds):
        searchers = [Searcher(self.instance, self.library, self.known, self.campaign.rng.random(), source, PAUSE_S) for source in SEARCHERS]
        times, faults = measure(searchers, seconds)
        for text in faults:
            self.campaign.wrong("%s: %s" % (state, text))
        return times

    def compare(self, way, seconds):
        self.quiet[way] += self.measure("without " + way, seconds)
        rude = Rude(self.instance.port, self.victim)
        rude.start(way)
        try:
            self.rude[way] += self.measure(way, seconds)
            self.nginx_kb[way] = max(self.nginx_kb[way], sum(kilobytes(pid) for pid in Server(self.instance).nginx))
        finally:
            done, statuses, wrong = rude.stop()
        self.done[way] += done
        for status, count in statuses.items():
            self.statuses[way][status] = self.statuses[way].get(status, 0) + count
        for text in wrong:
            self.campaign.wrong("%s: %s" % (way, text))
        if not done:
            self.campaign.wrong("%s: nothing was done" % way)
        self.campaign.injections += 1

    def report(self):
        """The longest time of a search while somebody was rude."""
        print("%-18s %9s %11s %11s %6s %9s  %s" % ("", "how often", "p99 without", "p99 with", "times", "nginx MiB", "answers to the rude"))
        worst = 0.0
        for way in self.ways:
            quiet, rude = sorted(self.quiet[way]), sorted(self.rude[way])
            if not quiet or not rude:
                self.campaign.wrong("%s: no search was answered" % way)
                continue
            worst = max(worst, rude[-1])
            print("%-18s %9d %8.1f ms %8.1f ms %6.2f %9d  %s" % (
                way, self.done[way], 1000 * p99(quiet), 1000 * p99(rude), p99(rude) / p99(quiet), self.nginx_kb[way] >> 10, self.statuses[way] or ""))
        return 1000 * worst


def serves(campaign, instance, library):
    client = Client(instance)
    status, reply = client.request("POST", "/v1/libraries/%s/documents" % library, {"title": "after", "texts": ["after"]})
    if status != 201:
        campaign.wrong("a write afterwards: status %s %s" % (status, reply))
    for name in ("quire_workers_writing", "quire_streams"):
        if client.metric(name) != 0:
            campaign.wrong("%s is %s, and nobody is there" % (name, client.metric(name)))
    client.close()


def settled(instance, before):
    """What does not come back to what it was."""
    deadline = time.monotonic() + SETTLE_S
    while (faults := Server(instance).faults_against(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return faults


def run(campaign, instance, ways, seconds):
    instance.rate = RATE
    instance.start()
    bench = Bench(campaign, instance, ways)
    bench.measure("warming up", 0.5)
    before = Server(instance)
    for _ in range(campaign.count):
        for way in bench.ways:
            bench.compare(way, seconds)
    for text in settled(instance, before):
        campaign.wrong(text)
    serves(campaign, instance, bench.victim)
    worst_ms = bench.report()
    if instance.stop() != 0:
        campaign.wrong("the stop was not in order")
    return worst_ms


def main():
    campaign = Campaign("rude-clients", short=1, long=6, doc=__doc__)
    with Instance(*SETTINGS) as instance:
        worst_ms = run(campaign, instance, list(WAYS), 0.5 if campaign.short else 5)
        if campaign.faults:
            instance.keep()
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
