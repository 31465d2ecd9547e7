//! What a target goes without because nothing was promised of it: guards that ask whether requests are slow cannot work without an
//! objective to be slow by, and nobody would miss them until they were needed.

use std::collections::BTreeSet;
use std::fmt;

use tracescale_core::policy::{CauseGuard, Mode};
use tracescale_core::target::{TargetName, TargetSpec};
use tracescale_documents::RuleSpec;

/// A target without an objective, and the guards of its rules that are off for want of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpromised {
    /// The target.
    pub target: TargetName,
    /// The guards, in words.
    pub off: Vec<&'static str>,
}

/// Targets that people were told of, so that they are told once.
#[derive(Debug, Default)]
pub struct Told(BTreeSet<TargetName>);

/// The targets without an objective that have rules whose guards need one.
pub fn all<'a>(targets: &'a [TargetSpec], rules: &'a [RuleSpec]) -> impl Iterator<Item = Unpromised> + 'a {
    let unpromised = targets.iter().filter(|target| target.objective.is_none());
    unpromised.map(|target| Unpromised { target: target.name.clone(), off: off(&target.name, rules) }).filter(|known| !known.off.is_empty())
}

/// Guards that some rule of the target asks for and that need an objective.
fn off(target: &TargetName, rules: &[RuleSpec]) -> Vec<&'static str> {
    let rules = || rules.iter().filter(|rule| rule.mode != Mode::Off && rule.serves(target));
    let controls = || rules().map(|rule| &rule.policy.spec().control);
    let guards = [
        (controls().any(|control| control.cause != CauseGuard::Off), "scale-ups that would not help go on (cause)"),
        (controls().any(|control| control.reactive), "slow requests do not raise capacity (reactive)"),
        (controls().any(|control| control.verify.enabled), "scale-downs that hurt are not taken back (verify)"),
        (
            rules().any(|rule| rule.rollout.as_ref().is_some_and(|rollout| rollout.revert_on.violations)),
            "slow requests do not take a changed rule back (revertOn.violations)",
        ),
    ];
    guards.into_iter().filter_map(|(is_wanted, what)| is_wanted.then_some(what)).collect()
}

// === impl Unpromised ===

impl fmt::Display for Unpromised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, off } = self;
        write!(f, "target {target} has no objective: {}, and it has no plan; hint: set spec.objective.latency", off.join(", "))
    }
}

// === impl Told ===

impl Told {
    /// Logs a line for each target that was not told of yet.
    pub fn tell(&mut self, targets: &[TargetSpec], rules: &[RuleSpec]) {
        self.news(targets, rules).iter().for_each(|known| tracing::info!("{known}"));
    }

    fn news(&mut self, targets: &[TargetSpec], rules: &[RuleSpec]) -> Vec<Unpromised> {
        // Who loses an objective later is told then.
        self.0.retain(|name| targets.iter().any(|target| target.name == *name && target.objective.is_none()));
        all(targets, rules).filter(|known| self.0.insert(known.target.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMISED: &str = "
apiVersion: tracescale.io/v1alpha1
kind: ScalingTarget
metadata: {name: promised}
spec: {memory: {replicas: 1}, objective: {latency: 100ms}}
---
";
    const SILENT: &str = "
apiVersion: tracescale.io/v1alpha1
kind: ScalingTarget
metadata: {name: silent}
spec: {memory: {replicas: 1}}
---
";

    fn documents(text: &str) -> (Vec<TargetSpec>, Vec<RuleSpec>) {
        let documents = tracescale_documents::parse("test", text).unwrap();
        let targets = documents.targets.into_iter().map(|(_, target)| target).collect();
        (targets, documents.rules.into_iter().map(|(_, rule)| rule).collect())
    }

    fn rule(spec: &str) -> String {
        let head = "apiVersion: tracescale.io/v1alpha1\nkind: ScalingRule\nmetadata: {name: load}\n";
        format!("{head}spec: {{sql: SELECT 1, {spec}}}\n")
    }

    fn said(spec: &str) -> Vec<String> {
        let (targets, rules) = documents(&format!("{PROMISED}{SILENT}{}", rule(spec)));
        all(&targets, &rules).map(|known| known.to_string()).collect()
    }

    /// Guarantees: one line for each target without an objective, with the guards that its rules ask for and no others; none where
    /// nothing is lost.
    #[test]
    fn what_is_off_is_said_in_a_line() {
        let said_of = |spec| said(spec).join("\n");
        let all = said_of("policy: {max: 3}");
        assert!(all.starts_with("target silent has no objective: ") && !all.contains('\n'), "{all}");
        assert!(["(cause)", "(reactive)", "(verify)", "hint: set spec.objective.latency"].iter().all(|part| all.contains(part)), "{all}");
        assert!(!all.contains("revertOn"), "{all}");
        assert!(said_of("policy: {max: 3}, rollout: {shadow: 1m}").contains("(revertOn.violations)"));
        let some = said_of("policy: {max: 3, cause: off, reactive: false}");
        assert!(some.contains("(verify)") && !some.contains("(cause)") && !some.contains("(reactive)"), "{some}");
        for nothing_lost in [
            "mode: off, policy: {max: 3}",
            "targets: [promised], policy: {max: 3}",
            "policy: {max: 3, cause: off, reactive: false, verify: {enabled: false}}",
        ] {
            assert_eq!(said_of(nothing_lost), "", "{nothing_lost}");
        }
    }

    /// Guarantees: a target is told of once, however often documents are read, and again when it had an objective meanwhile.
    #[test]
    fn a_target_is_told_of_once() {
        let rule = rule("policy: {max: 3}");
        let (targets, rules) = documents(&format!("{SILENT}{rule}"));
        let (promised, _) = documents(&SILENT.replace("1}}", "1}, objective: {latency: 1s}}"));
        let mut told = Told::default();
        let count = |told: &mut Told, targets: &[TargetSpec]| told.news(targets, &rules).len();
        let counts = [&targets, &targets, &promised, &promised, &targets, &targets].map(|targets| count(&mut told, targets));
        assert_eq!(counts, [1, 0, 0, 0, 1, 0]);
    }
}
