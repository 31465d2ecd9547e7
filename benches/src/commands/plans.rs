//! What planners of replicas cost: memory after nine days of samples, and the time of what each window makes them do.

use anyhow::{Context, Result};
use tracescale_benches::measure::{Table, instant};
use tracescale_models::control::{Curve, Planner, Settings, Startups, Supply, Window};
use tracescale_models::sizing::{Objective, ServiceTime, Station};

/// Arguments of `plans`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Planners, each of a service of its own.
    #[arg(long, default_value_t = 200)]
    planners: u32,
}

/// Samples of 15 s in a day, and in all that are learned from.
const DAY: u32 = 5_760;
const SAMPLES: u32 = 9 * DAY;
const OBJECTIVE: Objective = Objective { latency: 0.5, quantile: 0.99 };
const SERVICE_TIME: f64 = 0.05;
/// Load that the first question to a curve is about, in replicas that are always busy.
const LOAD: f64 = 8.4;

pub(crate) fn run(args: &Args) -> Result<()> {
    println!("plans: {} planners, one thread\n\n{}", args.planners, curves());
    let (count, station) = (f64::from(args.planners), station(2.0, 0.4, 1.2).context("no such station")?);
    let mut table = Table::new(&["planners", "each"]);
    let before = resident()?;
    let mut planners: Vec<Planner> = (0..args.planners).filter_map(|_| Planner::new(settings(&station), Startups::default())).collect();
    table.row(&[&"memory of a new one", &format!("{:.1} KB", (resident()? - before) / count)]);
    let begin = instant();
    for sample in 1..=SAMPLES {
        planners.iter_mut().zip(0..).for_each(|(planner, service)| planner.observe(&window(service, sample)));
    }
    table.row(&[&"learning a sample", &format!("{:.2} µs", 1e6 * begin.elapsed().as_secs_f64() / count / f64::from(SAMPLES))]);
    // The first plan finds what replicas can take, and brings outcomes in order; so does one in an hour.
    for name in ["first plan", "plan"] {
        let begin = instant();
        let planned = planners.iter().filter(|planner| planner.plan(&Supply { ready: 5, ..Supply::default() }).is_some()).count();
        table.row(&[&format!("{name} ({planned} have one)"), &format!("{:.2} µs", 1e6 * begin.elapsed().as_secs_f64() / count)]);
    }
    table.row(&[&"memory after nine days", &format!("{:.1} KB", (resident()? - before) / count)]);
    let begin = instant();
    planners.iter_mut().for_each(|planner| planner.set_starts(Startups::said(400.0)));
    table.row(&[&"another start-up", &format!("{:.2} ms", 1e3 * begin.elapsed().as_secs_f64() / count)]);
    println!("{table}");
    Ok(())
}

/// The time to make a curve and to ask it about a load of a dozen replicas, and about as many as it knows.
fn curves() -> Table {
    let mut table = Table::new(&["servers", "pooling", "scv", "a dozen replicas, ms", "a thousand, ms"]);
    for (servers, pooling) in [1.0, 2.0, 8.0, 32.0].into_iter().flat_map(|servers| [(servers, 0.0), (servers, 0.4), (servers, 1.0)]) {
        for scv in [0.2, 1.0, 4.0] {
            let begin = instant();
            let Some(curve) = station(servers, pooling, scv).and_then(|station| Curve::new(&station, &OBJECTIVE, 0.95, 1_000)) else {
                continue;
            };
            let _ = curve.replicas(LOAD * servers / SERVICE_TIME);
            let few = format!("{:.2}", 1e3 * begin.elapsed().as_secs_f64());
            let _ = curve.rate(1_000);
            table.row(&[&servers, &pooling, &scv, &few, &format!("{:.2}", 1e3 * begin.elapsed().as_secs_f64())]);
        }
    }
    table
}

fn station(servers: f64, pooling: f64, scv: f64) -> Option<Station> {
    Some(Station { pooling, ..Station::new(ServiceTime::from_moments(SERVICE_TIME, scv)?, servers) })
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

/// A day's wave and noise of a tenth.
fn window(service: u32, sample: u32) -> Window {
    let day = (f64::from(sample) / f64::from(DAY) * std::f64::consts::TAU).sin();
    let mixed = (sample ^ service.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b) >> 16;
    let rate = (50.0 + f64::from(service % 50)) * (1.5 + day) * (1.0 + f64::from(mixed % 1_000) / 10_000.0);
    Window { end: 15.0 * f64::from(sample), arrival_rate: Some(rate), ..Window::default() }
}

/// Kilobytes of memory that this process has in use.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status cannot be read")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("/proc/self/status says nothing of memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1.024)
}
