#!/usr/bin/env python3
"""Calls to the file system that fail, at the Nth time, once and for ever.

    io_errors.py [--short] [--count N] [--seed N [--life N]]

Each injection is a rule of QUIRE_IO_FAULT: EIO, ENOSPC, ENOMEM, EMFILE, EINTR, or short reads and writes, in one kind of call on the log, the arenas,
snapshots or checkpoints, from the Nth call on, once or for ever. It is switched on under a load of documents, batches, libraries, snapshots and
compactions, or before a start, or before an orderly stop. What must hold:

  - no reply says that something was done which is not there after a restart, nothing refused is there, nothing dies of a signal (SIGBUS above all)
  - for want of room nothing ends: 507 InsufficientStorageError, and all goes on when there is room again
  - only a log that failed ends the server, with code 74; a start that cannot be made ends with one that says why, and the next one is as if nothing
    had been
  - short and interrupted calls are not noticed at all

Where a small file system can be mounted some injections fill it really, up to a random byte.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, StartFailed  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402
from running import wait_gone, workers_of  # noqa: E402
from workload import SETTINGS, Workload  # noqa: E402

FAULTS_PER_LIFE = 8
EX_OSERR = 71  # no descriptors, or no memory
EX_IOERR = 74
# What a start may end with: damage is none of them.
START_CODES = (71, 73, 74)
CALLS = {
    "write": ("EIO", "ENOSPC", "EINTR", "short"),
    "read": ("EIO", "EINTR", "short"),
    "open": ("EIO", "ENOSPC", "EMFILE", "EINTR"),
    "fdatasync": ("EIO", "ENOSPC", "EINTR"),
    "fsync": ("EIO", "ENOSPC", "EINTR"),
    "fallocate": ("EIO", "ENOSPC", "EINTR"),
    "truncate": ("EIO", "EINTR"),
    "rename": ("EIO", "ENOSPC", "EINTR"),
    "unlink": ("EIO", "EINTR"),
    "mkdir": ("EIO", "ENOSPC"),
    "mmap": ("ENOMEM",),
    "msync": ("EIO",),
}
PLACES = ("", "/wal/", "/vectors/", "/snapshots/", "checkpoint", ".mmap", "/pages.")
HARMLESS = ("EINTR", "short")
SYNCS = ("fdatasync", "fsync", "msync")
FULL_BYTES = 48 << 20


class Fault:
    def __init__(self, rng, gate):
        self.call = rng.choice(sorted(CALLS))
        self.error = rng.choice(CALLS[self.call])
        self.place = rng.choice(PLACES)
        self.after = rng.choice((0, 0, 1, 2, 5, 10, 20, 50))
        # An interruption for ever would be one.
        self.times = rng.choice((1, 3)) if self.error == "EINTR" else rng.choice((1, 1, 3, None))
        action = "short=%d" % rng.choice((1, 3, 512, 4095)) if self.error == "short" else "errno=" + self.error
        self.rule = "%s:%s,after=%d%s%s,file=%s" % (self.call, action, self.after, ",times=%d" % self.times if self.times else "",
                                                   ",path=" + self.place if self.place else "", gate)

    def may_end_the_server(self):
        """The log ends it when a sync fails, or anything for another reason than want of room."""
        wants_room = self.error == "ENOSPC" and self.call not in SYNCS
        return self.error not in HARMLESS and not wants_room and self.place in ("", "/wal/")

    def statuses(self):
        """Replies that may be, besides those that say that it was done."""
        if self.error in HARMLESS:
            return ()
        return (507,) if self.error == "ENOSPC" and self.call not in SYNCS else (500, 503, 507)


class Failing:
    """One life: an instance and its oracle, through several faults."""

    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.workload = Workload(instance, self.rng.random())
        self.gate = os.path.join(instance.dir, "armed")

    def arm(self):
        with open(self.gate, "w"):
            pass

    def disarm(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.gate)

    def start(self, rule=None):
        began = time.monotonic()
        self.instance.start({"QUIRE_IO_FAULT": rule} if rule else None)
        self.life.took(time.monotonic() - began)

    def load(self, client):
        self.workload.some_of_everything(client, self.rng)

    def wait_healed(self, client):
        return self.workload.wait_healed(client)

    def ended(self, fault, code):
        if code is not None and code < 0:
            self.life.wrong("signal %d ended it: %s" % (-code, self.instance.log()[-1500:]))
        elif code != EX_IOERR or not fault.may_end_the_server():
            self.life.wrong("it ended with %s: %s" % (code, self.instance.log()[-1500:]))
        for pid in wait_gone(workers_of(self.instance.process.pid), 2):
            self.life.wrong("orphan: process %d" % pid)
        self.life.note("ended")

    def check(self):
        self.life.take(self.workload.check(Client(self.instance)))

    def restart(self):
        """As after a crash, or in order; everything must be there."""
        if self.instance.alive():
            if self.rng.random() < 0.5:
                self.instance.kill_supervisor()
            elif self.instance.stop() != 0:
                self.life.wrong("an orderly stop failed: %s" % self.instance.log()[-1500:])
        self.instance.process.wait()
        self.start()
        self.check()

    def under_load(self, fault):
        self.start(fault.rule)
        client = Client(self.instance)
        self.load(client)
        self.arm()
        client.seen.clear()
        self.load(client)
        self.disarm()
        if not self.instance.alive():
            self.ended(fault, self.instance.process.wait())
        else:
            self.judge_replies(fault, client)
            # A failed log ends the server a moment later.
            if not self.wait_healed(Client(self.instance)):
                if self.instance.alive():
                    self.life.wrong("it does not heal: %s" % self.instance.log()[-1500:])
                else:
                    self.ended(fault, self.instance.process.wait())
            else:
                self.check()
        self.restart()

    def judge_replies(self, fault, client):
        for status, what in client.seen.items():
            if status is not None and status >= 500 and status not in fault.statuses():
                self.life.wrong("status %d: %s" % (status, what))

    def at_start(self, fault):
        self.arm()
        try:
            self.start(fault.rule)
            self.load(Client(self.instance))
        except StartFailed as e:
            self.life.note("start_refused")
            if e.code not in START_CODES or fault.error in HARMLESS:
                self.life.wrong("a start ended with %s: %s" % (e.code, e))
        self.disarm()
        if self.instance.alive() and not self.wait_healed(Client(self.instance)) and self.instance.alive():
            self.life.wrong("it does not heal: %s" % self.instance.log()[-1500:])
        self.restart()

    def at_stop(self, fault):
        self.start(fault.rule)
        self.load(Client(self.instance))
        self.arm()
        code = self.instance.stop()
        self.disarm()
        if code not in (0, EX_OSERR, EX_IOERR) or (code != 0 and fault.error in HARMLESS):
            self.life.wrong("a stop ended with %s: %s" % (code, self.instance.log()[-1500:]))
        self.life.note("stop_%s" % ("complete" if code == 0 else "incomplete"))
        self.restart()

    def one(self):
        fault = Fault(self.rng, self.gate)
        how = self.rng.choice((self.under_load, self.under_load, self.at_start, self.at_stop))
        self.life.note("%s_%s" % (how.__name__, fault.error))
        how(fault)
        self.life.injections += 1
        if self.life.faults:
            self.life.wrong("that was %s with %s" % (how.__name__, fault.rule))
        elif self.instance.stop() != 0:
            self.life.wrong("an orderly stop failed: %s" % self.instance.log()[-1500:])


# --- a file system that is really full ---


class SmallDisk:
    """`with`: a tmpfs on the instance's data directory. Raises OSError where none can be mounted."""

    def __init__(self, instance):
        self.place = instance.data
        self.ballast = os.path.join(self.place, "ballast")

    def __enter__(self):
        os.makedirs(self.place)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % FULL_BYTES, "quire-test", self.place], stderr=subprocess.DEVNULL)
        if done.returncode != 0:
            raise OSError("nothing can be mounted")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.place], check=True)

    def fill(self, left):
        """All but so many bytes."""
        room = os.statvfs(self.place)
        with open(self.ballast, "wb") as f:
            os.posix_fallocate(f.fileno(), 0, max(1, room.f_bavail * room.f_frsize - left))

    def empty(self):
        os.unlink(self.ballast)


class Full:
    error, call, place, rule = "ENOSPC", "write", "", "a full disk"

    def may_end_the_server(self):
        return False

    def statuses(self):
        return (507,)


def fill_really(life, failing, disk):
    client = Client(failing.instance)
    failing.start()
    failing.load(client)
    for _ in range(life.count):
        disk.fill(life.rng.choice((0, 4096, 65536, life.rng.randrange(1 << 20), life.rng.randrange(8 << 20))))
        client.seen.clear()
        failing.load(client)
        life.note("full_507", 507 in client.seen)
        disk.empty()
        life.injections += 1
        if not failing.instance.alive():
            failing.ended(Full(), failing.instance.process.wait())
        failing.judge_replies(Full(), client)
        if not life.faults and not failing.wait_healed(client):
            life.wrong("it does not heal: %s" % failing.instance.log()[-1500:])
        if life.faults:
            return
        failing.check()
    failing.restart()


def life(life):
    with Instance(*SETTINGS, https=False) as instance:
        failing = Failing(life, instance)
        try:
            if life.number == 0:
                with contextlib.suppress(OSError), SmallDisk(instance) as disk:
                    try:
                        fill_really(life, failing, disk)
                    finally:
                        instance.process.send_signal(signal.SIGKILL)
                        instance.process.wait()
                return
            while life.injections < life.count and not life.faults:
                failing.one()
        finally:
            if life.faults:
                instance.keep()


def main():
    campaign = Campaign("io-errors", short=24, long=1500, doc=__doc__)
    worst_ms = run_lives(campaign, life, FAULTS_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
