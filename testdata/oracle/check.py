#!/usr/bin/env python3
"""Compares the final windows of a replay with an independent computation from the raw capture.

    check.py CAPTURE --binary target/debug/tracescale      replays the capture itself
    check.py CAPTURE --rows FILE                           compares JSON lines of `run --replay CAPTURE --json`

Counts and rates must be equal and quantiles within 1 %. Every window with spans must be there exactly once in its
last revision, and no window may count what is not in the capture. Exits 1 with the differences.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

sys.dont_write_bytecode = True  # nothing is left in the source tree

import capture  # noqa: E402
import windows  # noqa: E402

SHOWN = 20
# Said of every row by the engine; the oracle has its own opinion of time only.
KNOWN = ("type", "view", "window_start", "window_end", "is_final", "revision", "completeness", "age", "presence", "confidence")
SERVICE = ("service_name", "service_namespace")
EDGE = ("client_service", "client_namespace", "server_service", "server_namespace")


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


# By view: its key columns, how its rows are computed and by which key, and the columns it must have. Further columns that
# the computation knows and a row has are compared too; the others are named as not compared.
VIEWS = {
    "service_latency": (SERVICE, windows.latency, service, ("samples", "completion_rate", "mean", "p50", "p90", "p95", "p99")),
    "service_errors": (SERVICE, windows.latency, service, ("samples", "error_rate", "error_ratio")),
    "service_load": (SERVICE, windows.load, service, ("samples", "arrival_rate", "completion_rate", "concurrency")),
    "service_instances": ((*SERVICE, "service_instance_id"), windows.load, instance, ("samples", "arrival_rate", "concurrency")),
    "operation_latency": ((*SERVICE, "operation", "http_request_method"), windows.latency, operation, ("samples", "completion_rate", "p99")),
    "calls": (EDGE, windows.calls, None, ("samples", "call_rate", "client_p99", "server_p99", "wait_p99", "matched_share")),
    "service_self_time": (SERVICE, windows.own_work, service, ("samples", "mean", "p99")),
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
            done = subprocess.run([binary, "run", "--replay", path, "--speed", speed, "--json"], stdout=out, timeout=seconds, check=False)
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
        keys = VIEWS[view][0]
        at = (tuple(row.get(key) for key in keys), nanos(row["window_start"]))
        if nanos(row["window_end"]) - at[1] != windows.SIZE:
            problems.append(f"{view} {at}: a window of {nanos(row['window_end']) - at[1]} ns")
        before = found[view].get(at)
        if before is not None and before.get("revision", 0) >= row.get("revision", 0):
            problems.append(f"{view} {at}: emitted twice with revision {row.get('revision', 0)}")
        found[view][at] = row
    return found


def label(at):
    """A key and window for people."""
    key, start = at
    return f"{'/'.join(map(str, key))} [{datetime.fromtimestamp(start / windows.NANOS, timezone.utc):%H:%M:%S} +60s)"


def compare(view, expected, actual, problems):
    """Adds every difference to `problems`; the number of values compared by column."""
    required = VIEWS[view][3]
    compared, other = Counter(), set()
    for at, values in expected.items():
        row = actual.get(at)
        if row is None:
            problems.append(f"{view} {label(at)}: missing; expected {values}")
            continue
        for column in required:
            if column not in row:
                problems.append(f"{view} {label(at)}: no column {column}")
        for column, value in values.items():
            if column in row:
                compared[column] += 1
                why = windows.differs(column, value, row[column])
                if why:
                    problems.append(f"{view} {label(at)} {column}: {why}")
        other.update(column for column in row if column not in values and column not in (*KNOWN, *VIEWS[view][0]))
    for at, row in actual.items():
        surplus = [column for column in ("samples", "arrival_rate", "completion_rate", "call_rate") if row.get(column)]
        if at not in expected and surplus:
            problems.append(f"{view} {label(at)}: not in the capture, but {', '.join(f'{c} = {row[c]}' for c in surplus)}")
    return compared, other


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--binary", help="tracescale, to replay the capture with")
    source.add_argument("--rows", type=Path, help="JSON lines of a replay")
    parser.add_argument("--speed", default="max", help="replay speed (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds a replay may take (default %(default)s)")
    options = parser.parse_args()

    spans = list(capture.spans(options.capture))
    entries = [span for span in spans if span.is_entry]
    if not entries:
        raise SystemExit(f"oracle: {options.capture} has no entry spans")
    lines = options.rows.read_text().splitlines() if options.rows else replay(options.binary, options.capture, options.speed, options.timeout)
    problems = []
    found = final_rows(lines, problems)
    print(f"oracle: {len(spans)} spans, {len(entries)} entries of {len({span.service for span in entries})} services in {options.capture}")
    for view, (_, compute, key, _) in VIEWS.items():
        before = len(problems)
        expected = compute(spans, key)
        if not found[view]:
            problems.append(f"{view}: no final rows")
        compared, other = compare(view, expected, found[view], problems)
        counts = ", ".join(f"{column} {count}" for column, count in compared.items())
        print(f"oracle: {view}: {len(expected)} windows expected, {len(found[view])} found, {len(problems) - before} differences")
        print(f"oracle:   compared {counts or 'nothing'}; not compared {', '.join(sorted(other)) or 'nothing'}")
    for problem in problems[:SHOWN]:
        print(f"  {problem}")
    if len(problems) > SHOWN:
        print(f"  … and {len(problems) - SHOWN} more")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
