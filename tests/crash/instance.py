"""What the crash tests share: an instance, requests to it, load, and the oracle.

An instance runs either as users run it, by scripts/serve behind an nginx of its own (https=True), or bare: quired alone, asked over its FastCGI socket. The
bare one starts in some 30 ms, so that a campaign can kill it thousands of times.

The oracle is kept by the client, outside the instance's directory: for every document id what was sent, what was acknowledged, and so what
may be there after a crash. Standard library only.
"""

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fcgi_client  # noqa: E402
from running import children_of, end_processes, living, processes_below, state_of, wait_gone, workers_of  # noqa: E402,F401

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SERVE = os.path.join(ROOT, "scripts", "serve")
QUIRED = os.path.join(os.environ.get("QUIRE_BUILD_DIR") or os.path.join(ROOT, ".build"), "src", "quired")
MODELS = os.path.join(ROOT, "data", "models")
START_LIMIT_S = float(os.environ.get("QUIRE_START_TIMEOUT", "120"))
WORDS = """amber anchor apple arch barn basil beacon birch bread brick canal candle cedar chalk cloud copper
coral crane delta ember fern field flint forest frost garden glass grain harbor hazel heron island ivory kettle lantern
linen maple marble meadow mill mint moss needle oak olive orchard otter pebble pine plum quartz reed river saddle salt
sparrow spruce stone thistle timber tulip valley violet walnut willow winter wool""".split()


def sentence(rng, words=12):
    return " ".join(rng.choice(WORDS) for _ in range(words))


class StartFailed(Exception):
    """code: as a process returns it, below 0 for a signal; None: not ready in time."""

    def __init__(self, code, text):
        super().__init__("start failed (%s): %s" % (code, text))
        self.code = code


class Instance:
    """`with Instance(...) as i`: ends all that runs in it, and removes the directory unless an exception or keep() says otherwise."""

    program = QUIRED  # of a bare one

    def __init__(self, *settings, https=True):
        # The real path, since processes are found by it.
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="quire-crash."))
        self.https = https
        self.settings = list(settings)
        self.kept = False
        self.process = None
        self.port = self.url = self.context = None
        self.user = None  # a bare one runs as this user (a number), where this process may do that
        self.rate = None  # requests a second that nginx takes from one address, as installed; None: any number
        self.data = os.path.join(self.dir, "data")
        self.socket = os.path.join(self.dir, "run", "quired.sock")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close(keep=self.kept or (kind is not None and issubclass(kind, Exception)))

    def keep(self):
        """For a look at it: something was wrong."""
        self.kept = True

    def close(self, keep=False):
        if self.https:
            self.stop()
        found = processes_below(self.dir)
        for pid, _ in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end_processes(found)
        if self.process is not None:
            self.process.wait()
        if keep:
            print("instance kept: %s" % self.dir, flush=True)
        else:
            self.remove()

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, environment=None, arguments=()):
        """Returns when it is ready. Settings hold for this and the next starts. `arguments` are quired's, of a bare one."""
        if self.https:
            self.start_behind_nginx(environment)
        else:
            self.start_bare(environment, arguments)

    def start_behind_nginx(self, environment):
        arguments = [SERVE, self.dir, "start"]
        for s in self.settings:
            arguments += ["--set", s]
        if self.rate is not None:
            arguments += ["--rate", str(self.rate)]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ, **(environment or {})))
        if done.returncode != 0:
            raise StartFailed(done.returncode, done.stderr)
        self.settings = []
        self.url = done.stdout.strip().splitlines()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.context = ssl.create_default_context(cafile=os.path.join(self.dir, "tls", "cert.pem"))

    def start_bare(self, environment, arguments):
        for name in ("data", "run", "logs"):
            os.makedirs(os.path.join(self.dir, name), exist_ok=True)
            if self.user is not None:
                os.chown(os.path.join(self.dir, name), self.user, -1)
        if self.user is not None:
            os.chown(self.dir, self.user, -1)
        base = ["auth=off", "workers=2", "model_dir=" + MODELS, "data_dir=" + self.data, "run_dir=" + os.path.join(self.dir, "run"),
                "pid_file=" + os.path.join(self.dir, "quired.pid"), "log_file=" + os.path.join(self.dir, "logs", "quired.log")]
        values = dict(s.split("=", 1) for s in base + self.settings)
        configuration = os.path.join(self.dir, "quire.conf")
        with open(configuration, "w") as f:
            f.writelines("%s = %s\n" % item for item in values.items())
        with open(os.path.join(self.dir, "logs", "stderr"), "ab") as errors:
            self.process = subprocess.Popen([self.program, "-c", configuration, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                                            env=dict(os.environ, **(environment or {})), start_new_session=True, user=self.user)
        deadline = time.monotonic() + START_LIMIT_S
        while not self.answers():
            if self.process.poll() is not None:
                raise StartFailed(self.process.returncode, self.log()[-1500:])
            if time.monotonic() > deadline:
                raise StartFailed(None, "not ready in time: " + self.log()[-1500:])
            time.sleep(0.002)

    def answers(self):
        try:
            return fcgi_client.request(self.socket, "GET", "/readiness").status == 200
        except (fcgi_client.Gone, OSError):
            return False

    def stop(self):
        """In order; its exit code, of a bare one that of quired."""
        if self.https:
            return subprocess.run([SERVE, self.dir, "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_LIMIT_S)

    def alive(self):
        return living(self.supervisor())

    def supervisor(self):
        if not self.https:
            return self.process.pid
        with open(os.path.join(self.dir, "quired.pid")) as f:
            return int(f.read())

    def children(self, pid):
        """quired's workers, those that live."""
        return children_of(pid)

    def kill_supervisor(self):
        """SIGKILL; returns the workers that were still alive two seconds later (orphans)."""
        pid = self.supervisor()
        workers = self.children(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not self.https:
            self.process.wait()
        return wait_gone(set(workers + workers_of(pid)) | {pid}, 2)

    def log(self):
        try:
            with open(os.path.join(self.dir, "logs", "quired.log"), errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""


class Client:
    """A request gives (status, object), status None where no reply came; the reply's headers stay in `headers`, names in lower case. Over HTTPS one
    kept-open connection, where `source` is given from that address; over FastCGI one each, as nginx does. `secret`: of the API key, where keys are on."""

    def __init__(self, instance, timeout=30, source=None, secret=None):
        self.instance = instance
        self.timeout = timeout
        self.source = source and (source, 0)
        self.secret = secret
        self.connection = None
        self.headers = {}
        self.seen = {}  # status -> the first request that got it, with its reply

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def request(self, method, path, body=None, key=None):
        """key: the Idempotency-Key."""
        try:
            status, content = self.exchange(method, path, None if body is None else json.dumps(body), key)
            self.seen.setdefault(status, "%s %s: %.500r" % (method, path, content))
            return status, json.loads(content) if content else None
        except ValueError:
            self.close()
            return None, None

    def exchange(self, method, path, data=None, key=None):
        """(status, bytes)"""
        try:
            return self.over_https(method, path, data, key) if self.instance.https else self.over_fcgi(method, path, data, key)
        except (OSError, http.client.HTTPException, ValueError, fcgi_client.Gone):
            self.close()
            return None, None

    def metric(self, name):
        """Its value; None where it cannot be had."""
        status, content = self.exchange("GET", "/metrics")
        for line in content.decode().splitlines() if status == 200 else ():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None

    def over_https(self, method, path, data, key):
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("127.0.0.1", self.instance.port, context=self.instance.context, timeout=self.timeout,
                                                          source_address=self.source)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if key is not None:
            headers["Idempotency-Key"] = key
        if self.secret is not None:
            headers["X-Api-Key"] = self.secret
        self.connection.request(method, path, data, headers)
        reply = self.connection.getresponse()
        content = reply.read()
        self.headers = {name.lower(): value for name, value in reply.getheaders()}
        return reply.status, content

    def over_fcgi(self, method, path, data, key):
        headers = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
        if self.secret is not None:
            headers["HTTP_X_API_KEY"] = self.secret
        reply = fcgi_client.request(self.instance.socket, method, path, data, headers, timeout=self.timeout)
        self.headers = reply.headers
        return reply.status, reply.body

    def read(self, path):
        """A GET; once more where the kept-open connection was closed meanwhile, as any client does."""
        status, reply = self.request("GET", path)
        return (status, reply) if status is not None else self.request("GET", path)

    def pages(self, path):
        """All of a list; raises OSError where a page cannot be had."""
        while path:
            status, page = self.read(path)
            if status != 200:
                raise OSError("GET %s: status %s %s" % (path, status, page))
            yield from page
            link = self.headers.get("link", "")
            path = link[link.index("<") + 1 : link.index(">")] if "rel=" in link and "next" in link else None

    def library(self, name, **members):
        status, reply = self.request("POST", "/v1/libraries", dict(members, name=name))
        if status != 201:
            raise OSError("no library could be made: status %s %s" % (status, reply))
        return reply["id"]


class Oracle:
    """What may be stored under each id of one library: tuples of texts. None stands for 'no such document'."""

    FORMER_KEPT = 2
    SEARCHES_AT_ONCE = 32
    WORDS_ASKED = 3

    def __init__(self):
        self.mutex = threading.Lock()
        self.possible = {}  # id -> set of values that may be there
        self.former = {}  # id -> texts that were there and must not be found any more
        self.acknowledged = 0

    def copy(self):
        other = Oracle()
        other.possible = {id: set(may) for id, may in self.possible.items()}
        other.former = {id: list(texts) for id, texts in self.former.items()}
        return other

    def merge(self, possible, former, acknowledged):
        """What another oracle has come to know of other documents."""
        with self.mutex:
            self.possible.update(possible)
            self.former.update(former)
            self.acknowledged += acknowledged

    def sending(self, id, value):
        with self.mutex:
            self.possible.setdefault(id, {None}).add(value)

    def acked(self, id, value):
        with self.mutex:
            self.forget(id, value)
            self.acknowledged += 1

    def refused(self, id, value):
        """It was not done, and will not be."""
        with self.mutex:
            self.possible[id].discard(value)

    def settle(self, id, value):
        with self.mutex:
            self.forget(id, value)

    def forget(self, id, value):
        """Nothing but `value` is possible any more."""
        now = set(value or ())
        old = [t for v in self.possible.get(id, ()) if v for t in v if t not in now]
        self.former[id] = (old + self.former.get(id, []))[: self.FORMER_KEPT]
        self.possible[id] = {value}

    def check(self, client, library, ids=None):
        """Compares what is stored with what may be (texts only of `ids`, where given); returns a list of faults, and settles what was in doubt."""
        faults = []
        stored = set()
        try:
            for summary in client.pages("/v1/libraries/%s/documents?limit=1000" % library):
                if summary["id"] in stored:
                    faults.append("doubled: %s" % summary["id"])
                stored.add(summary["id"])
        except OSError as e:
            return faults + ["list: %s" % e]
        with self.mutex:
            possible = {k: set(v) for k, v in self.possible.items()}
        faults += ["never sent: %s" % id for id in stored if id not in possible]
        for id, may in possible.items():
            if id not in stored:
                if None not in may:
                    faults.append("lost: %s" % id)
                else:
                    self.settle(id, None)
            elif may == {None}:
                faults.append("deleted, but there: %s" % id)
            elif ids is None or id in ids or len(may) > 1:
                faults += self.check_document(client, library, id, may)
        return faults

    def check_document(self, client, library, id, may):
        status, document = client.read("/v1/libraries/%s/documents/%s" % (library, id))
        if status != 200:
            return ["listed, but get gives %s: %s" % (status, id)]
        found = tuple(c["text"] for c in document["chunks"])
        if found not in may:
            return ["wrong text: %s" % id]
        self.settle(id, found)
        return []

    def check_by_search(self, client, library, ids=None, mode="lexical"):
        """Every chunk is found by its own text, what was replaced or deleted is not. Call check() before, which settles what is there."""
        with self.mutex:
            wanted = [(id, text, True) for id, may in self.possible.items() if ids is None or id in ids for v in may if v for text in v]
            wanted += [(id, text, False) for id, texts in self.former.items() if ids is None or id in ids for text in texts]
        faults = []
        for begin in range(0, len(wanted), self.SEARCHES_AT_ONCE):
            some = wanted[begin : begin + self.SEARCHES_AT_ONCE]
            searches = [self.search_for(text, mode) for _, text, _ in some]
            status, reply = client.request("POST", "/v1/libraries/%s/search/batch" % library, {"searches": searches})
            if status != 200:
                faults.append("search: status %s %s" % (status, reply))
                continue
            for (id, text, there), answer in zip(some, reply["results"]):
                found = [r for r in answer["results"] if r["document_id"] == id and r["chunk"]["text"] == text]
                if there and len(found) != 1:
                    faults.append("%s: %s by a %s search for its own text: %s" % ("doubled" if found else "not found", id, mode, text))
                elif there and mode == "dense" and found[0]["distance"] > 1e-3:
                    faults.append("wrong vector: %s, distance %s to its own text" % (id, found[0]["distance"]))
                elif found and not there:
                    faults.append("gone, but found: %s by a %s search for %s" % (id, mode, text))
        return faults


    def search_for(self, text, mode):
        """By words, the last ones are enough: one of them is the text's own. All of a long text would be slow."""
        if mode == "dense":
            return {"query": text, "k": 3, "mode": mode, "exact": True}
        return {"query": " ".join(text.split()[-self.WORDS_ASKED :]), "k": 3, "mode": mode}

    def check_vectors(self, client, library, seconds=30):
        """Once all are made again, each text is found by its vector."""
        deadline = time.monotonic() + seconds
        while True:
            status, reply = client.request("GET", "/v1/libraries/" + library)
            if status == 200 and reply["metadata"]["embedding"]["state"] == "complete":
                return self.check_by_search(client, library, None, "dense")
            if time.monotonic() > deadline:
                return ["the vectors are not made again: %s %s" % (status, reply)]
            time.sleep(0.005)


class Writer(threading.Thread):
    """Adds, replaces and deletes documents of its own, one by one and in batches, until told to stop, and keeps the oracle."""

    BATCH = 5
    PAUSE_S = 0.005
    TEXTS_MAX = 4
    WORDS = 12

    def __init__(self, instance, library, oracle, name, seed, batches=True):
        super().__init__(daemon=True)
        self.instance, self.library, self.oracle = instance, library, oracle
        self.prefix = name
        self.rng = random.Random(seed)
        self.batches = batches
        self.stopping = threading.Event()
        self.number = 0
        self.unexpected = []
        self.acks = []
        self.worst = 0.0
        self.ids = []
        self.touched = set()
        self.texts = 0

    def successor(self):
        """A thread runs once: the same writer for the next round."""
        other = type(self)(self.instance, self.library, self.oracle, self.prefix, self.rng.random(), self.batches)
        other.number, other.ids, other.texts = self.number, self.ids, self.texts
        return other

    def run(self):
        client = Client(self.instance)
        while not self.stopping.is_set():
            self.step(client)
        client.close()

    def step(self, client):
        roll = self.rng.random()
        if self.ids and roll < 0.15:
            id = self.rng.choice(self.ids)
            self.write(client, "DELETE", "/" + id, None, {id: None})
        elif self.ids and roll < 0.4:
            id = self.rng.choice(self.ids)
            body, value = self.document(id)
            del body["id"]
            self.write(client, "PUT", "/" + id, body, {id: value})
        elif self.batches and roll < 0.5:
            made = [self.document(self.new_id()) for _ in range(self.rng.randint(1, self.BATCH))]
            self.write(client, "POST", "/batch", {"documents": [body for body, _ in made]}, {body["id"]: value for body, value in made})
        elif self.batches and len(self.ids) > self.BATCH and roll < 0.55:
            ids = self.rng.sample(self.ids, self.BATCH)
            self.write(client, "POST", "/batch-delete", {"document_ids": ids}, dict.fromkeys(ids))
        else:
            body, value = self.document(self.new_id())
            self.write(client, "POST", "", body, {body["id"]: value})

    def new_id(self):
        self.number += 1
        id = "%s-%d" % (self.prefix, self.number)
        self.ids.append(id)
        return id

    def write(self, client, method, tail, body, values):
        """One request that makes each of `values` (id -> texts, or None) so."""
        path = "/v1/libraries/%s/documents%s" % (self.library, tail)
        self.touched.update(values)
        for id, value in values.items():
            self.oracle.sending(id, value)
        began = time.monotonic()
        status, reply = client.request(method, path, body)
        took = time.monotonic() - began
        if status in ((200, 201, 204, 404) if method == "DELETE" else (200, 201)):
            done = self.done_of(reply, values) if tail.startswith("/batch") else list(values)
            for id in done:
                self.oracle.acked(id, values[id])
            self.acks.append(time.monotonic())
            self.worst = max(self.worst, took)
            if method == "POST" and not tail and reply["id"] not in values:
                self.unexpected.append("a reply for another document: %s for %s" % (reply["id"], list(values)))
        elif status is not None and status not in (503, 507, 409, 500):
            self.unexpected.append("%s %s: %s %s" % (method, path, status, reply))
        if status == 507:
            for id, value in values.items():
                self.oracle.refused(id, value)
        elif status is None or status >= 500:
            # Nobody knows. Whatever became of it may still become so later, so this document is left alone from now on.
            self.ids = [id for id in self.ids if id not in values]
            self.stopping.wait(self.PAUSE_S)

    def done_of(self, reply, values):
        """Of a batch: those that the reply says are done; the others are left alone."""
        done = [r.get("document_id") for r in reply["results"] if r["success"]]
        failed = set(values) - set(done)
        self.ids = [id for id in self.ids if id not in failed]
        return [id for id in done if id in values]

    def document(self, id):
        made = []
        for _ in range(self.rng.randint(1, self.TEXTS_MAX)):
            # A word that no other text has: a search for it has one best answer.
            self.texts += 1
            made.append("%s %s%dx" % (sentence(self.rng, self.WORDS), self.prefix.replace("-", ""), self.texts))
        return {"id": id, "title": "of " + id, "texts": made}, tuple(made)
