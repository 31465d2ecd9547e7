"""The metric side of the oracle against numbers worked out by hand."""

import tempfile
import unittest
from collections import Counter
from pathlib import Path

import capture
import check
import generated
import growth
import metrics
from generated import CUMULATIVE, DELTA, distribution, gauge, total
from growth import Explicit, Exponential, Number
from windows import NANOS

BEGIN = generated.BEGIN - generated.BEGIN % NANOS


def numbers(*rows):
    """(start, time, value) in seconds since the beginning; no start is none."""
    return [(0 if start is None else BEGIN + start * NANOS, BEGIN + time * NANOS, Number(value)) for start, time, value in rows]


def told(grown):
    return [((one.begin - BEGIN) // NANOS, (one.end - BEGIN) // NANOS, one.value.total, one.is_reset) for one in grown]


def points(*made):
    """The points of a capture that holds these metrics: (about, name, point), sent by one instance."""
    traffic = generated.Traffic()
    for about, name, point in made:
        traffic.add(about, name, point)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.otlp.zst"
        generated.write(path, traffic)
        return list(capture.points(path))


class Differences(unittest.TestCase):
    def test_cumulative(self):
        given = numbers((0, 10, 5), (0, 20, 9), (0, 20, 9), (None, 25, 11), (0, 30, 4), (35, 40, 2))
        expected = [(0, 10, 5, False), (10, 20, 4, False), (20, 25, 2, False), (25, 30, 4, True), (35, 40, 2, True)]
        self.assertEqual(told(growth.cumulative(given)), expected)
        # A start that is the point's own time says nothing; after that the series goes on.
        self.assertEqual(told(growth.cumulative(numbers((0, 10, 5), (20, 20, 7), (20, 30, 8)))), [(0, 10, 5, False), (20, 30, 1, False)])

    def test_the_past_of_an_old_series_is_not_a_burst(self):
        self.assertEqual(told(growth.cumulative(numbers((10, 100, 5)))), [(10, 100, 5, False)])
        self.assertEqual(told(growth.cumulative(numbers((10, 101, 5), (10, 111, 6)))), [(101, 111, 1, False)])

    def test_of_two_writers_the_longer_counts(self):
        given = numbers((0, 50, 100), (30, 51, 7), (0, 60, 120), (30, 61, 9))
        self.assertEqual(told(growth.cumulative(given)), [(0, 50, 100, False), (50, 60, 20, False)])

    def test_delta(self):
        given = numbers((0, 10, 5), (0, 10, 5), (20, 30, 6), (0, 40, 8), (38, 42, 4))
        self.assertEqual(told(growth.delta(given)), [(0, 10, 5, False), (20, 30, 6, False), (30, 40, 2, False)])
        self.assertEqual(told(growth.delta(numbers((None, 10, 5), (None, 20, 7)))), [(10, 20, 7, False)])

    def test_explicit_buckets(self):
        before, after = Explicit((1.0, 2.0), (1, 1, 0), 2, None), Explicit((1.0, 2.0), (3, 1, 4), 8, None)
        grown = after.since(before)
        self.assertEqual((grown.counts, grown.observations), ((2, 0, 4), 6))
        self.assertAlmostEqual(grown.total, 2 * 0.5 + 4 * 2.02)
        self.assertIsNone(before.since(after))
        self.assertIsNone(after.since(Explicit((1.0, 3.0), (0, 0, 0), 0, None)))
        self.assertEqual([place for place, _ in Explicit((0.0, 8.0), (1, 8, 0), 9, 0.0).places()], [0.0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5])

    def test_exponential_buckets(self):
        given = Exponential(3, 0, 0.0, {-30 + place: count for place, count in enumerate((10, 40, 120, 300, 250, 150, 80, 30, 15, 5))}, {}, None)
        self.assertAlmostEqual(given.total / given.observations, 0.108719280, places=9)
        # Buckets 0 and 1 of scale 3 are bucket 0 of scale 2, -1 and -2 are bucket -1.
        finer, coarser = Exponential(3, 0, 0.0, {0: 1, 1: 1, -1: 1, -2: 1}, {}, None), Exponential(2, 0, 0.0, {0: 4, 1: 3, -1: 2}, {}, None)
        self.assertEqual(coarser.since(finer).positive, {0: 2, 1: 3, -1: 0})
        self.assertIsNone(finer.since(coarser))
        # What lies within a higher threshold counts as zero.
        raised = Exponential(0, 5, 2.0, {2: 1}, {}, None).since(Exponential(0, 1, 0.5, {0: 2}, {}, None))
        self.assertEqual((raised.zero, raised.positive), (2, {2: 1}))


class Views(unittest.TestCase):
    def test_growth_is_shared_by_the_windows_that_it_covers(self):
        given = points((total(DELTA), "m", generated.number(0, 10, 40)), (total(DELTA), "m", generated.number(30, 40, 10)))
        rows = {start // NANOS: row for (_, start), row in metrics.rates(given).items()}
        first = rows[BEGIN // NANOS - 55]
        # 4.75 s of the first export are in the window [-55, 5), cut at whole seconds.
        self.assertAlmostEqual(first["increase"], 19.0)
        self.assertAlmostEqual(first["rate"], 4.0)
        self.assertEqual((first["samples"], first["series"]), (5, 1))
        both = rows[BEGIN // NANOS]
        self.assertAlmostEqual(both["increase"], 50.0)
        self.assertAlmostEqual(both["rate"], 50 / 40)
        self.assertAlmostEqual(both["rate_per_series"], 50 / 20)

    def test_long_growth_is_told_in_its_last_minute(self):
        given = points((total(DELTA), "m", generated.number(0, 300, 300)))
        rows = {start // NANOS: row for (_, start), row in metrics.rates(given).items()}
        self.assertEqual(min(rows), BEGIN // NANOS + 185)
        self.assertAlmostEqual(rows[BEGIN // NANOS + 240]["increase"], 59.75)
        self.assertEqual(rows[BEGIN // NANOS + 240]["samples"], 12)

    def test_levels(self):
        rows = metrics.gauges(points(*((gauge, "m", generated.number(None, time, value)) for time, value in ((1, 4), (2, 8.0), (70, 1)))))
        row = rows[("made", "oracle", "m", "1"), BEGIN]
        self.assertEqual((row["mean"], row["min"], row["max"], row["total"], row["samples"]), (6.0, 4.0, 8.0, 6.0, 2))

    def test_quantiles_are_those_of_the_merged_buckets(self):
        about = distribution("histogram", CUMULATIVE)
        values = [index / 100 for index in range(1, 101)]
        bounds = tuple(index / 10 for index in range(1, 11))
        row = metrics.histograms(points((about, "m", generated.explicit(0, 10, values, bounds))))[("made", "oracle", "m", "1"), BEGIN]
        for column, q in metrics.QUANTILES.items():
            # Eight places in a bucket are a sixteenth of it away from the interpolation at most.
            self.assertTrue(all(abs(end - q) <= 0.1 / 16 + 1e-9 for end in row[column]), (column, row[column]))
        self.assertAlmostEqual(row["mean"], 0.505)


class Shipped(unittest.TestCase):
    def test_no_shipped_view_is_left_out(self):
        shipped = Path(__file__).resolve().parents[2] / "queries" / "views"
        self.assertEqual(set(check.VIEWS), {path.stem for path in shipped.glob("*.sql")} | {"sojourn_distribution"})


class Generated(unittest.TestCase):
    def setUp(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "made.otlp.zst"
            generated.write(path)
            self.points = list(capture.points(path))

    def test_every_kind_is_in_it(self):
        kinds = Counter(map(check.kind, self.points))
        both = [f"{temporality} {kind}" for temporality in ("delta", "cumulative") for kind in ("sum", "sum that may fall", "histogram", "exponential histogram")]
        self.assertEqual(set(kinds), {*both, "gauge", "summary"})

    def test_a_wrong_value_in_any_column_is_a_difference(self):
        for view in ("metric_rates", "metric_gauges", "metric_histograms"):
            expected = check.VIEWS[view].compute(self.points)
            ends = {at: {column: value[0] if isinstance(value, tuple) else value for column, value in row.items()} for at, row in expected.items()}
            right = {at: row | {"presence": "active"} for at, row in ends.items()}
            problems = []
            check.compare(view, expected, right, problems)
            self.assertEqual(problems, [])
            at = max(right, key=lambda at: right[at]["samples"])
            for column, value in right[at].items():
                if isinstance(value, int | float) and value:
                    check.compare(view, expected, right | {at: right[at] | {column: value * 2}}, problems := [])
                    self.assertEqual(len(problems), 1, (view, column))
            check.compare(view, expected, {key: row for key, row in right.items() if key != at}, problems := [])
            self.assertIn("missing", problems[0])
            check.compare(view, {key: row for key, row in expected.items() if key != at}, right, problems := [])
            self.assertIn("not in the capture", problems[0])


if __name__ == "__main__":
    unittest.main()
