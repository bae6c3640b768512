"""Libraries that come and go, each with some documents, and what may be there of them."""

from instance import Oracle, Writer


class Libraries:
    """The oracle for whole libraries. `unexpected` gets replies that no crash explains."""

    DOUBTFUL = (None, 503, 507, 500)
    STEPS_MAX = 6

    def __init__(self, instance, prefix, rng):
        self.instance, self.prefix, self.rng = instance, prefix, rng
        self.number = 0
        self.may_be = {}  # name -> set of booleans
        self.known = {}  # name -> (id, Oracle), where the id is known
        self.unexpected = []

    def copy(self, instance):
        other = Libraries(instance, self.prefix, self.rng)
        other.number = self.number
        other.may_be = {name: set(may) for name, may in self.may_be.items()}
        other.known = {name: (id, oracle.copy()) for name, (id, oracle) in self.known.items()}
        return other

    def make(self, client):
        self.number += 1
        name = "%s-%d" % (self.prefix, self.number)
        self.may_be[name] = {True, False}
        status, reply = client.request("POST", "/v1/libraries", {"name": name})
        if status != 201:
            self.doubt(status, reply)
            return
        self.may_be[name] = {True}
        oracle = Oracle()
        self.known[name] = (reply["id"], oracle)
        writer = Writer(self.instance, reply["id"], oracle, name, self.rng.random(), batches=False)
        for _ in range(self.rng.randint(1, self.STEPS_MAX)):
            writer.step(client)
        self.unexpected += writer.unexpected

    def delete(self, client):
        name = self.rng.choice(sorted(self.known))
        id, _ = self.known.pop(name)
        self.may_be[name] = {True, False}
        status, reply = client.request("DELETE", "/v1/libraries/%s" % id)
        if status == 204:
            self.may_be[name] = {False}
        else:
            self.doubt(status, reply)

    def ask(self, client, path, body):
        """For what runs behind it: a snapshot, a compaction. Returns the reply, or None where it was refused."""
        status, reply = client.request("POST", path, body)
        if status in (200, 201, 202):
            return reply
        if status != 409:
            self.doubt(status, reply)
        return None

    def doubt(self, status, reply):
        if status not in self.DOUBTFUL:
            self.unexpected.append("status %s: %s" % (status, reply))

    def check(self, client):
        """Returns faults, and settles what was in doubt."""
        faults = []
        there = {}
        for library in client.pages("/v1/libraries?limit=1000"):
            name = library["name"]
            if name in there:
                faults.append("doubled: library %s" % name)
            there[name] = library["id"]
            if True not in self.may_be.get(name, ()):
                faults.append("deleted or never sent, but there: library %s" % name)
        for name, may in self.may_be.items():
            if may == {True} and name not in there:
                faults.append("lost: library %s" % name)
            self.may_be[name] = {name in there}
        for name, (id, oracle) in list(self.known.items()):
            if name in there:
                faults += oracle.check(client, id)
                faults += oracle.check_by_search(client, id)
        return faults
