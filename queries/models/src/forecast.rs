//! Forecasts of load with upper quantiles, from cheap models that must prove themselves on the series itself.
//!
//! ```text
//! observe ─▶ history ─▶ candidates (last value, levels, profiles × level, Holt–Winters, minute of the hour, ridge)
//!               │            │ issued for each lead, waiting for what comes
//!               ▼            ▼
//!        change, shift ─▶ scores ─▶ weights ─▶ forecast ─▶ distances of what came ─▶ upper quantiles
//! ```
//!
//! A candidate or a combination is believed, lead by lead, only while its past forecasts beat the naive ones: the last value, the
//! value of a day ago, that of a week ago. Nothing is fitted to the future: every score is of a forecast that was issued before.
//!
//! Two things take the vote from candidates at once, before their scores can: a change within the last hour, and a level that no day of
//! the past explains. After such a shift those that look back over it wait until they have seen the new level.
//!
//! The state is what the observations made it: [`Forecaster::observe`] in the same order gives the same state again, at about two
//! microseconds per minute of history.

mod calendar;
mod candidates;
mod change;
mod conformal;
#[cfg(feature = "heavy")]
mod decomposition;
mod history;
mod lead;
#[cfg(feature = "heavy")]
mod network;
mod ranges;
mod ridge;
mod ring;
mod scores;
mod shift;
mod smoothing;

use calendar::{Calendar, DAY};
use candidates::{Origin, Smoothers};
use change::Change;
use conformal::Base;
use history::History;
use lead::{Lead, Sight};
use shift::Shift;

/// The longest lead, in seconds: a week.
pub const LEAD_MAX: i64 = 7 * DAY;
/// The most leads that are scored.
pub const LEADS_MAX: usize = 16;
/// Leads that stand for a stretch, in seconds.
const STRETCH: [i64; 12] = [900, 1800, 3600, 7500, 16_500, 30_300, 49_200, 66_900, 82_200, 109_500, 139_800, 163_500];
/// For how long after a change point models of the season are not believed, in seconds.
const CHANGE_SECONDS: i64 = 3600;
/// Upper quantiles are that much wider after a change point.
const CHANGE_WIDENS: f64 = 1.25;
/// Time over which zeros are counted, in seconds, and the share below which a zero is more likely lost data than no load.
const ZERO_SECONDS: f64 = 3.0 * 86_400.0;
const ZERO_SHARE: f64 = 0.1;
/// Times further from the epoch are no times: thirty million years, in seconds.
const TIME_MAX: i64 = 1_000_000_000_000_000;
/// A clock that goes back by no more than this was set back (summer time); by more, the observation is late and ignored.
const BACK_MAX: i64 = 2 * 3600;

/// What a forecaster is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seconds between observations; must divide a day and be at most an hour.
    pub step: i64,
    /// Leads that are scored, in seconds: whole steps, at most [`LEAD_MAX`]. Others use the record of the nearest.
    pub leads: Vec<i64>,
    /// Local days, in days since the epoch, that are forecast from the last holidays and Sundays, and that ordinary days are not
    /// forecast from.
    pub holidays: Vec<i64>,
}

/// Why settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// A step that does not divide the day, or is longer than an hour.
    Step(i64),
    /// No leads, or too many.
    Leads(usize),
    /// A lead that is not a positive number of whole steps, or is longer than [`LEAD_MAX`].
    Lead(i64),
}

/// Forecasts one series, from all that was observed of it in the last four weeks.
#[derive(Clone, Debug)]
pub struct Forecaster {
    calendar: Calendar,
    history: History,
    smoothers: Smoothers,
    leads: Vec<Lead>,
    change: Change,
    changed: Option<i64>,
    shift: Shift,
    now: Option<i64>,
    zeros: Zeros,
}

/// What is expected, and how far above it what comes may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// What is expected, in the unit of the observations: the forecast of least absolute error, between median and mean.
    pub point: f64,
    /// Which model or combination it comes from.
    pub model: &'static str,
    /// Error of that model in the past, as a multiple of the error of the last value; below one is better.
    pub loss: f64,
    /// A change point was seen within the last hour: models of the season are left out, the upper quantiles are wider, and there
    /// should be no scaling down.
    pub changed: bool,
    uppers: [f64; conformal::LEVELS.len()],
}

/// How usual zeros are in a series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Zeros {
    share: f64,
    now: bool,
}

// === impl Settings ===

impl Settings {
    /// Settings for a step and leads, both in seconds, without holidays.
    #[must_use]
    pub fn new(step: i64, leads: Vec<i64>) -> Self {
        Self { step, leads, holidays: Vec::new() }
    }

    /// Settings that score leads all the way up to a horizon, for forecasts of whole stretches. Most of these leads are no whole hours:
    /// a series that repeats itself every hour looks easy at whole hours, and the record of a lead stands for its neighbours.
    #[must_use]
    pub fn up_to(step: i64, horizon: i64) -> Self {
        let whole = |lead: i64| (lead + step - 1).div_euclid(step.max(1)) * step;
        let mut leads: Vec<i64> = STRETCH.into_iter().chain([step, horizon]).map(whole).filter(|lead| *lead <= horizon).collect();
        leads.sort_unstable();
        leads.dedup();
        Self::new(step, leads)
    }

    fn check(&self) -> Result<(), SettingsError> {
        if !(1..=3600).contains(&self.step) || DAY % self.step != 0 {
            return Err(SettingsError::Step(self.step));
        }
        if self.leads.is_empty() || self.leads.len() > LEADS_MAX {
            return Err(SettingsError::Leads(self.leads.len()));
        }
        let wrong = |lead: &&i64| !(1..=LEAD_MAX).contains(*lead) || **lead % self.step != 0;
        self.leads.iter().find(wrong).map_or(Ok(()), |lead| Err(SettingsError::Lead(*lead)))
    }
}

// === impl SettingsError ===

impl std::fmt::Display for SettingsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step(step) => write!(f, "a step of {step} s; hint: it must divide a day and be at most an hour"),
            Self::Leads(number) => write!(f, "{number} leads; hint: name 1 to {LEADS_MAX}"),
            Self::Lead(lead) => write!(f, "a lead of {lead} s; hint: it must be whole steps, and at most {LEAD_MAX} s"),
        }
    }
}

impl std::error::Error for SettingsError {}

// === impl Forecaster ===

impl Forecaster {
    /// A forecaster that has seen nothing.
    ///
    /// # Errors
    /// When a step or a lead is not possible.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let history = History::new(settings.step);
        let mut leads: Vec<i64> = settings.leads.iter().map(|lead| lead / settings.step).collect();
        leads.sort_unstable();
        leads.dedup();
        Ok(Self {
            calendar: Calendar::new(settings.holidays),
            smoothers: Smoothers::new(&history),
            leads: leads.into_iter().map(|steps| Lead::new(steps, &history)).collect(),
            shift: Shift::new(history.step),
            history,
            change: Change::default(),
            changed: None,
            now: None,
            zeros: Zeros::default(),
        })
    }

    /// Takes the value of the step that begins at a time of the clock on the wall, in seconds since the epoch as if that clock
    /// showed UTC. `None` and values that are no load (negative, not finite) are missing: nothing is put in their place, and
    /// forecasts of them are not judged. Steps that are left out are missing too.
    ///
    /// Returns whether the value was taken: one that is more than two hours older than the newest is not, nor one of an absurd time. A
    /// younger one is taken as a clock set back, and what was observed after it before is replaced.
    pub fn observe(&mut self, local_time_seconds: i64, value: Option<f64>) -> bool {
        if !(-TIME_MAX..=TIME_MAX).contains(&local_time_seconds) {
            return false;
        }
        let step = local_time_seconds.div_euclid(self.history.step);
        if self.now.is_some_and(|now| (now - step).saturating_mul(self.history.step) > BACK_MAX) {
            return false;
        }
        let value = value.filter(|value| value.is_finite() && *value >= 0.0);
        if let Some(value) = value {
            let root = value.sqrt();
            if self.change.observe(root - self.smoothers.expected_root(self.history.slot(step))) {
                self.changed = Some(step);
            }
            self.smoothers.observe(&self.history, &self.calendar, step, value);
            self.zeros.observe(value, self.history.step);
        }
        self.history.observe(step, value);
        #[cfg(feature = "heavy")]
        self.smoothers.fit(&self.history, &self.calendar, step);
        self.now = Some(step);
        let doubtful = self.zeros.doubtful();
        let shifted = self.shifted();
        self.leads.iter_mut().for_each(|lead| lead.resolve(step, value, doubtful, shifted));
        self.issue(step);
        true
    }

    /// What is expected at a lead after the newest step, in seconds. `None` before the first value, after a day without any,
    /// and for leads that are not positive or longer than [`LEAD_MAX`].
    #[must_use]
    pub fn forecast(&self, lead_seconds: i64) -> Option<Forecast> {
        let now = self.now?;
        if !(1..=LEAD_MAX).contains(&lead_seconds) {
            return None;
        }
        let steps = (lead_seconds + self.history.step - 1) / self.history.step;
        let lead = self.lead(steps)?;
        let origin = Origin::new(&self.history, &self.calendar, now);
        let changed = self.is_changed(now);
        let opinion = lead.opinion(&origin, self.sight(changed), steps)?;
        let point = opinion.choice.point;
        let widened = if changed { CHANGE_WIDENS } else { 1.0 };
        Some(Forecast {
            point,
            model: scores::name(opinion.choice.place),
            loss: lead.scores.loss(opinion.choice.place),
            changed,
            uppers: lead.ranges.uppers(Base { point, usual: origin.typical }).map(|upper| widened * upper),
        })
    }

    fn issue(&mut self, step: i64) {
        if !self.leads.iter().any(|lead| lead.is_due(step)) {
            return;
        }
        let origin = Origin::new(&self.history, &self.calendar, step);
        let (unexplained, from_usual) = origin.distances();
        self.shift.observe(step, unexplained, from_usual);
        let shifted = self.shifted();
        let mut leads = std::mem::take(&mut self.leads);
        let sight = Sight { shifted, ..self.sight(self.is_changed(step)) };
        leads.iter_mut().filter(|lead| lead.is_due(step)).for_each(|lead| lead.issue(&origin, sight));
        self.leads = leads;
    }

    /// The record that stands for a lead in steps.
    fn lead(&self, steps: i64) -> Option<&Lead> {
        self.leads.iter().min_by_key(|lead| proportion(lead.steps, steps))
    }

    fn is_changed(&self, now: i64) -> bool {
        self.changed.is_some_and(|changed| (now - changed).saturating_mul(self.history.step) < CHANGE_SECONDS)
    }

    /// Since when the series is on a level that the days before do not explain. Only of a series without a season: one that has a
    /// season returns to it more often than not.
    fn shifted(&self) -> Option<i64> {
        self.shift.since().filter(|_| !self.leads.iter().any(Lead::is_seasonal))
    }

    fn sight(&self, changed: bool) -> Sight<'_> {
        Sight {
            history: &self.history,
            calendar: &self.calendar,
            smoothers: &self.smoothers,
            seasonal: !changed,
            shifted: self.shifted(),
            doubtful: self.zeros.doubtful(),
        }
    }
}

/// How far two leads are apart in proportion.
fn proportion(a: i64, b: i64) -> i64 {
    a.max(b) * 1024 / a.min(b).max(1)
}

// === impl Zeros ===

impl Zeros {
    fn observe(&mut self, value: f64, step: i64) {
        self.now = value <= 0.0;
        #[expect(clippy::cast_precision_loss, reason = "a step is at most an hour")]
        let weight = step as f64 / ZERO_SECONDS;
        self.share += weight * (if self.now { 1.0 } else { 0.0 } - self.share);
    }

    /// Whether the newest value is a zero in a series that is hardly ever zero.
    fn doubtful(self) -> bool {
        self.now && self.share < ZERO_SHARE
    }
}

// === impl Forecast ===

impl Forecast {
    /// What comes is not above this with probability `tau`, by what came in proportion to earlier forecasts of this lead. Between
    /// the calibrated levels (.5, .75, .9, .95, .99) straight lines, below and above the nearest. `None` unless `0 < tau < 1`.
    #[must_use]
    pub fn upper(&self, tau: f64) -> Option<f64> {
        if !(tau > 0.0 && tau < 1.0) {
            return None;
        }
        let levels = conformal::LEVELS;
        let after = levels.partition_point(|level| *level < tau);
        let upper = match (after.checked_sub(1), self.uppers.get(after)) {
            (Some(before), Some(high)) => {
                let low = self.uppers[before];
                low + (high - low) * (tau - levels[before]) / (levels[after] - levels[before])
            }
            (None, Some(first)) => *first,
            (_, None) => self.uppers[levels.len() - 1],
        };
        Some(upper)
    }
}

#[cfg(test)]
mod tests;
