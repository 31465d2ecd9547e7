//! `tracescale explain`: why a decision is what it is, from its record.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use tracescale_core::decide::{Decision, Demand, Diagnosis, Proposal, Resize, Scalar};
use tracescale_ingest::decode::Declared;
use tracescale_queries::PastLimits;

use crate::archived::DECISIONS;
use crate::cli::ExplainArgs;
use crate::conclusion::Conclusion;
use crate::recorded::{self, Source};
use crate::{console, journal, keeping, rows};

/// Runs the command.
///
/// # Errors
/// When the journal cannot be read or the decision is not in it.
pub fn main(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    if args.replay && args.decision == "all" {
        return replay_all(args);
    }
    let wanted = |decision: &Decision| decision.id.as_str() == args.decision || decision.target.as_str() == args.decision;
    let found = match journal::find(&args.data_dir, wanted).with_context(|| format!("decisions in {}", args.data_dir.display()))? {
        Some(decision) => Some(decision),
        None => archived(args)?,
    };
    let decision = found.with_context(|| {
        format!(
            "no decision or target `{}` in {}; hint: ids are shown by `run --json`, and --data-dir names the directory that `run` wrote to",
            rows::printable(&args.decision, 80),
            args.data_dir.display()
        )
    })?;
    if args.replay {
        return replay(&decision);
    }
    let concluded = |conclusion: &Conclusion| conclusion.concludes == decision.id;
    let conclusion = journal::find(&args.data_dir, concluded).with_context(|| format!("decisions in {}", args.data_dir.display()))?;
    let text = if args.json {
        serde_json::to_string_pretty(&serde_json::json!({"decision": decision, "outcome": conclusion}))?
    } else {
        explain(&decision, conclusion.as_ref())
    };
    console::print_line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// A decision that only the archive still has.
fn archived(args: &ExplainArgs) -> anyhow::Result<Option<Decision>> {
    let location = keeping::location(&args.data_dir, None)?;
    // Decisions are asked for, no spans.
    let source = Source::Archive { location, wal_dir: keeping::wal_dir(&args.data_dir), sampling: Declared::default() };
    let name = args.decision.replace('\'', "''");
    let sql = format!("SELECT record FROM decisions WHERE id = '{name}' OR target = '{name}' ORDER BY at DESC LIMIT 1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let past = recorded::tables(&source, PastLimits::default()).await?;
        if !past.tables().contains_key(DECISIONS) {
            return Ok(None);
        }
        let rows = past.prepare(&sql).await?.collect().await?;
        let record = rows.iter().find(|rows| rows.num_rows() > 0).and_then(|rows| rows::text(rows.column(0), 0));
        record.map(|record| serde_json::from_str(record).context("the archived record")).transpose()
    })
}

/// Makes one decision again.
fn replay(decision: &Decision) -> anyhow::Result<ExitCode> {
    let differences = differences(decision)?;
    if differences.is_empty() {
        console::print_line(&format!("{}: made again from its inputs, it is the same, bit for bit", decision.id))?;
        return Ok(ExitCode::SUCCESS);
    }
    console::print_line(&format!("{}: made again from its inputs, it is another one:\n{}", decision.id, differences.join("\n")))?;
    Ok(ExitCode::FAILURE)
}

/// Makes every decision of the journal again.
fn replay_all(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let (mut same, mut other) = (0_u64, 0_u64);
    let mut failed = Ok(());
    let unreadable = journal::each(&args.data_dir, |decision: Decision| match differences(&decision) {
        Ok(differences) if differences.is_empty() => same += 1,
        Ok(differences) => {
            other += 1;
            if failed.is_ok() {
                failed = console::print_line(&format!("{}:\n{}", decision.id, differences.join("\n")));
            }
        }
        Err(error) => failed = Err(error),
    })
    .with_context(|| format!("decisions in {}", args.data_dir.display()))?;
    failed?;
    console::print_line(&format!("{same} decisions made again from their inputs are the same, bit for bit; {other} are not"))?;
    if unreadable > 0 {
        console::print_line(&format!("{unreadable} lines of the journal cannot be read: torn by a kill, or damaged"))?;
    }
    anyhow::ensure!(same + other > 0, "no decisions in {}", args.data_dir.display());
    Ok(if other == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a decision that is made again is another one: the fields of its record, as they are written.
fn differences(decision: &Decision) -> anyhow::Result<Vec<String>> {
    let (old, new) = (serde_json::to_string(decision)?, serde_json::to_string(&decision.replay())?);
    if old == new {
        return Ok(Vec::new());
    }
    let (old, new): (serde_json::Value, serde_json::Value) = (serde_json::from_str(&old)?, serde_json::from_str(&new)?);
    let fields = old.as_object().into_iter().flatten().filter(|(name, value)| new.get(name.as_str()) != Some(value));
    let fields: Vec<String> = fields.map(|(name, value)| format!("  {name}: was {value}, is {}", new[name.as_str()])).collect();
    Ok(if fields.is_empty() { vec!["  the order of its fields".to_owned()] } else { fields })
}

/// The story of one decision.
#[must_use]
pub fn explain(decision: &Decision, conclusion: Option<&Conclusion>) -> String {
    let mut text = String::new();
    let known = |value: Option<u32>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    let _ = writeln!(text, "decision   {}", decision.id);
    let _ = writeln!(text, "target     {} ({})", decision.target, decision.inputs.target.reference);
    let _ = writeln!(text, "made       {}", decision.at);
    let _ = writeln!(
        text,
        "decided    {}: {} -> {} replicas, {} mode",
        decision.action.as_str(),
        known(decision.current),
        known(decision.desired),
        decision.mode.as_str()
    );
    let _ = writeln!(text, "because    {}", decision.reason);
    if let Some(time) = decision.evidence_time {
        let _ = writeln!(text, "evidence   newest row of {time}, {} ms before the decision", decision.at.since(time).as_millis());
    }
    let _ = writeln!(text, "\nwhat the rules saw");
    for proposal in &decision.inputs.proposals {
        inputs(&mut text, proposal);
    }
    let _ = writeln!(text, "\nwhat became of their answers");
    for considered in &decision.considered {
        let demand = considered.demand.map_or_else(|| "nothing".to_owned(), |demand| format!("{demand:.3} replicas"));
        let _ = writeln!(
            text,
            "  {} (priority {}, {}, {}): asked for {demand}, counts as {}: {}{}",
            considered.rule,
            considered.priority,
            considered.mode.as_str(),
            considered.verdict.as_str().replace('_', " "),
            known(considered.replicas),
            considered.reason,
            detail(&considered.detail),
        );
    }
    let known_of_it = decision.inputs.context.diagnosis.as_ref().map(diagnosed).filter(|figures| !figures.is_empty());
    if let Some(figures) = known_of_it {
        let _ = writeln!(text, "\nwhat is known of the service\n  {figures}");
    }
    let _ = writeln!(text, "\nwhat each guard did");
    for step in &decision.steps {
        let change = if step.before == step.after { "kept".to_owned() } else { format!("{} -> {}", known(step.before), known(step.after)) };
        let _ = writeln!(text, "  {:<14} {change:<14} {}{}", step.guard.to_string(), step.reason, detail(&step.detail));
    }
    if let Some(resize) = &decision.resize {
        resized(&mut text, resize);
    }
    let _ = match (conclusion, decision.capacity()) {
        (Some(conclusion), _) => writeln!(text, "\nwhat became of it\n  {} ({})", conclusion.result, conclusion.at),
        (None, Some(_)) => writeln!(text, "\nwhat became of it\n  not known: the order had no answer when this was written"),
        (None, None) => Ok(()),
    };
    text
}

/// The figures of a diagnosis that are known.
fn diagnosed(diagnosis: &Diagnosis) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let window = tracescale_core::duration::format(diagnosis.window);
    let figures = [
        diagnosis.slow().map(|slow| format!("{} of {} requests over the objective in {window} until {}", slow.bad, slow.all, diagnosis.at)),
        diagnosis.objective.map(|share| format!("{} may be", percent(1.0 - share))),
        diagnosis.errors.map(|errors| format!("{errors} failed")),
        diagnosis.utilization.map(|share| format!("utilization {}", percent(share))),
        diagnosis.cause.as_ref().map(|cause| format!("{} ({}) is behind {} of the delay", cause.service, cause.kind, percent(cause.share))),
        diagnosis.futile.map(|futile| format!("more replicas would {}help", if futile { "not " } else { "" })),
        diagnosis.silent.map(|silent| format!("{} of {} ready replicas are silent", silent.instances, silent.ready)),
        diagnosis.traced.map(|share| format!("spans account for {} of the requests that metrics count", percent(share))),
        diagnosis.deployed_at.map(|at| format!("a new version was first seen at {at}")),
    ];
    figures.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What was decided about each replica's CPU and memory.
fn resized(text: &mut String, resize: &Resize) {
    let rule = resize.rule.as_ref().map_or_else(|| "no rule".to_owned(), |rule| format!("rule {rule}"));
    let _ = writeln!(text, "\nwhat became of CPU and memory of each replica");
    let _ = writeln!(
        text,
        "  {rule}, {} mode: has {}, wished {}, ordered {}: {}{}",
        resize.mode.as_str(),
        resize.current,
        resize.wished,
        resize.desired,
        resize.reason,
        detail(&resize.detail)
    );
    let known = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    for step in &resize.steps {
        let change = if step.before == step.after { "kept".to_owned() } else { format!("{} -> {}", known(step.before), known(step.after)) };
        let _ = writeln!(text, "  {:<14} {change:<12} {}{}", step.resource, step.reason, detail(&step.detail));
    }
}

fn inputs(text: &mut String, proposal: &Proposal) {
    let evidence = &proposal.evidence;
    let demand = match proposal.demand {
        Demand::Replicas(replicas) => format!("{replicas:.3} replicas"),
        Demand::Missing(reason) => format!("no answer ({})", reason.as_str()),
    };
    let kind = match evidence.is_final {
        Some(true) => "final window",
        Some(false) => "provisional window",
        None => "window not stated",
    };
    let end = evidence.window_end.map_or_else(String::new, |end| format!(" ending {end}"));
    let _ = writeln!(text, "  {}: {demand}, {kind}{end}", proposal.rule);
    let figures = [
        ("n_eff", evidence.n_eff),
        ("confidence", evidence.confidence),
        ("completeness", evidence.completeness),
        ("age", evidence.age_seconds),
    ];
    let figures = figures.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value:.3}")));
    let rest = evidence.inputs.iter().map(|(name, value)| format!("{name} {}", scalar(value)));
    let all = figures.chain(rest).collect::<Vec<_>>().join(", ");
    if !all.is_empty() {
        let _ = writeln!(text, "    {all}");
    }
}

fn scalar(value: &Scalar) -> String {
    match value {
        Scalar::Null => "missing".to_owned(),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(value) => value.to_string(),
        Scalar::Float(value) => format!("{value:.6}"),
        Scalar::Text(value) => rows::printable(value, 80),
    }
}

fn detail(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}
