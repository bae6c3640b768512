#!/usr/bin/env python3
"""kill -9 of random workers every 50 ms under mixed load, and SIGSTOP of some.

    kill_workers.py [--short] [--count N] [--seed N]

Writes go on, no reply is wrong, searches fail only while their own worker dies and nginx finds no other, nothing acknowledged is lost or doubled, the lock and the
places are never stuck, the supervisor stays. The worst time is the longest in which no write was acknowledged and no worker stood stopped: those are the watchdog's
to end, after times that are set here. Then the time from a kill to a serving successor is measured in quiet.
"""

import contextlib
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client_process import ClientProcess  # noqa: E402
from instance import Client, Instance, Oracle, Writer  # noqa: E402
from report import Campaign  # noqa: E402
from running import living, state_of  # noqa: E402
from searching import Searcher, known_texts, outcome  # noqa: E402

EVERY_S = 0.05
STOP_EVERY = 20  # one of so many is stopped instead of killed
STUCK_S = 10  # far beyond every watchdog
WRITERS, SEARCHERS, KNOWN, RESPAWNS = 3, 3, 200, 10
SETTINGS = ("workers=6", "watchdog_pin_ms=500", "write_deadline_ms=1000", "min_lsn_wait_ms=500", "watchdog_request_ms=1500", "watchdog_lock_ms=50", "log_level=warn")


def harm(campaign, instance, supervisor):
    """Kills or stops one every EVERY_S; returns when a worker was stopped and when it had ended, for each. One that is stopped while idle holds nothing, so no watchdog
    ends it: like all others it is killed some time, else all would stand in the end."""
    stopped = {}  # pid -> when
    spans = []
    for turn in range(1, campaign.count + 1):
        time.sleep(EVERY_S)
        for pid in [p for p in stopped if not living(p)]:
            spans.append((stopped.pop(pid), time.monotonic()))
        workers = [w for w in instance.children(supervisor) if turn % STOP_EVERY or w not in stopped]
        if not workers:
            continue
        victim = campaign.rng.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL if turn % STOP_EVERY else signal.SIGSTOP)
            campaign.injections += 1
            if turn % STOP_EVERY == 0:
                stopped[victim] = time.monotonic()
    for pid, since in stopped.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        spans.append((since, time.monotonic()))
    return spans


def stalls(acks, spans, began, ended):
    """(all, those in which nobody stood stopped), in seconds, the longest last."""
    times = sorted([ended] + [a for a in acks if began < a < ended])
    times = times if len(times) > 1 else [began, ended] # from the first on: writers begin with a handshake
    gaps = list(zip(times, times[1:]))
    free = [b - a for a, b in gaps if not [1 for since, until in spans if since < b and a < until]]
    return sorted(b - a for a, b in gaps), sorted(free) or [0.0]


def respawn_times(instance, supervisor):
    """From the kill of one worker to a successor that sleeps, waiting for work."""
    times = []
    for _ in range(RESPAWNS):
        before = set(instance.children(supervisor))
        began = time.monotonic()
        os.kill(min(before), signal.SIGKILL)
        while time.monotonic() - began < STUCK_S:
            fresh = set(instance.children(supervisor)) - before
            if fresh and all(waits(p) for p in fresh):
                break
            time.sleep(0.001)
        times.append(time.monotonic() - began)
    return sorted(times)


def waits(pid):
    with contextlib.suppress(OSError):
        with open("/proc/%d/comm" % pid) as f: # the supervisor's name until it has named itself
            return f.read().strip() == "quired" and state_of(pid) == "S"
    return False


def serves_again(campaign, instance, library, known):
    """Nothing is stuck: the lock is taken for a write and for searches, and all places are free but that of who asks."""
    client = Client(instance, STUCK_S)
    for i in range(20):
        status, reply = client.request("POST", "/v1/libraries/%s/documents" % library, {"title": "after", "texts": ["after %d" % i]})
        if status != 201:
            campaign.wrong("a write afterwards: status %s %s" % (status, reply))
    searcher = Searcher(instance, library, known, 0)
    for _ in range(20):
        searcher.search(client)
    for text in searcher.failures + searcher.wrong:
        campaign.wrong("afterwards: " + text)
    writing = client.metric("quire_workers_writing")
    if writing != 0:
        campaign.wrong("%s workers have a place for writes, and nobody writes" % writing)
    client.close()


def written(writers):
    """Of the one writer of a process: what its oracle knows, when writes were acknowledged, what it did not expect."""
    (writer,) = writers
    return (writer.oracle.possible, writer.oracle.former, writer.oracle.acknowledged), writer.acks, writer.unexpected


def run(campaign, instance):
    instance.start()
    oracle = Oracle()
    client = Client(instance)
    library = client.library("workers")
    fixed, known = known_texts(instance, "fixed", KNOWN, campaign.rng)
    supervisor = instance.supervisor()
    writing = [ClientProcess([Writer(instance, library, Oracle(), "w%d" % i, campaign.rng.random())], written) for i in range(WRITERS)]
    searching = ClientProcess([Searcher(instance, fixed, known, campaign.rng.random()) for _ in range(SEARCHERS)], outcome)
    began = time.monotonic()
    spans = harm(campaign, instance, supervisor)
    ended = time.monotonic()
    acks = []
    for process in writing:
        known_of_one, acks_of_one, unexpected = process.end()
        oracle.merge(*known_of_one)
        acks += acks_of_one
        for text in unexpected:
            campaign.wrong(text)
    found, failed, wrong = searching.end()
    if not living(supervisor) or instance.supervisor() != supervisor:
        campaign.wrong("the supervisor ended")
    for text in wrong:
        campaign.wrong(text)
    every, free = stalls(acks, spans, began, ended)
    if oracle.acknowledged == 0 or not found:
        campaign.wrong("nothing was acknowledged, or nothing found: the test saw nothing")
    if every[-1] > STUCK_S:
        campaign.wrong("no write was acknowledged for %.1f s" % every[-1])
    serves_again(campaign, instance, fixed, known)
    campaign.take(oracle.check(client, library))
    campaign.take(oracle.check_by_search(client, library))
    print("%d writes acknowledged, %d searches answered, %d searches failed" % (
        oracle.acknowledged, len(found), len(failed)))
    print("between acknowledged writes, ms: median %.0f, 99%% %.0f, longest %.0f; longest with no worker stopped %.0f" % (
        1000 * every[len(every) // 2], 1000 * every[len(every) * 99 // 100], 1000 * every[-1], 1000 * free[-1]))
    respawns = respawn_times(instance, supervisor)
    print("from a kill to a successor that waits for work, ms: median %.0f, longest %.0f" % (1000 * respawns[len(respawns) // 2], 1000 * respawns[-1]))
    client.close()
    if instance.stop() != 0:
        campaign.wrong("the stop was not in order")
    return 1000 * free[-1]


def main():
    campaign = Campaign("kill-workers", short=120, long=12000, doc=__doc__)
    with Instance(*SETTINGS) as instance:
        worst_ms = run(campaign, instance)
        if campaign.faults:
            instance.keep()
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
