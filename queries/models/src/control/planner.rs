//! Forecast, sizing and prices put together for one service: observe windows, ask for a plan.

use super::cost::is_saving_worth;
use super::curve::Curve;
use super::peak::{Peak, PeakForecaster, SAMPLE};
use super::startup::Startups;
use super::supply::{Supply, catch_up_servers, drain_time, lead_time};
use crate::sizing::{Objective, ServiceTime, Station};

/// Relative change of the service time after which the curve is computed anew.
const SERVICE_TIME_CHANGE: f64 = 0.03;
/// Relative change of the lead time after which the forecaster learns another horizon.
const LEAD_CHANGE: f64 = 0.25;
/// Seconds in which half of what was measured of the service time is forgotten.
const HALF_LIFE: f64 = 3_600.0;
/// The offset of the forecaster as a share of what a replica takes.
const OFFSET: f64 = 0.02;
/// A window that ends so many seconds too early is the next sample all the same.
const SAMPLE_EARLY: f64 = 1.0;
/// Samples that a gap of telemetry is filled with at most: a day.
const GAP_MOST: u32 = 5_760;
/// What a minute's surprise moves the logarithm of the price by, and how far it may be moved in all.
const PACE: f64 = 0.1;
const PACE_MOST: f64 = 3.0;
/// Share of the peaks below which nobody plans, whatever the price.
const LOWEST: f64 = 0.05;
/// Seconds that a number of replicas is taken to stay,
const HOLD: f64 = 600.0;
/// and what changing it costs, in replica-minutes: starts, connections, and people who look at it.
const CHANGE_PRICE: f64 = 4.0;
/// Completions that the service time given at the start counts for.
const PRIOR_COMPLETIONS: f64 = 200.0;

/// What does not change from window to window.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The promise.
    pub objective: Objective,
    /// The service as a queue; its service time is where measuring starts from.
    pub station: Station,
    /// Highest utilization that is planned for. Uncertainty of the load has its own price; this is for what no model knows.
    pub utilization_max: f64,
    /// Fewest replicas.
    pub replicas_min: u32,
    /// Most replicas.
    pub replicas_max: u32,
    /// What avoiding a minute of violation for sure is worth, in replica-minutes ([`super::Prices::replica_minutes`]).
    pub violation_price: f64,
    /// Share of the minutes that may break the promise: the price rises while more do and falls while fewer do. The price stays
    /// as it is when absent.
    pub violation_budget: Option<f64>,
    /// Seconds from an event to the window that shows it.
    pub pipeline_delay: f64,
    /// Seconds between plans.
    pub interval: f64,
    /// Seconds in which a backlog is to be worked off where no price says it.
    pub drain: f64,
}

/// What telemetry says of 15 s. Windows may overlap: those that end 15 s after each other are learned from, and those between say
/// earlier what the load is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// End, in seconds on any clock that does not go back.
    pub end: f64,
    /// Requests per second that came.
    pub arrival_rate: Option<f64>,
    /// Requests per second that were done.
    pub completion_rate: Option<f64>,
    /// Mean service time of those, in seconds.
    pub service_time: Option<f64>,
    /// Requests that waited outside of servers at the end.
    pub backlog: Option<f64>,
    /// Whether the minute that ended with this window broke the promise; absent while no minute ended or too few requests came.
    pub violated: Option<bool>,
    /// Requests per second that forecasts at front doors announce ([`super::cascade`]).
    pub announced: Option<f64>,
    /// Factor on the load by which the model is known to be off ([`crate::calibration::Calibration::bias`]); 1 when absent.
    pub bias: Option<f64>,
}

/// What settled a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The peak that is expected, at its price.
    Forecast,
    /// The same with too little history: the prior's spread.
    Prior,
    /// A backlog that must be worked off.
    Backlog,
    /// What front doors announce.
    Announced,
    /// The fewest replicas that are allowed.
    Fewest,
    /// The most replicas that are allowed.
    Most,
}

/// How many replicas there should be, and all figures that led to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Replicas.
    pub replicas: u32,
    /// What settled it.
    pub reason: Reason,
    /// Seconds that were looked ahead.
    pub lead: f64,
    /// Requests per second of late.
    pub level: f64,
    /// Median of the highest rate until then.
    pub median: f64,
    /// Requests per second that the forecast's replicas take.
    pub covered: f64,
    /// Probability that the peak is higher.
    pub shortage: f64,
    /// Mean service time, in seconds.
    pub service_time: f64,
    /// Factor on the load that was applied.
    pub bias: f64,
    /// Servers beside those for the arrivals, for the backlog.
    pub catch_up: f64,
    /// Replicas that will serve then if nothing is ordered.
    pub supply: u32,
}

/// Plans the replicas of one service.
#[derive(Clone, Debug)]
pub struct Planner {
    settings: Settings,
    forecaster: PeakForecaster,
    curve: Curve,
    starts: Startups,
    service: Measured,
    /// Logarithm of what the price is multiplied by to keep the budget.
    pace: f64,
    /// What a change costs, in replica-minutes.
    change_price: f64,
    /// A quantile to cover, instead of a price.
    quantile: Option<f64>,
    /// Highest utilization, beside that of the curve.
    utilization_max: f64,
    last: Option<Window>,
    /// End of the last window that was learned from.
    learned: f64,
}

/// A mean service time and the completions behind it.
#[derive(Clone, Copy, Debug)]
struct Measured {
    seconds: f64,
    completions: f64,
}

// === impl Planner ===

impl Planner {
    /// A planner that has seen nothing but past starts of replicas. `None` when the settings make no sense or no number of
    /// replicas keeps the promise.
    #[must_use]
    pub fn new(settings: Settings, starts: Startups) -> Option<Self> {
        let sensible = settings.violation_price > 0.0 && settings.drain > 0.0 && settings.replicas_min <= settings.replicas_max;
        let lead = lead_time(settings.pipeline_delay, settings.interval, starts.p90())?;
        let curve = Curve::new(&settings.station, &settings.objective, settings.utilization_max, settings.replicas_max)?;
        let forecaster = PeakForecaster::new(lead, OFFSET * settings.station.servers / settings.station.service_time.mean())?;
        let service = Measured { seconds: settings.station.service_time.mean(), completions: PRIOR_COMPLETIONS };
        sensible.then_some(Self {
            settings,
            forecaster,
            curve,
            starts,
            service,
            pace: 0.0,
            change_price: CHANGE_PRICE,
            quantile: None,
            utilization_max: 1.0,
            last: None,
            learned: 0.0,
        })
    }

    /// Another price from now on; what was learned stays. Ignored unless positive.
    pub fn set_violation_price(&mut self, replica_minutes: f64) {
        if replica_minutes > 0.0 {
            self.settings.violation_price = replica_minutes;
        }
    }

    /// Another price of a change from now on, in replica-minutes: replicas are changed when that saves more in ten minutes, violations
    /// included. Zero follows every saving. Ignored when negative or unbounded.
    pub fn set_change_price(&mut self, replica_minutes: f64) {
        if replica_minutes >= 0.0 && replica_minutes.is_finite() {
            self.change_price = replica_minutes;
        }
    }

    /// The share of the minutes that may break the promise from now on; the price is paced from where it is. None stops pacing.
    pub fn set_violation_budget(&mut self, budget: Option<f64>) {
        self.settings.violation_budget = budget.filter(|budget| *budget > 0.0 && *budget < 1.0);
    }

    /// Covers a quantile of the peak instead of weighing prices, and keeps below a utilization; for those who have no prices, and
    /// for learned settings. None goes back to the price. Ignored outside (0, 1).
    pub fn set_quantile(&mut self, quantile: Option<f64>) {
        self.quantile = quantile.filter(|quantile| *quantile > 0.0 && *quantile < 1.0);
    }

    /// Another highest utilization, below that of the settings. Ignored outside (0, 1].
    pub fn set_utilization_max(&mut self, utilization: f64) {
        if utilization > 0.0 && utilization <= 1.0 {
            self.utilization_max = utilization;
        }
    }

    /// The price of a violation minute as it is paced, in replica-minutes.
    #[must_use]
    pub fn violation_price(&self) -> f64 {
        self.settings.violation_price * self.pace.exp()
    }

    /// Takes note of a start of a replica that took so many seconds.
    pub fn started(&mut self, seconds: f64) {
        self.starts.record(seconds);
        self.look_as_far();
    }

    /// Takes the last starts of replicas in place of those that it knew.
    pub fn set_starts(&mut self, starts: Startups) {
        self.starts = starts;
        self.look_as_far();
    }

    /// When the lead time has changed by a quarter, the forecaster learns the new one from the samples of the last days.
    fn look_as_far(&mut self) {
        let lead = lead_time(self.settings.pipeline_delay, self.settings.interval, self.starts.p90());
        let Some(lead) = lead.filter(|lead| (lead / self.forecaster.horizon()).ln().abs() > LEAD_CHANGE) else { return };
        if let Some(forecaster) = self.forecaster.with_horizon(lead) {
            self.forecaster = forecaster;
        }
    }

    /// Takes the next window. Windows that end before the last one are ignored, missing ones count as gaps.
    pub fn observe(&mut self, window: &Window) {
        let passed = self.last.map_or(SAMPLE, |last| window.end - last.end);
        if passed.is_nan() || passed <= 0.0 {
            return;
        }
        let since = if self.last.is_some() { window.end - self.learned } else { SAMPLE };
        if since > SAMPLE - SAMPLE_EARLY {
            let missed = (2..=GAP_MOST).take_while(|count| f64::from(*count) * SAMPLE <= since + 0.5 * SAMPLE).count();
            (0..missed).for_each(|_| self.forecaster.observe(None));
            self.forecaster.observe(window.arrival_rate);
            self.learned = window.end;
        } else {
            self.forecaster.look(since, window.arrival_rate);
        }
        self.measure(window, passed);
        if let Some((budget, violated)) = self.settings.violation_budget.zip(window.violated) {
            let surprise = if violated { 1.0 - budget } else { -budget };
            self.pace = (self.pace + PACE * surprise).clamp(-PACE_MOST, PACE_MOST);
        }
        self.last = Some(*window);
    }

    /// The service as a queue from now on and what it has to keep, of those who follow it themselves; windows then bring no service
    /// time. Says whether any number of replicas keeps it: when none does, plans follow the last one that did.
    pub fn set_station(&mut self, station: Station, objective: Objective) -> bool {
        self.settings.objective = objective;
        let curve = Curve::new(&station, &objective, self.settings.utilization_max, self.settings.replicas_max);
        self.service.seconds = station.service_time.mean();
        self.settings.station = station;
        curve.map(|curve| self.curve = curve).is_some()
    }

    /// Follows the service time, and the curve with it when that has moved.
    fn measure(&mut self, window: &Window, passed: f64) {
        let rate = window.completion_rate.filter(|rate| *rate > 0.0 && rate.is_finite());
        let Some((seconds, rate)) = window.service_time.filter(|seconds| *seconds > 0.0 && seconds.is_finite()).zip(rate) else { return };
        let (kept, new) = (self.service.completions * 0.5_f64.powf(passed / HALF_LIFE), rate * passed.min(SAMPLE));
        self.service = Measured { seconds: (self.service.seconds * kept + seconds * new) / (kept + new), completions: kept + new };
        self.follow_service_time();
    }

    fn follow_service_time(&mut self) {
        let factor = self.service.seconds / self.curve.service_time();
        if factor.ln().abs() < SERVICE_TIME_CHANGE {
            return;
        }
        let Some(station) = station_of(&self.settings.station, self.service.seconds) else { return };
        // When no number of replicas keeps the promise any more, the last curve is the best there is.
        if let Some(curve) = Curve::new(&station, &self.settings.objective, self.settings.utilization_max, self.settings.replicas_max) {
            self.curve = curve;
        }
    }

    /// The plan as of the last window; `None` before the first.
    #[must_use]
    pub fn plan(&self, supply: &Supply) -> Option<Plan> {
        let (window, peak) = (self.last?, self.forecaster.peak()?);
        let bias = window.bias.filter(|bias| *bias > 0.0 && bias.is_finite()).unwrap_or(1.0);
        let median = peak.quantile(0.5)?;
        let wanted = match self.quantile {
            Some(quantile) => self.needed(peak.quantile(quantile)?.max(peak.level) * bias),
            None => self.cheapest(&peak, bias).max(if self.utilization_max < 1.0 { self.needed(median * bias) } else { 0 }),
        };
        let wanted = if self.quantile.is_some() { wanted } else { self.settled(&peak, bias, wanted, supply.ordered())? };
        let reason = if peak.is_prior { Reason::Prior } else { Reason::Forecast };
        let backlog = window.backlog.filter(|backlog| *backlog >= 1.0 && backlog.is_finite()).unwrap_or(0.0);
        let (draining, catch_up) = if backlog > 0.0 { self.draining(&peak, bias, backlog) } else { (0, 0.0) };
        let announced = window.announced.map_or(0, |rate| self.curve.replicas(rate * bias));
        let (min, max) = (self.settings.replicas_min, self.settings.replicas_max);
        let candidates = [(wanted, reason), (draining, Reason::Backlog), (announced, Reason::Announced), (min, Reason::Fewest)];
        let (most, settled) = candidates.into_iter().reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        let covered = self.curve.rate(wanted) / bias;
        Some(Plan {
            replicas: most.min(max),
            reason: if most >= max { Reason::Most } else { settled },
            lead: self.forecaster.horizon(),
            level: peak.level,
            median,
            covered,
            shortage: peak.exceedance(covered),
            service_time: self.service.seconds,
            bias,
            catch_up,
            supply: supply.at(self.forecaster.horizon(), &self.starts),
        })
    }

    /// Replicas that work off a backlog beside what comes, and the servers that takes. How much more will wait when they serve is not
    /// guessed: bursts that outrun capacity are mostly over by then.
    fn draining(&self, peak: &Peak<'_>, bias: f64, backlog: f64) -> (u32, f64) {
        let work = backlog * self.service.seconds / self.settings.station.servers;
        let drain = match self.quantile {
            Some(_) => self.settings.drain,
            None => drain_time(work, self.forecaster.horizon(), self.violation_price()),
        };
        let servers = catch_up_servers(backlog, self.service.seconds, drain).unwrap_or(0.0);
        (self.curve.replicas(peak.level * bias + backlog / drain), servers)
    }

    /// Replicas that take a rate within the highest utilization.
    fn needed(&self, rate: f64) -> u32 {
        let servers = rate * self.service.seconds / self.utilization_max;
        self.curve.replicas(rate).max(whole(servers / self.settings.station.servers))
    }

    /// The same between what is there and what is wanted, as far as a change pays. Without knowing what is there, what is wanted.
    fn settled(&self, peak: &Peak<'_>, bias: f64, wanted: u32, ordered: u32) -> Option<u32> {
        if ordered == 0 || ordered == wanted {
            return Some(wanted);
        }
        // What is worth keeping for the whole time may not be worth ordering for its end, which is all that an order reaches.
        let late = self.forecaster.late_peak()?;
        let (peak, wanted) = if wanted > ordered { (&late, self.cheapest(&late, bias).clamp(ordered, wanted)) } else { (peak, wanted) };
        if ordered < self.least(peak, bias) {
            return Some(wanted);
        }
        let saving = self.cost(peak, bias, ordered) - self.cost(peak, bias, wanted);
        Some(if is_saving_worth(saving, 1.0 / 60.0, HOLD, self.change_price) { wanted } else { ordered })
    }

    /// What a number of replicas costs in a minute, in replica-minutes: itself, and the price of a violation by the probability that
    /// the peak is more than it takes.
    fn cost(&self, peak: &Peak<'_>, bias: f64, replicas: u32) -> f64 {
        f64::from(replicas) + self.violation_price() * peak.exceedance(self.curve.rate(replicas) / bias)
    }

    /// Replicas for the lowest peaks: what is below saves little and never recovers.
    fn least(&self, peak: &Peak<'_>, bias: f64) -> u32 {
        let lowest = peak.quantile(LOWEST).unwrap_or(peak.level);
        self.needed(lowest * bias).max(self.settings.replicas_min)
    }

    /// The number of replicas that costs least. Begins where a shortage is all but certain.
    fn cheapest(&self, peak: &Peak<'_>, bias: f64) -> u32 {
        let least = self.least(peak, bias);
        let mut best = (f64::INFINITY, least);
        for replicas in least..=self.settings.replicas_max.max(least) {
            let cost = self.cost(peak, bias, replicas);
            if cost < best.0 {
                best = (cost, replicas);
            }
            // One more replica costs more than is left to avoid.
            if cost < f64::from(replicas) + 1.0 {
                break;
            }
        }
        best.1
    }
}

/// Replicas of a real number, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and bounds follow")]
fn whole(replicas: f64) -> u32 {
    (replicas * (1.0 - 1e-9)).ceil() as u32
}

/// The same service with another mean service time.
fn station_of(station: &Station, seconds: f64) -> Option<Station> {
    let service_time: ServiceTime = station.service_time.scaled(seconds / station.service_time.mean())?;
    Some(Station { service_time, ..station.clone() })
}

#[cfg(test)]
mod tests;
