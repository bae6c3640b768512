"""A PostgreSQL of its own, for the programs here that measure beside it. It must be installed; as root, it runs as the user postgres."""

import os
import random
import shutil
import subprocess
import sys
import tempfile


class Cluster:
    """A cluster in a directory of its own. stop() after a start() that failed, too."""

    def __init__(self):
        self.bin = self.find()
        self.dir = tempfile.mkdtemp(prefix="quire-pg.")
        self.port = random.randrange(20000, 30000)
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(self.dir, "postgres")
        self.data = os.path.join(self.dir, "data")

    def start(self):
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres")
        self.make_certificate()
        options = "-c port=%d -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s -c max_connections=200 -c ssl=on" % (self.port, self.dir)
        self.run("pg_ctl", "-D", self.data, "-w", "-l", os.path.join(self.dir, "log"), "-o", options, "start")
        self.version = self.sql("show server_version").strip()

    @staticmethod
    def find():
        found = shutil.which("pg_ctl")
        places = [os.path.dirname(os.path.realpath(found))] if found else []
        base = "/usr/lib/postgresql"
        places += sorted((os.path.join(base, v, "bin") for v in os.listdir(base)), reverse=True) if os.path.isdir(base) else []
        if not places:
            sys.exit("PostgreSQL is needed: apt-get install postgresql")
        return places[0]

    def run(self, program, *arguments):
        done = subprocess.run(self.user + [os.path.join(self.bin, program), *arguments], cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit("%s failed: %s" % (program, done.stdout))
        return done.stdout

    def sql(self, command):
        return self.run("psql", "-h", self.dir, "-p", str(self.port), "-U", "postgres", "-XAtqc", command)

    def make_certificate(self):
        key = os.path.join(self.data, "server.key")
        subprocess.run(self.user + ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=localhost",
                                    "-keyout", key, "-out", os.path.join(self.data, "server.crt")], check=True, stderr=subprocess.DEVNULL)
        subprocess.run(self.user + ["chmod", "600", key], check=True)

    def stop(self):
        if os.path.exists(os.path.join(self.data, "postmaster.pid")):
            self.run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.dir, ignore_errors=True)
