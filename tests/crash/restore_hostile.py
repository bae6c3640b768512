#!/usr/bin/env python3
"""Archives, logs and directories that nobody should trust, each through the whole of quire restore.

    restore_hostile.py [--short] [--count N] [--seed N]

Each is made byte by byte (hostile.py) and restored from into a directory of its own, under strace where that can be used. What must hold: it is refused, with
words that a terminal can bear, and then the directory is empty; or what is odd about it is harmless, and then the state is the one that the archive
says. No file is opened for writing, made, renamed or removed outside that directory, whatever the archive says; disk and memory stay within bounds. --short
leaves out what takes long, and looks at the calls of some. --count takes so many of them, from the first on.
"""

import itertools
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hostile  # noqa: E402
from instance import QUIRED  # noqa: E402
from report import Campaign  # noqa: E402

QUIRE = os.path.join(os.path.dirname(QUIRED), "quire")
REFUSED = (65, 66)
MAX_BYTES = 64 << 20
SHORT_TRACES = 6  # with --short the calls of one in so many are looked at
DISK_MAX = MAX_BYTES + (48 << 20)  # and log segments that are begun
MEMORY_MAX = 2600 << 20  # the reader's bound, and its program
CHANGES = ("open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,truncate,"
           "chmod,fchmodat,lchown,chown,fchownat,utimensat,setxattr,socket,execve")
CALL = re.compile(r"^\d+ +(\w+)\((.*)$")
PLACE = re.compile(r'^(?:AT_FDCWD<(?P<cwd>[^>]*)>|\d+<(?P<dir>[^>]*)>)?(?:, )?"(?P<path>(?:[^"\\]|\\.)*)"(?P<rest>.*)$')


def restored_line(libraries, documents, chunks):
    def counted(n, one, several):
        return b"%d %s" % (n, one if n == 1 else several)
    return b"restored: " + b", ".join((counted(libraries, b"library", b"libraries"), counted(documents, b"document", b"documents"), counted(chunks, b"chunk", b"chunks")))


def tree(place):
    """What is there, in a form to compare; never follows links."""
    found = {}
    for directory, names, files in os.walk(place):
        for name in names + files:
            path = os.path.join(directory, name)
            about = os.lstat(path)
            found[path] = (about.st_mode, about.st_size, about.st_mtime_ns)
    return found


def disk_used(place):
    used = 0
    for directory, _, files in os.walk(place):
        for name in files:
            try:
                used += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return used


class Watch(threading.Thread):
    """The most that lay in a directory at any time it looked."""

    def __init__(self, place):
        super().__init__(daemon=True)
        self.place, self.most, self.stopping = place, 0, threading.Event()

    def run(self):
        while not self.stopping.wait(0.002):
            self.most = max(self.most, disk_used(self.place))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join()


def changes_outside(trace, into):
    """Calls of a trace that change, or could, what is not below `into`."""
    found = []
    with open(trace, errors="replace") as f:
        for line in f:
            call = CALL.match(line)
            if call is None or call.group(1) == "execve":
                continue
            name, arguments = call.groups()
            place = PLACE.match(arguments)
            if name == "socket" or place is None:
                found.append(line.strip())
                continue
            path = os.path.normpath(os.path.join(place["dir"] or place["cwd"] or "/", place["path"]))
            reads = name.startswith("open") and "O_WRONLY" not in place["rest"] and "O_RDWR" not in place["rest"] and "O_CREAT" not in place["rest"]
            inside = path == into or path.startswith(into + "/") or path == "/dev/null"
            if not inside and not reads:
                found.append(line.strip())
    return found


class Outcome:
    def __init__(self, code, text, memory, disk, took, outside):
        self.code, self.text, self.memory, self.disk, self.took, self.outside = code, text, memory, disk, took, outside


def run(place, arguments, into, traced):
    trace = os.path.join(place, "trace")
    out = os.path.join(place, "out")
    command = [QUIRE, "restore", *arguments, "--into", into, "--max-bytes", str(MAX_BYTES)]
    if traced:
        command = ["strace", "-f", "-y", "-qq", "-o", trace, "-e", "trace=" + CHANGES, *command]
    began = time.monotonic()
    with open(out, "wb") as f, Watch(into) as watch:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - began
    with open(out, "rb") as f:
        text = f.read()
    return Outcome(process.returncode, text, usage.ru_maxrss * 1024, watch.most, took, changes_outside(trace, into) if traced else [])


def is_printable(text):
    return all(byte >= 0x20 or byte == 0x0A for byte in text) and 0x7F not in text


def is_sound(into):
    return subprocess.run([QUIRE, "check", into], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT).returncode == 0


def judge(campaign, case, outcome, into, before, after):
    faults = []
    refused = outcome.code in REFUSED
    if outcome.code != 0 and not refused:
        faults.append("exit code %s" % outcome.code)
    if refused and case.expect == "good":
        faults.append("refused, although it is harmless")
    if outcome.code == 0 and case.expect == "refused":
        faults.append("taken")
    if refused and os.path.isdir(into) and sorted(os.listdir(into)) not in ([], ["LOCK"]):
        faults.append("left behind: %s" % os.listdir(into))
    if outcome.code == 0 and not is_sound(into):
        faults.append("the restored directory is not sound")
    if outcome.code == 0 and case.expect == "good" and restored_line(*case.holds) not in outcome.text:
        faults.append("something else was restored")
    if before != after:
        faults.append("changed outside: %s" % sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))[:5])
    if outcome.outside:
        faults.append("calls outside: %s" % outcome.outside[:5])
    if outcome.disk > DISK_MAX or outcome.memory > MEMORY_MAX:
        faults.append("%d MB of disk, %d MB of memory" % (outcome.disk >> 20, outcome.memory >> 20))
    if not is_printable(outcome.text):
        faults.append("words that no terminal should see: %r" % outcome.text[:300])
    for fault in faults:
        campaign.wrong("%s: %s: %s" % (case.name, fault, outcome.text.decode(errors="replace").strip()[:300]))


def can_trace():
    try:
        return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


def main():
    campaign = Campaign("restore-hostile", short=1000000, long=1000000, doc=__doc__)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    traced = can_trace()
    worst = {"memory": (0, ""), "disk": (0, ""), "time": (0, "")}
    refused = 0
    # One after the other, not as a list: some of them are large, and a process counts what its parent had.
    for case in itertools.islice((c for c in hostile.cases() if not (campaign.short and c.takes_long)), campaign.count):
        with tempfile.TemporaryDirectory(prefix="quire-crash.") as place:
            place = os.path.realpath(place)
            sandbox, into = os.path.join(place, "sandbox"), os.path.join(place, "into")
            os.mkdir(sandbox)
            hostile.write_decoys(sandbox)
            arguments = case.make(sandbox)
            before = tree(sandbox)
            outcome = run(place, arguments, into, traced and (not campaign.short or campaign.injections % SHORT_TRACES == campaign.seed % SHORT_TRACES))
            judge(campaign, case, outcome, into, before, tree(sandbox))
        campaign.injections += 1
        refused += outcome.code != 0
        for name, value in (("memory", outcome.memory), ("disk", outcome.disk), ("time", outcome.took)):
            worst[name] = max(worst[name], (value, case.name))
    print("%d refused, %d harmless%s; most memory %d MB (%s), most disk %d MB (%s), longest %.1f s (%s)" % (
        refused, campaign.injections - refused, "" if traced else ", without strace", worst["memory"][0] >> 20, worst["memory"][1], worst["disk"][0] >> 20,
        worst["disk"][1], worst["time"][0], worst["time"][1]))
    sys.exit(campaign.finish(1000 * worst["time"][0]))


if __name__ == "__main__":
    main()
