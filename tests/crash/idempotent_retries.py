#!/usr/bin/env python3
"""Clients that send every POST until it is acknowledged, with an Idempotency-Key, while workers and supervisor are killed.

    idempotent_retries.py [--short] [--count N] [--seed N [--life N]]

Some clients create documents, batches of them and libraries, and begin snapshots, with ids that the server makes, so that nothing but the key tells a retry
from a new request. What fails is sent again with its key; what was acknowledged is sent again at times, too, and now and then by two clients at once.
Meanwhile workers are killed -9, the supervisor is killed -9 or stopped and started again, at times without its arenas, so that snapshot and log alone have to
know the keys. At the end each key is sent once more: it must be remembered, every reply to it must have been the same but for the time that it took, and each
of its documents must be there exactly once, with the texts that were sent.
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
from instance import Client, Instance, sentence  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402

SETTINGS = ("workers=3", "checkpoint_interval=1", "snapshot_interval=2", "wal_segment_bytes=65536", "write_deadline_ms=2000")
KILLS_PER_LIFE = 20
CLIENTS = 4
PAUSE_S = (0.01, 0.15)  # between two kills
GIVE_UP_S = 90
AGAIN = 0.3  # share of requests that are sent once more although they were acknowledged
TRY_AGAIN = (None, 500, 502, 503)  # 500: the log failed under it


class Request:
    """A key, what is sent with it, and what it was answered."""

    def __init__(self, key, path, body, texts):
        self.key, self.path, self.body, self.texts = key, path, body, texts
        self.reply = None


class Retrier(threading.Thread):
    """Sends requests one after the other, each until it is acknowledged."""

    def __init__(self, instance, library, name, seed):
        super().__init__(daemon=True)
        self.client = Client(instance, timeout=10)
        self.library, self.name = library, name
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.requests = []
        self.wrong = []
        self.retries = self.replayed = 0

    def make(self, number):
        key = "%s-%d" % (self.name, number)
        documents = "/v1/libraries/%s/documents" % self.library
        kind = self.rng.random()
        if kind < 0.02:
            return Request(key, "/v1/snapshots", {}, [])
        if kind < 0.1:
            return Request(key, "/v1/libraries", {"name": key}, [])
        texts = ["%s %s" % (key, sentence(self.rng)) for _ in range(1 if kind < 0.6 else self.rng.randrange(2, 6))]
        if kind < 0.6:
            return Request(key, documents, {"title": key, "texts": texts}, texts)
        parts = [{"title": key, "texts": [t]} for t in texts]
        parts.insert(self.rng.randrange(len(parts)), {"title": key})  # fails alone
        return Request(key, documents + "/batch", {"documents": parts}, texts)

    def send(self, request, until):
        """Until it is acknowledged; holds the reply against those before."""
        while time.monotonic() < until:
            status, reply = self.client.request("POST", request.path, request.body, request.key)
            if status in TRY_AGAIN:
                self.retries += 1
                time.sleep(0.003)
                continue
            if status not in (200, 201, 202):
                self.wrong.append("%s: status %s %s" % (request.key, status, reply))
                return
            self.replayed += "idempotency-replayed" in self.client.headers
            reply.pop("processing_time_ms", None)
            found = (status, self.client.headers.get("location"), self.client.headers.get("quire-lsn"), reply)
            if request.reply is None:
                request.reply = found
            elif request.reply != found:
                self.wrong.append("%s: first %s, then %s" % (request.key, request.reply, found))
            return
        self.wrong.append("%s: not acknowledged within %d s" % (request.key, GIVE_UP_S))

    def send_twice_at_once(self, request, until):
        other = Retrier(self.client.instance, self.library, self.name, 0)
        twin = Request(request.key, request.path, request.body, request.texts)
        thread = threading.Thread(target=other.send, args=(twin, until))
        thread.start()
        self.send(request, until)
        thread.join()
        if request.reply != twin.reply:
            self.wrong.append("%s: %s, and at once %s" % (request.key, request.reply, twin.reply))
        self.wrong += other.wrong

    def run(self):
        number = 0
        while not self.stopping.is_set():
            request = self.make(number)
            number += 1
            until = time.monotonic() + GIVE_UP_S
            self.requests.append(request)
            if self.rng.random() < 0.1:
                self.send_twice_at_once(request, until)
            else:
                self.send(request, until)
            if self.rng.random() < AGAIN:
                self.send(self.rng.choice(self.requests), until)
        self.client.close()


def disturb(life, instance):
    """One kill."""
    kind = life.rng.random()
    workers = instance.children(instance.supervisor())
    if kind < 0.6 and workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(life.rng.choice(workers), signal.SIGKILL)
        life.note("workers killed")
        return
    if kind < 0.9:
        for pid in instance.kill_supervisor():
            life.wrong("orphan: process %d" % pid)
        life.note("supervisor killed")
        if life.rng.random() < 0.25:
            shutil.rmtree(os.path.join(instance.data, "vectors"), ignore_errors=True)
            life.note("arenas removed")
    else:
        if instance.stop() != 0:
            life.wrong("a stop failed: " + instance.log()[-1500:])
        life.note("stops")
    began = time.monotonic()
    instance.start()
    life.took(time.monotonic() - began)


def check(life, instance, library, retriers):
    """Every key once more, then every document."""
    client = Client(instance)
    wanted = {}
    until = time.monotonic() + GIVE_UP_S
    for r in retriers:
        for request in r.requests:
            before = r.replayed
            r.send(request, until)
            if r.replayed == before:
                life.fault("duplicated", "%s was done, and is not remembered" % request.key)
            for text in request.texts:
                wanted[text] = wanted.get(text, 0) + 1
        for text in r.wrong:
            life.wrong(text)
        life.note("keys", len(r.requests))
        life.note("retries", r.retries)
        life.note("replayed", r.replayed)
    stored = {}
    for summary in list(client.pages("/v1/libraries/%s/documents?limit=1000" % library)):
        status, document = client.read("/v1/libraries/%s/documents/%s" % (library, summary["id"]))
        if status != 200:
            life.wrong("listed, but get gives %s: %s" % (status, summary["id"]))
            continue
        for chunk in document["chunks"]:
            stored[chunk["text"]] = stored.get(chunk["text"], 0) + 1
    for text, count in wanted.items():
        if stored.get(text, 0) < count:
            life.lost(text)
    for text, count in stored.items():
        if count > wanted.get(text, 0):
            life.fault("duplicated" if text in wanted else "wrong", text)
    names = [summary["name"] for summary in client.pages("/v1/libraries?limit=1000")]
    for r in retriers:
        for request in r.requests:
            if request.path == "/v1/libraries" and names.count(request.key) != 1:
                life.fault("duplicated", "%d libraries %s" % (names.count(request.key), request.key))


def live(life):
    with Instance(*SETTINGS, https=False) as instance:
        instance.start()
        library = Client(instance).library("retries")
        retriers = [Retrier(instance, library, "c%d" % i, life.rng.getrandbits(32)) for i in range(CLIENTS)]
        for r in retriers:
            r.start()
        for _ in range(life.count):
            time.sleep(life.rng.uniform(*PAUSE_S))
            disturb(life, instance)
            life.injections += 1
        for r in retriers:
            r.stopping.set()
        for r in retriers:
            r.join()
        check(life, instance, library, retriers)
        instance.kill_supervisor()
        shutil.rmtree(os.path.join(instance.data, "vectors"))
        instance.start()
        check(life, instance, library, retriers)
        if life.faults:
            instance.keep()


def main():
    campaign = Campaign("idempotent-retries", short=60, long=4000, doc=__doc__)
    worst_ms = run_lives(campaign, live, KILLS_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
