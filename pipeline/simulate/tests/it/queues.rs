//! One replica: first come, first served, processor sharing, and loss.

use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::model::slowdown;
use tracescale_simulate::world::{Arrivals, Discipline};

use crate::closed::{blocking, erlang4_gaps, hyperexponential_gaps, sigma, sojourn_quantile_mmc, wait_mg1, wait_mmc, wait_quantile_mmc};
use crate::measure::{agree, measure, queue, world};

const EXPONENTIAL: Distribution = Distribution::Exponential { mean: 1.0 };

/// Guarantees: M/M/c has Erlang's mean wait, and its quantiles of wait and sojourn, for 1, 2 and 10 servers.
#[test]
fn first_come_first_served_mmc() {
    for (servers, utilization, requests) in [(1, 0.8, 1.2e6), (2, 0.8, 6e5), (2, 0.9, 1.2e6), (10, 0.9, 6e5)] {
        let rate = utilization * f64::from(servers);
        let found = measure(&world(queue(servers), 1, EXPONENTIAL, Arrivals::poisson(rate)), requests);
        found.wait_mean(wait_mmc(servers, utilization));
        found.wait_quantile(0.99, wait_quantile_mmc(servers, utilization, 0.99));
        found.response_quantile(0.99, sojourn_quantile_mmc(servers, utilization, 0.99));
    }
}

/// Guarantees: M/G/1 has the mean wait of Pollaczek and Khinchine and the exact quantiles of its transform.
#[test]
fn first_come_first_served_mg1() {
    let cases = [
        (Distribution::Deterministic { value: 1.0 }, 0.0, 10.355_887, 5e5),
        (Distribution::Erlang { shape: 4, mean: 1.0 }, 0.25, 13.242_206, 5e5),
        (Distribution::Hyperexponential { mean: 1.0, scv: 4.0 }, 4.0, 60.012_607, 1.2e6),
    ];
    for (work, scv, wait99, requests) in cases {
        let found = measure(&world(queue(1), 1, work, Arrivals::poisson(0.8)), requests);
        found.wait_mean(wait_mg1(0.8, scv));
        found.wait_quantile(0.99, wait99);
    }
}

/// Guarantees: GI/M/1 has its own probability of waiting and mean wait for regular and for bursty arrivals.
#[test]
fn renewal_arrivals() {
    let mean = 1.0 / 0.8;
    let cases = [
        (Distribution::Erlang { shape: 4, mean }, sigma(erlang4_gaps(0.8))),
        (Distribution::Hyperexponential { mean, scv: 4.0 }, sigma(hyperexponential_gaps(0.8, 4.0))),
    ];
    for (gaps, sigma) in cases {
        let found = measure(&world(queue(1), 1, EXPONENTIAL, Arrivals::Renewal(gaps)), 8e5);
        agree("share that waits", found.mean(|report| 1.0 - report.wait.share_of_zeros().unwrap()), sigma);
        found.wait_mean(sigma / (1.0 - sigma));
    }
}

/// Guarantees: the mean sojourn under processor sharing depends on the mean of the work alone; exponential work has the exact
/// quantiles.
#[test]
fn processor_sharing_is_insensitive() {
    for (cores, utilization, p95, p99) in
        [(1, 0.8, 18.748_111, 36.940_989), (4, 0.9, 10.667_032, 20.904_36), (10, 0.9, 5.441_128, 9.831_043)]
    {
        let sharing = Discipline::ProcessorSharing { cores };
        let expected = slowdown(cores, utilization, 1.0).mean;
        let works = [
            Distribution::Deterministic { value: 1.0 },
            EXPONENTIAL,
            Distribution::Lognormal { mean: 1.0, scv: 4.0 },
            Distribution::Hyperexponential { mean: 1.0, scv: 10.0 },
        ];
        for work in works {
            let is_exponential = work == EXPONENTIAL;
            let found = measure(&world(sharing, 1, work, Arrivals::poisson(utilization * f64::from(cores))), 6e5);
            found.sojourn_mean(expected);
            if is_exponential {
                found.response_quantile(0.95, p95);
                found.response_quantile(0.99, p99);
            }
        }
    }
}

/// Guarantees: a full system rejects as M/M/c/K does; without waiting places the share does not depend on the work's law.
#[test]
fn full_systems_reject() {
    let lognormal = Distribution::Lognormal { mean: 1.0, scv: 2.0 };
    for (servers, capacity, utilization, work) in
        [(1, 10, 0.8, EXPONENTIAL), (4, 20, 1.2, EXPONENTIAL), (10, 30, 0.95, EXPONENTIAL), (10, 10, 0.8, lognormal)]
    {
        let discipline = Discipline::FirstComeFirstServed { slots: servers, capacity: Some(capacity) };
        let found = measure(&world(discipline, 1, work, Arrivals::poisson(utilization * f64::from(servers))), 5e5);
        agree("share rejected", found.mean(|report| report.failed / report.arrivals), blocking(servers, capacity, utilization));
    }
}
