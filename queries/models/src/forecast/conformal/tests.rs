//! Quantiles of made rows.

use super::*;

const NONE: [bool; LEVELS.len()] = [false; LEVELS.len()];
/// A forecast of the usual number: both units are one and a quarter.
const BASE: Base = Base { point: 1.0, usual: 1.0 };

/// Guarantees: without rows the pooled distances stand; of a thousand even ones the order statistics are found.
#[test]
fn order_statistics() {
    let mut conformal = Conformal::new(14.0, 288.0);
    assert!((conformal.uppers(BASE)[3] - (1.0 + 0.5 * 1.25)).abs() < 1e-12);
    for place in 0..1000_u32 {
        // A permutation of 0..1000, so that old and new rows are alike; no level is corrected.
        conformal.learn(BASE, f64::from(place * 7 % 1000) / 1000.0, &LEVELS, &NONE);
        conformal.feedback = Feedback::new(288.0);
    }
    let uppers = conformal.uppers(BASE);
    assert!((uppers[2] - 0.9).abs() < 0.002 && (uppers[4] - 0.99).abs() < 0.002, "{uppers:?}");
}

/// Guarantees: old rows are forgotten, and what is not a number is not learnt.
#[test]
fn bounded_memory() {
    let mut conformal = Conformal::new(1.0, 100.0);
    for place in 0..300_u32 {
        conformal.learn(BASE, if place < 200 { 50.0 } else { 2.0 }, &LEVELS, &NONE);
    }
    conformal.learn(BASE, f64::NAN, &LEVELS, &[true; LEVELS.len()]);
    assert_eq!((conformal.newest.len(), conformal.sorted.0[0].len(), conformal.recent.0[1].last()), (100, 100, Some(&0.8)));
    assert!((conformal.greatest - 2.0).abs() < 1e-9);
}

/// Guarantees: after ten days of less, quantiles up to .95 are of those days alone; the highest still knows of the four weeks.
#[test]
fn newer_rows_tell_of_lower_levels() {
    let mut conformal = Conformal::new(28.0, 24.0);
    for place in 0..28 * 24_u32 {
        let spread = f64::from(place * 7 % 100) / 100.0;
        conformal.learn(BASE, 1.0 + if place < 18 * 24 { 4.0 * spread } else { spread }, &LEVELS, &NONE);
        conformal.feedback = Feedback::new(24.0);
    }
    let uppers = conformal.uppers(BASE);
    assert!((uppers[2] - 1.9).abs() < 0.02 && (uppers[3] - 1.95).abs() < 0.02 && uppers[4] > 4.5, "{uppers:?}");
    assert_eq!((conformal.recent.0[0].len(), conformal.sorted.0[0].len()), (240, 672));
}

/// Guarantees: what came above too often raises a level, too rarely lowers it, and quantiles never cross.
#[test]
fn levels_are_corrected() {
    let mut conformal = Conformal::new(14.0, 48.0);
    for place in 0..600_u32 {
        let (_, levels) = conformal.give(BASE);
        conformal.learn(BASE, 1.0 + f64::from(place % 100) / 100.0, &levels, &[false, false, true, false, false]);
    }
    let levels = conformal.feedback.levels();
    assert!(levels[2] > 1.0 && levels[3] < 0.95, "{levels:?}");
    assert!(conformal.uppers(BASE).is_sorted(), "{:?}", conformal.uppers(BASE));
}

/// Guarantees: what is mostly nothing and rarely much has quantiles as high as what comes, whatever is forecast: in proportion to a
/// forecast of nothing there is no telling, and in proportion to one of much the same would be absurd.
#[test]
fn mostly_nothing() {
    let mut conformal = Conformal::new(28.0, 58.0);
    let mut below = 0;
    for place in 0..3000_u32 {
        // Forecasts of nothing or of twice the usual number, in turn, and both wrong as often.
        let base = Base { point: if place % 2 == 0 { 0.0 } else { 2.0 }, usual: 1.0 };
        let came = if place % 53 < 3 { 20.0 + f64::from(place % 7) } else { 0.0 };
        let (uppers, levels) = conformal.give(base);
        let exceeded = uppers.map(|upper| came > upper);
        below += i32::from(place >= 1000 && !exceeded[4]);
        conformal.learn(base, came, &levels, &exceeded);
        assert!(place < 200 || uppers[4] < 27.0, "{place}: {uppers:?}");
    }
    assert!((f64::from(below) / 2000.0 - 0.99).abs() < 0.01, "{below}");
}
