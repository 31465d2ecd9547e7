//! What the engine said of recorded faults, beside what the pure functions say of the same minutes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;
use tracescale_evaluate::causes::{self, Minute};

use super::Said;

/// Faults of one system.
#[derive(Clone, Debug, Serialize)]
pub(in crate::evaluate) struct Section {
    /// Which, and what was sent of it.
    pub(super) title: String,
    /// Its faulty minutes.
    pub(super) cases: Vec<Case>,
    /// Windows without a fault.
    pub(super) calm: Calm,
}

/// A minute of a fault.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Case {
    pub(super) at: String,
    pub(super) fault: String,
    pub(super) service: String,
    pub(super) is_capacity: bool,
    /// Windows in it.
    pub(super) windows: usize,
    /// Those that named anybody, by whom and as what.
    pub(super) named: BTreeMap<String, usize>,
    /// Windows that named the faulty service.
    pub(super) right: usize,
    /// Windows in which more of each service was said to help.
    pub(super) helps: BTreeMap<String, usize>,
    /// Seconds from the run's first trace to the end of the first window of all in which more of the faulty service was said to help.
    pub(super) helps_after: Option<f64>,
    /// Windows in which the front door was held back, by on whose account.
    pub(super) held: BTreeMap<String, usize>,
    /// Whom the pure functions named for the same minute, and as what.
    pub(super) pure: Option<(String, String)>,
}

/// Windows without a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Calm {
    pub(super) windows: usize,
    /// Those that named anybody.
    pub(super) named: BTreeMap<String, usize>,
    /// Windows in which more of any service was said to help.
    pub(super) helps: BTreeMap<String, usize>,
    /// Windows in which the front door was held back.
    pub(super) held: usize,
}

// === impl Section ===

impl Section {
    pub(super) fn new(system: &str, with_cpu: bool) -> Self {
        let with = if with_cpu { "spans and CPU" } else { "spans alone" };
        Self { title: format!("{system}, {with}"), cases: Vec::new(), calm: Calm::default() }
    }

    /// Notes what the pure functions said.
    pub(super) fn compare(&mut self, recorded: &causes::Report) {
        let Some(section) = recorded.sections.iter().find(|section| section.title == self.title) else { return };
        for case in &mut self.cases {
            let pure = section.cases.iter().find(|pure| pure.name == case.at);
            case.pure = pure.and_then(|pure| Some((pure.said.clone()?, pure.kind?.to_owned())));
        }
    }

    /// The section as text.
    pub(in crate::evaluate) fn text(&self) -> String {
        let mut out = format!("## {}, through the engine\n", self.title);
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        for case in &self.cases {
            case.write(out)?;
        }
        let count = |wanted: &dyn Fn(&Case) -> bool| self.cases.iter().filter(|case| wanted(case)).count();
        let calm = &self.calm;
        writeln!(
            out,
            "capacity faults: {} of {} named in most windows with a name ({} by the models alone), {} scaled out, {} with a wrong scale-out",
            count(&|case| case.is_capacity && case.is_found()),
            count(&|case| case.is_capacity),
            count(&|case| case.is_capacity && case.pure.as_ref().is_some_and(|(service, _)| *service == case.service)),
            count(&|case| case.is_capacity && case.helps.contains_key(&case.service)),
            count(&|case| case.is_capacity && case.wrong_scale_outs().next().is_some()),
        )?;
        writeln!(
            out,
            "negatives: {} of {} with a scale-out; windows without a fault: {} of {} with a name{}, {} with the front door held back, with a scale-out{}\n",
            count(&|case| !case.is_capacity && !case.helps.is_empty()),
            count(&|case| !case.is_capacity),
            calm.named.values().sum::<usize>(),
            calm.windows,
            list(&calm.named),
            calm.held,
            if calm.helps.is_empty() { " none".to_owned() } else { list(&calm.helps) },
        )
    }
}

// === impl Case ===

impl Case {
    pub(super) fn new<'s>(minute: &Minute, said: impl Iterator<Item = (Duration, &'s Said)>, front: &str) -> Self {
        let mut case = Self {
            at: minute.at.clone(),
            fault: minute.fault.clone(),
            service: minute.service.clone(),
            is_capacity: minute.is_capacity,
            ..Self::default()
        };
        for (age, said) in said {
            case.windows += 1;
            if let Some((service, kind)) = &said.culprit {
                *case.named.entry(format!("{service}, {kind}")).or_default() += 1;
                case.right += usize::from(*service == minute.service);
            }
            for service in &said.helps {
                *case.helps.entry(service.clone()).or_default() += 1;
            }
            if said.helps.contains(&minute.service) {
                let _ = case.helps_after.get_or_insert(age.as_secs_f64());
            }
            if let Some(blocked_by) = said.futile.get(front) {
                *case.held.entry(blocked_by.clone()).or_default() += 1;
            }
        }
        case
    }

    /// Whether most of the windows that named anybody named the faulty service.
    pub(super) fn is_found(&self) -> bool {
        2 * self.right > self.named.values().sum()
    }

    /// Services that would have been scaled out in vain.
    pub(super) fn wrong_scale_outs(&self) -> impl Iterator<Item = &str> {
        self.helps.keys().map(String::as_str).filter(|service| !self.is_capacity || *service != self.service)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let mark = match (self.wrong_scale_outs().next(), self.is_capacity, self.is_found()) {
            (Some(_), ..) => "WRONG SCALE-OUT",
            (_, true, true) => "found",
            (_, true, false) => "MISSED",
            (_, false, _) => "not scaled",
        };
        writeln!(
            out,
            "{mark:<15} {} {} at {}: rightly named in {} of {} windows{}; more helps{}{}; front door held back{}; models alone: {}",
            self.at,
            self.fault,
            self.service,
            self.right,
            self.windows,
            list(&self.named),
            if self.helps.is_empty() { " nobody".to_owned() } else { list(&self.helps) },
            self.helps_after.map_or_else(String::new, |after| format!(", first {after:.0} s after the fault's first trace")),
            if self.held.is_empty() { " never".to_owned() } else { list(&self.held) },
            self.pure.as_ref().map_or_else(|| "nobody".to_owned(), |(service, kind)| format!("{service}, {kind}")),
        )
    }
}

// === impl Calm ===

impl Calm {
    pub(super) fn add<'s>(&mut self, said: impl Iterator<Item = &'s Said>, front: &str) {
        for said in said {
            self.windows += 1;
            if let Some((service, kind)) = &said.culprit {
                *self.named.entry(format!("{service}, {kind}")).or_default() += 1;
            }
            for service in &said.helps {
                *self.helps.entry(service.clone()).or_default() += 1;
            }
            self.held += usize::from(said.futile.contains_key(front));
        }
    }
}

/// Names with how often, in brackets.
fn list(counts: &BTreeMap<String, usize>) -> String {
    let all: Vec<String> = counts.iter().map(|(name, count)| format!("{name} × {count}")).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join("; ")) }
}
