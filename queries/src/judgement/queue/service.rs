//! One service as a queue: what windows teach of it, and what follows for a load.

use tracescale_core::time::Timestamp;
use tracescale_models::calibration::{Behind, Busy, Calibration, Comparison, Servers, Source};
use tracescale_models::queue::overload::relaxation_time;
use tracescale_models::sizing::{Objective, Prediction, ServiceTime, Station, predict, safe_utilization, service_time_behind};

use super::super::Promise;
use super::super::rows::seconds;
use super::{Known, NUMBERS};
use crate::histogram::Histogram;

/// Seconds until a change of replicas shows: start-up, and the delay of final windows.
const DEAD_TIME: f64 = 180.0;
/// The quantile that is compared: high enough to show waiting, low enough to be known after a few hundred requests.
const QUANTILE: f64 = 0.95;
/// A random split is what most balancers come to in the end; measurements replace it.
const POOLING: f64 = 1.0;
/// The variation of a service that nothing is known of.
const SCV: f64 = 1.0;
/// Utilization up to which a prediction is hardly more than the service time, so that comparing it says little unless it is far off.
const QUIET: f64 = 0.3;
const FAR_OFF: f64 = 1.5;
/// How much longer than the service time requests may take for their distribution to be that of the service time.
const UNDELAYED: f64 = 1.15;
/// Windows that an error of before a restart is taken to come from.
const REMEMBERED_WINDOWS: u32 = 60;
/// Requests that a distribution needs, and after which what was seen before it is dropped.
const SHAPE_MIN: f64 = 1_000.0;
const SHAPE_ENOUGH: f64 = 20_000.0;

/// What is known of a service.
#[derive(Debug)]
pub(super) struct Service {
    calibration: Calibration,
    pub(super) servers: Servers,
    shape: Shape,
    /// What calibration and shape come to.
    service_time: Option<ServiceTime>,
    /// The shape as bytes: rows are asked for more often than it changes.
    distribution: Option<Vec<u8>>,
    /// Utilization at which it keeps its promise.
    pub(super) safe_utilization: Option<f64>,
}

/// How service times are distributed, whatever their mean: of late, and before that.
#[derive(Debug, Default)]
struct Shape {
    newest: Histogram,
    before: Histogram,
}

/// The figures of one service in one window.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) arrival_rate: f64,
    pub(super) completion_rate: Option<f64>,
    pub(super) own_time: Option<f64>,
    pub(super) own_scv: Option<f64>,
    pub(super) own_p95: Option<f64>,
    pub(super) own_distribution: Option<Histogram>,
    pub(super) sojourn: Option<f64>,
    pub(super) instances: Option<f64>,
    /// Whether replicas fetch most requests when they are free.
    pub(super) is_fetched: bool,
    /// Share of their processors that replicas used, where something measures it.
    pub(super) busy: Option<f64>,
    pub(super) n_eff: Option<f64>,
    pub(super) confidence: Option<f64>,
}

/// Numbers, texts and bytes of a row, in the order of the view's columns.
pub(super) type Row<'a> = ([Option<f64>; NUMBERS], [Option<&'a str>; 2], [Option<&'a [u8]>; 1]);

/// What the model says of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Predicted {
    utilization: Option<f64>,
    quantile: Option<f64>,
    /// The same for one pool and for a random split, of the load as it was measured: were it corrected by what the model is off, that
    /// would hide how replicas are pooled.
    bounds: Option<(f64, f64)>,
}

// === impl Service ===

impl Service {
    /// A service as its first window shows it. `None` without own times.
    pub(super) fn new(servers: Servers, figures: &Figures) -> Option<Self> {
        let service = Self::of(Calibration::new(figures.own_time?, SCV, POOLING), servers, Shape::default());
        let first = service.behind(figures).map_or(figures.own_time?, |behind| behind.service_time);
        Some(Self::of(Calibration::new(first, SCV, POOLING), service.servers, Shape::default()))
    }

    fn of(calibration: Calibration, servers: Servers, shape: Shape) -> Self {
        let mut service = Self { calibration, servers, shape, service_time: None, distribution: None, safe_utilization: None };
        service.conclude();
        service
    }

    /// A service as its own earlier row shows it.
    pub(super) fn recalled(known: &Known<'_>, mut servers: Servers) -> Self {
        let mut calibration = Calibration::new(known.service_time, known.service_scv, known.pooling);
        let _ = calibration.service_time.observe(known.service_time, known.learned_samples);
        let _ = calibration.service_scv.observe(known.service_scv, known.learned_samples);
        calibration.log_bias = known.load_bias.ln();
        calibration.bias_at = Some(seconds(known.end));
        calibration.trust.error = known.model_error;
        calibration.trust.seen = known.model_error.map_or(0, |_| REMEMBERED_WINDOWS);
        calibration.trust.demoted = known.demoted;
        if let Some(source) = known.servers_from.and_then(Source::of) {
            servers.recall(known.servers, source);
        }
        let newest = known.distribution.and_then(|bytes| Histogram::from_bytes(bytes).ok()).unwrap_or_default();
        Self::of(calibration, servers, Shape { newest, before: Histogram::default() })
    }

    /// Learns from a final window.
    pub(super) fn calibrate(&mut self, end: Timestamp, figures: &Figures, promise: Option<&Promise>) {
        let (at, samples) = (seconds(end), figures.n_eff.unwrap_or_default());
        let predicted = self.predict(end, figures, true);
        self.learn_servers(at, figures, samples);
        if let Some(behind) = self.behind(figures) {
            let _ = self.calibration.observe_service(&behind, figures.own_scv.unwrap_or(SCV), samples);
            let is_undelayed = figures.own_time.is_some_and(|own| own <= UNDELAYED * behind.service_time);
            if let Some(distribution) = figures.own_distribution.as_ref().filter(|_| is_undelayed) {
                self.shape.observe(distribution);
            }
        }
        // What is fetched waits for nobody: there is no wait to compare.
        if !figures.is_fetched {
            if let Some((observed, (pooled, split))) = figures.own_p95.zip(predicted.bounds) {
                let _ = self.calibration.observe_pooling(at, observed, pooled, split);
            }
            self.compare(at, figures, samples, predicted);
        }
        self.conclude();
        self.safe_utilization = promise.and_then(|promise| self.safe_utilization(promise, figures));
    }

    /// The highest utilization at which a promise is kept on the replicas of a window.
    fn safe_utilization(&self, promise: &Promise, figures: &Figures) -> Option<f64> {
        let (station, replicas) = (self.station()?, figures.replicas()?);
        let latency = promise.latency - figures.downstream_time().unwrap_or(0.0);
        let of = |servers| safe_utilization(&Station { servers, ..station.clone() }, &Objective { latency, quantile: promise.quantile });
        let (split, pooled) = (of(station.servers)?, of(station.servers * f64::from(replicas))?);
        Some(pooled + station.pooling.min(1.0) * (split - pooled))
    }

    fn learn_servers(&mut self, at: f64, figures: &Figures, samples: f64) {
        let Some(((station, latency), replicas)) = self.station().zip(figures.own_time).zip(figures.replicas()) else { return };
        let arrival_rate = figures.completion_rate.unwrap_or(figures.arrival_rate);
        let (utilization, is_fetched) = (figures.busy, figures.is_fetched);
        self.servers.observe(&Busy { at, arrival_rate, replicas, latency, samples, utilization, is_fetched }, &station);
    }

    /// The service time behind a window's own time.
    fn behind(&self, figures: &Figures) -> Option<Behind> {
        let (station, replicas, latency) = (self.station()?, figures.replicas()?, figures.own_time?);
        if figures.is_fetched {
            return Some(Behind { service_time: latency, pooled: latency, split: latency });
        }
        let rate = figures.completion_rate.unwrap_or(figures.arrival_rate);
        let behind = |pooling| service_time_behind(&Station { pooling, ..station.clone() }, latency, rate, replicas);
        let split = behind(1.0)?;
        let pooled = if replicas == 1 { split } else { behind(0.0)? };
        let is_split = (station.pooling - 1.0).abs() < 1e-3 || replicas == 1;
        Some(Behind { service_time: if is_split { split } else { behind(station.pooling)? }, pooled, split })
    }

    fn compare(&mut self, at: f64, figures: &Figures, samples: f64, predicted: Predicted) {
        let service = self.service_time.as_ref().and_then(|time| time.quantile(QUANTILE));
        let known = figures.own_p95.zip(predicted.quantile).zip(service).zip(predicted.utilization);
        let says_something =
            |(((observed, predicted), _), utilization): &(((f64, f64), f64), f64)| *utilization > QUIET || *observed > FAR_OFF * predicted;
        if let Some((((observed, predicted), service), utilization)) = known.filter(says_something) {
            let window = Comparison { at, samples, observed, predicted, service, utilization };
            let _ = self.calibration.compare(&window, DEAD_TIME);
        }
    }

    /// Puts together what was learned.
    fn conclude(&mut self) {
        let (mean, scv) = (self.calibration.service_time.value(), self.calibration.service_scv.value());
        let shape = self.shape.known();
        let measured = shape.as_ref().and_then(|shape| ServiceTime::from_points(&shape.points()));
        let scaled = measured.and_then(|measured| measured.scaled(mean / measured.mean()));
        self.service_time = scaled.or_else(|| ServiceTime::from_moments(mean, scv));
        self.distribution = shape.map(|shape| shape.to_bytes());
    }

    fn station(&self) -> Option<Station> {
        let station = Station::new(self.service_time.clone()?, self.servers.value());
        Some(Station { pooling: self.calibration.pooling, ..station })
    }

    /// What the model says of the load and the replicas of a window; with its bounds, when they are wanted.
    fn predict(&self, end: Timestamp, figures: &Figures, with_bounds: bool) -> Predicted {
        let (Some(station), Some(replicas)) = (self.station(), figures.replicas()) else { return Predicted::default() };
        let rate = figures.arrival_rate * self.calibration.bias(seconds(end));
        let quantile = |pooling, rate| match predict(&Station { pooling, ..station.clone() }, rate, replicas)? {
            Prediction::Stable(stable) => stable.quantile(QUANTILE),
            Prediction::Unstable { .. } => None,
        };
        Predicted {
            utilization: Some(station.load(rate) / (station.servers.max(1.0) * f64::from(replicas))).filter(|share| share.is_finite()),
            quantile: quantile(station.pooling, rate),
            bounds: with_bounds.then(|| quantile(0.0, figures.arrival_rate).zip(quantile(1.0, figures.arrival_rate))).flatten(),
        }
    }

    fn state(&self) -> &'static str {
        match (self.calibration.demoted(), self.calibration.trust.error) {
            (true, _) => "demoted",
            (false, None) => "calibrating",
            (false, Some(_)) => "trusted",
        }
    }

    /// What the view says of it.
    pub(super) fn row(&self, end: Timestamp, figures: Option<&Figures>) -> Row<'_> {
        let calibration = &self.calibration;
        let predicted = figures.map(|figures| self.predict(end, figures, false)).unwrap_or_default();
        let of = |get: fn(&Figures) -> Option<f64>| figures.and_then(get);
        let (time, servers) = (self.service_time.as_ref(), self.servers.value());
        let mean = calibration.service_time.value();
        let numbers = [
            of(|figures| Some(figures.arrival_rate)),
            Some(mean),
            time.map(ServiceTime::scv),
            Some(servers),
            Some(calibration.pooling),
            Some(calibration.bias(seconds(end))),
            of(|figures| figures.instances),
            predicted.utilization,
            self.safe_utilization,
            predicted.quantile,
            of(|figures| figures.own_p95),
            of(Figures::downstream_time),
            predicted.utilization.and_then(|utilization| relaxation_time(mean, servers, utilization)),
            calibration.trust.error,
            Some(if calibration.demoted() { 1.0 } else { 0.0 }),
            Some(calibration.service_time.samples),
            of(|figures| figures.n_eff),
            of(|figures| figures.confidence),
        ];
        (numbers, [Some(self.state()), Some(self.servers.source().as_str())], [self.distribution.as_deref()])
    }
}

// === impl Shape ===

impl Shape {
    fn observe(&mut self, distribution: &Histogram) {
        if self.newest.count() >= SHAPE_ENOUGH {
            self.before = std::mem::take(&mut self.newest);
        }
        self.newest.merge(distribution);
    }

    /// What is known, once that is enough.
    fn known(&self) -> Option<Histogram> {
        let mut all = self.newest.clone();
        all.merge(&self.before);
        (all.count() >= SHAPE_MIN).then_some(all)
    }
}

// === impl Figures ===

impl Figures {
    /// Seconds that a request spends in others.
    fn downstream_time(&self) -> Option<f64> {
        Some((self.sojourn? - self.own_time?).max(0.0))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
    fn replicas(&self) -> Option<u32> {
        self.instances.filter(|instances| *instances >= 1.0).map(|instances| instances as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: f64 = 0.05;

    /// Exponential work of 50 ms on so many servers.
    fn truth(servers: f64, pooling: f64) -> Station {
        Station { pooling, ..Station::new(ServiceTime::from_moments(WORK, 1.0).unwrap(), servers) }
    }

    /// A window in which so many replicas of `truth` are busy for the share `load` of the time.
    fn window(truth: &Station, load: f64, replicas: u32, busy: Option<f64>) -> Figures {
        let arrival_rate = load * truth.servers * f64::from(replicas) / WORK;
        let Some(Prediction::Stable(stable)) = predict(truth, arrival_rate, replicas) else { panic!("{load}") };
        let mut own_distribution = Histogram::new();
        for rank in 0..40_u32 {
            own_distribution.record(stable.quantile((f64::from(rank) + 0.5) / 40.0).unwrap(), 75.0);
        }
        Figures {
            arrival_rate,
            completion_rate: Some(arrival_rate),
            own_time: Some(stable.mean()),
            own_scv: Some(1.0),
            own_p95: stable.quantile(QUANTILE),
            own_distribution: Some(own_distribution),
            sojourn: Some(stable.mean() + 0.1),
            instances: Some(f64::from(replicas)),
            is_fetched: false,
            busy,
            n_eff: Some(3000.0),
            confidence: Some(1.0),
        }
    }

    fn told(servers: Option<f64>) -> Servers {
        let mut known = Servers::default();
        known.say(servers);
        known
    }

    /// A service that learned from windows with such loads, one a minute.
    fn learned(truth: &Station, servers: Option<f64>, measured: bool, loads: impl Iterator<Item = f64>) -> Service {
        let mut service = None;
        for (minute, load) in loads.enumerate() {
            let figures = window(truth, load, 4, measured.then_some(load));
            let service = service.get_or_insert_with(|| Service::new(told(servers), &figures).unwrap());
            let end = Timestamp::from_secs(60 * i64::try_from(minute).unwrap());
            service.calibrate(end, &figures, Some(&Promise { latency: 0.6, quantile: 0.99 }));
        }
        service.unwrap()
    }

    fn wave(minutes: u32, low: f64, high: f64) -> impl Iterator<Item = f64> {
        (0..minutes).map(move |minute| low + (high - low) * 0.5 * (1.0 - (f64::from(minute) / 120.0 * std::f64::consts::TAU).cos()))
    }

    /// Guarantees: a service that is never quiet is not taken for a slower one, from its first window on: its service time is what
    /// is behind its latencies.
    #[test]
    fn the_wait_is_not_taken_for_service() {
        let truth = truth(2.0, 1.0);
        for minutes in [1, 120] {
            let service = learned(&truth, Some(2.0), false, wave(minutes, 0.7, 0.9));
            let mean = service.calibration.service_time.value();
            assert!((mean / WORK - 1.0).abs() < 0.02, "{minutes}: {mean}");
        }
        let service = learned(&truth, Some(2.0), false, wave(120, 0.7, 0.9));
        let predicted = service.predict(Timestamp::from_secs(7200), &window(&truth, 0.8, 4, None), false);
        assert!((predicted.utilization.unwrap() - 0.8).abs() < 0.03, "{predicted:?}");
        assert!(!service.calibration.demoted() && service.state() == "trusted");
    }

    /// Guarantees: a balancer that pools replicas is recognised where nobody says so, once loads were low and high, and the service
    /// time with it.
    #[test]
    fn balancers_are_recognised() {
        let truth = truth(2.0, 0.2);
        let service = learned(&truth, Some(2.0), false, wave(720, 0.2, 0.85));
        assert!((service.calibration.pooling - 0.2).abs() < 0.12, "{}", service.calibration.pooling);
        assert!((service.calibration.service_time.value() / WORK - 1.0).abs() < 0.03);
    }

    /// Guarantees: where nobody says how many servers a replica has, CPU tells, or else loads that were low and high; an overload
    /// that was never seen is not invented.
    #[test]
    fn servers_are_learned() {
        let truth = truth(8.0, 1.0);
        let measured = learned(&truth, None, true, wave(120, 0.3, 0.6));
        assert_eq!(measured.servers.source(), Source::Utilization);
        assert!((measured.servers.value() / 8.0 - 1.0).abs() < 0.05, "{}", measured.servers.value());
        let fitted = learned(&truth, None, false, wave(360, 0.1, 0.9));
        assert_eq!((fitted.servers.source(), fitted.servers.value()), (Source::LoadCurve, 8.0));
        assert!((fitted.calibration.service_time.value() / WORK - 1.0).abs() < 0.1);
        let unknown = learned(&truth, None, false, wave(60, 0.5, 0.6));
        assert_eq!(unknown.servers.source(), Source::Assumed);
        let predicted = unknown.predict(Timestamp::from_secs(3600), &window(&truth, 0.55, 4, None), false);
        assert!(predicted.utilization.unwrap() < 1.0, "{predicted:?}");
    }

    /// Guarantees: what replicas fetch when they are free has its own time as service time, however busy they are, and their servers
    /// are what is under way over how busy they are.
    #[test]
    fn fetched_messages_do_not_wait() {
        let truth = truth(2.0, 1.0);
        let mut service = None;
        for minute in 0..60 {
            let window = window(&truth, 0.65, 4, Some(0.65));
            let figures = Figures { is_fetched: true, own_time: Some(WORK), sojourn: Some(WORK), ..window };
            let service = service.get_or_insert_with(|| Service::new(told(None), &figures).unwrap());
            service.calibrate(Timestamp::from_secs(60 * minute), &figures, None);
        }
        let service: Service = service.unwrap();
        assert!((service.calibration.service_time.value() / WORK - 1.0).abs() < 1e-6);
        assert!((service.servers.value() - 2.0).abs() < 1e-6 && service.state() == "calibrating");
    }

    /// Guarantees: the distribution of service times is that of requests that did not wait, and predictions have its tail; a
    /// successor that is told the row knows the same.
    #[test]
    fn the_distribution_is_learned() {
        let points: Vec<(f64, f64)> = vec![(0.02, 0.9), (0.32, 0.1)];
        let truth = Station::new(ServiceTime::from_points(&points).unwrap(), 8.0);
        let service = learned(&truth, Some(8.0), false, wave(60, 0.1, 0.3));
        let time = service.service_time.as_ref().unwrap();
        assert!((time.quantile(0.85).unwrap() / 0.02 - 1.0).abs() < 0.1 && (time.quantile(0.95).unwrap() / 0.32 - 1.0).abs() < 0.1);
        let end = Timestamp::from_secs(3600);
        let (numbers, texts, [bytes]) = service.row(end, None);
        assert!(service.safe_utilization.is_some_and(|safe| safe > 0.3));
        let known = Known {
            end,
            service_time: numbers[1].unwrap(),
            service_scv: numbers[2].unwrap(),
            servers: numbers[3].unwrap(),
            pooling: numbers[4].unwrap(),
            load_bias: numbers[5].unwrap(),
            distribution: bytes,
            servers_from: texts[1],
            learned_samples: 4000.0,
            model_error: None,
            demoted: false,
        };
        let successor = Service::recalled(&known, told(Some(8.0)));
        assert_eq!(successor.row(end, None).2[0], bytes);
        assert!((successor.service_time.unwrap().quantile(0.95).unwrap() / 0.32 - 1.0).abs() < 0.1);
        let busy = learned(&truth, Some(8.0), false, wave(60, 0.9, 0.95));
        assert_eq!(busy.row(end, None).2, [None]);
    }
}
