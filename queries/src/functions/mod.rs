//! SQL functions over plain numbers: the models crate as scalar functions. NULL in, NULL out: a missing input never becomes zero.
//!
//! Parameters may be named: `replicas_for_load(arrival_rate, self_time, servers => 4, utilization => 0.7)`.

mod number;

use datafusion::logical_expr::ScalarUDF;
use tracescale_models::estimate::{demand, gate, variability};
use tracescale_models::sizing::function as sizing;
use tracescale_models::{capacity, confidence, interval};

use self::number::NumberFunction;

/// Every function of this module, to be registered in a session.
#[must_use]
pub fn all() -> Vec<ScalarUDF> {
    FUNCTIONS.iter().map(NumberFunction::udf).collect()
}

/// Name, parameters, meaning. A function sees `None` for NULL and answers `None` for NULL.
const FUNCTIONS: &[NumberFunction] = &[
    NumberFunction::new("replicas_for_load", &["arrival_rate", "service_time", "servers", "utilization"], |args| match args {
        [rate, time, servers, utilization] => capacity::replicas_for_load(*rate, *time, *servers, *utilization),
        _ => None,
    }),
    NumberFunction::new("replicas_for_concurrency", &["concurrency", "per_replica"], |args| match args {
        [concurrency, per_replica] => capacity::replicas_for_concurrency(*concurrency, *per_replica),
        _ => None,
    }),
    NumberFunction::new("replicas_for_backlog", &["arrival_rate", "backlog", "drain_seconds", "service_time", "utilization"], |args| {
        match args {
            [rate, backlog, drain, time, utilization] => capacity::replicas_for_backlog(*rate, *backlog, *drain, *time, *utilization),
            _ => None,
        }
    }),
    NumberFunction::new(
        "replicas_for_latency",
        &["arrival_rate", "service_time", "service_scv", "servers", "slo", "quantile", "pooling", "utilization"],
        |args| match args {
            [rate, time, scv, servers, slo, quantile, pooling, utilization] => {
                sizing::replicas_for_latency(*rate, *time, *scv, *servers, *slo, *quantile, *pooling, *utilization)
            }
            _ => None,
        },
    ),
    NumberFunction::new(
        "replicas_with_workers",
        &["arrival_rate", "service_time", "service_scv", "servers", "workers", "outside", "slo", "quantile", "pooling", "utilization"],
        |args| match args {
            [rate, time, scv, servers, workers, outside, slo, quantile, pooling, utilization] => {
                sizing::replicas_with_workers(*rate, *time, *scv, *servers, *workers, *outside, *slo, *quantile, *pooling, *utilization)
            }
            _ => None,
        },
    ),
    NumberFunction::new("latency_feasible", &["service_time", "service_scv", "servers", "slo", "quantile"], |args| match args {
        [time, scv, servers, slo, quantile] => sizing::latency_feasible(*time, *scv, *servers, *slo, *quantile).map(from_bool),
        _ => None,
    }),
    NumberFunction::new(
        "predicted_latency",
        &["arrival_rate", "service_time", "service_scv", "servers", "replicas", "quantile", "pooling"],
        |args| match args {
            [rate, time, scv, servers, replicas, quantile, pooling] => {
                sizing::predicted_latency(*rate, *time, *scv, *servers, *replicas, *quantile, *pooling)
            }
            _ => None,
        },
    ),
    NumberFunction::new("safe_utilization", &["service_time", "service_scv", "servers", "slo", "quantile"], |args| match args {
        [time, scv, servers, slo, quantile] => sizing::safe_utilization(*time, *scv, *servers, *slo, *quantile),
        _ => None,
    }),
    NumberFunction::new("replicas_for_wait", &["arrival_rate", "service_time", "wait", "quantile"], |args| match args {
        [rate, time, wait, quantile] => sizing::replicas_for_wait(*rate, *time, *wait, *quantile),
        _ => None,
    }),
    NumberFunction::new("relaxation_time", &["service_time", "servers", "utilization"], |args| match args {
        [time, servers, utilization] => sizing::relaxation_time(*time, *servers, *utilization),
        _ => None,
    }),
    NumberFunction::new("catch_up_servers", &["backlog", "service_time", "drain_seconds"], |args| match args {
        [backlog, time, drain] => sizing::catch_up_servers(*backlog, *time, *drain),
        _ => None,
    }),
    NumberFunction::new("usl_throughput", &["workers", "single", "contention", "coherence"], |args| match args {
        [workers, single, contention, coherence] => sizing::usl_throughput(*workers, *single, *contention, *coherence),
        _ => None,
    }),
    NumberFunction::new("erlang_b", &["servers", "load"], |args| match args {
        [servers, load] => sizing::erlang_b(*servers, *load),
        _ => None,
    }),
    NumberFunction::new("erlang_c", &["servers", "load"], |args| match args {
        [servers, load] => sizing::erlang_c(*servers, *load),
        _ => None,
    }),
    NumberFunction::new("wait_quantile", &["arrival_rate", "service_time", "arrival_scv", "service_scv", "servers", "quantile"], |args| {
        match args {
            [rate, time, arrivals, services, servers, quantile] => {
                sizing::wait_quantile(*rate, *time, *arrivals, *services, *servers, *quantile)
            }
            _ => None,
        }
    }),
    NumberFunction::new("loss_probability", &["arrival_rate", "service_time", "servers", "places"], |args| match args {
        [rate, time, servers, places] => sizing::loss_probability(*rate, *time, *servers, *places),
        _ => None,
    }),
    NumberFunction::new("queue_after", &["queued", "arrival_rate", "service_time", "servers", "seconds"], |args| match args {
        [queued, rate, time, servers, seconds] => sizing::queue_after(*queued, *rate, *time, *servers, *seconds),
        _ => None,
    }),
    NumberFunction::new("drain_time", &["queued", "arrival_rate", "service_time", "servers"], |args| match args {
        [queued, rate, time, servers] => sizing::drain_time(*queued, *rate, *time, *servers),
        _ => None,
    }),
    NumberFunction::new("fork_join_mean", &["branches", "mean", "utilization"], |args| match args {
        [branches, mean, utilization] => sizing::fork_join_mean(*branches, *mean, *utilization),
        _ => None,
    }),
    NumberFunction::new("fork_join_quantile", &["branches", "mean", "scv", "quantile"], |args| match args {
        [branches, mean, scv, quantile] => sizing::fork_join_quantile(*branches, *mean, *scv, *quantile),
        _ => None,
    }),
    NumberFunction::new("usl_peak", &["contention", "coherence"], |args| match args {
        [contention, coherence] => sizing::usl_peak(*contention, *coherence),
        _ => None,
    }),
    NumberFunction::new("cpu_demand", &["utilization", "cores", "replicas", "rate"], |args| match args {
        [utilization, cores, replicas, rate] => demand::demand((*utilization)?, (*cores)?, (*replicas)?, (*rate)?),
        _ => None,
    }),
    NumberFunction::new("span_utilization", &["rate", "self_time", "replicas", "servers"], |args| match args {
        [rate, self_time, replicas, servers] => demand::span_utilization((*rate)?, (*self_time)?, (*replicas)?, (*servers)?),
        _ => None,
    }),
    NumberFunction::new("core_wait_share", &["span_utilization", "cpu_utilization"], |args| {
        let [spans, cpu] = two(args)?;
        demand::queue_share(demand::slowdown(spans, cpu)?)
    }),
    NumberFunction::new("io_share", &["demand", "self_time"], |args| {
        let [demand, self_time] = two(args)?;
        demand::io_share(demand, self_time)
    }),
    NumberFunction::new("unsampled_scv", &["scv", "probability"], |args| {
        let [scv, probability] = two(args)?;
        variability::unsampled_scv(scv, probability)
    }),
    NumberFunction::new("unsampled_dispersion", &["dispersion", "probability"], |args| {
        let [dispersion, probability] = two(args)?;
        variability::unsampled_dispersion(dispersion, probability)
    }),
    NumberFunction::new("poisson_low", &["count"], |args| confidence::poisson_interval(one(args)?).map(|interval| interval.low)),
    NumberFunction::new("poisson_high", &["count"], |args| confidence::poisson_interval(one(args)?).map(|interval| interval.high)),
    NumberFunction::new("relative_half_width", &["count"], |args| confidence::relative_half_width(one(args)?)),
    NumberFunction::new("confidence_score", &["count"], |args| confidence::score(one(args)?)),
    NumberFunction::new("effective_samples", &["sum", "sum_of_squares"], |args| {
        let [sum, squares] = two(args)?;
        confidence::effective_samples(sum, squares)
    }),
    NumberFunction::new("relative_standard_error", &["sum", "sum_of_squares"], |args| {
        let [sum, squares] = two(args)?;
        confidence::relative_standard_error(sum, squares)
    }),
    NumberFunction::new("samples_for_quantile", &["probability"], |args| confidence::samples_for_quantile(one(args)?)),
    NumberFunction::new("samples_for_mean", &["scv", "error"], |args| {
        let [scv, error] = two(args)?;
        confidence::samples_for_mean(scv, error)
    }),
    NumberFunction::new("wait_amplification", &["error", "utilization"], |args| {
        let [error, utilization] = two(args)?;
        confidence::wait_amplification(error, utilization)
    }),
    NumberFunction::new("violation_share_low", &["violations", "samples"], |args| {
        let [violations, samples] = two(args)?;
        gate::violation_share_low(violations, samples)
    }),
    NumberFunction::new("enough_for_rate", &["samples", "error"], |args| {
        let [samples, error] = two(args)?.map(not_negative);
        Some(from_bool(gate::scale_up_on_rate(Some(samples?), Some(error?)).is_open()))
    }),
    NumberFunction::new("enough_for_latency", &["samples", "violations", "quantile"], |args| match args {
        [Some(samples), Some(violations), Some(quantile)] if (0.0..1.0).contains(quantile) => {
            let (samples, violations) = (not_negative(*samples)?, not_negative(*violations)?);
            (violations <= samples).then(|| from_bool(gate::scale_up_on_latency(Some(samples), Some(violations), *quantile).is_open()))
        }
        _ => None,
    }),
    NumberFunction::new("enough_for_scale_down", &["samples", "amplification"], |args| {
        let [samples, amplification] = two(args)?.map(not_negative);
        Some(from_bool(gate::scale_down(Some(samples?), Some(amplification?)).is_open()))
    }),
    NumberFunction::new("enough_to_model", &["arrival_rate"], |args| {
        Some(from_bool(gate::model(Some(not_negative(one(args)?)?)).is_open()))
    }),
    NumberFunction::new("little_residual", &["concurrency", "throughput", "sojourn"], |args| match args {
        [Some(concurrency), Some(throughput), Some(sojourn)] => interval::little_residual(*concurrency, *throughput, *sojourn),
        _ => None,
    }),
];

fn from_bool(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// What can be a count, a rate or an error; nothing else has an answer.
fn not_negative(value: f64) -> Option<f64> {
    (value >= 0.0).then_some(value)
}

fn one(args: &[Option<f64>]) -> Option<f64> {
    args.first().copied().flatten()
}

fn two(args: &[Option<f64>]) -> Option<[f64; 2]> {
    match args {
        [Some(left), Some(right)] => Some([*left, *right]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::datatypes::Float64Type;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn value(sql: &str) -> Option<f64> {
        let context = SessionContext::new();
        all().into_iter().for_each(|function| context.register_udf(function));
        let batches: Vec<RecordBatch> = context.sql(&format!("SELECT {sql}")).await.unwrap().collect().await.unwrap();
        let column = batches[0].column(0).as_primitive::<Float64Type>();
        column.is_valid(0).then(|| column.value(0))
    }

    /// Guarantees: functions are reachable from SQL, with whole numbers as arguments and with named ones.
    #[tokio::test]
    async fn functions_answer_in_sql() {
        assert_eq!(value("replicas_for_load(100, 0.05, 1, 0.7)").await, Some(8.0));
        assert_eq!(value("replicas_for_load(100, 0.05, utilization => 0.7, servers => 4)").await, Some(2.0));
        assert_eq!(value("replicas_for_backlog(50, 6000, 60, 0.1, 0.8)").await, Some(19.0));
        assert_eq!(value("replicas_for_concurrency(25, 10)").await, Some(3.0));
        assert_eq!(value("samples_for_quantile(0.99)").await, Some(299.0));
        // Reference values: M/M/c with 10 servers, and the safe utilization of four cores for P99 within ten service times.
        assert!((value("erlang_b(10, 9)").await.unwrap() - 0.167_963_226_3).abs() < 1e-9);
        assert!((value("erlang_c(10, 9)").await.unwrap() - 0.668_731_524_1).abs() < 1e-9);
        assert!((value("safe_utilization(1, 1, 4, 10, 0.99)").await.unwrap() - 0.788).abs() < 0.01);
        assert_eq!(value("replicas_for_wait(100, 0.05, 0.01, 0.99)").await, Some(11.0));
        assert_eq!(
            value("replicas_for_latency(100, 0.05, 1, 4, slo => 0.5, quantile => 0.99, pooling => 1, utilization => 0.85)").await,
            Some(2.0)
        );
        assert_eq!(
            value("replicas_for_latency(100, 0.05, 1, 4, slo => 0.1, quantile => 0.99, pooling => 1, utilization => 0.85)").await,
            None
        );
        assert_eq!(value("latency_feasible(0.05, 1, 4, 0.1, 0.99)").await, Some(0.0));
        assert!((value("fork_join_quantile(8, 2, 1, 0.99)").await.unwrap() - 13.360_438).abs() < 1e-5);
        assert!((value("loss_probability(8, 0.1, servers => 1, places => 10)").await.unwrap() - 0.023_492_857_58).abs() < 1e-9);
        assert!((value("relative_half_width(100)").await.unwrap() - 0.2013).abs() < 0.0001);
        assert!((value("effective_samples(5500, 500500)").await.unwrap() - 60.44).abs() < 0.01);
        assert!((value("violation_share_low(5, 10)").await.unwrap() - 0.187_086).abs() < 1e-6);
        assert_eq!((value("enough_for_rate(100, 0.2)").await, value("enough_for_rate(99, 0.2)").await), (Some(1.0), Some(0.0)));
        assert_eq!(
            (value("enough_for_latency(20, 10, 0.95)").await, value("enough_for_latency(59, 1, 0.95)").await),
            (Some(1.0), Some(0.0))
        );
        assert_eq!(
            (value("enough_for_scale_down(400, 0.5)").await, value("enough_for_scale_down(400, 0.6)").await),
            (Some(1.0), Some(0.0))
        );
        assert!((value("cpu_demand(0.75, 2, 3, 100)").await.unwrap() - 0.045).abs() < 1e-12);
        assert!((value("span_utilization(100, 0.036, 1, 4)").await.unwrap() - 0.9).abs() < 1e-12);
        assert!((value("core_wait_share(0.9, 0.6)").await.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert!((value("io_share(0.01, 0.05)").await.unwrap() - 0.8).abs() < 1e-12);
        assert!((value("unsampled_scv(1.5, 0.5)").await.unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(value("unsampled_dispersion(1.5, 0.01)").await, None);
        for senseless in
            ["rate(100, -1)", "latency(100, 10, 1.5)", "latency(500, -5, 0.99)", "latency(10, 100, 0.99)", "rate(0.0 / 0.0, 0.1)"]
        {
            assert_eq!(value(&format!("enough_for_{senseless}")).await, None, "{senseless}");
        }
        assert_eq!((value("enough_to_model(0.5)").await, value("enough_to_model(0.4)").await), (Some(1.0), Some(0.0)));
        assert!((value("little_residual(1.5, 10, 0.2)").await.unwrap() + 0.25).abs() < 1e-9);
    }

    /// Guarantees: NULL for any argument is NULL, never zero.
    #[tokio::test]
    async fn missing_stays_missing() {
        for function in FUNCTIONS {
            for missing in 0..function.parameters.len() {
                let args: Vec<_> = (0..function.parameters.len()).map(|place| if place == missing { "NULL" } else { "0.5" }).collect();
                assert_eq!(value(&format!("{}({})", function.name, args.join(", "))).await, None, "{}", function.name);
            }
        }
    }

    /// Guarantees: a column of numbers with gaps keeps its gaps.
    #[tokio::test]
    async fn columns_keep_their_gaps() {
        let context = SessionContext::new();
        all().into_iter().for_each(|function| context.register_udf(function));
        let sql = "SELECT replicas_for_concurrency(x, 10) AS replicas FROM (VALUES (5.0), (NULL), (25.0)) AS t(x)";
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let values: Vec<_> = batches[0].column(0).as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [Some(1.0), None, Some(3.0)]);
    }
}
