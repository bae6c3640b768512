"""A workload that does the same in the same order each time, for campaigns that hit the Nth call of something.

It goes through all that writes files: libraries that are made and deleted, documents one by one and in batches, several segments of log, snapshots by
hand with old ones pruned, live checkpoints by count, a compaction. Nothing in it goes by time. Its oracle lies with the caller: after a restart,
check() holds the server against it.
"""

import random
import time

from instance import Client, Oracle, Writer
from libraries import Libraries

SETTINGS = ["workers=1", "wal_segment_bytes=65536", "snapshot_interval=0", "snapshot_every_ops=0", "snapshot_keep=2", "checkpoint_interval=86400",
            "checkpoint_ops=100", "optimize_dead_percent=0", "indexer_threads=1", "embed_threads=1"]
WAIT_S = 30
STEPS = 25


class LongWriter(Writer):
    """Some sixty of its texts fill a segment of log."""

    WORDS = 120


class Workload:
    def __init__(self, instance, seed=1):
        self.instance = instance
        self.oracle = Oracle()
        self.libraries = Libraries(instance, "other", random.Random(seed))
        self.seed = seed
        self.main = None
        self.writer = None
        self.worst_ms = 0.0

    @property
    def unexpected(self):
        return self.libraries.unexpected + (self.writer.unexpected if self.writer else [])

    def begin(self, client):
        """The library that all the rest goes by; False where it could not be made."""
        if self.main is None:
            self.libraries.may_be["main"] = {True, False}
            status, reply = client.request("POST", "/v1/libraries", {"name": "main"})
            if status != 201:
                self.libraries.doubt(status, reply)
                return False
            self.libraries.may_be["main"] = {True}
            self.main = reply["id"]
            self.writer = LongWriter(self.instance, self.main, self.oracle, "m", self.seed)
        return True

    def run(self):
        """Until its end, or until the server is gone."""
        client = Client(self.instance, timeout=WAIT_S)
        if not self.begin(client):
            return
        for step in (lambda: self.write(client, 40), lambda: self.libraries.make(client), lambda: self.snapshot(client), lambda: self.write(client, 80),
                     lambda: self.checkpoint(client), lambda: self.optimize(client), lambda: self.libraries.make(client), lambda: self.write(client, 10),
                     lambda: self.delete_library(client), lambda: self.snapshot(client), lambda: self.write(client, 40), lambda: self.snapshot(client)):
            if not self.instance.alive():
                return
            step()

    def some_of_everything(self, client, rng, more=()):
        """In any order, and `more`, as long as the server lives."""
        if not self.begin(client):
            return
        steps = [lambda: self.write(client, STEPS), lambda: self.libraries.make(client), lambda: self.delete_library(client), lambda: self.snapshot(client),
                 lambda: self.optimize(client), lambda: self.write(client, STEPS), *more]
        rng.shuffle(steps)
        for step in steps:
            if self.instance.alive():
                step()

    def wait_healed(self, client):
        """True as soon as a library can be made and written to, as well as the main one, and a snapshot be taken."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and self.instance.alive():
            before = len(self.libraries.known)
            self.libraries.make(client)
            if len(self.libraries.known) > before and self.begin(client):
                acknowledged = self.oracle.acknowledged
                self.write(client, 2)
                task = self.snapshot(client)
                if self.oracle.acknowledged > acknowledged and task is not None and task["state"] == "succeeded":
                    return True
            time.sleep(0.02)
        return False

    def write(self, client, steps):
        for _ in range(steps):
            if not self.instance.alive():
                return
            self.writer.step(client)

    def delete_library(self, client):
        if self.libraries.known:
            self.libraries.delete(client)

    def snapshot(self, client):
        """Returns the task as it ended, or None."""
        return self.finished(client, self.libraries.ask(client, "/v1/snapshots", {}))

    def optimize(self, client):
        return self.finished(client, self.libraries.ask(client, "/v1/libraries/%s/index/optimize" % self.main, {}))

    def finished(self, client, task):
        deadline = time.monotonic() + WAIT_S
        while task is not None and task["state"] in ("pending", "running") and self.instance.alive():
            if time.monotonic() > deadline:
                self.libraries.unexpected.append("a task does not end: %s" % task)
                return None
            time.sleep(0.002)
            status, reply = client.request("GET", "/v1/tasks/" + task["id"])
            task = reply if status == 200 else task
        return task

    def checkpoint(self, client):
        """Waits until one was taken since the start, or tried. The writes before it have made it due."""
        deadline = time.monotonic() + WAIT_S
        while self.instance.alive() and not (client.metric("quire_checkpoints_taken_total") or client.metric("quire_checkpoint_failures_total")):
            if time.monotonic() > deadline:
                self.libraries.unexpected.append("no checkpoint is taken")
                return
            time.sleep(0.002)

    def check(self, client):
        """Faults. All of it is looked at, by search as well; vectors once they are made again."""
        faults = list(self.unexpected)
        faults += self.libraries.check(client)
        if self.main is None or True not in self.libraries.may_be["main"]:
            return faults
        faults += self.oracle.check(client, self.main)
        faults += self.oracle.check_by_search(client, self.main)
        return faults + self.oracle.check_vectors(client, self.main)
