//! Sizing from plain numbers, any of which may be missing, as SQL has them. Missing or senseless input gives no answer.

use super::{Objective, Prediction, ServiceTime, Sizing, Stable, Station, predict, size};
use crate::queue::erlang::whole;

/// Replicas that keep the share `quantile` of the requests below `latency` (seconds) at `arrival_rate` (requests per second) of
/// mean `service_time` (seconds) and squared coefficient of variation `service_scv`, with `servers` servers per replica shared by
/// all requests, `pooling` between one pool (0) and a random split (1), and at most `utilization_max` busy. `None` also when no
/// number does: see [`latency_feasible`].
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the arguments of a SQL function")]
pub fn replicas_for_latency(
    arrival_rate: Option<f64>,
    service_time: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    latency: Option<f64>,
    quantile: Option<f64>,
    pooling: Option<f64>,
    utilization_max: Option<f64>,
) -> Option<f64> {
    let station = Station { pooling: pooling?, ..Station::new(ServiceTime::from_moments(service_time?, service_scv?)?, servers?) };
    replicas(size(&station, arrival_rate?, &Objective { latency: latency?, quantile: quantile? }, utilization_max?)?)
}

/// Whether any number of replicas can keep the share `quantile` of the requests below `latency` (seconds): not when requests
/// that are alone take longer.
#[must_use]
pub fn latency_feasible(
    service_time: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    latency: Option<f64>,
    quantile: Option<f64>,
) -> Option<bool> {
    let station = Station::new(ServiceTime::from_moments(service_time?, service_scv?)?, servers?);
    let sizing = size(&station, 0.0, &Objective { latency: latency?, quantile: quantile? }, 1.0)?;
    Some(matches!(sizing, Sizing::Replicas(_)))
}

/// The latency (seconds) that the share `1 - quantile` of the requests exceeds on `replicas` replicas; the other arguments are
/// those of [`replicas_for_latency`]. `None` when the load is more than they can do.
#[must_use]
pub fn predicted_latency(
    arrival_rate: Option<f64>,
    service_time: Option<f64>,
    service_scv: Option<f64>,
    servers: Option<f64>,
    replicas: Option<f64>,
    quantile: Option<f64>,
    pooling: Option<f64>,
) -> Option<f64> {
    let station = Station { pooling: pooling?, ..Station::new(ServiceTime::from_moments(service_time?, service_scv?)?, servers?) };
    stable(&station, arrival_rate?, replicas?)?.quantile(quantile?)
}

fn replicas(sizing: Sizing) -> Option<f64> {
    match sizing {
        Sizing::Replicas(replicas) => Some(f64::from(replicas)),
        Sizing::Infeasible { .. } => None,
    }
}

fn stable(station: &Station, arrival_rate: f64, replicas: f64) -> Option<Stable<'_>> {
    match predict(station, arrival_rate, whole(replicas))? {
        Prediction::Stable(stable) => Some(stable),
        Prediction::Unstable { .. } => None,
    }
}
