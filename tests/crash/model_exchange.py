#!/usr/bin/env python3
"""A library gets another model and the one before back, again and again, under reads and writes, while the supervisor is killed at random moments.

    model_exchange.py [--short] [--count N] [--seed N [--life N]]

No search fails while the server runs, and each answer comes from one model wholly: the vectors in it have that model's dimension, and the text that was asked for is
at distance 0. After each start every acknowledged write is there, whichever side serves, and the exchange goes on by itself; sometimes all arenas are removed
before. In the end it is let run to its end and back, and all is looked for by its vector on both sides.
"""

import os
import random
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, Oracle, Writer, sentence  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402

KILLS_PER_LIFE = 5
LOAD_MAX_S = 1.2
END_LIMIT_S = 60
WRITERS, KNOWN = 2, 150
DIMENSIONS = {"hash-384": 384, "static-en": 256}
SETTINGS = ["wal_segment_bytes=262144", "snapshot_interval=2", "checkpoint_interval=1", "checkpoint_ops=200"]


class Reader(threading.Thread):
    """Searches for what is known to be there, by vectors alone, and looks at the vectors that come back."""

    def __init__(self, exchanges):
        super().__init__(daemon=True)
        self.x = exchanges
        self.rng = random.Random(exchanges.rng.random())
        self.stopping = threading.Event()
        self.models = []

    def run(self):
        client = Client(self.x.instance)
        while not self.stopping.is_set():
            self.search(client)
        client.close()

    def search(self, client):
        text = self.rng.choice(self.x.known)
        before = self.x.serving.is_set()
        body = {"query": text, "k": 3, "mode": "dense", "include_embeddings": True}
        status, reply = client.request("POST", "/v1/libraries/%s/search" % self.x.library, body)
        if status == 200:
            self.look_at(text, reply)
        elif before and self.x.serving.is_set():
            self.x.life.wrong("a search failed: status %s %s" % (status, reply))

    def look_at(self, text, reply):
        model = reply["index"]["model"]
        if not self.models or self.models[-1] != model:
            self.models.append(model)
        dimensions = {len(r["chunk"]["embedding"]) for r in reply["results"] if r["chunk"].get("embedding")}
        best = reply["results"][0] if reply["results"] else None
        if dimensions - {DIMENSIONS[model]}:
            self.x.life.wrong("an answer by %s has vectors of %s numbers" % (model, sorted(dimensions)))
        if reply["index"]["coverage"] == 1 and (best is None or best["chunk"]["text"] != text or best["distance"] > 1e-3):
            self.x.life.wrong("by %s a search for a known text found %s" % (model, best and (best["document_id"], best["distance"])))


class Exchanges(threading.Thread):
    """Asks for one exchange after the other, and for ways back."""

    def __init__(self, owner):
        super().__init__(daemon=True)
        self.owner = owner
        self.rng = random.Random(owner.rng.random())
        self.stopping = threading.Event()

    def run(self):
        client = Client(self.owner.instance)
        while not self.stopping.is_set():
            self.owner.ask(client, self.rng)
            self.stopping.wait(self.rng.uniform(0, 0.1))
        client.close()


class Exchanged:
    """One life: an instance, its library, what is written to it and asked of it."""

    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.oracle = Oracle()
        self.serving = threading.Event()
        self.library = None
        self.known = []
        self.writers = []

    def begin(self):
        self.instance.start()
        client = Client(self.instance)
        self.library = client.library("exchanged", embedding_model=self.rng.choice(sorted(DIMENSIONS)))
        self.known = [sentence(self.rng, 12) + " %d" % i for i in range(KNOWN)]
        for i, text in enumerate(self.known):
            self.oracle.sending("k%d" % i, (text,))
        documents = [{"id": "k%d" % i, "title": "known", "texts": [text]} for i, text in enumerate(self.known)]
        status, reply = client.request("POST", "/v1/libraries/%s/documents/batch" % self.library, {"documents": documents})
        if status != 200 or reply["failed"]:
            raise OSError("no documents could be made: status %s %s" % (status, reply))
        for i, text in enumerate(self.known):
            self.oracle.acked("k%d" % i, (text,))
        client.close()
        self.writers = [Writer(self.instance, self.library, self.oracle, "w%d" % i, self.rng.random()) for i in range(WRITERS)]

    def state(self, client):
        """(model, state of its exchange); None: no answer."""
        status, reply = client.request("GET", "/v1/libraries/" + self.library)
        if status != 200:
            return None
        exchange = reply["metadata"]["exchange"]
        return reply["metadata"]["embedding_model"], exchange["state"] if exchange else "none"

    def ask(self, client, rng):
        found = self.state(client)
        path = "/v1/libraries/%s/reembed" % self.library
        if found is None or found[1] in ("building", "returning") and rng.random() < 0.97:
            return
        if found[1] == "none":
            other = [m for m in DIMENSIONS if m != found[0]][0]
            answer = client.request("POST", path, {"embedding_model": other})
        elif found[1] == "kept" and rng.random() < 0.7:
            answer = client.request("POST", path + "/rollback", {})
        else:
            answer = client.request("DELETE", path)
        if answer[0] not in (None, 202, 204, 409, 503):
            self.life.wrong("a step from %s: status %s %s" % (found[1], answer[0], answer[1]))

    def load_and_kill(self):
        """Ends with a dead supervisor."""
        self.writers = [w.successor() for w in self.writers]
        reader, exchanges = Reader(self), Exchanges(self)
        threads = self.writers + [reader, exchanges]
        self.serving.set()
        for t in threads:
            t.start()
        time.sleep(self.rng.uniform(0.05, LOAD_MAX_S))
        self.serving.clear()
        if self.rng.random() < 0.2:
            self.instance.stop()
            self.life.note("stops")
        else:
            self.instance.kill_supervisor()
            self.life.note("kills")
        for t in threads:
            t.stopping.set()
        for t in threads:
            t.join()
        for text in [t for w in self.writers for t in w.unexpected]:
            self.life.wrong(text)
        self.life.note("switches seen", max(0, len(reader.models) - 1))
        self.life.injections += 1

    def start_again(self):
        if self.rng.random() < 0.2:
            shutil.rmtree(os.path.join(self.instance.data, "vectors"), ignore_errors=True)
            self.life.note("arenas removed")
        began = time.monotonic()
        self.instance.start()
        self.life.took(time.monotonic() - began)

    def check(self, vectors):
        client = Client(self.instance)
        self.life.take(self.oracle.check(client, self.library))
        if vectors:
            self.life.take(self.oracle.check_vectors(client, self.library, END_LIMIT_S))
        client.close()

    def wait_for(self, client, states):
        deadline = time.monotonic() + END_LIMIT_S
        while time.monotonic() < deadline:
            found = self.state(client)
            if found is not None and found[1] in states:
                return found
            time.sleep(0.02)
        self.life.wrong("the exchange does not come to its end: %s" % (self.state(client),))
        return self.state(client)

    def end(self):
        """To the end, and back: nothing is missing on either side."""
        client = Client(self.instance)
        path = "/v1/libraries/%s/reembed" % self.library
        model, state = self.wait_for(client, ("none", "kept"))
        if state == "none":
            other = [m for m in DIMENSIONS if m != model][0]
            client.request("POST", path, {"embedding_model": other})
            model, state = self.wait_for(client, ("kept",))
        self.check(True)
        client.request("POST", path + "/rollback", {})
        back, state = self.wait_for(client, ("none",))
        if back == model:
            self.life.wrong("it did not go back from %s" % model)
        self.check(True)
        client.close()
        if self.instance.stop() != 0:
            self.life.wrong("the stop was not in order")


def live(life):
    with Instance(*SETTINGS, https=False) as instance:
        x = Exchanged(life, instance)
        x.begin()
        for number in range(life.count):
            x.load_and_kill()
            x.start_again()
            x.check(number % 2 == 1)
            if life.faults:
                break
        if not life.faults:
            x.end()
        if life.faults:
            instance.keep()


def main():
    campaign = Campaign("model-exchange", short=15, long=1500, doc=__doc__)
    sys.exit(campaign.finish(run_lives(campaign, live, KILLS_PER_LIFE)))


if __name__ == "__main__":
    main()
