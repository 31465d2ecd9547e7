#!/usr/bin/env python3
"""Compares the final windows of replays with an independent computation from the raw captures.

    check.py CAPTURE… --binary target/debug/tracescale     replays the captures itself
    check.py CAPTURE --rows FILE                           compares JSON lines of
                                                           `run --replay CAPTURE --config testdata/oracle/sojourn.sql --json`

With --generated a capture of metrics, which generated.py makes, is checked too. Counts and rates must be equal and
quantiles within 1 %. Every window with rows must be there exactly once in its last revision, no window may count what is
not in its capture, and every view must have something to compare in one of the captures. Exits 1 with the differences.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

sys.dont_write_bytecode = True  # nothing is left in the source tree

import capture  # noqa: E402
import generated  # noqa: E402
import metrics  # noqa: E402
import paths  # noqa: E402
import sampling  # noqa: E402
import windows  # noqa: E402

SHOWN = 20
# Said of every row by the engine; the oracle has its own opinion of time only.
KNOWN = ("type", "view", "window_start", "window_end", "is_final", "revision", "completeness", "age", "presence", "confidence")
SERVICE = ("service_name", "service_namespace")
EDGE = ("client_service", "client_namespace", "server_service", "server_namespace")
INSTANCE, OPERATION = (*SERVICE, "service_instance_id"), (*SERVICE, "operation", "http_request_method")
PLACE = ("k8s_namespace_name", "k8s_deployment_name", "k8s_statefulset_name", "faas_name", "aws_ecs_service_arn")
METRIC = (*SERVICE, "metric_name", "unit")
ROOTED = ("root_service", "root_namespace", "root_operation", *SERVICE)
# Columns that say that a row counts something.
AMOUNTS = ("samples", "arrival_rate", "completion_rate", "call_rate", "increase", "observations", "requests", "counted")
# A view of the oracle's own, of what JSON lines do not hold.
OWN = Path(__file__).with_name("sojourn.sql")


@dataclass(frozen=True)
class View:
    """Key columns, how the rows are computed from spans, from metric points or from both, the columns that there must be, and the length of a window."""

    keys: tuple
    of: str
    compute: Callable
    required: tuple
    size: int = windows.SIZE


def service(span):
    """The key of views per service."""
    return span.service, span.namespace


def instance(span):
    """The key of views per instance."""
    return span.service, span.namespace, span.instance


def operation(span):
    """The key of views per operation: the route, else the RPC method, else the destination, else the name."""
    keys = ("http.route", "rpc.method", "messaging.destination.name", "messaging.destination")
    name = next((span.attributes[key] for key in keys if key in span.attributes), span.name)
    return span.service, span.namespace, name, span.attributes.get("http.request.method", span.attributes.get("http.method"))


def workload(span):
    """The key of workloads: the service and where it runs."""
    keys = ("k8s.namespace.name", "k8s.deployment.name", "k8s.statefulset.name", "faas.name", "aws.ecs.service.arn")
    return span.service, span.namespace, *(span.resource.get(key) for key in keys)


# Further columns that the computation knows and a row has are compared too; the others are named as not compared.
VIEWS = {
    "service_latency": View(SERVICE, "spans", lambda spans: windows.latency(spans, service), ("samples", "completion_rate", "fetched_share", "mean", "p50", "p90", "p95", "p99")),
    "service_errors": View(SERVICE, "spans", lambda spans: windows.latency(spans, service), ("samples", "error_rate", "error_ratio")),
    "service_load": View(SERVICE, "spans", lambda spans: windows.load(spans, service), ("samples", "arrival_rate", "completion_rate", "concurrency")),
    "service_instances": View(INSTANCE, "spans", lambda spans: windows.load(spans, instance), ("samples", "arrival_rate", "concurrency")),
    "operation_latency": View(OPERATION, "spans", lambda spans: windows.latency(spans, operation), ("samples", "completion_rate", "p99")),
    "calls": View(EDGE, "spans", windows.calls, ("samples", "call_rate", "client_p99", "server_p99", "wait_p99", "matched_share")),
    "service_self_time": View(SERVICE, "spans", lambda spans: windows.own_work(spans, service), ("samples", "mean", "p99")),
    "service_critical_path": View(ROOTED, "spans", lambda spans: paths.critical_path(spans, service, operation), ("samples", "path_share", "usual_share", "slow_share", "excess")),
    "service_summary": View(SERVICE, "spans", lambda spans: windows.summary(spans, service), ("samples", "arrival_rate", "p99", "self_time", "service_time", "offered_load")),
    "service_sampling": View(SERVICE, "both", lambda both: sampling.compared(*both, service), ("samples", "measured_rate", "span_rate", "traced_share", "measured_by")),
    "service_pulse": View(SERVICE, "spans", lambda spans: windows.pulse(spans, service), ("samples", "completion_rate", "mean", "n_eff"), windows.PULSE),
    "service_sojourn": View(SERVICE, "spans", lambda spans: windows.sojourn(spans, service), ("samples", "requests", "errors", "n_eff")),
    "sojourn_distribution": View(SERVICE, "spans", lambda spans: windows.distribution(spans, service), ("counted", "p50", "p90", "p99", "share_above_100ms")),
    "workloads": View((*SERVICE, *PLACE), "spans", lambda spans: windows.workloads(spans, workload), ("samples", "instances")),
    "metric_rates": View(METRIC, "points", metrics.rates, ("samples", "increase", "rate", "rate_per_series", "covered_seconds", "series", "resets")),
    "metric_gauges": View(METRIC, "points", metrics.gauges, ("samples", "mean", "min", "max", "total", "series")),
    "metric_histograms": View(METRIC, "points", metrics.histograms, ("samples", "mean", "observations", "rate", "series", "p50", "p90", "p95", "p99")),
}


def nanos(time):
    """A window bound in nanoseconds, whether written as a number of nanoseconds or as a UTC date."""
    if isinstance(time, int):
        return time
    moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return round((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * 1000) * 1_000_000


def replay(binary, path, speed, seconds):
    """The JSON lines of a replay."""
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        rows = Path(folder) / "rows.jsonl"
        with rows.open("wb") as out:
            command = [binary, "run", "--replay", path, "--config", OWN, "--speed", speed, "--json", "--data-dir", folder]
            done = subprocess.run(command, stdout=out, timeout=seconds, check=False)
        if done.returncode != 0:
            raise SystemExit(f"oracle: {binary} run --replay {path} exited with {done.returncode}")
        return rows.read_text().splitlines()


def final_rows(lines, problems):
    """The last revision of every final row: {view: {(key, window start): row}}."""
    found = {view: {} for view in VIEWS}
    for line in lines:
        row = json.loads(line) if line.startswith("{") else {}
        view = row.get("view")
        if row.get("type") != "view" or view not in VIEWS or not row.get("is_final"):
            continue
        keys = VIEWS[view].keys
        at = (tuple(row.get(key) for key in keys), nanos(row["window_start"]))
        if nanos(row["window_end"]) - at[1] != VIEWS[view].size:
            problems.append(f"{view} {at}: a window of {nanos(row['window_end']) - at[1]} ns")
        before = found[view].get(at)
        if before is not None and before.get("revision", 0) >= row.get("revision", 0):
            problems.append(f"{view} {at}: emitted twice with revision {row.get('revision', 0)}")
        found[view][at] = row
    return found


def label(view, at):
    """A key and window for people."""
    key, start = at
    length = VIEWS[view].size // windows.NANOS
    return f"{'/'.join(map(str, key))} [{datetime.fromtimestamp(start / windows.NANOS, timezone.utc):%H:%M:%S} +{length}s)"


def compare(view, expected, actual, problems):
    """Adds every difference to `problems`; the number of values compared by column."""
    required = VIEWS[view].required
    compared, other = Counter(), set()
    for at, values in expected.items():
        row = actual.get(at)
        if row is None:
            problems.append(f"{view} {label(view, at)}: missing; expected {values}")
            continue
        for column in required:
            if column not in row:
                problems.append(f"{view} {label(view, at)}: no column {column}")
        for column, value in ({"presence": "active"} | values).items():
            if column in row and value is not windows.OPEN:
                compared[column] += 1
                why = windows.differs(column, value, row[column])
                if why:
                    problems.append(f"{view} {label(view, at)} {column}: {why}")
        other.update(column for column in row if column not in values and column not in (*KNOWN, *VIEWS[view].keys))
    for at, row in actual.items():
        surplus = [column for column in AMOUNTS if row.get(column)] or ["presence"] * (row.get("presence") == "active")
        if at not in expected and surplus:
            problems.append(f"{view} {label(view, at)}: not in the capture, but {', '.join(f'{c} = {row[c]}' for c in surplus)}")
    return compared, other


def kind(point):
    """What kind of point it is, for people."""
    if point.kind in ("gauge", "summary"):
        return point.kind
    falls = " that may fall" if point.kind == "sum" and not point.is_monotonic else ""
    return f"{point.temporality} {point.kind.replace('_', ' ')}{falls}"


def check(path, lines, problems):
    """Compares the rows of one replay; the number of windows expected by view."""
    seen = {"spans": list(capture.spans(path)), "points": list(capture.points(path))}
    seen["both"] = seen["spans"], seen["points"]
    entries = [span for span in seen["spans"] if span.is_entry]
    of_kinds = ", ".join(f"{count} {name}" for name, count in sorted(Counter(map(kind, seen["points"])).items()))
    found = final_rows(lines, problems)
    print(f"oracle: {Path(path).name}: {len(seen['spans'])} spans, {len(entries)} entries of {len({span.service for span in entries})} services")
    print(f"oracle: {Path(path).name}: {len(seen['points'])} metric points: {of_kinds or 'none'}")
    sizes = Counter()
    for view, about in VIEWS.items():
        before = len(problems)
        expected = about.compute(seen[about.of])
        sizes[view] = len(expected)
        compared, other = compare(view, expected, found[view], problems)
        counts = ", ".join(f"{column} {count}" for column, count in compared.items())
        if expected or found[view]:
            print(f"oracle: {view}: {len(expected)} windows expected, {len(found[view])} found, {len(problems) - before} differences")
            print(f"oracle:   compared {counts or 'nothing'}; not compared {', '.join(sorted(other)) or 'nothing'}")
    return sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="*", metavar="CAPTURE")
    parser.add_argument("--generated", action="store_true", help="make a capture of metrics and check it too")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--binary", help="tracescale, to replay the captures with")
    source.add_argument("--rows", type=Path, help="JSON lines of a replay of the one capture")
    parser.add_argument("--speed", default="max", help="replay speed (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds a replay may take (default %(default)s)")
    options = parser.parse_args()
    if options.rows and (options.generated or len(options.captures) != 1):
        parser.error("--rows goes with one capture")

    problems, sizes = [], Counter(dict.fromkeys(VIEWS, 0))
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        if options.generated:
            options.captures.append(f"{folder}/generated.otlp.zst")
            generated.write(options.captures[-1])
        for path in options.captures:
            lines = options.rows.read_text().splitlines() if options.rows else replay(options.binary, path, options.speed, options.timeout)
            sizes.update(check(path, lines, problems))
    problems += [f"{view}: nothing to compare in any capture" for view, size in sizes.items() if not size]
    for problem in problems[:SHOWN]:
        print(f"  {problem}")
    if len(problems) > SHOWN:
        print(f"  … and {len(problems) - SHOWN} more")
    print(f"oracle: {sum(sizes.values())} windows compared, {len(problems)} differences")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
