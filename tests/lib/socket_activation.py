"""Sockets that outlive a server: made here, and handed to it as systemd does (LISTEN_FDS)."""

import os
import socket
import subprocess

FIRST_FD = 3
PARKING_FD = 100
BACKLOG = 1024


def listen(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(path)
    s.listen(BACKLOG)
    return s


def start(command, sockets, environment, errors):
    """`command` with the sockets from descriptor 3 on, meant for its own pid; standard error goes to the file `errors`."""
    fds = [s.fileno() for s in sockets]
    # All out of the way first, since one may stand at another's place.
    park = " ".join("%d<&%d" % (PARKING_FD + i, fd) for i, fd in enumerate(fds))
    place = " ".join("%d<&%d %d<&-" % (FIRST_FD + i, PARKING_FD + i, PARKING_FD + i) for i in range(len(fds)))
    script = 'exec %s && exec %s && LISTEN_PID=$$ LISTEN_FDS=%d exec "$@"' % (park, place, len(fds))
    with open(errors, "ab") as f:
        return subprocess.Popen(["bash", "-c", script, "bash", *command], env=environment, stdin=subprocess.DEVNULL, stderr=f, pass_fds=fds)
