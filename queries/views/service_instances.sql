-- The load of each instance of a service: one row per service_instance_id that was seen in spans.
-- The number of rows with presence = 'active' is the number of instances that serve; service_load has it as `instances`.
CREATE VIEW service_instances AS
SELECT window_start, window_end, service_name, service_namespace, service_instance_id,
       coalesce(sum(arrivals), 0) / window_seconds() AS arrival_rate,
       coalesce(sum(completions), 0) / window_seconds() AS completion_rate,
       coalesce(sum(busy_seconds), 0) / window_seconds() AS concurrency,
       sum(completed_seconds) / nullif(sum(completions), 0) AS mean_sojourn,
       effective_samples(sum(completions), sum(adjusted_count_squares)) AS n_eff,
       confidence_score(effective_samples(sum(completions), sum(adjusted_count_squares))) AS confidence,
       coalesce(sum(spans), 0) AS samples
FROM HOP(activity, time, INTERVAL '5 seconds', INTERVAL '1 minute')
GROUP BY window_start, window_end, service_name, service_namespace, service_instance_id;
