//! The forecasts that have nothing to learn: what ours is measured against.

use super::recording::Recording;

/// A baseline of the data folder's reference scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    /// The last number.
    Naive,
    /// The number of a day before.
    Day,
    /// The number of a week before.
    Week,
    /// The mean day of the last seven days, scaled by the load of the last hour over that of the profile's last hour.
    Profile,
}

/// All of them, in the order of the reports.
pub(super) const ALL: [Baseline; 4] = [Baseline::Naive, Baseline::Day, Baseline::Week, Baseline::Profile];

/// How far the scale of a profile may go.
const SCALE_BOUNDS: (f64, f64) = (0.2, 5.0);

// === impl Baseline ===

impl Baseline {
    /// Forecasts of the steps `origin..origin + steps`, by what came before `origin`. Where a season is not known yet, the last number.
    pub(super) fn forecast(self, recording: &Recording, origin: usize, steps: usize) -> Vec<Option<f64>> {
        let naive = recording.last_before(origin);
        let scale = if self == Self::Profile { level(recording, origin) } else { None };
        let at = |place: usize| match self {
            Self::Naive => naive,
            Self::Day => recording.season_before(place, origin, recording.day).or(naive),
            Self::Week => recording.season_before(place, origin, 7 * recording.day).or(naive),
            Self::Profile => scale.and_then(|scale| Some(scale * profile(recording, place, origin)?)).or(naive),
        };
        (origin..origin + steps).map(at).collect()
    }
}

/// Mean of a slot of the day over the seven days before the origin. For slots before the origin those seven days hold the slot itself.
fn profile(recording: &Recording, place: usize, origin: usize) -> Option<f64> {
    let newest = (place + 1).saturating_sub(origin).div_ceil(recording.day);
    let days = (newest..newest + 7).map(|back| back * recording.day);
    let known: Vec<f64> = days.filter_map(|back| recording.value(place.checked_sub(back)?)).collect();
    super::mean(&known)
}

/// The load of the last hour over that of the profile's last hour.
fn level(recording: &Recording, origin: usize) -> Option<f64> {
    let hour = origin.saturating_sub(recording.hour)..origin;
    let pairs: Vec<(f64, f64)> = hour.filter_map(|place| recording.value(place).zip(profile(recording, place, origin))).collect();
    let (now, usual): (f64, f64) = pairs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    if pairs.is_empty() {
        None
    } else if usual > 0.0 {
        Some((now / usual).clamp(SCALE_BOUNDS.0, SCALE_BOUNDS.1))
    } else {
        Some(1.0)
    }
}
