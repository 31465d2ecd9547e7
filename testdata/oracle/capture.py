"""Reads an OTLP capture as the Collector's file exporter writes it, with nothing of tracescale's.

Three forms: JSON lines; messages after a 4-byte big-endian length, each plain or a zstd frame of its own, protobuf or
JSON; or either of them inside one zstd frame.
"""

import base64
import json
import math
import struct
from dataclasses import dataclass

import zstandard
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

ZSTD = b"\x28\xb5\x2f\xfd"
REMOTE_KNOWN, REMOTE = 0x100, 0x200
NO_VALUE = 1
CLIP = 1e6


@dataclass(frozen=True)
class Span:
    """What the checks need of a span; times in nanoseconds."""

    trace: bytes
    id: bytes
    parent: bytes
    name: str
    kind: str
    start: int
    end: int
    is_error: bool
    is_entry: bool
    weight: float
    service: str
    namespace: str
    instance: str
    attributes: dict
    resource: dict
    links: tuple


@dataclass(frozen=True)
class Point:
    """A metric point of any kind; `data` is the message as sent, times are nanoseconds, a start of zero is none."""

    series: tuple
    service: str
    namespace: str
    instance: str
    metric: str
    unit: str
    kind: str
    temporality: str
    is_monotonic: bool
    start: int
    time: int
    data: object


def messages(path):
    """The messages of a capture, each decompressed."""
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(ZSTD):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    if data.lstrip().startswith(b"{"):
        yield from (line for line in data.splitlines() if line.strip())
        return
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        message = data[at + 4 : at + 4 + length]
        if len(message) != length:
            raise ValueError(f"{path}: cut off at byte {at}")
        at += 4 + length
        yield zstandard.ZstdDecompressor().decompressobj().decompress(message) if message.startswith(ZSTD) else message


def traces(path):
    """The trace requests of a capture; metrics and logs are passed over."""
    for message in messages(path):
        if message.startswith(b"{"):
            document = json.loads(message)
            request = ExportTraceServiceRequest()
            if "resourceSpans" in document:
                json_format.ParseDict(binary_ids(document), request, ignore_unknown_fields=True)
        else:
            request = parse(message, ExportTraceServiceRequest)
        if request is not None and is_traces(request):
            yield request


def metrics(path):
    """The metrics requests of a capture."""
    for message in messages(path):
        if message.startswith(b"{"):
            document = json.loads(message)
            if "resourceMetrics" in document:
                yield json_format.ParseDict(binary_ids(document), ExportMetricsServiceRequest(), ignore_unknown_fields=True)
            continue
        spans, request = parse(message, ExportTraceServiceRequest), parse(message, ExportMetricsServiceRequest)
        if request is None or (spans is not None and is_traces(spans)):
            continue
        found = [m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics]
        if found and all(metric.WhichOneof("data") for metric in found):
            yield request


def parse(message, kind):
    """The message as that kind, or none when it cannot be one."""
    request = kind()
    try:
        request.ParseFromString(message)
    except DecodeError:
        return None
    return request


def binary_ids(node):
    """OTLP/JSON writes ids as hex, protobuf's own JSON form expects base64."""
    if isinstance(node, list):
        return [binary_ids(item) for item in node]
    if not isinstance(node, dict):
        return node
    ids = ("traceId", "spanId", "parentSpanId")
    return {key: base64.b64encode(bytes.fromhex(value)).decode() if key in ids else binary_ids(value) for key, value in node.items()}


def is_traces(request):
    """The three requests share their outer shape. A span has an id of 16 bytes and two times, which neither a metric nor a log record can look like."""
    spans = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
    return bool(spans) and all(len(span.trace_id) == 16 and span.end_time_unix_nano for span in spans)


def value(any_value):
    """A scalar attribute value; others are none."""
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind) if kind in ("string_value", "int_value", "double_value", "bool_value") else None


def attributes(pairs):
    """Scalar attributes by key."""
    return {pair.key: value(pair.value) for pair in pairs}


def weight(trace_state):
    """Adjusted count from `ot=th:` or `ot=p:`; 1 when neither is there. Clipped."""
    for member in trace_state.split(","):
        vendor, _, fields = member.strip().partition("=")
        if vendor != "ot":
            continue
        for field in fields.split(";"):
            key, _, text = field.partition(":")
            if key == "th" and 1 <= len(text) <= 14:
                threshold = int(text.ljust(14, "0"), 16)
                return min((1 << 56) / ((1 << 56) - threshold), CLIP)
            if key == "p" and text.isdigit() and int(text) <= 63:
                return 0.0 if int(text) == 63 else min(math.ldexp(1.0, int(text)), CLIP)
    return 1.0


def is_entry(span, local):
    """Whether the span is where its service was entered."""
    kinds = (trace_pb2.Span.SPAN_KIND_SERVER, trace_pb2.Span.SPAN_KIND_CONSUMER)
    if span.kind not in kinds:
        return False
    if not span.parent_span_id:
        return True
    if span.flags & REMOTE_KNOWN:
        return bool(span.flags & REMOTE)
    return (span.trace_id, span.parent_span_id) not in local


def spans(path):
    """Every span of a capture in the order it was received."""
    for request in traces(path):
        for resource_spans in request.resource_spans:
            about = attributes(resource_spans.resource.attributes)
            found = [span for scope in resource_spans.scope_spans for span in scope.spans]
            local = {(span.trace_id, span.span_id) for span in found}
            for span in found:
                own = attributes(span.attributes)
                status = own.get("http.response.status_code", own.get("http.status_code"))
                failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR or (isinstance(status, int) and status >= 500)
                yield Span(
                    trace=span.trace_id,
                    id=span.span_id,
                    parent=span.parent_span_id,
                    name=span.name,
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    start=span.start_time_unix_nano,
                    end=max(span.end_time_unix_nano, span.start_time_unix_nano),
                    is_error=failed,
                    is_entry=is_entry(span, local),
                    weight=weight(span.trace_state),
                    service=about.get("service.name"),
                    namespace=about.get("service.namespace"),
                    instance=instance(about),
                    attributes=own,
                    resource=about,
                    links=tuple((link.trace_id, link.span_id) for link in span.links),
                )


def instance(resource):
    """What tells an instance from others, by the attributes of its resource."""
    return resource.get("service.instance.id") or resource.get("k8s.pod.uid") or resource.get("k8s.pod.name")


def unordered(pairs):
    """Attributes as a key that does not depend on their order."""
    return tuple(sorted(pair.SerializeToString(deterministic=True) for pair in pairs))


def points(path):
    """Every metric point of a capture that has a value, in the order it was received."""
    for request in metrics(path):
        for resource_metrics in request.resource_metrics:
            resource = resource_metrics.resource.attributes
            about = attributes(resource)
            for scope_metrics in resource_metrics.scope_metrics:
                scope = scope_metrics.scope
                origin = (unordered(resource), scope.name, scope.version, unordered(scope.attributes))
                for metric in scope_metrics.metrics:
                    kind = metric.WhichOneof("data")
                    data = getattr(metric, kind)
                    for point in data.data_points:
                        if not point.flags & NO_VALUE:
                            yield Point(
                                series=(origin, metric.name, metric.unit, unordered(point.attributes)),
                                service=about.get("service.name"),
                                namespace=about.get("service.namespace"),
                                instance=instance(about),
                                metric=metric.name,
                                unit=metric.unit,
                                kind=kind,
                                temporality=("unspecified", "delta", "cumulative")[getattr(data, "aggregation_temporality", 0)],
                                is_monotonic=getattr(data, "is_monotonic", False),
                                start=point.start_time_unix_nano,
                                time=point.time_unix_nano,
                                data=point,
                            )
