//! How values of other modules are written in documents.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracescale_core::time::Timestamp;

use crate::report::Supply;
use crate::score::{Elasticity, Score};

/// A [`Score`] in documents.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Score", rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ScoreDocument {
    violation_minutes: u32,
    judged_minutes: u32,
    violation_share: f64,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    replica_hours: f64,
    cpu_hours: f64,
    ups: u32,
    downs: u32,
    oscillations: u32,
    step_max: u32,
    backlog_max: f64,
    failed: f64,
}

/// An [`Elasticity`] in documents.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Elasticity", rename_all = "camelCase", deny_unknown_fields)]
struct ElasticityDocument {
    theta_under: f64,
    theta_over: f64,
    tau_under: f64,
    tau_over: f64,
    instability: f64,
    shortage: f64,
    excess: f64,
}

/// Elasticity that may be missing.
pub(super) mod elasticity {
    use super::{Deserialize, Deserializer, Elasticity, ElasticityDocument, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Present(#[serde(with = "ElasticityDocument")] Elasticity);

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(in super::super) fn serialize<S: Serializer>(value: &Option<Elasticity>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Present).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Elasticity>, D::Error> {
        Ok(Option::<Present>::deserialize(deserializer)?.map(|present| present.0))
    }
}

/// Supply as triples, because there are many of them.
pub(super) mod supply {
    use super::{Deserialize, Deserializer, Serializer, Supply, Timestamp};

    pub(in super::super) fn serialize<S: Serializer>(value: &[Supply], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(|supply| (supply.at, supply.desired, supply.ready)))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Supply>, D::Error> {
        let triples = Vec::<(Timestamp, u32, u32)>::deserialize(deserializer)?;
        Ok(triples.into_iter().map(|(at, desired, ready)| Supply { at, desired, ready }).collect())
    }
}

/// Rates, in which what is not known (not a number) is null.
pub(super) mod rates {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    pub(in super::super) fn serialize<S: Serializer>(value: &[(Timestamp, f64)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(|(at, rate)| (at, rate.is_finite().then_some(*rate))))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(Timestamp, f64)>, D::Error> {
        let pairs = Vec::<(Timestamp, Option<f64>)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().map(|(at, rate)| (at, rate.unwrap_or(f64::NAN))).collect())
    }
}
