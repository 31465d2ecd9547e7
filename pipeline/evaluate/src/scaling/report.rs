//! What the comparison found, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::engines::EngineCheck;
use super::learned::LearnedCase;
use super::same::{self, Same, SameSummary};

/// A saving that is worth the name.
const MUCH: f64 = 0.15;

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// One per series and start-up.
    pub cases: Vec<Case>,
    /// Some of the policies in both engines of the simulator.
    pub engines: Vec<EngineCheck>,
    /// Learned knobs against calibrated ones.
    pub learned: Vec<LearnedCase>,
    /// What they come to.
    pub summary: Summary,
}

/// All policies on one series with one start-up.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// Which series.
    pub series: String,
    /// Mean seconds until an ordered replica serves.
    pub startup: f64,
    /// Minutes of the test part.
    pub test_minutes: f64,
    /// Share of the minutes that may break the promise.
    pub allowed: f64,
    /// Replica-hours of one who knows the load until a minute after the start-up, and keeps the promise always.
    pub oracle_hours: f64,
    /// Replica-hours of a constant number that keeps the promise always.
    pub static_hours: f64,
    /// The model first.
    pub policies: Vec<PolicyCase>,
}

/// One policy in one case, on the test part.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCase {
    /// Which policy.
    pub policy: &'static str,
    /// The setting that was chosen on the training part.
    pub setting: String,
    /// Replica-hours at exactly the allowed violations; none when the most careful setting of the grid violates more.
    pub hours_at_level: Option<f64>,
    /// Replica-hours of the most careful setting that was run.
    pub careful_hours: f64,
    /// Share of the minutes that it violates.
    pub careful_violations: f64,
    /// Replica-hours of the chosen setting, over seeds.
    pub hours: f64,
    /// Share of the minutes that it violates.
    pub violations: f64,
    /// Replica-hours and share of violated minutes of the same setting while the allowed share paces its price; the model only.
    pub paced: Option<(f64, f64)>,
    /// Its scale actions.
    pub actions: f64,
    /// Its changes of direction within ten minutes.
    pub oscillations: f64,
    /// As calibrated, beside the model at the same violations; baselines only.
    pub same: Option<Same>,
}

/// What all cases come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Cases in which the model and a baseline reach the allowed violations.
    pub compared: usize,
    /// Cases in which only the model reaches them.
    pub alone: usize,
    /// Cases in which nobody does.
    pub nobody: usize,
    /// Median share of replica-hours that the model saves against the best baseline of each case, at equal violations.
    pub median_saving: Option<f64>,
    /// Cases in which the best baseline is so near the oracle that nobody could save `MUCH` without breaking the promise more.
    pub near_oracle: usize,
    /// Median saving in the other cases.
    pub median_elsewhere: Option<f64>,
    /// Median share of replica-hours that the model saves against the thriftiest baseline as calibrated, its price paced by the
    /// allowed share; violations then differ.
    pub median_as_calibrated: Option<f64>,
    /// Violated share of the minutes in those runs, at the median: model, thriftiest baseline.
    pub violations_as_calibrated: (Option<f64>, Option<f64>),
    /// The same by start-up, in seconds.
    pub median_by_startup: Vec<(f64, Option<f64>)>,
    /// The same against each baseline.
    pub median_by_policy: Vec<(&'static str, Option<f64>)>,
    /// Cases in which a baseline needs fewer: series, start-up, policy, share that the model needs more.
    pub lost: Vec<(String, f64, &'static str, f64)>,
    /// Each baseline as calibrated, against the model at the same violations.
    pub same: Vec<SameSummary>,
}

// === impl Case ===

impl Case {
    fn model(&self) -> Option<&PolicyCase> {
        self.policies.first()
    }

    fn baselines(&self) -> impl Iterator<Item = &PolicyCase> {
        self.policies.iter().skip(1)
    }

    /// Share of replica-hours that the model saves against another at equal violations.
    fn saving(&self, other: &PolicyCase) -> Option<f64> {
        Some(1.0 - self.model()?.hours_at_level? / other.hours_at_level?)
    }

    /// The same against the best baseline.
    #[must_use]
    pub fn saving_against_best(&self) -> Option<f64> {
        self.baselines().filter_map(|other| self.saving(other)).min_by(f64::total_cmp)
    }
}

impl Case {
    /// Share of replica-hours that the oracle saves against the best baseline at the allowed violations.
    fn possible_saving(&self) -> Option<f64> {
        let best = self.baselines().filter_map(|other| other.hours_at_level).min_by(f64::total_cmp)?;
        Some(1.0 - self.oracle_hours / best)
    }

    /// What the model saves with its price paced, and the violations of both, against the thriftiest baseline that broke the promise
    /// in no more than twice the allowed share of the minutes. `None` when none did, or the model did not.
    fn as_calibrated(&self) -> Option<(f64, f64, f64)> {
        let kept = |violations: f64| violations <= 2.0 * self.allowed;
        let (hours, violations) = self.model()?.paced.filter(|(_, violations)| kept(*violations))?;
        let others = self.baselines().filter(|other| kept(other.violations));
        let best = others.min_by(|left, right| left.hours.total_cmp(&right.hours))?;
        Some((1.0 - hours / best.hours, violations, best.violations))
    }
}

// === impl Summary ===

impl Summary {
    fn of(cases: &[Case]) -> Self {
        let mut summary = Self { same: SameSummary::all(cases), ..Self::default() };
        for case in cases {
            let reached = case.model().is_some_and(|model| model.hours_at_level.is_some());
            let others = case.baselines().any(|other| other.hours_at_level.is_some());
            match (reached, others) {
                (true, true) => summary.compared += 1,
                (true, false) => summary.alone += 1,
                (false, false) => summary.nobody += 1,
                (false, true) => {}
            }
            for other in case.baselines() {
                let loss = match case.saving(other) {
                    Some(saving) => -saving,
                    None if !reached && other.hours_at_level.is_some() => f64::INFINITY,
                    None => continue,
                };
                if loss > 0.0 {
                    summary.lost.push((case.series.clone(), case.startup, other.policy, loss));
                }
            }
        }
        let all = |cases: &mut dyn Iterator<Item = &Case>| median(cases.filter_map(Case::saving_against_best).collect());
        summary.median_saving = all(&mut cases.iter());
        let near = |case: &&Case| case.possible_saving().is_some_and(|possible| possible < MUCH);
        summary.near_oracle = cases.iter().filter(near).count();
        summary.median_elsewhere = all(&mut cases.iter().filter(|case| !near(case)));
        let calibrated: Vec<_> = cases.iter().filter_map(Case::as_calibrated).collect();
        summary.median_as_calibrated = median(calibrated.iter().map(|(saving, ..)| *saving).collect());
        let violations = |of: &dyn Fn(&(f64, f64, f64)) -> f64| median(calibrated.iter().map(of).collect());
        summary.violations_as_calibrated = (violations(&|(_, own, _)| *own), violations(&|(.., other)| *other));
        let mut startups: Vec<f64> = cases.iter().map(|case| case.startup).collect();
        startups.sort_by(f64::total_cmp);
        startups.dedup();
        for startup in startups {
            let saving = all(&mut cases.iter().filter(|case| (case.startup - startup).abs() < 1e-9));
            summary.median_by_startup.push((startup, saving));
        }
        let names: Vec<&'static str> = cases.first().map(|case| case.baselines().map(|other| other.policy).collect()).unwrap_or_default();
        for name in names {
            let against = |case: &Case| case.saving(case.baselines().find(|other| other.policy == name)?);
            summary.median_by_policy.push((name, median(cases.iter().filter_map(against).collect())));
        }
        summary
    }
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(0.5 * (upper + values.get(middle.checked_sub(1)?)?)) }
}

// === impl Report ===

impl Report {
    pub(super) fn new(cases: Vec<Case>, engines: Vec<EngineCheck>, learned: Vec<LearnedCase>) -> Self {
        let summary = Summary::of(&cases);
        Self { cases, engines, learned, summary }
    }

    /// Tables for people. Hours are relative to those of the oracle.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::from("Replica-hours at equal violation minutes, relative to an oracle (lower is better)\n");
        out += "series                start    allowed  oracle h  static  tracescale     hpa     kpa    keda   saving against best\n";
        for case in &self.cases {
            let start = format!("{:.0} s", case.startup);
            let allowed = format!("{:.0} %", case.allowed * 100.0);
            let fixed = case.static_hours / case.oracle_hours;
            let _ = write!(out, "{:<21} {start:>6} {allowed:>9} {:>9.0} {fixed:>7.2}", case.series, case.oracle_hours);
            for (place, policy) in case.policies.iter().enumerate() {
                let width = if place == 0 { 11 } else { 7 };
                let text = match policy.hours_at_level {
                    Some(hours) => format!("{:.3}", hours / case.oracle_hours),
                    None => "-".to_owned(),
                };
                let _ = write!(out, " {text:>width$}");
            }
            let _ = writeln!(out, "  {}", case.saving_against_best().map_or_else(|| "-".to_owned(), percent));
        }
        out += "- : violates more than allowed even at the most careful setting of its grid\n\n";
        out += "At the settings chosen on the training part (hours relative to the oracle / violated minutes / actions)\n";
        for case in &self.cases {
            let _ = write!(out, "{:<21} {:>4.0} s", case.series, case.startup);
            for policy in &case.policies {
                let (hours, violations) = (policy.hours / case.oracle_hours, policy.violations * 100.0);
                let _ = write!(out, "   {} {hours:.3} / {violations:.2} % / {:.0}", policy.policy, policy.actions);
                if let Some((hours, violations)) = policy.paced {
                    let _ = write!(out, "   paced {:.3} / {:.2} %", hours / case.oracle_hours, violations * 100.0);
                }
            }
            out += "\n";
        }
        out += &same::text(&self.cases, &self.summary.same);
        out += &self.engines_text();
        out += &self.learned_text();
        out + &self.summary_text()
    }

    fn learned_text(&self) -> String {
        let mut out = String::from(
            "\nKnobs of the model, 120 s start-up: cost in replica-minutes per hour (violated minutes)\n\
             series         test                  calibrated          learned            drawn       prices only\n",
        );
        for case in &self.learned {
            let _ = write!(out, "{:<14} {:<17}", case.series, case.shift);
            for cost in [&case.calibrated, &case.learned, &case.drawn, &case.priced] {
                let _ = write!(out, " {:>10.1} ({:>4})", cost.cost, cost.violation_minutes);
            }
            out += "\n";
        }
        out
    }

    fn engines_text(&self) -> String {
        let mut out = String::from("\nBusiest hours, fluid engine against every single request: hours, violated minutes, actions\n");
        for check in &self.engines {
            let ((fluid, exact), (few, all), (first, second)) = (check.hours, check.violations, check.actions);
            let _ = writeln!(
                out,
                "{:<11} {fluid:>7.1} {exact:>7.1}   {:>6.2} % {:>6.2} %   {first:>5} {second:>5}   {}",
                check.policy,
                few * 100.0,
                all * 100.0,
                check.setting
            );
        }
        out
    }

    fn summary_text(&self) -> String {
        let summary = &self.summary;
        let known = |saving: Option<f64>| saving.map_or_else(|| "unknown".to_owned(), percent);
        let mut out = format!(
            "\n{} cases compared, {} that only the model can do within its grid, {} that nobody can\n",
            summary.compared, summary.alone, summary.nobody
        );
        let _ = writeln!(out, "median saving against the best baseline of each case: {}", known(summary.median_saving));
        let _ = writeln!(
            out,
            "  in {} cases even the oracle would save less than {:.0} %; in the others the median is {}",
            summary.near_oracle,
            MUCH * 100.0,
            known(summary.median_elsewhere)
        );
        let (own, other) = summary.violations_as_calibrated;
        let share = |share: Option<f64>| share.map_or_else(|| "unknown".to_owned(), |share| format!("{:.2} %", share * 100.0));
        let _ = writeln!(
            out,
            "as calibrated, the model with its price paced, against the thriftiest baseline: {} (violated minutes at the median: {} and {})",
            known(summary.median_as_calibrated),
            share(own),
            share(other)
        );
        for (startup, saving) in &summary.median_by_startup {
            let _ = writeln!(out, "  with a start-up of {startup:.0} s: {}", known(*saving));
        }
        for (policy, saving) in &summary.median_by_policy {
            let _ = writeln!(out, "  against {policy}: {}", known(*saving));
        }
        for (series, startup, policy, loss) in &summary.lost {
            let _ = writeln!(out, "lost: {series} with {startup:.0} s against {policy}, by {}", percent(*loss));
        }
        if summary.lost.is_empty() {
            out += "lost: none\n";
        }
        out
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(series: &str, startup: f64, hours: [Option<f64>; 3]) -> Case {
        let policies = ["tracescale", "hpa", "kpa"].into_iter().zip(hours).map(|(policy, hours_at_level)| PolicyCase {
            policy,
            setting: String::new(),
            hours_at_level,
            careful_hours: 0.0,
            careful_violations: 0.0,
            hours: 0.0,
            violations: 0.0,
            paced: None,
            actions: 0.0,
            oscillations: 0.0,
            same: None,
        });
        let policies = policies.collect();
        Case { series: series.to_owned(), startup, test_minutes: 1.0, allowed: 0.01, oracle_hours: 1.0, static_hours: 2.0, policies }
    }

    /// Guarantees: savings are against the best baseline of each case, losses are named, also those of a level never reached.
    #[test]
    fn summary_by_hand() {
        let cases = vec![
            case("a", 30.0, [Some(80.0), Some(100.0), Some(160.0)]),
            case("b", 30.0, [Some(110.0), Some(100.0), None]),
            case("c", 60.0, [Some(90.0), None, Some(100.0)]),
            case("d", 60.0, [Some(1.0), None, None]),
            case("e", 60.0, [None, Some(1.0), None]),
            case("f", 60.0, [None, None, None]),
        ];
        let report = Report::new(cases, Vec::new(), Vec::new());
        let summary = &report.summary;
        assert_eq!((summary.compared, summary.alone, summary.nobody), (3, 1, 1));
        assert!((summary.median_saving.unwrap() - 0.1).abs() < 1e-9);
        assert!((summary.median_by_startup[0].1.unwrap() - 0.05).abs() < 1e-9);
        assert!((summary.median_by_policy[1].1.unwrap() - 0.3).abs() < 1e-9);
        let lost: Vec<_> = summary.lost.iter().map(|(series, _, policy, _)| (series.as_str(), *policy)).collect();
        assert_eq!(lost, [("b", "hpa"), ("e", "hpa")]);
        let text = report.text();
        assert!(text.contains("lost: b with 30 s against hpa, by 10.0 %") && text.contains("20.0 %"), "{text}");
    }
}
