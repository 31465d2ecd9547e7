//! One service as a queue: what windows teach of it, and what follows for a load.

use tracescale_core::time::Timestamp;
use tracescale_core::versions::Versions;
use tracescale_models::calibration::{Behind, Busy, Calibration, Comparison, Recent, Servers, Source};
use tracescale_models::estimate::gate;
use tracescale_models::queue::overload::relaxation_time;
use tracescale_models::queue::pooling::interpolate;
use tracescale_models::sizing::{
    Objective, Prediction, ServiceTime, Stable, Station, Workers, predict, safe_utilization, service_time_behind,
};

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
/// The quantile of requests that are quick in a burst, too.
const QUICK: f64 = 0.1;
/// Change of the cores of a replica that makes it another one.
const RESIZED: f64 = 0.01;
/// Utilization up to which a prediction is hardly more than the service time, so that comparing it says little unless it is far off.
const QUIET: f64 = 0.3;
const FAR_OFF: f64 = 1.5;
/// How much longer than the service time requests may take for their distribution to be that of the service time.
const UNDELAYED: f64 = 1.15;
/// Requests under way for each worker above which some of them wait for one.
const MORE_THAN_HELD: f64 = 1.05;
/// Answers over what replicas can do, by the model, above which it is refuted.
const IMPOSSIBLE: f64 = 1.1;
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
    /// Workers of a replica, where a request holds one until it is answered.
    workers: Option<u32>,
    /// Seconds that requests of late spent in others.
    outside: Recent,
    /// Whether requests that wait for a worker were seen under way, so that own times contain that wait.
    waits_inside: bool,
    shape: Shape,
    /// What calibration and shape come to.
    service_time: Option<ServiceTime>,
    /// What it was when it was last learned from.
    versions: Versions,
    cores: Option<f64>,
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
    /// Requests under way.
    pub(super) concurrency: Option<f64>,
    /// What callers see of a queue in front of it.
    pub(super) front: Option<Front>,
    pub(super) instances: Option<f64>,
    /// Whether replicas fetch most requests when they are free.
    pub(super) is_fetched: bool,
    /// Share of their processors that replicas used, where something measures it.
    pub(super) busy: Option<f64>,
    /// Versions that were seen: two while one replaces another.
    pub(super) versions: Vec<String>,
    /// Cores that a replica asks for, where somebody says.
    pub(super) cores: Option<f64>,
    pub(super) n_eff: Option<f64>,
    pub(super) confidence: Option<f64>,
}

/// The wait in front of a service, beyond what its quickest calls pay, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    pub(super) mean: f64,
    pub(super) p95: f64,
}

/// What own times show, and the station that they are of: without workers where nobody sees the wait for them.
#[derive(Clone, Debug)]
struct Own {
    station: Station,
    time: Option<f64>,
    p95: Option<f64>,
}

/// Numbers, texts and bytes of a row, in the order of the view's columns.
pub(super) type Row<'a> = ([Option<f64>; NUMBERS], [Option<&'a str>; 2], [Option<&'a [u8]>; 1]);

/// What the model says of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Predicted {
    utilization: Option<f64>,
    /// Of what own times show.
    utilization_seen: Option<f64>,
    quantile: Option<f64>,
}

// === impl Service ===

impl Service {
    /// A service as its first window shows it. `None` without own times.
    pub(super) fn new(servers: Servers, figures: &Figures) -> Option<Self> {
        let mut service = Self::of(Calibration::new(figures.own_time?, SCV, POOLING), servers, Shape::default());
        if let Some(behind) = service.behind(figures) {
            service.calibration = Calibration::new(behind.service_time, SCV, POOLING);
            service.conclude();
        }
        Some(service)
    }

    fn of(calibration: Calibration, servers: Servers, shape: Shape) -> Self {
        let (service_time, distribution, safe_utilization) = (None, None, None);
        let (versions, cores) = (Versions::default(), None);
        let (workers, outside, waits_inside) = (None, Recent::default(), false);
        let mut service = Self {
            calibration,
            servers,
            workers,
            outside,
            waits_inside,
            shape,
            service_time,
            versions,
            cores,
            distribution,
            safe_utilization,
        };
        service.conclude();
        service
    }

    /// A service as its own earlier row shows it.
    pub(super) fn recalled(known: &Known<'_>, mut servers: Servers) -> Self {
        let mut calibration = Calibration::new(known.service_time, known.service_scv, known.pooling);
        let _ = calibration.work.time.observe(known.service_time, known.learned_samples);
        let _ = calibration.work.scv.observe(known.service_scv, known.learned_samples);
        calibration.log_bias = known.load_bias.ln();
        calibration.bias_at = Some(seconds(known.end));
        calibration.trust.error = known.model_error;
        calibration.trust.seen = known.model_error.map_or(0, |_| REMEMBERED_WINDOWS);
        calibration.trust.demoted = known.demoted;
        if let Some(source) = known.servers_from.and_then(Source::of) {
            servers.recall(known.servers, source);
        }
        let newest = known.distribution.and_then(|bytes| Histogram::from_bytes(bytes).ok()).unwrap_or_default();
        let mut service = Self::of(calibration, servers, Shape { newest, before: Histogram::default() });
        if let Some(hold) = known.hold_time {
            let _ = service.outside.observe((hold - known.service_time).max(0.0), Recent::COUNT);
        }
        service
    }

    /// Takes the number of workers that somebody says. Of another number than before it is not known whether requests wait inside.
    pub(super) fn employ(&mut self, workers: Option<u32>) {
        if self.workers != workers {
            (self.workers, self.waits_inside) = (workers, false);
        }
    }

    /// Learns from a final window.
    pub(super) fn calibrate(&mut self, end: Timestamp, figures: &Figures, promise: Option<&Promise>) {
        let (at, samples) = (seconds(end), figures.n_eff.unwrap_or_default());
        self.renew(end, figures);
        self.learn_holding(figures);
        // What it said before it knew. What is fetched waits for nobody: there is no wait to compare.
        let said = (!figures.is_fetched).then(|| (self.predict(end, figures), self.bounds(figures)));
        self.learn_servers(at, figures, samples);
        if let Some(behind) = self.behind(figures) {
            let _ = self.calibration.work.observe(at, &behind, figures.own_scv.unwrap_or(SCV), samples);
            let is_undelayed = figures.own_time.is_some_and(|own| own <= UNDELAYED * behind.service_time);
            if let Some(distribution) = figures.own_distribution.as_ref().filter(|_| is_undelayed) {
                self.shape.observe(distribution);
            }
        }
        if let Some((predicted, bounds)) = said {
            let observed = self.own(figures).and_then(|own| own.p95);
            if let Some((observed, (pooled, split))) = observed.zip(bounds) {
                let _ = self.calibration.observe_pooling(at, observed, pooled, split);
            }
            self.compare(at, figures, samples, predicted);
        }
        if self.is_impossible(figures) {
            self.calibration.refute(at, samples);
        }
        self.conclude();
        self.safe_utilization = promise.and_then(|promise| self.safe_utilization(promise, figures));
    }

    /// Another version, or other replicas, have to be known anew.
    fn renew(&mut self, end: Timestamp, figures: &Figures) {
        // Of two that run side by side, each has to be seen.
        let news = figures.versions.iter().filter(|version| self.versions.see(version, end)).count();
        let is_resized = self.cores.zip(figures.cores).is_some_and(|(before, now)| (now / before - 1.0).abs() > RESIZED);
        self.cores = figures.cores.or(self.cores);
        if news > 0 || is_resized {
            self.calibration.work.renew(seconds(end));
            self.servers.renew();
        }
    }

    /// The highest utilization at which a promise is kept on the replicas of a window.
    fn safe_utilization(&self, promise: &Promise, figures: &Figures) -> Option<f64> {
        let (station, replicas) = (self.station()?, figures.replicas()?);
        let latency = promise.latency - figures.downstream_time().unwrap_or(0.0);
        let of = |count: u32| {
            let workers = station.workers.map(|workers| Workers { count: workers.count.saturating_mul(count), ..workers });
            let servers = station.servers * f64::from(count);
            safe_utilization(&Station { servers, workers, ..station.clone() }, &Objective { latency, quantile: promise.quantile })
        };
        let split = of(1)?;
        let pooled = if replicas == 1 { split } else { of(replicas)? };
        Some(interpolate(pooled, split, station.pooling.min(1.0)))
    }

    /// How long a request holds its worker for others, and whether requests that wait for one are under way.
    fn learn_holding(&mut self, figures: &Figures) {
        if let Some(outside) = figures.downstream_time() {
            let _ = self.outside.observe(outside, Recent::COUNT);
        }
        let held = self.workers.zip(figures.replicas()).map(|(workers, replicas)| f64::from(workers) * f64::from(replicas));
        self.waits_inside |= figures.concurrency.zip(held).is_some_and(|(under_way, held)| under_way > MORE_THAN_HELD * held);
    }

    fn learn_servers(&mut self, at: f64, figures: &Figures, samples: f64) {
        let Some(((station, latency), replicas)) = self.station_of_spans().zip(figures.own_time).zip(figures.replicas()) else { return };
        let arrival_rate = figures.completion_rate.unwrap_or(figures.arrival_rate);
        let (utilization, is_fetched) = (figures.busy, figures.is_fetched);
        self.servers.observe(&Busy { at, arrival_rate, replicas, latency, samples, utilization, is_fetched }, &station);
    }

    /// The service time behind a window's own time.
    fn behind(&self, figures: &Figures) -> Option<Behind> {
        let own = self.own(figures)?;
        let (station, replicas, latency) = (own.station, figures.replicas()?, own.time?);
        let quick = figures.own_distribution.as_ref().and_then(|times| times.quantile(QUICK)).filter(|quick| *quick > 0.0);
        if figures.is_fetched {
            return Some(Behind { service_time: latency, pooled: latency, split: latency, quick });
        }
        let rate = figures.completion_rate.unwrap_or(figures.arrival_rate);
        let behind = |pooling| service_time_behind(&Station { pooling, ..station.clone() }, latency, rate, replicas);
        let split = behind(1.0)?;
        let pooled = if replicas == 1 { split } else { behind(0.0)? };
        let is_split = (station.pooling - 1.0).abs() < 1e-3 || replicas == 1;
        let service_time = if is_split { split } else { behind(station.pooling)? };
        Some(Behind { service_time, pooled, split, quick: quick.map(|quick| quick * service_time / latency) })
    }

    /// Whether more was answered than the model says that replicas can do.
    fn is_impossible(&self, figures: &Figures) -> bool {
        let most = self.station().zip(figures.replicas()).map(|(station, replicas)| station.capacity() * f64::from(replicas));
        figures.completion_rate.zip(most).is_some_and(|(rate, most)| rate > IMPOSSIBLE * most)
    }

    fn compare(&mut self, at: f64, figures: &Figures, samples: f64, predicted: Predicted) {
        let service = self.service_time.as_ref().and_then(|time| time.quantile(QUANTILE));
        let observed = self.own(figures).and_then(|own| own.p95);
        let known = observed.zip(predicted.quantile).zip(service).zip(predicted.utilization_seen);
        let says_something =
            |(((observed, predicted), _), utilization): &(((f64, f64), f64), f64)| *utilization > QUIET || *observed > FAR_OFF * predicted;
        if let Some((((observed, predicted), service), utilization)) = known.filter(says_something) {
            let window = Comparison { at, samples, observed, predicted, service, utilization };
            let _ = self.calibration.compare(&window, DEAD_TIME);
        }
    }

    /// Puts together what was learned.
    fn conclude(&mut self) {
        let (mean, fitted) = (self.calibration.work.time.value(), &self.calibration.work.scv);
        // Few requests seldom have the long ones among them.
        let is_enough = gate::use_service_scv(Some(fitted.samples)).is_open();
        let scv = if is_enough { fitted.value() } else { fitted.value().max(SCV) };
        let shape = self.shape.known();
        let measured = shape.as_ref().and_then(|shape| ServiceTime::from_points(&shape.points()));
        let scaled = measured.and_then(|measured| measured.scaled(mean / measured.mean()));
        self.service_time = scaled.or_else(|| ServiceTime::from_moments(mean, scv));
        self.distribution = shape.map(|shape| shape.to_bytes());
    }

    fn station(&self) -> Option<Station> {
        let station = Station::new(self.service_time.clone()?, self.servers.value());
        let workers = self.workers.zip(self.outside.middle()).map(|(count, outside)| Workers { count, outside });
        Some(Station { pooling: self.calibration.pooling, workers, ..station })
    }

    /// The station that spans of the service show: without workers where these begin once there is one.
    fn station_of_spans(&self) -> Option<Station> {
        let station = self.station()?;
        Some(Station { workers: station.workers.filter(|_| self.waits_inside), ..station })
    }

    /// What the own times of a window show. Who waits for a worker before its span begins is seen by its callers, or by nobody.
    fn own(&self, figures: &Figures) -> Option<Own> {
        let (time, p95) = (figures.own_time, figures.own_p95);
        match figures.front.filter(|_| self.workers.is_some() && !self.waits_inside) {
            None => Some(Own { station: self.station_of_spans()?, time, p95 }),
            Some(Front { mean, p95: tail }) => {
                Some(Own { station: self.station()?, time: time.map(|own| own + mean), p95: p95.map(|own| own + tail) })
            }
        }
    }

    /// What the model says of the load and the replicas of a window.
    fn predict(&self, end: Timestamp, figures: &Figures) -> Predicted {
        let (Some(own), Some(capacity)) = (self.own(figures), self.station().map(|station| station.capacity())) else {
            return Predicted::default();
        };
        let (station, Some(replicas)) = (own.station, figures.replicas()) else { return Predicted::default() };
        let rate = figures.arrival_rate * self.calibration.bias(seconds(end));
        let utilization = |capacity: f64| Some(rate / (capacity * f64::from(replicas))).filter(|share| share.is_finite());
        Predicted {
            utilization: utilization(capacity),
            utilization_seen: utilization(station.capacity()),
            quantile: stable(&station, rate, replicas).and_then(|stable| stable.quantile(QUANTILE)),
        }
    }

    /// The quantile that the model says of one pool and of a random split, for the load as it was measured: were it corrected by what
    /// the model is off, that would hide how replicas are pooled.
    fn bounds(&self, figures: &Figures) -> Option<(f64, f64)> {
        stable(&self.own(figures)?.station, figures.arrival_rate, figures.replicas()?)?.quantiles(QUANTILE)
    }

    fn state(&self) -> &'static str {
        let trust = &self.calibration.trust;
        match (trust.demoted, trust.error) {
            (true, _) => "demoted",
            (false, Some(_)) if trust.is_settled() => "trusted",
            (false, _) => "calibrating",
        }
    }

    /// What the view says of it.
    pub(super) fn row(&self, end: Timestamp, figures: Option<&Figures>) -> Row<'_> {
        let calibration = &self.calibration;
        let predicted = figures.map(|figures| self.predict(end, figures)).unwrap_or_default();
        let of = |get: fn(&Figures) -> Option<f64>| figures.and_then(get);
        let (time, servers) = (self.service_time.as_ref(), self.servers.value());
        let mean = calibration.work.time.value();
        let observed = figures.and_then(|figures| self.own(figures)).and_then(|own| own.p95);
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
            observed,
            of(Figures::downstream_time),
            predicted.utilization.and_then(|utilization| relaxation_time(mean, servers, utilization)),
            calibration.trust.error,
            Some(if calibration.demoted() { 1.0 } else { 0.0 }),
            Some(calibration.work.time.samples),
            of(|figures| figures.n_eff),
            of(|figures| figures.confidence),
            self.workers.map(f64::from),
            self.outside.middle().map(|outside| mean + outside),
            self.station().map(|station| station.capacity()),
        ];
        (numbers, [Some(self.state()), Some(self.servers.source().as_str())], [self.distribution.as_deref()])
    }
}

/// The equilibrium of a station at a load; `None` where it has none.
fn stable(station: &Station, rate: f64, replicas: u32) -> Option<Stable<'_>> {
    match predict(station, rate, replicas)? {
        Prediction::Stable(stable) => Some(stable),
        Prediction::Unstable { .. } => None,
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
mod tests;
