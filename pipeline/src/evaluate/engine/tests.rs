//! The recorded faults through the engine, where the recordings are at hand.

use std::path::PathBuf;

use super::*;

/// Guarantees: sent as OTLP and cut by the views, the recorded lack of capacity is named in every window, more of it helps once a
/// window is full of it, more of the front door never does, nobody else is scaled out, and calm traffic is blamed on nobody.
#[test]
fn a_recorded_fault_is_judged_live() {
    let Some(root) = std::env::var_os("TRACESCALE_DATA").map(PathBuf::from) else {
        eprintln!("skipped: set TRACESCALE_DATA to the folder of the recorded data");
        return;
    };
    let recordings = causes::recordings(&root).unwrap();
    assert_eq!(recordings.iter().map(|recording| recording.runs.len()).collect::<Vec<_>>(), [3, 3]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let section = runtime.block_on(section(&recordings[0], false, 1)).unwrap();
    let text = section.text();
    for case in &section.cases {
        assert!(case.windows > 5 && case.right == case.windows && case.wrong_scale_outs().next().is_none(), "{text}");
        assert_eq!(case.held.get("currencyservice"), Some(&case.windows), "{text}");
    }
    assert_eq!(section.cases[1].helps.get("currencyservice"), Some(&section.cases[1].windows), "{text}");
    assert!(section.cases[0].helps_after.is_some_and(|after| after < 70.0) && section.cases[1].helps_after.is_none(), "{text}");
    assert_eq!((section.calm.windows, section.calm.named.len(), section.calm.helps.len(), section.calm.held), (48, 0, 0, 0), "{text}");
}

/// Guarantees: a trace is sent as it was recorded: by pod, with its ids, parents, sides and times, once, and calm copies of it are
/// traces of their own.
#[test]
fn recorded_traces_become_requests() {
    let span = |id, parent, pod: &str, side, start, end| causes::RecordedSpan {
        id,
        parent,
        pod: pod.to_owned(),
        operation: "work".to_owned(),
        start,
        end,
        side,
    };
    let second = 1_000_000_000;
    let trace = |id, at: i64| causes::Trace {
        start: at,
        id,
        spans: vec![
            span(1, None, "front-1-x", causes::Side::Server, at, at + second),
            span(2, Some(1), "front-1-x", causes::Side::Client, at + 10, at + 20),
            span(3, Some(2), "back-1-y", causes::Side::Server, at + 12, at + 18),
        ],
    };
    let start = 1_767_600_000 * second;
    let cpu = vec![causes::Cpu { pod: "back-1-y".to_owned(), cores: 0.5, utilization: 0.9 }];
    let minute = causes::Minute {
        at: "08:00".to_owned(),
        fault: "cpu".to_owned(),
        service: "back".to_owned(),
        is_capacity: true,
        end: start + 60 * second,
        traces: vec![trace(7, start)],
        cpu: cpu.clone(),
    };
    let recording = Recording { name: "made", calm: vec![trace(9, 5)], calm_cpu: cpu, runs: vec![vec![minute]] };
    assert_eq!(traffic::front(&recording), "front");
    let mut traffic = Traffic::new(&recording, &recording.runs[0], 1, true);
    assert_eq!(traffic.fault().since(traffic.begin()), Duration::from_secs(60));
    let (mut spans, mut points, mut traces) = (Vec::new(), 0, std::collections::BTreeSet::new());
    while let Some((now, requests)) = traffic.next_second() {
        for (signal, body) in requests {
            let decoded = decode(signal, Encoding::Protobuf, &body, now, &Declared::default()).unwrap();
            assert_eq!(decoded.rejected, 0);
            assert!(decoded.newest_time().is_some_and(|newest| newest <= now && now.since(newest) < Duration::from_secs(1)));
            for (stream, rows) in &decoded.batches {
                let text = |name: &str, row| rows.column_by_name(name).and_then(|column| crate::rows::text(column, row)).unwrap_or("");
                if *stream == tracescale_core::schema::Stream::Metrics {
                    points += rows.num_rows();
                    continue;
                }
                for row in 0..rows.num_rows() {
                    let trace = rows.column_by_name("trace_id").unwrap();
                    traces.insert(arrow::array::AsArray::as_fixed_size_binary(trace).value(row).to_vec());
                    spans.push(format!("{} {}", text("service_instance_id", row), text("kind", row)));
                }
            }
        }
    }
    spans.sort();
    spans.dedup();
    assert_eq!(spans, ["back-1-y SERVER", "front-1-x CLIENT", "front-1-x SERVER"]);
    assert_eq!((traces.len(), points), (7, 2 * (3 + 3)));
}
