//! What the evaluation found, for people and for machines.

use std::fmt::Write;

use serde::Serialize;

use super::case::{Calm, Case};

/// Cases of one kind of data.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    /// Which data.
    pub title: String,
    /// Labelled faults.
    pub cases: Vec<Case>,
    /// Windows without a fault.
    pub calm: Calm,
    /// The same cases with other limits of utilization.
    pub sensitivity: Vec<Sensitivity>,
    /// What the critical paths of the minute say, against those of the calm minute.
    pub paths: Vec<String>,
}

/// What another limit of utilization would have made of the cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// Utilization that counts as safe.
    pub safe_utilization: f64,
    /// Right and wrong.
    pub score: Score,
    /// Scale-outs in windows without a listed fault.
    pub calm_alarms: usize,
}

/// All sections.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One per kind of data.
    pub sections: Vec<Section>,
}

/// Right and wrong over some cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Labelled lacks of capacity.
    pub capacity: usize,
    /// Of these, how often the right service was named first.
    pub found: usize,
    /// Of these, how often it would have been scaled out.
    pub scaled: usize,
    /// Of these, how often the service with the most own time, the highest utilization, the largest growth was right.
    pub naive: [usize; 3],
    /// Faults that capacity does not cure.
    pub negatives: usize,
    /// Of these, how many would have scaled something out.
    pub scaled_negatives: usize,
    /// Of these, in how many a rule "above 70 % utilization" would have.
    pub naive_negatives: usize,
    /// Of these, how often the right service was named first.
    pub found_negatives: usize,
    /// Lacks of capacity for which (also) a wrong service would have been scaled out.
    pub wrong_service: usize,
}

// === impl Section ===

impl Section {
    /// Right and wrong over its cases.
    #[must_use]
    pub fn score(&self) -> Score {
        let count = |wanted: &dyn Fn(&Case) -> bool| self.cases.iter().filter(|case| wanted(case)).count();
        let is = |named: &Option<String>, case: &Case| case.is_capacity && named.as_deref() == Some(case.service.as_str());
        Score {
            capacity: count(&|case| case.is_capacity),
            found: count(&|case| case.is_capacity && case.is_found()),
            scaled: count(&|case| case.is_capacity && case.scale_outs.contains(&case.service)),
            naive: [
                count(&|case| is(&case.naive.self_time, case)),
                count(&|case| is(&case.naive.utilization, case)),
                count(&|case| is(&case.naive.growth, case)),
            ],
            negatives: count(&|case| !case.is_capacity),
            scaled_negatives: count(&|case| !case.is_capacity && !case.scale_outs.is_empty()),
            naive_negatives: count(&|case| !case.is_capacity && case.above_70_percent),
            found_negatives: count(&|case| !case.is_capacity && case.is_found()),
            wrong_service: count(&|case| case.is_capacity && case.wrong_scale_outs() > 0),
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "## {}", self.title)?;
        for case in &self.cases {
            let mark = match (case.is_capacity, case.is_found(), case.wrong_scale_outs()) {
                (_, _, 1..) => "WRONG SCALE-OUT",
                (true, false, _) => "MISSED",
                (true, true, _) => "found",
                (false, ..) => "not scaled",
            };
            let (said, kind) = (case.said.as_deref().unwrap_or("nobody"), case.kind.unwrap_or("nothing"));
            write!(out, "{mark:<15} {} {} at {}: {said}, {kind} ({})", case.name, case.fault, case.service, case.why)?;
            for more in case.missed.iter().chain(&case.front_door) {
                write!(out, "; {more}")?;
            }
            writeln!(out)?;
        }
        for path in &self.paths {
            writeln!(out, "critical paths  {path}")?;
        }
        for other in &self.sensitivity {
            writeln!(
                out,
                "at {:.2} safe     {} of {} named first, {} scaled out, {} of {} negatives and {} calm windows with a scale-out",
                other.safe_utilization,
                other.score.found,
                other.score.capacity,
                other.score.scaled,
                other.score.scaled_negatives,
                other.score.negatives,
                other.calm_alarms
            )?;
        }
        for alarm in &self.calm.alarms {
            writeln!(out, "UNLISTED        {} {} ({})", alarm.at, alarm.service, alarm.why)?;
        }
        let (score, calm) = (self.score(), &self.calm);
        let [own, busy, growth] = score.naive;
        writeln!(
            out,
            "capacity faults: {} of {} named first, {} scaled out, {} with a wrong scale-out (naive: self time {own}, utilization \
             {busy}, latency growth {growth})",
            score.found, score.capacity, score.scaled, score.wrong_service
        )?;
        writeln!(
            out,
            "negatives: {} of {} with a scale-out ({} by a rule above 70 %), {} with the right service named; windows without a listed fault: {} of {} with \
             a scale-out, {} with any name, {} with the front door blocked, {} above 70 % utilization\n",
            score.scaled_negatives,
            score.negatives,
            score.naive_negatives,
            score.found_negatives,
            calm.alarms.len(),
            calm.windows,
            calm.named,
            calm.blocked,
            calm.above_70_percent
        )
    }
}

// === impl Report ===

impl Report {
    /// The report as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for section in &self.sections {
            // Writing to a string cannot fail.
            let _ = section.write(&mut out);
        }
        out
    }
}
