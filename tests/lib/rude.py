#!/usr/bin/env python3
"""Clients as nobody wishes them: slow, greedy, broken off in the middle. Each way is a generator that prepares up to its yield and then goes on until it is told to stop.

    Rude(port, library).start("idle_connections") ... .stop()      in a process of its own, at a low priority
    rude.py PORT WAY                                               until it is killed; prints "ready" when it has prepared

They come from an address of their own, so that what nginx allows one address is not taken from those who are measured. Standard library only; HTTP/2 is made by hand.
"""

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import ssl
import struct
import sys
import time
import traceback

ADDRESS = "127.0.0.2"
GIB = 1 << 30
PIECE = b"x" * 65536
AT_ONCE = 128  # requests of one address, as nginx's site is installed
SLOW, IDLE, HANDSHAKES, READERS = 200, 1000, 500, 100
LINE_BYTES_S = 125_000_000  # 1 Gbit/s
TIMEOUT_S = 10
TICK_S = 1.0  # between two bytes of who is slow
PAUSE_S = 0.01  # between two who are broken off


class Visitor:
    """What all ways share: where to, whether to stop, what was done and what came of it."""

    def __init__(self, port, library="none"):
        self.port, self.library = port, library
        self.stopping = multiprocessing.get_context("fork").Event()
        self.done = 0
        self.statuses = {}
        self.wrong = []

    def wait(self, seconds):
        return self.stopping.wait(seconds)

    def context(self, protocol="http/1.1"):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        made.set_alpn_protocols([protocol])
        return made

    def tcp(self, receive_buffer=None):
        s = socket.socket()
        s.settimeout(TIMEOUT_S)
        if receive_buffer is not None:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.bind((ADDRESS, 0))
        s.connect(("127.0.0.1", self.port))
        return s

    def tls(self, context, receive_buffer=None):
        return context.wrap_socket(self.tcp(receive_buffer))

    def many(self, count, head=b""):
        """So many connections, each with that much sent."""
        context, made = self.context(), []
        for _ in range(count):
            if self.stopping.is_set():
                break
            made.append(self.tls(context))
            made[-1].sendall(head)
        self.done += len(made)
        return made

    def head(self, method, tail, *lines):
        return ("\r\n".join(["%s /v1/libraries/%s%s HTTP/1.1" % (method, self.library, tail), "Host: localhost", "Content-Type: %s" % ("application/x-ndjson" if "stream" in tail else "application/json"), *lines, "", ""])).encode()

    def tick(self, open_ones, data):
        """A little on each, once a second. nginx may end them."""
        while not self.wait(TICK_S):
            for s in open_ones:
                with contextlib.suppress(OSError):
                    s.sendall(data)

    def status_of(self, s):
        """Of the reply; None where the connection ended instead. On a socket that does not wait: SSLWantReadError where there is neither."""
        try:
            line = s.recv(65536).split(b"\r\n")[0].split(b" ")
        except ssl.SSLWantReadError:
            raise
        except OSError:
            return None
        if len(line) < 2:
            return None
        status = int(line[1])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        return status

    def pace(self, sent, began):
        """As fast as the line, not as fast as this machine: without one in between, a client that sends takes as much of its cores as the server that reads."""
        self.wait(max(0.0, sent / LINE_BYTES_S - (time.monotonic() - began)))

    def is_over(self, s, expected):
        """Is there a reply already, or the end of the connection? (What can be read may also be TLS's own.)"""
        s.settimeout(0)
        try:
            status = self.status_of(s)
        except ssl.SSLWantReadError:
            return False
        finally:
            s.settimeout(TIMEOUT_S)
        if status not in expected:
            self.wrong.append("answered with %s instead of one of %s" % (status, expected))
        return True


def reset(s):
    """RST instead of FIN."""
    with contextlib.suppress(OSError):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


# --- those who hold something ---


def slow_bodies(v):
    """Much of a body, as nginx keeps it in memory, and then one byte a second. More of them than one address may have under way."""
    head = ["Content-Length: 250000"]
    held = [s for tail in ("/search", "/documents") for s in v.many(SLOW // 2, v.head("POST", tail, *head) + b" " * 200000)]
    yield
    v.tick(held, b" ")
    going = [s for s in held if not v.is_over(s, (429, None))]
    if len(going) > AT_ONCE:
        v.wrong.append("%d bodies of one address were under way at once" % len(going))


def slow_heads(v):
    """One byte of a header a second."""
    held = v.many(SLOW, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    yield
    v.tick(held, b"a")


def idle_connections(v):
    held = v.many(IDLE)
    yield
    v.tick(held, b"")


def handshakes_left(v):
    """A ClientHello, whole or half of one, and nothing more."""
    hello = client_hello(v.context())

    def begin(i):
        s = v.tcp()
        s.sendall(hello[: len(hello) // (1 + i % 2)])
        if i % 2 == 0:
            s.recv(1)  # the server has done its part
        v.done += 1
        return s

    held = [begin(i) for i in range(HANDSHAKES)]
    yield
    while not v.wait(PAUSE_S):
        held.append(begin(len(held)))
        held.pop(0).close()


def client_hello(context):
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(into, out, server_hostname="localhost").do_handshake()
    return out.read()


def slow_readers(v):
    """Large replies, of which one byte a second is taken: from the socket, since TLS would read on by itself."""
    context, held = v.context(), []
    for _ in range(READERS):
        held.append(v.tls(context, receive_buffer=4096))
        held[-1].sendall(v.head("GET", "/documents?limit=1000"))
        v.done += 1
    yield
    while not v.wait(TICK_S):
        for s in held:
            with contextlib.suppress(OSError):
                os.read(s.fileno(), 1)


# --- those who send much ---


def huge(v, chunked):
    """A body of 1 GiB, and on with it although the refusal is there. When it came, and after how many bytes."""
    s = v.tls(v.context())
    answered_after = None
    s.sendall(v.head("POST", "/documents", "Transfer-Encoding: chunked" if chunked else "Content-Length: %d" % GIB))
    piece = b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    sent, began = 0, time.monotonic()
    with contextlib.suppress(OSError):
        while sent < GIB and not v.stopping.is_set():
            s.sendall(piece)
            sent += len(PIECE)
            v.pace(sent, began)
            if answered_after is None and v.is_over(s, (413, 429, None)):
                answered_after = sent
    s.close()
    v.done += 1
    return answered_after


def huge_bodies(v):
    yield
    while not v.wait(PAUSE_S):
        refused_early(v, huge(v, chunked=False), 16 << 20)  # what fits into the buffers on the way


def huge_chunked(v):
    yield
    while not v.wait(PAUSE_S):
        refused_early(v, huge(v, chunked=True), 64 << 20)  # max_body_bytes, and the buffers


def refused_early(v, after, most):
    if after is not None and after > most:
        v.wrong.append("1 GiB was refused after %d bytes" % after)


def huge_line(v):
    """A line of a stream, up to 1 GiB: skipped. The next one is taken."""
    s = v.tls(v.context())
    yield
    s.sendall(v.head("POST", "/documents/stream?on_conflict=replace", "Transfer-Encoding: chunked"))
    sent, began = 0, time.monotonic()
    while sent < GIB and not v.stopping.is_set():
        s.sendall(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
        sent += len(PIECE)
        v.pace(sent, began)
    last = b'\n{"id":"after","title":"t","texts":["after a long line"]}\n'
    s.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))
    reply = b""
    while b"summary" not in reply and (got := s.recv(65536)):
        reply += got
    s.close()
    v.done += 1
    if b'"document_id":"after"' not in reply or (sent > 64 << 20 and b"PayloadTooLargeError" not in reply):
        v.wrong.append("after a line of %d bytes: %r" % (sent, reply[:1000]))


def header_floods(v):
    """More than the buffers for headers take, and a request line that is as long."""
    yield
    context, turn = v.context(), 0
    while not v.wait(PAUSE_S):
        turn += 1
        s = v.tls(context)
        flood = b"GET /" + b"a" * 200000 if turn % 2 else v.head("GET", "")[:-2] + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 8000) for i in range(50))
        with contextlib.suppress(OSError):
            s.sendall(flood)
        if v.status_of(s) not in (400, None):
            v.wrong.append("a flood of headers was answered with %s" % v.statuses)
        s.close()
        v.done += 1


# --- those who break off ---


def resets_in_bodies(v):
    yield
    context = v.context()
    tails = ["/documents", "/search", "/documents/stream"]
    while not v.wait(PAUSE_S):
        s = v.tls(context)
        s.sendall(v.head("POST", tails[v.done % 3], "Content-Length: 100000") + b'{"title":')
        reset(s)
        v.done += 1


def resets_in_replies(v):
    yield
    context = v.context()
    while not v.wait(PAUSE_S):
        s = v.tls(context, receive_buffer=4096)
        s.sendall(v.head("GET", ("/documents?limit=1000", "/export")[v.done % 2]))
        with contextlib.suppress(OSError):
            s.recv(1)
        reset(s)
        v.done += 1


DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
CANCEL = 8
STREAMS_AT_ONCE, CONNECTION_S = 20, 0.01


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"")


def search_of(stream, path, body):
    """A search as HPACK writes it with the static table and nothing else."""

    def text(value):
        return bytes([len(value)]) + value

    block = b"\x83\x87\x04" + text(path) + b"\x01" + text(b"localhost") + b"\x0f\x10" + text(b"application/json")
    return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, body)


def reset_of(stream):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


def head_of_reply(s):
    """The HEADERS frame that comes."""
    with s.makefile("rb") as f:
        while True:
            head = f.read(9)
            payload = f.read(int.from_bytes(head[:3], "big"))
            if len(head) < 9 or head[3] == HEADERS:
                return payload


def rapid_resets(v):
    """HTTP/2: a search is begun and reset, some two thousand times a second. One that is not reset is answered."""
    context = v.context("h2")
    path, body = b"/v1/libraries/%s/search" % v.library.encode(), b'{"query":"amber and cedar","k":10}'
    with v.tls(context) as s:
        s.sendall(PREFACE + search_of(1, path, body))
        reply = head_of_reply(s)
    if b"\x88" not in reply[:2]:  # 200, in the static table
        v.wrong.append("a search by HTTP/2 was answered with %r" % reply)
    yield
    while not v.stopping.is_set():
        s = v.tls(context)
        if s.selected_alpn_protocol() != "h2":
            v.wrong.append("HTTP/2 is not spoken")
            return
        with contextlib.suppress(OSError):
            s.sendall(PREFACE)
            stream = 1
            while stream < 1 << 30 and not v.wait(CONNECTION_S):
                s.sendall(b"".join(search_of(i, path, body) + reset_of(i) for i in range(stream, stream + 2 * STREAMS_AT_ONCE, 2)))
                stream += 2 * STREAMS_AT_ONCE
                v.done += STREAMS_AT_ONCE
                while s.pending() or select.select([s], [], [], 0)[0]:
                    if not s.recv(65536):
                        raise OSError("GOAWAY")
        s.close()


WAYS = {f.__name__: f for f in (slow_bodies, slow_heads, idle_connections, handshakes_left, slow_readers, huge_bodies, huge_chunked, huge_line, header_floods,
                                resets_in_bodies, resets_in_replies, rapid_resets)}


class Rude:
    """A way in a process of its own."""

    def __init__(self, port, library):
        self.visitor = Visitor(port, library)
        self.process = self.pipe = None

    def start(self, way):
        """Returns when it has prepared, and goes on."""
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=self.work, args=(way, theirs))
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def work(self, way, pipe):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.nice(10)
        v = self.visitor
        try:
            going = WAYS[way](v)
            next(going)
            pipe.send("ready")
            next(going, None)
        except Exception:
            v.wrong.append(traceback.format_exc())
            pipe.send("ready")
        pipe.send((v.done, v.statuses, v.wrong))

    def stop(self):
        """(how often, statuses seen, what was wrong)"""
        self.visitor.stopping.set()
        try:
            found = self.pipe.recv()
            while found == "ready":
                found = self.pipe.recv()
        except EOFError:
            found = (0, {}, ["it ended without a report"])
        self.process.join()
        self.pipe.close()
        return found


def main():
    visitor = Visitor(int(sys.argv[1]))
    going = WAYS[sys.argv[2]](visitor)
    next(going)
    print("ready", flush=True)
    next(going, None)


if __name__ == "__main__":
    main()
