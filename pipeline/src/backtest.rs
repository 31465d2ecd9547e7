//! `tracescale backtest`: rules and other autoscalers over what was recorded, on simulated services and virtual time.

use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use tracescale_core::target::TargetSpec;
use tracescale_core::time::Timestamp;
use tracescale_queries::PastLimits;
use tracescale_simulate::comparison::{Comparison as Report, PolicyResult};
use tracescale_simulate::des::Simulation;
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::fluid::Fluid;
use tracescale_simulate::plant::Plant;
use tracescale_simulate::policy::{self, Policy};
use tracescale_simulate::score::Demand;
use tracescale_simulate::world::{Arrivals, Discipline, Load, Objective, ServiceSpec, World};

use crate::cli::{BacktestArgs, ListenArgs};
use crate::config::Config;
use crate::recorded::{self, Source};
use crate::telemetry::{self as logging, Logs};
use crate::{check, console, keeping};

mod closed;
mod compare;
mod demand;
mod progress;
mod report;
mod telemetry;

use compare::{Comparison, Limits};
use demand::{Work, Workload};
use telemetry::Sender;

/// Which engine simulates services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Load as a fluid: microseconds per step, for days and hundreds of services.
    #[default]
    Fluid,
    /// Each request by itself: exact, a million or two per second.
    Events,
}

/// Everything that is the same for all policies.
struct Setting {
    workload: Workload,
    world: World,
    engine: Engine,
    step: Duration,
    limits: Limits,
    promised: closed::Promised,
}

/// Where nothing is promised: so many times the 95th percentile of a request's work, for 99 % of the requests.
const OBJECTIVE_FACTOR: f64 = 3.0;
/// Replicas that nothing else bounds.
const MAX: u32 = 1000;

/// Runs the command.
///
/// # Errors
/// When the recorded data cannot be read, a comparison cannot be understood, or a file cannot be written.
pub fn main(args: &BacktestArgs) -> anyhow::Result<ExitCode> {
    let _telemetry = logging::init(Logs::Stderr, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let loaded = runtime.block_on(Config::load(&args.rule, &ListenArgs::default(), args.data_dir.clone()));
    let config = match loaded {
        Ok(config) => config,
        Err(problems) => return check::refuse(&problems, args.json),
    };
    runtime.block_on(async {
        let comparisons = Comparison::parse_all(&args.compare)?;
        let setting = setting(args, &config).await?;
        setting.check(&comparisons)?;
        // What is needed for which rate takes a while to find, and is the same for all policies.
        let mut demands: Vec<Demand> = setting.world.services.iter().map(Demand::new).collect();
        let mut policies = Vec::new();
        for comparison in &comparisons {
            policies.extend(other(&setting, &mut demands, comparison, args).await?);
        }
        policies.push(ours(&setting, &mut demands, &config, name_of(args)).await?);
        // What there was, or what people have today, is what the others are measured against: it comes first as asked.
        let report = report::of(&setting, &mut demands, policies);
        write(args, &report)?;
        // A rule that failed decided nothing: its figures are those of a target that was held.
        let failed = report.policies.iter().flat_map(|policy| &policy.failures).any(|failure| failure.starts_with("rule failed"));
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

async fn setting(args: &BacktestArgs, config: &Config) -> anyhow::Result<Setting> {
    let mut workload = match &args.load {
        Some(path) => Workload::from_csv(path, Work { mean: args.service_time.as_secs_f64(), scv: args.scv })?,
        None => {
            let source = match &args.capture {
                Some(capture) => Source::Capture(capture.clone()),
                None => Source::Archive {
                    location: keeping::location(
                        &config.data_dir,
                        args.archive.as_deref().or(config.storage().archive.location.as_deref()),
                    )?,
                    wal_dir: keeping::wal_dir(&config.data_dir),
                    sampling: config.sampling().clone(),
                },
            };
            let past = recorded::open(&source, config, PastLimits::default()).await?;
            Workload::recorded(&past, (args.from, args.to), &sql(args)).await?
        }
    };
    ensure!(workload.from < workload.until, "the load has no length");
    let step = args.step;
    let limits = limits(config);
    let (described, _) = config.specs();
    let world = world(args, &described, &mut workload, limits);
    world.validate()?;
    let objective = args.slo.and_then(|slo| tracescale_core::target::Objective::new(slo.latency, slo.quantile));
    let promised = closed::Promised { objective, servers: NonZeroU32::new(args.servers) };
    Ok(Setting { workload, world, engine: args.engine, step, limits, promised })
}

/// The command that asks what is recorded where the load comes from.
fn sql(args: &BacktestArgs) -> String {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let places = [("--capture", path(&args.capture)), ("--archive", args.archive.clone()), ("--data-dir", path(&args.data_dir))];
    let options = places.into_iter().filter_map(|(option, place)| Some(format!(" {option} {}", place?)));
    format!("tracescale sql{}", options.collect::<String>())
}

/// The bounds of the rules: fair for all.
fn limits(config: &Config) -> Limits {
    let (_, rules) = config.specs();
    let min = rules.iter().map(|rule| rule.policy.spec().min).max().unwrap_or(1);
    let max = rules.iter().map(|rule| rule.policy.spec().max).max().unwrap_or(MAX);
    Limits { min, max: max.max(min) }
}

fn world(args: &BacktestArgs, described: &[TargetSpec], workload: &mut Workload, limits: Limits) -> World {
    let discipline = match args.queue {
        Queue::Shared => Discipline::ProcessorSharing { cores: args.servers },
        Queue::Fifo => Discipline::FirstComeFirstServed { slots: args.servers, capacity: None },
    };
    let startup = args.startup.as_secs_f64();
    workload.assumptions.push(format!(
        "A replica has {} server{}, {}, and is ready {} after it was asked for.",
        args.servers,
        if args.servers == 1 { "" } else { "s" },
        match args.queue {
            Queue::Shared => "shared by all its requests",
            Queue::Fifo => "which take requests in their order",
        },
        tracescale_core::duration::format(args.startup)
    ));
    if args.slo.is_none() {
        workload.assumptions.push(format!(
            "Nothing was promised: each service counts as slow above {OBJECTIVE_FACTOR} times the 95th percentile of its work, for more than 1 % of a minute's requests."
        ));
    }
    if described.iter().any(|target| target.workers.is_some()) {
        let held = "No worker is held while a request waits for others: `spec.workers` of targets is left out. `--queue fifo` with workers as \
                    `--servers` and the time that one is held as `--service-time` comes near to it.";
        workload.assumptions.push(held.to_owned());
    }
    let mut services = Vec::with_capacity(workload.services.len());
    for service in &workload.services {
        let mut spec = ServiceSpec::new(&service.name, discipline, service.work.clone());
        spec.startup = Distribution::Deterministic { value: startup };
        spec.objective = args.slo.map_or_else(
            || Objective { latency: OBJECTIVE_FACTOR * service.work.quantile(0.95), quantile: 0.99 },
            |slo| Objective { latency: slo.latency.as_secs_f64(), quantile: slo.quantile },
        );
        let recorded = service.recorded.first().map(|(_, replicas)| *replicas);
        let needed = Demand::new(&spec).replicas(service.rate.at(workload.from));
        spec.initial_replicas = args.initial.or(recorded).or(needed).unwrap_or(1).clamp(limits.min.max(1), limits.max.max(1));
        services.push(spec);
    }
    let loads = (0..).zip(&workload.services).map(|(service, demand)| Load { service, arrivals: Arrivals::Varying(demand.rate.clone()) });
    World { start: workload.from, seed: args.seed, services, edges: Vec::new(), loads: loads.collect() }
}

/// The rule, by the code of production.
async fn ours(setting: &Setting, demands: &mut [Demand], config: &Config, name: String) -> anyhow::Result<PolicyResult> {
    let mut plant = setting.plant(&name)?;
    let run = closed::run(config, &mut *plant, &setting.senders(), &setting.promised, setting.step, setting.workload.until).await?;
    let note = format!("{} decisions, every {}", run.decisions, tracescale_core::duration::format(setting.step));
    Ok(report::policy(name, note, &*plant, setting, demands, run.warnings))
}

/// Another policy; `None` when it says nothing about any service.
async fn other(
    setting: &Setting,
    demands: &mut [Demand],
    comparison: &Comparison,
    args: &BacktestArgs,
) -> anyhow::Result<Option<PolicyResult>> {
    if let Some(path) = comparison.rule() {
        let loaded = Config::load(&[path.to_owned()], &ListenArgs::default(), args.data_dir.clone()).await;
        let config = loaded.map_err(|problems| {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("comparison {}:\n{}", path.display(), all.join("\n"))
        })?;
        return ours(setting, demands, &config, comparison.name.clone()).await.map(Some);
    }
    let mut plant = setting.plant(&comparison.name)?;
    let mut policies: Vec<Option<Box<dyn Policy>>> = Vec::new();
    let mut without = Vec::new();
    for (demand, spec) in setting.workload.services.iter().zip(&setting.world.services) {
        let baseline = comparison.baseline(demand, spec, setting.limits)?;
        if baseline.is_none() {
            without.push(demand.name.clone());
        }
        policies.push(baseline.map(|baseline| baseline.build()));
    }
    let mut failures = Vec::new();
    if !without.is_empty() {
        failures.push(format!("nothing is known for {}: left at their first replicas", without.join(", ")));
    }
    policy::run(&mut *plant, &mut policies, &policy::Run::new(setting.workload.until, setting.step));
    let note = String::new();
    Ok(Some(report::policy(comparison.name.clone(), note, &*plant, setting, demands, failures)))
}

fn name_of(args: &BacktestArgs) -> String {
    let stem = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    args.rule.first().and_then(stem).unwrap_or_else(|| "observe (shipped)".to_owned())
}

fn write(args: &BacktestArgs, report: &Report) -> anyhow::Result<()> {
    if let Some(path) = &args.out {
        let text =
            if path.extension().is_some_and(|extension| extension == "json") { serde_json::to_string(report)? } else { report.page() };
        fs::write(path, text).with_context(|| format!("report {}", path.display()))?;
    }
    if args.json { console::print_line(&serde_json::to_string(report)?) } else { console::print_line(report.text().trim_end()) }
}

/// How requests share a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Queue {
    /// All at once, each the slower the more there are.
    #[default]
    Shared,
    /// One after the other.
    Fifo,
}

/// A promise: the share `quantile` of the requests within `latency`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// The latency.
    pub latency: Duration,
    /// The share.
    pub quantile: f64,
}

/// Reads `250ms` (99 % of the requests) or `250ms@0.95`.
///
/// # Errors
/// Says what is expected.
pub fn parse_slo(text: &str) -> Result<Slo, String> {
    let (latency, quantile) = text.split_once('@').unwrap_or((text, "0.99"));
    let latency = tracescale_core::duration::parse(latency).map_err(|error| error.to_string())?;
    let quantile: f64 = quantile.parse().map_err(|_| format!("`{quantile}` is no share; expected 250ms@0.99"))?;
    if latency.is_zero() || !(quantile > 0.0 && quantile < 1.0) {
        return Err("expected a latency and a share between 0 and 1, such as 250ms@0.99".to_owned());
    }
    Ok(Slo { latency, quantile })
}

/// Reads a squared coefficient of variation.
///
/// # Errors
/// Says what is expected.
pub fn parse_scv(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|scv| (0.01..=1000.0).contains(scv)).ok_or_else(|| "expected a number from 0.01 to 1000".to_owned())
}

/// Reads the time between two looks.
///
/// # Errors
/// Says what is expected.
pub fn parse_step(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_secs(1)..=Duration::from_secs(3600))
}

/// Reads the work of a request.
///
/// # Errors
/// Says what is expected.
pub fn parse_service_time(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_micros(1)..=Duration::from_secs(3600))
}

fn within(text: &str, range: std::ops::RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = tracescale_core::duration::parse(text).map_err(|error| error.to_string())?;
    let [least, most] = [range.start(), range.end()];
    if range.contains(&duration) { Ok(duration) } else { Err(format!("expected {least:?} to {most:?}")) }
}

/// Reads a time in RFC 3339.
///
/// # Errors
/// Says what is expected.
pub fn time(text: &str) -> Result<Timestamp, String> {
    tracescale_core::schedule::parse_instant(text).ok_or_else(|| format!("`{text}` is no time such as 2026-11-22T10:00:00Z"))
}

// === impl Setting ===

impl Setting {
    /// Whether every policy can be made, before the first one takes its time.
    fn check(&self, comparisons: &[Comparison]) -> anyhow::Result<()> {
        for (demand, spec) in self.workload.services.iter().zip(&self.world.services) {
            comparisons.iter().try_for_each(|comparison| comparison.baseline(demand, spec, self.limits).map(drop))?;
        }
        Ok(())
    }

    /// The simulated services, for a policy of that name.
    fn plant(&self, policy: &str) -> anyhow::Result<Box<dyn Plant>> {
        let plant: Box<dyn Plant> = match self.engine {
            Engine::Fluid => Box::new(Fluid::new(&self.world, self.step)?),
            Engine::Events => Box::new(Simulation::new(&self.world)?),
        };
        Ok(progress::watched(plant, policy, self.workload.until))
    }

    fn senders(&self) -> Vec<Sender> {
        let sender = |service: &demand::ServiceDemand| Sender { service: service.name.clone(), namespace: service.namespace.clone() };
        self.workload.services.iter().map(sender).collect()
    }
}
