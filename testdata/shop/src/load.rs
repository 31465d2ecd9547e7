//! Who visits the shop: Poisson arrivals whose rate follows a compressed day, with bursts now and then.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::services::Service;
use crate::world::World;

/// How far ahead an arrival is drawn at most; the rate is read anew after that.
const LOOK_AHEAD: f64 = 0.25;
/// Requests the generator keeps open at once; beyond it arrivals are counted as unanswered.
const MAX_OPEN: usize = 4096;
/// Share of visits that order something.
const ORDERS: f64 = 0.3;

/// The shape of the arrival rate over time.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Mean requests per second over a day.
    rate: f64,
    /// Length of the compressed day, in seconds; none is a flat rate.
    day: Option<f64>,
    bursts: Vec<Burst>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    begin: f64,
    end: f64,
    factor: f64,
}

// === impl Shape ===

impl Shape {
    /// Bursts come about six times a day and last a fortieth of it; none without a day.
    pub(crate) fn new(rate: f64, day: Option<Duration>, duration: Duration, bursts: bool, seed: u64) -> Self {
        let day = day.map(|day| day.as_secs_f64());
        let mut random = SmallRng::seed_from_u64(seed ^ 0x00b0_0575);
        let mut drawn = Vec::new();
        if let Some(day) = day.filter(|_| bursts) {
            let mut at = exponential(day / 6.0, &mut random);
            while at < duration.as_secs_f64() {
                drawn.push(Burst { begin: at, end: at + day / 40.0, factor: random.random_range(2.0..4.0) });
                at += day / 40.0 + exponential(day / 6.0, &mut random);
            }
        }
        Self { rate, day, bursts: drawn }
    }

    /// Requests per second at `at` seconds: low at night, a peak before noon and a higher one in the evening.
    pub(crate) fn rate_at(&self, at: f64) -> f64 {
        let daily = self.day.map_or(1.0, |day| {
            let phase = TAU * at / day;
            (1.0 - 0.62 * phase.cos() - 0.22 * (2.0 * phase - 0.6).cos()).max(0.05)
        });
        let burst = self.bursts.iter().find(|burst| (burst.begin..burst.end).contains(&at)).map_or(1.0, |burst| burst.factor);
        self.rate * daily * burst
    }
}

fn exponential(mean: f64, random: &mut SmallRng) -> f64 {
    -mean * (1.0 - random.random::<f64>()).ln()
}

/// Visits the gateway for `duration` and waits for the last answers.
pub(crate) async fn run(world: Arc<World>, shape: Shape, duration: Duration, seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let client = Client::default();
    let begin = Instant::now();
    let mut open = JoinSet::new();
    let mut at = 0.0;
    while at < duration.as_secs_f64() {
        let rate = shape.rate_at(at) * world.faults.now().load;
        let gap = exponential(1.0 / rate.max(1e-6), &mut random);
        // An exponential wait that is cut short and drawn again is still exponential, at the rate of its time.
        let arrives = gap <= LOOK_AHEAD;
        at += gap.min(LOOK_AHEAD);
        tokio::time::sleep_until(begin + Duration::from_secs_f64(at)).await;
        while open.try_join_next().is_some() {}
        if !arrives {
            continue;
        }
        world.load.sent.fetch_add(1, Ordering::Relaxed);
        if open.len() >= MAX_OPEN {
            world.load.unanswered.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        open.spawn(visit(Arc::clone(&world), client.clone(), [random.random(), random.random(), random.random(), random.random()]));
    }
    while open.join_next().await.is_some() {}
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a product number below 500")]
async fn visit(world: Arc<World>, client: Client, [what, product, first, second]: [f64; 4]) {
    let (method, path) = if what < ORDERS {
        (Method::POST, "/orders".to_owned())
    } else if what < ORDERS + 0.1 {
        (Method::GET, "/products".to_owned())
    } else {
        (Method::GET, format!("/products/{}", (product * 500.0) as u32))
    };
    let Some(gateway) = world.pick(Service::Gateway, first, second) else {
        world.load.unanswered.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", gateway.address))
        .header(header::USER_AGENT, "shop-visitor/1.0")
        .body(Full::<Bytes>::default());
    drop(gateway);
    let Ok(request) = request else { return };
    let counter = match tokio::time::timeout(Duration::from_secs(10), client.send(request)).await {
        Ok(Ok(status)) if status.is_server_error() => &world.load.failed,
        Ok(Ok(_status)) => &world.load.answered,
        Ok(Err(_)) | Err(_) => &world.load.unanswered,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "seconds of a day")]
mod tests {
    use super::*;

    /// Guarantees: the mean over a day is the stated rate, nights are quiet and evenings busy.
    #[test]
    fn a_day_keeps_the_stated_mean() {
        let day = Duration::from_secs(600);
        let shape = Shape::new(20.0, Some(day), day, false, 1);
        let rates: Vec<f64> = (0..600).map(|second| shape.rate_at(f64::from(second))).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!((mean - 20.0).abs() < 0.5, "{mean}");
        assert!(rates[0] < 8.0 && rates.iter().copied().fold(0.0, f64::max) > 30.0);
    }

    /// Guarantees: the same seed gives the same bursts; without a day there are none.
    #[test]
    fn bursts_follow_the_seed() {
        let day = Some(Duration::from_secs(600));
        let of =
            |seed, day| Shape::new(20.0, day, Duration::from_secs(1200), true, seed).bursts.iter().map(|b| b.begin).collect::<Vec<_>>();
        assert_eq!(of(7, day), of(7, day));
        assert_ne!(of(7, day), of(8, day));
        assert!(!of(7, day).is_empty() && of(7, None).is_empty());
    }
}
