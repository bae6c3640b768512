#!/usr/bin/env python3
"""A provider of embeddings that does as it is told: fake_provider.py [options]

It answers POST /v1/embeddings (OpenAI), /v2/embed (Cohere), /api/embed (Ollama) and /embed (text-embeddings-inference), all on one port of loopback,
each as its documentation says. Prints "ready PORT" when it listens. Ends when its standard input does, or at SIGTERM.

    --port N            preset: a free one
    --dimension N       preset 64
    --model NAME        that the vectors depend on; preset "fake"
    --key KEY           calls without "Authorization: Bearer KEY" get 401
    --tls CERT KEY      HTTPS
    --behave WORDS      how every call is answered, until told otherwise

How a call is answered (a "behaviour") is, in this order: what stands in the path, as in http://127.0.0.1:PORT/behave/status~500/v1/embeddings (with ~ for
the colon); the next word of the plan; the standing behaviour.

    POST /control       {"behave": "ok", "plan": ["status:500", "ok"], "dimension": 64, "model": "fake"}, any of them
    GET /state          what has been asked so far: {"calls", "texts", "largest", "most_at_once", "repeated", "by_path", "input_types", "keys", "behaviours"};
                        "repeated" is how many texts were answered with vectors that had been before
    GET /texts          {text: how often it was answered with a vector}

A text's vector depends on its words, so texts with words in common lie near each other: vector(text, dimension, model) below, of unit length. Prefixes
count as words. For C: word w has the bytes SHAKE-256(model + NUL + w), each minus 127.5.

Behaviours, those with an argument as name:argument:

    ok                  as documented                       hang                never answers
    drip[:MS]           a byte a second, or every MS ms     close               closes instead of answering
    cut                 closes in the middle of the reply   status:N            that status with a JSON error
    throttle:S          429, Retry-After: S                 throttle_date:S     429, Retry-After: a date in S seconds
    throttle_ms:N       429, retry-after-ms: N              throttle_bare       429 and nothing else
    quota               429, insufficient_quota             unavailable:S       503, Retry-After: S
    too_many:N          413 for more than N texts           too_long:N          400 for a text of over N bytes, in OpenAI's words
    too_many_400:N      400 for it, in Cohere's words
    refuse:WORD         422 for a text with WORD            refuse_all          400, whatever is asked
    fewer, more         one vector too few, too many        shuffled            in another order (OpenAI: with its indexes)
    duplicate_index, no_index, bad_index                    nan, infinity, null in place of a number
    dimension:N         vectors of another one              ragged              the last vector is shorter
    huge                a reply of 1 GB                     huge_header         a header of 1 MB
    deep                JSON, 100,000 deep                  html, empty         200 with something else
    redirect[:URL]      307 to it, or to "localhost"        model:NAME          vectors of another model
    echo_key            401 that repeats the key            slow:MS             as ok, so much later
    base64_nan          OpenAI's base64 with a NaN          error_200           200 with {"error": ...}
    huge_error          500 with a body of 1 GB
"""

import argparse
import base64
import collections
import email.utils
import functools
import hashlib
import http.server
import json
import math
import random
import signal
import ssl
import struct
import sys
import threading
import time


@functools.lru_cache(maxsize=65536)
def word_vector(word, dimension, model):
    return tuple(b - 127.5 for b in hashlib.shake_256(f"{model}\0{word}".encode()).digest(dimension))


def vector(text, dimension=64, model="fake"):
    """The vector of a text, of unit length; a list of floats."""
    total = [0.0] * dimension
    for word in text.split():
        total = [a + b for a, b in zip(total, word_vector(word, dimension, model))]
    length = math.sqrt(sum(x * x for x in total)) or 1.0
    return [x / length for x in total]


class State:
    """What the provider is told, and what it has been asked; shared by all connections."""

    def __init__(self, dimension, model, key, behave):
        self.lock = threading.Lock()
        self.dimension, self.model, self.key, self.behave = dimension, model, key, behave
        self.plan = collections.deque()
        self.calls = self.asked = self.largest = self.at_once = self.most_at_once = 0
        self.answered = collections.Counter()
        self.documents = collections.Counter()  # likewise, without queries where the dialect tells
        self.by_path, self.input_types, self.keys, self.behaviours = (collections.Counter() for _ in range(4))

    def next_behaviour(self):
        with self.lock:
            return self.plan.popleft() if self.plan else self.behave

    def control(self, wanted):
        with self.lock:
            self.behave = wanted.get("behave", self.behave)
            self.dimension = wanted.get("dimension", self.dimension)
            self.model = wanted.get("model", self.model)
            if "plan" in wanted:
                self.plan = collections.deque(wanted["plan"])

    def report(self):
        with self.lock:
            return {"calls": self.calls, "texts": self.asked, "largest": self.largest, "most_at_once": self.most_at_once,
                    "repeated": sum(n - 1 for n in self.answered.values()), "by_path": self.by_path, "input_types": self.input_types,
                    "keys": self.keys, "behaviours": self.behaviours}


DIALECTS = {"/embeddings": "openai", "/v1/embeddings": "openai", "/v2/embed": "cohere", "/api/embed": "ollama", "/embed": "tei"}
INPUT = {"openai": "input", "cohere": "texts", "ollama": "input", "tei": "inputs"}
NUMBERS = {"nan": "NaN", "infinity": "1e999", "null": "null"}


class Call:
    """One request for vectors, and how it shall be answered."""

    def __init__(self, dialect, body, behaviour, state):
        self.dialect, self.body, self.state = dialect, body, state
        self.name, _, self.argument = behaviour.partition(":")
        texts = body[INPUT[dialect]]
        self.texts = [texts] if isinstance(texts, str) else texts

    def vectors(self):
        dimension = self.body.get("dimensions") or self.body.get("output_dimension") or self.state.dimension
        model = self.argument if self.name == "model" else self.state.model
        if self.name == "dimension":
            dimension = int(self.argument)
        rows = [vector(t, dimension, model) for t in self.texts]
        if self.name == "fewer":
            rows.pop()
        if self.name == "more":
            rows.append(vector("more", dimension, model))
        if self.name == "ragged":
            rows[-1].pop()
        return rows

    def index(self, position):
        if self.name == "duplicate_index":
            return 0
        if self.name == "bad_index":
            return position + 1
        return None if self.name == "no_index" else position

    def openai(self, rows):
        if self.body.get("encoding_format") == "base64":
            rows = [base64.b64encode(struct.pack(f"<{len(r)}f", *r)).decode() for r in rows]
            if self.name == "base64_nan":
                rows[0] = base64.b64encode(struct.pack("<f", math.nan) * self.state.dimension).decode()
        data = [{"object": "embedding", "index": self.index(i), "embedding": r} for i, r in enumerate(rows)]
        for element in data:
            if element["index"] is None:
                del element["index"]
        if self.name == "shuffled":
            random.Random(len(data)).shuffle(data)
        tokens = sum(len(t.split()) for t in self.texts)
        return {"object": "list", "data": data, "model": self.body["model"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    def reply(self):
        rows = self.vectors()
        if self.name == "shuffled" and self.dialect != "openai":
            rows.reverse()
        if self.dialect == "openai":
            whole = self.openai(rows)
        elif self.dialect == "cohere":
            whole = {"id": "0", "embeddings": {"float": rows}, "texts": self.texts, "response_type": "embeddings_by_type",
                     "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": len(self.texts)}}}
        elif self.dialect == "ollama":
            whole = {"model": self.body["model"], "embeddings": rows, "total_duration": 14143917, "load_duration": 1019500,
                     "prompt_eval_count": len(self.texts)}
        else:
            whole = rows
        text = json.dumps(whole)
        if self.name in NUMBERS:
            number = json.dumps(rows[0][0])
            text = text.replace(number, NUMBERS[self.name], 1)
        return text.encode()


ERROR = {"status": "it is told to", "too_many": "batch size {} > maximum allowed batch size",
         "too_many_400": "invalid request: total number of texts must be at most {}",
         "too_long": "This model's maximum context length is {} tokens, however you requested more. Please reduce your prompt.",
         "refuse": "the input is not acceptable", "refuse_all": "'$.input' is invalid", "quota": "You exceeded your current quota, please check your plan."}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    under_way = False

    def log_message(self, *_):
        pass

    def answered(self):
        """A call counts as under way until its answer begins: a client may make the next one as soon as it has it."""
        if self.under_way:
            self.under_way = False
            with self.server.state.lock:
                self.server.state.at_once -= 1

    def send(self, status, body, headers=()):
        self.answered()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error_body(self, status, kind, argument="", headers=(), code="it_is_told_to"):
        message = ERROR.get(kind, "it is told to").format(argument)
        self.send(status, json.dumps({"error": {"message": message, "type": code, "code": code}}).encode(), headers)

    def do_GET(self):
        if self.path == "/state":
            self.send(200, json.dumps(self.server.state.report()).encode())
        elif self.path == "/texts":
            with self.server.state.lock:
                self.send(200, json.dumps(self.server.state.answered).encode())
        else:
            self.send_error_body(404, "status")

    def do_POST(self):
        state = self.server.state
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, behaviour = self.path, None
        if path == "/control":
            state.control(json.loads(body))
            return self.send(200, b"{}")
        if path.startswith("/behave/"):
            behaviour, _, path = path[len("/behave/"):].partition("/")
            behaviour = behaviour.replace("~", ":", 1)
            path = "/" + path
        dialect = DIALECTS.get(path)
        if dialect is None:
            return self.send_error_body(404, "status")
        call = Call(dialect, json.loads(body), behaviour or state.next_behaviour(), state)
        self.under_way = True
        with state.lock:
            state.calls += 1
            state.asked += len(call.texts)
            state.largest = max(state.largest, len(call.texts))
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
            state.by_path[path] += 1
            state.behaviours[call.name] += 1
            state.input_types[call.body.get("input_type", "")] += 1
            sent = self.headers.get("Authorization", "")
            state.keys["none" if sent == "" else "right" if sent == f"Bearer {state.key}" else "wrong"] += 1
        try:
            if state.key and sent != f"Bearer {state.key}":
                return self.send_error_body(401, "status")
            return self.behave(call)
        finally:
            self.answered()

    def behave(self, call):
        special = getattr(self, "do_" + call.name, None)
        if special is None:
            return self.do_ok(call)
        return special(call)

    # --- as documented, or nearly ----------------------------------------------------------------------------------------

    def do_ok(self, call):
        reply = call.reply()
        with self.server.state.lock:
            self.server.state.answered.update(call.texts)
            if call.body.get("input_type") != "search_query":
                self.server.state.documents.update(call.texts)
        self.send(200, reply)

    def do_slow(self, call):
        time.sleep(int(call.argument) / 1000)
        self.do_ok(call)

    # --- as if it were another network -----------------------------------------------------------------------------------

    def abandon(self):
        self.close_connection = True

    def do_hang(self, _call):
        self.abandon()
        self.rfile.read(1)  # until the client has had enough

    def do_close(self, _call):
        self.abandon()

    def do_cut(self, call):
        reply = call.reply()
        self.abandon()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply[: len(reply) // 2])

    def do_drip(self, call):
        reply = call.reply()
        self.abandon()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        for i in range(len(reply)):
            self.wfile.write(reply[i : i + 1])
            time.sleep(int(call.argument or 1000) / 1000)

    def stream(self, status, first):
        """A gigabyte, or as much of it as the client takes."""
        self.abandon()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(first)
        part = b"0.0123456789," * 80660  # a megabyte
        for _ in range(1024):
            self.wfile.write(part)

    def do_huge(self, _call):
        self.stream(200, b'{"data":[{"index":0,"embedding":[')

    def do_huge_error(self, _call):
        self.stream(500, b'{"error":"')

    def do_huge_header(self, call):
        self.send(200, call.reply(), [("X-Long", "x" * 60000)] * 17)

    # --- errors ----------------------------------------------------------------------------------------------------------

    def do_status(self, call):
        self.send_error_body(int(call.argument), "status")

    def do_throttle(self, call):
        self.send_error_body(429, "status", headers=[("Retry-After", call.argument)])

    def do_throttle_date(self, call):
        self.send_error_body(429, "status", headers=[("Retry-After", email.utils.formatdate(time.time() + int(call.argument), usegmt=True))])

    def do_throttle_ms(self, call):
        self.send_error_body(429, "status", headers=[("Retry-After", "3600"), ("retry-after-ms", call.argument)])

    def do_throttle_bare(self, _call):
        self.send_error_body(429, "status")

    def do_unavailable(self, call):
        self.send_error_body(503, "status", headers=[("Retry-After", call.argument)])

    def do_quota(self, _call):
        self.send_error_body(429, "quota", code="insufficient_quota")

    def do_echo_key(self, _call):
        self.send(401, json.dumps({"error": {"message": f"Incorrect API key provided: {self.headers.get('Authorization')}"}}).encode())

    def do_redirect(self, call):
        self.send(307, b"{}", [("Location", call.argument or f"http://localhost:{self.server.port}/v1/embeddings")])

    def do_too_many(self, call):
        if len(call.texts) > int(call.argument):
            return self.send_error_body(413, "too_many", str(len(call.texts)))
        return self.do_ok(call)

    def do_too_many_400(self, call):
        if len(call.texts) > int(call.argument):
            return self.send_error_body(400, "too_many_400", call.argument)
        return self.do_ok(call)

    def do_too_long(self, call):
        if max(len(t.encode()) for t in call.texts) > int(call.argument):
            return self.send_error_body(400, "too_long", "8192")
        return self.do_ok(call)

    def do_refuse(self, call):
        if any(call.argument in t for t in call.texts):
            return self.send_error_body(422, "refuse")
        return self.do_ok(call)

    def do_refuse_all(self, _call):
        self.send_error_body(400, "refuse_all")

    # --- what is no answer -----------------------------------------------------------------------------------------------

    def do_deep(self, _call):
        self.send(200, b"[" * 100000 + b"]" * 100000)

    def do_html(self, _call):
        self.send(200, b"<html><body>Sign in to the hotel's network</body></html>")

    def do_empty(self, _call):
        self.send(200, b"")

    def do_error_200(self, _call):
        self.send_error_body(200, "status")


class Provider(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port=0, dimension=64, model="fake", key="", behave="ok", tls=None):
        self.state = State(dimension, model, key, behave)
        self.context = None
        if tls:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(*tls)
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def port(self):
        return self.server_address[1]

    def finish_request(self, request, client_address):
        """In the connection's own thread: a handshake that hangs holds nobody else up."""
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, *_):
        pass  # clients that go away are what this is for

    def start(self):
        """For a test that has it in its own process."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--dimension", type=int, default=64)
    p.add_argument("--model", default="fake")
    p.add_argument("--key", default="")
    p.add_argument("--tls", nargs=2)
    p.add_argument("--behave", default="ok")
    o = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    provider = Provider(o.port, o.dimension, o.model, o.key, o.behave, o.tls).start()
    print("ready", provider.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
