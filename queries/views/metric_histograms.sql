-- Distributions from histogram metrics (explicit and exponential buckets, summaries without quantiles), merged over all series.
-- Within an explicit bucket a quantile is interpolated: between bounds of 0.1 and 0.25 a p99 is known to a factor of 2.5 only.
-- For an objective at a bucket bound use histogram_fraction_above, which is exact there.
CREATE VIEW metric_histograms AS
SELECT window_start, window_end, service_name, service_namespace, metric_name, unit,
       histogram_quantile(histogram_merge(histogram), 0.50) AS p50,
       histogram_quantile(histogram_merge(histogram), 0.90) AS p90,
       histogram_quantile(histogram_merge(histogram), 0.95) AS p95,
       histogram_quantile(histogram_merge(histogram), 0.99) AS p99,
       sum(increment) / nullif(sum(count), 0) AS mean,
       coalesce(sum(count), 0) AS observations,
       sum(count) / nullif((max(CAST(time AS BIGINT) + CAST(covered_seconds * 1000000000 AS BIGINT)) - min(CAST(time AS BIGINT))) / 1000000000.0, 0) AS rate,
       coalesce(sum(covered_seconds), 0) AS covered_seconds,
       count(DISTINCT series_id) AS series,
       sum(count) AS n_eff,
       confidence_score(sum(count)) AS confidence,
       count(*) AS samples
FROM HOP(increments, time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE count IS NOT NULL
GROUP BY window_start, window_end, service_name, service_namespace, metric_name, unit;
