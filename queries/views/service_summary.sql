-- One row per service: load, latency, errors, self time and instances side by side. What `tracescale run` shows and what the
-- default rule reads. service_time is the mean self time where traces give one, else the mean sojourn, which is larger.
-- A window is final when the windows of all four views are.
CREATE VIEW service_summary AS
SELECT l.window_start, l.window_end, l.service_name, l.service_namespace,
       l.arrival_rate, l.completion_rate, l.concurrency, l.mean_sojourn, l.little_residual, l.instances,
       t.p50, t.p90, t.p95, t.p99, t.p999, t.max,
       e.error_rate, e.error_ratio,
       s.mean AS self_time, s.p99 AS self_time_p99,
       coalesce(s.mean, l.mean_sojourn) AS service_time, s.scv AS service_scv,
       l.arrival_rate * coalesce(s.mean, l.mean_sojourn) AS offered_load,
       l.n_eff, l.confidence, l.samples
FROM service_load l
LEFT JOIN service_latency t
       ON t.window_end = l.window_end AND t.service_name = l.service_name AND t.service_namespace IS NOT DISTINCT FROM l.service_namespace
LEFT JOIN service_errors e
       ON e.window_end = l.window_end AND e.service_name = l.service_name AND e.service_namespace IS NOT DISTINCT FROM l.service_namespace
LEFT JOIN service_self_time s
       ON s.window_end = l.window_end AND s.service_name = l.service_name AND s.service_namespace IS NOT DISTINCT FROM l.service_namespace;
