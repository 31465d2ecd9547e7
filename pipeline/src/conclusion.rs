//! What became of a decision that ordered a capacity: the second half of its record.

use std::fmt;

use serde::{Deserialize, Serialize};
use tracescale_core::decide::{Applied, DecisionId};
use tracescale_core::time::Timestamp;
use tracescale_sinks::{Outcome, SinkError, SinkErrorKind};

/// The end of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conclusion {
    /// The decision that ordered it.
    pub concludes: DecisionId,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub result: Ending,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The sink set the capacity and read it back.
    #[serde(rename_all = "camelCase")]
    Applied {
        /// Replicas before.
        before: u32,
        /// Replicas read back.
        confirmed: u32,
        /// Writes that others came before.
        conflicts: u32,
        /// What the target's world warned of.
        warnings: Vec<String>,
    },
    /// The sink refused or failed.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// The kind of failure, as in metrics.
        kind: String,
        /// Why.
        cause: String,
    },
    /// No call was made: earlier ones failed, and the target is left alone for a while.
    #[serde(rename_all = "camelCase")]
    Withheld {
        /// When calls are made again.
        until: Timestamp,
    },
}

// === impl Ending ===

impl Ending {
    /// Stable word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::Failed { .. } => "failed",
            Self::Withheld { .. } => "withheld",
        }
    }

    /// The same as the decider is told.
    #[must_use]
    pub fn applied(&self) -> Applied {
        match self {
            Self::Applied { confirmed, .. } => Applied::Done { replicas: *confirmed },
            // Without an answer nobody knows whether the call got through.
            Self::Failed { kind, .. } if *kind == SinkErrorKind::Unavailable.as_str() => Applied::Unknown,
            Self::Failed { .. } | Self::Withheld { .. } => Applied::Failed,
        }
    }
}

impl From<&Result<Outcome, SinkError>> for Ending {
    fn from(result: &Result<Outcome, SinkError>) -> Self {
        match result {
            Ok(outcome) => Self::Applied {
                before: outcome.before,
                confirmed: outcome.confirmed,
                conflicts: outcome.conflicts,
                warnings: outcome.warnings.clone(),
            },
            Err(error) => Self::Failed { kind: error.kind.as_str().to_owned(), cause: error.chain() },
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { before, confirmed, conflicts, warnings } => {
                write!(f, "applied: {before} -> {confirmed} replicas, read back")?;
                if *conflicts > 0 {
                    write!(f, ", after {conflicts} conflicts")?;
                }
                warnings.iter().try_for_each(|warning| write!(f, "; warning: {warning}"))
            }
            Self::Failed { kind, cause } => write!(f, "failed ({kind}): {cause}"),
            Self::Withheld { until } => write!(f, "not sent: earlier calls failed, the target is left alone until {until}"),
        }
    }
}
