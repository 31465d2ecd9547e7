//! The evaluation on the recorded data, where they are at hand.

use std::path::PathBuf;

use tracescale_models::cause::SAFE_UTILIZATION;

use super::*;

/// Guarantees: on the recorded faults the bars hold. From the pods' metrics and from PetShop's averages at least 80 % of the
/// lacks of capacity are named first; from Online Boutique's spans alone, all of them; no negative leads to a scale-out in
/// any window, no wrong service is scaled out, and without a listed fault only a service that truly is saturated is.
#[test]
fn the_recorded_faults_are_judged() {
    let Some(root) = std::env::var_os("TRACESCALE_DATA").map(PathBuf::from) else {
        eprintln!("skipped: set TRACESCALE_DATA to the folder of the recorded data");
        return;
    };
    let report = evaluate(&root).unwrap();
    assert_eq!(report.sections.len(), 7);
    for section in &report.sections {
        let score = section.score();
        assert_eq!((score.scaled_negatives, score.wrong_service), (0, 0), "{}", report.text());
        for alarm in &section.calm.alarms {
            assert!(alarm.utilization.is_some_and(|share| share >= SAFE_UTILIZATION), "{alarm:?}");
        }
    }
    let metrics = [0, 3, 6].map(|index| report.sections[index].score());
    let (found, capacity) = metrics.iter().fold((0, 0), |sum, score| (sum.0 + score.found, sum.1 + score.capacity));
    assert!(capacity == 17 && 10 * found >= 8 * capacity, "{}", report.text());
    let spans = report.sections[1].score();
    assert_eq!((spans.capacity, spans.found, spans.scaled, spans.negatives), (3, 3, 3, 1));
    let blocked = "more frontend would not help: currencyservice";
    assert_eq!(report.sections[2].cases[0].front_door.as_deref(), Some(blocked));
    assert!(report.text().lines().count() > 80);
    assert!(serde_json::to_string(&report).unwrap().contains("\"is_capacity\":true"));
}

/// Guarantees: a folder without recordings is an error that names the file.
#[test]
fn a_missing_recording_is_named() {
    let error = evaluate(&PathBuf::from("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

/// Guarantees: pods, clocks and times are read as the recordings write them.
#[test]
fn names_and_times() {
    assert_eq!(traces::service_of("ts-food-service-f5756978c-k8vqf"), "ts-food-service");
    assert_eq!(traces::service_of("frontend"), "frontend");
    assert_eq!(table::seconds("2022-08-22 03:53:54.6 +0000 UTC"), Some(1_661_140_434));
    assert_eq!(table::seconds("yesterday"), None);
    assert_eq!(table::clock(1_661_140_434 / 60), "03:53");
}
