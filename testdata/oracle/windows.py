"""What the views should say, computed the plain way: every span is put into every window it belongs to."""

import math
from collections import defaultdict

NANOS = 1_000_000_000
SIZE, SLIDE = 60 * NANOS, 5 * NANOS
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


def windows_of(time):
    """Starts of the windows [start, start + SIZE) that hold an instant."""
    last = time - time % SLIDE
    return range(last, last - SIZE, -SLIDE)


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


def sums(spans, key):
    """By (key, window start) of span ends: raw and adjusted counts, errors, and durations in seconds."""
    rows = defaultdict(lambda: {"requests": 0, "weight": 0.0, "squares": 0.0, "errors": 0, "error_weight": 0.0, "durations": []})
    for span in spans:
        for start in windows_of(span.end):
            row = rows[key(span), start]
            row["requests"] += 1
            row["weight"] += span.weight
            row["squares"] += span.weight**2
            row["errors"] += span.is_error
            row["error_weight"] += span.weight * span.is_error
            row["durations"].append(((span.end - span.start) / NANOS, span.weight))
    return rows


def latency(spans, key):
    """Counts, rates and duration quantiles by (key, window start)."""
    table = {}
    for at, row in sums(spans, key).items():
        seconds, weight = SIZE / NANOS, row["weight"]
        ordered = sorted(row["durations"])
        values = {
            "requests": row["requests"],
            "completion_rate": weight / seconds,
            "errors": row["error_weight"],
            "error_rate": row["error_weight"] / seconds,
            "error_ratio": row["error_weight"] / weight if weight else None,
            "mean": sum(d * w for d, w in ordered) / weight if weight else None,
            "max": ordered[-1][0],
            "n_eff": weight**2 / row["squares"] if row["squares"] else 0.0,
        }
        values.update({name: quantile(ordered, q) for name, q in QUANTILES.items()})
        table[at] = values
    return table


def load(spans, key):
    """Arrival and completion rates and the time-average number in flight by (key, window start)."""
    rows = defaultdict(lambda: {"arrivals": 0.0, "completions": 0.0, "busy": 0.0, "completed": 0.0, "requests": 0})
    for span in spans:
        for start in windows_over(span.start, span.end):
            row, end = rows[key(span), start], start + SIZE
            row["busy"] += span.weight * max(0, min(span.end, end) - max(span.start, start)) / NANOS
            if start <= span.start < end:
                row["arrivals"] += span.weight
            if start <= span.end < end:
                row["completions"] += span.weight
                row["requests"] += 1
                row["completed"] += span.weight * (span.end - span.start) / NANOS
    seconds = SIZE / NANOS
    return {
        at: {
            "requests": row["requests"],
            "arrival_rate": row["arrivals"] / seconds,
            "completion_rate": row["completions"] / seconds,
            "concurrency": row["busy"] / seconds,
            "little_residual": row["busy"] / row["completed"] - 1 if row["completed"] else None,
        }
        for at, row in rows.items()
    }


def differs(column, expected, actual):
    """Why two values are not the same, or none. Counts are equal, sums equal up to rounding, quantiles within 1 %."""
    if actual is None or expected is None:
        return None if actual is expected else f"expected {expected}, got {actual}"
    if isinstance(actual, bool) or not isinstance(actual, int | float) or not math.isfinite(actual):
        return f"expected {expected}, got {actual!r}"
    tolerance = 0 if column == "requests" else abs(expected) * (0.01 if column in QUANTILES or column == "max" else 1e-6) + 1e-9
    return None if abs(actual - expected) <= tolerance else f"expected {expected}, got {actual}"
