//! The autoscalers that people have today, to the constant, each with the delay of its own way of measuring.

pub mod fixed;
pub mod hpa;
pub mod keda;
pub mod kpa;
pub mod seasonal;

use serde::{Deserialize, Serialize};

use self::fixed::{Current, Static};
use self::hpa::{Hpa, HpaConfig};
use self::keda::{Keda, KedaConfig};
use self::kpa::{Kpa, KpaConfig};
use self::seasonal::{Seasonal, SeasonalConfig};
use crate::policy::Policy;

/// A baseline and its settings, as a document names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Baseline {
    /// Horizontal pod autoscaler.
    Hpa(HpaConfig),
    /// Knative pod autoscaler.
    Kpa(KpaConfig),
    /// KEDA with Prometheus.
    Keda(KedaConfig),
    /// Horizontal pod autoscaler with the maximum of a season ago.
    Seasonal(Box<SeasonalConfig>),
    /// What was recorded.
    Current(Current),
    /// A constant number.
    Static(Static),
}

// === impl Baseline ===

impl Baseline {
    /// The policy, ready to run.
    #[must_use]
    pub fn build(&self) -> Box<dyn Policy> {
        match self {
            Self::Hpa(config) => Box::new(Hpa::new(config.clone())),
            Self::Kpa(config) => Box::new(Kpa::new(config.clone())),
            Self::Keda(config) => Box::new(Keda::new(config.clone())),
            Self::Seasonal(config) => Box::new(Seasonal::new((**config).clone())),
            Self::Current(recorded) => Box::new(recorded.clone()),
            Self::Static(constant) => Box::new(*constant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: documents name a baseline and only what differs from its constants.
    #[test]
    fn reads_documents() {
        let text = r#"[{"hpa": {"metrics": [{"kind": "cpu", "utilization": 70, "request": 2}]}}, {"kpa": {"capacity": 10}},
            {"keda": {"threshold": 50, "pollingInterval": "10s"}}, {"seasonal": {"period": "1d"}}, {"static": {"replicas": 4}},
            {"current": {"recorded": [[0, 3]]}}]"#;
        let baselines: Vec<Baseline> = serde_json::from_str(text).unwrap();
        let names: Vec<String> = baselines.iter().map(|baseline| baseline.build().name()).collect();
        assert_eq!(names, ["hpa", "kpa", "keda", "seasonal", "static 4", "current"]);
        assert!(serde_json::from_str::<Baseline>(r#"{"hpa": {"utilisation": 70}}"#).is_err());
    }
}
