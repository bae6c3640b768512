#!/usr/bin/env python3
"""No descriptors, no memory, no processes: limits of running processes are lowered, under load, and raised again.

    shortage.py [--short] [--count N] [--seed N [--life N]]

Each injection lowers one limit of the supervisor or of its workers to what they use at that moment, and a little more: open files (EMFILE), address
space or data (ENOMEM), processes and threads of the user (EAGAIN; where this runs as root, and so can start the server as somebody else who can get
to its directory). Under it documents, batches, libraries, snapshots and compactions are asked for, searches are, and a worker is killed, whose
successor is wanted. What must hold: the supervisor lives; replies are those of a server that is short of something, 503 or 507, and none of them is
wrong; when the limit is raised all goes on, with as many workers as before; nothing acknowledged is lost, then or after a restart.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402
from workload import SETTINGS, Workload  # noqa: E402

PER_LIFE = 4
WORKERS = 2
WAIT_S = 30
# One that gets no answer, since no worker can take its connection, goes on to the next.
PATIENCE_S = 1
SOMEBODY = 65534
MEGABYTE = 1 << 20
ALLOWED = (200, 201, 202, 204, 404, 409, 503, 507)


# as prlimit names them, and /proc/PID/limits
NAMES = {"nofile": "Max open files", "as": "Max address space", "data": "Max data size", "nproc": "Max processes"}


def soft_limit(pid, name):
    """As text: a number, or "unlimited"."""
    with open("/proc/%d/limits" % pid) as f:
        for line in f:
            if line.startswith(NAMES[name]):
                return line[len(NAMES[name]) :].split()[0]
    raise KeyError(name)


def number_in(pid, name):
    """Of /proc/PID/status, in bytes."""
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


def processes_of(user):
    """Threads, as the kernel counts them."""
    count = 0
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.stat("/proc/" + entry).st_uid == user:
                count += len(os.listdir("/proc/%s/task" % entry))
    return count


def open_to_all(place):
    """Can anybody walk to it? The driver's directory for this campaign is opened, nobody else's."""
    if os.path.basename(place).startswith("quire-campaign."):
        os.chmod(place, 0o711)
    while place != "/" and os.stat(place).st_mode & 1:
        place = os.path.dirname(place)
    return place == "/"


class Short:
    """One life."""

    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.workload = Workload(instance, self.rng.random())
        kinds = [self.files, self.files, self.space, self.data]
        if os.geteuid() == 0 and open_to_all(os.path.dirname(instance.dir)):
            instance.user = SOMEBODY
            kinds += [self.processes]
        self.kinds = kinds
        self.lowered = []  # (pid, limit, what it was)

    def start(self):
        began = time.monotonic()
        self.instance.start()
        self.life.took(time.monotonic() - began)

    # --- limits ---

    def set_soft(self, pid, name, value):
        """As the user who owns the process: root may not be allowed to."""
        subprocess.run(["prlimit", "--pid", str(pid), "--%s=%s:" % (name, value)], user=self.instance.user, stderr=subprocess.DEVNULL)

    def lower(self, pid, name, value):
        before = soft_limit(pid, name)
        if before == "unlimited" or value < int(before):
            self.set_soft(pid, name, value)
            self.lowered.append((pid, name, before))

    def raise_all(self):
        for pid, name, before in self.lowered:
            self.set_soft(pid, name, before)
        # Workers that were started meanwhile have it from the supervisor.
        if any(pid == self.instance.supervisor() for pid, _, _ in self.lowered):
            for worker in self.instance.children(self.instance.supervisor()):
                for _, name, before in self.lowered:
                    self.set_soft(worker, name, before)
        self.lowered = []

    def files(self, pids):
        more = self.rng.choice((0, 0, 1, 2, 5, 12))
        for pid in pids:
            highest = max(int(fd) for fd in os.listdir("/proc/%d/fd" % pid))
            self.lower(pid, "nofile", highest + 1 + more)

    def space(self, pids):
        more = self.rng.choice((0, 65536, MEGABYTE, 8 * MEGABYTE, 64 * MEGABYTE))
        for pid in pids:
            self.lower(pid, "as", number_in(pid, "VmSize") + more)

    def data(self, pids):
        more = self.rng.choice((0, 65536, MEGABYTE, 8 * MEGABYTE))
        for pid in pids:
            self.lower(pid, "data", number_in(pid, "VmData") + more)

    def processes(self, pids):
        for pid in pids:
            self.lower(pid, "nproc", processes_of(SOMEBODY) + self.rng.choice((0, 0, 1)))

    # --- what goes on meanwhile ---

    def kill_worker(self):
        pids = sorted(self.instance.children(self.instance.supervisor()))
        if len(pids) > 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(pids), signal.SIGKILL)

    def search(self, client):
        library = self.workload.main
        for mode in ("dense", "lexical", "hybrid"):
            client.request("POST", "/v1/libraries/%s/search" % library, {"query": "amber anchor apple", "k": 5, "mode": mode})

    def judge(self, client, silence_is_expected):
        for status, what in client.seen.items():
            if status is None and not silence_is_expected:
                self.life.wrong("no reply: " + what)
            elif status is not None and status not in ALLOWED:
                self.life.wrong("status %s: %s" % (status, what))
            if status in (503, 507):
                self.life.note("replies_%d" % status)

    def wait_workers(self):
        deadline = time.monotonic() + WAIT_S
        while len(self.instance.children(self.instance.supervisor())) < WORKERS:
            if time.monotonic() > deadline:
                self.life.wrong("the workers do not come back: %s" % self.instance.log()[-1500:])
                return
            time.sleep(0.01)

    def one(self):
        client = Client(self.instance, timeout=PATIENCE_S)
        kind = self.rng.choice(self.kinds)
        supervisor = self.instance.supervisor()
        of_workers = kind != self.processes and self.rng.random() < 0.4
        pids = sorted(self.instance.children(supervisor)) if of_workers else [supervisor]
        what = "%s of the %s" % (kind.__name__, "workers" if of_workers else "supervisor")
        self.life.note(what.replace(" ", "_"))
        told = len(self.instance.log())
        kind(pids)
        self.workload.some_of_everything(client, self.rng, [self.kill_worker, lambda: self.search(client), lambda: self.search(client)])
        self.raise_all()
        self.life.injections += 1
        if not self.instance.alive():
            self.life.wrong("it ended with %s: %s" % (self.instance.process.wait(), self.instance.log()[told:][-2500:]))
        else:
            # A killed worker takes its request with it, and one without descriptors or memory takes none.
            self.judge(client, silence_is_expected=True)
            self.wait_workers()
            if not self.workload.wait_healed(Client(self.instance)):
                self.life.wrong("it does not heal: %s" % self.instance.log()[told:][-2500:])
            else:
                self.life.take(self.workload.check(Client(self.instance)))
        if self.life.faults:
            self.life.wrong("that was " + what)

    def restart(self):
        if self.rng.random() < 0.5:
            self.instance.kill_supervisor()
        elif self.instance.stop() != 0:
            self.life.wrong("an orderly stop failed: %s" % self.instance.log()[-1500:])
        self.start()
        self.life.take(self.workload.check(Client(self.instance)))


def life(life):
    settings = [s for s in SETTINGS if not s.startswith("workers=")] + ["workers=%d" % WORKERS]
    with Instance(*settings, https=False) as instance:
        short = Short(life, instance)
        try:
            short.start()
            short.workload.some_of_everything(Client(instance), life.rng)
            while life.injections < life.count and not life.faults:
                short.one()
                if not life.faults:
                    short.restart()
        finally:
            if life.faults:
                instance.keep()


def main():
    campaign = Campaign("shortage", short=16, long=400, doc=__doc__)
    worst_ms = run_lives(campaign, life, PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
