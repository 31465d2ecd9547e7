//! The cheap forecasts that compete: all of them at once, for one lead.

use super::calendar::{Calendar, Distances};
#[cfg(feature = "heavy")]
use super::decomposition::Decomposition;
use super::history::History;
use super::ridge::INPUTS;
use super::ring::narrow;
use super::smoothing::{LEVEL_WEIGHTS, Level, SEASON_WEIGHTS, Season};

/// Windows over which the level of now is compared with that of a profile: a quarter of an hour, one, three hours, a day.
const WINDOWS: usize = 4;
/// Profiles: yesterday, the mean of seven days, the weekday of last week, the mean of that weekday.
const PROFILES: usize = 4;
/// Buckets that an hour must have for a shape.
const HOUR_BUCKETS_MIN: i64 = 4;
/// Bounds of the ratio of a level to that of a profile.
const RATIO_BOUNDS: (f64, f64) = (0.2, 5.0);

/// The last number.
pub(super) const NAIVE: usize = 0;
/// The number of a day ago.
pub(super) const DAY_AGO: usize = 1;
/// The number of a week ago.
pub(super) const WEEK_AGO: usize = 2;
/// Means of windows.
const MEANS: usize = 3;
/// Levels.
const LEVELS: usize = MEANS + WINDOWS;
/// Profiles without correction of the level.
const PLAIN: usize = LEVELS + LEVEL_WEIGHTS.len();
/// Profiles with correction: by profile, window, and how far the correction goes.
const CORRECTED: usize = PLAIN + PROFILES;
const POWERS: usize = 2;
const PER_PROFILE: usize = WINDOWS * POWERS;
/// Level and season.
const SEASONS: usize = CORRECTED + PROFILES * PER_PROFILE;
/// The minute of the hour, for what runs by the clock: an hour ago, and the mean of some hours.
const HOURLY: usize = SEASONS + SEASON_WEIGHTS.len();
const HOURS: [i64; 2] = [1, 7];
/// Ridge regression.
pub(super) const RIDGE: usize = HOURLY + HOURS.len();
/// Number of models of the feature `heavy`: decomposition and network.
#[cfg(feature = "heavy")]
const HEAVY: usize = 2;
#[cfg(not(feature = "heavy"))]
const HEAVY: usize = 0;
/// Decomposition.
#[cfg(feature = "heavy")]
pub(super) const DECOMPOSITION: usize = RIDGE + 1;
/// Network.
#[cfg(feature = "heavy")]
pub(super) const NETWORK: usize = RIDGE + 2;
/// Number of candidates.
pub(super) const CANDIDATES: usize = RIDGE + 1 + HEAVY;
// Which candidates are believed is told by the bits of a number.
const _: () = assert!(CANDIDATES <= 128, "more candidates than bits");

/// Candidates of one kind, of which only the best takes part in combinations.
pub(super) const FAMILIES: [(std::ops::Range<usize>, &str); 8 + HEAVY] = [
    (MEANS..PLAIN, "level"),
    (PLAIN..CORRECTED, "season"),
    (CORRECTED..CORRECTED + PER_PROFILE, "yesterday × level"),
    (CORRECTED + PER_PROFILE..CORRECTED + 2 * PER_PROFILE, "day × level"),
    (CORRECTED + 2 * PER_PROFILE..SEASONS, "week × level"),
    (SEASONS..HOURLY, "holt-winters"),
    (HOURLY..RIDGE, "hour"),
    (RIDGE..RIDGE + 1, "ridge"),
    #[cfg(feature = "heavy")]
    (DECOMPOSITION..DECOMPOSITION + 1, "decomposition"),
    #[cfg(feature = "heavy")]
    (NETWORK..NETWORK + 1, "network"),
];

/// The forecasts of all candidates; what has no history is not a number.
pub(super) type Numbers = [f32; CANDIDATES];

/// Models that learn with each number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Smoothers {
    levels: [Level; LEVEL_WEIGHTS.len()],
    seasons: [Season; SEASON_WEIGHTS.len()],
    #[cfg(feature = "heavy")]
    decomposition: Decomposition,
}

/// What all leads share: where the series is now, and where it was at this time of other days.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The step of the newest number.
    pub(super) now: i64,
    last: f64,
    before_last: f64,
    windows: [f64; WINDOWS],
    profiles: [[f64; WINDOWS]; PROFILES],
    ratios: [[f64; WINDOWS]; PROFILES],
    /// Mean of the last day that was known.
    pub(super) typical: f64,
}

// === impl Smoothers ===

impl Smoothers {
    pub(super) fn new(history: &History) -> Self {
        let slots = usize::try_from(history.per_day).unwrap_or(1);
        #[expect(clippy::cast_precision_loss, reason = "a bucket has few steps")]
        let repeats = history.per_bucket as f64;
        Self {
            levels: LEVEL_WEIGHTS.map(Level::new),
            seasons: SEASON_WEIGHTS.map(|weights| Season::new(weights, slots, repeats)),
            #[cfg(feature = "heavy")]
            decomposition: Decomposition::default(),
        }
    }

    pub(super) fn observe(&mut self, history: &History, calendar: &Calendar, step: i64, number: f64) {
        let (slot, root, special) = (history.slot(step), number.max(0.0).sqrt(), calendar.is_holiday(history.day(step)));
        self.levels.iter_mut().for_each(|level| level.observe(number));
        let steps_per_day = history.per_day * history.per_bucket;
        self.seasons.iter_mut().for_each(|season| season.observe(step, slot, root, steps_per_day, special));
    }

    /// Fits the models that look at all of the history, when a bucket is full.
    #[cfg(feature = "heavy")]
    pub(super) fn fit(&mut self, history: &History, calendar: &Calendar, step: i64) {
        if step.rem_euclid(history.per_bucket) == history.per_bucket - 1 {
            self.decomposition.observe(history, calendar, step.div_euclid(history.per_bucket));
        }
    }

    /// The root expected for a slot by the season that change points are measured against, or not a number.
    pub(super) fn expected_root(&self, slot: usize) -> f64 {
        let seasonal = self.seasons[1].root(slot);
        if seasonal.is_nan() { self.levels[1].value().clamp(0.0, f64::INFINITY).sqrt() } else { seasonal }
    }
}

// === impl Origin ===

impl Origin {
    pub(super) fn new(history: &History, calendar: &Calendar, now: i64) -> Self {
        let bucket = now.div_euclid(history.per_bucket);
        let day = history.day(now);
        let (daily, weekly) = (calendar.daily(day, 1), calendar.weekly(day, 1));
        let windows = window_means(history, bucket);
        let shifted = |distances: &Distances, most: usize| mean_windows(history, bucket, distances, most);
        let profiles = [shifted(&daily, 1), shifted(&daily, usize::MAX), shifted(&weekly, 1), shifted(&weekly, usize::MAX)];
        let typical = history.typical().unwrap_or(0.0);
        let little = 0.01 * typical.abs() + f64::MIN_POSITIVE;
        let ratio = |place: usize, profile: f64| ((windows[place] + little) / (profile + little)).clamp(RATIO_BOUNDS.0, RATIO_BOUNDS.1);
        let ratios = profiles.map(|profile| std::array::from_fn(|place| ratio(place, profile[place])));
        let before_last = history.steps.mean(now - 1, 2);
        Self { now, last: history.last(now), before_last, windows, profiles, ratios, typical }
    }

    /// How far the last quarter of an hour is from the nearest profile, and from the mean day, as differences of roots over the root
    /// of the mean of the days before. Not numbers when nothing is known.
    pub(super) fn distances(&self) -> (f64, f64) {
        let root = |number: f64| number.clamp(0.0, f64::INFINITY).sqrt();
        let far = |profile: [f64; WINDOWS]| (root(self.windows[0]) - root(profile[0])) / root(self.profiles[1][WINDOWS - 1]);
        let nearest = self.profiles.into_iter().map(far).filter(|far| !far.is_nan()).min_by(|a, b| a.abs().total_cmp(&b.abs()));
        (nearest.unwrap_or(f64::NAN), far(self.profiles[1]))
    }

    /// Fills the forecasts of all candidates but the ridge for a lead in steps, and gives the inputs of the ridge with the root
    /// that they are measured from.
    pub(super) fn forecast(
        &self,
        history: &History,
        calendar: &Calendar,
        smoothers: &Smoothers,
        lead: i64,
        numbers: &mut Numbers,
    ) -> Option<(f64, [f32; INPUTS])> {
        let target = self.now + lead;
        let bucket = target.div_euclid(history.per_bucket);
        let ahead = bucket - self.now.div_euclid(history.per_bucket);
        let nearest = ((ahead + history.per_day - 1) / history.per_day).max(1);
        let day = history.day(target);
        let (daily, weekly) = (calendar.daily(day, nearest), calendar.weekly(day, nearest));
        let raw = |distances: &Distances| {
            distances.as_slice().first().map_or(f64::NAN, |distance| history.buckets.at(bucket - distance * history.per_day))
        };
        let plain = [
            mean_around(history, bucket, &daily, 1),
            mean_around(history, bucket, &daily, usize::MAX),
            mean_around(history, bucket, &weekly, 1),
            mean_around(history, bucket, &weekly, usize::MAX),
        ];
        numbers.fill(f32::NAN);
        numbers[NAIVE] = narrow(self.last);
        numbers[DAY_AGO] = narrow(raw(&daily));
        numbers[WEEK_AGO] = narrow(raw(&weekly));
        for (place, mean) in self.windows.iter().enumerate() {
            numbers[MEANS + place] = narrow(*mean);
        }
        for (place, level) in smoothers.levels.iter().enumerate() {
            numbers[LEVELS + place] = narrow(level.value());
        }
        for (profile, number) in plain.iter().enumerate() {
            numbers[PLAIN + profile] = narrow(*number);
            for (window, ratio) in self.ratios[profile].iter().enumerate() {
                let at = CORRECTED + profile * PER_PROFILE + window * POWERS;
                numbers[at] = narrow(number * ratio);
                numbers[at + 1] = narrow(number * ratio.sqrt());
            }
        }
        if !calendar.is_holiday(day) {
            for (place, season) in smoothers.seasons.iter().enumerate() {
                let root = season.root(history.slot(target)).clamp(0.0, f64::INFINITY);
                numbers[SEASONS + place] = narrow(root * root);
            }
        }
        for (place, hours) in HOURS.into_iter().enumerate() {
            numbers[HOURLY + place] = narrow(mean_hours(history, bucket, ahead, hours));
        }
        #[cfg(feature = "heavy")]
        {
            numbers[DECOMPOSITION] = narrow(smoothers.decomposition.number(history, calendar, bucket));
        }
        self.inputs(&plain, numbers)
    }

    /// Inputs of the ridge: roots as deviations from the root of the day's profile at the level of the last hour.
    fn inputs(&self, plain: &[f64; PROFILES], numbers: &Numbers) -> Option<(f64, [f32; INPUTS])> {
        let root = |number: f64| number.clamp(0.0, f64::INFINITY).sqrt();
        let base = root(plain[1] * self.ratios[1][1].powf(0.8));
        if base.is_nan() {
            return None;
        }
        let seasonal = |place: usize| f64::from(numbers[place]);
        let against = [
            root(self.last) - base,
            root(self.before_last) - base,
            root(self.windows[0]) - base,
            root(self.windows[1]) - base,
            root(self.windows[2]) - base,
            root(self.windows[3]) - base,
            root(plain[0]) - base,
            root(plain[1]) - base,
            root(plain[2]) - base,
            root(plain[3]) - base,
            root(seasonal(SEASONS)) - base,
            root(seasonal(SEASONS + 1)) - base,
            root(seasonal(SEASONS + 2)) - base,
            root(self.windows[0]) - root(self.profiles[0][0]),
            root(self.windows[1]) - root(self.profiles[0][1]),
            root(self.windows[0]) - root(self.profiles[1][0]),
            root(self.windows[1]) - root(self.profiles[1][1]),
            root(self.windows[0]) - root(self.profiles[2][0]),
            root(self.windows[1]) - root(self.profiles[2][1]),
            root(self.windows[1]) - root(self.profiles[3][1]),
            root(self.windows[3]) - root(self.profiles[2][3]),
            root(seasonal(LEVELS + 1)) - base,
        ];
        Some((base, against.map(|deviation| if deviation.is_nan() { 0.0 } else { narrow(deviation) })))
    }
}

/// Which candidates do not look back over a shift of the level at step `since`, as bits by place: for forecasts from step `now` on
/// with a lead in steps.
pub(super) fn beyond_shift(history: &History, now: i64, lead: i64, since: i64) -> u128 {
    let per_day = history.per_day * history.per_bucket;
    let (age, target) = (now - since, now + lead);
    let days = ((lead + per_day - 1) / per_day).max(1);
    let weeks = (days + 6) / 7 * 7;
    // Days back to the newest that each profile holds, for the target and for the level of now, and to half of what it holds.
    let profiles = [(days, 1, 0), (days, 1, 3), (weeks, 7, 0), (weeks, 7, 7)];
    let windows = window_lengths(history).map(|buckets| buckets * history.per_bucket);
    let windows = [windows[0], windows[1], windows[2], per_day];
    let mut bits = 0;
    let mut believe = |place: usize, is: bool| bits |= u128::from(is) << place;
    believe(NAIVE, true);
    believe(DAY_AGO, target - days * per_day >= since);
    believe(WEEK_AGO, target - weeks * per_day >= since);
    (0..WINDOWS).for_each(|window| believe(MEANS + window, age + 1 >= windows[window]));
    (LEVELS..PLAIN).for_each(|place| believe(place, true));
    for (profile, (newest, before, half)) in profiles.into_iter().enumerate() {
        let seen = target - (newest + half) * per_day >= since;
        believe(PLAIN + profile, seen);
        for (window, length) in windows.into_iter().enumerate() {
            // The ratio of levels must compare new with old for an old profile, new with new for a new one.
            let from_old = target - newest * per_day < since && now - before * per_day < since;
            let from_new = seen && now - (before + half) * per_day - length >= since;
            let at = CORRECTED + profile * PER_PROFILE + window * POWERS;
            believe(at, age + 1 >= length && (from_old || from_new));
            believe(at + 1, age + 1 >= length && from_new);
        }
    }
    (SEASONS..HOURLY).for_each(|place| believe(place, age >= per_day));
    for (place, hours) in HOURS.into_iter().enumerate() {
        believe(HOURLY + place, age >= hours * per_day / 24);
    }
    (RIDGE..CANDIDATES).for_each(|place| believe(place, age >= lead.max(per_day)));
    bits
}

/// Which candidates know nothing of a season, as bits by place.
pub(super) fn seasonless() -> u128 {
    [NAIVE, RIDGE].into_iter().chain(FAMILIES[0].0.clone()).fold(0, |bits, place| bits | 1 << place)
}

/// Buckets of the windows that are compared bucket by bucket.
fn window_lengths(history: &History) -> [i64; WINDOWS - 1] {
    let buckets = |seconds: i64| seconds / history.bucket_seconds();
    [buckets(900).max(1), buckets(3600).max(2), buckets(10_800).max(6)]
}

/// Means of the windows that end with a bucket.
fn window_means(history: &History, bucket: i64) -> [f64; WINDOWS] {
    let lengths = window_lengths(history);
    let mut means = [f64::NAN; WINDOWS];
    let (mut sum, mut known, mut back) = (0.0, 0.0, 0);
    for (place, length) in lengths.iter().enumerate() {
        while back < *length {
            let number = history.buckets.at(bucket - back);
            if !number.is_nan() {
                sum += number;
                known += 1.0;
            }
            back += 1;
        }
        means[place] = if known > 0.0 { sum / known } else { f64::NAN };
    }
    means[WINDOWS - 1] = history.days.at(bucket - 1);
    means
}

/// Means over the given days of what the windows were there.
fn mean_windows(history: &History, bucket: i64, distances: &Distances, most: usize) -> [f64; WINDOWS] {
    let mut sums = [Trimmed::default(); WINDOWS];
    for distance in distances.as_slice().iter().take(most) {
        let means = window_means(history, bucket - distance * history.per_day);
        sums.iter_mut().zip(means).for_each(|(sum, mean)| sum.add(mean));
    }
    sums.map(|sum| sum.mean())
}

/// Mean over the given days of the smoothed numbers around a bucket.
fn mean_around(history: &History, bucket: i64, distances: &Distances, most: usize) -> f64 {
    let mut sum = Trimmed::default();
    for distance in distances.as_slice().iter().take(most) {
        sum.add(history.around(bucket - distance * history.per_day));
    }
    sum.mean()
}

/// Mean of a bucket's place within the hour over the newest hours that are known `ahead` buckets before it. Not a number where an hour
/// has too few buckets to have a shape.
fn mean_hours(history: &History, bucket: i64, ahead: i64, hours: i64) -> f64 {
    let per_hour = history.per_day / 24;
    if per_hour < HOUR_BUCKETS_MIN {
        return f64::NAN;
    }
    let nearest = ((ahead + per_hour - 1) / per_hour).max(1);
    let mut sum = Trimmed::default();
    (nearest..nearest + hours).for_each(|back| sum.add(history.buckets.at(bucket - back * per_hour)));
    sum.mean()
}

/// A mean without the least and the greatest of five numbers or more, so that one wild day does not shape a profile.
#[derive(Clone, Copy, Default)]
struct Trimmed {
    sum: f64,
    number: f64,
    least: f64,
    greatest: f64,
}

// === impl Trimmed ===

impl Trimmed {
    fn add(&mut self, number: f64) {
        if number.is_nan() {
            return;
        }
        let first = self.number < 0.5;
        self.least = if first { number } else { self.least.min(number) };
        self.greatest = if first { number } else { self.greatest.max(number) };
        self.sum += number;
        self.number += 1.0;
    }

    fn mean(self) -> f64 {
        if self.number > 4.5 {
            (self.sum - self.least - self.greatest) / (self.number - 2.0)
        } else if self.number > 0.5 {
            self.sum / self.number
        } else {
            f64::NAN
        }
    }
}
