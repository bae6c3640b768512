#!/usr/bin/env python3
"""The Nth allocation of a running supervisor fails, in whichever of its threads, once or from then on.

    memory_server.py [--short] [--count N] [--seed N [--life N]]

The server is quired linked with allocations that fail as a file says (starved.c); its workers get what they ask for. Under failing allocations it takes
documents, batches, libraries, snapshots, compactions, checkpoints and searches; it starts, and stops in order. What must hold:

  - no reply says that something was done which is not there after a restart; nothing refused is there
  - the supervisor lives: what it has no memory for is refused with 503, and done again when there is memory
  - a start without memory ends with code 71, and the next one is as if nothing had been

The memory of one process alone, deed by deed and for every N, is for the campaign memory.
"""

import mmap
import os
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, StartFailed  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402
from running import wait_gone, workers_of  # noqa: E402
from workload import SETTINGS, Workload  # noqa: E402

FAULTS_PER_LIFE = 12
HEALED_S = 15
STEPS = 12
STARTS_MOST = 400  # allocations of a start, about
EX_OSERR = 71
RECORD = struct.Struct("<IIQ")  # struct allocations
NOT_NOW = (503,)


class Allocations:
    """The file that the supervisor shares."""

    def __init__(self, place):
        self.path = os.path.join(place, "allocations")
        with open(self.path, "wb") as f:
            f.write(bytes(RECORD.size))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), RECORD.size)

    def arm(self, nth, on):
        struct.pack_into("<I", self.map, 4, 1 if on else 0)
        struct.pack_into("<I", self.map, 0, nth)

    def disarm(self):
        """Whether there were as many."""
        left, = struct.unpack_from("<I", self.map, 0)
        on, = struct.unpack_from("<I", self.map, 4)
        struct.pack_into("<II", self.map, 0, 0, 0)
        return left == (1 if on else 0)

    def seen(self):
        return struct.unpack_from("<Q", self.map, 8)[0]


class Starving:
    """One life: an instance and its oracle, through several shortages."""

    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.workload = Workload(instance, self.rng.random())
        self.allocations = Allocations(instance.dir)
        instance.program = os.path.join(os.path.dirname(os.path.dirname(instance.program)), "tests", "crash", "quired_starved")

    def start(self):
        began = time.monotonic()
        self.instance.start({"QUIRE_TEST_STARVE": self.allocations.path})
        self.life.took(time.monotonic() - began)

    def deeds(self, client):
        w = self.workload
        return [lambda: w.write(client, STEPS), lambda: w.write(client, STEPS), lambda: w.libraries.make(client), lambda: w.delete_library(client),
                lambda: w.snapshot(client), lambda: w.optimize(client), lambda: self.search(client)]

    def search(self, client):
        for query in ("amber", "walnut winter"):
            client.request("POST", "/v1/libraries/%s/search" % self.workload.main, {"query": query, "k": 3})

    def wait_healed(self, client):
        """As soon as a library can be made, written to, and a snapshot taken."""
        deadline = time.monotonic() + HEALED_S
        w = self.workload
        while time.monotonic() < deadline and self.instance.alive():
            before = len(w.libraries.known)
            acknowledged = w.oracle.acknowledged
            w.libraries.make(client)
            w.write(client, 3)
            if len(w.libraries.known) > before and w.oracle.acknowledged > acknowledged:
                task = w.snapshot(client)
                if task is not None and task["state"] == "succeeded":
                    return True
            time.sleep(0.02)
        return False

    def tell_death(self):
        self.life.wrong("the supervisor ended with %s: %s" % (self.instance.process.wait(), self.instance.log()[-1500:]))

    def under_load(self):
        client = Client(self.instance)
        if not self.workload.begin(client):
            return
        deed = self.rng.choice(self.deeds(client))
        began = self.allocations.seen()
        deed()
        most = max(1, self.allocations.seen() - began)
        client.seen.clear()
        nth, on = self.rng.randint(1, most), self.rng.random() < 0.4
        self.allocations.arm(nth, on)
        self.rng.choice(self.deeds(client))() if self.rng.random() < 0.2 else deed()
        reached = self.allocations.disarm()
        self.life.note("reached" if reached else "not_reached")
        if not self.instance.alive():
            self.tell_death()
            return
        for status, what in client.seen.items():
            if status is not None and status >= 500:
                self.life.note("status_%d" % status)
                if status not in NOT_NOW:
                    self.life.wrong("status %d: %s" % (status, what))
        if not self.wait_healed(Client(self.instance)):
            self.life.wrong("it does not heal: %s" % self.instance.log()[-1500:]) if self.instance.alive() else self.tell_death()

    def check(self):
        self.life.take(self.workload.check(Client(self.instance)))

    def end(self):
        """As a crash, or in order, with or without memory."""
        how = self.rng.random()
        if how < 0.4:
            self.instance.kill_supervisor()
            return
        if how < 0.7:
            self.allocations.arm(self.rng.randint(1, 100), self.rng.random() < 0.5)
        code = self.instance.stop()
        starved = self.allocations.disarm() and how < 0.7
        self.life.note("stop_starved" if starved else "stop")
        if code != 0 and not (starved and code == EX_OSERR):
            self.life.wrong("a stop ended with %s: %s" % (code, self.instance.log()[-1500:]))
        for pid in wait_gone(workers_of(self.instance.process.pid), 2):
            self.life.wrong("orphan: process %d" % pid)

    def start_again(self):
        if self.rng.random() < 0.5:
            self.allocations.arm(self.rng.randint(1, STARTS_MOST), self.rng.random() < 0.3)
            try:
                self.start()
            except StartFailed as e:
                self.life.note("start_refused")
                if e.code != EX_OSERR:
                    self.life.wrong("a start ended with %s: %s" % (e.code, e))
            self.allocations.disarm()
        if self.instance.process.poll() is not None:
            self.start()

    def one(self):
        for _ in range(3):
            self.under_load()
            self.life.injections += 1
            if self.life.faults:
                return
        self.check()
        self.end()
        self.start_again()
        self.check()


def life(life):
    with Instance(*SETTINGS, "workers=2", https=False) as instance:
        starving = Starving(life, instance)
        try:
            starving.start()
            while life.injections < life.count and not life.faults:
                starving.one()
        finally:
            if life.faults:
                instance.keep()


def main():
    campaign = Campaign("memory-server", short=24, long=1200, doc=__doc__)
    worst_ms = run_lives(campaign, life, FAULTS_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
