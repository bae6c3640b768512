#!/usr/bin/env python3
"""Clients that are slow: slow_clients.py PORT CERTIFICATE COUNT

Opens COUNT TLS connections, sends the head of a POST and one byte of its body a second, until it is killed or 60 seconds are over.
"""

import socket
import ssl
import sys
import time

port, certificate, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context(cafile=certificate)
open_ones = []
for _ in range(count):
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost")
    s.sendall(b"POST /v1/libraries HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    open_ones.append(s)
for _ in range(60):
    time.sleep(1)
    for s in open_ones:
        try:
            s.sendall(b" ")
        except OSError:
            pass
