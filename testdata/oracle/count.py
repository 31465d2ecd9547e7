#!/usr/bin/env python3
"""Compares a capture with the shop's own summary: every span that was acknowledged is in it, once.

    count.py CAPTURE SUMMARY
"""

import json
import sys
from collections import Counter

sys.dont_write_bytecode = True  # nothing is left in the source tree

import capture  # noqa: E402


def points(path):
    """Metric points by service."""
    found = Counter()
    for request in capture.metrics(path):
        for resource in request.resource_metrics:
            service = capture.attributes(resource.resource.attributes).get("service.name")
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                found[service, "points"] += len(getattr(metric, metric.WhichOneof("data")).data_points)
    return found


def main():
    path, summary = sys.argv[1:]
    with open(summary, encoding="utf-8") as file:
        services = json.load(file)["services"]
    seen, found = set(), points(path)
    repeated = 0
    for span in capture.spans(path):
        found[span.service, span.kind] += 1
        repeated += (span.trace, span.id) in seen
        seen.add((span.trace, span.id))
    sent = Counter()
    for service, amounts in services.items():
        sent[service, "points"] = amounts["points"]["acknowledged"]
        for kind, amount in amounts["spans"].items():
            sent[service, kind] = amount["acknowledged"]
    wrong = [f"{service} {kind}: sent {sent[service, kind]}, captured {found[service, kind]}" for service, kind in sorted(sent | found) if sent[service, kind] != found[service, kind]]
    print(f"count: {len(seen)} spans, {sum(n for (_, kind), n in found.items() if kind == 'points')} points, {repeated} spans twice, {len(wrong)} differences")
    print("".join(f"  {line}\n" for line in wrong), end="")
    return 1 if wrong or repeated else 0


if __name__ == "__main__":
    sys.exit(main())
