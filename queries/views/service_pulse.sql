-- How many requests were answered in the last quarter minute, as soon as spans tell: what plans of capacity follow.
CREATE VIEW service_pulse AS
SELECT window_start, window_end, service_name, service_namespace,
       coalesce(sum(adjusted_count), 0) / window_seconds() AS completion_rate,
       sum(duration * adjusted_count) / nullif(sum(adjusted_count), 0) AS mean,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '15 seconds')
WHERE is_entry
GROUP BY window_start, window_end, service_name, service_namespace;
