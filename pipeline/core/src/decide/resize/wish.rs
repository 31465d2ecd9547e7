//! What a rule wishes each replica had, from the columns of its row.

use serde::{Deserialize, Serialize};

use crate::capacity::Resources;

/// More than any replica has; a larger figure is a slip of the query.
const MOST: f64 = 1e15;

/// The resources that a rule wishes for each replica, and the evidence it wishes them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wish {
    /// What each replica should ask for.
    pub resources: Resources,
    /// What is asked for is too little below these, where the rule says so.
    #[serde(skip_serializing_if = "Resources::is_empty")]
    pub lower: Resources,
    /// What is asked for is too much above these, where the rule says so.
    #[serde(skip_serializing_if = "Resources::is_empty")]
    pub upper: Resources,
    /// Seconds from the last kill for lack of memory to the rule's evaluation; `None` when there was none, or nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_oom_age: Option<u64>,
}

// === impl Wish ===

impl Wish {
    /// The columns: cores, bytes and seconds, as numbers.
    pub const COLUMNS: [&'static str; 8] =
        ["cpu", "memory", "memory_limit", "cpu_lower", "cpu_upper", "memory_lower", "memory_upper", "last_oom_age"];

    /// Reads a row by the names of its columns. A figure that is absent, not positive or no number is no wish. `None` when the
    /// row says nothing at all.
    #[must_use]
    pub fn from_row(column: impl Fn(&str) -> Option<f64>) -> Option<Self> {
        let cores = |name: &str| column(name).and_then(|cores| positive(cores * 1000.0));
        let bytes = |name: &str| column(name).and_then(positive);
        let wish = Self {
            resources: Resources { cpu: cores("cpu"), memory: bytes("memory"), memory_limit: bytes("memory_limit") },
            lower: Resources { cpu: cores("cpu_lower"), memory: bytes("memory_lower"), memory_limit: None },
            upper: Resources { cpu: cores("cpu_upper"), memory: bytes("memory_upper"), memory_limit: None },
            last_oom_age: column("last_oom_age").filter(|age| *age >= 0.0).and_then(|age| whole(age.floor())),
        };
        (wish != Self::default()).then_some(wish)
    }

    /// True when it asks for something, as opposed to telling of a kill only.
    #[must_use]
    pub const fn is_stated(&self) -> bool {
        self.resources.cpu.is_some() || self.resources.memory.is_some()
    }
}

/// A positive figure in whole units, rounded up but not for the noise of floating-point arithmetic.
fn positive(value: f64) -> Option<u64> {
    whole((value - value.abs() * 1e-12).ceil()).filter(|value| *value > 0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and in range")]
fn whole(value: f64) -> Option<u64> {
    (0.0..=MOST).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[(&str, f64)]) -> Option<Wish> {
        Wish::from_row(|name| columns.iter().find(|(column, _)| *column == name).map(|(_, value)| *value))
    }

    /// Guarantees: cores become thousandths, rounded up but not for noise; bytes and seconds stay.
    #[test]
    fn columns_are_read() {
        let wish =
            row(&[("cpu", 0.55), ("memory", 1.15e9), ("memory_limit", 1.38e9), ("cpu_lower", 0.100_4), ("last_oom_age", 90.9)]).unwrap();
        assert_eq!(wish.resources, Resources { cpu: Some(550), memory: Some(1_150_000_000), memory_limit: Some(1_380_000_000) });
        assert_eq!((wish.lower.cpu, wish.upper, wish.last_oom_age), (Some(101), Resources::NONE, Some(90)));
        assert!(wish.is_stated());
    }

    /// Guarantees: what is no figure is no wish, never zero, and a row without any says nothing.
    #[test]
    fn no_figure_is_no_wish() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e18] {
            assert_eq!(row(&[("cpu", bad), ("memory", bad)]), None, "{bad}");
        }
        assert_eq!(row(&[]), None);
        assert!(!row(&[("last_oom_age", 5.0)]).unwrap().is_stated());
        assert_eq!(row(&[("last_oom_age", -5.0)]), None);
    }
}
