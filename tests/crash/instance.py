"""What the crash tests share: an instance run by scripts/serve, requests over HTTPS, and the oracle.

The oracle is kept by the client, outside the instance's directory: for every document id what was sent, what was acknowledged, and so what
may be there after a crash. Standard library only.
"""

import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import tempfile
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from processes import children_of, state_of, wait_gone  # noqa: E402,F401

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SERVE = os.path.join(ROOT, "scripts", "serve")
WORDS = """amber anchor apple arch barn basil beacon birch bread brick canal candle cedar chalk cloud copper
coral crane delta ember fern field flint forest frost garden glass grain harbor hazel heron island ivory kettle lantern
linen maple marble meadow mill mint moss needle oak olive orchard otter pebble pine plum quartz reed river saddle salt
sparrow spruce stone thistle timber tulip valley violet walnut willow winter wool""".split()


def sentence(rng, words=12):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def digest(texts):
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()


class Instance:
    def __init__(self, *settings):
        self.dir = tempfile.mkdtemp(prefix="quire-crash.")
        self.settings = list(settings)
        self.url = None

    def start(self):
        arguments = [SERVE, self.dir, "start"]
        for s in self.settings:
            arguments += ["--set", s]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError("start failed (%d): %s" % (done.returncode, done.stderr))
        self.settings = []
        self.url = done.stdout.strip().splitlines()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.context = ssl.create_default_context(cafile=os.path.join(self.dir, "tls", "cert.pem"))

    def stop(self):
        return subprocess.run([SERVE, self.dir, "stop"], stdout=subprocess.DEVNULL).returncode

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def supervisor(self):
        with open(os.path.join(self.dir, "quired.pid")) as f:
            return int(f.read())

    def children(self, pid):
        """quired's workers, those that live."""
        return children_of(pid)

    def kill_supervisor(self):
        """SIGKILL; returns the workers that were still alive two seconds later (orphans)."""
        pid = self.supervisor()
        workers = self.children(pid)
        os.kill(pid, signal.SIGKILL)
        return wait_gone(workers + [pid], 2)

    def log(self):
        try:
            with open(os.path.join(self.dir, "logs", "quired.log"), errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""


class Client:
    """One kept-open connection. A request gives (status, object), status None where no reply came."""

    def __init__(self, instance, timeout=30):
        self.instance = instance
        self.timeout = timeout
        self.connection = None

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def request(self, method, path, body=None):
        try:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection("127.0.0.1", self.instance.port, context=self.instance.context, timeout=self.timeout)
            headers = {}
            data = None
            if body is not None:
                data = json.dumps(body)
                headers["Content-Type"] = "application/json"
            self.connection.request(method, path, data, headers)
            reply = self.connection.getresponse()
            content = reply.read()
            return reply.status, json.loads(content) if content else None
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            return None, None


    def read(self, path):
        """A GET; once more where the kept-open connection was closed meanwhile, as any client does."""
        status, reply = self.request("GET", path)
        return (status, reply) if status is not None else self.request("GET", path)


class Oracle:
    """What may be stored under each id. None stands for 'no such document'."""

    def __init__(self):
        self.mutex = threading.Lock()
        self.possible = {}  # id -> set of digests (or None) that may be there
        self.acknowledged = 0

    def sending(self, id, value):
        with self.mutex:
            self.possible.setdefault(id, {None}).add(value)

    def acked(self, id, value):
        with self.mutex:
            self.possible[id] = {value}
            self.acknowledged += 1

    def check(self, client, library, ids=None):
        """Compares what is stored with what may be; returns a list of faults, and settles what was in doubt."""
        faults = []
        stored = {}
        path = "/v1/libraries/%s/documents?limit=1000" % library
        while path:
            status, page, path = self.page(client, path)
            if status != 200:
                return ["list: status %s" % status]
            for summary in page:
                if summary["id"] in stored:
                    faults.append("doubled: %s" % summary["id"])
                stored[summary["id"]] = True
        with self.mutex:
            possible = {k: set(v) for k, v in self.possible.items()}
        for id in stored:
            if id not in possible:
                faults.append("never sent: %s" % id)
        for id, may in possible.items():
            if id not in stored:
                if None not in may:
                    faults.append("lost: %s" % id)
                else:
                    self.settle(id, None)
                continue
            if may == {None}:
                faults.append("deleted, but there: %s" % id)
                continue
            if ids is not None and id not in ids and len(may) == 1:
                continue
            status, document = client.read("/v1/libraries/%s/documents/%s" % (library, id))
            if status != 200:
                faults.append("listed, but get gives %s: %s" % (status, id))
                continue
            found = digest([c["text"] for c in document["chunks"]])
            if found not in may:
                faults.append("wrong text: %s" % id)
            else:
                self.settle(id, found)
        return faults

    def settle(self, id, value):
        with self.mutex:
            self.possible[id] = {value}

    @staticmethod
    def page(client, path):
        status, page = client.read(path)
        if status != 200:
            return status, None, None
        following = None
        # http.client's reply is gone; the cursor is asked for with a second, cheap look at the headers.
        if len(page) == 1000:
            client.connection.request("HEAD", path)
            head = client.connection.getresponse()
            head.read()
            link = head.getheader("Link") or ""
            if 'rel="next"' in link or "rel=next" in link:
                following = link[link.index("<") + 1 : link.index(">")]
        return status, page, following


class Writer(threading.Thread):
    """Adds, replaces and deletes documents of its own until told to stop, and keeps the oracle."""

    def __init__(self, instance, library, oracle, name, seed, count=None):
        super().__init__(daemon=True)
        self.instance, self.library, self.oracle = instance, library, oracle
        self.prefix = name
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.number = 0
        self.unexpected = []
        self.acks = []
        self.worst = 0.0
        self.ids = []
        self.touched = set()

    def run(self):
        client = Client(self.instance)
        while not self.stopping.is_set():
            self.step(client)
        client.close()

    def step(self, client):
        roll = self.rng.random()
        if self.ids and roll < 0.15:
            id, value, method, body = self.rng.choice(self.ids), None, "DELETE", None
            good = (204, 404)
        elif self.ids and roll < 0.4:
            id, method = self.rng.choice(self.ids), "PUT"
            body, value = self.document(id)
            del body["id"]
            good = (200, 201)
        else:
            self.number += 1
            id, method = "%s-%d" % (self.prefix, self.number), "POST"
            body, value = self.document(id)
            self.ids.append(id)
            good = (201,)
        self.touched.add(id)
        path = "/v1/libraries/%s/documents" % self.library + ("" if method == "POST" else "/" + id)
        self.oracle.sending(id, value)
        began = time.monotonic()
        status, reply = client.request(method, path, body)
        took = time.monotonic() - began
        if status in good:
            self.oracle.acked(id, value)
            self.acks.append(time.monotonic())
            self.worst = max(self.worst, took)
            if method == "POST" and reply["id"] != id:
                self.unexpected.append("a reply for another document: %s for %s" % (reply["id"], id))
        elif status is not None and status not in (503, 409, 500):
            self.unexpected.append("%s %s: %s %s" % (method, path, status, reply))
        if status is None or status >= 500:
            # Nobody knows. Whatever became of it may still become so later, so this document is left alone from now on.
            if id in self.ids:
                self.ids.remove(id)
            self.stopping.wait(0.005)

    def document(self, id):
        texts = [sentence(self.rng) for _ in range(self.rng.randint(1, 4))]
        return {"id": id, "title": "of " + id, "texts": texts}, digest(texts)
