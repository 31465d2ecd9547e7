//! Services of which people declared the sampling, under a name that nobody has: what was meant by it goes on counting too little.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use tracescale_core::time::Timestamp;

/// How long requests are waited for, once any were heard of.
const WAIT: Duration = Duration::from_secs(15 * 60);
/// Names that are kept to find what may have been meant.
const NAMES_MAX: usize = 1000;

/// Names that were declared and not heard of yet.
#[derive(Debug, Default)]
pub(super) struct Declared {
    silent: BTreeSet<String>,
    heard: BTreeSet<String>,
    since: Option<Timestamp>,
}

/// Names of services that were declared, and never heard of in a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// All of them, each with the most similar name that was heard of.
    names: Vec<(String, Option<String>)>,
}

// === impl Declared ===

impl Declared {
    pub(super) fn declare(&mut self, services: impl Iterator<Item = String>) {
        self.silent.extend(services);
    }

    /// Takes note of the services that were heard of in the window that ended then.
    pub(super) fn hear<'a>(&mut self, end: Timestamp, services: impl Iterator<Item = &'a str>) -> Option<Unheard> {
        if self.silent.is_empty() {
            return None;
        }
        for name in services {
            let _ = self.silent.remove(name);
            if self.heard.len() < NAMES_MAX && !self.heard.contains(name) {
                let _ = self.heard.insert(name.to_owned());
            }
        }
        let since = *self.since.get_or_insert(end);
        if end.since(since) < WAIT || self.silent.is_empty() {
            return None;
        }
        // They are told once.
        let (silent, heard) = (std::mem::take(&mut self.silent), std::mem::take(&mut self.heard));
        let heard: Vec<&str> = heard.iter().map(String::as_str).collect();
        let similar = |name: &String| tracescale_documents::nearest(name, &heard).map(str::to_owned);
        Some(Unheard { names: silent.into_iter().map(|name| (name.clone(), similar(&name))).collect() })
    }
}

// === impl Unheard ===

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spec.sampling.services names services that no request was heard of in {} minutes: ", WAIT.as_secs() / 60)?;
        for (place, (name, similar)) in self.names.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{name}")?;
            if let Some(similar) = similar {
                write!(f, " (did you mean {similar}?)")?;
            }
        }
        write!(f, "; hint: names are those of service.name, without a namespace")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u32) -> Timestamp {
        Timestamp::from_secs(1_767_600_000 + 60 * i64::from(minute))
    }

    /// Guarantees: a name that nobody has is told once, with one that is like it, after a quarter of an hour of requests of others; so is
    /// each of many; one that is heard of later than others is not, and nothing is while nothing is heard.
    #[test]
    fn what_nobody_is_called_is_told_once() {
        let mut declared = Declared::default();
        declared.declare(["chekout", "cart", "late", "zebra"].map(str::to_owned).into_iter());
        let mut told = Vec::new();
        for minute in 100..140 {
            let heard = ["cart", "checkout"].into_iter().chain((minute == 114).then_some("late"));
            told.extend(declared.hear(at(minute), heard).map(|unheard| (minute, unheard.to_string())));
        }
        let expected = "spec.sampling.services names services that no request was heard of in 15 minutes: chekout (did you mean checkout?), zebra; \
                        hint: names are those of service.name, without a namespace";
        assert_eq!(told, [(115, expected.to_owned())]);
        let many: Vec<String> = (0..9).map(|number| format!("nobody-{number}")).collect();
        declared.declare(many.iter().cloned());
        let told: String =
            (140..160).filter_map(|minute| declared.hear(at(minute), std::iter::once("cart"))).map(|it| it.to_string()).collect();
        assert!(many.iter().all(|name| told.matches(name).count() == 1), "{told}");
        let mut known = Declared::default();
        known.declare(std::iter::once("cart".to_owned()));
        assert!((0..40).all(|minute| known.hear(at(minute), std::iter::once("cart")).is_none()));
    }
}
