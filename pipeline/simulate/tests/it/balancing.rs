//! Many replicas: how requests find them decides how much they wait.

use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::model::slowdown;
use tracescale_simulate::world::{Arrivals, Balancing, Discipline};

use crate::measure::{measure, queue, world};

/// Guarantees: random balancing makes each replica a queue of its own; cleverer ways are as much better as simulations
/// elsewhere found them.
#[test]
fn sixteen_replicas() {
    let cases = [
        (Balancing::Random, slowdown(1, 0.85, 1.0).mean, None),
        (Balancing::RoundRobin, 3.74, Some(28.5)),
        (Balancing::PowerOfTwo, 2.34, Some(12.2)),
        (Balancing::LeastOutstanding, 1.33, Some(6.80)),
    ];
    for (balancing, mean, p99) in cases {
        let sharing = Discipline::ProcessorSharing { cores: 1 };
        let mut world = world(sharing, 16, Distribution::Exponential { mean: 1.0 }, Arrivals::poisson(16.0 * 0.85));
        world.services[0].balancing = balancing;
        let found = measure(&world, 8e5);
        found.sojourn_mean(mean);
        if let Some(p99) = p99 {
            found.response_quantile(0.99, p99);
        }
    }
}

/// Guarantees: one queue before all replicas is one system with all servers.
#[test]
fn one_queue_is_one_system() {
    let mut world = world(queue(2), 5, Distribution::Exponential { mean: 1.0 }, Arrivals::poisson(9.0));
    world.services[0].balancing = Balancing::SingleQueue;
    let found = measure(&world, 5e5);
    found.sojourn_mean(1.0 + crate::closed::wait_mmc(10, 0.9));
    found.response_quantile(0.99, crate::closed::sojourn_quantile_mmc(10, 0.9, 0.99));
}
