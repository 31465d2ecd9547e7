"""What the metric views should say, computed the plain way: growth is spread evenly over the time that it covers, and every
window gets its overlap; levels are put into every window that they belong to."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import growth
from windows import NANOS, SIZE, quantile, windows_of, windows_over

# Of growth over a longer time only the part in the last minute is told.
LONGEST = 60 * NANOS
# Growth is told in slices, aligned to seconds or to this, so that there are at most twelve.
COARSE, MOST = 5 * NANOS, 12
# The error of one weight in a distribution: weights are whole multiples of this.
GRAIN = 2.0**-20
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Part:
    """What one growth means for one window."""

    series: tuple
    begin: int
    end: int
    slices: int
    value: object
    is_reset: bool


def key(point):
    """The key of the metric views."""
    return point.service, point.namespace, point.metric, point.unit


def slices(begin, end, width):
    """How many slices of a width, aligned to it, an interval has a part in."""
    return (end - 1) // width - begin // width + 1


def parts(points):
    """Parts of everything that grew, by (key, window start)."""
    table = defaultdict(list)
    for point, grown in growth.of_series(points):
        told = max(grown.begin, grown.end - LONGEST)
        width = NANOS if grown.end - told <= MOST * NANOS else COARSE
        for start in windows_over(told, grown.end - 1):
            begin, end = max(told, start), min(grown.end, start + SIZE)
            value = grown.value.share((end - begin) / (grown.end - grown.begin))
            is_reset = grown.is_reset and begin == told
            table[key(point), start].append(Part(point.series, begin, end, slices(begin, end, width), value, is_reset))
    return table


def ratio(part, whole):
    """A quotient, or none."""
    return part / whole if whole else None


def coverage(found):
    """The time from the first to the last instant that is known, and what all series together cover, in seconds."""
    whole = (max(part.end for part in found) - min(part.begin for part in found)) / NANOS
    return whole, sum(part.end - part.begin for part in found) / NANOS


def rates(points):
    """metric_rates: everything that grows and is not a distribution."""
    table = {}
    for at, found in parts(points).items():
        found = [part for part in found if part.value.observations is None]
        if not found:
            continue
        increase, samples = sum(part.value.total for part in found), sum(part.slices for part in found)
        whole, covered = coverage(found)
        table[at] = {
            "increase": increase,
            "rate": ratio(increase, whole),
            "rate_per_series": ratio(increase, covered),
            "covered_seconds": covered,
            "series": len({part.series for part in found}),
            "resets": sum(part.is_reset for part in found),
            "n_eff": float(samples),
            "confidence": None,
            "samples": samples,
        }
    return table


def histograms(points):
    """metric_histograms: distributions, merged over all series."""
    table = {}
    for at, found in parts(points).items():
        found = [part for part in found if part.value.observations is not None]
        if not found:
            continue
        observations = float(sum(part.value.observations for part in found))
        whole, covered = coverage(found)
        table[at] = {
            "mean": ratio(sum(part.value.total for part in found), observations),
            "observations": observations,
            "rate": ratio(observations, whole),
            "covered_seconds": covered,
            "series": len({part.series for part in found}),
            "n_eff": observations,
            "samples": sum(part.slices for part in found),
        }
        table[at].update(quantiles(found))
    return table


def quantiles(found):
    """Quantiles of the merged distribution, as the range that rounding of the weights allows: at a rank between two places, either."""
    merged, rounded = Counter(), 0
    for part in found:
        places = part.value.places()
        rounded += len(places) * part.slices
        for place, weight in places:
            merged[place] += weight
    ordered = sorted((place, weight) for place, weight in merged.items() if weight > 0)
    total = sum(weight for _, weight in ordered)
    if not total:
        return dict.fromkeys(QUANTILES)
    slack = rounded * GRAIN / total
    return {name: (quantile(ordered, max(0.0, q - slack)), quantile(ordered, min(1.0, q + slack))) for name, q in QUANTILES.items()}


def gauges(points):
    """metric_gauges: gauges, and cumulative sums that may fall."""
    groups = defaultdict(list)
    for point in points:
        if point.kind == "gauge" or (point.kind == "sum" and not point.is_monotonic and point.temporality == "cumulative"):
            for start in windows_of(point.time):
                groups[key(point), start].append((growth.number(point.data), point.series, point.instance))
    table = {}
    for at, rows in groups.items():
        levels, series = [level for level, _, _ in rows], len({series for _, series, _ in rows})
        average = sum(levels) / len(levels)
        table[at] = {
            "mean": average,
            "min": min(levels),
            "max": max(levels),
            "total": average * series,
            "series": series,
            "instances": len({instance for _, _, instance in rows} - {None}) or None,
            "n_eff": float(len(levels)),
            "confidence": None,
            "samples": len(levels),
        }
    return table
