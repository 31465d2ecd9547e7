-- Rates of counters: what all series of a metric grew by, per second of the time that is known.
-- Resets, temporality and unknown starts are dealt with in the stream `increments`. rate divides by the time from the first
-- to the last second that any series covers, so that a window whose last export is still to come is not biased low;
-- rate_per_series divides by what each series covers itself.
CREATE VIEW metric_rates AS
SELECT window_start, window_end, service_name, service_namespace, metric_name, unit,
       sum(increment) AS increase,
       sum(increment) / nullif((max(CAST(time AS BIGINT) + CAST(covered_seconds * 1000000000 AS BIGINT)) - min(CAST(time AS BIGINT))) / 1000000000.0, 0) AS rate,
       sum(increment) / nullif(sum(covered_seconds), 0) AS rate_per_series,
       coalesce(sum(covered_seconds), 0) AS covered_seconds,
       count(DISTINCT series_id) AS series,
       count(*) FILTER (WHERE is_reset) AS resets,
       CAST(count(*) AS DOUBLE) AS n_eff,
       CAST(NULL AS DOUBLE) AS confidence,
       count(*) AS samples
FROM HOP(increments, time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE count IS NULL
GROUP BY window_start, window_end, service_name, service_namespace, metric_name, unit;
