"""What each campaign in python shares: its arguments, its seed, the faults it finds, the line it ends with.

    campaign = Campaign("name", short=20, long=2000, doc=__doc__)
    for _ in range(campaign.count): ...
        campaign.injections += 1
        campaign.lost("document w1-7") / .duplicated(...) / .wrong(...)
    sys.exit(campaign.finish(worst_ms))

SIGINT and SIGTERM both become KeyboardInterrupt, so that "with" and "finally" clean up however it is ended.
"""

import argparse
import os
import random
import signal
import sys
import threading

SHOWN = 30
SKIPPED = 77


def interrupt(number, frame):
    raise KeyboardInterrupt


class Findings:
    def __init__(self):
        self.injections = 0
        self.faults = []  # (kind, text)
        self.mutex = threading.Lock()

    def fault(self, kind, text):
        with self.mutex:
            self.faults.append((kind, text))

    def lost(self, text):
        self.fault("lost", text)

    def duplicated(self, text):
        self.fault("duplicated", text)

    def wrong(self, text):
        self.fault("wrong", text)

    def take(self, faults):
        """Faults as an oracle's checks give them: 'lost: ...', 'doubled: ...', others."""
        for text in faults:
            word = text.split(":", 1)[0]
            self.fault({"lost": "lost", "doubled": "duplicated"}.get(word, "wrong"), text)


class Campaign(Findings):
    def __init__(self, name, short, long, doc):
        super().__init__()
        self.name = name
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--short", action="store_true", help="%d injections instead of %d" % (short, long))
        parser.add_argument("--count", type=int, help="another number of injections")
        parser.add_argument("--seed", type=int, help="that of a run that failed")
        parser.add_argument("--life", type=int, help="only this one, where a campaign has several lives")
        arguments = parser.parse_args()
        self.short = arguments.short
        self.count = arguments.count or (short if arguments.short else long)
        self.seed = arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(4), "little")
        self.life = arguments.life
        self.rng = random.Random(self.seed)
        # A shell's background job starts with SIGINT ignored.
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)
        print("%s: %d injections, seed %d" % (name, self.count, self.seed), flush=True)

    def fault(self, kind, text):
        super().fault(kind, text)
        if len(self.faults) <= SHOWN:
            print("%s: %s" % (kind, text), flush=True)

    def skip(self, why):
        print("%s: %s" % (self.name, why), flush=True)
        sys.exit(SKIPPED)

    def finish(self, worst_ms=None):
        """Prints what is left to say and the last line; the exit code."""
        if len(self.faults) > SHOWN:
            print("... and %d faults more" % (len(self.faults) - SHOWN))
        if self.faults:
            print("seed %d" % self.seed)
        of = {kind: len([1 for k, _ in self.faults if k == kind]) for kind in ("lost", "duplicated", "wrong")}
        print("campaign %s injections=%d lost=%d duplicated=%d wrong=%d worst_ms=%s" % (
            self.name, self.injections, of["lost"], of["duplicated"], of["wrong"], "-" if worst_ms is None else "%.0f" % worst_ms), flush=True)
        return 1 if self.faults or self.injections == 0 else 0
