"""The oracle against numbers worked out by hand. Run: python -m unittest discover testdata/oracle"""

import math
import unittest
from types import SimpleNamespace
from unittest import mock

import capture
import metrics
import paths
import sampling
import windows
from windows import NANOS


def span(start, end, weight=1.0, is_error=False, service="s", kind="SERVER", id=b"", parent=b"", **more):
    times = {"start": int(start * NANOS), "end": int(end * NANOS)}
    about = {"service": service, "namespace": None, "instance": "i", "attributes": {}, "trace": b"t", "is_entry": kind in ("SERVER", "CONSUMER")}
    return SimpleNamespace(**times, **(about | more), weight=weight, is_error=is_error, kind=kind, id=id, parent=parent)


class Sampling(unittest.TestCase):
    def test_of_two_names_the_larger_counts_and_rpc_is_among_http_where_it_may_be(self):
        key, start = ("s", None), 60 * NANOS
        rates = {"http.server.request.duration": 8.0, "http.server.duration": 10.0, "rpc.server.duration": 2.0, "db.duration": 9.0}
        rows = {((*key, name, "s"), start): {"observations": 60 * rate} for name, rate in rates.items()}
        with mock.patch.object(metrics, "histograms", lambda _: rows):
            found = sampling.compared([span(60, 61)], [], lambda one: (one.service, one.namespace))
        row = found[key, start]
        self.assertEqual((row["measured_rate"], row["measured_by"]), (10.0, "http.server.duration"))
        self.assertAlmostEqual(row["traced_share"], 1 / 60 / 10)
        rows[((*key, "rpc.server.duration", "s"), start)]["observations"] = 60 * 20.0
        with mock.patch.object(metrics, "histograms", lambda _: rows):
            row = sampling.compared([span(60, 61)], [], lambda one: (one.service, one.namespace))[key, start]
        self.assertEqual((row["measured_rate"], row["measured_by"]), (30.0, "http.server.duration and rpc.server.duration"))
        self.assertIsNone(found[key, 55 * NANOS]["traced_share"])


class Windows(unittest.TestCase):
    def test_an_instant_is_in_twelve_windows_and_an_end_on_the_edge_in_the_next(self):
        starts = [start // NANOS for start in windows.windows_of(120 * NANOS)]
        self.assertEqual(starts, list(range(120, 60, -5)))
        starts = [start // NANOS for start in windows.windows_of(120 * NANOS - 1)]
        self.assertEqual(starts, list(range(115, 55, -5)))

    def test_load_is_integrated_over_the_window(self):
        given = [(62, 66), (63, 75), (65, 65.5), (69, 79), (73, 74), (59, 63), (119, 125)]
        row = windows.load([span(*times) for times in given], lambda one: one.service)["s", 60 * NANOS]
        self.assertAlmostEqual(row["arrival_rate"], 6 / 60)
        self.assertAlmostEqual(row["completion_rate"], 6 / 60)
        self.assertAlmostEqual(row["concurrency"], (4 + 12 + 0.5 + 10 + 1 + 3 + 1) / 60)

    def test_latency_counts_weights_and_errors(self):
        given = [span(60, 61, 4.0), span(60, 62, 1.0, True), span(60, 63, 1.0)]
        row = windows.latency(given, lambda one: one.service)["s", 60 * NANOS]
        self.assertEqual((row["samples"], row["p50"], row["p90"], row["p99"]), (3, 1.0, 3.0, 3.0))
        self.assertAlmostEqual(row["error_ratio"], 1 / 6)
        self.assertAlmostEqual(row["completion_rate"], 6 / 60)
        self.assertAlmostEqual(row["n_eff"], 36 / 18)

    def test_pulses_overlap_and_sojourns_do_not(self):
        given = [span(60, 74, 4.0), span(60, 75, 1.0, True), span(60, 119, 1.0), span(119, 120)]
        pulse = windows.pulse(given, lambda one: one.service)
        self.assertEqual({start // NANOS: row["samples"] for (_, start), row in pulse.items()}, {60: 1, 65: 2, 70: 2, 75: 1, 105: 1, 110: 2, 115: 2, 120: 1})
        self.assertAlmostEqual(pulse["s", 60 * NANOS]["completion_rate"], 4 / 15)
        minute = windows.sojourn(given, lambda one: one.service)["s", 60 * NANOS]
        self.assertEqual((minute["samples"], minute["requests"], minute["errors"]), (3, 6.0, 1.0))
        held = windows.distribution(given, lambda one: one.service)["s", 60 * NANOS]
        self.assertEqual((held["counted"], held["p50"], held["p99"], held["share_above_100ms"]), (6.0, 14.0, 59.0, (1.0, 1.0)))

    def test_a_share_above_a_limit_is_known_but_for_what_is_near_it(self):
        self.assertEqual(windows.above([(0.05, 1.0), (0.1005, 1.0), (0.2, 2.0)], 0.1), (0.5, 0.75))

    def test_calls_are_paired_and_waits_are_what_the_other_side_did_not_see(self):
        given = [
            span(60, 64, kind="CLIENT", id=b"c", service="a"),
            span(61, 63, kind="SERVER", id=b"s", parent=b"c", service="b", is_error=True),
            span(60, 61, kind="PRODUCER", id=b"p", service="a"),
            span(66, 70, kind="CONSUMER", id=b"q", parent=b"p", service="w"),
            span(60, 62, kind="CLIENT", id=b"d", service="a", attributes={"db.system.name": "x", "server.address": "y"}),
            span(60, 62, kind="PRODUCER", id=b"l", service="a", attributes={"messaging.destination.name": "z"}),
        ]
        found = {call.key[2]: (call.end // NANOS, call.wait, call.server, call.is_error) for call in windows.calls_of(given)}
        expected = {"b": (64, 2.0, 2.0, True), "w": (70, 5.0, 4.0, False), "x": (62, None, None, False), "z": (126, None, None, False)}
        self.assertEqual(found, expected)
        row = windows.calls(given)[("a", None, "b", None), 60 * NANOS]
        self.assertEqual((row["samples"], row["matched_share"], row["client_p99"], row["wait_p50"]), (1, 1.0, 4.0, 2.0))

    def test_self_time_is_without_the_union_of_calls(self):
        entry = span(100, 200, id=b"e")
        inner = span(105, 150, kind="INTERNAL", id=b"i", parent=b"e")
        nested = [span(110, 140, kind="CLIENT", parent=b"e", id=b"1"), span(130, 180, kind="CLIENT", parent=b"i", id=b"2"), span(185, 195, kind="CLIENT", parent=b"e", id=b"3")]
        rows = windows.own_work([entry, inner, *nested], lambda one: one.service)
        self.assertAlmostEqual(rows["s", 180 * NANOS]["mean"], 20.0)

    def test_the_critical_path_is_walked_backwards(self):
        given = [span(0, 10, id=b"r")]
        for name, start, end in (("a", 1, 4), ("b", 3, 8), ("c", 8.5, 9.5)):
            given.append(span(start, end, id=name.encode(), parent=b"r", kind="CLIENT"))
            # Its clock is a second ahead.
            given.append(span(start + 1, end + 1, id=name.encode() * 2, parent=name.encode(), service=name, weight=2.0))

        def found(given):
            return {path.key[3]: (path.time / NANOS, path.weight) for path in paths.paths(given, lambda one: (one.service,), lambda root: (root.service, None, None))}

        expected = {"s": (4, 1), "a": (0, 2), "b": (5, 2), "c": (1, 2)}
        self.assertEqual(found(given), expected)
        self.assertEqual(found([*given, span(5, 6, kind="CONSUMER", parent=b"q", service="q")]), expected)
        self.assertEqual(found([*given, span(5, 6, parent=b"q", service="q")]), {})
        self.assertEqual(found([span(0, 29, id=b"r")]), {})
        twins = [span(0, 8, id=b"r", kind="CLIENT"), span(1, 7, id=b"r", service="t"), span(2, 4, id=b"c", parent=b"r", service="t", kind="CLIENT")]
        self.assertEqual(found(twins), {"s": (2, 1), "t": (6, 1)})

    def test_shares_between_quantiles(self):
        rows = [paths.Path(0, "s", whole * (75 if whole > 95 else 25), whole * 100, 2.0) for whole in range(1, 101)]
        for low, high, share in ((0.95, 1.0, 0.75), (0.4, 0.6, 0.25), (0.0, 1.0, (4560 * 0.25 + 490 * 0.75) / 5050)):
            least, most = paths.share(rows, low, high)
            self.assertLess(least, share)
            self.assertGreater(most, share)
            # The sample on the edge is uncertain, and there is one near it of another share.
            self.assertLess(most - least, 0.12 if low == 0.95 else 0.03)

    def test_variation_is_variance_over_squared_mean(self):
        self.assertAlmostEqual(windows.scv([(1.0, 3.0), (5.0, 1.0)]), 3 / 4)
        self.assertEqual((windows.scv([(2.0, 1.0)]), windows.scv([])), (0.0, None))

    def test_quantiles_are_nearest_rank(self):
        values = [(float(v), 1.0) for v in range(1, 11)]
        self.assertEqual([windows.quantile(values, q) for q in (0.1, 0.5, 0.9, 0.95, 1.0)], [1.0, 5.0, 9.0, 10.0, 10.0])

    def test_tolerances(self):
        self.assertIsNone(windows.differs("p99", 1.0, 1.009))
        self.assertIsNotNone(windows.differs("p99", 1.0, 1.011))
        self.assertIsNotNone(windows.differs("samples", 100, 101))
        self.assertIsNotNone(windows.differs("arrival_rate", 1.0, 1.001))
        self.assertIsNotNone(windows.differs("arrival_rate", 1.0, None))
        self.assertIsNotNone(windows.differs("arrival_rate", 1.0, math.nan))


class Capture(unittest.TestCase):
    def test_adjusted_counts(self):
        given = {"ot=th:0": 1, "ot=th:8": 2, "ot=th:c": 4, "a=b,ot=r:1;th:e666": 9.99938968568813, "ot=th:ffbe77": 1000.01287476903, "": 1, "ot=p:3": 8, "ot=p:63": 0}
        for state, expected in given.items():
            self.assertAlmostEqual(capture.weight(state), expected, places=8, msg=state)

    def test_entry_spans(self):
        def entry(kind, parent, flags, local=()):
            return capture.is_entry(SimpleNamespace(kind=kind, parent_span_id=parent, flags=flags, trace_id=b"t"), set(local))

        server, client, consumer = 2, 3, 5
        self.assertTrue(entry(server, b"", 0x100))
        self.assertTrue(entry(consumer, b"p", 0x300))
        self.assertFalse(entry(server, b"p", 0x100))
        self.assertFalse(entry(client, b"", 0x300))
        self.assertTrue(entry(server, b"p", 0))
        self.assertFalse(entry(server, b"p", 0, [(b"t", b"p")]))


if __name__ == "__main__":
    unittest.main()
