//! Demand: the fewest replicas that keep a service's promise at the true rate, if that rate stayed.

use crate::model::{LatencyTable, Sharing, UTILIZATION_MAX};
use crate::number::index;
use crate::world::{Discipline, Objective, REPLICAS_MAX, ServiceSpec};

/// Halvings of the utilization when the highest rate of a number of replicas is sought.
const HALVINGS: u32 = 40;

/// Finds demand. What it has found for a number of replicas it keeps.
#[derive(Clone, Debug)]
pub struct Demand {
    table: LatencyTable,
    servers: u32,
    separation: f64,
    /// Mean work of a request, in seconds.
    work: f64,
    objective: Objective,
    /// Highest rate by number of replicas, from 1 on; none of zero replicas.
    rates: Vec<f64>,
}

// === impl Demand ===

impl Demand {
    /// The demand of a service. Its work is taken without its factor over time.
    #[must_use]
    pub fn new(spec: &ServiceSpec) -> Self {
        let sharing = match spec.discipline {
            Discipline::ProcessorSharing { .. } => Sharing::Processor,
            Discipline::FirstComeFirstServed { .. } => Sharing::Queue,
        };
        Self {
            table: LatencyTable::new(sharing, &spec.service_time),
            servers: spec.discipline.servers(),
            separation: spec.balancing.pooling(),
            work: spec.service_time.mean(),
            objective: spec.objective,
            rates: Vec::new(),
        }
    }

    /// The fewest replicas for a rate, in requests per second; none for no load. `None` when no number of replicas keeps the
    /// promise, because the work alone breaks it.
    #[must_use]
    pub fn replicas(&mut self, rate: f64) -> Option<u32> {
        if rate <= 0.0 {
            return Some(0);
        }
        while self.rates.last().is_none_or(|most| *most < rate) {
            let replicas = index(self.rates.len()) + 1;
            let most = self.highest_rate(replicas);
            let before = self.rates.last().copied().unwrap_or(0.0);
            // More replicas never serve less: what says so is the interpolation.
            self.rates.push(most.max(before));
            if replicas >= REPLICAS_MAX || most <= 0.0 {
                self.rates.pop();
                return None;
            }
        }
        Some(index(self.rates.partition_point(|most| *most < rate)) + 1)
    }

    /// The highest rate at which a number of replicas keeps the promise; zero when there is none.
    fn highest_rate(&mut self, replicas: u32) -> f64 {
        let (mut low, mut high) = (0.0, UTILIZATION_MAX);
        if self.over(replicas, low) > 1.0 - self.objective.quantile {
            return 0.0;
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if self.over(replicas, middle) > 1.0 - self.objective.quantile { high = middle } else { low = middle }
        }
        low * f64::from(self.servers) * f64::from(replicas) / self.work.max(f64::MIN_POSITIVE)
    }

    /// Share of the requests above the promise.
    fn over(&mut self, replicas: u32, utilization: f64) -> f64 {
        let pooled = self.table.law(self.servers.saturating_mul(replicas), utilization);
        let separate = self.table.law(self.servers, utilization);
        pooled.mix(&separate, self.separation).tail(self.objective.latency / self.work.max(f64::MIN_POSITIVE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::world::Balancing;

    fn demand(discipline: Discipline, mean: f64, latency: f64, balancing: Balancing) -> Demand {
        let mut spec = ServiceSpec::new("a", discipline, Distribution::Exponential { mean });
        spec.objective = Objective { latency, quantile: 0.99 };
        spec.balancing = balancing;
        Demand::new(&spec)
    }

    /// Guarantees: pooled first come, first served demand is that of Erlang's formula, within one server.
    #[test]
    fn pooled_queues() {
        let one = Discipline::FirstComeFirstServed { slots: 1, capacity: None };
        for (rate, mu, target, servers) in
            [(100.0, 10.0, 0.6, 12), (100.0, 20.0, 0.3, 7), (500.0, 20.0, 0.25, 28), (1000.0, 20.0, 0.25, 53)]
        {
            let found = demand(one, 1.0 / mu, target, Balancing::SingleQueue).replicas(rate).unwrap();
            assert!(found.abs_diff(servers) <= 1, "{rate}/s: {found} is not {servers}");
        }
    }

    /// Guarantees: separate replicas under processor sharing may be as busy as the table of safe utilizations says.
    #[test]
    fn separate_sharing() {
        for (cores, times, utilization) in [(1, 10.0, 0.406), (4, 10.0, 0.788), (8, 20.0, 0.945)] {
            let sharing = Discipline::ProcessorSharing { cores };
            let mut demand = demand(sharing, 0.05, 0.05 * times, Balancing::Random);
            let highest = demand.highest_rate(7) * 0.05 / (7.0 * f64::from(cores));
            assert!((highest / utilization - 1.0).abs() < 0.03, "{cores} cores: {highest} is not {utilization}");
        }
    }

    /// Guarantees: no load needs nothing, any load one replica, more load never fewer; work above the promise is infeasible.
    #[test]
    fn edges() {
        let sharing = Discipline::ProcessorSharing { cores: 1 };
        let mut demand = demand(sharing, 0.05, 0.5, Balancing::PowerOfTwo);
        assert_eq!((demand.replicas(0.0), demand.replicas(0.01)), (Some(0), Some(1)));
        let needs: Vec<u32> = (1..60).map(|rate| demand.replicas(f64::from(rate) * 20.0).unwrap()).collect();
        assert!(needs.is_sorted());
        assert_eq!(super::tests::demand(sharing, 0.2, 0.5, Balancing::Random).replicas(1.0), None);
    }
}
