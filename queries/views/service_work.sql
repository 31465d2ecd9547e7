-- What work requests bring, minute by minute: the distribution of the own time of each request. Queue models are fitted to it.
CREATE VIEW service_work AS
SELECT window_start, window_end, server_service AS service_name, server_namespace AS service_namespace,
       histogram(self_time, adjusted_count) AS distribution,
       sum(self_time * adjusted_count) / nullif(sum(adjusted_count), 0) AS mean,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM TUMBLE(call_spans, end_time, INTERVAL '1 minute')
WHERE call_kind = 'entry' AND self_time IS NOT NULL
GROUP BY window_start, window_end, server_service, server_namespace;
