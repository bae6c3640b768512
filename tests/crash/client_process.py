"""Client threads in a process of their own, as clients have machines of their own: else the threads of one would wait for the interpreter's lock that another holds, and all of
them as one group for a turn on a processor, and the server would be blamed for it."""

import gc
import multiprocessing
import os
import signal


class ClientProcess:
    """Runs `clients`, threads that are not started yet and end at their `stopping`, until end() is called, which returns what `result`, called there with them, returns."""

    def __init__(self, clients, result):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=run_until_told, args=(clients, result, theirs, self.pipe), daemon=True)
        self.process.start()
        theirs.close()

    def end(self):
        self.pipe.send(None)
        found = self.pipe.recv()
        self.process.join()
        self.pipe.close()
        return found


def run_until_told(clients, result, pipe, parents_end):
    parents_end.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL) # as the parent ends it where it does not come to end()
    os.setsid() # the kernel shares the processors out between sessions first
    gc.disable() # a look through all that is remembered takes half a second and more
    for t in clients:
        t.start()
    pipe.recv() # fails when the parent ends
    for t in clients:
        t.stopping.set()
    for t in clients:
        t.join()
    pipe.send(result(clients))
    pipe.close()
