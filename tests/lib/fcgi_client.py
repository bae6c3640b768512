"""fcgi_client.py - a FastCGI client over a unix socket: speaks to quired's workers without nginx, one request a connection, as nginx does.

As a module: request(socket_path, method, uri, body, headers) -> Response. As a program:

    fcgi_client.py SOCKET METHOD URI [BODY]      prints status and body; exit 0 where the status is below 400
"""
import json
import socket
import struct
import sys

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)
RESPONDER = 1


class Response:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # names in lower case
        self.body = body

    def json(self):
        return json.loads(self.body)


class Gone(Exception):
    """The connection ended before the reply did: the worker died, or nobody listens."""


def record(kind, content, request_id=1):
    return struct.pack(">BBHHBB", 1, kind, request_id, len(content), 0, 0) + content


def begin(keep=False, role=RESPONDER):
    return record(BEGIN, struct.pack(">HB5x", role, 1 if keep else 0))


def stream(kind, content):
    """Content as records, and the empty one that ends the stream."""
    out = b"".join(record(kind, content[i : i + 65528]) for i in range(0, len(content), 65528))
    return out + record(kind, b"")


def pair(name, value):
    def length(n):
        return struct.pack(">B", n) if n < 128 else struct.pack(">I", n | 0x80000000)

    name, value = name.encode(), value.encode("utf-8", "surrogateescape")
    return length(len(name)) + length(len(value)) + name + value


def params(method, uri, body, headers):
    values = {
        "REQUEST_METHOD": method,
        "REQUEST_URI": uri,
        "QUERY_STRING": uri.partition("?")[2],
        "CONTENT_LENGTH": str(len(body)) if body is not None else "",
        "CONTENT_TYPE": "application/json" if body is not None else "",
        "HTTP_HOST": "localhost",
    }
    values.update(headers or {})
    return b"".join(pair(k, v) for k, v in values.items())


def connect(path, timeout=30):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(timeout)
    try:
        s.connect(path)
    except OSError as e:
        s.close()
        raise Gone(str(e)) from e
    return s


def read_exactly(f, n):
    data = f.read(n)
    if len(data) != n:
        raise Gone("the connection ended after %d of %d bytes" % (len(data), n))
    return data


def read_reply(s):
    """Returns what came on STDOUT, up to the end of the request."""
    out = b""
    with s.makefile("rb") as f:
        while True:
            _, kind, _, length, padding, _ = struct.unpack(">BBHHBB", read_exactly(f, 8))
            content = read_exactly(f, length)
            read_exactly(f, padding)
            if kind == STDOUT:
                out += content
            elif kind == END:
                return out


def parse(reply):
    head, _, body = reply.partition(b"\r\n\r\n")
    headers = {}
    for line in head.split(b"\r\n"):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Response(int(headers.pop("status", "200").split()[0]), headers, body)


def request(path, method, uri, body=None, headers=None, timeout=30):
    """body: bytes, str, or what json.dumps takes; None: none."""
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    s = connect(path, timeout)
    try:
        s.sendall(begin() + stream(PARAMS, params(method, uri, body, headers)) + stream(STDIN, body or b""))
        return parse(read_reply(s))
    except (ConnectionError, BrokenPipeError) as e:
        raise Gone(str(e)) from e
    finally:
        s.close()


def main():
    if len(sys.argv) not in (4, 5):
        print(__doc__.strip(), file=sys.stderr)
        return 64
    r = request(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) == 5 else None)
    print(r.status)
    sys.stdout.write(r.body.decode("utf-8", "replace"))
    return 0 if r.status < 400 else 1


if __name__ == "__main__":
    sys.exit(main())
