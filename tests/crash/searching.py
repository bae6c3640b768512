"""Searches for texts that are known to be there: the right chunk must come first."""

import random
import threading
import time

from client_process import ClientProcess
from instance import Client, sentence


def known_texts(instance, name, count, rng, client=None):
    """A library of its own with that many documents; returns (library, [(id, text)])."""
    client = client or Client(instance)
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
    """One search after the other, with a pause between; `source` is the address it comes from."""

    def __init__(self, instance, library, known, seed, source=None, pause_s=0):
        super().__init__(daemon=True)
        self.source, self.pause_s = source, pause_s
        self.instance, self.library, self.known = instance, library, known
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.answers = []  # when
        self.times = []  # how long each took
        self.failures = []  # status and reply where there was no answer
        self.wrong = []

    def run(self):
        client = Client(self.instance, source=self.source)
        while not self.stopping.wait(self.pause_s):
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


def outcome(searchers):
    """(how long each search took, the longest last; failures; what was wrong). The first search of each, which opens its connection, is not counted: in a short time these
    few would be the slowest hundredth."""
    return (sorted(x for t in searchers for x in t.times[1:]), [x for t in searchers for x in t.failures], [x for t in searchers for x in t.wrong])


def measure(searchers, seconds):
    """Lets them search for so long, in a process of its own. (how long each took, the longest last; failures and what was wrong)"""
    process = ClientProcess(searchers, outcome)
    time.sleep(seconds)
    times, failures, wrong = process.end()
    return times, failures + wrong


def p99(times):
    """Of sorted ones."""
    return times[len(times) * 99 // 100]
