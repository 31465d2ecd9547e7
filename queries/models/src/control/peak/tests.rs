//! Tests of peak forecasts on made loads.

use super::*;

/// A reproducible number in (0, 1).
fn noise(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    f64::from(u32::try_from(*seed >> 32).unwrap()) / f64::from(u32::MAX)
}

/// A day of 15 s samples of a wave around 500, with steps of a random walk.
fn walk(days: usize, seed: &mut u64) -> Vec<f64> {
    let mut drift = 0.0;
    (0..days * DAY)
        .map(|sample| {
            drift = 0.97 * drift + 0.02 * (noise(seed) - 0.5);
            let angle = std::f64::consts::TAU * real(sample % DAY) / real(DAY);
            500.0 * (1.0 - 0.5 * angle.cos()) * (1.0 + drift)
        })
        .collect()
}

/// Guarantees: in the days after those it learned from, peaks exceed their 95 % quantile in about 5 % of the cases, whatever the
/// horizon.
#[test]
fn quantiles_are_calibrated() {
    for horizon in [60.0, 600.0] {
        let rates = walk(6, &mut 7);
        let mut forecaster = PeakForecaster::new(horizon, 1.0).unwrap();
        let ahead = samples_in(horizon);
        let (mut exceeded, mut judged) = (0.0, 0.0);
        for (place, rate) in rates.iter().enumerate() {
            forecaster.observe(Some(*rate));
            if place < 4 * DAY || place + ahead >= rates.len() {
                continue;
            }
            let upper = forecaster.peak().unwrap().quantile(0.95).unwrap();
            let levels = (place + 2..=place + ahead).map(|at| 0.5 * (rates[at] + rates[at - 1]));
            judged += 1.0;
            exceeded += if levels.fold(0.0, f64::max) > upper { 1.0 } else { 0.0 };
        }
        let share = exceeded / judged;
        assert!((0.03..0.07).contains(&share), "{horizon}: {share}");
    }
}

/// Guarantees: a daily rise is expected: the forecast before it is nearer than the level, and what is exceeded agrees with it.
#[test]
fn seasons_are_expected() {
    let rates = walk(4, &mut 3);
    let mut forecaster = PeakForecaster::new(1800.0, 1.0).unwrap();
    rates[..3 * DAY + DAY / 4].iter().for_each(|rate| forecaster.observe(Some(*rate)));
    let peak = forecaster.peak().unwrap();
    let come = rates[3 * DAY + DAY / 4 + 120];
    let median = peak.quantile(0.5).unwrap();
    assert!((median / come - 1.0).abs() < 0.5 * (peak.level / come - 1.0).abs(), "{median} {come} {}", peak.level);
    let upper = peak.quantile(0.9).unwrap();
    assert!((peak.exceedance(upper) - 0.1).abs() < 0.01 && peak.exceedance(0.0) > 0.99 && peak.exceedance(1e9) < 1e-9);
}

/// Guarantees: before the first sample there is no forecast, after it the prior's; a gap is not learned from; another horizon is
/// learned from the same samples; senseless horizons are refused.
#[test]
fn little_and_no_data() {
    let mut forecaster = PeakForecaster::new(100.0, 1.0).unwrap();
    assert!(forecaster.peak().is_none() && (forecaster.horizon() - 105.0).abs() < 1e-9);
    forecaster.observe(Some(100.0));
    let prior = forecaster.peak().unwrap();
    let upper = prior.quantile(0.95).unwrap() / 100.0;
    assert!(prior.is_prior && (1.2..1.6).contains(&upper) && prior.quantile(1.0).is_none(), "{upper}");
    (0..20).for_each(|_| forecaster.observe(None));
    assert!(forecaster.whole.outcomes() == 0 && (forecaster.peak().unwrap().level - 100.0).abs() < 1e-6);
    walk(1, &mut 1).into_iter().for_each(|rate| forecaster.observe(Some(rate)));
    let other = forecaster.with_horizon(60.0).unwrap();
    assert!(!other.peak().unwrap().is_prior && (other.horizon() - 60.0).abs() < 1e-9);
    assert!(PeakForecaster::new(0.0, 1.0).is_none() && PeakForecaster::new(1e6, 1.0).is_none() && PeakForecaster::new(60.0, 0.0).is_none());
}

/// Guarantees: half an hour of a load is enough to tell a calm one from a restless one, by the prior's weights alone; the calm one
/// needs less reserve than what is assumed of an unseen one, the restless one more.
#[test]
fn short_histories_tell_calm_from_restless() {
    let upper = |change: f64, samples: usize| {
        let mut forecaster = PeakForecaster::new(75.0, 0.8).unwrap();
        for sample in 0..samples {
            let rate = if sample / 8 % 2 == 0 { 400.0 } else { 400.0 * (1.0 + change) };
            forecaster.observe(Some(rate));
        }
        let peak = forecaster.peak().unwrap();
        peak.quantile(0.9).unwrap() / peak.level
    };
    let (calm, unseen, restless) = (upper(0.01, 120), upper(0.0, 1), upper(1.0, 120));
    assert!(calm < 1.1 && calm < unseen && unseen < restless, "{calm} {unseen} {restless}");
}

/// Guarantees: of bursts shorter than the horizon, the whole peak knows that they last a while, and the late one that they are over
/// when an order serves.
#[test]
fn bursts_that_are_over_before_an_order_serves() {
    let mut forecaster = PeakForecaster::new(600.0, 1.0).unwrap();
    // Two minutes in each three quarters of an hour; the last one has just begun.
    let rate = |sample: usize, seed: &mut u64| if sample % 180 < 8 { 900.0 } else { 300.0 } * (1.0 + 0.02 * (noise(seed) - 0.5));
    let mut seed = 11;
    (0..180 * 64 + 3).for_each(|sample| forecaster.observe(Some(rate(sample, &mut seed))));
    let (whole, late) = (forecaster.peak().unwrap(), forecaster.late_peak().unwrap());
    let (lasts, remains) = (whole.exceedance(450.0), late.exceedance(450.0));
    assert!(whole.level > 800.0 && lasts > 0.8 && remains < 0.2, "{lasts} {remains}");
    // What an order reaches and the whole time are nearly the same where replicas start fast.
    let near = PeakForecaster::new(60.0, 1.0).unwrap();
    assert!(near.late.is_none());
}

/// Guarantees: what is seen between two samples moves the forecast at once, as the next sample would, and is not learned from.
#[test]
fn looks_between_samples() {
    let mut forecaster = PeakForecaster::new(75.0, 1.0).unwrap();
    let steady = |forecaster: &mut PeakForecaster| {
        forecaster.look(5.0, Some(200.0));
        forecaster.look(10.0, Some(200.0));
        forecaster.observe(Some(200.0));
    };
    (0..200).for_each(|_| steady(&mut forecaster));
    let (learned, before) = (forecaster.whole.outcomes(), forecaster.peak().unwrap().quantile(0.5).unwrap());
    forecaster.look(5.0, Some(300.0));
    forecaster.look(10.0, Some(400.0));
    forecaster.look(10.0, None);
    let peak = forecaster.peak().unwrap();
    // The mean of the last window and of the one a sample ago.
    assert!((peak.level - 300.0).abs() < 1e-6 && peak.quantile(0.5).unwrap() > 1.4 * before);
    assert_eq!(forecaster.whole.outcomes(), learned);
    (0..100).for_each(|second| forecaster.look(0.6 * f64::from(second), Some(200.0)));
    assert!(forecaster.between.len() <= BETWEEN_MOST);
}

/// Guarantees: another horizon is learned from the last day and a half nearly as from everything, with what weeks ago was like: its
/// forecasts are within a few hundredths of those of a forecaster that looked as far from the beginning.
#[test]
fn another_horizon_is_learned_from_the_last_days() {
    let rates = walk(9, &mut 5);
    let (mut short, mut long) = (PeakForecaster::new(120.0, 1.0).unwrap(), PeakForecaster::new(900.0, 1.0).unwrap());
    for rate in &rates[..8 * DAY + DAY / 4] {
        short.observe(Some(*rate));
        long.observe(Some(*rate));
    }
    let other = short.with_horizon(900.0).unwrap();
    assert_eq!(other.record.features(60)[7].to_bits(), short.record.features(60)[7].to_bits());
    let (found, whole) = (other.peak().unwrap(), long.peak().unwrap());
    assert!(!found.is_prior && (found.level / whole.level - 1.0).abs() < 1e-3);
    for probability in [0.1, 0.5, 0.9, 0.99] {
        let quantile = |peak: &Peak<'_>| peak.quantile(probability).unwrap();
        assert!((quantile(&found) / quantile(&whole) - 1.0).abs() < 0.04, "{probability}: {} {}", quantile(&found), quantile(&whole));
    }
}

/// Guarantees: what is remembered in 16 bits and smoothed says of seasons and of a restless yesterday what the samples said.
#[test]
fn remembers_days_nearly_as_they_were() {
    let rates = walk(8, &mut 9);
    let mut record = Record::new(1.0, 40);
    rates.iter().for_each(|rate| record.push(Some(*rate)));
    let mean = |back: usize, samples: usize| rates[rates.len() - back - samples..rates.len() - back].iter().sum::<f64>() / real(samples);
    let around = |back: usize| (mean(back - 4, 9) + 1.0).ln();
    for (place, season, looks) in [(6, DAY, 4), (7, 7 * DAY, 4), (8, 2 * DAY, 1)] {
        let most = (1..=looks).map(|look| around(season - look * 40 / looks)).fold(f64::NEG_INFINITY, f64::max);
        let found = record.features(40)[place];
        assert!((found - (most - around(season))).abs() < 0.005, "{season}: {found} {}", most - around(season));
    }
    let level = |minute: usize| (mean(DAY - 60 + 4 * minute, 2) + 1.0).ln();
    let restless = 0.002 + (0..15).map(|minute| (level(minute) - level(minute + 1)).abs()).sum::<f64>() / 15.0;
    assert!((record.spread(40)[4] - restless.ln()).abs() < 0.03, "{} {}", record.spread(40)[4], restless.ln());
    assert!((record.features(40)[5] - ((record.level() + 1.0).ln() - (mean(0, 240) + 1.0).ln())).abs() < 1e-6);
}
