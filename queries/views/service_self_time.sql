-- How long a service works on a request itself: the entry span without the time in which it waited for others.
-- Times the arrival rate this is the offered load. Under high load it contains the wait for the own CPU.
CREATE VIEW service_self_time AS
SELECT window_start, window_end, server_service AS service_name, server_namespace AS service_namespace,
       sum(self_time * adjusted_count) / nullif(sum(adjusted_count), 0) AS mean,
       -- Squared coefficient of variation: variance over squared mean. Only rounding takes it below zero.
       abs(sum(self_time * self_time * adjusted_count) * sum(adjusted_count) / nullif(power(sum(self_time * adjusted_count), 2), 0) - 1) AS scv,
       quantile(self_time, 0.50, adjusted_count) AS p50,
       quantile(self_time, 0.95, adjusted_count) AS p95,
       quantile(self_time, 0.99, adjusted_count) AS p99,
       histogram(self_time, adjusted_count) AS distribution,
       max(self_time) AS max,
       sum(self_time * adjusted_count) / nullif(sum(server_duration * adjusted_count), 0) AS self_share,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM HOP(call_spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE call_kind = 'entry' AND self_time IS NOT NULL
GROUP BY window_start, window_end, server_service, server_namespace;
