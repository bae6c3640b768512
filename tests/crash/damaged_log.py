#!/usr/bin/env python3
"""A log that is damaged before its durable end: refused, named, and repaired only when asked.

    damaged_log.py [--short] [--count N] [--seed N [--life N]]

One client writes one thing after the other, and knows the LSN of each. Then the server is killed, or stopped, and something is done to the log: a
byte or a page changed, a segment cut, removed or emptied. The start must be refused with code 65, name the file and (but for one that is missing) the
byte and the way out, and change nothing. Only where nothing whole is left behind the damage, because it reaches into the last write of all, may it be
taken for a torn tail; when the server had a moment without writes before its end, not even there, but in the guard behind that write. `quired --repair` then starts, and what it says must be so: what is there is what all but the LSNs that it gives up make, and
what was cut off lies byte for byte under the name that it gives. The start after it needs no --repair.
"""

import os
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, Oracle, StartFailed, Writer  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402
from workload import SETTINGS  # noqa: E402

DAMAGES_PER_LIFE = 3
STEPS = 200
HEADER = 4096
ZEROED = 80  # in the header
GUARD_MAX = 45  # bytes
WAIT_S = 30
EX_DATAERR = 65
LOST = re.compile(r"--repair gave up at most (\d+) operations? of the log that once were durable, LSN (\d+) to (\d+)")
LOST_REST = re.compile(r"--repair gave up what was logged from LSN (\d+) on")
KEPT = re.compile(r"repair: (\S+) (?:is cut off at byte \d+, behind LSN \d+; as it was it|does not count any more; it) is kept as wal/(\S+)")


class Historian(Writer):
    """Keeps who was what from which LSN on."""

    WORDS = 60

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.history = []  # (LSN, id, value)
        self.last_begins = 0  # byte where the last write does, in the last segment

    def write(self, client, method, tail, body, values):
        acknowledged = self.oracle.acknowledged
        client.headers = {}
        super().write(client, method, tail, body, values)
        lsn = int(client.headers.get("quire-lsn", 0))
        if self.oracle.acknowledged > acknowledged and lsn:
            self.history += [(lsn, id, value) for id, value in values.items()]

    def oracle_without(self, lost):
        """As if what is lost had never been sent."""
        oracle = Oracle()
        for at, id, value in self.history:
            if at not in lost:
                oracle.sending(id, value)
                oracle.acked(id, value)
        return oracle


def varint(content, at):
    value = shift = 0
    while content[at] >= 0x80:
        value |= (content[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | content[at] << shift, at + 1


def end_of_records(path):
    """Where the records of a segment end, and whether a guard follows (docs/formats.md). Not for segments that were used before."""
    with open(path, "rb") as f:
        content = f.read()
    at = HEADER
    while True:
        kind, after = varint(content, at + 5)
        length, after = varint(content, after)
        if kind & 3 != 1:
            return at, kind & 3 == 3
        at = varint(content, varint(content, after)[1])[1] + length


class DamagedLog:
    def __init__(self, life, instance):
        self.life, self.rng, self.instance = life, life.rng, instance
        self.wal = os.path.join(instance.data, "wal")

    def last(self):
        return os.path.join(self.wal, self.segments()[-1])

    def used_before(self):
        with open(self.last(), "rb") as f:
            return f.read(ZEROED + 1)[ZEROED] == 0

    def wait_for_guard(self):
        deadline = time.monotonic() + WAIT_S
        while not self.used_before() and not end_of_records(self.last())[1]:
            if time.monotonic() > deadline:
                self.life.wrong("nothing said in a quiet moment that the last write is durable")
                return
            time.sleep(0.005)

    def segments(self):
        """By their LSNs, which their names end in."""
        return sorted((n for n in os.listdir(self.wal) if n.startswith("wal_") and n.endswith(".log")), key=lambda n: n.rsplit("_", 1)[1])

    def fill(self):
        self.instance.start()
        client = Client(self.instance)
        self.library = client.library("main")
        self.library_lsn = int(client.headers["quire-lsn"])
        # No batches: each reply then has the LSN of all it did.
        self.writer = Historian(self.instance, self.library, Oracle(), "h", self.rng.random(), batches=False)
        snapshot_at = self.rng.choice((None, STEPS // 3))
        for i in range(STEPS):
            self.last_begins = self.used(os.path.join(self.wal, self.segments()[-1]))
            last = self.segments()[-1]
            self.writer.step(client)
            if i == snapshot_at:
                client.request("POST", "/v1/snapshots", {})
        self.end(HEADER if self.segments()[-1] != last else max(self.last_begins - GUARD_MAX, HEADER))

    def end(self, last_begins):
        """Killed in the middle, killed in a quiet moment, or stopped. The place of the last write is known well enough: a guard may have stood there."""
        self.last_begins = last_begins
        how = self.rng.choice(("busy", "busy", "quiet", "quiet", "stopped"))
        self.life.note(how)
        if how == "quiet":
            self.wait_for_guard()
        if how == "stopped":
            self.instance.stop()
        else:
            self.instance.kill_supervisor()
        if how != "busy" and not self.used_before():
            self.last_begins, guarded = end_of_records(self.last())
            if not guarded:
                self.life.wrong("no guard at the end of a log that was %s" % how)
        if self.rng.random() < 0.5:
            shutil.rmtree(os.path.join(self.instance.data, "vectors"))
            self.life.note("without_arenas")

    # --- what is done to it ---

    def used(self, path):
        """Bytes up to the last that is not zero; in a segment that was used before that may be one of then."""
        with open(path, "rb") as f:
            return max(len(f.read().rstrip(b"\0")), HEADER + 1)

    def flip(self, path):
        at = self.rng.choice((self.rng.randrange(HEADER), self.rng.randrange(HEADER, self.used(path)), self.rng.randrange(HEADER, self.used(path))))
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ (1 << self.rng.randrange(8))]))
        return at + 1, "byte %d" % at

    def page(self, path):
        at = self.rng.randrange(0, self.used(path), 4096)
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(self.rng.choice((bytes(4096), self.rng.randbytes(4096))))
        return at + 4096, "page at %d" % at

    def cut(self, path):
        to = self.rng.choice((0, 100, HEADER, self.rng.randrange(HEADER, self.used(path))))
        os.truncate(path, to)
        return sys.maxsize, "to %d" % to

    def remove(self, path):
        os.unlink(path)
        return 0, "all"

    def damage(self):
        """Returns its description, and whether it may be passed over: it reaches into the last write, or takes away what a snapshot covers."""
        name = self.rng.choice(self.segments())
        how = self.rng.choice((self.flip, self.flip, self.flip, self.page, self.cut, self.remove))
        self.life.note(how.__name__)
        last, oldest = name == self.segments()[-1], name == self.segments()[0]
        end, what = how(os.path.join(self.wal, name))
        return "%s of %s: %s" % (how.__name__, name, what), (last and end > self.last_begins) or (oldest and how == self.remove)

    # --- what must come of it ---

    def state(self):
        """Every file of the log and the snapshots, with its bytes."""
        found = {}
        for directory in ("wal", "snapshots"):
            for name in os.listdir(os.path.join(self.instance.data, directory)):
                with open(os.path.join(self.instance.data, directory, name), "rb") as f:
                    found[directory + "/" + name] = f.read()
        return found

    def check(self, lost):
        client = Client(self.instance)
        oracle = self.writer.oracle_without(lost)
        if self.library_lsn in lost:
            status, reply = client.request("GET", "/v1/libraries/" + self.library)
            if status != 404:
                self.life.wrong("a library whose making is lost: status %s %s" % (status, reply))
            return
        self.life.take(oracle.check(client, self.library))
        self.life.take(oracle.check_by_search(client, self.library))

    def judge_refusal(self, e, before):
        if e.code != EX_DATAERR:
            self.life.wrong("the start ended with %s: %s" % (e.code, e))
        last = self.instance.log().rstrip().splitlines()[-1]
        names = re.findall(r"wal_\d+_\d+\.log", last)
        if (not names and "there is no log" not in last) or "quired --repair" not in last:
            self.life.wrong("no file, or no way out, in: " + last)
        elif not re.search(r"at byte \d+|missing|LSN \d+", last):
            self.life.wrong("no place in: " + last)
        if self.state() != before:
            self.life.wrong("a start that was refused changed files")

    def judge_repair(self, before, log):
        """Returns the LSNs that are gone."""
        for name, kept in KEPT.findall(log):
            with open(os.path.join(self.wal, kept), "rb") as f:
                if f.read() != before["wal/" + name]:
                    self.life.wrong("%s is not what %s was" % (kept, name))
        lost, rest = LOST.search(log), LOST_REST.search(log)
        if lost:
            count, first, last = (int(x) for x in lost.groups())
            if count < 1 or count != last - first + 1:
                self.life.wrong("it says: " + lost.group(0))
            self.life.note("repaired_with_loss")
            return range(first, last + 1)
        self.life.note("repaired_without_loss" if not rest else "repaired_with_unknown_loss")
        return range(int(rest.group(1)), sys.maxsize) if rest else ()

    def wait_for_checkpoint(self, client):
        deadline = time.monotonic() + WAIT_S
        while not client.metric("quire_checkpoints_taken_total"):
            if time.monotonic() > deadline:
                self.life.wrong("no checkpoint after the repair: %s" % self.instance.log()[-1500:])
                return
            time.sleep(0.005)

    def one(self):
        self.fill()
        what, may_be_passed_over = self.damage()
        before = self.state()
        try:
            self.instance.start()
            self.life.note("no_refusal")
            # Nor need it be where it hit what an earlier life of a segment left, and nothing is missing.
            last = int(re.findall(r"LSN (\d+)$", self.instance.log(), re.M)[-1])
            if not may_be_passed_over and last < max(lsn for lsn, _, _ in self.writer.history):
                self.life.wrong("it was not refused: %s" % self.instance.log()[-1500:])
            self.check(range(last + 1, sys.maxsize))
        except StartFailed as e:
            self.judge_refusal(e, before)
            told = len(self.instance.log())
            self.instance.start(arguments=("--repair",))
            self.check(self.judge_repair(before, self.instance.log()[told:]))
            # What the arenas alone still hold is safe with the checkpoint that a repair makes due at once.
            self.wait_for_checkpoint(Client(self.instance))
            self.instance.kill_supervisor()
            self.instance.start()
        self.life.injections += 1
        if self.life.faults:
            self.life.wrong("that was %s" % what)


def life(life):
    for _ in range(life.count):
        with Instance(*SETTINGS, https=False) as instance:
            DamagedLog(life, instance).one()
            if life.faults:
                instance.keep()
                return


def main():
    campaign = Campaign("damaged-log", short=12, long=600, doc=__doc__)
    run_lives(campaign, life, DAMAGES_PER_LIFE)
    sys.exit(campaign.finish())


if __name__ == "__main__":
    main()
