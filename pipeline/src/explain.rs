//! `tracescale explain`: why a decision is what it is, from its record.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use tracescale_core::decide::{Decision, Demand, Proposal, Scalar};

use crate::cli::ExplainArgs;
use crate::conclusion::Conclusion;
use crate::{console, journal, rows};

/// Runs the command.
///
/// # Errors
/// When the journal cannot be read or the decision is not in it.
pub fn main(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let wanted = |decision: &Decision| decision.id.as_str() == args.decision || decision.target.as_str() == args.decision;
    let found = journal::find(&args.data_dir, wanted).with_context(|| format!("decisions in {}", args.data_dir.display()))?;
    let decision = found.with_context(|| {
        format!(
            "no decision or target `{}` in {}; hint: ids are shown by `run --json`, and --data-dir names the directory that `run` wrote to",
            rows::printable(&args.decision, 80),
            args.data_dir.display()
        )
    })?;
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
            "  {} (priority {}, {}): asked for {demand}, counts as {}: {}{}",
            considered.rule,
            considered.priority,
            considered.mode.as_str(),
            known(considered.replicas),
            considered.reason,
            detail(&considered.detail),
        );
    }
    let _ = writeln!(text, "\nwhat each guard did");
    for step in &decision.steps {
        let change = if step.before == step.after { "kept".to_owned() } else { format!("{} -> {}", known(step.before), known(step.after)) };
        let _ = writeln!(text, "  {:<14} {change:<12} {}{}", step.guard, step.reason, detail(&step.detail));
    }
    let _ = match (conclusion, decision.order()) {
        (Some(conclusion), _) => writeln!(text, "\nwhat became of it\n  {} ({})", conclusion.result, conclusion.at),
        (None, Some(_)) => writeln!(text, "\nwhat became of it\n  not known: the order had no answer when this was written"),
        (None, None) => Ok(()),
    };
    text
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
