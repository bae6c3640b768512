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
from instance import Client, Instance, Oracle, StartFailed, Writer, known_settings  # noqa: E402
from lives import run_lives  # noqa: E402
from running import wait_gone, workers_of  # noqa: E402
from report import Campaign  # noqa: E402

KILLS_PER_LIFE = 25
STARTS_MAX = 6
LOAD_MAX_S = 0.25
WRITERS = 3
# call, part of the path, up to how many such calls may pass first
AIMS = [("write", "/wal/", 150), ("fdatasync", "/wal/", 80), ("fsync", "wal", 6), ("fallocate", "wal", 4), ("rename", "wal", 4), ("unlink", "wal", 3),
        ("open", "wal_", 6), ("open", "snapshot", 8), ("write", "snapshot", 8), ("fsync", "snapshot", 6), ("rename", "snapshot", 4), ("unlink", "snapshot", 4),
        ("open", "checkpoint", 4), ("write", "checkpoint", 4), ("fsync", "checkpoint", 4), ("rename", "checkpoint", 3), ("unlink", "checkpoint", 3),
        ("open", "vectors", 40), ("fallocate", "vectors", 60), ("truncate", "vectors", 20), ("write", "vectors", 20), ("fsync", "vectors", 30),
        ("rename", "vectors", 6), ("unlink", "vectors", 15), ("mkdir", "vectors", 4), ("mmap", "mmap", 60), ("msync", "", 20), ("rename", "", 6)]
SETTINGS = ["wal_segment_bytes=65536", "snapshot_interval=1", "snapshot_every_ops=3", "optimize_dead_percent=20", "optimize_dead_least=20",
            "indexer_threads=1", "embed_threads=1"]
SETTINGS_IF_KNOWN = ["checkpoint_interval=1", "checkpoint_ops=40"]


class Churn(threading.Thread):
    """Makes libraries and documents in them, deletes them again, and asks for snapshots and for optimizing."""

    KEPT = 4

    def __init__(self, instance, main_library, seed):
        super().__init__(daemon=True)
        self.instance, self.main_library = instance, main_library
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.number = 0
        self.may_be = {}  # name -> set of booleans
        self.libraries = {}  # name -> (id, Oracle), where the id is known
        self.unexpected = []

    def successor(self):
        other = Churn(self.instance, self.main_library, self.rng.random())
        other.number, other.may_be, other.libraries = self.number, self.may_be, self.libraries
        return other

    def run(self):
        client = Client(self.instance)
        while not self.stopping.is_set():
            if len(self.libraries) < self.KEPT:
                self.make(client)
            else:
                self.delete(client)
            if self.rng.random() < 0.3:
                self.ask(client, "/v1/snapshots", {})
            if self.rng.random() < 0.3:
                self.ask(client, "/v1/libraries/%s/index/optimize" % self.main_library, {})
            self.stopping.wait(self.rng.uniform(0, 0.03))

    def make(self, client):
        self.number += 1
        name = "churn-%d" % self.number
        self.may_be[name] = {True, False}
        status, reply = client.request("POST", "/v1/libraries", {"name": name})
        if status != 201:
            self.doubt(status, reply)
            return
        self.may_be[name] = {True}
        oracle = Oracle()
        self.libraries[name] = (reply["id"], oracle)
        writer = Writer(self.instance, reply["id"], oracle, name, self.rng.random(), batches=False)
        for _ in range(self.rng.randint(1, 6)):
            writer.step(client)
        self.unexpected += writer.unexpected

    def delete(self, client):
        name = self.rng.choice(sorted(self.libraries))
        id, _ = self.libraries.pop(name)
        self.may_be[name] = {True, False}
        status, reply = client.request("DELETE", "/v1/libraries/%s" % id)
        if status == 204:
            self.may_be[name] = {False}
        else:
            self.doubt(status, reply)

    def ask(self, client, path, body):
        status, reply = client.request("POST", path, body)
        if status not in (200, 201, 202, 409):
            self.doubt(status, reply)

    def doubt(self, status, reply):
        if status not in (None, 503, 507, 500):
            self.unexpected.append("status %s: %s" % (status, reply))

    def check(self, client):
        faults = []
        there = {}
        for library in client.pages("/v1/libraries?limit=1000"):
            name = library["name"]
            if name in there:
                faults.append("doubled: library %s" % name)
            there[name] = library["id"]
            if name != "main" and True not in self.may_be.get(name, ()):
                faults.append("deleted or never sent, but there: library %s" % name)
        for name, may in self.may_be.items():
            if may == {True} and name not in there:
                faults.append("lost: library %s" % name)
            self.may_be[name] = {name in there}
        for name, (id, oracle) in list(self.libraries.items()):
            if name in there:
                faults += oracle.check(client, id)
                faults += oracle.check_by_search(client, id)
        return faults


def aim(rng, gate):
    call, path, most = rng.choice(AIMS)
    # Small numbers more often: they are where something begins.
    return "%s:kill,after=%d,file=%s%s" % (call, int(most * rng.random() ** 2), gate, ",path=" + path if path else "")


class Supervised:
    """One life: the instance, its load, and what kills it."""

    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.gate = os.path.join(instance.dir, "armed")
        self.oracle = Oracle()
        self.library = None
        self.writers = []
        self.churn = None

    def begin(self):
        self.instance.start({"QUIRE_IO_FAULT": aim(self.rng, self.gate)})
        client = Client(self.instance)
        self.library = client.library("main")
        self.writers = [Writer(self.instance, self.library, self.oracle, "w%d" % i, self.rng.random()) for i in range(WRITERS)]
        self.churn = Churn(self.instance, self.library, self.rng.random())

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
        how = self.rng.choice(["aimed", "aimed", "random", "random", "at once", "stopping", "stopped"])
        workers = self.instance.children(self.instance.supervisor())
        if how == "aimed":
            self.arm()
        if how != "at once":
            for t in threads:
                t.start()
        if how == "aimed":
            if wait_gone([self.instance.supervisor()], LOAD_MAX_S):
                how = "not reached"
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
                self.instance.start({"QUIRE_IO_FAULT": aim(self.rng, self.gate)})
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
            self.died("in_recovery")
        raise RuntimeError("it did not start")

    def check(self, all_of_it=False):
        client = Client(self.instance)
        touched = None if all_of_it else set().union(*[w.touched for w in self.writers])
        self.life.take(self.oracle.check(client, self.library, touched))
        self.life.take(self.oracle.check_by_search(client, self.library, touched))
        self.life.take(self.churn.check(client))

    def check_vectors(self):
        """When all are made again, each text is found by its vector."""
        client = Client(self.instance)
        deadline = time.monotonic() + 30
        while True:
            status, library = client.request("GET", "/v1/libraries/" + self.library)
            if status == 200 and library["metadata"]["embedding"]["state"] == "complete":
                break
            if time.monotonic() > deadline:
                self.life.wrong("the vectors were not made again: %s %s" % (status, library))
                return
            time.sleep(0.01)
        self.life.take(self.oracle.check_by_search(client, self.library, None, "dense"))


def life(life, settings):
    with Instance(*settings, https=False) as instance:
        s = Supervised(life, instance)
        try:
            s.begin()
            while life.injections < life.count and not life.faults:
                s.load_and_kill()
                s.start_again()
                s.check()
            if not life.faults:
                s.check_vectors()
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
    settings = SETTINGS + known_settings(*SETTINGS_IF_KNOWN)
    worst_ms = run_lives(campaign, lambda one: life(one, settings), KILLS_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
