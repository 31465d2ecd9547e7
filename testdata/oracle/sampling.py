"""What service_sampling should say: the requests that metrics count beside those that spans account for."""

from collections import defaultdict

import metrics
import windows

# Newer and older name of the same.
NAMES = (("http.server.request.duration", "http.server.duration"), ("rpc.server.call.duration", "rpc.server.duration"))
# Part of the RPC requests that HTTP requests must be to hold them.
AMONG = 0.95


def compared(spans, points, service):
    """service_sampling: of two names of a metric the larger, RPC among HTTP where it may be and added up where not, by the windows in which spans say something."""
    counted = defaultdict(dict)
    for ((*key, name, _), start), row in metrics.histograms(points).items():
        rates = counted[tuple(key), start]
        rates[name] = rates.get(name, 0.0) + row["observations"] / windows.SECONDS
    table = {}
    for at, load in windows.load(spans, service).items():
        rates = counted[at]
        best = [max((name for name in names if name in rates), key=rates.get, default=None) for names in NAMES]
        found = [name for name in best if name is not None]
        if len(found) == 2 and rates[found[0]] >= AMONG * rates[found[1]]:
            found = found[:1]
        measured = sum(rates[name] for name in found) if found else None
        table[at] = {
            "samples": load["samples"],
            "measured_rate": measured,
            "measured_by": " and ".join(found) or None,
            "span_rate": load["completion_rate"],
            "traced_share": load["completion_rate"] / measured if measured else None,
            "n_eff": load["n_eff"],
            # That of the worse of both sides, and all metrics of the service count.
            "presence": windows.OPEN,
        }
    return table
