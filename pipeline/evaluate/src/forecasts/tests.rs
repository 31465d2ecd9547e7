//! The evaluator on made and on recorded series.

use std::path::PathBuf;

use super::accuracy::replay;
use super::*;
use crate::load::{Quantity, Series};

/// The data folder, or a message that the test is skipped.
fn data(test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TRACESCALE_DATA").map(PathBuf::from);
    if root.is_none() {
        eprintln!("skipped {test}: TRACESCALE_DATA does not name the data folder");
    }
    root
}

/// Four weeks of a day's wave by the hour, with a busier Monday.
fn made() -> Recording {
    let wave = |hour: u32| {
        let day = f64::from(hour % 24) / 24.0 * std::f64::consts::TAU;
        let busy = if (hour / 24) % 7 == 4 { 1.5 } else { 1.0 };
        Some(busy * (100.0 + 60.0 * day.sin()))
    };
    let values = (0..28 * 24).map(wave).collect();
    Recording::new(Series { name: "made".to_owned(), start: 0, step: 3600, quantity: Quantity::Count, values }).unwrap()
}

/// Guarantees: on a repeated week the week before is exact, and ours, which must first find that out, errs by half of what the others do.
#[test]
fn a_repeated_week() {
    let (accuracy, coverage) = replay(&made()).unwrap();
    let day = accuracy.iter().find(|row| row.horizon == 86_400).unwrap();
    assert!(day.baselines[2].wape < 1e-9 && day.baselines[0].wape > 0.1 && day.ours.wape < 0.5 * day.baselines[3].wape, "{day:?}");
    assert!(coverage.iter().all(|row| row.covered[2] > 0.9), "{coverage:?}");
}

/// Guarantees: origins of the hour are the last seven days, those of the day the last fourteen or a third.
#[test]
fn origins_of_the_protocol() {
    let recording = made();
    assert_eq!((recording.hourly_origins().len(), recording.daily_origins().len()), (7 * 24, 9));
    assert_eq!((recording.hourly_origins()[0], recording.daily_origins().last()), (21 * 24, Some(&(27 * 24))));
}

/// Guarantees: constants chosen on the days before the judged ones have seen nothing of those.
#[test]
fn days_before_the_judged_ones() {
    let recording = made();
    let first = recording.hourly_origins()[0].min(recording.daily_origins()[0]);
    let before = recording.clone().before_judged();
    assert_eq!((before.len(), before.value(0)), (first, recording.value(0)));
    assert_eq!(before.daily_origins().last(), Some(&(first - 24)));
}

/// Guarantees: the pinball loss is that of its definition: what came above costs by the level, what stayed below by the rest.
#[test]
fn pinball_losses() {
    let (_, coverage) = replay(&made()).unwrap();
    for row in coverage {
        // On a repeated week what comes is at most the quantile but for the first busy days, so the loss is near the margin times the rest.
        let margin = (row.width[0] - 1.0).max(0.0) * 0.1;
        assert!(row.pinball.iter().all(|loss| loss.is_finite() && *loss >= 0.0) && row.pinball[0] >= margin - 1e-9, "{row:?}");
    }
}

/// Guarantees: days that are all alike leave nothing to chance; of ten days, one of which is wholly above, a share is within 1.5 points
/// of .9 only where that day is drawn once, as often as that is (0.387); many small days are near their mean.
#[test]
fn what_chance_does() {
    assert!((coverage::by_chance(&[(96, 86); 14]) - 1.0).abs() < 1e-12);
    let mut days = [(96, 96); 10];
    days[3] = (96, 0);
    assert!((coverage::by_chance(&days) - 0.387).abs() < 0.03, "{}", coverage::by_chance(&days));
    let many: Vec<(usize, usize)> = (0..2_000).map(|day| (10, 9 - usize::from(day % 3 == 0))).collect();
    assert!(coverage::by_chance(&many) > 0.9);
}

/// Guarantees: the evaluator finds the data folder's printed scores: its percentages to the last printed digit, its scaled errors
/// within one in a hundred.
#[test]
fn printed_scores_are_found() {
    let Some(root) = data("printed_scores_are_found") else { return };
    for row in reference::reproduce(&root).unwrap() {
        for (printed, found) in row.printed.iter().zip(&row.found) {
            assert!((printed.wape - found.wape).abs() < 0.000_6, "{row:?}");
        }
        assert!(row.scaled_difference() < 0.01, "{row:?}");
    }
}
