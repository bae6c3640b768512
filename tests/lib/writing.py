"""Tests of writes that wait: with places and without, several in one worker's hand. processes.py runs them."""

import os
import signal
import threading
import time

import fcgi_client as fcgi
from fcgi_client import Gone, request
from server import Server, check, until


def test_writes_wait_apart():
    """more writes than places while the disk is slow: every search is answered, every write has its answer, those without a turn in time a 503"""
    with Server("workers = 3", "write_workers = 2", "writes_in_hand = 1", "write_deadline_ms = 1500", "watchdog_request_ms = 60000", start=False) as s:
        flag = s.dir + "/fault"
        s.environment["QUIRE_IO_FAULT"] = "fdatasync:delay=1000,file=" + flag
        s.start()
        library = s.library()
        check(s.put(library).status == 201)
        open(flag, "w").close()
        replies, searched = [], []
        stop = threading.Event()

        def write(number):
            replies.append((number, request(s.write_socket, "POST", "/v1/libraries/%s/documents" % library, {"id": "w%d" % number, "title": "t", "texts": ["x"]},
                                            {"QUIRE_SENT_AT": "%.3f" % time.time()})))

        def search():
            while not stop.is_set():
                searched.append(s.search(library).status)

        threads = [threading.Thread(target=write, args=(i,)) for i in range(12)]
        searcher = threading.Thread(target=search)
        for t in threads + [searcher]:
            t.start()
        until(lambda: s.metric("quire_workers_writing") == 2, "both places are taken")
        for t in threads:
            t.join()
        stop.set()
        searcher.join()
        os.unlink(flag)
        statuses = [r.status for _, r in replies]
        check(set(statuses) == {201, 503} and set(searched) == {200}, statuses, set(searched))
        for _, r in replies:
            check(r.status == 201 or (r.json()["error_type"] == "OverloadedError" and "retry-after" in r.headers), r.body)
        overdue = [n for n, r in replies if r.status == 503 and "it was not done" in r.json()["detail"]]
        check(overdue and s.metric("quire_writes_overdue_total") == len(overdue), overdue, s.metric("quire_writes_overdue_total"))
        check(s.request("PUT", "/v1/libraries/%s/documents/last" % library, {"title": "t", "texts": ["x"]}).status in (200, 201))
        documents = {d["id"] for d in s.request("GET", "/v1/libraries/%s/documents?limit=1000" % library).json()}
        check(not [n for n in overdue if "w%d" % n in documents], "a write that was said not to be done is there")
        check(all("w%d" % n in documents for n, r in replies if r.status == 201), "an acknowledged one is not")
        check(s.metric("quire_workers_writing") == 0)
        check(s.stop() == 0)


def writes_at_once(s, library, bodies):
    """Sends each body by a connection of its own; a list that fills with statuses, or what was raised, and the threads."""
    outcomes = []

    def write(body):
        try:
            outcomes.append(request(s.write_socket, "POST", "/v1/libraries/%s/documents" % library, body).status)
        except Gone as e:
            outcomes.append(str(e))

    threads = [threading.Thread(target=write, args=(b,)) for b in bodies]
    for t in threads:
        t.start()
    return outcomes, threads


def documents(count, text="x"):
    return [{"id": "%s%d" % (text[0], i), "title": "t", "texts": [text]} for i in range(count)]


def test_writes_in_one_hand():
    """one worker takes many writes while the disk is slow; long ones and who sends half a request are served alone, and hold nobody up; a search is answered meanwhile"""
    with Server("workers = 2", "write_workers = 1", "writes_in_hand = 16", "peer_timeout_ms = 400", start=False) as s:
        flag = s.dir + "/fault"
        s.environment["QUIRE_IO_FAULT"] = "fdatasync:delay=300,file=" + flag
        s.start()
        library = s.library()
        check(s.put(library).status == 201)
        commits = s.metric("quire_commits_total")
        open(flag, "w").close()
        outcomes, threads = writes_at_once(s, library, documents(12))
        check(s.search(library).status == 200)
        for t in threads:
            t.join()
        check(outcomes == [201] * 12 and s.metric("quire_commits_total") - commits <= 6, outcomes, s.metric("quire_commits_total") - commits)
        silent = [fcgi.connect(s.write_socket) for _ in range(2)]
        half = fcgi.connect(s.write_socket)
        half.sendall(fcgi.begin() + b"\x01\x04\x00\x01\x00\xff\x00\x00")
        outcomes, threads = writes_at_once(s, library, documents(4, "y") + documents(2, "z" * 30000) + documents(4, "v"))
        for t in threads:
            t.join()
        check(outcomes == [201] * 10, outcomes)
        for c in silent + [half]:
            c.close()
        os.unlink(flag)
        check(len(s.request("GET", "/v1/libraries/%s/documents?limit=100" % library).json()) == 23)
        check(s.metric("quire_workers_writing") == 0)
        check(s.stop() == 0)


def test_in_hand_when_told_to_go():
    """HUP while one worker has several writes in hand: all are answered; kill -9: none of them is acknowledged falsely, and others go on"""
    with Server("workers = 2", "write_workers = 1", "writes_in_hand = 16", "log_level = info", start=False) as s:
        flag = s.dir + "/fault"
        s.environment["QUIRE_IO_FAULT"] = "fdatasync:delay=500,file=" + flag
        s.start()
        library = s.library()
        open(flag, "w").close()
        before = set(s.workers())
        outcomes, threads = writes_at_once(s, library, documents(8))
        until(lambda: s.metric("quire_workers_writing") == 1, "somebody writes")
        s.change("log_level = debug")
        s.process.send_signal(signal.SIGHUP)
        until(lambda: not before & set(s.workers()), "all workers are new")
        for t in threads:
            t.join()
        check(outcomes == [201] * 8, outcomes)
        outcomes, threads = writes_at_once(s, library, documents(8, "y"))
        until(lambda: s.metric("quire_workers_writing") == 1, "somebody writes")
        for pid in s.workers():
            os.kill(pid, signal.SIGKILL)
        for t in threads:
            t.join()
        os.unlink(flag)
        check(s.put(library).status == 201)
        there = len([d for d in s.request("GET", "/v1/libraries/%s/documents?limit=100" % library).json() if d["id"].startswith("y")])
        check(outcomes.count(201) <= there <= 8 and len(outcomes) == 8, outcomes, there)
        until(lambda: s.metric("quire_workers_writing") == 0, "the place is free")
        check(s.stop() == 0)
