#!/usr/bin/env python3
"""processes.py - tests of quired and its workers without nginx, over its own socket.

    processes.py QUIRED [TEST...]       runs the named tests, or all; prints TAP; exit 0 when all passed

Each test starts its own server in a temporary directory and ends it.
"""
import os
import pwd
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

import fcgi_client as fcgi
import server
from fcgi_client import Gone, request
from server import WAIT, Failure, Server, check, kill, sanitized, state_of, until
from successions import *  # noqa: F401,F403 - its tests
from writing import *  # noqa: F401,F403 - its tests

# --- the tests ---


def test_restart_keeps_everything():
    """what was acknowledged is there after TERM, after QUIT, and after kill -9 of the supervisor"""
    with Server() as s:
        library = s.library()
        count = 0
        for sig, code in ((signal.SIGTERM, 0), (signal.SIGQUIT, 0), (signal.SIGKILL, -9), (signal.SIGINT, 0)):
            for _ in range(10):
                check(s.put(library, "words %d" % count).status == 201)
                count += 1
            workers = s.workers()
            check(s.stop(sig) == code, "exit code", s.process.returncode)
            until(lambda: all(state_of(w) in (None, "Z") for w in workers), "the workers die with the supervisor", 5)
            check(sig == signal.SIGKILL or not os.path.exists(s.socket), "the socket is left behind")
            check(sig == signal.SIGKILL or not os.path.exists(s.dir + "/run/quired.pid"), "the pid file is left behind")
            s.start()
            check(s.request("GET", "/v1/libraries").json()[0]["num_documents"] == count)
            until(lambda: len(s.search(library, k=100).json()["results"]) == count, "all can be found")


def test_killed_workers_come_back():
    """a worker killed in the middle of work is back within 100 ms, and writes go on"""
    with Server("workers = 3") as s:
        library = s.library()
        acknowledged, stop = [], threading.Event()

        def write():
            n = 0
            while not stop.is_set():
                text = "%d words %d" % (threading.get_ident(), n)
                try:
                    r = s.put(library, text)
                    check(r.status == 201, r.status, r.body)
                    acknowledged.append(text)
                except Gone:
                    pass
                n += 1

        threads = [threading.Thread(target=write) for _ in range(3)]
        for t in threads:
            t.start()
        times = []
        for _ in range(40):
            before = s.workers()
            victim = random.choice(before)
            begun = time.monotonic()
            kill(victim, signal.SIGKILL)
            until(lambda: state_of(victim) in (None, "Z"), "death")
            until(lambda: "X" if len([w for w in s.workers() if w not in before]) > 0 else None, "a successor")
            times.append(time.monotonic() - begun)
            time.sleep(0.02)
        stop.set()
        for t in threads:
            t.join()
        check(len(acknowledged) > 50, "few writes:", len(acknowledged))
        documents = s.request("GET", "/v1/libraries/%s/documents?limit=1000" % library).json()
        check(len(documents) >= min(1000, len(acknowledged)))
        served = [int(w.split(" ms after the death")[0].split()[-1]) for w in s.log().splitlines() if "ms after the death" in w]
        check(len(served) >= 20, "replacements of workers that had served:", len(served))
        print("# served after death, ms: median %d, longest %d of %d" % (sorted(served)[len(served) // 2], max(served), len(served)))
        # The median: on a busy machine some wait long for a processor.
        check(sorted(served)[len(served) // 2] <= (1000 if sanitized(s.process.pid) else 100), "too late:", sorted(served)[-5:])
        check(s.stop() == 0)


def test_stopped_worker_holds_nobody():
    """SIGSTOP of a worker inside a request: writes go on, and the watchdog ends it"""
    with Server("workers = 2", "watchdog_request_ms = 1000", "write_deadline_ms = 900", "min_lsn_wait_ms = 500") as s:
        library = s.library()
        busy = fcgi.connect(s.socket)
        # Half a request: its worker sits in it.
        busy.sendall(fcgi.begin() + fcgi.stream(fcgi.PARAMS, fcgi.params("POST", "/v1/libraries", b"x" * 100, None)))
        time.sleep(0.1)
        for w in s.workers():
            kill(w, signal.SIGSTOP)
        until(lambda: s.log().count("it worked on one request") >= 1, "the watchdog")
        for w in s.workers():
            kill(w, signal.SIGCONT)
        for _ in range(20):
            check(s.put(library).status == 201)
        busy.close()
        check(s.stop() == 0)


def test_silent_client_parks_nobody():
    """clients that connect and send nothing, or one byte, or no FastCGI at all, cost a worker little"""
    with Server("workers = 1", "peer_timeout_ms = 300") as s:
        silent = [fcgi.connect(s.socket) for _ in range(3)]
        begun = time.monotonic()
        check(s.request("GET", "/health").status == 200)
        check(time.monotonic() - begun < 5, "waited for silent clients")
        worker = s.workers()
        for junk in (b"\x01", b"GET / HTTP/1.1\r\n\r\n", os.urandom(200), struct.pack(">BBHHBB", 1, 9, 0, 17, 0, 0) + b"\x0f\x00FCGI_MPXS_CONNS",
                     fcgi.begin(role=2), fcgi.begin() + b"\x01\x04\x00\x01\xff\xff\x00\x00" + b"\xff" * 70000,
                     fcgi.begin() + fcgi.record(fcgi.PARAMS, b"\x7f")):
            c = fcgi.connect(s.socket)
            try:
                c.sendall(junk)
                c.shutdown(socket.SHUT_WR)
                while c.recv(4096):
                    pass
            except OSError:
                pass
            c.close()
            check(s.request("GET", "/health").status == 200)
        check(len(worker) == 1)
        for c in silent:
            c.close()
        check(s.stop() == 0)


def test_keep_alive_is_not_taken():
    """FCGI_KEEP_CONN: one request, then the connection is closed"""
    with Server("workers = 1") as s:
        c = fcgi.connect(s.socket)
        c.sendall(fcgi.begin(keep=True) + fcgi.stream(fcgi.PARAMS, fcgi.params("GET", "/health", None, None)) + fcgi.stream(fcgi.STDIN, b""))
        check(fcgi.parse(fcgi.read_reply(c)).status == 200)
        try:
            check(c.recv(1) == b"")
        except ConnectionResetError:
            pass
        c.close()
        check(s.request("GET", "/health").status == 200)


def test_bodies():
    """a body cut short, one longer than announced, one over the limit, one that nobody wants"""
    with Server("workers = 1", "max_body_bytes = 64K", "max_text_bytes = 32K", "peer_timeout_ms = 500") as s:
        library = s.library()
        uri = "/v1/libraries/%s/documents" % library
        for length in ("77", "1", "x", "-3", "9999999999999999999999"):
            r = s.request("POST", uri, b"{}", {"CONTENT_LENGTH": length})
            check(r.status in (400, 413), length, r.status, r.body)
            check(r.json()["error_type"] in ("MalformedRequestError", "PayloadTooLargeError"), r.body)
        r = s.request("POST", uri, b"x" * 70000)
        check(r.status == 413 and r.json()["error_type"] == "PayloadTooLargeError", r.status)
        r = s.request("POST", uri, b"x" * 70000, {"CONTENT_LENGTH": ""})
        check(r.status == 413, r.status, r.body)
        r = s.request("POST", "/nowhere", b"x" * 60000)
        check(r.status == 404, r.status)
        r = s.request("HEAD", "/health")
        check(r.status == 200 and r.body == b"" and int(r.headers["content-length"]) > 0)
        check(s.put(library).status == 201)


def test_stop_waits_for_requests():
    """TERM while requests are under way: each is answered, none is cut off; later ones find nobody"""
    with Server("workers = 2") as s:
        library = s.library()
        outcomes, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    r = s.search(library)
                    outcomes.append(r.status)
                except Gone as e:
                    if "bytes" in str(e) or "reset" in str(e).lower():
                        outcomes.append("cut off: %s" % e)
                    return

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for t in threads:
            t.start()
        until(lambda: len(outcomes) > 200, "requests")
        check(s.stop() == 0)
        stop.set()
        for t in threads:
            t.join()
        bad = [o for o in outcomes if o != 200]
        check(not bad, len(bad), "of", len(outcomes), "went wrong:", bad[:3])


def test_stop_does_not_wait_for_silent_clients():
    """TERM with clients that connected and say nothing, or stopped in the middle of a head"""
    with Server("workers = 2") as s:
        a = fcgi.connect(s.socket)
        b = fcgi.connect(s.socket)
        b.sendall(fcgi.begin() + b"\x01\x04\x00")
        time.sleep(0.1)
        begun = time.monotonic()
        check(s.stop() == 0)
        took = time.monotonic() - begun
        check(took < 5, "took", took)
        a.close()
        b.close()


def test_reload():
    """HUP: new workers first, no request lost; a bad file changes nothing; start keys wait"""
    with Server("workers = 3", "log_level = info") as s:
        library = s.library()
        outcomes, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    outcomes.append(s.search(library).status)
                except Gone as e:
                    outcomes.append(str(e))

        t = threading.Thread(target=ask)
        t.start()
        before = set(s.workers())
        s.change("log_level = debug", "workers = 5", "snapshot_keep = 7")
        s.process.send_signal(signal.SIGHUP)
        until(lambda: not before & set(s.workers()), "all workers are new")
        until(lambda: len(s.workers()) == 3, "as many as before")
        check("configuration reloaded" in s.log() and "next start: workers" in s.log(), s.log()[-500:])
        after = set(s.workers())
        s.change("nonsense = 1")
        s.process.send_signal(signal.SIGHUP)
        until(lambda: "nonsense" in s.log(), "the complaint")
        check(after == set(s.workers()))
        stop.set()
        t.join()
        check(set(outcomes) == {200}, [o for o in outcomes if o != 200][:3])
        check(s.stop() == 0)


def test_log_reopened():
    """USR1: supervisor and workers go on in a new file"""
    with Server() as s:
        before = set(s.workers())
        os.rename(s.log_path, s.log_path + ".1")
        s.process.send_signal(signal.SIGUSR1)
        until(lambda: os.path.exists(s.log_path), "a new log")
        until(lambda: not before & set(s.workers()), "workers with the new log")
        until(lambda: "quired[" in s.log(), "lines in it")
        for w in s.workers():
            check(os.readlink("/proc/%d/fd/2" % w) == s.log_path, os.readlink("/proc/%d/fd/2" % w))


def test_heritage():
    """a worker has the descriptors of the heritage, no environment, no core, no new privileges"""
    with Server(environment={"SECRET": "x"}) as s:
        def settled(w):
            with open("/proc/%d/comm" % w) as f:
                return f.read().strip() == "quired"

        for w in s.workers():
            until(lambda: settled(w), "the worker's name")
            fds = {int(f) for f in os.listdir("/proc/%d/fd" % w)}
            check({0, 1, 2, 3, 4, 5, 6, 7} <= fds, fds)
            links = {f: os.readlink("/proc/%d/fd/%d" % (w, f)) for f in fds}
            check(not any("LOCK" in v or "wal" in v for v in links.values()), links)
            with open("/proc/%d/environ" % w, "rb") as f:
                check(f.read() == b"")
            with open("/proc/%d/status" % w) as f:
                status = f.read()
                check("NoNewPrivs:\t1" in status)
                # Sanitizers need what the sandbox takes away.
                check("Seccomp:\t2" in status or sanitized(w), status)
            with open("/proc/%d/maps" % w) as f:
                check(not [m for m in f if "/vectors/" in m and "w" in m.split()[1]], "an arena is mapped for writing")


def test_supervisor_death_takes_workers():
    """kill -9 of the supervisor: no worker is left"""
    with Server("workers = 4") as s:
        until(lambda: len(s.workers()) == 4, "all workers") # it is ready with the first
        workers = s.workers()
        s.process.kill()
        s.process.wait()
        until(lambda: all(state_of(w) in (None, "Z") for w in workers), "the workers' death", 2)


def test_second_server_is_refused():
    """the same data directory: 75; the same socket: 75; the first one goes on"""
    with Server() as s:
        second = subprocess.run([server.QUIRED, "-c", s.conf, "--set", "run_dir=" + s.dir + "/run2", "--set", "log_file="], capture_output=True, timeout=WAIT)
        check(second.returncode == 75, second.returncode, second.stderr)
        third = subprocess.run([server.QUIRED, "-c", s.conf, "--set", "data_dir=" + s.dir + "/data2", "--set", "log_file=", "--set",
                                "pid_file=" + s.dir + "/pid2"], capture_output=True, timeout=WAIT)
        check(third.returncode == 75, third.returncode, third.stderr)
        check(s.request("GET", "/readiness").status == 200)
        check(open(s.dir + "/run/quired.pid").read().strip() == str(s.process.pid))


def test_failed_sync_is_not_acknowledged():
    """a failing fdatasync: no 2xx, the server ends with 74, and what was acknowledged before is there at the next start"""
    with Server(start=False) as s:
        flag = s.dir + "/fault"
        s.environment["QUIRE_IO_FAULT"] = "fdatasync:errno=EIO,path=wal_,file=" + flag
        s.start()
        library = s.library()
        for i in range(5):
            check(s.put(library).status == 201)
        open(flag, "w").close()
        try:
            r = s.put(library)
            check(r.status in (500, 503), r.status)
        except Gone:
            pass
        check(s.process.wait(WAIT) == 74, s.process.returncode)
        check("NEVER RUN IT LIKE THIS" in s.log())
        os.unlink(flag)
        del s.environment["QUIRE_IO_FAULT"]
        s.start()
        check(s.request("GET", "/v1/libraries").json()[0]["num_documents"] in (5, 6))


def test_full_disk():
    """ENOSPC: 507, searches go on, and writes again once there is room"""
    with Server(start=False) as s:
        flag = s.dir + "/fault"
        s.environment["QUIRE_IO_FAULT"] = "write:errno=ENOSPC,path=wal_,file=%s;fallocate:errno=ENOSPC,file=%s" % (flag, flag)
        s.start()
        library = s.library()
        check(s.put(library).status == 201)
        open(flag, "w").close()
        for _ in range(3):
            r = s.put(library)
            check(r.status == 507 and r.json()["error_type"] == "InsufficientStorageError", r.status, r.body)
            check(len(s.search(library).json()["results"]) == 1)
        os.unlink(flag)
        check(s.put(library).status == 201)
        until(lambda: len(s.search(library).json()["results"]) == 2, "both")
        check(s.stop() == 0)


def test_worker_that_cannot_start():
    """workers that die at their start are tried again after longer and longer pauses, and serve when they can"""
    with Server(start=False) as s:
        flag = s.dir + "/fault"
        s.environment["QUIRE_IO_FAULT"] = "open:errno=EMFILE,path=snapshots,file=" + flag
        s.start()
        open(flag, "w").close()
        for w in s.workers():
            kill(w, signal.SIGKILL)
        time.sleep(1)
        tries = s.log().count("before it was ready")
        check(2 <= tries <= 40, tries)
        os.unlink(flag)
        s.await_ready()
        check(s.stop() == 0)


def test_full_queue():
    """more writes than may wait: 503 with Retry-After for some, all others are done"""
    with Server("workers = 8", "queue_max_ops = 2", environment={"QUIRE_IO_FAULT": "fdatasync:delay=50"}) as s:
        library = s.library()
        statuses = []

        def write():
            for _ in range(6):
                r = s.put(library)
                statuses.append(r.status)
                if r.status == 503:
                    check(r.json()["error_type"] == "OverloadedError" and "retry-after" in r.headers, r.body)

        threads = [threading.Thread(target=write) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        check(set(statuses) == {201, 503}, set(statuses))
        check(s.request("GET", "/v1/libraries").json()[0]["num_documents"] == statuses.count(201))
        check(s.stop() == 0)


def test_supervisor_without_descriptors():
    """EMFILE where a worker is to be started: it tries again after longer and longer pauses, and the others serve meanwhile"""
    with Server("workers = 2") as s:
        library = s.library()
        until(lambda: len(s.workers()) == 2, "all workers")
        pid = s.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        kill(s.workers()[0], signal.SIGKILL)
        until(lambda: s.log().count("cannot make a channel") >= 3, "failing tries")
        for _ in range(20):
            check(s.search(library).status == 200)
        tries = s.log().count("cannot make a channel")
        check(tries <= 40, tries)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        until(lambda: len(s.workers()) == 2, "the successor")
        check(s.put(library).status == 201)
        check(s.stop() == 0)


def test_fork_that_fails():
    """EAGAIN and ENOMEM from fork: tried again after longer and longer pauses, and the other workers serve meanwhile"""
    if shutil.which("strace") is None:
        print("# needs strace")
        return
    with Server("workers = 2") as s:
        library = s.library()
        for error in ("EAGAIN", "ENOMEM"):
            until(lambda: len(s.workers()) == 2, "all workers")
            failed = s.log().count("cannot start a worker")
            tracer = subprocess.Popen(["strace", "-qq", "-e", "trace=clone,clone3,fork,vfork", "-e", "inject=clone,clone3,fork,vfork:error=" + error, "-p",
                                       str(s.process.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

            def attached():
                with open("/proc/%d/status" % s.process.pid) as f:
                    return tracer.poll() is not None or "TracerPid:\t%d\n" % tracer.pid in f.read()

            until(attached, "strace")
            if tracer.poll() is not None:
                print("# strace may not trace here")
                return
            try:
                kill(s.workers()[0], signal.SIGKILL)
                until(lambda: s.log().count("cannot start a worker") >= failed + 3, "failing tries")
                for _ in range(20):
                    check(s.search(library).status == 200)
                tries = s.log().count("cannot start a worker") - failed
                check(tries <= 40, tries)
            finally:
                tracer.terminate()
                tracer.wait()
        until(lambda: len(s.workers()) == 2, "the successor")
        check(s.put(library).status == 201)
        check(s.stop() == 0)


def test_worker_without_descriptors():
    """EMFILE where a worker accepts: it pauses instead of spinning, and serves who waits once there are descriptors again"""
    with Server("workers = 1") as s:
        library = s.library()
        worker = s.workers()[0]
        before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, before[1]))
        replies = []
        t = threading.Thread(target=lambda: replies.append(s.search(library).status))
        t.start()

        def ticks():
            with open("/proc/%d/stat" % worker) as f:
                return sum(int(x) for x in f.read().rpartition(")")[2].split()[11:13])

        used = ticks()
        time.sleep(1)
        used = ticks() - used
        check(not replies and used <= os.sysconf("SC_CLK_TCK") // 10, replies, used)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
        t.join()
        check(replies == [200], replies)
        check(s.workers() == [worker])
        check(s.stop() == 0)


def test_write_deadline():
    """a commit that takes longer than write_deadline_ms: 503, and the next write is not answered with the late result"""
    with Server("workers = 1", "write_deadline_ms = 1500", start=False) as s:
        flag = s.dir + "/fault"
        s.environment["QUIRE_IO_FAULT"] = "fdatasync:delay=3000,file=" + flag
        s.start()
        library = s.library()
        open(flag, "w").close()
        r = s.request("POST", "/v1/libraries/%s/documents" % library, {"id": "slow", "title": "t", "texts": ["x"]})
        check(r.status == 503, r.status, r.body)
        os.unlink(flag)
        until(lambda: s.request("GET", "/v1/libraries/%s/documents/slow" % library).status == 200, "the late write", 20)
        r = s.request("POST", "/v1/libraries/%s/documents" % library, {"id": "next", "title": "t", "texts": ["x"]})
        check(r.status == 201 and r.json()["id"] == "next", r.status, r.body)


def test_rebuild():
    """an index is rebuilt with other settings while writes go on; cancelled; cut off by a stop and taken up again"""
    with Server("workers = 3", "log_level = info") as s:
        library = s.library()
        documents = [{"title": "t", "texts": ["words %d of %d" % (i, j) for i in range(20)]} for j in range(100)]
        r = s.request("POST", "/v1/libraries/%s/documents/batch" % library, {"documents": documents})
        check(r.status == 200 and r.json()["failed"] == 0, r.status, r.body[:300])
        stop, failures = threading.Event(), []

        def write():
            while not stop.wait(0.01):
                r = s.put(library, "more words %d" % time.monotonic_ns())
                if r.status != 201:
                    failures.append(r.body)

        t = threading.Thread(target=write)
        t.start()

        def rebuild(body):
            r = s.request("POST", "/v1/libraries/%s/index/rebuild" % library, body)
            check(r.status == 202, r.status, r.body)
            return r.json()["id"]

        def state(task):
            return s.request("GET", "/v1/tasks/" + task).json()["state"]

        for body in ({"index_config": {"M": 8}}, {"index_type": "flat"}, {"index_type": "hnsw", "index_config": {"M": 24}}):
            task = rebuild(body)
            until(lambda: state(task) in ("succeeded", "failed"), "the rebuild")
            check(state(task) == "succeeded", s.request("GET", "/v1/tasks/" + task).body)
            check(len(s.search(library, "words 3 of 7").json()["results"]) == 10)
        task = rebuild({"index_config": {"M": 32, "ef_construction": 400}})
        r = s.request("POST", "/v1/libraries/%s/index/rebuild" % library, {})
        check(r.status in (202, 409), r.status, r.body)
        r = s.request("DELETE", "/v1/tasks/" + task)
        check(r.status in (200, 202, 204, 409), r.status, r.body)
        until(lambda: state(task) in ("cancelled", "succeeded"), "the end of the cancelled task")
        until(lambda: not [x for x in s.request("GET", "/v1/tasks").json() if x["state"] in ("pending", "running")], "quiet")
        task = rebuild({"index_config": {"M": 40, "ef_construction": 500}})
        stop.set()
        t.join()
        check(not failures, failures[:2])
        check(s.stop() == 0)
        s.start()
        until(lambda: s.request("GET", "/v1/libraries/%s/index/statistics" % library).json().get("M", 40) == 40
              and not [x for x in s.request("GET", "/v1/tasks").json() if x["state"] in ("pending", "running")], "the rebuild is taken up")
        # The model knows words, not their order.
        nearest = s.search(library, "words 3 of 7").json()["results"][0]["chunk"]["text"]
        check(sorted(nearest.split()) == sorted("words 3 of 7".split()), nearest)
        check(s.stop() == 0)


def test_snapshots():
    """by count of library operations, by command, and at the stop; none when nothing has changed"""
    with Server("snapshot_every_ops = 3", "snapshot_interval = 0") as s:
        def count():
            return len([n for n in os.listdir(s.dir + "/data/snapshots") if n.endswith(".tar.zst")])

        library = s.library()
        time.sleep(0.2)
        check(count() == 0)
        s.library(name="b")
        s.library(name="c")
        until(lambda: count() == 1, "a snapshot after three operations")
        check(s.put(library).status == 201)
        r = s.request("POST", "/v1/snapshots", {})
        check(r.status == 202, r.status, r.body)
        task = r.json()["id"]
        until(lambda: s.request("GET", "/v1/tasks/" + task).json()["state"] == "succeeded", "the task")
        check(s.stop() == 0)
        check("nothing has changed" in s.log(), s.log()[-1500:])
        names = sorted(os.listdir(s.dir + "/data/snapshots"))
        s.start()
        check(s.stop() == 0)
        check(names == sorted(os.listdir(s.dir + "/data/snapshots")), "a snapshot of nothing new")


def test_interval_snapshot():
    """after snapshot_interval seconds with something new"""
    with Server("snapshot_every_ops = 0", "snapshot_interval = 1") as s:
        s.library()
        until(lambda: [n for n in os.listdir(s.dir + "/data/snapshots") if n.endswith(".tar.zst")], "a snapshot", 10)
        until(lambda: s.metric("quire_snapshots_taken_total") == 1, "its count")
        time.sleep(1.5)
        check(s.metric("quire_snapshots_taken_total") == 1, "a snapshot of nothing new")


def test_notify():
    """what systemd hears: READY, STATUS, RELOADING, WATCHDOG, STOPPING"""
    with Server(start=False) as s:
        path = s.dir + "/notify"
        inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        inbox.bind(path)
        inbox.settimeout(0.01)
        said = []

        def hear():
            try:
                while True:
                    said.append(inbox.recv(4096).decode())
            except socket.timeout:
                return "\n".join(said)

        s.environment["NOTIFY_SOCKET"] = path
        s.environment["WATCHDOG_USEC"] = "400000"
        s.start()
        until(lambda: "READY=1" in hear(), "READY")
        check(said[0].startswith("EXTEND_TIMEOUT_USEC="), said)
        until(lambda: hear().count("WATCHDOG=1") >= 3, "WATCHDOG")
        said.clear()
        s.change("log_level = warn")
        s.process.send_signal(signal.SIGHUP)
        until(lambda: "READY=1" in hear(), "READY after RELOADING")
        words = "\n".join(said)
        check("RELOADING=1" in words and "MONOTONIC_USEC=" in words and words.index("RELOADING") < words.index("READY"), words)
        said.clear()
        check(s.stop() == 0)
        check("STOPPING=1" in hear(), said)
        inbox.close()


def test_stop_while_recovering():
    """TERM before the libraries are back: the server ends at once, and the next start has everything"""
    with Server(start=False) as s:
        s.start()
        library = s.library()
        check(s.put(library).status == 201)
        check(s.stop(signal.SIGQUIT) == 0)
        slow = dict(s.environment, QUIRE_IO_FAULT="mkdir:delay=20000,path=wal")
        p = subprocess.Popen([server.QUIRED, "-c", s.conf], env=slow, stdin=subprocess.DEVNULL)
        until(lambda: s.log().count("restoring from") == 2, "recovery has begun")
        time.sleep(0.1)
        begun = time.monotonic()
        p.terminate()
        check(p.wait(WAIT) == 0 and time.monotonic() - begun < 2)
        s.start()
        check(s.request("GET", "/v1/libraries").json()[0]["num_documents"] == 1)


def test_stop_while_workers_start():
    """a stop while most workers are still starting waits for none in vain"""
    with Server("workers = 48", "stop_timeout_ms = 600000", start=False) as s:
        for i in range(12):
            s.start()
            time.sleep(0.003 * i)
            check(s.stop() == 0)


def test_peers():
    """socket_peers: who is not named is not served (root and the server's own user always are)"""
    if os.geteuid() != 0:
        print("# needs root")
        return
    with Server("socket_peers = daemon") as s:
        check(s.request("GET", "/health").status == 200)
        os.chmod(s.dir, 0o755)
        os.chmod(s.socket, 0o666)
        code = ("import os,sys; sys.path.insert(0, %r)\nimport fcgi_client\nos.setgid(%d); os.setuid(%d)\n"
                "print(fcgi_client.request(%r, 'GET', '/health').status)")
        here = os.path.dirname(os.path.abspath(__file__))
        for user, served in (("daemon", True), ("nobody", False)):
            who = pwd.getpwnam(user)
            p = subprocess.run([sys.executable, "-B", "-c", code % (here, who.pw_gid, who.pw_uid, s.socket)], capture_output=True, text=True)
            check((p.stdout.strip() == "200") == served, user, p.stdout, p.stderr)
        check("may not connect" in s.log())


TESTS = {name[5:]: f for name, f in sorted(globals().items()) if name.startswith("test_")}


def main():
    if len(sys.argv) < 2:
        print(__doc__.strip(), file=sys.stderr)
        return 64
    server.QUIRED = os.path.abspath(sys.argv[1])
    names = sys.argv[2:] or list(TESTS)
    failed = 0
    print("1..%d" % len(names))
    for n, name in enumerate(names, 1):
        begun = time.monotonic()
        try:
            TESTS[name]()
            print("ok %d - %s: %s (%.1f s)" % (n, name, TESTS[name].__doc__, time.monotonic() - begun))
        except Exception as e:
            failed += 1
            if not isinstance(e, Failure):
                print("\n".join("# " + line for line in traceback.format_exc().splitlines()))
            print("# %s" % e)
            print("not ok %d - %s: %s" % (n, name, TESTS[name].__doc__))
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
