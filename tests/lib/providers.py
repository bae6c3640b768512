#!/usr/bin/env python3
"""Libraries of remote models through a real server, with a provider that is told how to behave: providers.py CASE. Prints what is not so, and exits 1."""

import base64
import concurrent.futures
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
from fcgi_client import request
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


def case_desk():
    """Answers with many vectors come while the worker that has many writes in hand cannot read them: it is not taken for a broken one."""
    p = Provider(0, 2048, "fake", "", "slow:1500").start()
    with Far(p.port, "workers = 2", "write_workers = 1", "writes_in_hand = 16", "model.far.concurrency = 16", "model.far.timeout_ms = 20000") as s:
        p.state.control({"behave": "ok"})
        s.start()
        library = s.library(embedding_model="far", on_embedding_failure="reject")
        put(s, library, "first", "text first")
        p.state.control({"behave": "slow:1500"})
        before = p.state.calls
        writes = 10
        bodies = [{"id": "d%d" % i, "title": "t", "texts": ["text %d word%d" % (i, n) for n in range(60)]} for i in range(writes)]
        with concurrent.futures.ThreadPoolExecutor(writes) as pool:
            replies = [pool.submit(request, s.write_socket, "POST", "/v1/libraries/%s/documents" % library, body) for body in bodies]
            until(lambda: p.state.calls >= before + writes, "all have asked")
            workers = [pid for pid in s.workers() if pid != s.provider_pid()]
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
            until(lambda: p.state.at_once == 0, "all are answered")
            time.sleep(0.5)  # a worker that is killed is so by then
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
            statuses = [reply.result().status for reply in replies]
        check(statuses == [201] * writes, statuses)
        check("does not read its answers" not in s.log(), s.log()[-500:])
        check(s.complete(library)["done"] == 1 + writes * 60, s.embedding(library))


def case_query_first():
    """Writes that wait for a slow provider hold up no query."""
    p = provider()
    with Far(p.port, "workers = 2", "write_workers = 1", "writes_in_hand = 32", "model.far.concurrency = 1") as s:
        s.start()
        library = s.library(embedding_model="far", on_embedding_failure="reject")
        put(s, library, "first", "text first")
        p.state.control({"behave": "slow:250"})
        before, writes = p.state.calls, 16
        bodies = [{"id": "d%d" % i, "title": "t", "texts": ["text number%d" % i]} for i in range(writes)]
        with concurrent.futures.ThreadPoolExecutor(writes) as pool:
            replies = [pool.submit(request, s.write_socket, "POST", "/v1/libraries/%s/documents" % library, body) for body in bodies]
            until(lambda: p.state.calls > before + 1, "they ask")
            r = s.ask(library, "text first of all", mode="dense")
            check(r.status == 200, r.status, r.body)
            check(p.state.calls < before + writes, "the query came last")
            statuses = [reply.result().status for reply in replies]
        check(statuses == [201] * writes, statuses)


def case_beside():
    """A long write does not wait until the worker's short ones have their vectors from a slow provider."""
    p = provider()
    with Far(p.port, "workers = 2", "write_workers = 1", "model.far.timeout_ms = 20000") as s:
        s.start()
        slow, other = s.library(embedding_model="far", on_embedding_failure="reject"), s.library(name="other")
        put(s, slow, "first", "text first")
        p.state.control({"behave": "slow:4000"})
        before = p.state.calls
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            short = pool.submit(request, s.write_socket, "POST", "/v1/libraries/%s/documents" % slow, {"title": "t", "texts": ["text short"]})
            until(lambda: p.state.calls > before, "it asks")
            long = request(s.write_socket, "POST", "/v1/libraries/%s/documents" % other, {"title": "t", "texts": ["long " * 6000]})
            check(not short.done(), "the long one came last")
            p.state.control({"behave": "ok"})
            check(long.status == 201, long.status, long.body)
            after = request(s.write_socket, "POST", "/v1/libraries/%s/documents" % other, {"title": "t", "texts": ["short"]})
            check(short.result().status == 201 and after.status == 201, short.result().status, after.status)


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
    """The same query is asked for once, by however many, alone or among others."""
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
        p.state.control({"behave": "ok"})

        def batch(*queries):
            return s.request("POST", "/v1/libraries/%s/search/batch" % library, {"searches": [{"query": q, "k": 1, "mode": "dense"} for q in queries]})

        until(lambda: batch("text cached query", "text of many one", "text of many two").status == 200, "many in one call")
        check(texts_of(p)["text cached query"] == 1, "one of them was remembered", texts_of(p))
        p.state.control({"behave": "status:500"})
        check(batch("text of many two", "text cached query", "text of many one").status == 200, "all of them are")
        check(s.ask(library, "text of many one", mode="dense").status == 200, "one alone as well")
        check(texts_of(p)["text of many one"] == 1, texts_of(p))


def case_reload():
    """A pause ends with a reload of the configuration, however long it would have lasted."""
    p = provider("throttle:50")
    with Far(p.port) as s:
        s.start()
        library = s.library(embedding_model="far")
        put(s, library, "a", "text one")
        until(lambda: "are delayed" in s.log() and s.embedding(library)["state"] == "waiting_for_provider", "it pauses")
        p.state.control({"behave": "ok"})
        begun = time.monotonic()
        s.process.send_signal(signal.SIGHUP)
        s.complete(library)
        check(time.monotonic() - begun < 20, "the pause has not ended with the reload:", time.monotonic() - begun)
        check_vectors(s, library, "a")


def case_batch():
    """Many queries in one call, call after call to one worker: each has the vector of its own text, not of one before, and the worker lives."""
    p = provider()
    with Far(p.port, "workers = 1") as s:
        s.start()
        library = s.library(embedding_model="far")
        fill(s, library, "heron", 100)
        s.complete(library)
        workers = s.workers()
        texts = ["text heron %d %s" % (i, time_of_day) for i in range(100) for time_of_day in ("dawn", "dusk")]
        for size in (100, 7, 64, 1, 99, 31, 32, 75):
            searches = [{"query": text, "k": 1, "mode": "dense", "exact": True} for text in texts[:size]]
            r = s.request("POST", "/v1/libraries/%s/search/batch" % library, {"searches": searches})
            check(r.status == 200, r.status, r.body)
            found = [answer["results"][0]["chunk"]["text"] for answer in r.json()["results"]]
            check(found == texts[:size], size, [f for f, t in zip(found, texts) if f != t])
            texts = texts[size // 2:] + texts[:size // 2]
        check(s.workers() == workers, "the worker died")


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
        for i in range(6):
            check(s.ask(library, "text query %d" % i, mode="dense").status == 200, "searched")
        counted = 'quire_provider_texts_total{model="far"}'
        until(lambda: s.metric(counted) >= 7, "texts counted")
        before = s.metric(counted)
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
        until(lambda: s.metric(counted) > before, "counters go on over the death of a process")
        begun = time.monotonic()
        p.state.control({"behave": "hang"})
        put(s, library, "d", "text four")
        s.stop()
        check(time.monotonic() - begun < 10, "the stop waits for nobody")
        p.state.control({"behave": "ok"})
        s.start()
        s.complete(library)
        check_vectors(s, library, "d")


def texts_asked_again(p):
    return sum(n - 1 for n in texts_of(p).values())


def fill(s, library, word, count):
    """Documents of two chunks each, whose texts all differ."""
    documents = [{"id": "%s%d" % (word, i), "title": word, "texts": ["text %s %d dawn" % (word, i), "text %s %d dusk" % (word, i)]} for i in range(count)]
    r = s.request("POST", "/v1/libraries/%s/documents/batch" % library, {"documents": documents})
    check(r.status == 200 and r.json()["failed"] == 0, r.status, r.body)


def metadata(s, library):
    return s.request("GET", "/v1/libraries/" + library).json()["metadata"]


def step(s, library, path="", method="POST", **members):
    """Begins an exchange, or a way back; its task."""
    r = s.request(method, "/v1/libraries/%s/reembed%s" % (library, path), members)
    check(r.status == 202, r.status, r.body)
    return r.json()["id"]


def task(s, wanted):
    return s.request("GET", "/v1/tasks/" + wanted).json()


def succeeds(s, wanted):
    def over():
        t = task(s, wanted)
        check(t["state"] in ("pending", "running", "succeeded"), t)
        return t if t["state"] == "succeeded" else None

    return until(over, "the exchange's end")


def nearest(s, library, text):
    r = s.ask(library, text, mode="dense")
    check(r.status == 200 and r.json()["results"][0]["chunk"]["text"] == text, text, r.status, r.body)
    return r.json()


def forget_arenas(s):
    """As after a power failure that left the log and the snapshots alone."""
    s.process.kill()
    s.process.wait()
    shutil.rmtree(s.dir + "/data/vectors")
    s.start()


def case_exchange_to():
    """From a model that runs here to a provider's: paused while it is away, all texts once, no start asks again, and the way back."""
    p = provider("status:500")
    with Far(p.port) as s:
        s.start()
        library = s.library(embedding_model="static-en")
        fill(s, library, "heron", 20)
        begun = step(s, library, embedding_model="far")
        paused = until(lambda: (lambda t: t["paused"] and "500" in (t["error"] or "") and t)(task(s, begun)), "it says that it waits")
        check(paused["state"] == "running" and paused["paused"] == "waiting_for_provider", paused)
        put(s, library, "meanwhile", "text written meanwhile")
        check(nearest(s, library, "text written meanwhile")["index"]["model"] == "static-en", "served by the old one")
        check(s.request("POST", "/v1/libraries/%s/reembed" % library, {"embedding_model": "hash-384"}).status == 409, "one at a time")
        p.state.control({"behave": "ok"})
        done = succeeds(s, begun)
        check(done["overlap_queries"] > 20 and 0 <= done["overlap_at_10"] <= 1 and done["paused"] is None and done["error"] is None, done)
        check(done["done"] == done["total"], done)
        check(metadata(s, library)["embedding_model"] == "far" and metadata(s, library)["exchange"]["state"] == "kept", metadata(s, library))
        s.complete(library)
        check_vectors(s, library, "meanwhile")
        check_vectors(s, library, "heron7")
        check(nearest(s, library, "text heron 7 dawn")["index"]["model"] == "far", "served by the new one")
        asked = {t: n for t, n in texts_of(p).items() if t != "text heron 7 dawn" and t != "text written meanwhile"}
        check(len(asked) == 39 and texts_asked_again(p) <= 2, texts_of(p))
        put(s, library, "behind", "text written behind it")
        s.complete(library)
        again = texts_asked_again(p)
        for how in ("kill", "log", "snapshot"):
            if how == "snapshot":
                s.request("POST", "/v1/snapshots")
                until(lambda: s.request("GET", "/v1/snapshots").json(), "a snapshot")
            if how == "kill":
                s.process.kill()
                s.process.wait()
                s.start()
            else:
                forget_arenas(s)
            check(s.complete(library)["total"] == 42, how)
            check_vectors(s, library, "behind")
            check_vectors(s, library, "heron7")
            check(texts_asked_again(p) == again, how, texts_of(p))
        succeeds(s, step(s, library, "/rollback"))
        check(metadata(s, library)["embedding_model"] == "static-en", metadata(s, library))
        s.complete(library)
        check(nearest(s, library, "text written behind it")["index"]["coverage"] == 1, "nothing is missing")


def case_exchange_from():
    """From a provider's model and back: what was written meanwhile is asked for then, also when the provider is away at that moment; nothing is asked twice."""
    p = provider()
    with Far(p.port) as s:
        s.start()
        library = s.library(embedding_model="far")
        fill(s, library, "heron", 20)
        s.complete(library)
        succeeds(s, step(s, library, embedding_model="static-en"))
        put(s, library, "meanwhile", "text written meanwhile")
        check(nearest(s, library, "text heron 3 dusk")["index"]["model"] == "static-en", "served by the new one")
        for how in ("following", "kill", "log", "snapshot"):
            if how == "snapshot":
                s.request("POST", "/v1/snapshots")
                until(lambda: s.request("GET", "/v1/snapshots").json(), "a snapshot")
            if how == "kill":
                s.process.kill()
                s.process.wait()
                s.start()
            elif how != "following":
                forget_arenas(s)
            p.state.control({"behave": "status:500"})
            word = "text written before it went back, " + how
            put(s, library, how, word)
            until(lambda: s.embedding(library)["state"] == "complete", "the one that runs here")
            succeeds(s, step(s, library, "/rollback"))
            check(metadata(s, library)["embedding_model"] == "far", metadata(s, library))
            check(s.ask(library, how).json()["results"][0]["document_id"] == how, "found by its words")
            p.state.control({"behave": "ok"})
            s.complete(library)
            check_vectors(s, library, how)
            check_vectors(s, library, "meanwhile")
            check_vectors(s, library, "heron3")
            check(texts_asked_again(p) == 0, how, texts_of(p))
            succeeds(s, step(s, library, embedding_model="static-en"))


def case_exchange_killed():
    """Killed again and again on the way to another provider's model, once with all arenas lost: it goes on, and what was answered and logged is not asked for again."""
    p = provider()
    q = provider("slow:60", model="other")
    with Far(p.port, "model.next.url = http://127.0.0.1:%d/v1" % q.port, "model.next.model = n", "model.next.retries = 0", "model.next.max_batch = 4",
             "model.next.concurrency = 3", "model.next.breaker_open_ms = 100", "checkpoint_interval = 1", "snapshot_interval = 1") as s:
        s.start()
        library = s.library(embedding_model="far")
        fill(s, library, "heron", 60)
        s.complete(library)
        begun = step(s, library, embedding_model="next")
        kills = 0
        for share in (0.1, 0.25, 0.4, 0.6, 0.8):
            until(lambda: len(texts_of(q)) > share * 120, "its way")
            kills += 1
            if kills == 3:
                forget_arenas(s)
            else:
                s.process.kill()
                s.process.wait()
                s.start()
            check(nearest(s, library, "text heron 5 dawn")["index"]["model"] == "far", "served by the old one")
            t = until(lambda: s.request("GET", "/v1/tasks/" + begun).status == 200 and task(s, begun), "its task")
            check(t["state"] in ("pending", "running"), t)
        succeeds(s, begun)
        s.complete(library)
        check(metadata(s, library)["embedding_model"] == "next", metadata(s, library))
        check_vectors(s, library, "heron5", "other")
        check(len(texts_of(q)) == 120 and texts_asked_again(q) <= kills * 8, texts_asked_again(q))
        asked = texts_asked_again(p)
        succeeds(s, step(s, library, "/rollback"))
        s.complete(library)
        check_vectors(s, library, "heron5")
        check(texts_asked_again(p) == asked, "the one before is not asked for what it has made")


def case_exchange_given_up():
    """Cancelled while it waits; refused where it makes no sense; and a provider that changes its model while the side is built."""
    p = provider("hang")
    with Far(p.port, "provider_probe_interval = 1") as s:
        s.start()
        library = s.library(embedding_model="static-en")
        fill(s, library, "heron", 10)
        for members, status in (({"embedding_model": "none"}, 422), ({"embedding_model": "nobody"}, 422)):
            check(s.request("POST", "/v1/libraries/%s/reembed" % library, members).status == status, members)
        begun = step(s, library, embedding_model="far")
        check(s.request("DELETE", "/v1/tasks/" + begun).status in (200, 202, 204), "cancelled")
        until(lambda: task(s, begun)["state"] == "cancelled", "its end")
        until(lambda: metadata(s, library)["exchange"] is None, "nothing is left of it")
        p.state.control({"behave": "slow:700"})
        s.change("model.far.max_batch = 2")
        s.stop()
        s.start()
        begun = step(s, library, embedding_model="far")
        until(lambda: len(texts_of(p)) > 2, "its way")
        p.state.control({"model": "another"})
        changed = until(lambda: (lambda t: t["paused"] == "model_changed" and t)(task(s, begun)), "it is noticed")
        check("reembed" in changed["error"], changed)
        check(nearest(s, library, "text heron 5 dawn")["index"]["model"] == "static-en", "served by the old one")
        for _ in range(10):  # each begins before what was made for the one before it is let go
            check(s.request("DELETE", "/v1/libraries/%s/reembed" % library).status == 204, "given up")
            step(s, library, embedding_model="far")
        check(s.request("DELETE", "/v1/libraries/%s/reembed" % library).status == 204, "given up")
        p.state.control({"behave": "ok"})
        succeeds(s, step(s, library, embedding_model="far"))
        s.complete(library)
        check_vectors(s, library, "heron5", "another")
        p.state.control({"model": "a third"})
        until(lambda: s.embedding(library)["state"] == "model_changed", "noticed")
        check(s.request("DELETE", "/v1/libraries/%s/reembed" % library).status == 204, "what was kept")
        succeeds(s, step(s, library))
        s.complete(library)
        check_vectors(s, library, "heron5", "a third")


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
