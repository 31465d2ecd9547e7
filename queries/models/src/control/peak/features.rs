//! What is known of a load at a moment: level, slopes over minutes, and what followed this time of day before.

use super::compact::{FromOne, Newest};
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
/// Samples of the longest slope: an hour.
const HOUR: usize = 240;
/// Samples that are remembered one by one: what another horizon is learned from, and how restless the last day was.
const REMEMBERED: usize = DAY + DAY / 2;
/// Slopes need so many samples.
const SLOPES_FROM: usize = 8;
/// Samples over which a season is smoothed: two minutes.
const SMOOTH: usize = 9;
/// Samples between two smoothed ones that are remembered,
const SMOOTH_EVERY: usize = 8;
/// and how many: a week before each sample that is.
const SMOOTH_MOST: usize = (7 * DAY + REMEMBERED) / SMOOTH_EVERY + 2;
/// Largest change that a season announces, in logarithms.
const SEASON_MOST: f64 = 1.5;
/// Changes of the level are looked at over a minute.
const MINUTE: usize = 4;
/// No load is calmer than this mean change in a minute,
const CALM: f64 = 0.002;
/// and in minutes that were not seen it is taken for as restless as this.
const UNSEEN: f64 = 0.2;

/// The remembered samples of a rate: the last hour as it was, the last day in 16 bits, the last week smoothed.
#[derive(Clone, Debug)]
pub(super) struct Record {
    offset: f64,
    /// How many came.
    samples: usize,
    last: f32,
    /// Sums of all rates until each of the last, so that means over any stretch take one difference.
    sums: Newest<f64>,
    /// Logarithms of the level, as far back as the horizon or an hour.
    levels: Newest<f32>,
    /// Rates above the offset, in units of it.
    rates: Newest<FromOne>,
    /// The same, smoothed.
    smooth: Newest<FromOne>,
}

// === impl Record ===

impl Record {
    /// Logarithms of rates begin at the offset; peaks are asked for of `horizon` samples at most.
    pub(super) fn new(offset: f64, horizon: usize) -> Self {
        let mut sums = Newest::of_most(HOUR + 1);
        sums.push(0.0);
        let levels = Newest::of_most(horizon.max(HOUR) + 1);
        Self { offset, samples: 0, last: 0.0, sums, levels, rates: Newest::of_most(REMEMBERED), smooth: Newest::of_most(SMOOTH_MOST) }
    }

    pub(super) fn offset(&self) -> f64 {
        self.offset
    }

    /// What was known before the samples that are remembered one by one, for peaks of another horizon, and these.
    pub(super) fn rewound(&self, horizon: usize) -> (Self, impl Iterator<Item = f64>) {
        let samples = self.samples - self.rates.len();
        let newer = self.samples / SMOOTH_EVERY - samples / SMOOTH_EVERY;
        let before = Self { samples, smooth: self.smooth.clone().without(newer), ..Self::new(self.offset, horizon) };
        (before, self.rates.iter().map(|rate| self.rate_of(rate)))
    }

    /// Takes a sample; a gap repeats the last one.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits of a rate are enough, and half the memory")]
    pub(super) fn push(&mut self, rate: Option<f64>) {
        self.last = rate.map_or(self.last, |rate| rate as f32);
        let rate = f64::from(self.last);
        self.samples += 1;
        self.sums.push(self.sums.back(0).unwrap_or(0.0) + rate);
        self.levels.push(self.log(self.level()) as f32);
        self.rates.push(FromOne::new(rate / self.offset + 1.0));
        if self.samples.is_multiple_of(SMOOTH_EVERY) {
            self.smooth.push(FromOne::new(self.mean(0, SMOOTH) / self.offset + 1.0));
        }
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
        let hour = restlessness(60, |back| self.levels.back(back).map(f64::from));
        let quarter = restlessness(15, |back| self.levels.back(back).map(f64::from));
        let yesterday =
            if self.rates.len() > DAY + MINUTE { restlessness(ahead / MINUTE, |back| self.level_log(DAY - ahead + back)) } else { hour };
        [1.0, hour.ln(), quarter.ln(), -0.5 * counted.max(1.0).ln(), yesterday.ln()]
    }

    /// Features of a forecast `horizon` samples ahead. What there is no past for is zero.
    pub(super) fn features(&self, horizon: usize) -> Features {
        let mut features = [0.0; COUNT];
        features[0] = 1.0;
        if self.sums.len() > SLOPES_FROM + 1 {
            let level = self.level_at(0);
            let spans = [(2, 2), (4, 4), (12, 8), (0, 60), (0, HOUR)];
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
        let Some(then) = self.around(season) else { return 0.0 };
        let step = (horizon / looks).max(1);
        let ahead = (1..=looks).filter_map(|look| self.around(season.checked_sub(look * step)?));
        let most = ahead.fold(0.0, f64::max);
        (self.log(most) - self.log(then)).clamp(-SEASON_MOST, SEASON_MOST)
    }

    /// The smoothed rate so many samples ago, between the two that are remembered. `None` when that is too long ago.
    fn around(&self, back: usize) -> Option<f64> {
        let end = self.samples.checked_sub(back.saturating_sub(SMOOTH / 2))?;
        let older = self.samples / SMOOTH_EVERY - end / SMOOTH_EVERY;
        let before = self.rate_of(self.smooth.back(older)?);
        let after = older.checked_sub(1).and_then(|newer| self.smooth.back(newer)).map_or(before, |after| self.rate_of(after));
        Some(before + (after - before) * real(end % SMOOTH_EVERY) / real(SMOOTH_EVERY))
    }

    /// Mean of `samples` rates of the last hour, the last of which is `back` samples old; of those that there are.
    fn mean(&self, back: usize, samples: usize) -> f64 {
        let oldest = self.sums.len() - 1;
        let (until, from) = (back.min(oldest), (back + samples).min(oldest));
        let sum = |back| self.sums.back(back).unwrap_or(0.0);
        if from > until { (sum(until) - sum(from)).max(0.0) / real(from - until) } else { 0.0 }
    }

    /// Logarithm of the level at one of the last samples.
    fn level_at(&self, back: usize) -> f64 {
        self.levels.back(back).map_or(0.0, f64::from)
    }

    /// The same at a remembered sample.
    fn level_log(&self, back: usize) -> Option<f64> {
        let rate = |back| self.rates.back(back).map(|rate| self.rate_of(rate));
        Some(self.log(0.5 * (rate(back)? + rate(back + 1)?)))
    }

    fn rate_of(&self, above: FromOne) -> f64 {
        (above.get() - 1.0) * self.offset
    }

    /// Logarithm of a rate.
    pub(super) fn log(&self, rate: f64) -> f64 {
        (rate + self.offset).ln()
    }
}

/// Mean change of the level, whose logarithm so many samples ago is given, from one minute to the next over so many minutes.
fn restlessness(minutes: usize, level: impl Fn(usize) -> Option<f64>) -> f64 {
    let (mut sum, mut seen, mut after) = (0.0, 0, level(0));
    while let Some((now, before)) = after.zip(level((seen + 1) * MINUTE)).filter(|_| seen < minutes) {
        sum += (now - before).abs();
        seen += 1;
        after = Some(before);
    }
    let unseen = UNSEEN * real(minutes - seen);
    CALM + if minutes > 0 { (sum + unseen) / real(minutes) } else { UNSEEN }
}
