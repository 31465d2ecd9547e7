//! Scaling on recorded series: the model against calibrated HPA, KPA and KEDA.
#![allow(missing_docs, clippy::all, unused)]
mod candidates;
mod proto;
mod trial;
mod workload;

use std::time::Duration;
use std::time::Instant;
use std::path::Path;
use tracescale_core::time::Timestamp;
use workload::Workload;

const SERIES: [(&str, i64, u32); 15] = [
    ("nasa", 60, 1), ("elb", 300, 1), ("twitter-amzn", 300, 1), ("twitter-goog", 300, 1), ("twitter-fb", 300, 1), ("twitter-ups", 300, 1),
    ("nyc-taxi", 1800, 1), ("wikipedia", 3600, 1), ("taylor", 1800, 1), ("bike", 3600, 1), ("genai", 3600, 1),
    ("autothrottle-diurnal", 1, 24), ("autothrottle-bursty", 1, 24), ("azure-llm", 15, 1), ("mooncake", 15, 1),
];

fn loads() -> Vec<Workload> {
    let root = Path::new("/work/shared/data");
    SERIES.iter().filter_map(|(name, step, stretch)| {
        let s = crate::load::load(root, name).ok()?;
        let s = s.resample(*step)?;
        let mut last = 0.0;
        let values: Vec<f64> = s.values.iter().map(|v| { last = v.unwrap_or(last); last }).collect();
        Workload::new(name, Timestamp::from_secs(s.start), Duration::from_secs(*step as u64) * *stretch, &values)
    }).collect()
}

fn at_level(points: &[(f64, f64)], level: f64) -> Option<f64> {
    // lower envelope: cheapest hours at violation <= level, linear between neighbouring points of the frontier
    let mut p: Vec<(f64, f64)> = points.to_vec();
    p.sort_by(|a, b| a.0.total_cmp(&b.0));
    // non-dominated, from cheapest
    let mut f: Vec<(f64, f64)> = vec![];
    for x in p { if f.last().is_none_or(|l| x.1 < l.1) { f.push(x); } }
    let place = f.iter().position(|x| x.1 <= level)?;
    if place == 0 { return Some(f[0].0); }
    let (a, b) = (f[place - 1], f[place]);
    Some(b.0 + (a.0 - b.0) * ((level - b.1) / (a.1 - b.1).max(1e-12)))
}

pub fn explore() {
    let mut bench = trial::Bench::new();
    let only = std::env::args().nth(1);
    let mode = std::env::args().nth(2).unwrap_or_default();
    let demand = std::rc::Rc::new(std::cell::RefCell::new(tracescale_simulate::score::Demand::new(&trial::service(30.0))));
    let caps: Vec<f64> = { let mut d = demand.borrow_mut(); (1..=100).map(|r| { let (mut lo, mut hi) = (0.0, 10000.0); for _ in 0..40 { let m = 0.5 * (lo + hi); if d.replicas(m).unwrap_or(1000) > r { hi = m } else { lo = m } } lo }).collect() };
    for load in loads() {
        if only.as_ref().is_some_and(|o| !load.name.contains(o.as_str())) { continue; }
        for startup in [30.0, 120.0, 600.0] {
            let t = Instant::now();
            let part = load.test;
            let oracle = bench.oracle(&load, part, startup + 60.0);
            if mode == "base" {
                let mut line = String::new();
                for (name, f, knobs, others) in [
                    ("hpa", candidates::hpa as fn(f64, usize) -> _, &candidates::HPA[..], 2),
                    ("kpa", candidates::kpa, &candidates::KPA[..], 4),
                    ("keda", candidates::keda, &candidates::KEDA[..], 2),
                ] {
                    let mut best = f64::INFINITY;
                    for other in 0..others {
                        let mut points = vec![];
                        for knob in knobs {
                            let o = bench.run(&load, part, startup, 1, f(*knob, other).build()).unwrap();
                            points.push((o.hours / oracle, o.violations));
                        }
                        best = best.min(at_level(&points, 0.01).unwrap_or(f64::INFINITY));
                    }
                    line += &format!(" {name} {best:.3}");
                }
                println!("{} {startup} oracle {oracle:.0}{line} static {:.2}", load.name, bench.constant(&load, part) / oracle);
                continue;
            }
            let mut line = String::new();
            let none = { let mut m = [false; proto::F]; m[0] = true; m };
            let trend = { let mut m = none; for i in 1..6 { m[i] = true; } m };
            let all = [true; proto::F];
            for (label, mask, local, price, stab) in [("naive", none, false, false, 60.0), ("trend", trend, false, false, 60.0), ("all", all, false, false, 60.0), ("all+local", all, true, false, 60.0), ("all+price", all, false, true, 60.0), ("all+l+p", all, true, true, 60.0), ("a+l+p 0", all, true, true, 0.0), ("a+l+p 300", all, true, true, 300.0)] {
                let mut points = vec![];
                let knobs: &[f64] = if price { &[5.0, 20.0, 50.0, 120.0, 300.0, 1000.0, 4000.0] } else { &[0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.998] };
                for knob in knobs {
                    let o = proto::Options { knob: *knob, mask, local, price, stabilization: stab, days: 4.0 };
                    let p = proto::Proto::new(o, caps.clone(), &load, part.from, startup * 1.3, 1);
                    let o = bench.run(&load, part, startup, 1, Box::new(p)).unwrap();
                    points.push((o.hours / oracle, o.violations));
                }
                line += &format!(" {label} {:.3}", at_level(&points, 0.01).unwrap_or(f64::INFINITY));
                if mode == "v" { println!("   {label} {:?}", points.iter().map(|p| format!("{:.2}/{:.2}", p.0, p.1 * 100.0)).collect::<Vec<_>>()); }
            }
            println!("{} {startup} {line}  {:?}", load.name, t.elapsed());
        }
    }
}
