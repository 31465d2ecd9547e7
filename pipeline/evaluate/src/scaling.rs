//! Scaling on recorded series: the model against calibrated HPA, KPA and KEDA.
#![allow(missing_docs, clippy::all, unused)]
mod candidates;
mod trial;
mod workload;

use std::time::Duration;
use std::time::Instant;
use tracescale_core::time::Timestamp;
use workload::Workload;

fn read_nab(path: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(format!("/work/shared/data/load/{path}")).unwrap_or_default();
    text.lines().skip(1).filter_map(|l| l.split(',').nth(1)?.parse().ok()).collect()
}
fn read_nasa() -> Vec<f64> {
    let text = std::fs::read_to_string("/work/shared/data/load/nasa-http/nasa.csv").unwrap_or_default();
    let t0 = chrono::NaiveDateTime::parse_from_str("1995-07-01 00:00:00", "%Y-%m-%d %H:%M:%S").unwrap();
    let mut v = Vec::new();
    for l in text.lines().skip(1) {
        let mut p = l.split(',');
        let t = chrono::NaiveDateTime::parse_from_str(p.next().unwrap(), "%Y-%m-%d %H:%M:%S").unwrap();
        let m = ((t - t0).num_minutes()) as usize;
        if v.len() <= m { v.resize(m + 1, 0.0); }
        v[m] = p.next().unwrap().parse().unwrap();
    }
    v
}
fn read_lines(path: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(format!("/work/shared/data/load/{path}")).unwrap_or_default();
    text.lines().filter_map(|l| l.trim_end_matches(';').split(',').last()?.parse().ok()).collect()
}
fn loads() -> Vec<Workload> {
    let m = trial::monday();
    let s = Duration::from_secs;
    let mut v = vec![
        Workload::new("nasa", m, s(60), &read_nasa()),
        Workload::new("elb", m, s(300), &read_nab("nab/realAWSCloudwatch/elb_request_count_8c0756.csv")),
        Workload::new("taxi", m, s(1800), &read_nab("nab/realKnownCause/nyc_taxi.csv")),
        Workload::new("wiki", m, s(3600), &read_lines("limbo/wikipedia_trace.txt")),
        Workload::new("taylor", m, s(1800), &read_lines("taylor/taylor.csv")),
        Workload::new("at-diurnal", m, s(24), &read_lines("autothrottle/diurnal.txt")),
        Workload::new("at-bursty", m, s(24), &read_lines("autothrottle/bursty.txt")),
    ];
    for c in ["AMZN", "GOOG", "FB", "UPS"] {
        v.push(Workload::new(&format!("tw-{c}"), m, s(300), &read_nab(&format!("nab/realTweets/Twitter_volume_{c}.csv"))));
    }
    v.into_iter().flatten().collect()
}

pub fn explore() {
    let mut bench = trial::Bench::new();
    let only = std::env::args().nth(1);
    for load in loads() {
        if only.as_ref().is_some_and(|o| !load.name.contains(o.as_str())) { continue; }
        for startup in [30.0, 120.0, 600.0] {
            let t = Instant::now();
            let oracle = bench.oracle(&load, load.test, startup + 60.0);
            println!("{} D={startup}: oracle {:.1} static {:.1}", load.name, oracle, bench.constant(&load, load.test));
            for (name, f, knobs, others) in [
                ("hpa", candidates::hpa as fn(f64, usize) -> _, &candidates::HPA[..], 2),
                ("kpa", candidates::kpa, &candidates::KPA[..], 4),
                ("keda", candidates::keda, &candidates::KEDA[..], 2),
            ] {
                for other in 0..others {
                    let mut line = String::new();
                    for knob in knobs {
                        let o = bench.run(&load, load.test, startup, 1, f(*knob, other).build()).unwrap();
                        line += &format!(" {:.2}/{:.2}", o.hours / oracle, o.violations * 100.0);
                    }
                    println!("  {name}{other}:{line}");
                }
            }
            println!("   {} runs so far, {:?}", bench.runs, t.elapsed());
        }
    }
}
