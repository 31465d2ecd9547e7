-- Whose time requests are made of: for each kind of request, by where its traces begin, the share of the critical path that each
-- service has of all of them, of the slowest twentieth and of the usual ones (the middle fifth). What grows in slow traces makes
-- them slow: excess.
-- Two sketches over the duration of the trace, of all traces and of the parts of them that are the service's, can be merged from
-- panes, and shares between any quantiles follow from them. Without any part there is no sketch of it: then the share is zero.
CREATE VIEW service_critical_path AS
SELECT window_start, window_end, root_service, root_namespace, root_operation, service_name, service_namespace,
       path_share, slow_share, usual_share, slow_share - usual_share AS excess, n_eff, confidence_score(n_eff) AS confidence, samples
FROM (SELECT window_start, window_end, client_service AS root_service, client_namespace AS root_namespace, operation AS root_operation,
             server_service AS service_name, server_namespace AS service_namespace,
             sum(path_time * adjusted_count) / nullif(sum(root_duration * adjusted_count), 0) AS path_share,
             -- Fewer traces than that have no 95th percentile.
             CASE WHEN effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) >= samples_for_quantile(0.95)
                  THEN coalesce(histogram_share(histogram(root_duration, path_time / root_duration * adjusted_count),
                                                histogram(root_duration, adjusted_count), 0.95, 1.0), 0) END AS slow_share,
             CASE WHEN count(*) > 0
                  THEN coalesce(histogram_share(histogram(root_duration, path_time / root_duration * adjusted_count),
                                                histogram(root_duration, adjusted_count), 0.4, 0.6), 0) END AS usual_share,
             effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
             count(*) AS samples
      FROM HOP(call_spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute')
      WHERE call_kind = 'path' AND path_time IS NOT NULL AND root_duration > 0
      GROUP BY window_start, window_end, client_service, client_namespace, operation, server_service, server_namespace);
