"""What each service has of the critical path of a trace, computed the plain way: every trace by itself, from its root down."""

from collections import defaultdict
from dataclasses import dataclass

from windows import HOLD, NANOS, grouped, n_eff

# A root is compared with what is below it for as long as spans are kept.
LONGEST = 28 * NANOS
LARGEST, ROOTS = 10_000, 16
# Fewer traces have no slowest twentieth.
LEAST = 59
# How near to a quantile a duration may be counted on either side of it, as a histogram knows it.
NEAR = 1.01


@dataclass(frozen=True)
class Path:
    """The part of one trace that is a service's; nanoseconds."""

    end: int
    key: tuple
    time: int
    whole: int
    weight: float


def synchronous(child, parent, root):
    """Whether the parent waited for the child."""
    if child.end > root.end + HOLD or (child.kind == "CONSUMER" and child.is_entry):
        return False
    return answers(child, parent) or child.start <= parent.end


def answers(child, parent):
    """Whether both are the sides of one call."""
    return (parent.kind, child.kind) == ("CLIENT", "SERVER")


def moved(child, parent):
    """What has to be added to times of a server to see them by the clock of its client, if that cannot be as it is."""
    first, last = parent.start - child.start, parent.end - child.end
    if first > last:
        return first
    return min(max(0, first), last)


def children(span, below):
    """What is below a span: below a client whose server has its id that server, and below the server the rest."""
    return below.get(("server of", span.id)) if span.kind == "CLIENT" and ("server of", span.id) in below else below.get(span.id, ())


def visits(span, begin, end, offset, weight, below, root):
    """(span, time of its own, weight) of a span that is waited for from `begin` to `end`, and of all below it."""
    inside = []
    for child in children(span, below):
        if synchronous(child, span, root):
            late = offset + (moved(child, span) if answers(child, span) else 0)
            first, last = (min(max(time + late, begin), end) for time in (child.start, child.end))
            inside.append((last, first, child, late))
    reached, covered = end, 0
    for last, first, child, late in sorted(inside, key=lambda one: (-one[0], one[1], one[2].id)):
        waited = last <= reached
        if waited:
            covered += last - first
            reached = first
        yield from visits(child, first, last if waited else first, late, max(weight, child.weight), below, root)
    yield span, end - begin - covered, weight


def is_known(root, roots, members, by_id):
    """Whether all that the root waited for is there."""
    seen = [span for span in members if span.end <= root.end + HOLD]
    if root.end - root.start > LONGEST or len(seen) > LARGEST or roots > ROOTS:
        return False
    for span in seen:
        during = span.start <= root.end and span.end >= root.start
        parents = [other for other in by_id.get(span.parent, ()) if other.end <= root.end + HOLD]
        if span.parent and during and not parents and not (span.kind == "CONSUMER" and span.is_entry):
            return False
    return True


def paths(spans, key, kind):
    """What each service has of each trace whose path is known, by the kind of its root."""
    traces = defaultdict(list)
    for span in spans:
        traces[span.trace].append(span)
    for members in traces.values():
        below, by_id = defaultdict(list), defaultdict(list)
        for span in members:
            by_id[span.id].append(span)
        for span in members:
            is_twin = span.kind == "SERVER" and any(other.kind == "CLIENT" for other in by_id[span.id])
            below[("server of", span.id) if is_twin else span.parent].append(span)
        # Nobody waits for what begins with a message.
        roots = [span for span in below[b""] if span.kind != "PRODUCER"]
        for root in roots:
            if is_known(root, sum(not span.parent for span in members), members, by_id):
                parts = defaultdict(list)
                for span, time, weight in visits(root, root.start, root.end, 0, root.weight, below, root):
                    parts[key(span)].append((time, weight))
                for service, found in parts.items():
                    yield Path(root.end, (*kind(root)[:3], *service), sum(time for time, _ in found), root.end - root.start, max(weight for _, weight in found))


def share(rows, low, high):
    """Bounds of the share of the durations between two quantiles: those near a quantile may be on either side of it."""
    ordered = sorted(rows, key=lambda row: row.whole)
    total, reached, edges = sum(row.weight for row in ordered), 0.0, []
    for row in ordered:
        before, reached = reached, reached + row.weight
        edges += [row.whole for quantile in (low, high) if before <= quantile * total < reached and quantile > 0]
    doubtful = []
    for edge in edges:
        shares = [row.time / row.whole for row in ordered if edge / NEAR <= row.whole <= edge * NEAR]
        doubtful.append((edge, min(shares), max(shares)))
    reached = least = most = whole = 0.0
    for row in ordered:
        inside = min(reached + row.weight, high * total) - max(reached, low * total)
        reached += row.weight
        if inside > 0:
            near = [found for found in doubtful if found[0] / NEAR <= row.whole <= found[0] * NEAR]
            own = row.time / row.whole
            least += inside * row.whole * min([own, *(low for _, low, _ in near)])
            most += inside * row.whole * max([own, *(high for _, _, high in near)])
            whole += inside * row.whole
    # Durations, which are the weights of the shares, are known to half a percent.
    return least / whole / NEAR, most / whole * NEAR


def critical_path(spans, key, kind):
    """service_critical_path: of each kind of trace shares of all, of the slowest twentieth and of the middle fifth."""
    table = {}
    for at, rows in grouped((path for path in paths(spans, key, kind) if path.whole > 0), lambda path: path.key).items():
        weights = [path.weight for path in rows]
        whole = sum(path.whole * path.weight for path in rows)
        table[at] = {"samples": len(rows), "n_eff": n_eff(weights), "path_share": sum(path.time * path.weight for path in rows) / whole}
        table[at]["usual_share"] = usual = share(rows, 0.4, 0.6)
        table[at]["slow_share"] = slow = share(rows, 0.95, 1.0) if n_eff(weights) >= LEAST else None
        table[at]["excess"] = slow and (slow[0] - usual[1], slow[1] - usual[0])
    return table
