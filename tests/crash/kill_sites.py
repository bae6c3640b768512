#!/usr/bin/env python3
"""kill -9 at every place where a file is changed.

    kill_sites.py [--short] [--count N] [--seed N [--life N]]

A scripted workload (workload.py) runs once while QUIRE_IO_FAULT notes every call of the seam. Then it runs again for each Nth fdatasync, fsync,
rename, unlink, fallocate, truncate, msync and mkdir, and is killed there: in the middle of creating libraries, of batches, of rotation, snapshots,
live checkpoints, a compaction, an orderly stop. Likewise each such call of recovery, from directories of several kinds, each kill on a copy of its
own: left by a kill, without arenas, with one damaged, stopped in order. The next start must hold against the oracle, and so must the one after that.
--short takes some of the sites.
"""

import copy
import os
import random
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import Client, Instance, StartFailed  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402
from running import wait_gone, workers_of  # noqa: E402
from workload import SETTINGS, Workload  # noqa: E402

CALLS = ("fdatasync", "fsync", "rename", "unlink", "fallocate", "truncate", "msync", "mkdir")
SITES_PER_LIFE = 4
STOP_S = 60


def notes_of(path):
    """How often each call was made by the supervisor, which is the first that notes anything."""
    with open(path) as f:
        lines = [line.split(" ", 2) for line in f]
    return {call: sum(1 for line in lines if line[0] == lines[0][0] and line[1] == call) for call in CALLS}


def sites_of(counts):
    return [(call, n) for call in CALLS for n in range(counts[call])]


def killed_at(instance, code):
    """Faults of a process that should have been killed."""
    faults = ["orphan: process %d" % pid for pid in wait_gone(workers_of(instance.process.pid), 2)]
    if code != -signal.SIGKILL:
        faults.append("it ended by itself with %s: %s" % (code, instance.log()[-1500:]))
    return faults


def start_and_check(life, instance, workload):
    """Twice: what the first start repaired, the second one finds in order."""
    for _ in range(2):
        began = time.monotonic()
        instance.start()
        life.took(time.monotonic() - began)
        life.take(workload.check(Client(instance)))
        for pid in instance.kill_supervisor():
            life.wrong("orphan: process %d" % pid)


def run_to_kill(life, site):
    """The workload, and its stop, killed at the Nth call. False: it came to its end before."""
    call, n = site
    with Instance(*SETTINGS, https=False) as instance:
        workload = Workload(instance)
        try:
            instance.start({"QUIRE_IO_FAULT": "%s:kill,after=%d" % (call, n)})
            workload.run()
        except StartFailed as e:
            if e.code != -signal.SIGKILL:
                raise
        if instance.alive():
            instance.stop()
        code = instance.process.wait(STOP_S)
        if code == 0:
            return False
        life.take(killed_at(instance, code))
        start_and_check(life, instance, workload)
        if life.faults:
            instance.keep()
    return True


# --- recovery ---


def killed(instance):
    instance.kill_supervisor()


def without_arenas(instance):
    instance.kill_supervisor()
    shutil.rmtree(os.path.join(instance.data, "vectors"))


def one_damaged(instance):
    instance.kill_supervisor()
    vectors = os.path.join(instance.data, "vectors")
    directories = [os.path.join(vectors, d) for d in os.listdir(vectors) if os.path.isdir(os.path.join(vectors, d))]
    with open(os.path.join(max(directories, key=lambda d: len(os.listdir(d))), "records.mmap"), "r+b") as f:
        f.seek(4096)
        f.write(b"\xff" * 4096)


def stopped(instance):
    instance.stop()


ENDS = (killed, without_arenas, one_damaged, stopped)


class Template:
    """A data directory as `end` leaves it after the workload, its oracle, and the calls of a recovery from it."""

    def __init__(self, place, end):
        self.name = end.__name__
        self.place = os.path.join(place, self.name)
        with Instance(*SETTINGS, https=False) as instance:
            workload = Workload(instance)
            instance.start()
            workload.run()
            end(instance)
            shutil.copytree(instance.data, self.place)
        self.workload = workload
        workload.instance = workload.libraries.instance = workload.writer.instance = None
        notes = self.place + ".notes"
        with Instance(*SETTINGS, https=False) as instance:
            self.put_into(instance)
            instance.start({"QUIRE_IO_FAULT": "any:note=" + notes})
            instance.kill_supervisor()
        self.counts = notes_of(notes)

    def put_into(self, instance):
        """Its oracle, for that instance alone."""
        shutil.copytree(self.place, instance.data)
        workload = copy.copy(self.workload)
        workload.oracle, workload.libraries = self.workload.oracle.copy(), self.workload.libraries.copy(instance)
        workload.instance, workload.writer = instance, None
        return workload


def recover_to_kill(life, template, site):
    call, n = site
    with Instance(*SETTINGS, https=False) as instance:
        workload = template.put_into(instance)
        try:
            instance.start({"QUIRE_IO_FAULT": "%s:kill,after=%d" % (call, n)})
            # What comes behind the start is not the same each time: the checkpoint after it may be reached or not.
            if instance.alive():
                instance.kill_supervisor()
                return False
        except StartFailed as e:
            life.take(killed_at(instance, e.code))
        instance.process.wait(STOP_S)
        start_and_check(life, instance, workload)
        if life.faults:
            instance.keep()
    return True


def count_sites():
    with Instance(*SETTINGS, https=False) as instance:
        notes = os.path.join(instance.dir, "notes")
        instance.start({"QUIRE_IO_FAULT": "any:note=" + notes})
        workload = Workload(instance)
        workload.run()
        faults = workload.check(Client(instance))
        if instance.stop() != 0 or faults:
            raise RuntimeError("the workload fails by itself: %s" % faults)
        return notes_of(notes)


def sample(rng, sites, count):
    """In the order of `sites`, each kind of them as often as it can be."""
    kinds = {}
    for site in sites:
        kinds.setdefault((site[0] and site[0].name, site[1][0]), []).append(site)
    for one in kinds.values():
        rng.shuffle(one)
    chosen = []
    while len(chosen) < min(count, len(sites)):
        order = sorted(kinds, key=str)
        rng.shuffle(order)
        for kind in order:
            if kinds[kind] and len(chosen) < count:
                chosen.append(kinds[kind].pop())
    return chosen


def life(life, sites):
    for template, site in sites[life.number * SITES_PER_LIFE : (life.number + 1) * SITES_PER_LIFE]:
        reached = recover_to_kill(life, template, site) if template else run_to_kill(life, site)
        life.injections += reached
        life.note("%s %s" % (template.name if template else "serving", "killed" if reached else "not reached"))
        if life.faults:
            life.wrong("that was at call %d of %s, %s" % (site[1], site[0], template.name if template else "serving"))
            return


def main():
    campaign = Campaign("kill-sites", short=20, long=1000000, doc=__doc__)
    with tempfile.TemporaryDirectory(prefix="quire-crash.") as place:
        templates = [Template(place, end) for end in ENDS]
        sites = [(None, site) for site in sites_of(count_sites())]
        sites += [(t, site) for t in templates for site in sites_of(t.counts)]
        print("%d sites, %d of them in recovery" % (len(sites), sum(1 for t, _ in sites if t)), flush=True)
        if campaign.count < len(sites):
            sites = sample(random.Random(campaign.seed), sites, campaign.count)
        campaign.count = len(sites)
        worst_ms = run_lives(campaign, lambda one: life(one, sites), SITES_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
