#!/usr/bin/env python3
"""quire top in a terminal: terminal.py KEY|SIGNAL COMMAND... Runs it in a terminal of its own, waits for its picture, makes the window smaller, presses the key (or sends
the signal), and looks that it ends with 0 and leaves the terminal as it was. Prints what is not so, and exits 1."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

WAIT = 20


def fail(what, seen):
    print("not so: %s\n%r" % (what, seen[-1500:]))
    sys.exit(1)


def size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Terminal:
    def __init__(self, command):
        self.seen = b""
        self.master, slave = pty.openpty()
        self.slave = slave  # kept open, so that its modes can be looked at afterwards
        size(self.master, 40, 120)
        self.modes = termios.tcgetattr(slave)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in (0, 1, 2):
                os.dup2(slave, fd)
            os.execvp(command[0], command)

    def until(self, text, what, begin=0):
        deadline = time.monotonic() + WAIT
        while text not in self.seen[begin:]:
            if time.monotonic() > deadline:
                fail(what, self.seen)
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)

    def end(self):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            while select.select([self.master], [], [], 0)[0]:
                self.seen += os.read(self.master, 65536)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while select.select([self.master], [], [], 0)[0]:
                    self.seen += os.read(self.master, 65536)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        fail("it ends", self.seen)


def main():
    how, command = sys.argv[1], sys.argv[2:]
    t = Terminal(command)
    t.until(b"LIBRARY", "the libraries are shown")
    t.until(b"q: quit", "it says how it ends")
    if termios.tcgetattr(t.slave)[3] & (termios.ECHO | termios.ICANON):
        fail("keys come at once and are not shown", t.seen)
    at = len(t.seen)
    size(t.master, 12, 30)
    t.until(b"\033[12;1Hq: quit", "the picture fits the smaller window", at)
    drawn = t.seen[at:]
    if b"\033[13;1H" in drawn:
        fail("nothing below the window", drawn)
    at = len(t.seen)
    t.until(b"\033[1;1H", "it is drawn again by itself", at)
    if how.startswith("SIG"):
        os.kill(t.pid, getattr(signal, how))
    else:
        os.write(t.master, how.encode())
    code = t.end()
    if code != 0:
        fail("exit code %d" % code, t.seen)
    if not t.seen.rstrip().endswith(b"\033[?7h\033[?25h\033[?1049l"):
        fail("cursor and first screen come back", t.seen)
    if termios.tcgetattr(t.slave) != t.modes:
        fail("the terminal's modes come back", t.seen)


main()
