// Sends a known amount of telemetry with the OpenTelemetry SDK for JavaScript and prints what was acknowledged.
//
//     sdk.mjs SERVICE PROTOCOL ENDPOINT SPANS      PROTOCOL: grpc, http/protobuf or http/json
//
// Prints one JSON object: {"traces": spans, "metrics": points, "entries": server spans}, counted where the exporter
// reported success. Packages come from NODE_PATH-like resolution beside the working folder, so that nothing is
// installed into the source tree.

import { createRequire } from "node:module";
import { join } from "node:path";

const load = createRequire(join(process.cwd(), "package.json"));
const { SpanKind, SpanStatusCode, context, trace } = load("@opentelemetry/api");
const { resourceFromAttributes } = load("@opentelemetry/resources");
const { AggregationTemporality, AggregationType, MeterProvider, PeriodicExportingMetricReader } = load("@opentelemetry/sdk-metrics");
const { BasicTracerProvider, BatchSpanProcessor } = load("@opentelemetry/sdk-trace-base");

const [service, protocol, endpoint, amountText] = process.argv.slice(2);
const amount = Number(amountText);
const tally = { traces: 0, metrics: 0 };

function exporters() {
  const temporalityPreference = AggregationTemporality.CUMULATIVE;
  if (protocol === "grpc") {
    const { OTLPTraceExporter } = load("@opentelemetry/exporter-trace-otlp-grpc");
    const { OTLPMetricExporter } = load("@opentelemetry/exporter-metrics-otlp-grpc");
    return [new OTLPTraceExporter({ url: endpoint }), new OTLPMetricExporter({ url: endpoint, temporalityPreference })];
  }
  const kind = protocol === "http/json" ? "http" : "proto";
  const { OTLPTraceExporter } = load(`@opentelemetry/exporter-trace-otlp-${kind}`);
  const { OTLPMetricExporter } = load(`@opentelemetry/exporter-metrics-otlp-${kind}`);
  const compression = "gzip";
  return [
    new OTLPTraceExporter({ url: `${endpoint}/v1/traces`, compression }),
    new OTLPMetricExporter({ url: `${endpoint}/v1/metrics`, compression, temporalityPreference }),
  ];
}

function count(exporter, key, size) {
  const send = exporter.export.bind(exporter);
  exporter.export = (batch, done) =>
    send(batch, (result) => {
      const name = result.code === 0 ? key : `${key}_failed`;
      tally[name] = (tally[name] ?? 0) + size(batch);
      done(result);
    });
  return exporter;
}

const points = (data) => data.scopeMetrics.flatMap((scope) => scope.metrics).reduce((sum, metric) => sum + metric.dataPoints.length, 0);

const [spanExporter, metricExporter] = exporters();
const resource = resourceFromAttributes({
  "service.name": service,
  "service.namespace": "peers",
  "service.instance.id": `${service}-1`,
  "process.pid": 9007199254740991, // the largest integer JavaScript keeps: a string in OTLP/JSON
});
const tracing = new BasicTracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor(count(spanExporter, "traces", (batch) => batch.length), { maxExportBatchSize: 64 })],
});
const tracer = tracing.getTracer("peers", "1.0");
for (let number = 0; number < amount / 2; number++) {
  const server = tracer.startSpan("POST /things", { kind: SpanKind.SERVER, attributes: { "http.request.method": "POST", "http.route": "/things" } });
  const cx = trace.setSpan(context.active(), server);
  const client = tracer.startSpan("POST", { kind: SpanKind.CLIENT, attributes: { "server.address": "other", "server.port": 443 } }, cx);
  client.setAttribute("http.response.status_code", 200);
  client.end();
  if (number % 10 === 0) {
    server.recordException(new Error("out of things"));
    server.setStatus({ code: SpanStatusCode.ERROR, message: "out of things" });
  }
  server.end();
}
const reader = new PeriodicExportingMetricReader({ exporter: count(metricExporter, "metrics", points), exportIntervalMillis: 3_600_000 });
const metering = new MeterProvider({
  resource,
  readers: [reader],
  views: [{ instrumentName: "exponential", aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }],
});
const meter = metering.getMeter("peers", "1.0");
const counter = meter.createCounter("peers.counter", { unit: "1" });
const explicit = meter.createHistogram("explicit", { unit: "s" });
const exponential = meter.createHistogram("exponential", { unit: "s" });
meter.createObservableGauge("peers.gauge").addCallback((result) => result.observe(0.5, { a: 1 }));
for (let number = 0; number < 100; number++) {
  counter.add(number % 3, { kind: String(number % 3) });
  explicit.record(number / 100, { kind: String(number % 2) });
  exponential.record(number / 100);
}
await tracing.shutdown();
await metering.shutdown();
console.log(JSON.stringify({ ...tally, entries: amount / 2 }));
