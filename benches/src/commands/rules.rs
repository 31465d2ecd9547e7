//! One evaluation of the default rule for thousands of targets, and a decision for each: the code that production runs.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tracescale::rules::{self, Evaluator};
use tracescale_benches::body::Template;
use tracescale_benches::generate::{Attributes, BASE, TraceGenerator, TraceShape, service_name};
use tracescale_benches::measure::{Elapsed, Spread, Stopwatch, Table, float};
use tracescale_core::capacity::Observed;
use tracescale_core::decide::{Action, Decider};
use tracescale_core::target::{ServiceSelector, TargetName, TargetSpec};
use tracescale_core::time::Timestamp;
use tracescale_documents::RuleSpec;
use tracescale_ingest::decode::{Declared, Encoding, Signal, decode};
use tracescale_queries::{Engine, EngineConfig, Snapshot, judgement, shipped, streams};

/// Arguments of `rules`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Targets, each with a service of its own.
    #[arg(long, default_value_t = 10_000)]
    targets: usize,
    /// Measured rounds; one more is a warm-up.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// A rule that ships.
const RULES: [(&str, &str); 2] = [
    ("observe (default)", include_str!("../../../queries/rules/observe.yaml")),
    ("concurrency", include_str!("../../../queries/rules/concurrency.yaml")),
];
const SERVICES_PER_SYSTEM: usize = 8;
const SPANS_PER_SYSTEM: usize = 256;
/// Long enough that final windows exist beside provisional ones.
const SECONDS: u64 = 80;
/// Slide of the shipped views, seconds.
const SLIDE: u64 = 5;

pub(crate) fn run(args: &Args) -> Result<()> {
    println!("rules: {} targets, {} rounds, one thread\n", args.targets, args.rounds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let now = BASE + Duration::from_secs(SECONDS);
    let (snapshot, emitting) = runtime.block_on(snapshot(args.targets))?;
    let targets = targets(args.targets)?;
    let mut table = Table::new(&[
        "rule",
        "targets table ms",
        "query and rows ms",
        "decide ms",
        "all ms (wall)",
        "first, with planning",
        "changes decided",
    ]);
    for (name, yaml) in RULES {
        let rule = parse(yaml)?;
        let (mut build, mut query, mut decide, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut evaluator = Evaluator::default();
        let (mut first, mut changes) = (0.0, 0);
        for round in 0..=args.rounds {
            let times = runtime.block_on(evaluate(&mut evaluator, &rule, &snapshot, &targets, now))?;
            changes = times.changes;
            let total = millis(times.build.wall + times.query.wall + times.decide.wall);
            if round == 0 {
                first = total;
            } else {
                build.push(millis(times.build.cpu));
                query.push(millis(times.query.cpu));
                decide.push(millis(times.decide.cpu));
                all.push(total);
            }
        }
        table.row(&[
            &name,
            &Spread::of(&build),
            &Spread::of(&query),
            &Spread::of(&decide),
            &Spread::of(&all),
            &format!("{first:.0}"),
            &changes,
        ]);
    }
    println!("{table}");
    println!("The engine emits every shipped view for these services in {:.0} ms per slide of {SLIDE} s.", millis(emitting.cpu));
    Ok(())
}

struct Times {
    build: Elapsed,
    query: Elapsed,
    decide: Elapsed,
    changes: usize,
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn parse(yaml: &str) -> Result<RuleSpec> {
    let documents = tracescale_documents::parse("rule", yaml).map_err(|problems| anyhow!("{problems:?}"))?;
    documents.rules.into_iter().next().map(|(_, rule)| rule).context("no rule")
}

fn targets(count: usize) -> Result<Vec<(TargetSpec, Observed)>> {
    (0..count)
        .map(|index| {
            let name = service_name(index);
            let spec =
                TargetSpec::in_memory(TargetName::try_new(&name)?, ServiceSelector { service_name: name, service_namespace: None }, 3);
            let observed = Observed::replicas(3, Some(3), BASE + Duration::from_secs(SECONDS));
            Ok((spec, observed))
        })
        .collect()
}

/// Views with a row for every service, provisional and final.
async fn snapshot(services: usize) -> Result<(Snapshot, Elapsed)> {
    let config = EngineConfig { max_groups_per_view: services * 2, ..EngineConfig::default() };
    let mut engine = Engine::with_parts(config, shipped::parts(&streams::Config::default(), &judgement::Settings::default(), Vec::new()).0)
        .await
        .map_err(|problems| anyhow!("{problems:?}"))?;
    let mut emitting = Elapsed::default();
    let systems = services.div_ceil(SERVICES_PER_SYSTEM);
    let mut templates = Vec::with_capacity(systems);
    for system in 0..systems {
        let shape = TraceShape {
            seed: system as u64,
            first_service: system * SERVICES_PER_SYSTEM,
            services: SERVICES_PER_SYSTEM,
            instances: 1,
            spans: SPANS_PER_SYSTEM,
            attributes: Attributes::Six,
        };
        templates.push(Template::new(&TraceGenerator::new(shape).request(BASE, Duration::ZERO), BASE)?);
    }
    // Every system reports every 20 seconds, at a second of its own.
    for second in 0..SECONDS {
        let at = BASE + Duration::from_secs(second);
        for (system, template) in templates.iter().enumerate().filter(|(system, _)| *system as u64 % 20 == second % 20) {
            let decoded = decode(Signal::Traces, Encoding::Protobuf, &template.render(at, second), at, &Declared::default())?;
            engine.push(&format!("10.0.{}.{}", system / 256, system % 256), decoded.batches, at).await?;
        }
        let watch = Stopwatch::start();
        engine.advance(at + Duration::from_secs(1)).await?;
        if second >= SECONDS - SLIDE {
            emitting += watch.elapsed();
        }
    }
    Ok((engine.tables(), emitting))
}

async fn evaluate(
    evaluator: &mut Evaluator,
    rule: &RuleSpec,
    snapshot: &Snapshot,
    targets: &[(TargetSpec, Observed)],
    now: Timestamp,
) -> Result<Times> {
    let watch = Stopwatch::start();
    let rows = rules::targets_table(&targets.iter().map(|(spec, observed)| (spec, Some(observed), 1, 100)));
    let build = watch.elapsed();

    let watch = Stopwatch::start();
    let answers = evaluator.evaluate(rule, snapshot, rows, now).await.context("a shipped rule fails")?;
    let query = watch.elapsed();
    ensure!(answers.proposals.len() == targets.len(), "{} of {} targets have a proposal", answers.proposals.len(), targets.len());

    let mut decider = Decider::new();
    let rule = [rule.reference()];
    let mut changes = 0;
    let mut answered = 0;
    let watch = Stopwatch::start();
    for (spec, observed) in targets {
        let proposals = answers.proposals.get(&spec.name).map_or(&[][..], Vec::as_slice);
        let decision = decider.decide(now, spec, &Ok(observed.clone()), &rule, proposals);
        answered += usize::from(decision.proposed.is_some());
        changes += usize::from(matches!(decision.action, Action::ScaleUp | Action::ScaleDown));
    }
    let decide = watch.elapsed();
    ensure!(float(answered as u64) > 0.9 * float(targets.len() as u64), "only {answered} decisions rest on a demand");
    Ok(Times { build, query, decide, changes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the measured rules parse.
    #[test]
    fn rules_parse() {
        for (name, yaml) in RULES {
            assert!(parse(yaml).is_ok(), "{name}");
        }
    }
}
