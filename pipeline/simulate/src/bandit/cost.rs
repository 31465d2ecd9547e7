//! What each hour of a run cost.

use tracescale_core::time::nanos;

use super::HOUR;
use crate::number::{position, seconds, whole};
use crate::report::ServiceReport;
use crate::score::{MINUTE_REQUESTS_MIN, Prices};

/// Minutes of an hour.
const MINUTES: usize = 60;

/// Cost of every full hour of a report: replicas that were asked for, minutes in which more than a share `1 - quantile` of the
/// requests broke the promise, and changes.
#[must_use]
pub fn hourly_costs(report: &ServiceReport, quantile: f64, prices: &Prices) -> Vec<f64> {
    let start = report.start.as_nanos();
    let hours = position(report.seconds() / HOUR.as_secs_f64());
    let mut costs = vec![0.0; hours];
    let mut charge = |at: f64, cost: f64| {
        if let Some(hour) = costs.get_mut(position(at / HOUR.as_secs_f64())) {
            *hour += cost;
        }
    };
    for (place, minute) in report.minutes.iter().enumerate().take(hours * MINUTES) {
        if minute.requests >= MINUTE_REQUESTS_MIN && minute.over > (1.0 - quantile) * minute.requests {
            charge(seconds(nanos(HOUR)) * crate::number::real_length(place) / 60.0, prices.violation_minute);
        }
    }
    for action in &report.actions {
        charge(seconds(action.at.as_nanos() - start), prices.action);
    }
    for (place, supply) in report.supply.iter().enumerate() {
        let until = report.supply.get(place + 1).map_or(report.end, |next| next.at);
        let (mut from, until) = (seconds(supply.at.as_nanos() - start), seconds(until.as_nanos() - start));
        while from < until {
            // To the end of the hour, or of what is held.
            let next = (f64::from(whole(from / 3600.0 + 1e-9)) * 3600.0 + 3600.0).min(until);
            charge(from + 1e-6, prices.replica_hour * f64::from(supply.desired) * (next - from) / 3600.0);
            from = next;
        }
    }
    costs
}

#[cfg(test)]
mod tests {
    use tracescale_core::time::Timestamp;

    use super::*;
    use crate::report::{Action, Minute};

    /// Guarantees: replicas, violations and changes count in their hour, by hand: 2 replicas, then 4 from half past one on.
    #[test]
    fn costs_by_hand() {
        let at = Timestamp::from_secs;
        let mut report = ServiceReport::starting("a", at(0), 0.5, 2, 2);
        report.end = at(7200);
        report.minutes = vec![Minute { requests: 100.0, over: 0.0 }; 120];
        report.minutes[59] = Minute { requests: 100.0, over: 2.0 };
        report.minutes[60] = Minute { requests: 5.0, over: 5.0 };
        report.actions.push(Action { at: at(5400), from: 2, to: 4 });
        report.supply(at(5400), 4, 2);
        let prices = Prices { replica_hour: 1.0, violation_minute: 10.0, action: 0.5 };
        let costs = hourly_costs(&report, 0.99, &prices);
        assert!(costs.len() == 2 && (costs[0] - 12.0).abs() < 1e-6 && (costs[1] - 3.5).abs() < 1e-6, "{costs:?}");
    }
}
