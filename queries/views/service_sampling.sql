-- How many of the requests that a service's own metrics count its spans account for. SDKs count every request and sample spans
-- afterwards: where traced_share stays below 1, spans were sampled and do not say so, or some requests are not traced at all.
-- A service may count a request under the newer and the older name of a metric, so of the two the larger is taken; HTTP and RPC
-- are added up. Seconds that no point covers count as without requests: some SDKs send none while there are none. Metrics are sent
-- once in up to a minute and spread evenly over it: while the load changes the share is off.
CREATE VIEW service_sampling AS
SELECT l.window_start, l.window_end, l.service_name, l.service_namespace,
       m.measured_rate, l.completion_rate AS span_rate, l.completion_rate / nullif(m.measured_rate, 0) AS traced_share, m.measured_by,
       l.n_eff, l.confidence, l.samples
FROM service_load l
LEFT JOIN (
    SELECT window_end, service_name, service_namespace,
           CASE WHEN http IS NULL THEN rpc WHEN rpc IS NULL THEN http ELSE http + rpc END AS measured_rate,
           CASE WHEN http IS NULL THEN rpc_metric WHEN rpc IS NULL THEN http_metric
                ELSE http_metric || ' and ' || rpc_metric END AS measured_by
    FROM (
        SELECT window_end, service_name, service_namespace, greatest(http, http_old) AS http, greatest(rpc, rpc_old) AS rpc,
               CASE WHEN http_old IS NULL OR http >= http_old THEN 'http.server.request.duration' ELSE 'http.server.duration' END AS http_metric,
               CASE WHEN rpc_old IS NULL OR rpc >= rpc_old THEN 'rpc.server.call.duration' ELSE 'rpc.server.duration' END AS rpc_metric
        FROM (
            SELECT window_end, service_name, service_namespace,
                   sum(observations) FILTER (WHERE metric_name = 'http.server.request.duration') / window_seconds() AS http,
                   sum(observations) FILTER (WHERE metric_name = 'http.server.duration') / window_seconds() AS http_old,
                   sum(observations) FILTER (WHERE metric_name = 'rpc.server.call.duration') / window_seconds() AS rpc,
                   sum(observations) FILTER (WHERE metric_name = 'rpc.server.duration') / window_seconds() AS rpc_old
            FROM metric_histograms
            WHERE metric_name IN ('http.server.request.duration', 'http.server.duration', 'rpc.server.call.duration', 'rpc.server.duration')
              AND rate IS NOT NULL
            GROUP BY window_end, service_name, service_namespace
        ) by_name
    ) by_protocol
) m ON m.window_end = l.window_end AND m.service_name = l.service_name AND m.service_namespace IS NOT DISTINCT FROM l.service_namespace;
