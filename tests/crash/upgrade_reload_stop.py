#!/usr/bin/env python3
"""Upgrade, reload, and stop and start behind sockets that somebody holds, under load: no request may fail.

    upgrade_reload_stop.py [--short] [--count N] [--seed N]

Behind nginx, with clients that search and clients that write, each with a timeout of 30 s and without a second try. First an instance of scripts/serve, whose
server has its own sockets: scripts/serve DIR upgrade, and SIGHUP. Then the same directory with sockets held by this program, as systemd holds them: SIGTERM and a new
server, upgrades between. N of each. All is told from outside: each request's status, what stands in the end, and how long nobody had an answer.
"""

import collections
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import QUIRED, SERVE, START_LIMIT_S, Client, Instance, Oracle, Writer  # noqa: E402
import socket_activation  # noqa: E402
from report import Campaign  # noqa: E402
from running import wait_gone  # noqa: E402
from searching import Searcher, known_texts  # noqa: E402

WRITERS, SEARCHERS, KNOWN = 3, 3, 300
BETWEEN_S = 0.3
SETTINGS = ("workers=6", "log_level=info", "snapshot_interval=5", "checkpoint_interval=2")


class Careful(Writer):
    """Each answer that is no success is a fault here."""

    def write(self, client, method, tail, body, values):
        acks = len(self.acks)
        super().write(client, method, tail, body, values)
        if len(self.acks) == acks:
            status = [s for s in client.seen if s is None or s >= 300]
            self.unexpected.append("%s documents%s failed: %s" % (method, tail, [client.seen[s] for s in status][:2]))


class Load:
    def __init__(self, campaign, instance, library, oracle, fixed, known, name):
        self.campaign = campaign
        self.writers = [Careful(instance, library, oracle, "%s%d" % (name, i), campaign.rng.random()) for i in range(WRITERS)]
        self.searchers = [Searcher(instance, fixed, known, campaign.rng.random()) for _ in range(SEARCHERS)]
        self.spans = []  # (what, began, ended)

    def __enter__(self):
        for t in self.writers + self.searchers:
            t.start()
        time.sleep(BETWEEN_S)
        return self

    def __exit__(self, *_):
        for t in self.writers + self.searchers:
            t.stopping.set()
        for t in self.writers + self.searchers:
            t.join()
        for text in [x for w in self.writers for x in w.unexpected] + [x for s in self.searchers for x in s.failures + s.wrong]:
            self.campaign.wrong(text)

    def during(self, what, action):
        began = time.monotonic()
        action()
        time.sleep(BETWEEN_S)  # until the gap it makes has an end
        self.spans.append((what, began, time.monotonic()))
        self.campaign.injections += 1

    def gaps(self, add):
        """What was the longest time in which no search, or no write, was answered, while each was done?"""
        for answers in (sorted(a for w in self.writers for a in w.acks), sorted(a for s in self.searchers for a in s.answers)):
            for what, began, ended in self.spans:
                inside = [began] + [a for a in answers if began < a < ended] + [ended]
                add(what, max(b - a for a, b in zip(inside, inside[1:])))


def upgrade(instance):
    done = subprocess.run([SERVE, instance.dir, "upgrade"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError("no upgrade: %s" % done.stdout)


def reload_workers(instance):
    """Its log level is another, so all workers are replaced."""
    path = os.path.join(instance.dir, "quire.conf")
    with open(path) as f:
        text = f.read()
    level = "log_level = debug" if "log_level = info" in text else "log_level = info"
    with open(path, "w") as f:
        f.write("\n".join(level if line.startswith("log_level") else line for line in text.splitlines()) + "\n")
    before = set(instance.children(instance.supervisor()))
    os.kill(instance.supervisor(), signal.SIGHUP)
    left = wait_gone(before, START_LIMIT_S)
    if left:
        raise RuntimeError("not reloaded: %d old workers are left" % len(left))


class Held:
    """The instance's directory, with sockets that outlive its server."""

    def __init__(self, instance):
        self.instance = instance
        self.pid_path = os.path.join(instance.dir, "quired.pid")
        run = os.path.join(instance.dir, "run")
        self.sockets = [socket_activation.listen(os.path.join(run, name)) for name in ("quired.sock", "quired-writes.sock")]
        self.process = None

    def start(self):
        self.process = socket_activation.start([QUIRED, "-c", os.path.join(self.instance.dir, "quire.conf")], self.sockets, dict(os.environ),
                                               os.path.join(self.instance.dir, "logs", "stderr"))
        deadline = time.monotonic() + START_LIMIT_S
        while not os.path.exists(self.pid_path) and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        if self.process.poll() is not None:
            raise RuntimeError("no start: %s" % self.instance.log()[-1500:])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(START_LIMIT_S)
        if code != 0:
            raise RuntimeError("the stop ended with %d: %s" % (code, self.instance.log()[-1500:]))

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        for s in self.sockets:
            s.close()


def run(campaign, instance):
    instance.start()
    oracle = Oracle()
    client = Client(instance)
    library = client.library("main")
    fixed, known = known_texts(instance, "fixed", KNOWN, campaign.rng)
    gaps = collections.defaultdict(list)

    def add(what, gap):
        gaps[what].append(gap)

    with Load(campaign, instance, library, oracle, fixed, known, "a") as load:
        for _ in range(campaign.count):
            load.during("upgrade", lambda: upgrade(instance))
            load.during("reload", lambda: reload_workers(instance))
    load.gaps(add)
    os.kill(instance.supervisor(), signal.SIGTERM)
    wait_gone([instance.supervisor()], START_LIMIT_S)
    held = Held(instance)
    try:
        held.start()
        with Load(campaign, instance, library, oracle, fixed, known, "b") as load:
            for _ in range(campaign.count):
                load.during("stop and start", held.restart)
                load.during("upgrade behind held sockets", lambda: upgrade(instance))
        load.gaps(add)
        campaign.take(oracle.check(client, library))
        campaign.take(oracle.check_by_search(client, library))
        client.close()
        held.stop()
    finally:
        held.close()
    print("%d writes acknowledged" % oracle.acknowledged)
    for what, found in gaps.items():
        found.sort()
        print("%s: %d times, nobody had an answer for, ms: median %.0f, longest %.0f" % (
            what, len(found) // 2, 1000 * found[len(found) // 2], 1000 * found[-1]))
    return 1000 * max(found[-1] for found in gaps.values())


def main():
    campaign = Campaign("upgrade-reload-stop", short=2, long=20, doc=__doc__)
    with Instance(*SETTINGS) as instance:
        worst_ms = run(campaign, instance)
        if campaign.faults:
            instance.keep()
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
