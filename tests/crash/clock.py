#!/usr/bin/env python3
"""A wall clock that jumps by hours, days and years, forward and back, while the server serves and between its lives.

    clock.py [--short] [--count N] [--seed N [--life N]]

QUIRE_CLOCK_SHIFT makes the clock wrong in the supervisor and its workers at once. Through all jumps: LSNs ascend, and so do ids made by the server;
no request runs into a deadline, no worker is ended by the watchdog, an Idempotency-Key is remembered; snapshots and checkpoints go on being taken by
their intervals; of the snapshots the newest by LSN are kept, and arenas that are removed are made again from them and the log; the server's age is
its age. Now and then it is killed or stopped, and everything acknowledged is there.
"""

import os
import shutil
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, Oracle, Writer  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402

SETTINGS = ["wal_segment_bytes=65536", "snapshot_interval=1", "snapshot_every_ops=0", "snapshot_keep=2", "checkpoint_interval=1", "indexer_threads=1",
            "embed_threads=1", "watchdog_lock_ms=5000", "optimize_dead_percent=20", "optimize_dead_least=50"]
JUMPS_PER_LIFE = 8
STEPS = 20
WAIT_S = 40
HOUR_S, DAY_S, YEAR_S = 3600, 86400, 365 * 86400
SHIFTS_S = (0, 1, -1, HOUR_S, -HOUR_S, DAY_S, -DAY_S, 7 * DAY_S, -7 * DAY_S, YEAR_S, -YEAR_S, 30 * YEAR_S)


class LsnWriter(Writer):
    """Also holds each reply's LSN against the one before it."""

    WORDS = 60
    lsn = 0

    def write(self, client, method, tail, body, values):
        client.headers = {}
        super().write(client, method, tail, body, values)
        lsn = int(client.headers.get("quire-lsn", 0))
        # A deletion of what is gone already changes nothing, and says the LSN that it saw.
        may_repeat = method == "DELETE" or tail == "/batch-delete"
        if lsn and (lsn < self.lsn or (lsn == self.lsn and not may_repeat)):
            self.unexpected.append("LSN %d behind %d" % (lsn, self.lsn))
        self.lsn = max(self.lsn, lsn)


class Shifted:
    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.path = os.path.join(instance.dir, "shift")
        self.shift(0)
        self.oracle = Oracle()
        self.began = None
        self.ids = [""]

    def shift(self, seconds):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as f:
            f.write(struct.pack("=q", seconds * 1000000))

    def start(self):
        self.began = time.monotonic()
        self.instance.start({"QUIRE_CLOCK_SHIFT": self.path})
        self.life.took(time.monotonic() - self.began)
        self.client = Client(self.instance)
        self.workers = set(self.instance.children(self.instance.supervisor()))

    def begin(self):
        self.start()
        self.library = self.client.library("main")
        self.writer = LsnWriter(self.instance, self.library, self.oracle, "c", self.rng.random())

    def wait_for(self, what, condition):
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                self.life.wrong("%s: not within %d s: %s" % (what, WAIT_S, self.instance.log()[-1000:]))
                return
            # Both are taken only when there is something new.
            self.writer.step(self.client)
            time.sleep(0.02)

    def wait_for_one_more(self, metric):
        before = self.client.metric(metric)
        self.wait_for(metric, lambda: self.client.metric(metric) > before)

    def send_with_key(self, key):
        """The id that the document got, which the server makes."""
        status, reply = self.client.request("POST", "/v1/libraries/%s/documents" % self.library, {"title": "t", "texts": ["one of many"]}, key=key)
        if status != 201:
            self.life.wrong("status %s: %s" % (status, reply))
            return None
        return reply

    def make_id(self):
        """Returns the key that it was sent with."""
        key = "key-%d" % len(self.ids)
        reply = self.send_with_key(key)
        if reply is None:
            return key
        if reply["id"] in self.ids:
            self.life.duplicated("id " + reply["id"])
        self.ids.append(reply["id"])
        self.oracle.sending(reply["id"], ("one of many",))
        self.oracle.acked(reply["id"], ("one of many",))
        return key

    def ask_again(self, key):
        """The last one: its key must be remembered."""
        reply = self.send_with_key(key)
        if reply is not None and reply["id"] != self.ids[-1]:
            self.life.duplicated("%s made %s, and then %s" % (key, self.ids[-1], reply["id"]))

    def look(self):
        """At what goes by time."""
        status, health = self.client.request("GET", "/health/detailed")
        age = time.monotonic() - self.began
        if status != 200 or not 0 <= health["uptime_seconds"] <= age + 1:
            self.life.wrong("uptime %s at the age of %.1f s" % (status == 200 and health["uptime_seconds"], age))
        workers = set(self.instance.children(self.instance.supervisor()))
        if self.workers - workers:
            self.life.wrong("workers were ended: %s" % self.instance.log()[-1500:])
        for status, what in self.client.seen.items():
            if status is None or status >= 400 and status != 404:
                self.life.wrong("status %s: %s" % (status, what))
        status, snapshots = self.client.request("GET", "/v1/snapshots")
        names = sorted((s["lsn"], s["name"]) for s in snapshots)
        if names and names[-1][0] < self.client.metric("quire_snapshot_last_lsn"):
            self.life.wrong("the newest snapshot is gone: %s" % names)

    def jump(self):
        key = self.make_id()
        self.shift(self.rng.choice(SHIFTS_S))
        for _ in range(STEPS):
            self.writer.step(self.client)
        self.ask_again(key)
        if self.rng.random() < 0.5:
            self.wait_for_one_more("quire_snapshots_taken_total")
        if self.rng.random() < 0.5:
            self.wait_for_one_more("quire_checkpoints_taken_total")
        self.look()
        self.life.injections += 1
        for text in self.writer.unexpected:
            self.life.wrong(text)

    def restart(self):
        how = self.rng.choice(("killed", "arenas removed", "stopped"))
        key = self.make_id()
        self.life.note(how.replace(" ", "_"))
        if how != "stopped":
            self.instance.kill_supervisor()
        elif self.instance.stop() != 0:
            self.life.wrong("an orderly stop failed: %s" % self.instance.log()[-1500:])
        if how == "arenas removed":
            shutil.rmtree(os.path.join(self.instance.data, "vectors"))
        self.shift(self.rng.choice(SHIFTS_S))
        self.start()
        self.ask_again(key)
        self.life.take(self.oracle.check(self.client, self.library))
        self.life.take(self.oracle.check_by_search(self.client, self.library, [id for id in self.oracle.possible if id not in self.ids]))


def life(life):
    with Instance(*SETTINGS, https=False) as instance:
        s = Shifted(life, instance)
        try:
            s.begin()
            while life.injections < life.count and not life.faults:
                s.jump()
                if life.rng.random() < 0.4:
                    s.restart()
            s.restart()
        finally:
            if life.faults:
                instance.keep()


def main():
    campaign = Campaign("clock", short=16, long=400, doc=__doc__)
    worst_ms = run_lives(campaign, life, JUMPS_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
