//! CPU that a request needs, and how busy that makes its service.

use super::least_squares::{Solution, non_negative};

/// Share of throttled periods above which the CPU limit, not the number of replicas, is the problem.
const THROTTLED: f64 = 0.01;
/// Share of waiting for others below which a service is bound by its CPU.
const CPU_BOUND: f64 = 0.3;
/// Share of waiting for others above which it is bound by its pool.
const POOL_BOUND: f64 = 0.7;
/// Windows that demands by class need.
const LEAST_WINDOWS: usize = 30;
/// Condition above which classes cannot be told apart.
const MOST_CONDITION: f64 = 30.0;

/// Which queue a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discipline {
    /// All requests share the CPU: processor sharing with the cores as servers.
    ProcessorSharing,
    /// Requests hold a worker while they wait: first come, first served, with the pool's size as servers.
    Pool,
    /// Either may bind: compute both and take the larger number of replicas.
    Both,
}

/// CPU time by class of request.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassDemands {
    /// CPU-seconds per second without any request; must not be scaled with load.
    pub idle: f64,
    /// CPU-seconds per request of each class.
    pub demands: Vec<f64>,
    /// Standard errors of the demands, as if what they do not explain were chance, and another in each window.
    pub errors: Vec<f64>,
    /// Share of the variance of the CPU between windows that the rates explain; `None` when it did not vary.
    pub explained: Option<f64>,
    /// How badly the classes can be told apart (see [`Solution::condition`]).
    pub condition: f64,
}

/// Why demands by class are not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DemandError {
    /// Fewer windows than needed: so many.
    FewWindows(usize),
    /// The rates of classes rise and fall together: the condition is this.
    Alike(f64),
    /// Less than half of the differences in CPU comes from the requests: this share.
    Unexplained(f64),
    /// Rows of different lengths, figures that are no numbers, or a class without any request.
    Malformed,
}

/// Share of the CPU limit in use: Δ CPU time / (elapsed · cores). `cores` is the limit, or else the share of the node.
#[must_use]
pub fn cpu_utilization(cpu_seconds: f64, elapsed: f64, cores: f64) -> Option<f64> {
    share(cpu_seconds, elapsed * cores)
}

/// Share of the servers in use as spans show it: X · S / (r · c). Self time includes waiting for a core, so this is at least the
/// utilization by CPU; the ratio of both is the [`slowdown`].
#[must_use]
pub fn span_utilization(throughput: f64, self_time: f64, replicas: f64, servers: f64) -> Option<f64> {
    share(throughput * self_time, replicas * servers)
}

/// How much longer than its CPU time a request takes: utilization by spans over that by CPU, at least 1.
#[must_use]
pub fn slowdown(span_utilization: f64, cpu_utilization: f64) -> Option<f64> {
    share(span_utilization, cpu_utilization).map(|slowdown| slowdown.max(1.0))
}

/// The share of its time that a request waits for a core: 1 − 1 / slowdown.
#[must_use]
pub fn queue_share(slowdown: f64) -> Option<f64> {
    (slowdown >= 1.0).then(|| 1.0 - 1.0 / slowdown)
}

/// Whether the CPU limit throttles: more than 1 % of the periods. Then size the limit, not the replicas. `None` without periods.
#[must_use]
pub fn is_throttled(throttled: f64, periods: f64) -> Option<bool> {
    share(throttled, periods).map(|share| share > THROTTLED)
}

/// CPU-seconds per request by the service demand law: ρ · cores · r / X.
#[must_use]
pub fn demand(cpu_utilization: f64, cores: f64, replicas: f64, throughput: f64) -> Option<f64> {
    share(cpu_utilization * cores * replicas, throughput)
}

/// Share of a request's own time that it does not use the CPU, from its CPU-seconds and its self time at low load (at high load
/// self time holds waiting for a core, which is not I/O).
#[must_use]
pub fn io_share(demand: f64, self_time: f64) -> Option<f64> {
    share(demand, self_time).map(|share| (1.0 - share).clamp(0.0, 1.0))
}

/// The queue that a service is, from its I/O share and whether a request blocks a worker while it waits. Without blocking there
/// is no pool to run out of: only the CPU is shared.
#[must_use]
pub fn discipline(io_share: f64, is_blocking: bool) -> Discipline {
    if !is_blocking || io_share < CPU_BOUND {
        Discipline::ProcessorSharing
    } else if io_share > POOL_BOUND {
        Discipline::Pool
    } else {
        Discipline::Both
    }
}

/// CPU-seconds per request of each class, from the rates of the classes (one row per window, one column per class, requests per
/// second) and the CPU-seconds per second of the same windows: cpu = idle + Σ demand · rate, none of them negative.
///
/// # Errors
/// When windows are fewer than 30, or classes so alike (condition 30 or more) that the split would be arbitrary.
pub fn class_demands(rates: &[Vec<f64>], cpu: &[f64]) -> Result<ClassDemands, DemandError> {
    if rates.len() < LEAST_WINDOWS {
        return Err(DemandError::FewWindows(rates.len()));
    }
    let rows: Vec<Vec<f64>> = rates.iter().map(|rates| std::iter::once(1.0).chain(rates.iter().copied()).collect()).collect();
    let Solution { coefficients, condition, spreads } = non_negative(&rows, cpu).ok_or(DemandError::Malformed)?;
    if condition >= MOST_CONDITION {
        return Err(DemandError::Alike(condition));
    }
    let (residual, total) = squares(&rows, cpu, &coefficients);
    let chance = (residual / number(rows.len().saturating_sub(coefficients.len()).max(1))).sqrt();
    let errors = spreads.iter().skip(1).map(|spread| spread * chance).collect();
    let idle = coefficients.first().copied().ok_or(DemandError::Malformed)?;
    let demands = coefficients.into_iter().skip(1).collect();
    let explained = (total > 0.0).then(|| (1.0 - residual / total).max(0.0));
    Ok(ClassDemands { idle, demands, errors, explained, condition })
}

/// Sums of squares: of what the coefficients leave, and of what the mean does.
fn squares(rows: &[Vec<f64>], values: &[f64], coefficients: &[f64]) -> (f64, f64) {
    let fitted = |row: &[f64]| row.iter().zip(coefficients).map(|(cell, coefficient)| cell * coefficient).sum::<f64>();
    let mean = values.iter().sum::<f64>() / number(values.len().max(1));
    let residual = rows.iter().zip(values).map(|(row, value)| (value - fitted(row)).powi(2)).sum();
    (residual, values.iter().map(|value| (value - mean).powi(2)).sum())
}

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "windows, or minutes of one")]
pub(super) fn number(count: usize) -> f64 {
    count as f64
}

/// A quotient of what is not negative.
fn share(part: f64, whole: f64) -> Option<f64> {
    let share = part / whole;
    (part >= 0.0 && whole > 0.0 && share.is_finite()).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: Option<f64>, expected: f64) {
        assert!(actual.is_some_and(|actual| (actual - expected).abs() < 1e-9), "{actual:?} is not {expected}");
    }

    /// Guarantees: 90 CPU-seconds in a minute on two cores are 75 %; with 100 requests/s of 3 replicas that is 45 ms each.
    #[test]
    fn the_demand_law() {
        close(cpu_utilization(90.0, 60.0, 2.0), 0.75);
        close(demand(0.75, 2.0, 3.0, 100.0), 0.045);
        assert_eq!((demand(0.5, 1.0, 1.0, 0.0), cpu_utilization(1.0, 0.0, 1.0), cpu_utilization(-1.0, 1.0, 1.0)), (None, None, None));
    }

    /// Guarantees: spans that show 90 % where the CPU shows 60 % mean a slowdown of 1.5 and a third of the time in a queue; a
    /// span utilization below that of the CPU (background work) is no slowdown.
    #[test]
    fn slowdown_from_both() {
        close(span_utilization(100.0, 0.054, 3.0, 2.0), 0.9);
        close(slowdown(0.9, 0.6), 1.5);
        close(queue_share(1.5), 1.0 / 3.0);
        close(slowdown(0.3, 0.6), 1.0);
        assert_eq!((queue_share(0.5), slowdown(0.5, 0.0)), (None, None));
    }

    /// Guarantees: more than one throttled period in a hundred is the limit's fault, and no periods say nothing.
    #[test]
    fn throttling() {
        assert_eq!((is_throttled(2.0, 100.0), is_throttled(1.0, 100.0), is_throttled(0.0, 0.0)), (Some(true), Some(false), None));
    }

    /// Guarantees: the discipline at both sides of both limits, and that only blocking services have a pool.
    #[test]
    fn disciplines() {
        close(io_share(0.01, 0.04), 0.75);
        close(io_share(0.05, 0.04), 0.0);
        assert_eq!(
            [0.29, 0.3, 0.7, 0.71].map(|share| discipline(share, true)),
            [Discipline::ProcessorSharing, Discipline::Both, Discipline::Both, Discipline::Pool,]
        );
        assert_eq!(discipline(0.99, false), Discipline::ProcessorSharing);
    }

    /// Guarantees: idle CPU and the demands of two classes are found from windows whose mix varies, and a class that needs
    /// nothing gets zero, not less.
    #[test]
    fn demands_by_class() {
        let rates: Vec<Vec<f64>> =
            (0..40).map(|i| vec![f64::from(10 + 7 * i % 23), f64::from(5 + 11 * i % 17), f64::from(i % 5)]).collect();
        let noise = |i: usize| if i.is_multiple_of(2) { 0.002 } else { -0.002 };
        let cpu: Vec<f64> = rates.iter().enumerate().map(|(i, rates)| 0.2 + 0.01 * rates[0] + 0.05 * rates[1] + noise(i)).collect();
        let found = class_demands(&rates, &cpu).unwrap();
        close(Some((found.idle * 50.0).round()), 10.0);
        assert!((found.demands[0] - 0.01).abs() < 3e-4 && (found.demands[1] - 0.05).abs() < 3e-4, "{found:?}");
        assert!((0.0..1e-3).contains(&found.demands[2]) && found.condition < 30.0, "{found:?}");
        // Noise of 0.002 in 40 windows: each demand within three of its errors, which are small, and nearly all is explained.
        assert!(
            found
                .errors
                .iter()
                .zip([0.01, 0.05, 0.0])
                .zip(&found.demands)
                .all(|((error, truth), found)| (found - truth).abs() < 3.0 * error)
        );
        assert!(found.errors[0] < 2e-4 && found.explained.is_some_and(|share| share > 0.99), "{found:?}");
    }

    /// Guarantees: too few windows, classes in lockstep and broken figures are each told apart.
    #[test]
    fn demands_that_are_not_known() {
        let row = |i: u32| vec![f64::from(i), 2.0 * f64::from(i)];
        let cpu: Vec<f64> = (0..40).map(f64::from).collect();
        let alike: Vec<Vec<f64>> = (0..40).map(row).collect();
        assert_eq!(class_demands(&alike[..29], &cpu[..29]), Err(DemandError::FewWindows(29)));
        assert_eq!(class_demands(&alike, &cpu), Err(DemandError::Alike(f64::INFINITY)));
        assert_eq!(class_demands(&alike, &cpu[..30]), Err(DemandError::Malformed));
    }
}
