#!/usr/bin/env python3
"""quire restore, killed everywhere.

    restore_killed.py [--short] [--count N] [--seed N [--life N]]

Restores a whole state over another one, one library beside others, into a directory that is new, and back with --undo. Each is run to its end once, to learn
its calls; then again for every one of them, and killed there: at each call of the seam (QUIRE_IO_FAULT), and, where strace can be used, at each system call of
the command and of the child that reads for it. Each call of the seam fails once with EIO as well. Every second time the start that follows is killed, too.

Then the server starts on the directory, and all that it has is compared with the old state and the new: it must be one of them, and the new one where the
command said so. The next start must find the same. And a restore after that must succeed.

--short takes some of the sites.
"""

import collections
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from instance import QUIRED, Client, Instance, StartFailed  # noqa: E402
from lives import run_lives  # noqa: E402
from report import Campaign  # noqa: E402
from workload import SETTINGS, Workload  # noqa: E402

QUIRE = os.path.join(os.path.dirname(QUIRED), "quire")
SITES_PER_LIFE = 4
COMPLETING_RENAMES = 8
TRACED = re.compile(r"^(\d+) +(\w+)\(")
# What a program does until it has begun, and nothing else: killed there it has done nothing.
LOADING = ("execve", "brk", "arch_prctl", "access", "set_tid_address", "set_robust_list", "rseq", "munmap", "mprotect", "mmap")


def restore(*arguments, environment=None, under=()):
    return subprocess.run([*under, QUIRE, "restore", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=dict(os.environ, **(environment or {})))


def must_restore(*arguments):
    done = restore(*arguments)
    if done.returncode != 0:
        raise RuntimeError("quire restore %s: %s" % (" ".join(arguments), done.stdout))


def content_of(client):
    """Everything, by name: for comparison."""
    found = {}
    for library in client.pages("/v1/libraries?limit=1000"):
        documents = {}
        for summary in client.pages("/v1/libraries/%s/documents?limit=1000" % library["id"]):
            status, document = client.read("/v1/libraries/%s/documents/%s" % (library["id"], summary["id"]))
            if status != 200:
                raise OSError("GET %s: status %s" % (summary["id"], status))
            documents[summary["id"]] = (document["metadata"]["title"], tuple((c["id"], c["text"]) for c in document["chunks"]))
        found[library["name"]] = documents
    return found


def content_in(data):
    """Of a copy of a data directory."""
    with Instance(*SETTINGS, https=False) as instance:
        shutil.copytree(data, instance.data)
        instance.start()
        return content_of(Client(instance))


def make_state(place, seed):
    with Instance(*SETTINGS, https=False) as instance:
        instance.start()
        workload = Workload(instance, seed)
        workload.run()
        instance.stop()
        shutil.copytree(instance.data, place)


class Kind:
    """A way to restore: the directory before (None: there is none), the command's arguments, and what is there before and after it."""

    def __init__(self, name, before, arguments):
        self.name, self.before, self.arguments = name, before, arguments
        self.old = content_in(before) if before else {}
        with Instance(*SETTINGS, https=False) as instance:
            must_restore(*self.command(instance))
            instance.start()
            self.new = content_of(Client(instance))
        if self.old == self.new:
            raise RuntimeError("%s: nothing to tell old and new by" % name)

    def command(self, instance):
        if self.before:
            shutil.copytree(self.before, instance.data)
        return (*self.arguments, "--into", instance.data)

    def noted(self, place):
        """[(call, n)] of the seam."""
        notes = os.path.join(place, "notes")
        with Instance(https=False) as instance:
            restore(*self.command(instance), environment={"QUIRE_IO_FAULT": "any:note=" + notes})
        with open(notes) as f:
            counts = collections.Counter(line.split(" ", 2)[1] for line in f)
        os.remove(notes)
        return [(call, n) for call, count in sorted(counts.items()) for n in range(count)]

    def traced(self, place):
        """[(system call, n)], n as one of the processes counts it. Empty where strace cannot be used."""
        trace = os.path.join(place, "trace")
        with Instance(https=False) as instance:
            try:
                done = restore(*self.command(instance), under=("strace", "-f", "-qq", "-o", trace))
            except FileNotFoundError:
                return []
        if done.returncode != 0:
            return []
        counts = collections.Counter()
        with open(trace) as f:
            for line in f:
                found = TRACED.match(line)
                if found:
                    counts[found.groups()] += 1
        os.remove(trace)
        most = {}
        for (_, call), count in counts.items():
            most[call] = max(most.get(call, 0), count)
        return [(call, n) for call, count in sorted(most.items()) if call not in LOADING for n in range(count)]


# A site: kind, how ("kill", "EIO", "strace"), call, n.


def run_site(kind, how, call, n, instance):
    command = kind.command(instance)
    if how == "strace":
        return restore(*command, under=("strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=%s:signal=KILL:when=%d" % (call, n + 1)))
    rule = "kill" if how == "kill" else "errno=EIO,times=1"
    return restore(*command, environment={"QUIRE_IO_FAULT": "%s:%s,after=%d" % (call, rule, n)})


def start_killed(life, instance):
    """A start that is killed while it completes what the command had decided, where it had."""
    try:
        instance.start({"QUIRE_IO_FAULT": "rename:kill,after=%d" % life.rng.randrange(COMPLETING_RENAMES)})
        instance.kill_supervisor()
    except StartFailed as e:
        if e.code != -signal.SIGKILL:
            raise
        life.note("starts killed")


def check_state(life, kind, instance, done):
    """Old or new, as a whole, and the same at the next start."""
    before = None
    for _ in range(2):
        began = time.monotonic()
        instance.start()
        life.took(time.monotonic() - began)
        found = content_of(Client(instance))
        instance.kill_supervisor()
        if found not in (kind.old, kind.new):
            life.wrong("neither the old state nor the new one")
        elif done.returncode == 0 and found != kind.new:
            life.lost("the command said that it was done, and the old state is there")
        elif before is not None and found != before:
            life.wrong("one start finds the one state, the next the other")
        before = found
    life.note("new after it" if before == kind.new else "old after it")


def check_again(life, instance, source, new):
    done = restore(source, "--into", instance.data)
    if done.returncode != 0:
        life.wrong("a restore afterwards fails: " + done.stdout)
        return
    instance.start()
    if content_of(Client(instance)) != new:
        life.wrong("a restore afterwards restores something else")
    instance.kill_supervisor()


def inject(life, site, again):
    kind, how, call, n = site
    with Instance(*SETTINGS, https=False) as instance:
        done = run_site(kind, how, call, n, instance)
        life.injections += 1
        life.note("%s by %s" % (kind.name, how))
        if life.rng.random() < 0.5:
            start_killed(life, instance)
        check_state(life, kind, instance, done)
        check_again(life, instance, *again)
        if life.faults:
            instance.keep()
            life.wrong("that was %s, %s at call %d of %s: %s" % (kind.name, how, n, call, done.stdout.strip()))


def sample(rng, sites, count):
    """Each way as often as the others, and in it each call of each kind."""
    ways = collections.defaultdict(lambda: collections.defaultdict(list))
    for site in sites:
        ways[site[1]][(site[0].name, site[2])].append(site)
    chosen = []
    while len(chosen) < min(count, len(sites)):
        for way in sorted(ways):
            groups = sorted(g for g in ways[way] if ways[way][g])
            if groups and len(chosen) < count:
                group = ways[way][rng.choice(groups)]
                chosen.append(group.pop(rng.randrange(len(group))))
    return chosen


def life(life, sites, again):
    for site in sites[life.number * SITES_PER_LIFE : (life.number + 1) * SITES_PER_LIFE]:
        inject(life, site, again)
        if life.faults:
            return


def main():
    campaign = Campaign("restore-killed", short=15, long=1000000, doc=__doc__)
    with tempfile.TemporaryDirectory(prefix="quire-crash.") as place:
        old, source, replaced = (os.path.join(place, name) for name in ("old", "source", "replaced"))
        make_state(old, 1)
        make_state(source, 2)
        shutil.copytree(old, replaced)
        must_restore(source, "--into", replaced)
        whole = Kind("whole", old, (source,))
        kinds = [whole, Kind("library", old, (source, "--library", "main", "--as", "back")), Kind("new directory", None, (source,)),
                 Kind("undo", replaced, ("--undo",))]
        sites = []
        for kind in kinds:
            noted, traced = kind.noted(place), kind.traced(place)
            sites += [(kind, how, *site) for how in ("kill", "EIO") for site in noted] + [(kind, "strace", *site) for site in traced]
        print("%d sites, %d of them by strace" % (len(sites), sum(1 for s in sites if s[1] == "strace")), flush=True)
        if campaign.count < len(sites):
            sites = sample(random.Random(campaign.seed), sites, campaign.count)
        campaign.count = len(sites)
        worst_ms = run_lives(campaign, lambda one: life(one, sites, (source, whole.new)), SITES_PER_LIFE)
    sys.exit(campaign.finish(worst_ms))


if __name__ == "__main__":
    main()
