#!/usr/bin/env python3
"""Streams of documents over a connection that the test holds in its hands: streaming.py INSTANCE URL LIBRARY CASE

INSTANCE is the directory of scripts/serve. Prints what went wrong and exits 1, or exits 0.
"""

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

instance, url, library, case = sys.argv[1:5]
context = ssl.create_default_context(cafile=os.path.join(instance, "tls", "cert.pem"))
address = urllib.parse.urlparse(url)
WAIT = 30


class Failure(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


class Stream:
    """POST documents/stream with a chunked body, both ways at the caller's pace, from two threads if need be: OpenSSL lets one at a time do something with a
    connection, so nobody waits within it."""

    def __init__(self, query=""):
        raw = socket.create_connection((address.hostname, address.port), WAIT)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self.socket.setblocking(False)
        self.lock = threading.Lock()
        self.patience = WAIT
        head = "POST /v1/libraries/%s/documents/stream?%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._send((head % (library, query)).encode())
        self.raw = b""
        self.text = b""
        self.status = None
        self.complete = False

    def _do(self, what):
        """What `what` gives, once it need not wait."""
        while True:
            with self.lock:
                try:
                    return what()
                except ssl.SSLWantReadError:
                    waits = ([self.socket], [])
                except ssl.SSLWantWriteError:
                    waits = ([], [self.socket])
            if not any(select.select(*waits, [], self.patience)):
                raise TimeoutError

    def _send(self, data):
        left = memoryview(data)
        while left:
            left = left[self._do(lambda: self.socket.send(left[:16384])) :]

    def _receive(self):
        return self._do(lambda: self.socket.recv(65536))

    def send(self, data):
        self._send(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self):
        self._send(b"0\r\n\r\n")

    def close(self):
        """At once, wherever it is."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _until(self, mark):
        while mark not in self.raw:
            data = self._receive()
            if not data:
                return None
            self.raw += data
        got, _, self.raw = self.raw.partition(mark)
        return got

    def _more(self):
        """Another chunk of the reply. False: there is none."""
        if self.status is None:
            head = self._until(b"\r\n\r\n")
            check(head is not None, "no reply")
            self.status = int(head.split(b" ")[1])
            self.head = head.decode()
            if "chunked" not in self.head.lower():
                length = int(next(l.split(":")[1] for l in self.head.splitlines() if l.lower().startswith("content-length")))
                while len(self.raw) < length:
                    self.raw += self._receive()
                self.text, self.complete = self.raw[:length] + b"\n", True
                return True
        if self.complete:
            return False
        size = self._until(b"\r\n")
        if size is None:
            return False
        size = int(size, 16)
        while len(self.raw) < size + 2:
            data = self._receive()
            if not data:
                return False
            self.raw += data
        self.text += self.raw[:size]
        self.raw = self.raw[size + 2 :]
        self.complete = size == 0
        return size > 0

    def line(self):
        """The next line of the reply, parsed; None at its end, be it as it should or not (self.complete)."""
        try:
            while b"\n" not in self.text:
                if not self._more():
                    return None
        except (ConnectionError, ssl.SSLError):
            return None
        got, _, self.text = self.text.partition(b"\n")
        return json.loads(got)

    def lines(self):
        while (line := self.line()) is not None:
            yield line


def document(i, text="some words"):
    return b'{"id":"d%d","title":"t","texts":["%s %d"]}\n' % (i, text.encode(), i)


def get(path):
    with urllib.request.urlopen(url + path, context=context) as r:
        return r.read()


def documents():
    return json.loads(get("/v1/libraries/%s/statistics" % library))["num_documents"]


def metric(name):
    return next(float(l.split()[1]) for l in get("/metrics").decode().splitlines() if l.startswith(name + " "))


def exported():
    return [json.loads(line)["id"] for line in get("/v1/libraries/%s/export" % library).splitlines()]


def until(condition, what):
    deadline = time.monotonic() + WAIT
    while not condition():
        check(time.monotonic() < deadline, "did not happen in time:", what)
        time.sleep(0.02)


def supervisor():
    return int(open(os.path.join(instance, "quired.pid")).read())


def workers():
    return [int(p) for p in subprocess.run(["pgrep", "-P", str(supervisor()), "-x", "quired"], capture_output=True, text=True).stdout.split()]


def feed(stream, count, first=0):
    """Sends from a thread of its own, until it is done or the connection breaks."""

    def run():
        try:
            for i in range(first, count, 100):
                stream.send(b"".join(document(k) for k in range(i, min(i + 100, count))))
            stream.end()
        except OSError:
            pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


# --- the cases ---


def talks_both_ways():
    """A line's result comes before the next line is sent, and it is found by then."""
    s = Stream()
    for i in range(20):
        s.send(document(i))
        line = s.line()
        check(line == {"line": i + 1, "success": True, "document_id": "d%d" % i}, line)
        check(documents() == i + 1)
    check(metric("quire_streams") == 1)
    s.end()
    summary = s.line()["summary"]
    check(summary["complete"] and summary["successful"] == 20, summary)
    check(s.line() is None and s.complete)
    until(lambda: metric("quire_streams") == 0, "the place is given back")
    check(metric("quire_streamed_documents_total") == 20)


def piece_by_piece():
    """A line of which little comes at a time."""
    s = Stream()
    for byte in document(1):
        s.send(bytes([byte]))
    check(s.line()["success"])
    s.send(b'{"id":"last","title":"t","texts":["no newline"]}')
    s.end()
    check(s.line()["document_id"] == "last")
    check(s.line()["summary"]["complete"])


def cut_in_a_line():
    """The connection breaks within a line: what had a result is there, the rest comes by sending it again, and nothing is there twice."""
    s = Stream()
    s.send(document(0) + document(1))
    check([s.line()["line"], s.line()["line"]] == [1, 2])
    s.send(document(2)[:20])
    s.close()
    until(lambda: metric("quire_streams") == 0, "the end of the stream")
    check(documents() == 2)
    s = Stream("on_conflict=skip")
    s.send(b"".join(document(i) for i in range(5)))
    s.end()
    marks = [line.get("skipped", False) for line in s.lines() if "line" in line]
    check(marks == [True, True, False, False, False], marks)
    check(sorted(exported()) == ["d%d" % i for i in range(5)])


def worker_killed():
    """kill -9 in the middle, again and again."""
    total, sent_again = 6000, 0
    acknowledged = set()
    while True:
        s = Stream("on_conflict=skip")
        feed(s, total)
        summary = None
        for line in s.lines():
            if "summary" in line:
                summary = line["summary"]
                break
            check(line["success"], line)
            acknowledged.add(line["document_id"])
            if sent_again < 4 and len(acknowledged) >= (sent_again + 1) * 1000:
                sent_again += 1
                for pid in workers():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        if summary is not None:
            check(summary["complete"] and summary["failed"] == 0, summary)
            break
        check(not s.complete, "a stream whose worker died looks complete")
        until(ready, "a worker")
        there = set(exported())
        check(acknowledged <= there, "lost:", len(acknowledged - there))
        s.socket.close()
    check(sent_again == 4)
    ids = exported()
    check(len(ids) == total and set(ids) == {"d%d" % i for i in range(total)}, len(ids))


def ready():
    try:
        get("/readiness")
        return True
    except OSError:
        return False


def stopped():
    """Workers are replaced, and the server stops: a clear last line, and what had a result is there."""
    for sig in (signal.SIGUSR1, signal.SIGTERM):
        s = Stream("on_conflict=replace")
        s.send(document(1))
        check(s.line()["success"])
        before = set(workers())
        os.kill(supervisor(), sig)
        last = s.line()
        check(last is not None and not last["summary"]["complete"] and last["summary"]["next_line"] == 2, last)
        check(last["summary"]["error"]["error_type"] == "NotReadyError", last)
        check(s.line() is None and s.complete)
        if sig == signal.SIGUSR1:
            until(lambda: not before & set(workers()), "new workers")


def server_killed():
    """kill -9 of the whole server, and its next start."""
    s = Stream()
    feed(s, 8000)
    acknowledged = []
    for line in s.lines():
        if "summary" in line:  # a worker may outlive the supervisor by a moment, and say so
            check(not line["summary"]["complete"], line)
            break
        acknowledged.append(line["document_id"])
        if len(acknowledged) == 1500:
            os.kill(supervisor(), signal.SIGKILL)
    check(1500 <= len(acknowledged) < 8000, len(acknowledged))
    subprocess.run([os.path.join(os.environ["root"], "scripts", "serve"), instance, "start"], check=True, capture_output=True)
    there = exported()
    check(set(acknowledged) <= set(there), "lost:", set(acknowledged) - set(there))
    check(len(there) == len(set(there)))
    s = Stream("on_conflict=skip&results=failed")
    feed(s, 8000)
    last = [line for line in s.lines()][-1]["summary"]
    check(last["successful"] == 8000 and last["skipped"] == len(there), last)
    check(len(exported()) == 8000)


def silent():
    """Nobody waits for a client that says nothing. One that says little lives."""
    s = Stream()
    for i in range(4):
        s.send(document(i))
        check(s.line()["success"])
        time.sleep(0.5)
    begun = time.monotonic()
    last = s.line()
    check(not last["summary"]["complete"] and last["summary"]["next_line"] == 5, last)
    check(time.monotonic() - begun < WAIT and s.line() is None)
    check(documents() == 4)


def deaf():
    """A client that takes no results is ended, and others do not wait for it."""
    s = Stream()
    s.patience = 2
    wrong = b"wrong\n" * 10000
    blocked = False
    try:
        for _ in range(2000):
            s.send(wrong)
    except OSError:
        blocked = True
    check(blocked, "20,000,000 results went nowhere")
    until(lambda: metric("quire_streams") == 0, "the end of the stream")
    s.socket.close()


def bad_lines():
    s = Stream()
    total = 100000
    sender = threading.Thread(target=lambda: (s.send(b'{"title": 7}\n' * total), s.send(document(1)), s.end()), daemon=True)
    sender.start()
    n = 0
    for line in s.lines():
        if "summary" in line:
            check(line["summary"]["failed"] == total and line["summary"]["successful"] == 1, line)
            break
        n += 1
        check(line["line"] == n and line["success"] == (n == total + 1), line)
    check(n == total + 1, n)


def long_line():
    """Longer than any limit: skipped, without being kept."""
    size = int(os.environ.get("QUIRE_TEST_LONG_LINE", str(48 << 20)))
    s = Stream()
    s.send(document(0))
    check(s.line()["success"])
    piece = b"x" * (1 << 20)
    most = 0
    for _ in range(size >> 20):
        s.send(piece)
        most = max(most, largest())
    s.send(b"\n" + document(1))
    s.end()
    line = s.line()
    check(line["line"] == 2 and line["error"]["error_type"] == "PayloadTooLargeError", line)
    check(s.line()["success"] and s.line()["summary"]["complete"])
    check(most < 400 << 10 or sanitized(), "a worker took %d KiB" % most)


def sanitized():
    with open("/proc/%d/maps" % supervisor()) as f:
        return "libasan" in f.read()


def largest():
    """Private memory of the largest worker, in KiB."""

    def private(pid):
        try:
            with open("/proc/%d/status" % pid) as f:
                return next(int(l.split()[1]) for l in f if l.startswith("RssAnon:"))
        except (OSError, StopIteration):
            return 0

    return max(private(pid) for pid in workers())


def places():
    """Two at a time; searches and single writes go on."""
    held = [Stream(), Stream()]
    for i, s in enumerate(held):
        s.send(document(i))
        check(s.line()["success"])
    third = Stream()
    answer = third.line()
    check(third.status == 503 and answer["error_type"] == "OverloadedError" and "retry-after" in third.head.lower(), third.status, answer)
    try:
        get("/v1/libraries/%s/export" % library)
        check(False, "an export found a place")
    except urllib.error.HTTPError as e:
        check(e.code == 503 and e.headers["Retry-After"], e.code)
    check(documents() == 2)
    held[0].end()
    check(held[0].line()["summary"]["complete"])
    until(lambda: metric("quire_streams") == 1, "a place")
    check(len(exported()) == 2)
    held[1].close()


def export_while_writing():
    """What was there at the begin, and stays, comes once; what is replaced comes; the rest may."""
    s = Stream()
    feed(s, 5000)
    check([line for line in s.lines()][-1]["summary"]["successful"] == 5000)
    writer = Stream("on_conflict=replace&results=failed")
    feed(writer, 8000, first=4000)
    counts = {}
    for _ in range(3):
        counts = {}
        for i in exported():
            counts[i] = counts.get(i, 0) + 1
        for i in range(5000):
            n = counts.get("d%d" % i, 0)
            check(n == 1 or (i >= 4000 and n >= 1), "d%d" % i, "comes", n, "times")
    last = [line for line in writer.lines()][-1]["summary"]
    check(last["successful"] == 4000 and last["replaced"] == 1000, last)
    check(len(exported()) == 8000)


def main():
    cases = {f.__name__: f for f in (talks_both_ways, piece_by_piece, cut_in_a_line, worker_killed, server_killed, stopped, silent, deaf, bad_lines, long_line, places, export_while_writing)}
    try:
        cases[case]()
    except Failure as f:
        print("%s: %s" % (case, f), file=sys.stderr)
        sys.exit(1)


main()
