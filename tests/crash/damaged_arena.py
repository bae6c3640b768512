#!/usr/bin/env python3
"""Arenas that are not as they were: bytes flipped, files cut short, removed, exchanged between libraries.

    damaged_arena.py [--short] [--count N] [--seed N [--life N]]

A server with several libraries is stopped in order, or killed with a live checkpoint behind it. Then one thing is done to its arenas: a byte or a
page of one file is changed, the file is cut, removed, emptied, or takes the place of another library's. The next start must serve all of it again,
made from text where it has to be: every exact search, in all three modes, gives what it gave before, and nothing else is given on the way there
either. `quire check` on the stopped directory, and the start's log, agree on whether something is wrong.
"""

import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import QUIRED, Client, Instance, sentence  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402
from workload import SETTINGS, Workload  # noqa: E402

DAMAGES_PER_LIFE = 4
QUIRE = os.path.join(os.path.dirname(QUIRED), "quire")
WAIT_S = 40
K = 10
MODES = ("dense", "lexical", "hybrid")
NEAR = 1e-4
SOUND, FAULTS = 0, 1


class Damaged:
    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.workload = Workload(instance, self.rng.random())
        self.vectors = os.path.join(instance.data, "vectors")
        self.queries = [sentence(self.rng, 5) for _ in range(6)]

    def begin(self):
        self.instance.start()
        client = Client(self.instance)
        w = self.workload
        w.begin(client)
        w.write(client, 60)
        w.libraries.make(client)
        w.optimize(client)
        w.write(client, 60)
        w.checkpoint(client)
        w.libraries.make(client)
        w.write(client, 10)

    def libraries(self):
        return [self.workload.main] + [id for id, _ in self.workload.libraries.known.values()]

    def wait_complete(self, client):
        deadline = time.monotonic() + WAIT_S
        for id in self.libraries():
            while True:
                status, library = client.request("GET", "/v1/libraries/" + id)
                if status == 200 and library["metadata"]["embedding"]["state"] == "complete":
                    break
                if time.monotonic() > deadline:
                    self.life.wrong("not complete: %s %s" % (status, library))
                    return
                time.sleep(0.005)

    def answers(self, client):
        """(library, mode, query) -> list of (chunk, distance or None, text)"""
        found = {}
        for id in self.libraries():
            keys = [(id, mode, query) for mode in MODES for query in self.queries]
            searches = [dict({"query": query, "k": K, "mode": mode}, **({"exact": True} if mode != "lexical" else {})) for _, mode, query in keys]
            status, reply = client.request("POST", "/v1/libraries/%s/search/batch" % id, {"searches": searches})
            if status != 200:
                self.life.wrong("search: status %s %s" % (status, reply))
                continue
            for key, answer in zip(keys, reply["results"]):
                found[key] = [(r["chunk"]["id"], r.get("distance"), r["chunk"]["text"]) for r in answer["results"]]
        return found

    def compare(self, before, now, on_the_way=False):
        """On the way some are missing, but what is found is right."""
        for key, wanted in before.items():
            got = now.get(key, [])
            near = {id: (distance, text) for id, distance, text in wanted}
            for id, distance, text in got:
                if id in near and (text != near[id][1] or (key[1] == "dense" and abs(distance - near[id][0]) > NEAR)):
                    self.life.wrong("%s search gives %s at %s, it was %s" % (key[1], id, distance, near[id]))
            if not on_the_way and [id for id, _, _ in got] != [id for id, _, _ in wanted]:
                self.life.wrong("%s search gives %s, it was %s" % (key[1], got, wanted))

    # --- what is done to it ---

    def files(self):
        """(directory, file) of all arenas."""
        return [(d, f) for d in sorted(os.listdir(self.vectors)) if os.path.isdir(os.path.join(self.vectors, d))
                for f in sorted(os.listdir(os.path.join(self.vectors, d)))]

    def damage(self):
        """Does one thing; returns its description."""
        directory, name = self.rng.choice(self.files())
        path = os.path.join(self.vectors, directory, name)
        size = os.path.getsize(path)
        how = self.rng.choice((self.flip, self.flip, self.flip, self.overwrite, self.cut, self.remove, self.exchange, self.lengthen))
        self.life.note("%s_%s" % (how.__name__, "pages" if name.startswith("pages") else name.split(".")[0]))
        return "%s of %s/%s: %s" % (how.__name__, directory, name, how(path, size))

    def at(self, size):
        """Anywhere, but mostly where there is something."""
        return self.rng.randrange(size) if self.rng.random() < 0.3 else int(size * self.rng.random() ** 4)

    def flip(self, path, size):
        at = self.at(size)
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ (1 << self.rng.randrange(8))]))
        return "byte %d" % at

    def overwrite(self, path, size):
        at = self.at(size) // 4096 * 4096
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(self.rng.choice((b"\xff" * 4096, bytes(4096), self.rng.randbytes(4096)))[: size - at])
        return "page at %d" % at

    def cut(self, path, size):
        to = self.rng.choice((0, 1, 4096, size - 1, size // 2, self.at(size)))
        os.truncate(path, min(to, size))
        return "to %d" % to

    def lengthen(self, path, size):
        os.truncate(path, size + self.rng.choice((1, 4096)))
        return "from %d" % size

    def remove(self, path, size):
        os.unlink(path)
        return "all"

    def exchange(self, path, size):
        name = os.path.basename(path)
        others = [os.path.join(self.vectors, d, f) for d, f in self.files() if f == name and os.path.join(self.vectors, d, f) != path]
        if not others:
            os.unlink(path)
            return "nothing to exchange it with: removed"
        other = self.rng.choice(others)
        os.rename(path, path + ".x")
        os.rename(other, path)
        os.rename(path + ".x", other)
        return "with " + other

    # --- one injection ---

    def checked(self):
        """Exit code and faults of quire check."""
        done = subprocess.run([QUIRE, "check", "--json", self.instance.data], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode not in (SOUND, FAULTS):
            self.life.wrong("quire check ended with %d: %s" % (done.returncode, done.stderr))
        return done.returncode, json.loads(done.stdout)["first_faults"] if done.stdout else []

    def one(self):
        client = Client(self.instance)
        self.wait_complete(client)
        before = self.answers(client)
        stopped = self.rng.random() < 0.5
        if not stopped:
            self.instance.kill_supervisor()
        elif self.instance.stop() != 0:
            self.life.wrong("an orderly stop failed: %s" % self.instance.log()[-1500:])
        self.life.note("stopped" if stopped else "killed")
        what = self.damage()
        code, faults = self.checked()
        told = len(self.instance.log())
        began = time.monotonic()
        self.instance.start()
        self.life.took(time.monotonic() - began)
        client = Client(self.instance)
        self.compare(before, self.answers(client), on_the_way=True)
        self.wait_complete(client)
        self.compare(before, self.answers(client))
        self.life.take(self.workload.check(client))
        log = self.instance.log()[told:]
        refused = "the saved arenas were not taken as they are: " in log
        if stopped and refused != (code == FAULTS):
            self.life.wrong("quire check says %s, the start %s: %s" % (faults or "sound", "took them" if not refused else "did not", log[-2000:]))
        if not stopped and code == FAULTS:
            self.life.wrong("quire check of a killed server says %s" % faults)
        self.life.note("found", refused)
        self.life.injections += 1
        if self.life.faults:
            self.life.wrong("that was %s, %s" % (what, "stopped" if stopped else "killed"))


def life(life):
    with Instance(*SETTINGS, https=False) as instance:
        damaged = Damaged(life, instance)
        try:
            damaged.begin()
            while life.injections < life.count and not life.faults:
                damaged.one()
        finally:
            if life.faults:
                instance.keep()


def main():
    campaign = Campaign("damaged-arena", short=24, long=1000, doc=__doc__)
    worst_ms = run_lives(campaign, life, DAMAGES_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
