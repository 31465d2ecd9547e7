//! The forecaster as a whole, on made series.

use super::*;

/// Steps of a made series, in seconds.
const STEP: i64 = 300;
/// Steps of a day.
const PER_DAY: i64 = 288;

/// The same pseudo-random numbers in every run, between -1 and 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}

fn forecaster() -> Forecaster {
    Forecaster::new(Settings::new(STEP, vec![300, 900, 3600])).unwrap()
}

/// Position of a step within its day, 0 to 1.
fn of_day(step: i64) -> f64 {
    f64::from(i32::try_from(step.rem_euclid(PER_DAY)).unwrap()) / 288.0
}

/// A day's wave around 100.
fn wave(step: i64) -> f64 {
    100.0 + 60.0 * (std::f64::consts::TAU * of_day(step)).sin()
}

/// Feeds days of a series and gives the mean relative error of the forecasts an hour ahead on the last day.
fn feed(forecaster: &mut Forecaster, days: i64, value: impl Fn(i64) -> Option<f64>) -> f64 {
    let (mut error, mut sum) = (0.0, 0.0);
    for step in 0..days * PER_DAY {
        assert!(forecaster.observe(step * STEP, value(step)));
        if step >= (days - 1) * PER_DAY
            && let Some(came) = value(step + 12)
        {
            error += (forecaster.forecast(3600).unwrap().point - came).abs();
            sum += came;
        }
    }
    error / sum
}

/// Guarantees: a season of a day is known within three days, and better than by the last value.
#[test]
fn a_season_is_learnt() {
    let mut forecaster = forecaster();
    let error = feed(&mut forecaster, 6, |step| Some(wave(step)));
    let forecast = forecaster.forecast(3600).unwrap();
    assert!(error < 0.02 && forecast.loss < 0.5 && !forecast.changed, "{error} {forecast:?}");
}

/// Guarantees: growth from day to day is followed, although no day before was as busy.
#[test]
fn a_trend_is_followed() {
    let grown = |step: i64| wave(step) * 1.1_f64.powi(i32::try_from(step / PER_DAY).unwrap());
    let error = feed(&mut forecaster(), 14, |step| Some(grown(step)));
    assert!(error < 0.06, "{error}");
}

/// Guarantees: a gap is no zero: forecasts go on through it, ratios learn nothing from it, and after it all is as before.
#[test]
fn a_gap_is_not_zero() {
    let gap = 5 * PER_DAY..5 * PER_DAY + 60;
    let mut forecaster = forecaster();
    let mut within = Vec::new();
    for step in 0..7 * PER_DAY {
        forecaster.observe(step * STEP, (!gap.contains(&step)).then(|| wave(step)));
        if gap.contains(&step) {
            within.push((forecaster.forecast(3600).unwrap().point - wave(step + 12)).abs());
        }
    }
    assert!(within.iter().all(|error| *error < 25.0), "{within:?}");
    let upper = forecaster.forecast(3600).unwrap().upper(0.99).unwrap();
    assert!(upper < 1.2 * wave(7 * PER_DAY + 11), "{upper}");
}

/// Guarantees: zeros of an outage and the recovery after them do not make the upper quantiles explode.
#[test]
fn an_outage_of_zeros_and_its_recovery() {
    let (mut forecaster, mut noise) = (forecaster(), Noise(9));
    let outage = 5 * PER_DAY + 100..5 * PER_DAY + 136;
    let mut highest: f64 = 0.0;
    for step in 0..8 * PER_DAY {
        let came = wave(step) * (1.0 + 0.2 * noise.next());
        forecaster.observe(step * STEP, Some(if outage.contains(&step) { 0.0 } else { came }));
        if step > outage.end {
            let forecast = forecaster.forecast(3600).unwrap();
            highest = highest.max(forecast.upper(0.95).unwrap());
        }
    }
    assert!(highest < 3.0 * 160.0, "{highest}");
    assert!((forecaster.forecast(3600).unwrap().point - wave(8 * PER_DAY + 11)).abs() < 15.0);
}

/// Guarantees: days without any number leave the size of the series known, so that the first numbers after them are judged by it.
#[test]
fn days_without_numbers() {
    let mut forecaster = Forecaster::new(Settings::up_to(STEP, 86_400)).unwrap();
    for step in 0..9 * PER_DAY {
        let missing = (4 * PER_DAY..7 * PER_DAY).contains(&step);
        forecaster.observe(step * STEP, (!missing).then(|| wave(step)));
        if let Some(forecast) = forecaster.forecast(86_400) {
            let upper = forecast.upper(0.99).unwrap();
            assert!(upper.is_finite() && upper >= forecast.point * 0.9 && upper < 2000.0, "{step} {forecast:?}");
        }
    }
}

/// Guarantees: a jump of the level is told within minutes, widens the quantiles, and is over after an hour.
#[test]
fn a_jump_is_told() {
    let (mut forecaster, mut noise) = (forecaster(), Noise(5));
    let jump = 6 * PER_DAY;
    let mut told = None;
    for step in 0..jump + 40 {
        let level = if step >= jump { 4.0 } else { 1.0 };
        forecaster.observe(step * STEP, Some(level * wave(step) * (1.0 + 0.05 * noise.next())));
        let forecast = forecaster.forecast(900).unwrap();
        if step >= jump && forecast.changed && told.is_none() {
            told = Some(step - jump);
        }
        assert!(step < PER_DAY * 3 || step >= jump || !forecast.changed, "told at {step}");
    }
    assert!(told.is_some_and(|steps| steps <= 6), "{told:?}");
    assert!((forecaster.forecast(900).unwrap().point / (4.0 * wave(jump + 42)) - 1.0).abs() < 0.2);
}

/// Guarantees: a series without a season that jumps and stays is forecast on its new level also a day ahead, within two hours; days
/// before the jump do not draw the forecast down, nor does the day after it, when the forecasts from before it are judged.
#[test]
fn a_new_level_is_believed_a_day_ahead() {
    let mut forecaster = Forecaster::new(Settings::up_to(STEP, 86_400)).unwrap();
    let mut noise = Noise(21);
    let jump = 10 * PER_DAY + 70;
    for step in 0..12 * PER_DAY {
        let level = if step >= jump { 250.0 } else { 100.0 };
        forecaster.observe(step * STEP, Some(level * (1.0 + 0.05 * noise.next())));
        if step >= jump + 24 {
            let forecast = forecaster.forecast(86_400).unwrap();
            assert!((forecast.point / 250.0 - 1.0).abs() < 0.1, "{} steps after the jump: {forecast:?}", step - jump);
        }
    }
}

/// Guarantees: what runs by the minute of the hour is forecast by it, also right after it ran.
#[test]
fn jobs_of_the_hour() {
    let mut forecaster = Forecaster::new(Settings::new(STEP, (1..=12).map(|lead| lead * STEP).collect())).unwrap();
    let job = |step: i64| if step % 12 == 5 { 90.0 } else { 10.0 };
    (0..5 * PER_DAY + 6).for_each(|step| assert!(forecaster.observe(step * STEP, Some(job(step)))));
    for lead in 1..=12 {
        let forecast = forecaster.forecast(lead * STEP).unwrap();
        assert!((forecast.point - job(5 * PER_DAY + 5 + lead)).abs() < 1.0, "{lead}: {forecast:?}");
    }
}

/// Guarantees: one wild number, hundreds of times what is usual, is forgotten by all forecasts within the hour, and by those that would
/// look back on it a day and a week later.
#[test]
fn one_wild_number() {
    let (mut forecaster, mut noise) = (Forecaster::new(Settings::up_to(STEP, 86_400)).unwrap(), Noise(8));
    let wild = 9 * PER_DAY + 30;
    let mut worst: f64 = 0.0;
    for step in 0..17 * PER_DAY {
        let came = wave(step) * (1.0 + 0.1 * noise.next());
        forecaster.observe(step * STEP, Some(if step == wild { 400.0 * came } else { came }));
        if step > wild + 12 && step % 7 == 0 {
            let off = |lead: i64| (forecaster.forecast(lead * STEP).unwrap().point / wave(step + lead) - 1.0).abs();
            worst = worst.max(off(12)).max(off(PER_DAY));
        }
    }
    assert!(worst < 0.25, "{worst}");
}

/// Guarantees: a holiday is forecast from the last Sunday, and the day after it is not forecast from the holiday.
#[test]
fn a_holiday_is_like_a_sunday() {
    // Day 3 after the epoch was a Sunday; Sundays and the holiday, a Wednesday, are quiet.
    let holiday = 27;
    let quiet = |day: i64| day.rem_euclid(7) == 3 || day == holiday;
    let value = |step: i64| wave(step) * if quiet(step / PER_DAY) { 0.3 } else { 1.0 };
    let settings = Settings { holidays: vec![holiday], ..Settings::up_to(STEP, 86_400) };
    let mut told = Forecaster::new(settings).unwrap();
    let mut untold = Forecaster::new(Settings::up_to(STEP, 86_400)).unwrap();
    let noon = holiday * PER_DAY - PER_DAY / 2;
    for step in 0..=noon {
        told.observe(step * STEP, Some(value(step)));
        untold.observe(step * STEP, Some(value(step)));
    }
    let came = value(noon + PER_DAY);
    let error = |forecaster: &Forecaster| (forecaster.forecast(86_400).unwrap().point - came).abs();
    assert!(error(&told) < 0.5 * error(&untold), "{} {}", error(&told), error(&untold));
    for step in noon + 1..=noon + PER_DAY {
        told.observe(step * STEP, Some(value(step)));
    }
    let after = told.forecast(86_400).unwrap().point;
    assert!((after / value(noon + 2 * PER_DAY) - 1.0).abs() < 0.2, "{after}");
}

/// Guarantees: clocks that are put forward or back by an hour leave the season where the clock on the wall has it.
#[test]
fn summer_time() {
    let mut forecaster = forecaster();
    let mut wall = 0;
    for elapsed in 0..12 * PER_DAY {
        if elapsed == 5 * PER_DAY + 24 {
            wall += 12;
        }
        if elapsed == 9 * PER_DAY + 36 {
            wall -= 12;
        }
        assert!(forecaster.observe((elapsed + wall) * STEP, Some(wave(elapsed + wall))));
    }
    let forecast = forecaster.forecast(3600).unwrap();
    assert!((forecast.point - wave(12 * PER_DAY + 11)).abs() < 5.0, "{forecast:?}");
    assert!(!forecaster.observe(0, Some(1.0)));
}

/// Guarantees: nothing gives nothing; zeros give zeros; a constant gives itself; no values are never numbers.
#[test]
fn dull_series() {
    let empty = forecaster();
    assert_eq!(empty.forecast(900), None);
    let mut missing = forecaster();
    (0..500).for_each(|step| assert!(missing.observe(step * STEP, [None, Some(f64::NAN), Some(-1.0)][usize::try_from(step % 3).unwrap()])));
    assert_eq!(missing.forecast(900), None);
    let (mut zeros, mut constant) = (forecaster(), forecaster());
    for step in 0..4 * PER_DAY {
        zeros.observe(step * STEP, Some(0.0));
        constant.observe(step * STEP, Some(7.0));
    }
    let (zero, seven) = (zeros.forecast(3600).unwrap(), constant.forecast(3600).unwrap());
    assert!(zero.point.abs() < 1e-9 && zero.upper(0.99).unwrap().abs() < 1e-9, "{zero:?}");
    assert!((seven.point - 7.0).abs() < 1e-4 && (seven.upper(0.95).unwrap() - 7.0).abs() < 0.1, "{seven:?}");
}

/// Guarantees: with one number the last value is forecast, with the pooled quantiles of an unknown series.
#[test]
fn tiny_history() {
    let mut forecaster = forecaster();
    forecaster.observe(0, Some(50.0));
    let forecast = forecaster.forecast(900).unwrap();
    assert_eq!((forecast.model, forecast.changed), ("last value", false));
    assert!((forecast.point - 50.0).abs() < 1e-3);
    let upper = |tau: f64| forecast.upper(tau).unwrap();
    assert!(upper(0.95) > 70.0 && upper(0.95) < 90.0 && upper(0.99) > 95.0);
    assert_eq!((forecast.upper(0.0), forecast.upper(1.0), forecast.upper(f64::NAN)), (None, None, None));
    assert_eq!((forecaster.forecast(0), forecaster.forecast(LEAD_MAX + 1)), (None, None));
}

/// Guarantees: on noise about a season the quantiles cover what they are named for.
#[test]
fn quantiles_cover() {
    let (mut forecaster, mut noise) = (forecaster(), Noise(11));
    let mut waiting = std::collections::VecDeque::new();
    let (mut judged, mut below) = (0.0, [0.0; 3]);
    let levels = [0.9, 0.95, 0.99];
    for step in 0..28 * PER_DAY {
        let came = wave(step) * (1.0 + 0.4 * noise.next() * noise.next());
        forecaster.observe(step * STEP, Some(came));
        if step >= 7 * PER_DAY {
            waiting.push_back((step + 3, levels.map(|level| forecaster.forecast(900).unwrap().upper(level).unwrap())));
        }
        if waiting.front().is_some_and(|(target, _)| *target == step) {
            let (_, uppers) = waiting.pop_front().unwrap();
            judged += 1.0;
            (0..3).for_each(|level| below[level] += if came <= uppers[level] { 1.0 } else { 0.0 });
        }
    }
    for (level, below) in levels.iter().zip(below) {
        assert!((below / judged - level).abs() < 0.015, "{level}: {}", below / judged);
    }
}

/// Guarantees: quantiles cover what they are named for also when nearly all is zero and the rest wild, an hour and a day ahead, and none
/// is ever higher than twice what was seen.
#[test]
fn quantiles_cover_what_is_mostly_nothing() {
    let (mut forecaster, mut noise) = (Forecaster::new(Settings::up_to(STEP, 86_400)).unwrap(), Noise(17));
    let levels = [0.9, 0.95, 0.99];
    let mut waiting = std::collections::VecDeque::new();
    let (mut judged, mut below, mut highest) = ([0.0; 2], [[0.0; 3]; 2], 0.0_f64);
    for step in 0..40 * PER_DAY {
        let came = if noise.next() > 0.7 { 10.0 * noise.next().abs().powi(3) } else { 0.0 };
        forecaster.observe(step * STEP, Some(came));
        if step >= 10 * PER_DAY {
            for (which, lead) in [12, PER_DAY].into_iter().enumerate() {
                let forecast = forecaster.forecast(lead * STEP).unwrap();
                waiting.push_back((which, step + lead, levels.map(|level| forecast.upper(level).unwrap())));
            }
        }
        waiting.retain(|(which, target, uppers)| {
            if *target == step {
                judged[*which] += 1.0;
                (0..3).for_each(|level| below[*which][level] += if came <= uppers[level] { 1.0 } else { 0.0 });
                highest = highest.max(uppers[2]);
            }
            *target > step
        });
    }
    for (judged, below) in judged.into_iter().zip(below) {
        for (level, below) in levels.iter().zip(below) {
            assert!((below / judged - level).abs() < 0.015, "{level}: {}", below / judged);
        }
    }
    assert!(highest <= 20.0, "{highest}");
}

/// Guarantees: the same observations give the same state, so that a state can be had again from a log.
#[test]
fn replay_gives_the_same() {
    let forecasts = || {
        let (mut forecaster, mut noise) = (forecaster(), Noise(3));
        (0..4 * PER_DAY).for_each(|step| assert!(forecaster.observe(step * STEP, Some(wave(step) + 10.0 * noise.next()))));
        forecaster.forecast(900)
    };
    assert_eq!(forecasts(), forecasts());
}

/// Guarantees: leads for a stretch are whole steps, within the horizon, and end with it.
#[test]
fn leads_of_a_stretch() {
    assert_eq!(Settings::up_to(1800, 7200).leads, [1800, 3600, 7200]);
    assert_eq!(Settings::up_to(300, 3600).leads, [300, 900, 1800, 3600]);
    assert!([60, 300, 3600].iter().all(|step| Forecaster::new(Settings::up_to(*step, LEAD_MAX)).is_ok()));
}

/// Guarantees: settings that cannot be are refused with what to do; jumps of the clock over all time are survived.
#[test]
fn impossible_settings_and_times() {
    let refused = |step: i64, leads: Vec<i64>| Forecaster::new(Settings::new(step, leads)).err();
    assert_eq!(refused(7, vec![7]), Some(SettingsError::Step(7)));
    assert_eq!(refused(7200, vec![7200]), Some(SettingsError::Step(7200)));
    assert_eq!((refused(60, vec![]), refused(60, vec![90])), (Some(SettingsError::Leads(0)), Some(SettingsError::Lead(90))));
    assert!(refused(60, vec![LEAD_MAX + 60]).unwrap().to_string().contains("hint"));
    let mut forecaster = forecaster();
    assert!(!forecaster.observe(i64::MIN, Some(1.0)) && !forecaster.observe(i64::MAX, Some(1.0)));
    assert!(forecaster.observe(-1_000_000_000_000_000, Some(1.0)) && forecaster.observe(1_000_000_000_000_000, Some(2.0)));
    assert!(forecaster.forecast(900).is_some_and(|forecast| (forecast.point - 2.0).abs() < 1e-6));
}
