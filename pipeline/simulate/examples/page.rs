//! A day of two services under five autoscalers, as a page, a text and a document, in the directory that is given (or here).

use std::path::PathBuf;
use std::time::Duration;

use tracescale_core::time::Timestamp;
use tracescale_simulate::baseline::Baseline;
use tracescale_simulate::baseline::fixed::Static;
use tracescale_simulate::baseline::hpa::{HpaConfig, HpaMetric};
use tracescale_simulate::baseline::kpa::KpaConfig;
use tracescale_simulate::comparison::{Comparison, PolicyResult, ServiceLoad, ServiceResult};
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::fluid::Fluid;
use tracescale_simulate::plant::Plant;
use tracescale_simulate::policy::{Policy, Run, run};
use tracescale_simulate::scenario::Shape;
use tracescale_simulate::score::{Demand, elasticity};
use tracescale_simulate::series::Series;
use tracescale_simulate::world::{Arrivals, Discipline, Load, Objective, ServiceSpec, World};

const MINUTES: u32 = 1440;
const STEP: Duration = Duration::from_secs(5);
const QUANTILE: f64 = 0.99;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    let comparison = comparison()?;
    std::fs::write(directory.join("comparison.html"), comparison.page())?;
    std::fs::write(directory.join("comparison.txt"), comparison.text())?;
    std::fs::write(directory.join("comparison.json"), serde_json::to_string(&comparison)?)?;
    Ok(())
}

fn service(name: &str, mean: f64, latency: f64, startup: f64) -> ServiceSpec {
    let mut spec = ServiceSpec::new(name, Discipline::ProcessorSharing { cores: 2 }, Distribution::Exponential { mean });
    spec.objective = Objective { latency, quantile: QUANTILE };
    spec.startup = Distribution::Deterministic { value: startup };
    spec.initial_replicas = 8;
    spec
}

fn world() -> (World, Vec<Series>) {
    // Tuesday, 4 March 2025.
    let start = Timestamp::from_secs(1_741_046_400);
    let loads = vec![
        Shape::days(220.0).series(start, MINUTES, 7),
        Shape::FlashCrowd { base: 60.0, factor: 5.0, at: 840 }.series(start, MINUTES, 7),
    ];
    let services = vec![service("checkout", 0.05, 0.5, 20.0), service("search", 0.08, 0.8, 10.0)];
    let load = |(service, series): (u32, &Series)| Load { service, arrivals: Arrivals::Varying(series.clone()) };
    let world = World { start, seed: 7, services, edges: Vec::new(), loads: (0..).zip(&loads).map(load).collect() };
    (world, loads)
}

/// Policies with their notes.
fn policies() -> Vec<(&'static str, &'static str, Baseline)> {
    let cpu = |utilization| {
        Baseline::Hpa(HpaConfig { metrics: vec![HpaMetric::Cpu { utilization, request: 2.0 }], max_replicas: 100, ..HpaConfig::default() })
    };
    let kpa = KpaConfig { capacity: 4.0, min_scale: 2, max_scale: 60, scale_down_delay: Duration::from_secs(600), ..KpaConfig::default() };
    vec![
        ("hpa 70", "CPU at 70 % of 2 cores", cpu(70)),
        ("hpa 50", "CPU at 50 % of 2 cores", cpu(50)),
        ("kpa", "4 requests per replica, 70 % of it, down after 10 min", Baseline::Kpa(kpa)),
        ("static 12", "always 12 replicas", Baseline::Static(Static { replicas: 12 })),
        ("static 30", "always 30 replicas", Baseline::Static(Static { replicas: 30 })),
    ]
}

fn comparison() -> Result<Comparison, Box<dyn std::error::Error>> {
    let (world, loads) = world();
    let (from, until) = (world.start, world.start + Duration::from_secs(60) * MINUTES);
    let mut demands: Vec<Demand> = world.services.iter().map(Demand::new).collect();
    let mut services = Vec::new();
    for ((spec, series), demand) in world.services.iter().zip(&loads).zip(&mut demands) {
        let minute = Duration::from_secs(60);
        services.push(ServiceLoad::sampled(&spec.name, spec.objective, (from, until), minute, demand, |time| series.at(time)));
    }
    let mut results = Vec::new();
    for (name, note, baseline) in policies() {
        let mut plant = Fluid::new(&world, STEP)?;
        let mut autoscalers: Vec<Option<Box<dyn Policy>>> = world.services.iter().map(|_| Some(baseline.build())).collect();
        run(&mut plant, &mut autoscalers, &Run::new(until, STEP));
        let mut found = Vec::new();
        for (place, (series, demand)) in loads.iter().zip(&mut demands).enumerate() {
            let report = plant.report(place);
            let elasticity = elasticity(&report, demand, Duration::from_secs(15), |time| series.at(time));
            found.push(ServiceResult::of(&report, QUANTILE, elasticity));
        }
        results.push(PolicyResult { name: name.to_owned(), note: note.to_owned(), services: found, failures: Vec::new() });
    }
    Ok(Comparison {
        title: "Shop, a day with a crowd".to_owned(),
        from,
        until,
        step: STEP,
        assumptions: vec![
            "Work of a request is exponential; replicas have two cores and share them fairly.".to_owned(),
            "Latency comes from stationary models and the backlog; requests are balanced at random.".to_owned(),
        ],
        services,
        policies: results,
    })
}
