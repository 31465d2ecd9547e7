//! Which versions of a service were seen of late, to notice a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Timestamp;

/// Versions that are remembered, and for how long after they were last seen: one that comes back later is new.
const VERSIONS_MAX: usize = 16;
const MEMORY: Duration = Duration::from_secs(3600);

/// When each version was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<String, Timestamp>);

// === impl Versions ===

impl Versions {
    /// Takes note of a version that was seen then. Says whether it is new: the first that is seen at all was there before us.
    pub fn see(&mut self, version: &str, at: Timestamp) -> bool {
        self.0.retain(|_, seen| at.since(*seen) < MEMORY);
        let is_new = !self.0.is_empty() && !self.0.contains_key(version);
        let _ = self.0.insert(version.to_owned(), at);
        if self.0.len() > VERSIONS_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, seen)| **seen).map(|(version, _)| version.clone())
        {
            let _ = self.0.remove(&oldest);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the first version is no news, another one is, once, and again after it was away for an hour; memory is bounded.
    #[test]
    fn news() {
        let mut versions = Versions::default();
        let minute = |minute: i64| Timestamp::from_secs(60 * minute);
        let seen = [("1", 0), ("1", 1), ("2", 2), ("1", 2), ("2", 3), ("2", 70), ("1", 71), ("1", 72)];
        let news: Vec<bool> = seen.into_iter().map(|(version, at)| versions.see(version, minute(at))).collect();
        assert_eq!(news, [false, false, true, false, false, false, true, false]);
        (0..100).for_each(|number| assert!(versions.see(&format!("build-{number}"), minute(73))));
        assert!(versions.0.len() <= VERSIONS_MAX);
    }
}
