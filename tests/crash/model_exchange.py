#!/usr/bin/env python3
"""A library gets another model and the one before back, again and again, under reads and writes, while the supervisor is killed at random moments. One of the
models is a provider's, which answers slowly, fails, hangs and closes meanwhile.

    model_exchange.py [--short] [--count N] [--seed N [--life N]]

No search fails while the server runs, and each answer comes from one model wholly: the vectors in it have that model's dimension, and the text that was asked for is
at distance 0. After each start every acknowledged write is there, whichever side serves, and the exchange goes on by itself; sometimes all arenas are removed
before. In the end it is let run to its end and back, and all is looked for by its vector on both sides. A search by a provider's vectors alone may be refused while that fails, one
by words and vectors never. A text is answered by the provider once for each exchange to it, and again only where the answer can have been under way at a kill or a failure; on the last
way, which is begun with nothing left of those before, that holds for kills alone, all arenas lost between two of them.
"""

import contextlib
import os
import random
import re
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fake_provider import Provider  # noqa: E402
from instance import Client, Instance, Oracle, Writer, sentence  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402

KILLS_PER_LIFE = 5
LOAD_MAX_S = 1.2
END_LIMIT_S = 60
WRITERS, KNOWN = 2, 150
DIMENSIONS = {"hash-384": 384, "static-en": 256, "far": 48}
BATCH, CALLS = 8, 3
UNDER_WAY = BATCH * CALLS  # texts whose answers one moment can cost
SETTINGS = ["wal_segment_bytes=262144", "snapshot_interval=2", "checkpoint_interval=1", "checkpoint_ops=200", "model.far.dialect=cohere", "model.far.model=m", "model.far.retries=0",
            "model.far.timeout_ms=2000", "model.far.connect_timeout_ms=300", "model.far.breaker_open_ms=100", "model.far.max_batch=%d" % BATCH, "model.far.concurrency=%d" % CALLS]
OURS = re.compile(r"(w\d+x| \d+)$")  # the others are those by which Quire knows a model, asked for at each start
BEHAVIOURS = ("ok", "ok", "ok", "slow:30", "status:500", "close", "hang", "unavailable:1")


class Reader(threading.Thread):
    """Searches for what is known to be there, by vectors alone, and looks at the vectors that come back."""

    def __init__(self, exchanges):
        super().__init__(daemon=True)
        self.x = exchanges
        self.rng = random.Random(exchanges.rng.random())
        self.stopping = threading.Event()
        self.models = []
        self.refused = 0

    def run(self):
        client = Client(self.x.instance)
        while not self.stopping.is_set():
            self.search(client)
        client.close()

    def search(self, client):
        text = self.rng.choice(self.x.known)
        before = self.x.serving.is_set()
        mode = self.rng.choice(("dense", "hybrid"))
        body = {"query": text, "k": 10, "mode": mode, "include_embeddings": True}
        status, reply = client.request("POST", "/v1/libraries/%s/search" % self.x.library, body)
        if status == 200:
            self.look_at(text, reply, mode)
        elif mode == "dense" and status == 503 and reply["error_type"] == "EmbeddingUnavailableError":
            self.refused += 1
        elif before and self.x.serving.is_set():
            self.x.life.wrong("a %s search failed: status %s %s" % (mode, status, reply))

    def look_at(self, text, reply, mode):
        model = reply["index"]["model"]
        if not self.models or self.models[-1] != model:
            self.models.append(model)
        dimensions = {len(r["chunk"]["embedding"]) for r in reply["results"] if r["chunk"].get("embedding")}
        best = reply["results"][0] if reply["results"] else None
        if dimensions - {DIMENSIONS[model]}:
            self.x.life.wrong("an answer by %s has vectors of %s numbers" % (model, sorted(dimensions)))
        found = best is not None and best["chunk"]["text"] == text
        # while its vector is under way, others are ranked higher for theirs
        if mode == "hybrid" and reply["index"]["coverage"] == 1 and text not in [r["chunk"]["text"] for r in reply["results"]]:
            self.x.life.wrong("by %s a hybrid search for a known text found %s" % (model, best and best["document_id"]))
        if mode == "dense" and reply["index"]["coverage"] == 1 and (not found or best["distance"] > 1e-3):
            self.x.life.wrong("by %s a search for a known text found %s" % (model, best and (best["document_id"], best["distance"])))


class Moods(threading.Thread):
    """The provider behaves now so, now so."""

    def __init__(self, owner):
        super().__init__(daemon=True)
        self.owner = owner
        self.rng = random.Random(owner.rng.random())
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.wait(self.rng.uniform(0.05, 0.3)):
            self.owner.provider.state.control({"behave": self.rng.choice(BEHAVIOURS)})
            self.owner.moments += 1
        self.owner.provider.state.control({"behave": "ok"})


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

    def __init__(self, life, instance, provider):
        self.life, self.rng, self.instance, self.provider = life, life.rng, instance, provider
        self.moments = 0  # at which answers can have been under way
        self.begun_far = 0  # how often all texts may have been asked for
        self.oracle = Oracle()
        self.serving = threading.Event()
        self.library = None
        self.known = []
        self.writers = []

    def begin(self):
        self.instance.start()
        client = Client(self.instance)
        model = self.rng.choice(sorted(DIMENSIONS))
        self.begun_far += 1 if model == "far" else 0
        self.library = client.library("exchanged", embedding_model=model)
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
            other = rng.choice([m for m in sorted(DIMENSIONS) if m != found[0]])
            self.begun_far += 1 if other == "far" else 0
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
        threads = self.writers + [reader, exchanges, Moods(self)]
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
        self.moments += 1
        self.life.note("switches seen", max(0, len(reader.models) - 1))
        self.life.note("dense searches refused for want of the provider", reader.refused)
        self.life.injections += 1

    def start_again(self, lose=0.2):
        if self.rng.random() < lose:
            shutil.rmtree(os.path.join(self.instance.data, "vectors"), ignore_errors=True)
            self.life.note("arenas removed")
        began = time.monotonic()
        self.instance.start()
        self.life.took(time.monotonic() - began)

    def check(self, vectors):
        client = Client(self.instance)
        self.life.take(self.oracle.check(client, self.library))
        if vectors:
            faults = self.oracle.check_vectors(client, self.library, END_LIMIT_S)
            self.life.take(["by %s: %s" % (self.state(client), fault) for fault in faults])
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

    def again(self, allowed):
        """How often texts were answered more often than that."""
        with self.provider.state.lock:
            return sum(n - allowed for text, n in self.provider.state.documents.items() if n > allowed and OURS.search(text))

    def check_asked(self, allowed, moments):
        again = self.again(max(1, allowed))
        self.life.note("texts answered again", max(0, again))
        if again > moments * UNDER_WAY:
            self.life.wrong("%d texts were answered again, at %d moments" % (again, moments))

    def kill_and_start(self, lose=0):
        self.instance.kill_supervisor()
        self.start_again(lose)

    def exchange_to(self, client, model):
        status, reply = client.request("POST", "/v1/libraries/%s/reembed" % self.library, {"embedding_model": model})
        if status != 202:
            self.life.wrong("an exchange to %s: status %s %s" % (model, status, reply))

    def end(self):
        """To the end, and back: nothing is missing on either side. Then once more to the provider's model, and away from it and back."""
        client = Client(self.instance)
        path = "/v1/libraries/%s/reembed" % self.library
        model, state = self.wait_for(client, ("none", "kept"))
        if state == "none":
            other = self.rng.choice([m for m in sorted(DIMENSIONS) if m != model])
            self.begun_far += 1 if other == "far" else 0
            self.exchange_to(client, other)
            model, state = self.wait_for(client, ("kept",))
        self.check(True)
        client.request("POST", path + "/rollback", {})
        back, state = self.wait_for(client, ("none",))
        if back == model:
            self.life.wrong("it did not go back from %s" % model)
        self.check(True)
        self.check_asked(self.begun_far, self.moments + 1)
        if back == "far":
            self.exchange_to(client, "static-en")
            self.wait_for(client, ("kept",))
            client.request("DELETE", path)
        client.close()
        if not self.life.faults:
            self.to_the_provider_and_back()
        if self.instance.stop() != 0:
            self.life.wrong("the stop was not in order")

    def to_the_provider_and_back(self):
        client = Client(self.instance)
        with self.provider.state.lock:
            self.provider.state.documents.clear()
        self.provider.state.control({"behave": "slow:10"})
        self.exchange_to(client, "far")
        kills = 3
        for number in range(kills):
            time.sleep(self.rng.uniform(0, 0.3))
            self.kill_and_start(1 if number == 1 else 0)
        client = Client(self.instance)
        self.wait_for(client, ("kept",))
        self.check(True)
        client.request("DELETE", "/v1/libraries/%s/reembed" % self.library)
        self.exchange_to(client, "hash-384")
        self.wait_for(client, ("kept",))
        self.writers[0].write(client, "POST", "", *self.one_more("behind"))
        self.kill_and_start(self.rng.choice((0, 1)))
        client = Client(self.instance)
        client.request("POST", "/v1/libraries/%s/reembed/rollback" % self.library, {})
        model, _ = self.wait_for(client, ("none",))
        if model != "far":
            self.life.wrong("it did not go back to the provider's model but has %s" % model)
        self.check(True)
        self.check_asked(1, kills + 1)
        client.close()

    def one_more(self, id):
        body, value = self.writers[0].document(id)
        return body, {id: value}


@contextlib.contextmanager
def provided():
    provider = Provider(0, DIMENSIONS["far"]).start()
    try:
        yield provider
    finally:
        provider.shutdown()
        provider.server_close()


def live(life):
    with provided() as provider, Instance("model.far.url=http://127.0.0.1:%d" % provider.port, *SETTINGS, https=False) as instance:
        x = Exchanged(life, instance, provider)
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
