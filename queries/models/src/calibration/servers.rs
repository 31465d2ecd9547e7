//! How many servers a replica has, by the best that is known: what somebody says, else what busy replicas show.

use super::{Posterior, Recent};
use crate::estimate::load_curve::{LoadCurve, Shown};
use crate::sizing::{Station, servers_behind};

/// Servers where nothing is known: what follows is careful, because one server bears least.
const ASSUMED: f64 = 1.0;
/// Utilizations from which servers can be read: below, what runs beside the requests counts; above, queues hide the servers.
const UTILIZATION_MIN: f64 = 0.1;
const UTILIZATION_MAX: f64 = 0.7;
/// Requests that a measurement needs.
const SAMPLES_MIN: f64 = 300.0;
/// How much longer than of late requests may take for servers to be read from utilization: what waits for a burst to be over takes
/// no processor time, and would pass for servers.
const CALM: f64 = 1.3;
/// Requests that a measurement of before a change is worth.
const RENEWED_SAMPLES: f64 = 30.0;
/// Seconds between two fits of the load curve.
const FIT_INTERVAL: f64 = 600.0;

/// What is known of the servers of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Servers {
    said: Option<f64>,
    measured: Option<Posterior>,
    latencies: Recent,
    measurements: Recent,
    curve: LoadCurve,
    fitted: Option<Shown>,
    fitted_at: Option<f64>,
    /// Whether the fit is of another version or size.
    is_outdated: bool,
}

/// Where the number of servers comes from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Somebody says it.
    Said,
    /// Latency that grows with the load.
    LoadCurve,
    /// Utilization and requests under way.
    Utilization,
    /// As many as were seen under way while latency did not grow: there may be more.
    AtLeast,
    /// Nobody knows: one.
    Assumed,
}

/// A window from which servers may be learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Busy {
    /// End in seconds.
    pub at: f64,
    /// Requests per second on all replicas.
    pub arrival_rate: f64,
    /// Replicas.
    pub replicas: u32,
    /// Mean latency in seconds that the servers are responsible for.
    pub latency: f64,
    /// Effective number of requests that this is the mean of.
    pub samples: f64,
    /// Share of the time that the replicas used their processors, where something measures it.
    pub utilization: Option<f64>,
    /// Whether replicas fetch requests when they are free, so that latency is without any wait for servers.
    pub is_fetched: bool,
}

// === impl Servers ===

impl Servers {
    /// Takes note of what somebody says, or no longer says.
    pub fn say(&mut self, servers: Option<f64>) {
        self.said = servers.filter(|servers| *servers > 0.0 && servers.is_finite());
    }

    /// Takes what was known before as it was known then.
    pub fn recall(&mut self, servers: f64, source: Source) {
        match source {
            Source::Utilization => {
                let mut measured = Posterior::placeholder(servers);
                let _ = measured.observe(servers, SAMPLES_MIN);
                self.measured = Some(measured);
            }
            Source::LoadCurve => self.fitted = Some(Shown::Exactly(servers)),
            Source::AtLeast => self.fitted = Some(Shown::AtLeast(servers)),
            Source::Said | Source::Assumed => {}
        }
    }

    /// The service or its replicas are others from now on: what was learned counts until the first window that says something else.
    pub fn renew(&mut self) {
        (self.latencies, self.measurements, self.curve) = (Recent::default(), Recent::default(), LoadCurve::default());
        self.is_outdated = true;
        if let Some(measured) = &mut self.measured {
            measured.samples = measured.samples.min(RENEWED_SAMPLES);
        }
    }

    /// Learns from a window, for replicas that share requests as those of the station do.
    pub fn observe(&mut self, window: &Busy, station: &Station) {
        let Busy { at, arrival_rate, replicas, latency, samples, utilization, is_fetched } = *window;
        if !is_fetched {
            self.curve.observe(at, arrival_rate, replicas, latency, samples);
        }
        let is_calm = latency <= CALM * self.latencies.observe(latency, Recent::COUNT) && samples >= SAMPLES_MIN;
        let utilization = utilization.filter(|share| is_calm && (UTILIZATION_MIN..=UTILIZATION_MAX).contains(share));
        let behind = |share: f64| {
            let fetched = || Some((arrival_rate * latency / f64::from(replicas) / share).max(1.0));
            if is_fetched { fetched() } else { servers_behind(station, latency, arrival_rate, replicas, share) }
        };
        if let Some(servers) = utilization.and_then(behind).filter(|servers| servers.is_finite()) {
            let usual = self.measurements.observe(servers, Recent::COUNT);
            self.fitted = self.fitted.filter(|_| !self.is_outdated);
            let _ = self.measured.get_or_insert_with(|| Posterior::placeholder(usual)).observe(usual, samples);
        }
        // Who is told need not fit.
        let is_due = self.fitted_at.is_none_or(|last| (at - last).abs() >= FIT_INTERVAL);
        if self.said.is_none() && is_due {
            self.fitted_at = Some(at);
            let fitted = self.curve.servers(at, station);
            self.is_outdated &= fitted.is_none();
            self.fitted = fitted.or(self.fitted);
        }
    }

    /// The servers of a replica.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.known().map_or(ASSUMED, |(servers, _)| servers)
    }

    /// Where [`Servers::value`] comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.known().map_or(Source::Assumed, |(_, source)| source)
    }

    fn known(&self) -> Option<(f64, Source)> {
        let measured = self.measured.as_ref().map(Posterior::value);
        if let Some(said) = self.said {
            return Some((said, Source::Said));
        }
        match (self.fitted, measured) {
            (Some(Shown::Exactly(servers)), _) => Some((servers, Source::LoadCurve)),
            (Some(Shown::AtLeast(least)), Some(measured)) if least > measured => Some((least, Source::AtLeast)),
            (_, Some(measured)) => Some((measured, Source::Utilization)),
            (Some(Shown::AtLeast(least)), None) => Some((least, Source::AtLeast)),
            (None, None) => None,
        }
    }
}

// === impl Source ===

impl Source {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Said, Self::LoadCurve, Self::Utilization, Self::AtLeast, Self::Assumed];

    /// Its name in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Said => "said",
            Self::Utilization => "utilization",
            Self::LoadCurve => "load-curve",
            Self::AtLeast => "at-least",
            Self::Assumed => "assumed",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizing::{Prediction, ServiceTime, predict};

    /// A window of a service with `servers` per replica, and the utilization as it is seen from outside.
    fn window(servers: f64, minute: u32, load: f64, is_measured: bool) -> (Busy, Station) {
        let station = Station::new(ServiceTime::from_moments(0.05, 1.0).unwrap(), servers);
        let arrival_rate = load * servers * 3.0 / 0.05;
        let Some(Prediction::Stable(stable)) = predict(&station, arrival_rate, 3) else { panic!("{load}") };
        let utilization = is_measured.then_some(stable.utilization());
        let busy = Busy {
            at: 60.0 * f64::from(minute),
            arrival_rate,
            replicas: 3,
            latency: stable.mean(),
            samples: 900.0,
            utilization,
            is_fetched: false,
        };
        (busy, station)
    }

    fn observe(servers: &mut Servers, truth: f64, minute: u32, load: f64, is_measured: bool) {
        let (busy, station) = window(truth, minute, load, is_measured);
        servers.observe(&busy, &Station { servers: servers.value(), ..station });
    }

    /// Guarantees: nothing known is one; utilization tells at the first window with enough of it, loads after they were low and
    /// high; what somebody says counts more than either, until it is taken back.
    #[test]
    fn the_best_that_is_known() {
        let mut servers = Servers::default();
        assert_eq!((servers.value(), servers.source()), (1.0, Source::Assumed));
        observe(&mut servers, 4.0, 0, 0.05, true);
        assert_eq!(servers.source(), Source::Assumed);
        observe(&mut servers, 4.0, 1, 0.5, true);
        assert_eq!(servers.source(), Source::Utilization);
        // A burst that is over before the window is: much latency, and little utilization.
        let (burst, station) = window(4.0, 2, 0.5, true);
        servers.observe(&Busy { latency: 20.0 * burst.latency, ..burst }, &Station { servers: servers.value(), ..station });
        assert!((servers.value() - 4.0).abs() < 0.05, "{}", servers.value());
        servers.say(Some(2.0));
        assert_eq!((servers.value(), servers.source()), (2.0, Source::Said));
        servers.say(None);
        // Twice the cores.
        servers.renew();
        assert!((servers.value() - 4.0).abs() < 0.05);
        observe(&mut servers, 8.0, 3, 0.5, true);
        assert!((servers.value() - 8.0).abs() < 0.5, "{}", servers.value());
        servers.renew();
        observe(&mut servers, 4.0, 4, 0.5, true);
        assert_eq!(servers.source(), Source::Utilization);

        let mut servers = Servers::default();
        for minute in 0..120 {
            observe(&mut servers, 8.0, minute, 0.1 + 0.85 * f64::from(minute) / 120.0, false);
        }
        assert_eq!((servers.value(), servers.source()), (8.0, Source::LoadCurve));
        // Half the cores: what was fitted counts until CPU says something else.
        servers.renew();
        assert_eq!((servers.value(), servers.source()), (8.0, Source::LoadCurve));
        observe(&mut servers, 4.0, 121, 0.5, true);
        assert_eq!(servers.source(), Source::Utilization);
        assert!((servers.value() - 4.0).abs() < 0.5, "{}", servers.value());

        let mut servers = Servers::default();
        for minute in 0..120 {
            observe(&mut servers, 8.0, minute, 0.02 + 0.3 * f64::from(minute) / 120.0, false);
        }
        assert_eq!((servers.value(), servers.source()), (2.0, Source::AtLeast));
        observe(&mut servers, 8.0, 120, 0.3, true);
        assert_eq!(servers.source(), Source::Utilization);
    }

    /// Guarantees: what was known is known again after a restart, by its name in tables; what is no number says nothing.
    #[test]
    fn recalled_by_name() {
        for source in Source::ALL {
            assert_eq!(Source::of(source.as_str()), Some(source));
            let mut servers = Servers::default();
            servers.recall(6.0, source);
            let expected = if matches!(source, Source::Said | Source::Assumed) { (1.0, Source::Assumed) } else { (6.0, source) };
            assert_eq!((servers.value(), servers.source()), expected);
        }
        let mut servers = Servers::default();
        for senseless in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            servers.say(Some(senseless));
            assert_eq!(servers.source(), Source::Assumed);
        }
        assert_eq!(Source::of("guessed"), None);
    }
}
