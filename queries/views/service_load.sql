-- How much work there is: arrivals, completions and the time-average number of requests in flight of each service.
-- A span is exported when it ends, so arrivals of a provisional window miss what is still running: it is biased low where
-- completion_rate is not. little_residual near zero says that the three numbers describe one stable load; a negative one
-- that spans are lost or late, a positive one that long requests dominate.
CREATE VIEW service_load AS
SELECT window_start, window_end, service_name, service_namespace,
       coalesce(sum(arrivals), 0) / window_seconds() AS arrival_rate,
       coalesce(sum(completions), 0) / window_seconds() AS completion_rate,
       coalesce(sum(busy_seconds), 0) / window_seconds() AS concurrency,
       sum(completed_seconds) / nullif(sum(completions), 0) AS mean_sojourn,
       little_residual(sum(busy_seconds) / window_seconds(), sum(completions) / window_seconds(),
                       sum(completed_seconds) / nullif(sum(completions), 0)) AS little_residual,
       count(DISTINCT coalesce(service_instance_id, '')) AS instances,
       effective_samples(sum(completions), sum(adjusted_count_squares)) AS n_eff,
       confidence_score(effective_samples(sum(completions), sum(adjusted_count_squares))) AS confidence,
       coalesce(sum(spans), 0) AS samples
FROM HOP(activity, time, INTERVAL '5 seconds', INTERVAL '1 minute')
GROUP BY window_start, window_end, service_name, service_namespace;
