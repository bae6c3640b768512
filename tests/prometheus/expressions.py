#!/usr/bin/env python3
"""expressions.py - what rules and dashboard ask Prometheus for, for metrics.bats.

  expressions.py check DASHBOARD           fails with a line for each fault of the dashboard's form
  expressions.py rules DASHBOARD           a file of rules with each of its expressions, for promtool check rules
  expressions.py names RULES DASHBOARD     the families of metrics that both ask for, one a line; what rules record is none
"""

import json
import re
import sys


def panels(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["panels"]


def targets(path):
    return [(panel["title"], target["expr"]) for panel in panels(path) for target in panel.get("targets", [])]


def overlap(a, b):
    return a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def check(path):
    faults = []
    all_panels = panels(path)
    ids = [panel["id"] for panel in all_panels]
    if len(set(ids)) != len(ids):
        faults.append("an id is there twice")
    for i, panel in enumerate(all_panels):
        at = panel["gridPos"]
        if at["x"] < 0 or at["w"] < 1 or at["h"] < 1 or at["x"] + at["w"] > 24:
            faults.append(f"{panel['title']}: it leaves the 24 columns")
        faults += [f"{panel['title']} lies over {other['title']}" for other in all_panels[:i] if overlap(at, other["gridPos"])]
        if panel["type"] != "row":
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            refs = [target["refId"] for target in panel["targets"]]
            if not refs or len(set(refs)) != len(refs):
                faults.append(f"{panel['title']}: its targets have no names of their own")
            if any(source != {"type": "prometheus", "uid": "${datasource}"} for source in sources):
                faults.append(f"{panel['title']}: it has a source of its own")
            if not panel["fieldConfig"]["defaults"]["unit"]:
                faults.append(f"{panel['title']}: it has no unit")
    return faults


def filled(expr):
    for name, value in (("$__rate_interval", "5m"), ("$job", "quire"), ("$instance", ".*")):
        expr = expr.replace(name, value)
    return expr


def rules(path):
    print("groups:\n  - name: dashboard\n    rules:")
    for number, (_, expr) in enumerate(targets(path)):
        print(f"      - record: dashboard:{number}\n        expr: {json.dumps(filled(expr))}")


def names(rule_file, dashboard):
    with open(rule_file, encoding="utf-8") as file:
        expressions = re.findall(r"^ +expr: (.*)$", file.read(), re.MULTILINE)
    expressions += [expr for _, expr in targets(dashboard)]
    found = {name for expr in expressions for name in re.findall(r"(?<![\w:])((?:quire|process)_\w+)", re.sub(r'"[^"]*"', "", expr))}
    print("\n".join(sorted({re.sub(r"_(bucket|sum|count)$", "", name) for name in found})))


def main():
    if sys.argv[1] == "check":
        faults = check(sys.argv[2])
        print("\n".join(faults), end="\n" if faults else "")
        return 1 if faults else 0
    {"rules": rules, "names": names}[sys.argv[1]](*sys.argv[2:])
    return 0


sys.exit(main())
