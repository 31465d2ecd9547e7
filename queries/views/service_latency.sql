-- How long requests take: latency of the entry spans of each service that ended in the window.
-- Quantiles are weighted by how many requests each span stands for, so sampling does not bend them.
-- Read n_eff before a high quantile: p99 says something from samples_for_quantile(0.99) = 299 on.
CREATE VIEW service_latency AS
SELECT window_start, window_end, service_name, service_namespace,
       quantile(duration, 0.50, adjusted_count) AS p50,
       quantile(duration, 0.90, adjusted_count) AS p90,
       quantile(duration, 0.95, adjusted_count) AS p95,
       quantile(duration, 0.99, adjusted_count) AS p99,
       quantile(duration, 0.999, adjusted_count) AS p999,
       sum(duration * adjusted_count) / nullif(sum(adjusted_count), 0) AS mean,
       max(duration) AS max,
       coalesce(sum(adjusted_count), 0) / window_seconds() AS completion_rate,
       -- Whoever fetches messages has no queue in front of it: it takes the next one when it is free.
       coalesce(sum(adjusted_count) FILTER (WHERE kind = 'CONSUMER'), 0) / nullif(sum(adjusted_count), 0) AS fetched_share,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE is_entry
GROUP BY window_start, window_end, service_name, service_namespace;
