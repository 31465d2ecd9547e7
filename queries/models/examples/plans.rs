//! What planners cost: memory after nine days of samples, and the time of what each window makes them do. Argument: how many
//! planners, 200 when absent. Prints one figure a line.

use std::time::Instant;

use tracescale_models::control::{Curve, PeakForecaster, Planner, Settings, Startups, Supply, Window};
use tracescale_models::sizing::{Objective, ServiceTime, Station};

/// Samples of 15 s in nine days.
const SAMPLES: u32 = 9 * 5_760;
const OBJECTIVE: Objective = Objective { latency: 0.5, quantile: 0.99 };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(200), |count| count.parse())?;
    curves();
    let station = station(2.0, 0.4, 1.2).ok_or("no such station")?;
    let before = resident()?;
    let mut planners: Vec<Planner> = (0..count).filter_map(|_| Planner::new(settings(&station), Startups::default())).collect();
    println!("{:<44}{:>10.1} KB", "a new planner", (resident()? - before) / f64::from(count));
    let begin = Instant::now();
    for sample in 1..=SAMPLES {
        planners.iter_mut().zip(0..).for_each(|(planner, service)| planner.observe(&window(service, sample)));
        if sample == 5_760 {
            println!("{:<44}{:>10.2} µs", "observe, first day", micros(begin) / f64::from(count) / f64::from(sample));
        }
    }
    println!("{:<44}{:>10.2} µs", "observe, nine days", micros(begin) / f64::from(count) / f64::from(SAMPLES));
    println!("{:<44}{:>10.1} KB", "a planner after nine days", (resident()? - before) / f64::from(count));
    let supply = Supply { ready: 5, ..Supply::default() };
    let begin = Instant::now();
    let planned = planners.iter().filter_map(|planner| planner.plan(&supply)).map(|plan| f64::from(plan.replicas)).sum::<f64>();
    println!("{:<44}{:>10.2} µs", "plan, the first", micros(begin) / f64::from(count));
    let begin = Instant::now();
    let again = planners.iter().filter_map(|planner| planner.plan(&supply)).map(|plan| f64::from(plan.replicas)).sum::<f64>();
    println!("{:<44}{:>10.2} µs", "plan", micros(begin) / f64::from(count));
    println!("{:<44}{:>10.2} ({:.2})", "replicas, mean", planned / f64::from(count), again / f64::from(count));
    let mut forecaster = PeakForecaster::new(140.0, 0.8).ok_or("no such horizon")?;
    (0..SAMPLES).for_each(|sample| forecaster.observe(Some(rate(0, sample))));
    let begin = Instant::now();
    let other = forecaster.with_horizon(300.0).ok_or("no such horizon")?;
    println!("{:<44}{:>10.2} ms", "another horizon", micros(begin) / 1e3);
    let upper = other.peak().and_then(|peak| peak.quantile(0.99)).unwrap_or_default();
    println!("{:<44}{:>10.2}", "its 99 % quantile", upper);
    Ok(())
}

/// The time to make a curve, and to make one and plan for a dozen replicas' load.
fn curves() {
    println!("{:<44}{:>10}{:>14}", "curve: servers, pooling, scv", "new", "all replicas");
    for servers in [1.0, 2.0, 8.0, 32.0] {
        for pooling in [0.0, 0.4, 1.0] {
            for scv in [0.2, 1.0, 4.0] {
                let Some(station) = station(servers, pooling, scv) else { continue };
                let begin = Instant::now();
                let Some(curve) = Curve::new(&station, &OBJECTIVE, 0.95, 1_000) else { continue };
                let _ = curve.replicas(12.0 * 0.7 * servers / 0.05);
                let few = micros(begin) / 1e3;
                let _ = curve.rate(1_000);
                let name = format!("  {servers}, {pooling}, {scv}");
                println!(
                    "{name:<44}{few:>10.2} ms{:>11.2} ms  rates {:.2} {:.2} {:.2}",
                    micros(begin) / 1e3,
                    curve.rate(2),
                    curve.rate(14),
                    curve.rate(1000)
                );
            }
        }
    }
}

fn station(servers: f64, pooling: f64, scv: f64) -> Option<Station> {
    Some(Station { pooling, ..Station::new(ServiceTime::from_moments(0.05, scv)?, servers) })
}

fn settings(station: &Station) -> Settings {
    Settings {
        objective: OBJECTIVE,
        station: station.clone(),
        utilization_max: 0.95,
        replicas_min: 1,
        replicas_max: 1_000,
        violation_price: 100.0,
        violation_budget: Some(0.01),
        pipeline_delay: 15.0,
        interval: 5.0,
        drain: 60.0,
    }
}

fn window(service: u32, sample: u32) -> Window {
    Window { end: 15.0 * f64::from(sample), arrival_rate: Some(rate(service, sample)), ..Window::default() }
}

/// A day's wave and noise of a tenth.
fn rate(service: u32, sample: u32) -> f64 {
    let day = (f64::from(sample) / 5_760.0 * std::f64::consts::TAU).sin();
    let mixed = (sample ^ service.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b) >> 16;
    (50.0 + f64::from(service % 50)) * (1.5 + day) * (1.0 + f64::from(mixed % 1_000) / 10_000.0)
}

fn micros(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e6
}

/// Kilobytes of memory that the process has in use.
fn resident() -> Result<f64, Box<dyn std::error::Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = statm.split_whitespace().nth(1).ok_or("no such figure")?.parse()?;
    Ok(pages * 4.096)
}
