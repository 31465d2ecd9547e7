-- Levels: gauges, and cumulative sums that may also fall (UpDownCounter), such as queue lengths and requests in flight.
-- Values that are not finite are left out, since a single one would spoil the mean of all.
-- total adds up the levels of all series (pods, partitions), assuming that each reports equally often.
CREATE VIEW metric_gauges AS
SELECT window_start, window_end, service_name, service_namespace, metric_name, unit,
       avg(value) AS mean,
       min(value) AS min,
       max(value) AS max,
       avg(value) * count(DISTINCT series_id) AS total,
       count(DISTINCT series_id) AS series,
       -- More series than instances: several to each, by container, state or label.
       nullif(count(DISTINCT service_instance_id), 0) AS instances,
       CAST(count(*) AS DOUBLE) AS n_eff,
       CAST(NULL AS DOUBLE) AS confidence,
       count(*) AS samples
FROM HOP(metrics, time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE abs(value) <= 1.7976931348623157e308 AND NOT no_recorded_value
  AND (metric_kind = 'gauge' OR (metric_kind = 'sum' AND NOT is_monotonic AND temporality = 'cumulative'))
GROUP BY window_start, window_end, service_name, service_namespace, metric_name, unit;
