#!/usr/bin/env python3
"""The same POST twice at once, and a thousand times at once, from two API keys, while a worker or the supervisor is killed between.

    same_request.py [--short] [--count N] [--seed N [--life N]]

(idempotent_retries.py has the clients that send one after the other.) In each turn all copies of some requests, shuffled, are under way before the first reply is read; at
times workers or the supervisor are killed -9 meanwhile, while each sync of the log takes a little, so that some are between being done and being answered. Copies without an answer
are sent again, all at once. The requests:

  keyed     a document, or a batch, with an Idempotency-Key: each copy gets the same reply, one document is there; from two API keys it is two requests, with one document each
  own       a document with an id of its own, and no key: one copy gets 201 and all others 409, whichever API key sent them
  search    for a text that is known: its own answer comes

No two bodies are alike, and each reply must belong to its request. Half of the lives run behind nginx and TLS. At the end of a life, and after a start from the log alone, each document
is there exactly once.
"""

import collections
import contextlib
import hashlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, fcgi_client, sentence  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402
from searching import known_texts  # noqa: E402

SETTINGS = ("auth=on", "workers=6", "checkpoint_interval=1", "snapshot_interval=0", "log_level=warn")
SYNC_S = 0.01
FAULT = {"QUIRE_IO_FAULT": "fdatasync:delay=%d,path=wal" % (1000 * SYNC_S)}
TURNS_PER_LIFE = 12
CROWD = 1000
SIZES = (2, 2, 2, 3, 20)
REQUESTS = 8  # different ones in a turn
KNOWN = 100
GIVE_UP_S = 90
ADMIN = "qk_" + "a" * 36
TRY_AGAIN = (None, 500, 502, 503)


class Copy:
    """One sending of a request, by the holder of one API key."""

    def __init__(self, request, secret):
        self.request, self.secret = request, secret
        self.socket = None
        self.unsure = False  # an earlier attempt had no answer
        self.answer = None  # (status, what must be the same in all copies)


class Request:
    def __init__(self, kind, path, body, texts, key=None, id=None):
        self.kind, self.path, self.body, self.texts, self.key, self.id = kind, path, body, texts, key, id
        self.data = json.dumps(body).encode()
        self.copies = []

    def belongs(self, reply):
        """Is that reply one to this request?"""
        if self.kind == "search":
            return [r["chunk"]["text"] for r in reply["results"][:1]] == self.texts
        if "results" in reply:
            return [r["document_id"] for r in reply["results"]] == [d["id"] for d in self.body["documents"]]
        return [c["text"] for c in reply["chunks"]] == self.texts and reply["metadata"]["title"] == self.body["title"] and self.id in (None, reply["id"])


class Sender:
    """Puts copies on the way, and reads their replies later."""

    def __init__(self, instance):
        self.instance = instance

    def open(self, copy):
        """A connection, over TLS ready to be written to; None where nobody takes it."""
        try:
            if not self.instance.https:
                name = "quired.sock" if copy.request.kind == "search" else "quired-writes.sock"
                return fcgi_client.connect(os.path.join(self.instance.dir, "run", name))
            return self.instance.context.wrap_socket(socket.create_connection(("127.0.0.1", self.instance.port), 30), server_hostname="localhost")
        except (OSError, fcgi_client.Gone):
            return None

    def send(self, copy):
        r = copy.request
        if self.instance.https:
            lines = ["POST %s HTTP/1.1" % r.path, "Host: localhost", "Connection: close", "Content-Type: application/json", "X-Api-Key: " + copy.secret,
                     "Content-Length: %d" % len(r.data)] + (["Idempotency-Key: " + r.key] if r.key else [])
            data = "\r\n".join(lines + ["", ""]).encode() + r.data
        else:
            headers = {"HTTP_X_API_KEY": copy.secret, **({"HTTP_IDEMPOTENCY_KEY": r.key} if r.key else {})}
            data = fcgi_client.begin() + fcgi_client.stream(fcgi_client.PARAMS, fcgi_client.params("POST", r.path, r.data, headers))
            data += fcgi_client.stream(fcgi_client.STDIN, r.data)
        with contextlib.suppress(OSError):
            copy.socket.sendall(data)

    def receive(self, copy):
        """(status, headers, object); status None where no whole reply came."""
        try:
            with copy.socket:
                if not self.instance.https:
                    reply = fcgi_client.parse(fcgi_client.read_reply(copy.socket))
                    return reply.status, reply.headers, json.loads(reply.body)
                reply = http.client.HTTPResponse(copy.socket, method="POST")
                reply.begin()
                return reply.status, {name.lower(): value for name, value in reply.getheaders()}, json.loads(reply.read())
        except (OSError, http.client.HTTPException, ValueError, fcgi_client.Gone):
            return None, {}, None


class Turn:
    def __init__(self, life, instance, requests):
        self.life, self.instance, self.requests = life, instance, requests
        self.sender = Sender(instance)

    def run(self, disturb):
        waiting = [copy for r in self.requests for copy in r.copies]
        self.life.rng.shuffle(waiting)
        until = time.monotonic() + GIVE_UP_S
        while waiting:
            self.wave(waiting, disturb)
            disturb = None
            waiting = [copy for copy in waiting if copy.answer is None]
            if time.monotonic() > until:
                self.life.wrong("%d copies have no answer after %d s" % (len(waiting), GIVE_UP_S))
                return
        for r in self.requests:
            self.judge(r)

    def wave(self, copies, disturb):
        for copy in copies:
            copy.socket = self.sender.open(copy)
        there = [copy for copy in copies if copy.socket is not None]
        when = self.life.rng.randrange(len(there) + 1)
        for i, copy in enumerate(there):
            if i == when and disturb:
                disturb()
            self.sender.send(copy)
        if when == len(there) and disturb:
            disturb()
        for copy in there:
            began = time.monotonic()
            self.take(copy, *self.sender.receive(copy))
            self.life.took(time.monotonic() - began)
        if len(there) < len(copies):
            time.sleep(0.01)

    def take(self, copy, status, headers, reply):
        r = copy.request
        if status in TRY_AGAIN:
            copy.unsure = True
            self.life.note("sent again")
            return
        reply.pop("processing_time_ms", None)
        reply.pop("request_id", None)
        copy.answer = (status, (headers.get("location"), headers.get("quire-lsn"), json.dumps(reply, sort_keys=True)))
        self.life.note("answers")
        if status in (200, 201) and not r.belongs(reply):
            self.life.wrong("a reply for another request: %s got %s" % (r.data, reply))
        elif status not in (200, 201) and (status != 409 or r.kind != "own"):
            self.life.wrong("%s: status %s %s" % (r.data, status, reply))

    def judge(self, r):
        """What the answers to all copies must be to each other."""
        if r.kind == "own":
            made = [copy for copy in r.copies if copy.answer[0] == 201]
            if len(made) > 1:
                self.life.duplicated("%s was made %d times" % (r.id, len(made)))
            if not made and not [copy for copy in r.copies if copy.unsure]:
                self.life.lost("%s is taken, and nobody made it" % r.id)
        elif r.kind == "keyed":
            of = collections.defaultdict(set)
            for copy in r.copies:
                of[copy.secret].add(copy.answer)
            for answers in of.values():
                if len(answers) != 1:
                    self.life.fault("duplicated", "%s was answered in %d ways: %s" % (r.key, len(answers), list(answers)[:2]))
            if not r.body.get("documents") and len({a for answers in of.values() for a in answers}) != len(of):
                self.life.wrong("%s: two API keys had one document" % r.key)


class Life:
    """The requests of one instance, and what must be there of them."""

    def __init__(self, life, instance):
        self.life, self.instance = life, instance
        self.number = 0
        self.wanted = collections.Counter()
        admin = Client(instance, secret=admin_secret(instance))
        self.client = admin
        self.library = admin.library("same")
        self.fixed, self.known = known_texts(instance, "known", KNOWN, life.rng, client=admin)
        self.secrets = []
        for scopes in (["read", "write"], ["write", "read"]):
            status, reply = admin.request("POST", "/v1/keys", {"name": "a client", "scopes": scopes})
            if status != 201:
                raise OSError("no API key could be made: status %s %s" % (status, reply))
            self.secrets.append(reply["secret"])

    def request(self, size):
        """One that is in no other way like any before, and its copies."""
        rng, path = self.life.rng, "/v1/libraries/%s/documents" % self.library
        self.number += 1
        name = "r%d" % self.number
        text = "%s %s" % (sentence(rng), name)
        kind = rng.choice(("keyed", "keyed", "keyed batch", "keyed own", "own", "own", "search"))
        askers = self.secrets if rng.random() < 0.5 else [rng.choice(self.secrets)]
        if kind == "search":
            text = rng.choice(self.known)[1]
            made = Request("search", "/v1/libraries/%s/search" % self.fixed, {"query": text, "k": 3}, [text])
        elif kind == "keyed batch":
            askers = askers[:1]  # of two, the ids of one would be taken
            made = Request("keyed", path + "/batch", {"documents": [{"id": "%s-%d" % (name, i), "title": name, "texts": ["%s %d" % (text, i)]} for i in range(3)]},
                           ["%s %d" % (text, i) for i in range(3)], key=name)
        elif kind == "keyed":
            made = Request("keyed", path, {"title": name, "texts": [text]}, [text], key=name)
        else:
            keyed = kind == "keyed own"
            askers = askers[:1] if keyed else askers
            made = Request("keyed" if keyed else "own", path, {"id": name, "title": name, "texts": [text]}, [text], key=name if keyed else None, id=name)
        made.copies = [Copy(made, askers[i % len(askers)]) for i in range(max(size, 2))]
        for t in made.texts if kind != "search" else ():
            self.wanted[t] += len(askers) if kind == "keyed" else 1
        return made

    def disturbance(self):
        """(name, function); None: nothing happens."""
        return self.life.rng.choice((("quiet", None), ("workers killed", self.kill_workers), ("supervisor killed", self.kill_supervisor)))

    def kill_workers(self):
        time.sleep(self.life.rng.uniform(0, SYNC_S))
        workers = self.instance.children(self.instance.supervisor())
        for pid in self.life.rng.sample(workers, len(workers) // 2):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_supervisor(self):
        time.sleep(self.life.rng.uniform(0, SYNC_S))
        for pid in self.instance.kill_supervisor():
            self.life.wrong("orphan: process %d" % pid)
        self.instance.start(FAULT)

    def check(self):
        stored = collections.Counter()
        for summary in list(self.client.pages("/v1/libraries/%s/documents?limit=1000" % self.library)):
            status, document = self.client.read("/v1/libraries/%s/documents/%s" % (self.library, summary["id"]))
            if status != 200:
                self.life.wrong("listed, but get gives %s: %s" % (status, summary["id"]))
                continue
            stored.update(c["text"] for c in document["chunks"])
        for text in (self.wanted - stored).elements():
            self.life.lost(text)
        for text in (stored - self.wanted).elements():
            self.life.fault("duplicated" if text in self.wanted else "wrong", text)


def admin_secret(instance):
    if not instance.https:
        return ADMIN
    with open(os.path.join(instance.dir, "admin_key")) as f:
        return f.read().strip()


def live(life):
    settings = list(SETTINGS)
    with Instance(*settings, https=life.number % 2 == 1) as instance:
        if not instance.https:
            hash_file = os.path.join(instance.dir, "admin_key.sha256")
            with open(hash_file, "w") as f:
                f.write(hashlib.sha256(ADMIN.encode()).hexdigest() + "\n")
            instance.settings.append("admin_key_file=" + hash_file)
        instance.start(FAULT)
        here = Life(life, instance)
        crowd = life.rng.randrange(life.count)
        for turn in range(life.count):
            requests = [here.request(life.rng.choice(SIZES)) for _ in range(REQUESTS)]
            if turn == crowd:
                requests.append(here.request(CROWD))
            name, disturb = here.disturbance()
            Turn(life, instance, requests).run(disturb)
            life.note(name)
            life.injections += 1
        here.check()
        instance.kill_supervisor()
        shutil.rmtree(os.path.join(instance.data, "vectors"))
        instance.start()
        here.check()
        if life.faults:
            instance.keep()


def main():
    campaign = Campaign("same-request", short=24, long=2400, doc=__doc__)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    worst_ms = run_lives(campaign, live, TURNS_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
