"""What the programs here that measure through HTTPS share: wrk, the floor, and what a process has used of the processors."""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "crash"))

BUILD = os.environ.get("QUIRE_BUILD_DIR", os.path.join(ROOT, ".build"))

LUA = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local n, id = 0, 0
function setup(thread) id = id + 1; thread:set("id", id) end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function request()
    n = n + 1
    return wrk.format(nil, nil, nil, bodies[(n * 7919 + (id or 0) * 104729) %% #bodies + 1])
end
function done(summary, latency, requests)
    io.write(string.format("RESULT %%d %%f %%f %%f %%d %%d\\n", summary.requests, summary.requests / (summary.duration / 1e6),
        latency:percentile(50) / 1000, latency:percentile(99) / 1000,
        summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


class Load:
    """One run of wrk: requests, rate (a second), p50 and p99 (ms), errors, and wrk's own processor time a request (microseconds)."""

    def __init__(self, directory, url, bodies, connections, seconds):
        script = os.path.join(directory, "wrk.lua")
        names = os.path.join(directory, "bodies")
        with open(names, "w") as f:
            f.write("\n".join(bodies) + "\n")
        with open(script, "w") as f:
            f.write(LUA % names)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        out = subprocess.run(["wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds, "--timeout", "30s", "-s", script, url],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        found = re.search(r"RESULT (\d+) (\S+) (\S+) (\S+) (\d+) (\d+)", out)
        if not found:
            sys.exit("wrk failed: " + out)
        self.requests = int(found.group(1))
        self.rate, self.p50, self.p99 = (float(found.group(i)) for i in (2, 3, 4))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.own_us = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e6 / max(self.requests, 1)
        self.errors = int(found.group(5)) + int(found.group(6))


def need_wrk():
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")


def build(*targets):
    subprocess.run(["make", "-s", "-C", BUILD, *targets], check=True)


def cpu_seconds(pids):
    """Time on a processor of all threads of these processes, by the scheduler's own count. One that ends meanwhile has its parent count it."""
    total = 0
    for pid in pids:
        try:
            for thread in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/schedstat" % (pid, thread)) as f:
                    total += int(f.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / 1e9


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(x) for x in f.read().split()]


def nginx_pids(directory):
    with open(os.path.join(directory, "nginx.pid")) as f:
        master = int(f.read())
    return [master] + children(master)


class Floor:
    """The instance's own nginx configuration with another socket and port, and workers behind it that answer at once."""

    def __init__(self, instance, workers=2, reply_bytes=4096):
        self.dir = tempfile.mkdtemp(prefix="quire-floor.")
        self.port = instance.port + 1
        self.url = "https://127.0.0.1:%d/v1/search" % self.port
        for sub in ("nginx", "logs", "tmp", "run"):
            os.mkdir(os.path.join(self.dir, sub))
        shutil.copytree(os.path.join(instance.dir, "tls"), os.path.join(self.dir, "tls"))
        for name in ("nginx.conf", os.path.join("nginx", "quire.conf")):
            with open(os.path.join(instance.dir, name)) as f:
                text = f.read().replace(instance.dir, self.dir).replace(":%d" % instance.port, ":%d" % self.port)
            with open(os.path.join(self.dir, name), "w") as f:
                f.write(text)
        socket = os.path.join(self.dir, "run", "quired.sock")
        self.worker = subprocess.Popen([os.path.join(BUILD, "bench", "floor"), socket, str(workers), str(reply_bytes)])
        while not os.path.exists(socket):
            time.sleep(0.01)
        subprocess.run(["nginx", "-p", self.dir, "-c", os.path.join(self.dir, "nginx.conf")], check=True, stderr=subprocess.DEVNULL)

    def pids(self):
        return [self.worker.pid] + children(self.worker.pid)

    def stop(self):
        self.worker.terminate()
        self.worker.wait()
        try:
            with open(os.path.join(self.dir, "nginx.pid")) as f:
                os.kill(int(f.read()), 15)
        except FileNotFoundError:
            pass
        shutil.rmtree(self.dir, ignore_errors=True)


def wait_linked(client, library):
    while client.request("GET", "/v1/libraries/%s/statistics" % library)[1]["index_stats"]["tail"] > 0:
        time.sleep(0.2)


def verdict(what, value, bound, goal):
    reached = {"at least": value >= goal, "above": value > goal, "at most": value <= goal}[bound]
    print("  %-66s %8.3f   %s %.3f: %s" % (what, value, bound, goal, "PASS" if reached else "short of the goal"), flush=True)
