//! What a rule says about a target, and the evidence it says it on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Wish;
use crate::policy::RuleName;
use crate::time::Timestamp;

/// One row that a rule returned for a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// The rule.
    pub rule: RuleName,
    /// When the rule was evaluated; its evidence grows older from there.
    pub evaluated_at: Timestamp,
    /// The capacity it wants.
    pub demand: Demand,
    /// On what grounds.
    pub evidence: Evidence,
}

/// The capacity that a rule wants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// Replicas, not yet rounded: the tolerance compares the exact figure. Finite and not negative.
    Replicas(f64),
    /// No answer.
    Missing(MissingReason),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingReason {
    /// The rule returned no row for the target.
    NoRow,
    /// The row's `replicas` is NULL.
    Null,
    /// The row's `replicas` is negative, infinite or not a number.
    NotANumber,
    /// The rule could not be evaluated.
    RuleFailed,
    /// The row says that the telemetry source is silent (`presence = 'missing'`).
    SourceSilent,
    /// The evidence is older than the policy allows.
    TooOld,
}

/// The evidence columns of a rule's row; a column that the rule does not return is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// End of the newest window behind the row.
    pub window_end: Option<Timestamp>,
    /// True when no more rows can come into that window.
    pub is_final: Option<bool>,
    /// Effective number of samples.
    pub n_eff: Option<f64>,
    /// Confidence, 0..1.
    pub confidence: Option<f64>,
    /// Share of the window that has passed and whose sources were alive, 0..1.
    pub completeness: Option<f64>,
    /// Seconds from the newest telemetry of the group to the rule's evaluation.
    pub age_seconds: Option<f64>,
    /// Whether the service was active, idle or not heard of.
    pub presence: Option<Presence>,
    /// Newest event time among the rows behind this one.
    pub evidence_time: Option<Timestamp>,
    /// What each replica should ask for of its machine, from the columns of [`Wish::COLUMNS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
    /// All other columns of the row, for people.
    pub inputs: BTreeMap<String, Scalar>,
}

/// What is known of a service in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It had requests.
    Active,
    /// Its telemetry arrives and says that there were none: zero is a fact.
    Idle,
    /// Its telemetry does not arrive: nothing is known.
    Missing,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number; finite.
    Float(f64),
    /// Anything else, as text.
    Text(String),
}

/// More replicas than there can be; a larger demand counts as this one.
const MAX_DEMAND: f64 = 1e12;

/// A number of twelve significant digits between 10⁻⁹ and 10¹⁵, or zero; `None` for what is larger or no number.
pub(crate) fn figure(value: f64) -> Option<f64> {
    match value.abs() {
        size if size < 1e-9 => Some(0.0),
        size if size < 1e15 => format!("{value:.11e}").parse().ok(),
        _ => None,
    }
}

// === impl Proposal ===

impl Proposal {
    /// A row that a rule returned.
    #[must_use]
    pub fn new(rule: RuleName, evaluated_at: Timestamp, demand: Demand, evidence: Evidence) -> Self {
        Self { rule, evaluated_at, demand, evidence }.normalized()
    }

    /// Every figure finite and of twelve digits, or absent, so that a record comes back the same from any encoding: common
    /// readers of JSON are exact for such numbers only.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        let finite = |value: Option<f64>| value.and_then(figure);
        self.evidence.n_eff = finite(self.evidence.n_eff);
        self.evidence.confidence = finite(self.evidence.confidence);
        self.evidence.completeness = finite(self.evidence.completeness);
        self.evidence.age_seconds = finite(self.evidence.age_seconds);
        for value in self.evidence.inputs.values_mut() {
            if let Scalar::Float(float) = value {
                let rounded = figure(*float);
                // What is too large or too small for a figure is kept for people.
                *value = match rounded {
                    Some(rounded) if rounded != 0.0 || float.abs() == 0.0 => Scalar::Float(rounded),
                    _ => Scalar::Text(float.to_string()),
                };
            }
        }
        if let Demand::Replicas(value) = self.demand {
            self.demand = Demand::from_column(Some(value));
        }
        if self.evidence.presence == Some(Presence::Missing) && matches!(self.demand, Demand::Replicas(_)) {
            self.demand = Demand::Missing(MissingReason::SourceSilent);
        }
        self
    }
}

// === impl Demand ===

impl Demand {
    /// From the `replicas` column of a row.
    #[must_use]
    pub fn from_column(value: Option<f64>) -> Self {
        match value {
            None => Self::Missing(MissingReason::Null),
            Some(value) if value >= 0.0 && value.is_finite() => Self::Replicas(figure(value.min(MAX_DEMAND)).unwrap_or(MAX_DEMAND)),
            Some(_) => Self::Missing(MissingReason::NotANumber),
        }
    }
}

// === impl MissingReason ===

impl MissingReason {
    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRow => "the rule returned no row for the target",
            Self::Null => "the rule returned NULL",
            Self::NotANumber => "the rule returned a negative, infinite or undefined number",
            Self::RuleFailed => "the rule could not be evaluated",
            Self::SourceSilent => "the telemetry source is silent",
            Self::TooOld => "the evidence is too old",
        }
    }
}
