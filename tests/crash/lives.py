"""A campaign as many independent lives: each a function that runs one instance with a seed of its own, some at a time in processes of their own.

    def life(life): ... life.rng ... life.injections += 1 ... life.lost("...")
    run_lives(campaign, life, per_life=25)

Life N of seed S does the same again with --seed S --life N. A life that dies, or reports nothing, is a fault.
"""

import multiprocessing
import os
import random
import signal
import sys
import traceback

from report import Findings, interrupt


class Life(Findings):
    def __init__(self, seed, number, count):
        super().__init__()
        self.number, self.count = number, count
        self.rng = random.Random("%d.%d" % (seed, number))
        self.worst_ms = 0.0
        self.notes = {}  # figures that are added up over all lives

    def note(self, name, amount=1):
        self.notes[name] = self.notes.get(name, 0) + amount

    def took(self, seconds):
        self.worst_ms = max(self.worst_ms, 1000 * seconds)


def live(function, life, pipe):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        function(life)
    except KeyboardInterrupt:
        os._exit(130)
    except Exception:
        life.wrong("exception: " + traceback.format_exc())
    pipe.send((life.injections, life.faults, life.worst_ms, life.notes))
    pipe.close()


def run_lives(campaign, function, per_life, jobs=2):
    """Until campaign.count injections were asked for, or something was found. Returns the worst time in ms."""
    lives = -(-campaign.count // per_life)
    waiting = [campaign.life] if campaign.life is not None else list(range(lives))
    running = {}  # pipe -> (process, number)
    worst_ms = 0.0
    notes = {}
    context = multiprocessing.get_context("fork")
    try:
        while running or (waiting and not campaign.faults):
            while waiting and len(running) < jobs and not campaign.faults:
                number = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                life = Life(campaign.seed, number, per_life)
                process = context.Process(target=live, args=(function, life, theirs))
                process.start()
                theirs.close()
                running[ours] = (process, number)
            for pipe in multiprocessing.connection.wait(list(running)):
                process, number = running.pop(pipe)
                try:
                    injections, faults, life_worst_ms, life_notes = pipe.recv()
                except EOFError:
                    injections, faults, life_worst_ms, life_notes = 0, [("wrong", "it ended without a report")], 0, {}
                process.join()
                pipe.close()
                campaign.injections += injections
                worst_ms = max(worst_ms, life_worst_ms)
                for name, amount in life_notes.items():
                    notes[name] = notes.get(name, 0) + amount
                for kind, text in faults:
                    campaign.fault(kind, "life %d: %s" % (number, text))
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.join()
    print(", ".join("%s %d" % item for item in sorted(notes.items())))
    sys.stdout.flush()
    return worst_ms
