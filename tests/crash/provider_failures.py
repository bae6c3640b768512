#!/usr/bin/env python3
"""kill -9 of the supervisor or of the provider process, and SIGSTOP of that, at random moments, while a provider answers, fails, hangs and closes.

    provider_failures.py [--short] [--count N] [--seed N]

Documents are written all the while to a library of a remote model. Nothing that was acknowledged is lost or doubled; in the end every chunk has the vector of its text;
a text is asked for twice only where its answer can have been under way at one of the moments; and a start afterwards, from log and from snapshot alone, asks for nothing.
"""

import base64
import contextlib
import os
import shutil
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fake_provider import Provider, vector  # noqa: E402
from instance import Client, Instance, Oracle, Writer  # noqa: E402
from report import Campaign  # noqa: E402

DIMENSION, BATCH, PATIENCE_S = 24, 4, 60
BEHAVIOURS = ("ok", "ok", "ok", "slow:50", "status:500", "close", "hang", "unavailable:1")
SETTINGS = ("workers=4", "log_level=warn", "checkpoint_interval=1", "model.far.model=m", "model.far.retries=0", "model.far.breaker_open_ms=100", "model.far.timeout_ms=500", "model.far.connect_timeout_ms=300",
            "model.far.concurrency=2", "model.far.max_batch=%d" % BATCH)


def provider_of(instance):
    for pid in instance.children(instance.supervisor()):
        with contextlib.suppress(OSError), open("/proc/%d/cmdline" % pid, "rb") as f:
            if f.read().startswith(b"quired: provider"):
                return pid
    return None


def harm(campaign, instance, provider):
    """One moment. True: answers may have been under way."""
    what = campaign.rng.choice(("behave", "behave", "kill provider", "stop provider", "kill supervisor"))
    campaign.injections += 1
    if what == "behave":
        before = provider.state.behave
        provider.state.control({"behave": campaign.rng.choice(BEHAVIOURS)})
        return before in ("hang", "slow:50")
    if what == "kill supervisor":
        instance.kill_supervisor()
        instance.start()
        return True
    victim = provider_of(instance)
    if victim:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL if what == "kill provider" else signal.SIGSTOP)
    return True


def read(client, path):
    status, reply = client.read(path)
    if status != 200:
        raise RuntimeError("%s: %s %s" % (path, status, reply))
    return reply


def completes(campaign, client, library):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        embedding = read(client, "/v1/libraries/" + library)["metadata"]["embedding"]
        if embedding["done"] == embedding["total"]:
            return
        time.sleep(0.05)
    campaign.wrong("not complete: %s" % embedding)


def check_vectors(campaign, client, library):
    for summary in client.pages("/v1/libraries/%s/documents" % library):
        document = read(client, "/v1/libraries/%s/documents/%s?include_embeddings=true&encoding=base64" % (library, summary["id"]))
        for chunk in document["chunks"]:
            got = struct.unpack("<%df" % DIMENSION, base64.b64decode(chunk["embedding"]))
            if any(abs(a - b) > 1e-5 for a, b in zip(got, vector(chunk["text"], DIMENSION))):
                campaign.wrong("the vector of " + chunk["text"])


def asked_again(provider):
    """How often a text was answered again, those of the probe aside."""
    return sum(n - 1 for text, n in provider.state.answered.items() if n > 1 and text not in provider.probe)


def run(campaign, instance, provider):
    instance.start()
    oracle, client = Oracle(), Client(instance)
    library = client.library("far", embedding_model="far")
    completes(campaign, client, library)
    deadline = time.monotonic() + PATIENCE_S
    while not provider.state.answered and time.monotonic() < deadline:
        time.sleep(0.05)
    provider.probe = set(provider.state.answered)
    writers = [Writer(instance, library, oracle, "w%d" % i, campaign.rng.random()) for i in range(2)]
    for w in writers:
        w.start()
    moments = 0
    for _ in range(campaign.count):
        time.sleep(campaign.rng.uniform(0.05, 0.4))
        moments += harm(campaign, instance, provider)
    provider.state.control({"behave": "ok"})
    for w in writers:
        w.stopping.set()
    for w in writers:
        w.join()
        for text in w.unexpected:
            campaign.wrong(text)
    client = Client(instance)
    completes(campaign, client, library)
    campaign.take(oracle.check(client, library))
    check_vectors(campaign, client, library)
    again = asked_again(provider)
    if again > (moments + 1) * BATCH:
        campaign.wrong("%d texts were asked for again, at %d moments" % (again, moments))
    print("%d writes acknowledged, %d texts asked for, %d of them again at %d moments" % (oracle.acknowledged, len(provider.state.answered), again, moments))
    client.request("POST", "/v1/snapshots")
    while not read(client, "/v1/snapshots"):
        time.sleep(0.05)
    for arenas in (True, False):
        instance.kill_supervisor()
        if not arenas:
            shutil.rmtree(instance.data + "/vectors")
        instance.start()
        client = Client(instance)
        completes(campaign, client, library)
        check_vectors(campaign, client, library)
        campaign.take(oracle.check(client, library))
        if asked_again(provider) > again:
            campaign.wrong("a start asked for %d texts again" % (asked_again(provider) - again))


def main():
    campaign = Campaign("provider-failures", short=25, long=1500, doc=__doc__)
    provider = Provider(0, DIMENSION).start()
    with Instance("model.far.url=http://127.0.0.1:%d/v1" % provider.port, *SETTINGS, https=False) as instance:
        run(campaign, instance, provider)
        if campaign.faults:
            instance.keep()
    sys.exit(campaign.finish())


if __name__ == "__main__":
    main()
