//! Open Jackson networks: what load from outside makes of each service of a call graph.
//!
//! ```text
//! calls ─▶ Network ─┐
//! load from outside ─┴▶ traffic ─▶ rates, visits
//! ```

mod groups;
mod path;

pub use path::{Path, Stage, bottleneck, cheapest, throughput_max};

use std::fmt;

/// Services that call each other in circles up to which these are solved; the solution takes the cube of their number.
const CYCLIC_MAX: usize = 512;
/// Services of a graph up to which it is solved.
const SERVICES_MAX: usize = 100_000;
/// Steps that find how much a refused graph amplifies.
const STEPS: u32 = 200;

/// Calls from one service to another; both are positions in the list of services.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// Who calls.
    pub from: usize,
    /// Who is called.
    pub to: usize,
    /// Mean number of calls per visit of the caller; may exceed 1.
    pub mean: f64,
}

/// What arrives at each service.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Requests per second by service.
    pub rates: Vec<f64>,
    /// Visits of each service per request from outside.
    pub visits: Vec<f64>,
}

/// Why a graph has no traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// A call names a service that is not there.
    NoSuchService {
        /// The position it names.
        service: usize,
        /// How many there are.
        services: usize,
    },
    /// A rate or a number of calls that is negative or unbounded, or no load from outside.
    Senseless,
    /// Calls make more calls of the same kind than there were, as retries of retries do: no load is stationary.
    Amplification {
        /// One of the services in the cycle.
        service: usize,
        /// Calls that a call leads to, in the long run (the spectral radius); at least 1.
        factor: f64,
    },
    /// More services, or services that call each other in circles, than are solved.
    TooMany {
        /// How many there are.
        services: usize,
        /// How many may be.
        most: usize,
    },
}

/// A call graph that is solved once, for any load from outside.
#[derive(Clone, Debug)]
pub struct Network {
    services: usize,
    /// Callers before whom they call.
    groups: Vec<Group>,
}

/// Services that call each other in circles; most often it is one that does not.
#[derive(Clone, Debug)]
struct Group {
    services: Vec<usize>,
    /// I - Fᵀ of the calls within the group as the product of triangles, the diagonal of the lower one, which is all ones, left out.
    /// `None` without such calls.
    factors: Option<Vec<Vec<f64>>>,
    /// Calls of each service to others outside of the group, and how many for a visit.
    calls: Vec<Vec<(usize, f64)>>,
}

// === impl Network ===

impl Network {
    /// So many services and the calls between them.
    ///
    /// # Errors
    /// When the graph is not one, or amplifies its load without end.
    pub fn new(services: usize, calls: &[Call]) -> Result<Self, Refusal> {
        if !calls.iter().all(|call| is_sensible(call.mean)) {
            return Err(Refusal::Senseless);
        }
        if let Some(service) = calls.iter().flat_map(|call| [call.from, call.to]).find(|service| *service >= services) {
            return Err(Refusal::NoSuchService { service, services });
        }
        if services > SERVICES_MAX {
            return Err(Refusal::TooMany { services, most: SERVICES_MAX });
        }
        let mut outgoing: Vec<Vec<(usize, f64)>> = vec![Vec::new(); services];
        for call in calls.iter().filter(|call| call.mean > 0.0) {
            outgoing[call.from].push((call.to, call.mean));
        }
        let groups = groups::groups(&outgoing).into_iter().map(|group| Group::new(group, &outgoing)).collect::<Result<_, _>>()?;
        Ok(Self { services, groups })
    }

    /// Traffic that `external` requests per second by service lead to.
    ///
    /// # Errors
    /// When that is no load, or not one rate for each service.
    pub fn traffic(&self, external: &[f64]) -> Result<Traffic, Refusal> {
        let total: f64 = external.iter().sum();
        if !(external.len() == self.services && external.iter().all(|rate| is_sensible(*rate)) && total > 0.0) {
            return Err(Refusal::Senseless);
        }
        let mut rates = external.to_vec();
        self.groups.iter().for_each(|group| group.pass_on(&mut rates));
        let visits = rates.iter().map(|rate| rate / total).collect();
        Ok(Traffic { rates, visits })
    }
}

// === impl Group ===

impl Group {
    fn new(services: Vec<usize>, outgoing: &[Vec<(usize, f64)>]) -> Result<Self, Refusal> {
        let mut within = Vec::new();
        let mut calls = vec![Vec::new(); services.len()];
        for (place, service) in services.iter().enumerate() {
            for (to, mean) in &outgoing[*service] {
                match services.binary_search(to) {
                    Ok(other) => within.push(Call { from: place, to: other, mean: *mean }),
                    Err(_) => calls[place].push((*to, *mean)),
                }
            }
        }
        if services.len() > CYCLIC_MAX {
            return Err(Refusal::TooMany { services: services.len(), most: CYCLIC_MAX });
        }
        let factors = (!within.is_empty()).then(|| factor(services.len(), &within)).transpose().map_err(|refusal| match refusal {
            Refusal::Amplification { service, factor } => Refusal::Amplification { service: services[service], factor },
            other => other,
        })?;
        Ok(Self { services, factors, calls })
    }

    /// Makes rates at its services of rates that come from outside of it, and passes them on to whom they call.
    fn pass_on(&self, rates: &mut [f64]) {
        if let Some(factors) = &self.factors {
            let mut own: Vec<f64> = self.services.iter().map(|service| rates[*service]).collect();
            substitute(factors, &mut own);
            self.services.iter().zip(own).for_each(|(service, rate)| rates[*service] = rate);
        }
        for (service, calls) in self.services.iter().zip(&self.calls) {
            for (to, mean) in calls {
                rates[*to] += rates[*service] * mean;
            }
        }
    }
}

fn is_sensible(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}

/// The triangles of I - Fᵀ. The pivots are all positive exactly when the spectral radius of F is below 1.
fn factor(services: usize, calls: &[Call]) -> Result<Vec<Vec<f64>>, Refusal> {
    let mut rows: Vec<Vec<f64>> =
        (0..services).map(|row| (0..services).map(|column| if row == column { 1.0 } else { 0.0 }).collect()).collect();
    for call in calls {
        rows[call.to][call.from] -= call.mean;
    }
    for pivot in 0..services {
        let (above, below) = rows.split_at_mut(pivot + 1);
        let row = &above[pivot];
        if row[pivot] <= 1e-12 {
            return Err(Refusal::Amplification { service: pivot, factor: amplification(services, calls).max(1.0) });
        }
        for other in below {
            let factor = other[pivot] / row[pivot];
            if factor < 0.0 {
                other[pivot + 1..].iter_mut().zip(&row[pivot + 1..]).for_each(|(value, more)| *value -= factor * more);
            }
            other[pivot] = factor;
        }
    }
    Ok(rows)
}

/// Makes rates at the services of rates from outside, by the triangles.
fn substitute(factors: &[Vec<f64>], rates: &mut [f64]) {
    for service in 0..rates.len() {
        let passed: f64 = factors[service][..service].iter().zip(&rates[..service]).map(|(factor, rate)| factor * rate).sum();
        rates[service] -= passed;
    }
    for service in (0..rates.len()).rev() {
        let known: f64 = factors[service][service + 1..].iter().zip(&rates[service + 1..]).map(|(value, rate)| value * rate).sum();
        rates[service] = (rates[service] - known) / factors[service][service];
    }
}

/// The spectral radius of the calls, by the power method on F + I, which cannot swing.
fn amplification(services: usize, calls: &[Call]) -> f64 {
    let mut vector = vec![1.0; services];
    let mut growth = 1.0;
    for _ in 0..STEPS {
        let mut next = vector.clone();
        for call in calls {
            next[call.to] += call.mean * vector[call.from];
        }
        growth = next.iter().copied().fold(0.0, f64::max);
        next.iter_mut().for_each(|value| *value /= growth);
        vector = next;
    }
    growth - 1.0
}

// === impl Refusal ===

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchService { service, services } => write!(formatter, "a call names service {service} of {services}"),
            Self::Senseless => write!(formatter, "rates and numbers of calls must be zero or more, and something must arrive from outside"),
            Self::Amplification { service, factor } => write!(
                formatter,
                "calls around service {service} lead to {factor:.2} calls each: the load grows without end; look for retries of retries"
            ),
            Self::TooMany { services, most } => write!(formatter, "{services} services are more than the {most} that can be solved"),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::many::{Fewest, ManyServers, Of, fewest_servers};

    const RATES: [f64; 5] = [50.0, 20.0, 25.0, 10.0, 100.0];

    fn traffic(external: &[f64], calls: &[Call]) -> Result<Traffic, Refusal> {
        Network::new(external.len(), calls)?.traffic(external)
    }

    fn call(from: usize, to: usize, mean: f64) -> Call {
        Call { from, to, mean }
    }

    /// Gateway, catalog, cart, payment, database.
    fn shop() -> Vec<Call> {
        let calls = [(0, 1, 0.7), (0, 2, 0.4), (1, 4, 1.5), (2, 3, 0.25), (2, 4, 2.0), (3, 3, 0.1), (3, 4, 1.0)];
        calls.into_iter().map(|(from, to, mean)| call(from, to, mean)).collect()
    }

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found - expected).abs() <= relative * expected.abs(), "{found} is not {expected}");
    }

    fn servers(rates: &[f64]) -> Vec<u32> {
        let fewest = |(rate, service): (&f64, f64)| match fewest_servers(*rate, 1.0 / service, Of::Wait, 0.02, 0.99) {
            Some(Fewest::Servers(servers)) => servers,
            other => panic!("{other:?}"),
        };
        rates.iter().zip(RATES).map(fewest).collect()
    }

    /// Guarantees: rates, visits, servers and latencies of the reference network at a low and a high load.
    #[test]
    fn matches_the_reference() {
        // Load from outside; rate, visits, load, servers, probability of waiting, mean and P99 of the sojourn by service.
        let table = [
            (
                100.0,
                [
                    (100.0, 1.0, 2.0, 5, 0.059_701, 0.020_398, 0.092_69),
                    (70.0, 0.7, 3.5, 8, 0.029_886, 0.050_332, 0.230_68),
                    (40.0, 0.4, 1.6, 5, 0.025_886, 0.040_305, 0.184_64),
                    (11.111_111, 0.111_111, 1.111_111, 5, 0.005_971, 0.100_154, 0.460_72),
                    (196.111_111, 1.961_111, 1.961_111, 4, 0.164_498, 0.010_807, 0.047_51),
                ],
            ),
            (
                1000.0,
                [
                    (1000.0, 1.0, 20.0, 24, 0.298_072, 0.021_490, 0.094_00),
                    (700.0, 0.7, 35.0, 43, 0.134_657, 0.050_842, 0.231_21),
                    (400.0, 0.4, 16.0, 22, 0.110_909, 0.040_739, 0.185_08),
                    (111.111_111, 0.111_111, 11.111_111, 19, 0.021_849, 0.100_277, 0.460_83),
                    (1_961.111_111, 1.961_111, 19.611_111, 22, 0.500_812, 0.012_096, 0.049_13),
                ],
            ),
        ];
        for (load, expected) in table {
            let traffic = traffic(&[load, 0.0, 0.0, 0.0, 0.0], &shop()).unwrap();
            let found = servers(&traffic.rates);
            for (place, (rate, visits, offered, count, wait, mean, p99)) in expected.into_iter().enumerate() {
                close(traffic.rates[place], rate, 1e-6);
                close(traffic.visits[place], visits, 1e-5);
                assert_eq!(found[place], count);
                let many = ManyServers::new(traffic.rates[place], 1.0 / RATES[place], f64::from(count)).unwrap();
                close(many.pool().load(), offered, 1e-6);
                close(many.pool().wait_probability(), wait, 1e-4);
                close(many.mean_sojourn(), mean, 1e-4);
                close(many.sojourn_quantile(0.99).unwrap(), p99, 2e-4);
            }
        }
        let both = traffic(&[100.0, 10.0, 0.0, 0.0, 0.0], &shop()).unwrap();
        for (found, expected) in both.rates.iter().zip([100.0, 80.0, 40.0, 11.111_111, 211.111_111]) {
            close(*found, expected, 1e-6);
        }
        assert_eq!(servers(&both.rates), [5, 9, 5, 5, 4]);
    }

    /// Guarantees: group by group gives what elimination of the whole graph gives, with circles and without.
    #[test]
    fn groups_and_elimination_agree() {
        let circle = || shop().into_iter().chain([call(3, 2, 0.2), call(4, 2, 0.1)]).collect();
        let without = || shop().into_iter().filter(|call| call.from != call.to).collect();
        for calls in [shop(), circle(), without()] {
            let external = [100.0, 10.0, 0.0, 3.0, 0.0];
            let mut eliminated = external;
            substitute(&factor(5, &calls).unwrap(), &mut eliminated);
            let found = traffic(&external, &calls).unwrap().rates;
            assert!(found.iter().zip(&eliminated).all(|(a, b)| (a - b).abs() < 1e-9), "{calls:?}");
        }
        let network = Network::new(5, &shop()).unwrap();
        for external in [[100.0, 10.0, 0.0, 3.0, 0.0], [0.0, 0.0, 7.0, 0.0, 0.0]] {
            assert_eq!(network.traffic(&external), traffic(&external, &shop()));
        }
        assert_eq!(network.traffic(&[1.0; 4]), Err(Refusal::Senseless));
    }

    /// Guarantees: retries that breed retries are refused with the factor, weak ones are not.
    #[test]
    fn amplification_is_refused() {
        let ring = |mean: f64| traffic(&[1.0, 0.0, 0.0], &[call(0, 1, mean), call(1, 2, 1.0), call(2, 0, 1.0)]);
        close(ring(0.9).unwrap().rates[0], 10.0, 1e-9);
        let Err(Refusal::Amplification { factor, .. }) = ring(1.331) else { panic!("not refused") };
        close(factor, 1.1, 1e-6);
        assert!(matches!(ring(1.0), Err(Refusal::Amplification { .. })));
        assert!(matches!(traffic(&[1.0], &[call(0, 0, 2.0)]), Err(Refusal::Amplification { service: 0, .. })));
        let text = ring(2.0).unwrap_err().to_string();
        assert!(text.contains("retries of retries"), "{text}");
    }

    /// Guarantees: what is no graph is refused by name.
    #[test]
    fn no_graph() {
        assert_eq!(traffic(&[1.0], &[call(0, 3, 1.0)]), Err(Refusal::NoSuchService { service: 3, services: 1 }));
        for external in [&[][..], &[0.0], &[-1.0, 2.0], &[f64::NAN]] {
            assert_eq!(traffic(external, &[]), Err(Refusal::Senseless));
        }
        assert_eq!(traffic(&[1.0, 1.0], &[call(0, 1, f64::NAN)]), Err(Refusal::Senseless));
        let ring: Vec<Call> = (0..600).map(|service| call(service, (service + 1) % 600, 0.5)).collect();
        assert!(matches!(traffic(&[1.0; 600], &ring), Err(Refusal::TooMany { services: 600, most: CYCLIC_MAX })));
        assert!(traffic(&[1.0; 600], &ring[1..]).is_ok());
    }

    /// Guarantees: of a large graph only the circles are solved together.
    #[test]
    fn small_circles_in_large_graphs() {
        let chain = (0..2999).map(|service| call(service, service + 1, 1.0));
        let calls: Vec<Call> = chain.chain([call(1500, 1499, 0.5)]).collect();
        let mut external = vec![0.0; 3000];
        external[0] = 10.0;
        let rates = traffic(&external, &calls).unwrap().rates;
        assert!((rates[1498] - 10.0).abs() < 1e-9 && (rates[1499] - 20.0).abs() < 1e-9 && (rates[2999] - 20.0).abs() < 1e-9);
    }
}
