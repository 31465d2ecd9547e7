-- How long requests took, minute by minute: the distribution, of which any share above any objective can be read.
CREATE VIEW service_sojourn AS
SELECT window_start, window_end, service_name, service_namespace,
       histogram(duration, adjusted_count) AS distribution,
       coalesce(sum(adjusted_count), 0) AS requests,
       coalesce(sum(adjusted_count) FILTER (WHERE is_error), 0) AS errors,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM TUMBLE(spans, end_time, INTERVAL '1 minute')
WHERE is_entry
GROUP BY window_start, window_end, service_name, service_namespace;
