"""What the views should say, computed the plain way: every row is put into every window it belongs to.

Each view is a function of the capture that gives {(key, window start): {column: value}}.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

NANOS = 1_000_000_000
SIZE, SLIDE = 60 * NANOS, 5 * NANOS
SECONDS = SIZE / NANOS
# The length of the windows of service_pulse.
PULSE = 15 * NANOS
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p999": 0.999}
# Columns that come from a histogram whose values are within 1 % of the samples.
SKETCHED = ("wait_p05", *(f"{prefix}{name}" for prefix in ("", "client_", "server_", "wait_", "self_time_") for name in QUANTILES))
# What is left open.
OPEN = object()
# How long a message may be under way, and how long its producer is kept before it counts as never delivered.
MESSAGE, GIVEN_UP = 60 * NANOS, 64 * NANOS
# A child that ends this much later than the entry span was not waited for.
HOLD = 2 * NANOS


@dataclass(frozen=True)
class Call:
    """One call between two services; durations and wait in seconds."""

    end: int
    key: tuple
    weight: float
    is_error: bool
    client: float
    server: float | None
    wait: float | None


def windows_of(time, size=SIZE):
    """Starts of the windows [start, start + size) that hold an instant."""
    last = time - time % SLIDE
    return range(last, last - size, -SLIDE)


def windows_over(start, end):
    """Starts of the windows that share any time with [start, end]."""
    return range(start - start % SLIDE - SIZE + SLIDE, end + 1, SLIDE)


def quantile(weighted, q):
    """The smallest value with at least the share `q` of the weight at or below it; `weighted` is sorted."""
    total = sum(weight for _, weight in weighted)
    # A rank that floating point pushed over a whole number is that number.
    need, reached = total * q * (1 - 1e-12), 0.0
    for value, weight in weighted:
        reached += weight
        if reached >= need:
            return value
    return weighted[-1][0] if weighted else None


def mean(weighted):
    """The weighted mean, or none."""
    total = sum(weight for _, weight in weighted)
    return sum(value * weight for value, weight in weighted) / total if total else None


def scv(weighted):
    """The squared coefficient of variation, or none."""
    middle, total = mean(weighted), sum(weight for _, weight in weighted)
    return sum(weight * (value - middle) ** 2 for value, weight in weighted) / total / middle**2 if middle else None


def n_eff(weights):
    """How many equally weighted samples say as much."""
    squares = sum(weight * weight for weight in weights)
    return sum(weights) ** 2 / squares if squares else 0.0


def grouped(rows, key):
    """Rows by (key, window start) of their end."""
    groups = defaultdict(list)
    for row in rows:
        for start in windows_of(row.end):
            groups[key(row), start].append(row)
    return groups


def rates(rows, rate):
    """The columns that every view of ended rows has; `rate` names the rate of all rows."""
    weights = [row.weight for row in rows]
    failed = sum(row.weight for row in rows if row.is_error)
    return {
        "samples": len(rows),
        rate: sum(weights) / SECONDS,
        "error_rate": failed / SECONDS,
        "error_ratio": failed / sum(weights) if sum(weights) else None,
        "n_eff": n_eff(weights),
    }


def duration(span):
    """Duration in seconds."""
    return (span.end - span.start) / NANOS


def latency(spans, key):
    """service_latency, service_errors and operation_latency: entry spans by their end."""
    table = {}
    for at, rows in grouped((span for span in spans if span.is_entry), key).items():
        ordered = sorted((duration(span), span.weight) for span in rows)
        table[at] = rates(rows, "completion_rate") | {"mean": mean(ordered), "max": ordered[-1][0]}
        table[at].update({name: quantile(ordered, q) for name, q in QUANTILES.items()})
        fetched = sum(span.weight for span in rows if span.kind == "CONSUMER")
        table[at]["fetched_share"] = fetched / sum(span.weight for span in rows)
    return table


def tumbling(spans, key):
    """Entry spans by (key, window start) of their end, in windows that do not overlap."""
    groups = defaultdict(list)
    for span in spans:
        if span.is_entry:
            groups[key(span), span.end - span.end % SIZE].append(span)
    return groups


def pulse(spans, key):
    """service_pulse: what was answered in the last quarter minute."""
    table, groups = {}, defaultdict(list)
    for span in spans:
        if span.is_entry:
            for start in windows_of(span.end, PULSE):
                groups[key(span), start].append(span)
    for at, rows in groups.items():
        weights = [span.weight for span in rows]
        table[at] = {"samples": len(rows), "completion_rate": sum(weights) / (PULSE / NANOS), "n_eff": n_eff(weights)}
        table[at]["mean"] = mean([(duration(span), span.weight) for span in rows])
    return table


def sojourn(spans, key):
    """service_sojourn: how many requests ended in a minute, and failed."""
    table = {}
    for at, rows in tumbling(spans, key).items():
        weights = [span.weight for span in rows]
        failed = sum(span.weight for span in rows if span.is_error)
        table[at] = {"samples": len(rows), "requests": sum(weights), "errors": failed, "n_eff": n_eff(weights)}
    return table


def distribution(spans, key):
    """What the distributions of service_sojourn hold."""
    table = {}
    for at, rows in tumbling(spans, key).items():
        ordered = sorted((duration(span), span.weight) for span in rows)
        total = sum(weight for _, weight in ordered)
        table[at] = {"counted": total} | {name: quantile(ordered, QUANTILES[name]) for name in ("p50", "p90", "p99")}
        table[at]["share_above_100ms"] = above(ordered, 0.1) if total else None
    return table


def above(weighted, limit):
    """Bounds of the share above a limit, as a histogram knows it whose values are within 1 % of the samples."""
    total = sum(weight for _, weight in weighted)
    return tuple(sum(weight for value, weight in weighted if value > limit * near) / total for near in (1.01, 0.99))


def load(spans, key):
    """service_load and service_instances: arrivals, completions and the time-average number in flight."""
    groups = defaultdict(list)
    for span in spans:
        if span.is_entry:
            for start in windows_over(span.start, span.end):
                groups[key(span), start].append(span)
    table = {}
    for (name, start), rows in groups.items():
        end = start + SIZE
        ended = [span for span in rows if start <= span.end < end]
        busy = sum(span.weight * max(0, min(span.end, end) - max(span.start, start)) for span in rows) / NANOS
        sojourn = mean([(duration(span), span.weight) for span in ended])
        completed = sum(span.weight for span in ended) * (sojourn or 0)
        table[name, start] = {
            "samples": len(ended),
            "arrival_rate": sum(span.weight for span in rows if start <= span.start < end) / SECONDS,
            "completion_rate": sum(span.weight for span in ended) / SECONDS,
            "concurrency": busy / SECONDS,
            "mean_sojourn": sojourn,
            "little_residual": busy / completed - 1 if completed else None,
            "instances": len({span.instance for span in rows}),
            "n_eff": n_eff([span.weight for span in ended]),
        }
    return table


def workloads(spans, key):
    """workloads: how many instances of what runs somewhere had entry spans; none when they do not tell themselves apart."""
    table = {}
    for at, rows in grouped((span for span in spans if span.is_entry), key).items():
        known = {span.instance for span in rows} - {None}
        table[at] = {"samples": len(rows), "instances": len(known) or None, "n_eff": n_eff([span.weight for span in rows])}
    return table


def peer(span):
    """Whom a call goes to, by what the caller says."""
    keys = ("service.peer.name", "peer.service", "db.system.name", "db.system", "messaging.destination.name", "messaging.destination")
    return next((span.attributes[key] for key in (*keys, "server.address", "net.peer.name", "http.host") if key in span.attributes), None)


def calls_of(spans):
    """Every call: clients with their servers, producers with their consumers, and those without."""
    below = defaultdict(list)
    for span in spans:
        below[span.trace, span.parent].append(span)
    for caller in spans:
        if caller.kind not in ("CLIENT", "PRODUCER"):
            continue
        message, found = caller.kind == "PRODUCER", False
        for other in below[caller.trace, caller.id]:
            if other.kind != ("CONSUMER" if message else "SERVER"):
                continue
            if message and not (other.is_entry and other.end <= caller.end + MESSAGE):
                continue
            found = True
            wait = other.start - caller.end if message else (caller.end - caller.start) - (other.end - other.start)
            key = (caller.service, caller.namespace, other.service, other.namespace)
            weight, failed = max(caller.weight, other.weight), caller.is_error or other.is_error
            end = other.end if message else caller.end
            yield Call(end, key, weight, failed, duration(caller), duration(other), max(0, wait) / NANOS)
        if not found:
            key = (caller.service, caller.namespace, peer(caller), None)
            yield Call(caller.end + (GIVEN_UP if message else 0), key, caller.weight, caller.is_error, duration(caller), None, None)


def calls(spans):
    """calls: one row per edge between two services."""
    table = {}
    for at, rows in grouped(calls_of(spans), lambda call: call.key).items():
        table[at] = rates(rows, "call_rate")
        matched = sum(call.weight for call in rows if call.server is not None)
        table[at]["matched_share"] = matched / sum(call.weight for call in rows) if rows else None
        for name in ("client", "server", "wait"):
            ordered = sorted((getattr(call, name), call.weight) for call in rows if getattr(call, name) is not None)
            table[at][f"{name}_mean"] = mean(ordered)
            table[at].update({f"{name}_{column}": quantile(ordered, q) for column, q in QUANTILES.items()})
            if name == "wait":
                table[at]["wait_p05"] = quantile(ordered, 0.05)
    return table


def self_time(entry, below):
    """Duration of an entry span without the union of the calls made by it and by the local spans below it, in seconds."""
    intervals, stack, seen = [], [entry], set()
    while stack:
        above = stack.pop()
        for child in below[above.trace, above.id]:
            if child.end > entry.end + HOLD or child.id in seen:
                continue
            seen.add(child.id)
            if child.kind in ("CLIENT", "PRODUCER") or (child.kind == "SERVER" and child.is_entry):
                intervals.append((max(child.start, entry.start), min(child.end, entry.end)))
            elif not (child.kind == "CONSUMER" and child.is_entry) and (child.service, child.namespace) == (entry.service, entry.namespace):
                stack.append(child)
    covered, until = 0, entry.start
    for start, end in sorted(intervals):
        covered += max(0, end - max(start, until))
        until = max(until, end)
    return (entry.end - entry.start - covered) / NANOS


def own_work(spans, key):
    """service_self_time: how long services work themselves."""
    below = defaultdict(list)
    for span in spans:
        below[span.trace, span.parent].append(span)
    own = {id(span): self_time(span, below) for span in spans if span.is_entry}
    table = {}
    for at, rows in grouped((span for span in spans if span.is_entry), key).items():
        ordered = sorted((own[id(span)], span.weight) for span in rows)
        whole = sum(duration(span) * span.weight for span in rows)
        weights = [span.weight for span in rows]
        table[at] = {"samples": len(rows), "mean": mean(ordered), "max": ordered[-1][0], "n_eff": n_eff(weights)}
        table[at]["scv"] = scv(ordered)
        table[at]["self_share"] = sum(value * weight for value, weight in ordered) / whole if whole else None
        table[at].update({name: quantile(ordered, q) for name, q in QUANTILES.items()})
    return table


def summary(spans, key):
    """service_summary: the views of a service side by side. Where no request ended it is as idle as they say, its errors zero or unknown."""
    ended, own, table = latency(spans, key), own_work(spans, key), load(spans, key)
    for at, row in table.items():
        there, work = ended.get(at, {}), own.get(at, {})
        row.update({column: there.get(column) for column in (*QUANTILES, "max")})
        row.update({column: there.get(column, OPEN) for column in ("error_rate", "error_ratio")})
        row["presence"] = "active" if there and work else OPEN
        row.update({"self_time": work.get("mean"), "self_time_p99": work.get("p99"), "service_scv": work.get("scv")})
        row["service_time"] = row["mean_sojourn"] if row["self_time"] is None else row["self_time"]
        row["offered_load"] = None if row["service_time"] is None else row["arrival_rate"] * row["service_time"]
    return table


def differs(column, expected, actual):
    """Why two values are not the same, or none. Counts are equal, sums equal up to rounding, quantiles within 1 % (of a range: of its ends)."""
    if isinstance(expected, tuple):
        low, high = expected
        inside = isinstance(actual, int | float) and low <= actual <= high
        return None if inside else differs(column, min(expected, key=lambda end: abs(end - (actual or 0))), actual)
    if actual is None or expected is None or isinstance(expected, str):
        return None if actual == expected else f"expected {expected}, got {actual}"
    if isinstance(actual, bool) or not isinstance(actual, int | float) or not math.isfinite(actual):
        return f"expected {expected}, got {actual!r}"
    relative = 0.01 if column in SKETCHED else 1e-6
    tolerance = 0 if isinstance(expected, int) else abs(expected) * relative + 1e-9
    return None if abs(actual - expected) <= tolerance else f"expected {expected}, got {actual}"
