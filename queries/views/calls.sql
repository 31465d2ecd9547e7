-- Who calls whom, and where the time of a call goes: one row per edge between two services.
-- wait is what the caller waited beyond the callee's own duration: network both ways and every queue in front of the callee;
-- for messages it is the time in the queue. A low matched_share means that the callee is not instrumented or sampled
-- differently: then server_* and wait_* describe only the matched part.
CREATE VIEW calls AS
SELECT window_start, window_end, client_service, client_namespace, server_service, server_namespace,
       coalesce(sum(adjusted_count), 0) / window_seconds() AS call_rate,
       coalesce(sum(adjusted_count) FILTER (WHERE is_error), 0) / window_seconds() AS error_rate,
       coalesce(sum(adjusted_count) FILTER (WHERE is_error), 0) / nullif(sum(adjusted_count), 0) AS error_ratio,
       sum(client_duration * adjusted_count) / nullif(sum(adjusted_count) FILTER (WHERE client_duration IS NOT NULL), 0) AS client_mean,
       quantile(client_duration, 0.50, adjusted_count) AS client_p50,
       quantile(client_duration, 0.99, adjusted_count) AS client_p99,
       sum(server_duration * adjusted_count) / nullif(sum(adjusted_count) FILTER (WHERE server_duration IS NOT NULL), 0) AS server_mean,
       quantile(server_duration, 0.50, adjusted_count) AS server_p50,
       quantile(server_duration, 0.99, adjusted_count) AS server_p99,
       sum(wait * adjusted_count) / nullif(sum(adjusted_count) FILTER (WHERE wait IS NOT NULL), 0) AS wait_mean,
       -- What the fastest calls pay: a longer way, not a queue.
       quantile(wait, 0.05, adjusted_count) AS wait_p05,
       quantile(wait, 0.50, adjusted_count) AS wait_p50,
       quantile(wait, 0.95, adjusted_count) AS wait_p95,
       quantile(wait, 0.99, adjusted_count) AS wait_p99,
       coalesce(sum(adjusted_count) FILTER (WHERE matched), 0) / nullif(sum(adjusted_count), 0) AS matched_share,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM HOP(call_spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE call_kind = 'call'
GROUP BY window_start, window_end, client_service, client_namespace, server_service, server_namespace;
