#!/usr/bin/env python3
"""s3_proxy.py - a proxy in front of the tests' storage that does to requests and replies what networks and overloaded storages do.

    s3_proxy.py --upstream HOST:PORT --rules FILE --log FILE

prints the port it listens on, then serves until it is ended. FILE of rules holds lines "TIMES FAULT METHOD PATTERN"; it may be replaced at any time. A request whose method
is METHOD ('*': any) and whose path with its query has PATTERN (a regular expression) gets FAULT, TIMES times. Faults:

    status:CODE:NAME   answered with that status and <Code>NAME</Code>; the body is read first
    early:CODE:NAME    the same before the body was read, and the connection is closed
    reset              the connection is reset in the middle of the request's body (or before the reply)
    lost               the storage does what it is asked, and the connection is reset instead of its reply
    truncate           the reply ends half-way
    garble             the reply's body is cut in half, with a length that says so
    flip               a bit in the middle of the reply's body is another
    drip               the reply comes a byte every half second
    stall              the request is read and never answered
    etag               the reply has an ETag that is wrong
    noetag             the reply has none
    error200           answered with 200 and an <Error> of InternalError

Every request is a line of the log: "METHOD PATH STATUS FAULT".
"""
import argparse
import http.client
import re
import socket
import socketserver
import struct
import sys
import threading
import time

lock = threading.Lock()
used = {}


def choose(rules, method, path):
    with lock:
        try:
            lines = open(rules, encoding="utf-8").read().split("\n")
        except FileNotFoundError:
            return ""
        for number, line in enumerate(lines):
            words = line.split(None, 3)
            if len(words) < 4 or (words[2] not in ("*", method)) or not re.search(words[3], path):
                continue
            key = (number, line)
            if used.get(key, 0) < int(words[0]):
                used[key] = used.get(key, 0) + 1
                return words[1]
    return ""


def error_body(name):
    return ("<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>as the test wants it</Message></Error>" % name).encode()


class Handler(socketserver.StreamRequestHandler):
    timeout = 120

    def reset(self):
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()
        self.gone = True

    def answer(self, status, headers, body):
        head = "HTTP/1.1 %d x\r\n" % status
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                head += "%s: %s\r\n" % (name, value)
        return head, body

    def send(self, head, body, length=None):
        self.wfile.write((head + "Content-Length: %d\r\n\r\n" % (len(body) if length is None else length)).encode() + body)
        self.wfile.flush()

    def note(self, text):
        with lock, open(self.server.log, "a", encoding="utf-8") as log:
            log.write(text + "\n")

    def handle(self):
        self.gone = False
        while not self.gone and self.one():
            pass

    def finish(self):
        if not self.gone:
            super().finish()

    def one(self):
        line = self.rfile.readline(65536).decode("latin-1").strip()
        if not line:
            return False
        method, path, _ = line.split(" ", 2)
        headers = {}
        while True:
            field = self.rfile.readline(65536).decode("latin-1").strip()
            if not field:
                break
            name, value = field.split(":", 1)
            headers[name.strip()] = value.strip()
        length = int(next((v for k, v in headers.items() if k.lower() == "content-length"), "0"))
        fault = choose(self.server.rules, method, path)
        kind, *words = fault.split(":")
        if kind == "early":
            self.note("%s %s %s %s" % (method, path, words[0], fault))
            self.send("HTTP/1.1 %s x\r\nConnection: close\r\n" % words[0], error_body(words[1]))
            return False
        if kind == "reset":
            self.rfile.read(length // 2)
            self.note("%s %s - %s" % (method, path, fault))
            self.reset()
            return False
        body = self.rfile.read(length)
        if len(body) < length:
            return False
        if kind == "stall":
            self.note("%s %s - %s" % (method, path, fault))
            self.rfile.read(1)
            return False
        if kind in ("status", "error200"):
            status, name = (words[0], words[1]) if kind == "status" else ("200", "InternalError")
            self.note("%s %s %s %s" % (method, path, status, fault))
            self.send("HTTP/1.1 %s x\r\n" % status, error_body(name))
            return True
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name.lower() not in ("connection", "expect"):
                upstream.putheader(name, value)
        upstream.endheaders(body if length else None)
        reply = upstream.getresponse()
        content = reply.read()
        status, fields = reply.status, reply.getheaders()
        size = int(reply.getheader("Content-Length", "0")) if method == "HEAD" else len(content)
        upstream.close()
        self.note("%s %s %d %s" % (method, path, status, fault))
        if kind == "lost":
            self.reset()
            return False
        if kind in ("etag", "noetag"):
            fields = [(n, v) for n, v in fields if n.lower() != "etag"]
            if kind == "etag":
                fields.append(("ETag", '"00000000000000000000000000000000"'))
        head, content = self.answer(status, fields, content)
        if kind == "truncate":
            self.send(head, content[: len(content) // 2], len(content))
            self.reset()
            return False
        if kind == "garble":
            content = content[: len(content) // 2]
        if kind == "flip" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        if kind == "drip":
            self.send(head, b"", size)
            for i in range(len(content)):
                time.sleep(0.5)
                try:
                    self.wfile.write(content[i : i + 1])
                except OSError:
                    return False
            return True
        self.send(head, content, size if method == "HEAD" else None)
        return True


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass  # a client that went away is what the tests are about


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--rules", required=True)
    parser.add_argument("--log", required=True)
    options = parser.parse_args()
    host, port = options.upstream.rsplit(":", 1)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.upstream = (host, int(port))
        server.rules = options.rules
        server.log = options.log
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
