-- Latency and errors per operation of a service: its HTTP route, else RPC method, else message destination, else span name.
-- High-cardinality span names (ids in paths) end in the overflow group of the view; set http.route instead.
CREATE VIEW operation_latency AS
SELECT window_start, window_end, service_name, service_namespace,
       coalesce(http_route, rpc_method, messaging_destination_name, name) AS operation, http_request_method,
       coalesce(sum(adjusted_count), 0) / window_seconds() AS completion_rate,
       coalesce(sum(adjusted_count) FILTER (WHERE is_error), 0) / nullif(sum(adjusted_count), 0) AS error_ratio,
       quantile(duration, 0.50, adjusted_count) AS p50,
       quantile(duration, 0.90, adjusted_count) AS p90,
       quantile(duration, 0.95, adjusted_count) AS p95,
       quantile(duration, 0.99, adjusted_count) AS p99,
       sum(duration * adjusted_count) / nullif(sum(adjusted_count), 0) AS mean,
       max(duration) AS max,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE is_entry
GROUP BY window_start, window_end, service_name, service_namespace,
         coalesce(http_route, rpc_method, messaging_destination_name, name), http_request_method;
