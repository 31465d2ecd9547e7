//! How far a backtest is: a line on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tracescale_core::time::Timestamp;
use tracescale_simulate::plant::{Observation, Plant};
use tracescale_simulate::report::ServiceReport;

use crate::clock;

/// Shortest time between two lines.
const REDRAW: Duration = Duration::from_secs(1);

/// A plant whose time is watched.
struct Watched {
    plant: Box<dyn Plant>,
    policy: String,
    from: Timestamp,
    until: Timestamp,
    /// By the clock on the wall; what takes less than [`REDRAW`] is not told at all.
    told: Timestamp,
    is_told: bool,
}

/// The plant itself, or one that tells on standard error how far it is on its way to `until`, where that is a terminal.
pub(super) fn watched(plant: Box<dyn Plant>, policy: &str, until: Timestamp) -> Box<dyn Plant> {
    if !io::stderr().is_terminal() {
        return plant;
    }
    let from = plant.now();
    Box::new(Watched { plant, policy: policy.to_owned(), from, until, told: clock::now(), is_told: false })
}

fn line(policy: &str, (from, now, until): (Timestamp, Timestamp, Timestamp)) -> String {
    let share = 100.0 * now.since(from).as_secs_f64() / until.since(from).as_secs_f64().max(f64::MIN_POSITIVE);
    format!("{policy}: {share:.0} % ({now})")
}

// === impl Watched ===

impl Plant for Watched {
    fn services(&self) -> usize {
        self.plant.services()
    }

    fn now(&self) -> Timestamp {
        self.plant.now()
    }

    fn advance(&mut self, until: Timestamp) {
        self.plant.advance(until);
        let now = clock::now();
        // A clock that was set back is not waited for.
        if now.since(self.told) >= REDRAW || now < self.told {
            (self.told, self.is_told) = (now, true);
            let text = line(&self.policy, (self.from, self.plant.now(), self.until));
            // Nobody reads it then, and the backtest goes on.
            let _ = write!(io::stderr(), "\r{text}\x1b[K");
        }
    }

    fn observe(&mut self, service: usize, into: &mut Observation) {
        self.plant.observe(service, into);
    }

    fn set_replicas(&mut self, service: usize, desired: u32) {
        self.plant.set_replicas(service, desired);
    }

    fn desired(&self, service: usize) -> u32 {
        self.plant.desired(service)
    }

    fn report(&self, service: usize) -> ServiceReport {
        self.plant.report(service)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.is_told {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the line says which policy is simulated, how much of it is done, and where in recorded time it is.
    #[test]
    fn a_line_says_how_far() {
        let at = Timestamp::from_secs;
        assert_eq!(line("hpa:cpu=70", (at(0), at(45), at(180))), "hpa:cpu=70: 25 % (1970-01-01T00:00:45.000Z)");
        assert_eq!(line("keda", (at(0), at(0), at(0))), "keda: 0 % (1970-01-01T00:00:00.000Z)");
    }
}
