"""Searches for texts that are known to be there: the right chunk must come first."""

import random
import threading
import time

from instance import Client, sentence


def known_texts(instance, name, count, rng):
    """A library of its own with that many documents; returns (library, [(id, text)])."""
    client = Client(instance)
    library = client.library(name)
    known = [("k%d" % i, sentence(rng, 14) + " %d" % i) for i in range(count)]
    for begin in range(0, count, 100):
        documents = [{"id": id, "title": "k", "texts": [text]} for id, text in known[begin : begin + 100]]
        status, reply = client.request("POST", "/v1/libraries/%s/documents/batch" % library, {"documents": documents})
        if status not in (200, 201) or reply["failed"]:
            raise OSError("no documents could be made: status %s %s" % (status, reply))
    client.close()
    return library, known


class Searcher(threading.Thread):
    def __init__(self, instance, library, known, seed):
        super().__init__(daemon=True)
        self.instance, self.library, self.known = instance, library, known
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.answers = []  # when
        self.times = []  # how long each took
        self.failures = []  # status and reply where there was no answer
        self.wrong = []

    def run(self):
        client = Client(self.instance)
        while not self.stopping.is_set():
            self.search(client)
        client.close()

    def search(self, client):
        id, text = self.rng.choice(self.known)
        began = time.monotonic()
        status, reply = client.request("POST", "/v1/libraries/%s/search" % self.library, {"query": text, "k": 3})
        ended = time.monotonic()
        if status in (503, None):
            self.failures.append("search: status %s %s" % (status, reply))
        elif status != 200:
            self.wrong.append("search: status %s %s" % (status, reply))
        else:
            self.answers.append(ended)
            self.times.append(ended - began)
            best = reply["results"][0] if reply["results"] else None
            if best is None or best["chunk"]["text"] != text or best["distance"] > 1e-3:
                self.wrong.append("search for %s found %s" % (id, best and (best["document_id"], best["distance"])))
