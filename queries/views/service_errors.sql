-- How many requests fail: entry spans with status ERROR or an HTTP status of 500 and above.
-- error_ratio is NULL, not zero, when there was no request to fail.
CREATE VIEW service_errors AS
SELECT window_start, window_end, service_name, service_namespace,
       coalesce(sum(adjusted_count) FILTER (WHERE is_error), 0) / window_seconds() AS error_rate,
       coalesce(sum(adjusted_count) FILTER (WHERE is_error), 0) / nullif(sum(adjusted_count), 0) AS error_ratio,
       coalesce(sum(adjusted_count), 0) / window_seconds() AS completion_rate,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE is_entry
GROUP BY window_start, window_end, service_name, service_namespace;
