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

/// Guarantees: from the spans of one trace come the visits, the time without calls, and what a call waited outside of its
/// server; its critical path gives that wait to the server.
#[test]
fn figures_of_one_trace() {
    let text = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration\n\
                t,a,root,front-1-x,/,1000000000,11000000000,0\n\
                t,b,a,front-1-x,call,2000000000,9000000000,0\n\
                t,c,b,back-1-y,work,7000000000,8000000000,0\n";
    let spans = traces::Spans::read(&table::Table::new(PathBuf::from("inline"), text.to_owned()).unwrap()).unwrap();
    let window = spans.window();
    let front = window.service("front").unwrap();
    assert_eq!((front.requests, front.sojourn, front.self_time), (1.0, Some(10.0), Some(3.0)));
    let edge = &window.edges[0];
    assert_eq!((edge.client.as_str(), edge.server.as_str(), edge.wait, edge.wait_floor), ("front", "back", Some(6.0), Some(6.0)));
    let path = &spans.paths()[0];
    assert_eq!((path.services["front"], path.services["back"]), (3.0, 7.0));
    assert_eq!(spans.windows(2).iter().map(|window| window.services.len()).sum::<usize>(), 2);
    let broken = table::Table::new(PathBuf::from("inline"), text.replace("7000000000", "soon")).unwrap();
    assert!(traces::Spans::read(&broken).err().unwrap().to_string().contains("inline line 4: \"soon\""));
}

/// Guarantees: to be sent again, spans are sorted into their traces and know their side of a call; an id that is none is told.
#[test]
fn sides_of_recorded_spans() {
    let text = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration\n\
                2,1,root,front-1-x,/,2000,3000,0\n\
                1,c,b,back-1-y,work,1700,1800,0\n\
                1,a,root,front-1-x,/,1000,1900,0\n\
                1,b,a,front-1-x,call,1200,1900,0\n\
                1,d,c,back-1-y,query,1710,1720,0\n";
    let table = |text: String| table::Table::new(PathBuf::from("inline"), text).unwrap();
    let traces = recording::traces(&table(text.to_owned())).unwrap();
    assert_eq!(traces.iter().map(|trace| (trace.id, trace.start, trace.spans.len())).collect::<Vec<_>>(), [(1, 1000, 4), (2, 2000, 1)]);
    let sides: Vec<(u64, Side, &str)> = traces[0].spans.iter().map(|span| (span.id, span.side, span.service())).collect();
    let (front, back) = ("front", "back");
    assert_eq!(sides, [(12, Side::Server, back), (10, Side::Server, front), (11, Side::Client, front), (13, Side::Internal, back)]);
    let error = recording::traces(&table(text.replace("1,d,c", "1,x,c"))).unwrap_err();
    assert!(error.to_string().contains("inline line 6: \"x\" is no id"), "{error}");
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
