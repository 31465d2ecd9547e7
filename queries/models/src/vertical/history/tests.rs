//! What the recommenders guarantee.

use super::*;

const MINUTE: f64 = 60.0;

fn near(got: f64, expected: f64, relative: f64) -> bool {
    (got - expected).abs() <= relative * expected.abs()
}

fn history(settings: Settings) -> UsageHistory {
    UsageHistory::try_new(settings).unwrap()
}

/// `days` of a sample each five minutes: cores by the hour of the day, and memory.
fn fed(settings: Settings, days: i32, cores: impl Fn(i32) -> f64, bytes: f64) -> (UsageHistory, f64) {
    let mut history = history(settings);
    for sample in 0..days * 288 {
        let time = f64::from(sample) * 5.0 * MINUTE;
        assert!(history.observe_cpu(time, cores(sample / 12 % 24), Some(1.0)));
        assert!(history.observe_memory(time, bytes));
    }
    (history, f64::from(days) * DAY)
}

/// Guarantees: bounds widen with the lack of history by the factors of the VPA: 12 hours triple the upper one, a day doubles
/// it, a week adds a seventh; 5 minutes take the lower one to 0.603, half an hour to 0.911.
#[test]
fn bounds_widen_without_history() {
    for (days, factor) in [(0.5, 3.0), (1.0, 2.0), (7.0, 1.143)] {
        assert!((raised(1.0, days) - factor).abs() <= 5e-4, "{days}");
    }
    for (days, factor) in [(5.0 / 1440.0, 0.603), (30.0 / 1440.0, 0.911)] {
        assert!((lowered(1.0, days) - factor).abs() <= 1e-3, "{days}");
    }
}

/// Guarantees: our default asks for the load-adjusted P90 and a tenth, the largest hourly peak and fifteen percent, and a
/// limit of 1.2 requests, to the width of a bucket.
#[test]
fn defaults_are_as_stated() {
    let (history, now) = fed(Settings::ours(), 3, |_| 2.0, 1e9);
    let recommendation = history.recommend(now).unwrap();
    assert!(near(recommendation.cpu_request.unwrap(), 2.2, 0.06), "{recommendation:?}");
    assert!(near(recommendation.memory_request.unwrap(), 1.15e9, 1e-12));
    assert!(near(recommendation.memory_limit.unwrap(), 1.38e9, 1e-12));
    assert!(near(history.confidence(), 3.0, 0.01));
}

/// Guarantees: the VPA's constants give its target: P90 and fifteen percent of both, at least 25 millicores and 250 MB.
#[test]
fn vpa_is_as_in_its_source() {
    let (history, now) = fed(Settings::vpa(), 3, |hour| if hour < 12 { 0.5 } else { 2.0 }, 1e9);
    let recommendation = history.recommend(now).unwrap();
    assert!(near(recommendation.cpu_request.unwrap(), 2.3, 0.06), "{recommendation:?}");
    assert!(near(recommendation.memory_request.unwrap(), 1.15e9, 0.06), "{recommendation:?}");
    assert_eq!(recommendation.memory_limit, None);
    let (small, now) = fed(Settings::vpa(), 1, |_| 0.001, 1e6);
    let recommendation = small.recommend(now).unwrap();
    assert_eq!((recommendation.cpu_request, recommendation.memory_request), (Some(0.025), Some(2.5e8)));
}

/// Guarantees: short busy hours carry the load-adjusted percentile where the plain one overlooks them.
#[test]
fn busy_hours_are_served() {
    let cores = |hour| if hour == 23 { 8.0 } else { 0.05 };
    let ours = fed(Settings::ours(), 3, cores, 1e9);
    let vpa = fed(Settings::vpa(), 3, cores, 1e9);
    let ours = ours.0.recommend(ours.1).unwrap().cpu_request.unwrap();
    let vpa = vpa.0.recommend(vpa.1).unwrap().cpu_request.unwrap();
    assert!(near(ours, 8.8, 0.06) && vpa < 0.1, "{ours} {vpa}");
}

/// Guarantees: a target always lies within its own bounds.
#[test]
fn targets_are_within_their_bounds() {
    for settings in [Settings::ours(), Settings::vpa()] {
        for days in [1, 2, 8] {
            let (history, now) = fed(settings, days, |hour| f64::from(hour) / 10.0, 7e8);
            let made = history.recommend(now).unwrap();
            for (target, lower, upper) in
                [(made.cpu_request, made.lower.cpu, made.upper.cpu), (made.memory_request, made.lower.memory, made.upper.memory)]
            {
                assert!(lower <= target && target <= upper && target.is_some(), "{made:?}");
            }
        }
    }
}

/// Guarantees: a kill raises memory by a fifth and by 100 MB at least, for the week that its peak counts.
#[test]
fn a_kill_raises_memory() {
    let (mut history, now) = fed(Settings::ours(), 8, |_| 1.0, 5e8);
    assert!(history.oom(now, 1e9));
    let asked = |history: &UsageHistory, now| history.recommend(now).unwrap().memory_request.unwrap();
    assert!(near(asked(&history, now), 1.2e9 * 1.15, 1e-12));
    assert!(history.observe_memory(now + 7.5 * DAY, 5e8));
    assert!(near(asked(&history, now + 7.5 * DAY), 5e8 * 1.15, 1e-12));
    assert!(history.oom(now + 7.5 * DAY, 2e8) && near(asked(&history, now + 7.5 * DAY), 5e8 * 1.15, 1e-12));
    assert!(history.oom(now + 7.5 * DAY, 4.5e8) && near(asked(&history, now + 7.5 * DAY), 5.5e8 * 1.15, 1e-12));
    assert!(!history.oom(now, -1.0) && !history.oom(now, f64::NAN) && !history.oom(f64::NAN, 1e9));
}

/// Guarantees: without samples there is no recommendation, and one resource's samples say nothing of the other.
#[test]
fn nothing_observed_nothing_recommended() {
    let mut history = history(Settings::ours());
    assert!(history.recommend(0.0).is_none());
    assert!(!history.observe_cpu(0.0, f64::NAN, None) && !history.observe_memory(0.0, -1.0));
    assert!(history.recommend(0.0).is_none());
    assert!(history.observe_memory(0.0, 1e9));
    let made = history.recommend(0.0).unwrap();
    assert_eq!((made.cpu_request, made.lower.cpu, made.memory_request.is_some()), (None, None, true));
    assert!(UsageHistory::try_new(Settings { peak_count: 0, ..Settings::ours() }).is_none());
}

/// Guarantees: the same observations make the same state again.
#[test]
fn replay_rebuilds_the_state() {
    let cores = |hour: i32| 0.3 + f64::from(hour * hour % 7);
    let (first, now) = fed(Settings::ours(), 9, cores, 6e8);
    let (second, _) = fed(Settings::ours(), 9, cores, 6e8);
    assert_eq!(first, second);
    assert_eq!(first.recommend(now), second.recommend(now));
}
