"""Tests of servers that follow one another: upgrades, sockets that somebody holds, data of a newer program. processes.py runs them."""

import os
import shutil
import signal
import struct
import subprocess
import threading
import time

import server
import socket_activation
from fcgi_client import Gone, request
from server import WAIT, Server, check, until


class Load:
    """Clients that search and write until told to stop, and what they were answered."""

    def __init__(self, server, library, writers=2, searchers=2):
        self.server, self.library = server, library
        self.outcomes, self.written = [], []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(i,)) for i in range(writers)] + [threading.Thread(target=self.search) for _ in range(searchers)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join()

    def write(self, who):
        number = 0
        while not self.stopping.is_set():
            number += 1
            id = "w%d-%d" % (who, number)
            if self.ask(self.server.write_socket, "/v1/libraries/%s/documents" % self.library, {"id": id, "title": "t", "texts": ["words %s" % id]}) == 201:
                self.written.append(id)

    def search(self):
        while not self.stopping.is_set():
            self.ask(self.server.socket, "/v1/libraries/%s/search" % self.library, {"query": "some words"})

    def ask(self, path, uri, body):
        try:
            status = request(path, "POST", uri, body).status
        except Gone as e:
            status = str(e)
        self.outcomes.append(status)
        return status

    def check(self):
        check(set(self.outcomes) == {200, 201}, [o for o in self.outcomes if o not in (200, 201)][:3])
        documents = self.server.request("GET", "/v1/libraries/" + self.library).json()["num_documents"]
        check(documents == len(self.written), documents, len(self.written))


def test_upgrade():
    """USR2: the program that lies there now takes over in the same process, and no request fails; one that says no leaves the old one serving"""
    built = server.QUIRED
    with Server("workers = 3", "log_level = info", start=False) as s:
        mine = os.path.join(s.dir, "quired")
        shutil.copy(built, mine)
        server.QUIRED = mine
        try:
            s.start()
        finally:
            server.QUIRED = built
        library = s.library()
        with Load(s, library) as load:
            for times in range(1, 4):
                shutil.copy(built, mine + ".new")
                os.rename(mine + ".new", mine)
                s.process.send_signal(signal.SIGUSR2)
                until(lambda: s.log().count(" ready,") > times, "the next server")
                # The file before it was held open until then, so the new one has another number.
                runs = os.stat("/proc/%d/exe" % s.process.pid)
                check(os.path.samestat(runs, os.stat(mine)), "it is not the program that lies there now")
            for broken in ("#!/bin/sh\necho no such format; exit 65\n", "no program"):
                with open(mine + ".new", "w") as f:
                    f.write(broken)
                os.chmod(mine + ".new", 0o755)
                os.rename(mine + ".new", mine)
                refusals = s.log().count("not upgraded, this server goes on")
                s.process.send_signal(signal.SIGUSR2)
                until(lambda: s.log().count("not upgraded, this server goes on") > refusals, "a refusal")
            check("no such format" in s.log(), s.log()[-500:])
        load.check()
        check(open(s.dir + "/run/quired.pid").read().strip() == str(s.process.pid))
        check(s.stop() == 0)
        check(os.listdir(s.dir + "/run") == [], os.listdir(s.dir + "/run"))


def test_stop_during_an_upgrade():
    """TERM while a successor is awaited: the stop wins, and the next start has everything"""
    with Server("workers = 2", "log_level = info", environment={"QUIRE_IO_FAULT": "fsync:delay=300,path=vectors"}) as s:
        library = s.library()
        check(s.put(library).status == 201)
        s.process.send_signal(signal.SIGUSR2)
        until(lambda: "the check is passed" in s.log(), "the check")
        check(s.stop() == 0)
        check(s.log().count(" starts, pid") == 1)
        s.start()
        check(s.request("GET", "/v1/libraries").json()[0]["num_documents"] == 1)


def test_held_sockets():
    """sockets that somebody else holds, as systemd does: stops and starts behind them fail no request, and they stay; a wrong one is refused"""
    with Server("workers = 3", start=False) as s:
        os.mkdir(s.dir + "/run")
        held = [socket_activation.listen(p) for p in (s.write_socket, s.socket)]
        s.start_with(held)
        s.await_ready()
        library = s.library()
        with Load(s, library) as load:
            for number in range(4):
                time.sleep(0.1)
                check(s.stop(signal.SIGTERM if number % 2 else signal.SIGINT) == 0)
                time.sleep(0.05)
                s.start_with(held)
            s.await_ready()
        load.check()
        check(s.stop() == 0)
        check(os.path.exists(s.socket) and os.path.exists(s.write_socket), "a socket that is held was removed")
        wrong = socket_activation.listen(s.dir + "/run/wrong.sock")
        s.start_with(held + [wrong])
        check(s.process.wait(WAIT) == 78 and "wrong.sock" in s.log(), s.process.returncode, s.log()[-500:])
        for h in held + [wrong]:
            h.close()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_newer_data():
    """arenas of a newer program: -t and a start say so and end with 65, and nothing is changed"""
    with Server(start=False) as s:
        s.start()
        check(s.put(s.library()).status == 201)
        check(s.stop() == 0)
        test = [server.QUIRED, "-c", s.conf, "--set", "log_file=", "-t"]
        done = subprocess.run(test, capture_output=True, text=True, timeout=WAIT)
        check(done.returncode == 0 and "configuration ok" in done.stdout and "data ok" in done.stdout, done)
        path = s.dir + "/data/vectors/checkpoint"
        with open(path, "rb") as f:
            good = f.read()
        head = good[:8] + struct.pack("<I", 99)
        newer = head + good[12:-4]
        newer += struct.pack("<I", crc32c(newer))
        with open(path, "wb") as f:
            f.write(newer)
        for command in (test, test[:-1]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)
            check(done.returncode == 65 and "vectors/checkpoint has format 99" in done.stderr, done)
        with open(path, "rb") as f:
            check(f.read() == newer)
        with open(path, "wb") as f:
            f.write(good)
        s.start()
        check(s.request("GET", "/v1/libraries").json()[0]["num_documents"] == 1)
