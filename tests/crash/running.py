"""Processes that work in a directory: found by /proc, ended by their number."""

import os
import signal
import time


def state_of(pid):
    """One letter, '' when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def living(pid):
    """A zombie has ended; it only waits for its parent."""
    return state_of(pid) not in ("Z", "X", "")


def children_of(pid):
    """Living children."""
    found = []
    try:
        tasks = os.listdir("/proc/%d/task" % pid)
    except FileNotFoundError:
        return found
    for task in tasks:
        try:
            with open("/proc/%d/task/%s/children" % (pid, task)) as f:
                found += [int(x) for x in f.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return [p for p in found if living(p)]


def uses(pid, place):
    """Does it have an argument, its directory or an open file below `place`?"""
    below = place + "/"
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            if place.encode() in f.read():
                return True
        links = ["/proc/%d/cwd" % pid] + ["/proc/%d/fd/%s" % (pid, fd) for fd in os.listdir("/proc/%d/fd" % pid)]
    except OSError:
        return False
    for link in links:
        try:
            if (os.readlink(link) + "/").startswith(below):
                return True
        except OSError:
            pass
    return False


def processes_below(place):
    """(pid, name) of each living process, but this one, that uses something below `place`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and living(int(entry)) and uses(int(entry), place):
            try:
                with open("/proc/%s/comm" % entry) as f:
                    found.append((int(entry), f.read().strip()))
            except OSError:
                pass
    return found


def wait_gone(pids, seconds):
    """Those that are still there after that time."""
    deadline = time.monotonic() + seconds
    left = [p for p in pids if living(p)]
    while left and time.monotonic() < deadline:
        time.sleep(0.002)
        left = [p for p in left if living(p)]
    return left


def end_processes(found):
    """Kills what processes_below has found, and returns those that did not end by themselves within two seconds."""
    left = wait_gone([pid for pid, _ in found], 2)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_gone(left, 5)
    return [(pid, name) for pid, name in found if pid in left]


def workers_of(supervisor):
    """Living workers that name that process as their supervisor, also after its death."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/cmdline" % entry, "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if len(words) > 3 and words[1] == b"--worker" and words[3] == b"%d" % supervisor and living(int(entry)):
                found.append(int(entry))
    return found
