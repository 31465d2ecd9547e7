#!/usr/bin/env python3
"""Makes a small capture of metrics with everything that is hard about them, in the framing that `tracescale record` writes.

    generated.py FILE

Sums, delta and cumulative, with restarts, unknown starts, gaps, repetitions, competing writers and slow exports; levels;
explicit and exponential histograms and summaries. Always the same bytes for the same library versions.
"""

import math
import random
import struct
import sys
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

sys.dont_write_bytecode = True  # nothing is left in the source tree

import zstandard  # noqa: E402
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest  # noqa: E402
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp  # noqa: E402

NANOS = 1_000_000_000
# Not on a second, so that slices at the ends are cut.
BEGIN = 1_767_225_600 * NANOS + 250_000_000
CUMULATIVE, DELTA = otlp.AGGREGATION_TEMPORALITY_CUMULATIVE, otlp.AGGREGATION_TEMPORALITY_DELTA
NO_VALUE = otlp.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
LAST = 180
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass
class Traffic:
    """Points by the time at which they arrive and who sends them; times in seconds since the beginning."""

    sent: dict = field(default_factory=lambda: defaultdict(list))
    draw: random.Random = field(default_factory=lambda: random.Random(7))

    def add(self, about, name, point, arrival=None, instance="a", unit="1", attributes=()):
        """One point of a metric; `about` makes the metric's data of points. It arrives at its own time when nothing else is said."""
        for key, text in attributes:
            point.attributes.add(key=key).value.string_value = text
        metric = otlp.Metric(name=name, unit=unit)
        about(metric).data_points.append(point)
        arrival = point.time_unix_nano if arrival is None else nanos(arrival)
        self.sent[arrival, instance].append(metric)

    def requests(self):
        """Export requests in the order of their arrival."""
        for (_, instance), found in sorted(self.sent.items(), key=lambda item: item[0]):
            request = ExportMetricsServiceRequest()
            resource = request.resource_metrics.add()
            for key, text in (("service.name", "made"), ("service.namespace", "oracle"), ("service.instance.id", instance)):
                resource.resource.attributes.add(key=key).value.string_value = text
            resource.scope_metrics.add(metrics=found).scope.name = "generated"
            yield request

    def latencies(self, count):
        """Durations in seconds, most of them short."""
        return [self.draw.lognormvariate(-3.0, 1.2) for _ in range(count)]


def nanos(seconds):
    """Nanoseconds since the epoch."""
    return BEGIN + round(seconds * NANOS)


def times(start, time):
    """The times of a point; no start is none."""
    return {"start_time_unix_nano": 0 if start is None else nanos(start), "time_unix_nano": nanos(time)}


def number(start, time, value, flags=0):
    """A point of a sum or gauge, whole numbers as such."""
    kind = {"as_int": value} if isinstance(value, int) else {"as_double": value}
    return otlp.NumberDataPoint(**times(start, time), **kind, flags=flags)


def gauge(metric):
    metric.gauge.SetInParent()
    return metric.gauge


def summary(metric):
    metric.summary.SetInParent()
    return metric.summary


def total(temporality, is_monotonic=True):
    """What makes a metric a sum."""

    def about(metric):
        metric.sum.aggregation_temporality, metric.sum.is_monotonic = temporality, is_monotonic
        return metric.sum

    return about


def distribution(kind, temporality):
    """What makes a metric a histogram of one of both kinds."""

    def about(metric):
        getattr(metric, kind).aggregation_temporality = temporality
        return getattr(metric, kind)

    return about


def explicit(start, time, values, bounds=BOUNDS, with_sum=True):
    """Values in explicit buckets."""
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    return otlp.HistogramDataPoint(
        **times(start, time), count=len(values), explicit_bounds=bounds, bucket_counts=counts, sum=math.fsum(values) if with_sum else None
    )


def exponential(start, time, values, scale=3, threshold=0.0, with_sum=True):
    """Values in exponential buckets."""
    sides = []
    for sign in (1, -1):
        indices = [math.ceil(math.log2(sign * value) * 2.0**scale) - 1 for value in values if sign * value > threshold]
        offset = min(indices, default=0)
        counts = [0] * (max(indices, default=-1) - offset + 1 if indices else 0)
        for index in indices:
            counts[index - offset] += 1
        sides.append(otlp.ExponentialHistogramDataPoint.Buckets(offset=offset, bucket_counts=counts))
    return otlp.ExponentialHistogramDataPoint(
        **times(start, time),
        count=len(values),
        scale=scale,
        zero_count=sum(abs(value) <= threshold for value in values),
        zero_threshold=threshold,
        positive=sides[0],
        negative=sides[1],
        sum=math.fsum(values) if with_sum else None,
    )


def counters(traffic):
    """Cumulative sums."""
    rising, draw = total(CUMULATIVE), traffic.draw
    levels = defaultdict(float)
    for time in range(10, LAST + 1, 10):
        for instance, late in (("a", 0.0), ("b", 3.3)):
            levels[instance] += draw.uniform(0, 50)
            traffic.add(rising, "steady", number(0, time + late, levels[instance]), instance=instance)
        levels["old"] += draw.randrange(100)
        whole = int(levels["old"])
        traffic.add(rising, "old", number(-3600, time, 1_000_000 + whole))
        traffic.add(rising, "start.never.said", number(None, time, whole))
        traffic.add(rising, "start.sometimes.said", number(None if time % 20 else 0, time, whole))
        # A process that was gone from 61 to 67 s, and one that only lets its value fall.
        traffic.add(rising, "restarted", number(0 if time <= 60 else 67.125, time, float(time if time <= 60 else time - 60)))
        traffic.add(rising, "fallen", number(0, time, time * 3 if time < 90 else time - 80))
        # The start is not known twice: at first and again at 100 s.
        traffic.add(rising, "start.unknown", number(10 if time < 100 else 100, time, whole + 500))
        traffic.add(rising, "start.unknown.once", number(0 if time != 100 else 100, time, whole + 500))
        # Two writers of one series; the one that is seen later says less, or more.
        traffic.add(rising, "two.writers", number(0, time, time * 2))
        if time > 30:
            traffic.add(rising, "two.writers", number(25, time + 1.5, time * 7))
            traffic.add(rising, "two.writers.longer.later", number(25, time, time * 3))
        if time > 60:
            traffic.add(rising, "two.writers.longer.later", number(0, time + 1.5, time * 11))
        order = (("a", "1"), ("b", "2"))
        traffic.add(rising, "attributes.in.any.order", number(0, time, whole), attributes=order if time % 20 else order[::-1])
        for attribute in ("x", "y", "z"):
            traffic.add(rising, "by.attribute", number(0, time, time * 2.5), attributes=[("kind", attribute)])
        # Sent twice, once more much later, and without a value now and then.
        traffic.add(rising, "repeated", number(0, time, whole))
        traffic.add(rising, "repeated", number(0, time, whole), arrival=time + 15)
        traffic.add(rising, "nothing.recorded", number(0, time, whole if time % 30 else 0, flags=0 if time % 30 else NO_VALUE))
        traffic.add(rising, "not.a.number", number(0, time, float(whole) if time % 40 else math.nan))
    for time in (60, 120, 180):
        traffic.add(rising, "every.minute", number(0, time, time * 4))
    for time in (20, 170):
        traffic.add(rising, "longer.than.told", number(0, time, time * 8))
    for time in (12, 24.001, 36.5, 37, 37.25):
        traffic.add(rising, "uneven", number(0, time, time * 16))
    traffic.add(rising, "just.fresh", number(-80, 10, 900))
    traffic.add(rising, "just.old", number(-81, 10, 900))
    for time in (40, 90, 150):  # Too young to be a burst, then replaced before the next export.
        traffic.add(rising, "always.new", number(time - 20.5, time, 33.0))


def deltas(traffic):
    """Delta sums."""
    added, draw = total(DELTA), traffic.draw
    for time in range(10, LAST + 1, 10):
        amount = draw.randrange(1, 40)
        if not 60 < time <= 100:
            traffic.add(added, "with.a.gap", number(time - 10, time, amount))
        traffic.add(added, "without.start", number(None, time, amount))
        traffic.add(total(DELTA, is_monotonic=False), "up.and.down", number(time - 10, time, draw.uniform(-5, 5)), unit="{item}")
        traffic.add(added, "sent.again", number(time - 10, time, amount))
        traffic.add(added, "sent.again", number(time - 10, time, amount), arrival=time + 2)
        traffic.add(added, "late.delta", number(time - 10, time, amount), arrival=time + 35)
    for start, time in ((0, 10), (5, 25), (20, 24), (24, 26), (40, 50), (50, 50.5)):
        traffic.add(added, "overlapping", number(start, time, (time - start) * 6.0))
    for start, time in ((30, 40), (10, 20)):  # The second comes out of order and is lost.
        traffic.add(added, "out.of.order", number(start, time, 50), arrival=41)


def levels(traffic):
    """Gauges and sums that may fall."""
    draw, moving = traffic.draw, total(CUMULATIVE, is_monotonic=False)
    for time in range(5, LAST + 1, 5):
        for instance in ("a", "b"):
            traffic.add(gauge, "level", number(None, time, draw.uniform(-10, 100)), instance=instance)
            traffic.add(moving, "in.flight", number(0, time, draw.randrange(0, 20)), instance=instance, unit="{request}")
        # On the edge of windows, which begins the later ones.
        traffic.add(gauge, "on.the.edge", number(None, time - 0.25, time))
        traffic.add(gauge, "just.before.the.edge", number(None, time - 0.250000001, time))
        # One name, two kinds.
        traffic.add(gauge if time % 10 else moving, "either", number(0, time, time % 7))
        traffic.add(gauge, "nothing.recorded.level", number(None, time, 1, flags=0 if time % 20 else NO_VALUE))
        traffic.add(gauge, "no.unit", number(None, time, 0.5), unit="")
    for time in range(10, LAST + 1, 20):
        traffic.add(gauge, "late.level", number(None, time, time), arrival=time + 40)


def histograms(traffic):
    """Explicit buckets."""
    growing, added, draw = distribution("histogram", CUMULATIVE), distribution("histogram", DELTA), traffic.draw
    held, later, other, wide = [], [], [], []
    for time in range(10, LAST + 1, 10):
        fresh = traffic.latencies(draw.randrange(0, 60))
        held += fresh
        traffic.add(growing, "explicit", explicit(0, time, held), unit="s")
        traffic.add(added, "explicit.delta", explicit(time - 10, time, fresh if time % 40 else []), unit="s")
        traffic.add(added, "explicit.without.sum", explicit(time - 10, time, fresh, with_sum=False), unit="s")
        traffic.add(growing, "explicit.without.sum.growing", explicit(0, time, held, with_sum=False), unit="s")
        later = later + fresh if time != 100 else fresh
        traffic.add(growing, "explicit.restarted", explicit(0 if time < 100 else 93.5, time, later), unit="s")
        traffic.add(growing, "explicit.fallen", explicit(0, time, later), unit="s")
        # Other bounds begin anew.
        traffic.add(growing, "explicit.other.bounds", explicit(0, time, held, BOUNDS if time < 90 else BOUNDS[1:]), unit="s")
        scale = 1 if time < 90 else 1000
        values, bounds = [value * scale for value in held], [bound * scale for bound in BOUNDS]
        traffic.add(growing, "explicit.other.scale", explicit(0, time, values, bounds))
        # It began anew, which only one bucket shows.
        moved = [0.02] * time if time < 90 else [0.2] * (time + 50)
        traffic.add(growing, "explicit.moved", explicit(0, time, moved), unit="s")
        other += traffic.latencies(20)
        traffic.add(growing, "explicit.merged", explicit(0, time, held), unit="s", attributes=[("bounds", "fine")])
        traffic.add(growing, "explicit.merged", explicit(0, time, other, (0.02, 0.2, 2.0)), unit="s", attributes=[("bounds", "coarse")])
        wide += [draw.uniform(-20, 20) for _ in range(10)]
        traffic.add(growing, "explicit.negative", explicit(0, time, wide, (-10.0, -1.0, 0.0, 1.0, 10.0)))
        low = [draw.uniform(-20, -5) for _ in range(10)]
        traffic.add(added, "explicit.mostly.below", explicit(time - 10, time, low, (-10.0, 10.0)))
        count = otlp.HistogramDataPoint(**times(0, time), count=len(later), sum=math.fsum(later))
        traffic.add(growing, "explicit.without.buckets", count, unit="s")
        quantiles = [otlp.SummaryDataPoint.ValueAtQuantile(quantile=0.5, value=0.05)]
        point = otlp.SummaryDataPoint(**times(0, time), count=len(held), sum=math.fsum(held), quantile_values=quantiles)
        traffic.add(summary, "summary", point, unit="s")


def exponentials(traffic):
    """Exponential buckets."""
    growing, added = distribution("exponential_histogram", CUMULATIVE), distribution("exponential_histogram", DELTA)
    held, later, both, draw = [], [], [], traffic.draw
    for time in range(10, LAST + 1, 10):
        fresh = traffic.latencies(draw.randrange(0, 60))
        held += fresh
        traffic.add(growing, "exponential", exponential(0, time, held, scale=6 if time < 50 else 5 if time < 120 else 2), unit="s")
        traffic.add(growing, "exponential.finer", exponential(0, time, held, scale=3 if time < 70 else 4), unit="s")
        traffic.add(added, "exponential.delta", exponential(time - 10, time, fresh, scale=4), unit="s")
        traffic.add(added, "exponential.coarse", exponential(time - 10, time, fresh, scale=0), unit="s")
        traffic.add(added, "exponential.coarsest", exponential(time - 10, time, fresh, scale=-1, with_sum=False), unit="s")
        traffic.add(growing, "exponential.without.sum", exponential(0, time, held, with_sum=False), unit="s")
        later = later + fresh if time != 80 else fresh
        traffic.add(growing, "exponential.restarted", exponential(0 if time < 80 else 75, time, later), unit="s")
        both += [draw.gauss(0, 5) for _ in range(20)]
        traffic.add(growing, "exponential.both.signs", exponential(0, time, both, threshold=0.5))
        few = [draw.gauss(0, 5) for _ in range(20)]
        traffic.add(added, "exponential.both.signs.without.sum", exponential(time - 10, time, few, with_sum=False))
        # The threshold rises in the middle: what were buckets counts as zero, or cuts a bucket, which begins anew.
        for name, threshold in (("exponential.threshold", 2.0**-4), ("exponential.threshold.within.a.bucket", 0.05)):
            traffic.add(growing, name, exponential(0, time, held, threshold=0.001 if time < 100 else threshold), unit="s")
        for instance, scale in (("a", 5), ("b", 1)):
            traffic.add(added, "exponential.merged", exponential(time - 10, time, traffic.latencies(15), scale=scale), instance=instance, unit="s")
        traffic.add(distribution("histogram", DELTA), "both.kinds", explicit(time - 10, time, fresh), instance="a", unit="s")
        traffic.add(added, "both.kinds", exponential(time - 10, time, fresh), instance="b", unit="s")


def everything():
    """All of it."""
    traffic = Traffic()
    for part in (counters, deltas, levels, histograms, exponentials):
        part(traffic)
    return traffic


def write(path, traffic=None):
    """Writes a capture, of everything when nothing else is said."""
    traffic = traffic or everything()
    with open(path, "wb") as file:
        for request in traffic.requests():
            message = zstandard.ZstdCompressor().compress(request.SerializeToString(deterministic=True))
            file.write(struct.pack(">I", len(message)) + message)


if __name__ == "__main__":
    write(sys.argv[1])
