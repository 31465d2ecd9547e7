//! Policies that do not look: a constant number, and what was recorded.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracescale_core::time::Timestamp;

use crate::policy::{Policy, Telemetry};

/// Always the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Static {
    /// The number.
    pub replicas: u32,
}

/// What was really done, replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Current {
    /// Replicas that were asked for, each from its time on, in order of time.
    pub recorded: Vec<(Timestamp, u32)>,
}

impl Policy for Static {
    fn name(&self) -> String {
        format!("static {}", self.replicas)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn tick(&mut self, _now: Timestamp, seen: &Telemetry) -> Option<u32> {
        (seen.desired() != self.replicas).then_some(self.replicas)
    }
}

impl Policy for Current {
    fn name(&self) -> String {
        "current".to_owned()
    }

    /// As often as there are observations.
    fn interval(&self) -> Duration {
        Duration::ZERO
    }

    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
        let place = self.recorded.partition_point(|(at, _)| *at <= now).checked_sub(1)?;
        let (_, replicas) = self.recorded[place];
        (seen.desired() != replicas).then_some(replicas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::Observation;

    fn seen(desired: u32) -> Telemetry {
        let mut telemetry = Telemetry::new(Duration::from_secs(60));
        telemetry.see(desired, Observation::default(), false);
        telemetry
    }

    /// Guarantees: a constant is restored, a record is followed from its first entry on.
    #[test]
    fn constants_and_records() {
        let at = Timestamp::from_secs;
        let mut constant = Static { replicas: 3 };
        assert_eq!((constant.tick(at(0), &seen(1)), constant.tick(at(0), &seen(3))), (Some(3), None));
        let mut record = Current { recorded: vec![(at(10), 2), (at(20), 5)] };
        let found = [9, 10, 19, 20, 99].map(|second| record.tick(at(second), &seen(1)));
        assert_eq!(found, [None, Some(2), Some(2), Some(5), Some(5)]);
    }
}
