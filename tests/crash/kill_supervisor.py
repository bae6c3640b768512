#!/usr/bin/env python3
"""kill -9 of the supervisor while clients write, again and again.

    kill_supervisor.py [--short] [--count N] [--seed N [--life N]]

Kills at random moments, and aimed ones: a rule of QUIRE_IO_FAULT that raises SIGKILL at the Nth call of a kind on the log, the arenas, snapshots or
checkpoints, armed while it recovers as well as while it serves; and in the middle of an orderly stop. The load adds, replaces and deletes documents, in
batches, too, makes and deletes libraries, takes snapshots and optimizes. Sometimes all arenas are removed before the next start, sometimes it is killed
again at once. After each start: no worker is left from before, every acknowledged write is there with its text and found by a search for it, nothing is
there that was not sent or that was deleted.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, Oracle, StartFailed, Writer  # noqa: E402
from libraries import Libraries  # noqa: E402
from lives import run_lives  # noqa: E402
from running import wait_gone, workers_of  # noqa: E402
from report import Campaign  # noqa: E402

KILLS_PER_LIFE = 25
STARTS_MAX = 6
LOAD_MAX_S = 0.25
WRITERS = 3
# what is hit in the middle: call, part of the path, up to how many such calls may pass first
AIMS = {
    "batch": [("write", "/wal/", 150), ("fdatasync", "/wal/", 80)],
    "rotation": [("fsync", "wal", 6), ("fallocate", "wal", 4), ("rename", "wal", 4), ("unlink", "wal", 3), ("open", "wal_", 6)],
    "snapshot": [("open", "/.snapshot", 3), ("write", "/.snapshot", 6), ("fsync", "/.snapshot", 3), ("rename", "snapshot", 3), ("unlink", "snapshot", 4)],
    "checkpoint": [("open", "/pages.", 6), ("write", "/pages.", 12), ("fsync", "/pages.", 6), ("msync", "", 20), ("open", "checkpoint.live", 6),
                   ("write", "checkpoint.live", 3), ("fsync", "checkpoint.live", 3), ("rename", "checkpoint.live", 5), ("unlink", "/pages.", 6)],
    "arena": [("open", "vectors", 40), ("fallocate", "vectors", 60), ("truncate", "vectors", 20), ("fsync", "vectors", 30), ("rename", "vectors", 6),
              ("unlink", "vectors", 15), ("mkdir", "vectors", 4), ("mmap", "mmap", 60)],
    "anything": [("rename", "", 6)],
}
SETTINGS = ["wal_segment_bytes=65536", "snapshot_interval=1", "snapshot_every_ops=3", "optimize_dead_percent=20", "optimize_dead_least=20",
            "checkpoint_interval=1", "checkpoint_ops=100", "indexer_threads=1", "embed_threads=1"]


class Churn(threading.Thread):
    """Makes libraries and documents in them, deletes them again, and asks for snapshots and for optimizing."""

    KEPT = 4

    def __init__(self, libraries, main_library, rng):
        super().__init__(daemon=True)
        self.libraries, self.main_library, self.rng = libraries, main_library, rng
        self.stopping = threading.Event()

    @property
    def unexpected(self):
        return self.libraries.unexpected

    def successor(self):
        return Churn(self.libraries, self.main_library, self.rng)

    def run(self):
        client = Client(self.libraries.instance)
        while not self.stopping.is_set():
            if len(self.libraries.known) < self.KEPT:
                self.libraries.make(client)
            else:
                self.libraries.delete(client)
            if self.rng.random() < 0.3:
                self.libraries.ask(client, "/v1/snapshots", {})
            if self.rng.random() < 0.3:
                self.libraries.ask(client, "/v1/libraries/%s/index/optimize" % self.main_library, {})
            self.stopping.wait(self.rng.uniform(0, 0.03))


def aim(rng, gate):
    """A rule, and what it hits in the middle."""
    kind = rng.choice(sorted(AIMS))
    call, path, most = rng.choice(AIMS[kind])
    # Small numbers more often: they are where something begins.
    return "%s:kill,after=%d,file=%s%s" % (call, int(most * rng.random() ** 2), gate, ",path=" + path if path else ""), kind


class Supervised:
    """One life: the instance, its load, and what kills it."""

    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.gate = os.path.join(instance.dir, "armed")
        self.oracle = Oracle()
        self.library = None
        self.writers = []
        self.libraries = Libraries(instance, "churn", life.rng)
        self.churn = None
        self.aimed_at = None

    def start(self):
        rule, self.aimed_at = aim(self.rng, self.gate)
        self.instance.start({"QUIRE_IO_FAULT": rule})

    def begin(self):
        self.start()
        client = Client(self.instance)
        self.library = client.library("main")
        self.libraries.may_be["main"] = {True}
        self.writers = [Writer(self.instance, self.library, self.oracle, "w%d" % i, self.rng.random()) for i in range(WRITERS)]
        self.churn = Churn(self.libraries, self.library, random.Random(self.rng.random()))

    def arm(self):
        with open(self.gate, "w"):
            pass

    def disarm(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.gate)

    def load_and_kill(self):
        """Ends with a dead supervisor."""
        self.writers = [w.successor() for w in self.writers]
        self.churn = self.churn.successor()
        threads = self.writers + [self.churn]
        how = self.rng.choice(["aimed", "aimed", "aimed", "random", "random", "at once", "stopping", "stopped"])
        workers = self.instance.children(self.instance.supervisor())
        if how == "aimed":
            self.arm()
        if how != "at once":
            for t in threads:
                t.start()
        if how == "aimed":
            # Checkpoints come by time, too.
            if wait_gone([self.instance.supervisor()], 5 * LOAD_MAX_S if self.aimed_at == "checkpoint" else LOAD_MAX_S):
                how = "not reached"
            else:
                how = "in mid " + self.aimed_at
        elif how != "at once":
            time.sleep(self.rng.uniform(0.01, LOAD_MAX_S))
        if how in ("stopping", "stopped"):
            self.instance.process.send_signal(signal.SIGTERM)
            if how == "stopped":
                self.instance.process.wait(60)
            else:
                time.sleep(self.rng.uniform(0, 0.03))
        for pid in self.instance.kill_supervisor() + wait_gone(workers, 2):
            self.life.wrong("orphan: process %d" % pid)
        self.died(how)
        if how != "at once":
            for t in threads:
                t.stopping.set()
            for t in threads:
                t.join()
                for text in t.unexpected:
                    self.life.wrong(text)

    def died(self, how):
        # One that had stopped in order before the kill is no injection.
        code = self.instance.process.returncode
        self.life.injections += code == -signal.SIGKILL
        self.life.note(how.replace(" ", "_"))
        if code not in (-signal.SIGKILL, 0):
            self.life.wrong("it ended by itself with %d: %s" % (code, self.instance.log()[-1500:]))

    def start_again(self):
        """Maybe killed on its way, several times; at last it serves, disarmed but with a rule for the next load."""
        if self.rng.random() < 0.15:
            shutil.rmtree(os.path.join(self.instance.data, "vectors"), ignore_errors=True)
            self.life.note("arenas_removed")
        for attempt in range(STARTS_MAX):
            if attempt < STARTS_MAX - 1 and self.rng.random() < 0.6:
                self.arm()
            began = time.monotonic()
            try:
                self.start()
                self.life.took(time.monotonic() - began)
                self.disarm()
                if self.instance.answers():
                    return
                self.instance.process.wait(5)
            except StartFailed as e:
                if e.code != -signal.SIGKILL or not os.path.exists(self.gate):
                    raise
            for pid in wait_gone(workers_of(self.instance.supervisor()), 2):
                self.life.wrong("orphan: process %d" % pid)
            self.disarm()
            self.died("in mid recovery")
        raise RuntimeError("it did not start")

    def check(self, all_of_it=False):
        """False: it was killed meanwhile. A rule may be on its way to the kill when it is disarmed."""
        client = Client(self.instance)
        touched = None if all_of_it else set().union(*[w.touched for w in self.writers])
        try:
            faults = self.oracle.check(client, self.library, touched) + self.oracle.check_by_search(client, self.library, touched)
            faults += self.libraries.check(client)
        except OSError as e:
            faults = [str(e)]
        if not self.instance.alive() and self.instance.process.wait() == -signal.SIGKILL:
            self.life.note("killed_late")
            return False
        self.life.take(faults)
        return True


def life(life):
    with Instance(*SETTINGS, https=False) as instance:
        s = Supervised(life, instance)
        try:
            s.begin()
            while life.injections < life.count and not life.faults:
                s.load_and_kill()
                s.start_again()
                while not s.check():
                    s.start_again()
            if not life.faults:
                life.take(s.oracle.check_vectors(Client(instance), s.library))
                code = instance.stop()
                if code != 0:
                    life.wrong("an orderly stop ended with %s: %s" % (code, instance.log()[-1500:]))
                instance.start()
                s.check(all_of_it=True)
        finally:
            if life.faults:
                instance.keep()
        life.note("acknowledged", s.oracle.acknowledged)
        if s.oracle.acknowledged == 0:
            life.wrong("nothing was acknowledged: the test saw nothing")


def main():
    campaign = Campaign("kill-supervisor", short=60, long=2000, doc=__doc__)
    worst_ms = run_lives(campaign, life, KILLS_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
