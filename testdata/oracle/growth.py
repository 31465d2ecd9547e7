"""What metric series grew by: differences of cumulative points, delta points as they are, restarts, competing writers.

A value is a number, or a distribution of one of three kinds. Each says what it gained `since` an earlier one (none when that
cannot be: it started again), a `share` of itself, its `total`, how many `observations` it has and at which `places` they lie.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise

NANOS = 1_000_000_000
# A series that began longer before its first point than this had a past that nobody saw.
FRESH = 90 * NANOS
# An explicit bucket is wide: its observations are taken to lie at this many places, at equal distances.
PARTS = 8
# From this scale on one place is enough for an exponential bucket.
FINE = 2


@dataclass(frozen=True)
class Growth:
    """What was added in the time (begin, end]."""

    begin: int
    end: int
    value: object
    is_reset: bool = False


@dataclass(frozen=True)
class Number:
    """A plain sum."""

    total: float
    observations = None

    def since(self, earlier):
        return Number(self.total - earlier.total) if self.total >= earlier.total else None

    def share(self, part):
        return Number(self.total * part)

    def places(self):
        return []


@dataclass(frozen=True)
class Summary:
    """Count and sum; the quantiles of a summary cannot be merged and are not used."""

    observations: float
    total: float

    def since(self, earlier):
        if self.observations < earlier.observations:
            return None
        return Summary(self.observations - earlier.observations, self.total - earlier.total)

    def share(self, part):
        return Summary(self.observations * part, self.total * part)

    def places(self):
        return []


@dataclass(frozen=True)
class Explicit:
    """Buckets between bounds. The first begins at zero when its bound is positive; what is above the last bound is taken to lie 1 % above it."""

    bounds: tuple
    counts: tuple
    observations: float
    sent: float | None

    def since(self, earlier):
        gained = [now - then for now, then in zip(self.counts, earlier.counts, strict=False)]
        same = self.bounds == earlier.bounds and len(self.counts) == len(earlier.counts)
        if not same or self.observations < earlier.observations or any(count < 0 for count in gained):
            return None
        return Explicit(self.bounds, tuple(gained), self.observations - earlier.observations, difference(self.sent, earlier.sent))

    def share(self, part):
        counts = tuple(count * part for count in self.counts)
        return Explicit(self.bounds, counts, self.observations * part, None if self.sent is None else self.sent * part)

    @property
    def total(self):
        if self.sent is not None:
            return self.sent
        return sum(count * (low + high) / 2 for (low, high), count in zip(self.edges(), self.counts, strict=False))

    def edges(self):
        """Lower and upper edge of every bucket."""
        if not self.bounds:
            return []
        first, last = self.bounds[0], self.bounds[-1]
        above = last + abs(last) * 0.01
        return [(0.0 if first > 0 else first, first), *pairwise(self.bounds), (above, above)]

    def places(self):
        found = []
        for (low, high), count in zip(self.edges(), self.counts, strict=False):
            parts = PARTS if high > low else 1
            found += [(low + (high - low) * (part + 0.5) / parts, count / parts) for part in range(parts) if count > 0]
        return found


@dataclass(frozen=True)
class Exponential:
    """Buckets (base^i, base^(i+1)] with base = 2^(2^-scale), by index; negative ones by the index of their magnitude."""

    scale: int
    zero: float
    threshold: float
    positive: dict
    negative: dict
    sent: float | None

    @property
    def observations(self):
        return self.zero + sum(self.positive.values()) + sum(self.negative.values())

    def at_scale(self, scale):
        """The same with fewer buckets."""
        by = self.scale - scale
        return replace(self, scale=scale, positive=halved(self.positive, by), negative=halved(self.negative, by))

    def since(self, earlier):
        # A sender may only lose resolution.
        if self.scale > earlier.scale or self.observations < earlier.observations:
            return None
        before = earlier.at_scale(self.scale)
        zero, threshold = self.zero - before.zero, max(self.threshold, before.threshold)
        sides = []
        for now, then in ((self.positive, before.positive), (self.negative, before.negative)):
            side = {index: now.get(index, 0) - then.get(index, 0) for index in {*now, *then}}
            for index in [index for index in side if self.within(index, 1) <= threshold]:
                zero += side.pop(index)
            sides.append(side)
        if zero < 0 or any(count < 0 for side in sides for count in side.values()):
            return None
        return Exponential(self.scale, zero, threshold, *sides, difference(self.sent, earlier.sent))

    def share(self, part):
        positive, negative = ({index: count * part for index, count in side.items()} for side in (self.positive, self.negative))
        return Exponential(self.scale, self.zero * part, self.threshold, positive, negative, None if self.sent is None else self.sent * part)

    def within(self, index, at):
        """The magnitude at a share of a bucket, on a logarithmic scale."""
        return 2.0 ** ((index + at) / 2.0**self.scale)

    @property
    def total(self):
        if self.sent is not None:
            return self.sent
        sides = ((1, self.positive), (-1, self.negative))
        return sum(sign * count * self.within(index, 0.5) for sign, side in sides for index, count in side.items())

    def places(self):
        parts = 1 if self.scale >= FINE else PARTS
        found = [(0.0, self.zero)] if self.zero > 0 else []
        for sign, side in ((1, self.positive), (-1, self.negative)):
            for index, count in side.items():
                found += [(sign * self.within(index, (part + 0.5) / parts), count / parts) for part in range(parts) if count > 0]
        return found


def difference(now, then):
    """The difference of two numbers that may not be known."""
    return None if now is None or then is None else now - then


def halved(side, by):
    """Buckets at a scale that is lower by that much: 2^by neighbours become one."""
    found = Counter()
    for index, count in side.items():
        found[index >> by] += count
    return dict(found)


def number(data):
    """The value of a gauge's or a sum's point."""
    return float(getattr(data, data.WhichOneof("value")))


def optional(data, field):
    """A field that the sender may have left out."""
    return getattr(data, field) if data.HasField(field) else None


def value(point):
    """What a point that can grow holds; none for the other kinds."""
    data = point.data
    if point.kind == "sum" and (point.is_monotonic or point.temporality == "delta"):
        sent = number(data)
        return Number(sent) if math.isfinite(sent) else None
    if point.kind == "histogram":
        if data.count and not data.HasField("sum") and not data.explicit_bounds:
            return None  # Nothing says how large its observations were.
        return Explicit(tuple(data.explicit_bounds), tuple(data.bucket_counts), data.count, optional(data, "sum"))
    if point.kind == "exponential_histogram":
        positive, negative = ({side.offset + place: count for place, count in enumerate(side.bucket_counts)} for side in (data.positive, data.negative))
        return Exponential(data.scale, data.zero_count, data.zero_threshold, positive, negative, optional(data, "sum"))
    if point.kind == "summary":
        return Summary(data.count, data.sum)
    return None


def cumulative(points):
    """Growth of one cumulative series from its (start, time, value), in the order they came."""
    last = None
    for start, time, now in points:
        if last is None:
            if start and 0 < time - start <= FRESH:
                yield Growth(start, time, now)
            last = (start, time, now)
            continue
        last_start, last_time, before = last
        if start and start != last_start:
            if start >= time:  # It does not say since when: a base, when it is news.
                last = (start, time, now) if time > last_time else last
                continue
            if start >= last_time:
                yield Growth(start, time, now, is_reset=True)
                last = (start, time, now)
                continue
            if last_start and last_start != last_time:  # Two writers: the one that covers more time counts.
                last = (start, time, now) if time - start > last_time - last_start else last
                continue
        if time > last_time:
            gained = now.since(before)
            yield Growth(last_time, time, now if gained is None else gained, is_reset=gained is None)
            last = (start, time, now)


def delta(points):
    """Growth of one delta series: each point over its own interval, of overlapping ones only the news of the longer."""
    covered = None
    for start, time, now in points:
        begin = start if start and start < time else covered and covered[1]
        if begin is None:  # The first, and it does not say since when.
            covered = (time, time)
        elif covered is None or begin >= covered[1]:
            if begin < time:
                yield Growth(begin, time, now)
                covered = (begin, time)
        elif time > covered[1] and time - begin > covered[1] - covered[0]:
            yield Growth(covered[1], time, now.share((time - covered[1]) / (time - begin)))
            covered = (begin, time)


def of_series(points):
    """Everything that grew: (the newest point of the series, growth), series by series."""
    series = defaultdict(list)
    for point in points:
        held = value(point)
        if held is not None:
            series[point.series].append((point, held))
    for rows in series.values():
        point = rows[-1][0]
        history = [(row.start if row.start <= row.time else 0, row.time, held) for row, held in rows]
        grown = delta if point.temporality == "delta" and point.kind != "summary" else cumulative
        for growth in grown(history):
            yield point, growth
