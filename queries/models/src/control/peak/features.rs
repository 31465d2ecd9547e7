//! What is known of a load at a moment: level, slopes over minutes, and what followed this time of day before.

use super::{DAY, SAMPLE, real};

/// Features of a forecast.
pub(super) const COUNT: usize = 9;
/// Their values.
pub(super) type Features = [f64; COUNT];
/// Which of them are slopes: how far the level is above what was before.
pub(super) const SLOPES: std::ops::RangeInclusive<usize> = 1..=5;
/// What says how far a forecast may be off.
pub(super) const SPREAD_COUNT: usize = 5;
/// Its values, logarithms all but the first.
pub(super) type Spread = [f64; SPREAD_COUNT];

/// Samples of the level: 30 s.
const LEVEL: usize = 2;
/// Samples that are remembered: a week and a day for the season of a week.
const REMEMBERED: usize = 8 * DAY;
/// Slopes need so many samples.
const SLOPES_FROM: usize = 8;
/// Samples over which a season is smoothed: two minutes.
const SMOOTH: usize = 9;
/// Largest change that a season announces, in logarithms.
const SEASON_MOST: f64 = 1.5;
/// Changes of the level are looked at over a minute.
const MINUTE: usize = 4;
/// No load is calmer than this mean change in a minute,
const CALM: f64 = 0.002;
/// and in minutes that were not seen it is taken for as restless as this.
const UNSEEN: f64 = 0.2;

/// The remembered samples of a rate.
#[derive(Clone, Debug)]
pub(super) struct Record {
    offset: f64,
    rates: Vec<f32>,
    /// Logarithms of the level, as many as rates.
    levels: Vec<f32>,
}

// === impl Record ===

impl Record {
    pub(super) fn new(offset: f64) -> Self {
        Self { offset, rates: Vec::new(), levels: Vec::new() }
    }

    pub(super) fn offset(&self) -> f64 {
        self.offset
    }

    pub(super) fn rates(&self) -> impl Iterator<Item = f64> {
        self.rates.iter().copied().map(f64::from)
    }

    /// Takes a sample; a gap repeats the last one.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits of a rate are enough, and half the memory")]
    pub(super) fn push(&mut self, rate: Option<f64>) {
        if self.rates.len() >= REMEMBERED + DAY {
            self.rates.drain(..DAY);
            self.levels.drain(..DAY);
        }
        let rate = rate.map(|rate| rate as f32).or(self.rates.last().copied()).unwrap_or(0.0);
        self.rates.push(rate);
        self.levels.push(self.log(self.mean(0, LEVEL)) as f32);
    }

    /// Requests per second of late.
    pub(super) fn level(&self) -> f64 {
        self.mean(0, LEVEL)
    }

    /// Logarithm of the highest of the last `samples` levels. Of a forecast that is `samples` old, the oldest shares a sample with
    /// what was before.
    pub(super) fn peak_log(&self, samples: usize) -> f64 {
        (0..samples).map(|back| self.level_at(back)).fold(f64::NEG_INFINITY, f64::max)
    }

    /// How restless the load is: over the last hour and the last quarter of an hour, by the noise of counting alone, and over the
    /// time that lies ahead, a day ago.
    pub(super) fn spread(&self, horizon: usize) -> Spread {
        let counted = (self.level() + self.offset) * SAMPLE;
        let ahead = horizon.clamp(15 * MINUTE, DAY / 4);
        let hour = self.restlessness(0, 60);
        let yesterday = if self.levels.len() > DAY + MINUTE { self.restlessness(DAY - ahead, ahead / MINUTE) } else { hour };
        [1.0, hour.ln(), self.restlessness(0, 15).ln(), -0.5 * counted.max(1.0).ln(), yesterday.ln()]
    }

    /// Mean change of the level from one minute to the next, over minutes of which the last ended `back` samples ago.
    fn restlessness(&self, back: usize, minutes: usize) -> f64 {
        let change = |minute: usize| (self.level_at(back + minute * MINUTE) - self.level_at(back + (minute + 1) * MINUTE)).abs();
        let seen = minutes.min(self.levels.len().saturating_sub(back + 1) / MINUTE);
        let sum = (0..seen).map(change).sum::<f64>() + UNSEEN * real(minutes - seen);
        CALM + if minutes > 0 { sum / real(minutes) } else { UNSEEN }
    }

    /// Features of a forecast `horizon` samples ahead. What there is no past for is zero.
    pub(super) fn features(&self, horizon: usize) -> Features {
        let mut features = [0.0; COUNT];
        features[0] = 1.0;
        if self.rates.len() > SLOPES_FROM {
            let level = self.level_at(0);
            let spans = [(2, 2), (4, 4), (12, 8), (0, 60), (0, 240)];
            for (place, (back, samples)) in (1..).zip(spans) {
                features[place] = level - self.log(self.mean(back, samples));
            }
        }
        features[6] = self.season(DAY, horizon, 4);
        features[7] = self.season(7 * DAY, horizon, 4);
        features[8] = self.season(2 * DAY, horizon, 1);
        features
    }

    /// How much higher the load was, a season ago, at the highest of `looks` times until the horizon than at this time.
    fn season(&self, season: usize, horizon: usize, looks: usize) -> f64 {
        let half = SMOOTH / 2;
        if self.rates.len() < season + SMOOTH {
            return 0.0;
        }
        let around = |back: usize| self.mean(back.saturating_sub(half), SMOOTH);
        let step = (horizon / looks).max(1);
        let ahead = (1..=looks).filter_map(|look| season.checked_sub(look * step)).map(around);
        let most = ahead.fold(0.0, f64::max);
        (self.log(most) - self.log(around(season))).clamp(-SEASON_MOST, SEASON_MOST)
    }

    /// Mean of `samples` rates, the last of which is `back` samples old; of those that there are.
    fn mean(&self, back: usize, samples: usize) -> f64 {
        let until = self.rates.len().saturating_sub(back);
        let near = &self.rates[until.saturating_sub(samples)..until];
        let (sum, count) = near.iter().fold((0.0, 0.0), |(sum, count), rate| (sum + f64::from(*rate), count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    fn level_at(&self, back: usize) -> f64 {
        let place = (self.levels.len()).saturating_sub(back + 1);
        self.levels.get(place).copied().map_or(0.0, f64::from)
    }

    /// Logarithm of a rate.
    pub(super) fn log(&self, rate: f64) -> f64 {
        (rate + self.offset).ln()
    }
}
