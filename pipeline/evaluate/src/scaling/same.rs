//! The bar, read literally: a baseline as it was calibrated, without hindsight on the test part, against what the model needs to break
//! the promise in exactly as many minutes.

use std::fmt::Write;

use serde::Serialize;

use super::report::{Case, PolicyCase, median, percent};
use super::trial::Outcome;

/// A baseline as calibrated, and the model at the same violations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Same {
    /// Replica-hours of the baseline at the setting of its training part, in one run.
    pub hours: f64,
    /// Share of the minutes that it violates there.
    pub violations: f64,
    /// Replica-hours of the model at that share, in a run with the same random numbers. None when even the most careful price of its
    /// grid violates more.
    pub model_hours: Option<f64>,
}

/// What that comes to against one baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SameSummary {
    /// Which baseline.
    pub policy: &'static str,
    /// Median share of replica-hours saved where the baseline kept the allowed share of violations, and how many cases that are.
    pub kept: (Option<f64>, usize),
    /// The same where it violated more than allowed.
    pub broke: (Option<f64>, usize),
    /// The same of all cases.
    pub all: (Option<f64>, usize),
    /// Cases without a comparison: the model's grid does not reach so few violations.
    pub out_of_reach: Vec<(String, f64)>,
    /// Cases in which the baseline needs fewer: series, start-up, share that the model needs more.
    pub lost: Vec<(String, f64, f64)>,
}

// === impl Same ===

impl Same {
    /// A baseline's run; the model's follows.
    pub(super) fn of(outcome: &Outcome) -> Self {
        Self { hours: outcome.hours, violations: outcome.violations, model_hours: None }
    }

    /// Share of replica-hours that the model saves.
    #[must_use]
    pub fn saving(&self) -> Option<f64> {
        Some(1.0 - self.model_hours? / self.hours)
    }
}

// === impl SameSummary ===

impl SameSummary {
    /// One per baseline, in the order of the cases.
    pub(super) fn all(cases: &[Case]) -> Vec<Self> {
        let baselines = cases.first().map(|case| case.policies.as_slice()).unwrap_or_default();
        baselines.iter().filter(|baseline| baseline.same.is_some()).map(|baseline| Self::of(baseline.policy, cases)).collect()
    }

    fn of(policy: &'static str, cases: &[Case]) -> Self {
        let mut summary = Self { policy, ..Self::default() };
        let (mut kept, mut broke) = (Vec::new(), Vec::new());
        for case in cases {
            let Some(same) = case.policies.iter().find(|other| other.policy == policy).and_then(|other| other.same) else { continue };
            let Some(saving) = same.saving() else {
                summary.out_of_reach.push((case.series.clone(), case.startup));
                continue;
            };
            if same.violations <= case.allowed {
                kept.push(saving)
            } else {
                broke.push(saving)
            }
            if saving < 0.0 {
                summary.lost.push((case.series.clone(), case.startup, -saving));
            }
        }
        summary.kept = (median(kept.clone()), kept.len());
        summary.broke = (median(broke.clone()), broke.len());
        kept.append(&mut broke);
        summary.all = (median(kept.clone()), kept.len());
        summary
    }

    /// Lines for people.
    pub(super) fn text(&self) -> String {
        let known = |saving: Option<f64>| saving.map_or_else(|| "unknown".to_owned(), percent);
        let mut out = format!(
            "  against {}: {} in {} cases, {} in the {} where it kept the allowed share, {} in the {} where it broke it\n",
            self.policy,
            known(self.all.0),
            self.all.1,
            known(self.kept.0),
            self.kept.1,
            known(self.broke.0),
            self.broke.1
        );
        for (series, startup) in &self.out_of_reach {
            let _ = writeln!(out, "    no comparison: {series} with {startup:.0} s, the model's grid does not reach so few violations");
        }
        for (series, startup, loss) in &self.lost {
            let _ = writeln!(out, "    lost: {series} with {startup:.0} s, by {}", percent(*loss));
        }
        out
    }
}

/// The table for people, and what it comes to.
pub(super) fn text(cases: &[Case], summaries: &[SameSummary]) -> String {
    let mut out = String::from(
        "\nBaselines as calibrated against the model at the same violated minutes (hours relative to the oracle: baseline, model;\n\
         violated minutes; * more than allowed)\n",
    );
    for case in cases {
        let _ = write!(out, "{:<21} {:>4.0} s", case.series, case.startup);
        for PolicyCase { policy, same, .. } in &case.policies {
            let Some(same) = same else { continue };
            let model = same.model_hours.map_or_else(|| "-".to_owned(), |hours| format!("{:.3}", hours / case.oracle_hours));
            let star = if same.violations > case.allowed { "*" } else { " " };
            let (hours, share) = (same.hours / case.oracle_hours, same.violations * 100.0);
            let saved = same.saving().map_or_else(|| "-".to_owned(), percent);
            let _ = write!(out, "   {policy} {hours:.3} {model:>6} {share:>5.2} %{star} {saved:>7}");
        }
        out += "\n";
    }
    out += "as calibrated, at the same violated minutes, median saving\n";
    summaries.iter().for_each(|summary| out += &summary.text());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(series: &str, same: Same) -> Case {
        let policy = |policy, same| PolicyCase {
            policy,
            setting: String::new(),
            hours_at_level: None,
            careful_hours: 0.0,
            careful_violations: 0.0,
            hours: 0.0,
            violations: 0.0,
            paced: None,
            actions: 0.0,
            oscillations: 0.0,
            same,
        };
        let policies = vec![policy("tracescale", None), policy("hpa", Some(same))];
        Case { series: series.to_owned(), startup: 30.0, test_minutes: 1.0, allowed: 0.01, oracle_hours: 1.0, static_hours: 2.0, policies }
    }

    /// Guarantees: what a baseline that kept the promise costs is told apart from what one that broke it does; what has no comparison
    /// is named and no number; losses are named.
    #[test]
    fn kept_broken_and_out_of_reach() {
        let same = |hours, violations, model_hours| Same { hours, violations, model_hours };
        let cases = [
            case("kept", same(10.0, 0.002, Some(8.0))),
            case("lost", same(10.0, 0.0, Some(11.0))),
            case("broke", same(10.0, 0.2, Some(5.0))),
            case("far", same(10.0, 0.0, None)),
        ];
        let all = SameSummary::all(&cases);
        let [hpa] = all.as_slice() else { unreachable!() };
        assert!((hpa.kept.0.unwrap() - 0.05).abs() < 1e-9 && hpa.kept.1 == 2, "{hpa:?}");
        assert!((hpa.broke.0.unwrap() - 0.5).abs() < 1e-9 && hpa.broke.1 == 1);
        assert!((hpa.all.0.unwrap() - 0.2).abs() < 1e-9 && hpa.all.1 == 3, "{hpa:?}");
        assert_eq!(hpa.out_of_reach, [("far".to_owned(), 30.0)]);
        assert!(hpa.lost.len() == 1 && hpa.lost[0].0 == "lost" && (hpa.lost[0].2 - 0.1).abs() < 1e-9);
        let text = text(&cases, &all);
        assert!(text.contains("20.00 %*") && text.contains("no comparison: far") && text.contains("lost: lost"), "{text}");
    }
}
