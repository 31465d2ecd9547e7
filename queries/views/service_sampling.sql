-- How many of the requests that a service's own metrics count its spans account for. SDKs count every request and sample spans
-- afterwards: where traced_share stays below 1, spans were sampled and do not say so, or some requests are not traced at all.
-- A service may count a request under the newer and the older name of a metric, and under the spellings of Prometheus beside those of
-- OpenTelemetry (as a histogram, or only its count), so of all these the largest is taken. gRPC requests are HTTP requests, too: where
-- HTTP counts at least as many, they are taken to be among them; fewer cannot hold them, and both are added up. Seconds that no point
-- covers count as without requests: some SDKs send none while there are none. Metrics are sent once in up to a minute and spread evenly
-- over it: while the load changes the share is off.
CREATE VIEW service_sampling AS
SELECT l.window_start, l.window_end, l.service_name, l.service_namespace,
       m.measured_rate, l.completion_rate AS span_rate, l.completion_rate / nullif(m.measured_rate, 0) AS traced_share, m.measured_by,
       l.n_eff, l.confidence, l.samples
FROM service_load l
LEFT JOIN (
    SELECT window_end, service_name, service_namespace,
           -- Both sides of a window's edge are spread alike, but for the last bit.
           CASE WHEN http IS NULL THEN rpc WHEN rpc IS NULL OR http >= 0.95 * rpc THEN http ELSE http + rpc END AS measured_rate,
           CASE WHEN http IS NULL THEN rpc_metric WHEN rpc IS NULL OR http >= 0.95 * rpc THEN http_metric
                ELSE http_metric || ' and ' || rpc_metric END AS measured_by
    FROM (
        SELECT window_end, service_name, service_namespace, greatest(http, http_old) AS http, greatest(rpc, rpc_old) AS rpc,
               CASE WHEN http_old IS NULL OR http >= http_old THEN 'http.server.request.duration' ELSE 'http.server.duration' END AS http_metric,
               CASE WHEN rpc_old IS NULL OR rpc >= rpc_old THEN 'rpc.server.call.duration' ELSE 'rpc.server.duration' END AS rpc_metric
        FROM (
            SELECT window_end, service_name, service_namespace,
                   max(rate) FILTER (WHERE metric_name IN ('http.server.request.duration', 'http_server_request_duration_seconds',
                                                           'http_server_request_duration_seconds_count')) AS http,
                   max(rate) FILTER (WHERE metric_name IN ('http.server.duration', 'http_server_duration_milliseconds',
                                                           'http_server_duration_milliseconds_count')) AS http_old,
                   max(rate) FILTER (WHERE metric_name IN ('rpc.server.call.duration', 'rpc_server_call_duration_seconds',
                                                           'rpc_server_call_duration_seconds_count')) AS rpc,
                   max(rate) FILTER (WHERE metric_name IN ('rpc.server.duration', 'rpc_server_duration_milliseconds',
                                                           'rpc_server_duration_milliseconds_count')) AS rpc_old
            FROM (
                SELECT window_end, service_name, service_namespace, metric_name, sum(requests) / window_seconds() AS rate
                FROM (
                    SELECT window_end, service_name, service_namespace, metric_name, observations AS requests
                    FROM metric_histograms
                    WHERE metric_name IN ('http.server.request.duration', 'http_server_request_duration_seconds',
                                          'http.server.duration', 'http_server_duration_milliseconds',
                                          'rpc.server.call.duration', 'rpc_server_call_duration_seconds',
                                          'rpc.server.duration', 'rpc_server_duration_milliseconds')
                      AND rate IS NOT NULL
                    UNION ALL
                    SELECT window_end, service_name, service_namespace, metric_name, increase AS requests
                    FROM metric_rates
                    WHERE metric_name IN ('http_server_request_duration_seconds_count', 'http_server_duration_milliseconds_count',
                                          'rpc_server_call_duration_seconds_count', 'rpc_server_duration_milliseconds_count')
                      AND rate IS NOT NULL
                ) counted
                GROUP BY window_end, service_name, service_namespace, metric_name
            ) by_name
            GROUP BY window_end, service_name, service_namespace
        ) by_age
    ) by_protocol
) m ON m.window_end = l.window_end AND m.service_name = l.service_name AND m.service_namespace IS NOT DISTINCT FROM l.service_namespace;
