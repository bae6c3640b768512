#!/usr/bin/env python3
"""Chains of incremental snapshots of which a link is removed, exchanged or damaged: the last good base is used and that is said, or the start is refused.

    snapshot_chain.py [--short] [--count N] [--seed N [--life N]]

A life writes a history over some libraries: documents, deletions, definitions, libraries that come and go, and snapshots between, so that there are several chains. The server is killed, and
what lies in the data directory is kept, without its arenas. In one life out of two the log reaches back to the first write, in the other it begins behind the newest snapshot. Then, for each injection, a copy
is hurt: an archive is removed, cut, changed at some byte, exchanged with another or with one of another history of the same shape, or put there twice. What must hold:

  - a start serves exactly what was acknowledged; where the newest chain was hurt, the log says which archive cannot be used
  - or it is refused with code 65; where the log reaches back to the first write only for an archive of another history
  - now and then: the next snapshot rests on nothing that was hurt, and gives all of it back alone, without log and arenas; its restoring on trial holds

Beside that each life meets a full disk while a snapshot is written: the task fails, nothing is left behind, and the next one succeeds.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, StartFailed, sentence  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402

PER_LIFE = 25
LIBRARIES = 4
SNAPSHOTS = 9
WAIT_S = 30
EX_DATAERR = 65
GO_ON_ONE_IN = 6
SETTINGS = ["snapshot_interval=0", "snapshot_every_ops=0", "snapshot_keep=100", "snapshot_verify_interval=0", "checkpoint_interval=86400",
            "snapshot_chain_max=3", "indexer_threads=1", "embed_threads=1"]
# So that a start finds an archive that is not as it was, in the words of the program.
SAID = re.compile(r"a snapshot does not verify|belongs to another log|cannot be read and is passed over|the snapshot cannot be loaded")


class History:
    """What is there: library -> (description, {document: text})."""

    def __init__(self, life, instance):
        self.rng, self.instance = life.rng, instance
        self.client = Client(instance)
        self.state = {}
        self.number = 0

    def ask(self, method, path, body=None):
        status, reply = self.client.request(method, path, body)
        if status not in (200, 201, 202, 204):
            raise OSError("%s %s: status %s %s" % (method, path, status, reply))
        return reply

    def make_library(self):
        id = self.ask("POST", "/v1/libraries", {"name": "of the chain", "index_type": "flat"})["id"]
        self.state[id] = ["", {}]
        for _ in range(3):
            self.put(id)

    def put(self, library):
        document = "d%d" % self.rng.randrange(8)
        self.number += 1
        text = "%s %d" % (sentence(self.rng, 40), self.number)
        self.ask("PUT", "/v1/libraries/%s/documents/%s" % (library, document), {"title": "t", "texts": [text]})
        self.state[library][1][document] = text

    def step(self):
        roll = self.rng.random()
        library = self.rng.choice(list(self.state))
        documents = self.state[library][1]
        if roll < 0.1 and documents:
            document = self.rng.choice(list(documents))
            self.ask("DELETE", "/v1/libraries/%s/documents/%s" % (library, document))
            del documents[document]
        elif roll < 0.2:
            self.state[library][0] = "described %d" % self.rng.randrange(1000)
            self.ask("PATCH", "/v1/libraries/" + library, {"description": self.state[library][0]})
        elif roll < 0.25 and len(self.state) > 2:
            self.ask("DELETE", "/v1/libraries/" + library)
            del self.state[library]
        elif roll < 0.3 and len(self.state) < LIBRARIES + 2:
            self.make_library()
        else:
            self.put(library)

    def task(self, path):
        """Its state when it is over."""
        task = self.ask("POST", path)["id"]
        deadline = time.monotonic() + WAIT_S
        while True:
            state = self.ask("GET", "/v1/tasks/" + task)["state"]
            if state not in ("pending", "running") or time.monotonic() > deadline:
                return state
            time.sleep(0.002)

    def faults(self, client):
        """What is stored, held against what was acknowledged."""
        found = {}
        for summary in client.pages("/v1/libraries?limit=1000"):
            id = summary["id"]
            status, library = client.read("/v1/libraries/" + id)
            documents = {}
            for d in client.pages("/v1/libraries/%s/documents?limit=1000" % id):
                status, document = client.read("/v1/libraries/%s/documents/%s" % (id, d["id"]))
                documents[d["id"]] = document["chunks"][0]["text"] if status == 200 else "status %s" % status
            found[id] = [library["metadata"].get("description") or "", documents]
        if found == self.state:
            return []
        out = ["lost: library %s" % id for id in self.state if id not in found]
        out += ["wrong: library %s is there" % id for id in found if id not in self.state]
        for id in set(found) & set(self.state):
            if found[id] != self.state[id]:
                out.append("wrong: library %s is not as it was acknowledged: %.200s" % (id, found[id]))
        return out


class Specimen:
    """The data directory of a history, without arenas, and what should come out of it."""

    def __init__(self, life, directory, log_reaches_back):
        self.life, self.rng = life, life.rng
        self.kept = os.path.join(directory, "kept")
        self.log_reaches_back = log_reaches_back
        settings = SETTINGS + ([] if log_reaches_back else ["wal_segment_bytes=65536"])
        full = os.path.join(directory, "full")
        with Instance(*settings, https=False) as instance:
            os.makedirs(directory, exist_ok=True)
            rules = "fsync:errno=ENOSPC,path=.snapshot_,file=%s" % full
            instance.start({"QUIRE_IO_FAULT": rules})
            self.history = History(life, instance)
            for _ in range(LIBRARIES):
                self.history.make_library()
            for n in range(SNAPSHOTS):
                if n == SNAPSHOTS // 2:
                    self.meet_full_disk(instance, full)
                self.snapshot()
                for _ in range(self.rng.randint(1, 4)):
                    self.history.step()
            if not log_reaches_back:
                self.let_the_log_go()
            self.history.client.close()
            instance.kill_supervisor()
            shutil.rmtree(os.path.join(instance.data, "vectors"))
            shutil.move(instance.data, self.kept)
        self.snapshots = os.path.join(self.kept, "snapshots")
        self.names = sorted(n for n in os.listdir(self.snapshots) if n.startswith("snapshot_"))
        self.chain = self.chain_of(self.names)

    def snapshot(self):
        state = self.history.task("/v1/snapshots")
        if state != "succeeded":
            self.life.wrong("a snapshot ended as %s" % state)

    def meet_full_disk(self, instance, full):
        with open(full, "w"):
            state = self.history.task("/v1/snapshots")
        os.unlink(full)
        self.life.injections += 1
        if state != "failed":
            self.life.wrong("a snapshot on a full disk ended as %s" % state)
        left = [n for n in os.listdir(os.path.join(instance.data, "snapshots")) if n.startswith(".snapshot_")]
        if left:
            self.life.wrong("a snapshot on a full disk left %s" % left)

    def let_the_log_go(self):
        """Until its first segment is no longer there."""
        library = next(iter(self.history.state))
        while self.history.client.metric("quire_wal_segments") < 3:
            for _ in range(40):
                self.history.put(library)
        self.snapshot()
        self.history.put(library)

    def manifest(self, name):
        return subprocess.run("tar --zstd -xOf %s manifest.json" % os.path.join(self.snapshots, name), shell=True, check=True, capture_output=True).stdout

    def chain_of(self, names):
        """That of the newest: its name and those that it rests on."""
        by_name = {name: json.loads(self.manifest(name)) for name in names}
        name = max(names, key=lambda n: (by_name[n]["lsn"], n))
        chain = [name]
        while by_name[name]["base"]:
            name = by_name[name]["base"]["archive"]
            chain.append(name)
        return chain

    # --- what is done to a copy; each returns the names that are not as they were ---

    def remove(self, at, other):
        name = self.pick()
        os.unlink(os.path.join(at, name))
        return [name]

    def cut(self, at, other):
        name = self.pick()
        path = os.path.join(at, name)
        os.truncate(path, self.rng.randrange(os.path.getsize(path)))
        return [name]

    def change(self, at, other):
        name = self.pick()
        with open(os.path.join(at, name), "r+b") as f:
            where = self.rng.randrange(os.path.getsize(f.name))
            f.seek(where)
            byte = f.read(1)[0]
            f.seek(where)
            f.write(bytes([byte ^ (1 << self.rng.randrange(8))]))
        return [name]

    def exchange(self, at, other):
        a, b = self.pick(), self.rng.choice(self.names)
        if a != b:
            os.rename(os.path.join(at, a), os.path.join(at, "aside"))
            os.rename(os.path.join(at, b), os.path.join(at, a))
            os.rename(os.path.join(at, "aside"), os.path.join(at, b))
        return [] if a == b else [a, b]

    def strange(self, at, other):
        """One of another history takes the place of a link that is not the newest: as a whole archive it may be good, and is not what was meant."""
        name = self.rng.choice(self.chain[1:]) if len(self.chain) > 1 else None
        if name is None:
            return []
        shutil.copy(os.path.join(other.snapshots, self.rng.choice(other.names)), os.path.join(at, name))
        return [name]

    def twice(self, at, other):
        """A link under another name, too: harmless."""
        shutil.copy(os.path.join(at, self.pick()), os.path.join(at, "snapshot_20300101_0000%02d.tar.zst" % self.rng.randrange(60)))
        return []

    def pick(self):
        return self.rng.choice(self.chain if self.rng.random() < 0.8 else self.names)


def start(instance, kept):
    shutil.rmtree(instance.data, ignore_errors=True)
    shutil.copytree(kept, instance.data)
    shutil.rmtree(os.path.join(instance.dir, "logs"), ignore_errors=True)  # what is said is said of this start
    instance.start()


def goes_on(life, specimen, instance, what):
    """The next snapshot is good, by its trial and alone."""
    history = specimen.history
    before, history.instance, history.client = history.client, instance, Client(instance)
    library = next(iter(history.state))
    state, number = {id: [d, dict(docs)] for id, (d, docs) in history.state.items()}, history.number
    try:
        history.put(library)
        if history.task("/v1/snapshots") != "succeeded":
            life.wrong("%s: no snapshot could be taken afterwards" % what)
            return
        name = history.ask("GET", "/v1/snapshots")[0]["name"]
        if history.task("/v1/snapshots/%s/verify" % name) != "succeeded":
            life.wrong("%s: the snapshot taken afterwards does not verify" % what)
        history.client.close()
        instance.kill_supervisor()
        for part in ("vectors", "wal"):
            shutil.rmtree(os.path.join(instance.data, part))
        instance.start(arguments=["--repair"])  # a snapshot without any log is refused else
        client = Client(instance)
        life.take("%s; %s, by the snapshot taken afterwards" % (f, what) for f in history.faults(client))
        client.close()
    finally:
        history.state, history.number, history.client = state, number, before


def hurt(life, specimen, other, instance):
    damage = life.rng.choice([specimen.remove, specimen.cut, specimen.change, specimen.change, specimen.exchange, specimen.strange, specimen.twice])
    copy = os.path.join(instance.dir, "hurt")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(specimen.kept, copy)
    changed = damage(os.path.join(copy, "snapshots"), other)
    what = "%s %s, log %s" % (damage.__name__, changed, "from the begin" if specimen.log_reaches_back else "from the newest snapshot on")
    life.injections += 1
    began = time.monotonic()
    try:
        start(instance, copy)
    except StartFailed as e:
        life.note("refused")
        # An archive of another history may be newer than all of this log: whether it is a stranger or the log lost its end cannot be told.
        if e.code != EX_DATAERR or (specimen.log_reaches_back and damage != specimen.strange):
            life.wrong("%s: %s" % (what, e))
        return
    life.took(time.monotonic() - began)
    client = Client(instance)
    faults = specimen.history.faults(client)
    life.take("%s; %s" % (f, what) for f in faults)
    said = SAID.search(instance.log()) is not None
    # A removed newest archive cannot be missed, a byte that nothing depends on may change, and so may the name of an archive that none rests on.
    silent = damage in (specimen.change, specimen.exchange, specimen.twice) or changed == [specimen.chain[0]] or not set(changed) & set(specimen.chain)
    if not said and not silent:
        life.wrong("%s: nothing is said of it" % what)
    life.note("said" if said else "nothing to say")
    client.close()
    if faults:
        instance.keep()
    elif life.rng.randrange(GO_ON_ONE_IN) == 0:
        life.note("gone on")
        goes_on(life, specimen, instance, what)
    instance.kill_supervisor()


def life_of(life):
    directory = tempfile.mkdtemp(prefix="quire-chain.")
    try:
        specimen = Specimen(life, os.path.join(directory, "a"), life.number % 2 == 0)
        other = Specimen(life, os.path.join(directory, "b"), True)
        with Instance(*SETTINGS, https=False) as instance:
            for _ in range(life.count):
                hurt(life, specimen, other, instance)
                if life.faults:
                    break
    finally:
        shutil.rmtree(directory)


def main():
    campaign = Campaign("snapshot-chain", short=2 * PER_LIFE, long=40 * PER_LIFE, doc=__doc__)
    sys.exit(campaign.finish(run_lives(campaign, life_of, PER_LIFE)))


if __name__ == "__main__":
    main()
