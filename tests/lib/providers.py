#!/usr/bin/env python3
"""Libraries of remote models through a real server, with a provider that is told how to behave: providers.py CASE. Prints what is not so, and exits 1."""

import base64
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import server
from fake_provider import Provider, vector
from server import Failure, Server, check, limit_error, until

KEY = "sk-this-must-not-be-seen-anywhere-0123456789"
DIMENSION = 24


class Far(Server):
    """A server whose library's model is the provider's, as `provider` stands on its port."""

    def __init__(self, port, *settings):
        self.key_dir = None
        super().__init__("model.far.url = http://127.0.0.1:%d/v1" % port, "model.far.model = m", "model.far.retries = 0", "model.far.breaker_open_ms = 100",
                         "model.far.breaker_failures = 3", "model.far.timeout_ms = 3000", "query_deadline_ms = 2000", *settings, start=False)

    def with_key(self):
        path = os.path.join(self.dir, "key")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(KEY)
        self.change("model.far.key_file = " + path)
        return self

    def embedding(self, library):
        return self.request("GET", "/v1/libraries/" + library).json()["metadata"]["embedding"]

    def complete(self, library):
        return until(lambda: (lambda e: e["done"] == e["total"] and e)(self.embedding(library)), "all vectors")

    def ask(self, library, query, **more):
        return self.request("POST", "/v1/libraries/%s/search" % library, dict({"query": query, "k": 3}, **more))

    def provider_pid(self):
        out = subprocess.run(["pgrep", "-P", str(self.process.pid), "-f", "quired: provider"], capture_output=True, text=True).stdout.split()
        return int(out[0]) if out else None


def provider(behave="ok", port=0, model="fake"):
    return Provider(port, DIMENSION, model, "", behave).start()


def texts_of(p):
    """What was answered with a vector so far, the fixed texts of the probe aside."""
    return {t: n for t, n in p.state.answered.items() if t.startswith("text ")}


def vectors(s, library, document):
    r = s.request("GET", "/v1/libraries/%s/documents/%s?include_embeddings=true&encoding=base64" % (library, document)).json()
    return [(c["text"], struct.unpack("<%df" % DIMENSION, base64.b64decode(c["embedding"]))) for c in r["chunks"]]


def check_vectors(s, library, document, model="fake"):
    for text, got in vectors(s, library, document):
        want = vector(text, DIMENSION, model)
        check(all(abs(a - b) < 1e-5 for a, b in zip(got, want)), "the vector of", text)


def put(s, library, name, *texts, expect=201):
    r = s.request("POST", "/v1/libraries/%s/documents" % library, {"id": name, "title": name, "texts": list(texts)})
    check(r.status == expect, r.status, r.body)
    return r


def case_pending():
    """Written while the provider is away, found by its words at once; when it comes, by its meaning. A restart, from log or snapshot, asks for nothing again."""
    gone = provider()
    port = gone.port
    gone.shutdown()
    gone.server_close()
    with Far(port) as s:
        s.start()
        library = s.library(embedding_model="far")
        put(s, library, "a", "text heron dawn", "text otter river")
        put(s, library, "b", "text lighthouse keeper")
        r = s.ask(library, "otter")
        check(r.status == 200 and r.json()["results"][0]["document_id"] == "a", r.status, r.body)
        check(r.json()["index"]["mode"] == "lexical" and r.json()["index"]["coverage"] == 0, r.body)
        r = s.ask(library, "otter", mode="dense")
        check(r.status == 503 and r.json()["error_type"] == "EmbeddingUnavailableError", r.status, r.body)
        check(int(r.headers["retry-after"]) >= 1, r.headers)
        until(lambda: s.embedding(library)["state"] == "waiting_for_provider", "its state")
        check(s.embedding(library)["done"] == 0 and s.embedding(library)["total"] == 3 and s.embedding(library)["error"], s.embedding(library))
        check(s.request("GET", "/health/detailed").json()["libraries"][0]["embedding"]["state"] == "waiting_for_provider", "in health")
        p = provider(port=port)
        check(s.complete(library)["state"] == "complete", "complete")
        r = s.ask(library, "lighthouse keeper", mode="dense")
        check(r.status == 200 and r.json()["results"][0]["document_id"] == "b" and r.json()["index"]["coverage"] == 1, r.status, r.body)
        check(s.ask(library, "otter").json()["index"]["mode"] == "hybrid", "hybrid again")
        check_vectors(s, library, "a")
        asked = texts_of(p)
        check(asked == {"text heron dawn": 1, "text otter river": 1, "text lighthouse keeper": 1}, asked)
        for how in ("stop", "kill", "snapshot alone"):
            if how == "snapshot alone":
                s.request("POST", "/v1/snapshots")
                until(lambda: s.request("GET", "/v1/snapshots").json(), "a snapshot")
            if how == "stop":
                s.stop()
            else:
                s.process.kill()
                s.process.wait()
            if how == "snapshot alone":
                shutil.rmtree(s.dir + "/data/vectors")
            s.start()
            check(s.complete(library)["state"] == "complete", how)
            r = s.ask(library, "lighthouse keeper", mode="dense")
            check(r.status == 200 and r.json()["results"][0]["document_id"] == "b", how, r.status, r.body)
            check_vectors(s, library, "a")
            check(texts_of(p) == asked, how, texts_of(p))
        put(s, library, "c", "text after the starts")
        s.complete(library)
        check(texts_of(p)["text after the starts"] == 1, texts_of(p))


def case_reject():
    """A library that wants no text without its vector: 503 and nothing stored; with the provider both at once."""
    p = provider()
    with Far(p.port, "write_deadline_ms = 1500", "query_deadline_ms = 300") as s:
        s.start()
        library = s.library(embedding_model="far", on_embedding_failure="reject")
        put(s, library, "a", "text one", "text two")
        check(s.embedding(library)["state"] == "complete" and s.embedding(library)["done"] == 2, s.embedding(library))
        check_vectors(s, library, "a")
        p.state.control({"behave": "hang"})
        r = s.ask(library, "a query that nobody has asked for", mode="dense")
        check("%d %s" % (r.status, r.json()["error_type"]) == limit_error("query_deadline_ms"), r.status, r.body)
        for behave in ("status:500", "hang", "throttle:2", "dimension:7"):
            p.state.control({"behave": behave})
            begun = time.monotonic()
            r = put(s, library, "b", "text three", expect=503)
            check(r.json()["error_type"] == "EmbeddingUnavailableError" and int(r.headers["retry-after"]) >= 1, r.body, r.headers)
            check(behave != "throttle:2" or 1 <= int(r.headers["retry-after"]) <= 2, r.headers)
            check(time.monotonic() - begun < 10, "in time")
            check(s.request("GET", "/v1/libraries/%s/documents/b" % library).status == 404, "nothing stored")
            p.state.control({"behave": "ok"})
            until(lambda: s.request("POST", "/v1/libraries/%s/documents" % library, {"id": "x" + behave.replace(":", ""), "title": "t", "texts": ["text after " + behave]}).status == 201, "it takes writes again")
        asked = texts_of(p)
        s.process.kill()
        s.process.wait()
        shutil.rmtree(s.dir + "/data/vectors")
        s.start()
        check(s.complete(library)["state"] == "complete", "after the restart")
        check_vectors(s, library, "a")
        check(texts_of(p) == asked, "asked again")


def case_changed():
    """A provider that exchanges its model: nothing is mixed, new texts wait, searches by meaning are refused; the old one back, and all goes on."""
    p = provider()
    with Far(p.port, "provider_probe_interval = 1") as s:
        s.start()
        library = s.library(embedding_model="far")
        put(s, library, "a", "text one")
        s.complete(library)
        p.state.control({"model": "another"})
        until(lambda: s.embedding(library)["state"] == "model_changed", "noticed")
        check("model" in s.embedding(library)["error"], s.embedding(library))
        put(s, library, "b", "text two")
        r = s.ask(library, "text one", mode="dense")
        check(r.status == 503 and "exchanged" in r.json()["detail"], r.status, r.body)
        check(s.ask(library, "two").json()["index"]["mode"] == "lexical", "hybrid goes by words")
        time.sleep(0.3)
        check(s.embedding(library)["done"] == 1, "no vector of another model")
        check("exchanged" in s.log() or "another model" in s.log(), "the log says so")
        other = s.library(name="new", embedding_model="far")
        put(s, other, "n", "text new")
        s.complete(other)
        check_vectors(s, other, "n", "another")
        p.state.control({"model": "fake"})
        s.complete(library)
        check_vectors(s, library, "a")
        check_vectors(s, library, "b")
        check(s.ask(library, "text one", mode="dense").status == 200, "searched again")


def case_cache():
    """The same query is asked for once, by however many."""
    p = provider()
    with Far(p.port) as s:
        s.start()
        library = s.library(embedding_model="far")
        put(s, library, "a", "text one")
        s.complete(library)
        for _ in range(5):
            check(s.ask(library, "text cached query", mode="dense").status == 200, "found")
        check(texts_of(p)["text cached query"] == 1, texts_of(p))
        p.state.control({"behave": "status:500"})
        check(s.ask(library, "text cached query", mode="dense").status == 200, "without the provider")
        check(s.ask(library, "text other query", mode="dense").status == 503, "another query")
        until(lambda: s.metric('quire_query_cache_hits_total{model="far"}') == 5, "hits")


def case_secrets():
    """The key is nowhere but in the provider process and at the provider: not in logs, errors, figures, command lines, environments, other processes' memory."""
    p = provider()
    p.state.key = KEY
    with Far(p.port) as s:
        s.with_key().start()
        library = s.library(embedding_model="far")
        put(s, library, "a", "text one")
        s.complete(library)
        p.state.control({"behave": "echo_key"})
        seen = []
        put(s, library, "b", "text two")
        for path in ("/metrics", "/v1/models", "/health/detailed", "/v1/libraries/" + library):
            seen.append(s.request("GET", path).body)
        r = s.ask(library, "text three", mode="dense")
        check(r.status == 503, r.status)
        seen.append(r.body)
        pids = [s.process.pid] + s.workers()
        for pid in pids:
            for name in ("cmdline", "environ"):
                try:
                    with open("/proc/%d/%s" % (pid, name), "rb") as f:
                        seen.append(f.read())
                except PermissionError:
                    pass
        seen.append(s.log().encode())
        check(not any(KEY.encode() in x for x in seen), "the key is seen")
        limits = open("/proc/%d/limits" % s.provider_pid()).read()
        check(re.search(r"Max core file size +0 +0", limits), "it could leave a core")
        for pid in pids:
            if pid != s.provider_pid():
                check(KEY.encode() not in memory_of(pid), "in the memory of", pid)


def memory_of(pid):
    found = []
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as memory:
        for line in maps:
            span, flags = line.split()[:2]
            if flags.startswith("rw") and "[vvar" not in line:
                begin, end = (int(x, 16) for x in span.split("-"))
                try:
                    memory.seek(begin)
                    found.append(memory.read(min(end - begin, 1 << 24)))
                except OSError:
                    pass
    return b"".join(found)


def case_process():
    """The provider process may die, hang or be stopped: nobody waits beyond a deadline, nothing is lost, another one comes."""
    p = provider()
    with Far(p.port) as s:
        s.start()
        library = s.library(embedding_model="far")
        put(s, library, "a", "text one")
        s.complete(library)
        first = until(s.provider_pid, "the process")
        os.kill(first, signal.SIGKILL)
        put(s, library, "b", "text two")
        s.complete(library)
        second = until(lambda: s.provider_pid() not in (None, first) and s.provider_pid(), "another one")
        os.kill(second, signal.SIGSTOP)
        put(s, library, "c", "text three")
        begun = time.monotonic()
        r = s.ask(library, "text one", mode="dense")
        check(r.status == 503 and time.monotonic() - begun < 6, r.status, time.monotonic() - begun)
        check(s.ask(library, "three").status == 200, "by words")
        until(lambda: s.provider_pid() not in (None, second), "a third one")
        s.complete(library)
        check_vectors(s, library, "c")
        check(s.ask(library, "text one", mode="dense").status == 200, "searched again")
        check(s.metric("quire_provider_process_restarts_total") >= 2, "counted")
        begun = time.monotonic()
        p.state.control({"behave": "hang"})
        put(s, library, "d", "text four")
        s.stop()
        check(time.monotonic() - begun < 10, "the stop waits for nobody")
        p.state.control({"behave": "ok"})
        s.start()
        s.complete(library)
        check_vectors(s, library, "d")


def main():
    server.QUIRED = os.path.join(os.environ["QUIRE_BUILD_DIR"], "src", "quired")
    case = globals()["case_" + sys.argv[1]]
    try:
        case()
    except Failure as failure:
        print("#", failure)
        sys.exit(1)


if __name__ == "__main__":
    main()
