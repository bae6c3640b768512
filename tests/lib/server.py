"""A quired of its own in a temporary directory, asked over its sockets, and what its tests say when something is not so."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import socket_activation
from fcgi_client import Gone, request

QUIRED = None
MODELS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "data", "models")
WAIT = float(os.environ.get("QUIRE_TEST_WAIT", "30"))


class Failure(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what) or "not as expected")


def until(condition, what, seconds=None):
    """Polls until condition() is true, and returns what it gave."""
    deadline = time.monotonic() + (seconds or WAIT)
    while True:
        got = condition()
        if got:
            return got
        check(time.monotonic() < deadline, "did not happen in time:", what)
        time.sleep(0.002)


def limit_error(key):
    """What a client gets that goes beyond a limit, "status error_type", as the table of the code has it."""
    with open(os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src", "proc", "config.def")) as f:
        return re.search(r'^BOUND\(%s, [^"]*"[^"]*", "([^"]+)"' % key, f.read(), re.M).group(1)


class Server:
    def __init__(self, *settings, environment=None, start=True):
        self.dir = tempfile.mkdtemp(prefix="quire-proc.")
        self.socket = os.path.join(self.dir, "run", "quired.sock")
        self.write_socket = os.path.join(self.dir, "run", "quired-writes.sock")
        self.conf = os.path.join(self.dir, "quire.conf")
        self.log_path = os.path.join(self.dir, "quired.log")
        self.environment = dict(os.environ, **(environment or {}))
        self.process = None
        self.write_conf("auth = off", "workers = 2", "log_level = debug", *settings)
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    def write_conf(self, *lines):
        base = {"data_dir": self.dir + "/data", "run_dir": self.dir + "/run", "log_file": self.log_path, "model_dir": MODELS}
        for line in lines:
            key, _, value = line.partition("=")
            base[key.strip()] = value.strip()
        self.settings = base
        with open(self.conf, "w") as f:
            f.writelines("%s = %s\n" % item for item in base.items())

    def change(self, *lines):
        self.write_conf(*(["%s = %s" % item for item in self.settings.items()] + list(lines)))

    def start(self, *arguments):
        with open(os.path.join(self.dir, "stderr"), "ab") as errors:
            self.process = subprocess.Popen([QUIRED, "-c", self.conf, *arguments], env=self.environment, stdin=subprocess.DEVNULL, stderr=errors)
        self.await_ready()

    def start_with(self, sockets):
        """As systemd starts it: with listening sockets from descriptor 3 on. Waits until it hears signals, or has ended."""
        self.process = socket_activation.start([QUIRED, "-c", self.conf], sockets, self.environment, os.path.join(self.dir, "stderr"))
        until(lambda: self.process.poll() is not None or os.path.exists(self.dir + "/run/quired.pid"), "its pid file")

    def await_ready(self):
        def ready():
            check(self.process.poll() is None, "quired ended with", self.process.returncode, self.log()[-2000:])
            try:
                return request(self.socket, "GET", "/readiness").status == 200
            except Gone:
                return False

        until(ready, "readiness")

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def stop(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        return self.process.wait(WAIT)

    def workers(self):
        """Pids of the living workers."""
        out = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        return [int(p) for p in out if state_of(int(p)) not in ("Z", None)]

    def request(self, *arguments, **more):
        return request(self.socket, *arguments, **more)

    def library(self, **members):
        r = self.request("POST", "/v1/libraries", dict({"name": "test"}, **members))
        check(r.status == 201, r.status, r.body)
        return r.json()["id"]

    def put(self, library, text="some words", **more):
        return self.request("POST", "/v1/libraries/%s/documents" % library, {"title": "t", "texts": [text]}, **more)

    def search(self, library, query="some words", k=10):
        return self.request("POST", "/v1/libraries/%s/search" % library, {"query": query, "k": k, "mode": "dense"})

    def metric(self, name):
        for line in self.request("GET", "/metrics").body.decode().splitlines():
            if line.split(" ")[0] == name:
                return float(line.split(" ")[1])
        raise Failure("no metric " + name)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            for pid in self.workers():
                kill(pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        log = self.log()
        if error is not None:
            print("\n".join("# " + line for line in log.splitlines()[-40:]))
        self.close()
        sanitizer = [line for line in log.splitlines() if "Sanitizer" in line or "runtime error:" in line]
        if error is None and sanitizer:
            print("\n".join("# " + line for line in log.splitlines()[-80:]))
            raise Failure(sanitizer[0])


def state_of(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def sanitized(pid):
    with open("/proc/%d/maps" % pid) as f:
        maps = f.read()
    return "libasan" in maps or "libtsan" in maps


def kill(pid, sig):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass
