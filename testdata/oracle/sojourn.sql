-- What can be read of the distributions of service_sojourn, for the oracle: JSON lines hold no binary columns.
CREATE VIEW sojourn_distribution AS
SELECT window_start, window_end, service_name, service_namespace,
       histogram_count(distribution) AS counted,
       histogram_quantile(distribution, 0.50) AS p50,
       histogram_quantile(distribution, 0.90) AS p90,
       histogram_quantile(distribution, 0.99) AS p99,
       histogram_fraction_above(distribution, 0.1) AS share_above_100ms
FROM service_sojourn;
