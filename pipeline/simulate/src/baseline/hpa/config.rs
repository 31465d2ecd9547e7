//! Settings of the horizontal pod autoscaler, with the constants of its controller as defaults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::{Measure, MeasurementPath};

/// Settings of one autoscaler object, of the controller that runs it, and of the way its metrics take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HpaConfig {
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// What to scale on; the largest proposal counts.
    pub metrics: Vec<HpaMetric>,
    /// Rules per direction. Absent is not the same as default: it is the legacy path.
    pub behavior: Option<Behavior>,
    /// `--horizontal-pod-autoscaler-sync-period`.
    #[serde(with = "tracescale_core::duration::text")]
    pub sync_period: Duration,
    /// `--horizontal-pod-autoscaler-tolerance`, unless a direction has its own.
    pub tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`.
    #[serde(with = "tracescale_core::duration::text")]
    pub downscale_stabilization: Duration,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`.
    #[serde(with = "tracescale_core::duration::text")]
    pub cpu_initialization: Duration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`.
    #[serde(with = "tracescale_core::duration::text")]
    pub initial_readiness: Duration,
    /// How long a new pod is `Pending` (scheduling, image pull).
    #[serde(with = "tracescale_core::duration::text")]
    pub pending: Duration,
    /// The way of CPU metrics.
    pub cpu_path: MeasurementPath,
    /// The way of all other metrics.
    pub metrics_path: MeasurementPath,
}

/// A metric and its target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "kind")]
pub enum HpaMetric {
    /// CPU relative to what the pods request.
    Cpu {
        /// Target in percent.
        utilization: u32,
        /// Cores that each pod requests.
        request: f64,
    },
    /// A number per pod.
    Pods {
        /// Which.
        measure: Measure,
        /// Target for the mean.
        average_value: f64,
    },
    /// A number of the whole service, per replica.
    ExternalAverage {
        /// Which.
        measure: Measure,
        /// Target per replica.
        average_value: f64,
    },
    /// A number of the whole service.
    ExternalValue {
        /// Which.
        measure: Measure,
        /// Target.
        value: f64,
    },
}

/// Rules per direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behavior {
    /// On the way up.
    pub scale_up: ScalingRules,
    /// On the way down.
    pub scale_down: ScalingRules,
}

/// Rules of one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScalingRules {
    /// How far back recommendations count; 0 up and the controller's setting down when absent.
    #[serde(with = "tracescale_core::duration::option")]
    pub stabilization: Option<Duration>,
    /// How fast; [`ScalingRules::UP`] or [`ScalingRules::DOWN`] when absent.
    pub rates: Option<Vec<Rate>>,
    /// Which of the rates counts.
    pub select: Select,
    /// Deviation that is ignored in this direction.
    pub tolerance: Option<f64>,
}

/// How much in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Of what.
    pub kind: RateKind,
    /// How much.
    pub value: u32,
    /// In how long.
    #[serde(with = "tracescale_core::duration::text")]
    pub period: Duration,
}

/// What a rate is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RateKind {
    /// Replicas.
    Pods,
    /// Hundredths of the replicas at the beginning of the period.
    Percent,
}

/// Which of several rates counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Select {
    /// That of the largest change.
    #[default]
    Max,
    /// That of the smallest change.
    Min,
    /// None: no change in this direction.
    Disabled,
}

// === impl HpaConfig ===

impl HpaConfig {
    /// Deviations that are ignored, down and up.
    #[must_use]
    pub fn tolerances(&self) -> (f64, f64) {
        let own = |rules: Option<&ScalingRules>| rules.and_then(|rules| rules.tolerance).unwrap_or(self.tolerance);
        let behavior = self.behavior.as_ref();
        (own(behavior.map(|behavior| &behavior.scale_down)), own(behavior.map(|behavior| &behavior.scale_up)))
    }
}

impl Default for HpaConfig {
    fn default() -> Self {
        Self {
            min_replicas: 1,
            max_replicas: 100,
            metrics: vec![HpaMetric::Cpu { utilization: 80, request: 1.0 }],
            behavior: None,
            sync_period: Duration::from_secs(15),
            tolerance: 0.1,
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization: Duration::from_secs(300),
            initial_readiness: Duration::from_secs(30),
            pending: Duration::from_secs(10),
            cpu_path: MeasurementPath::CPU,
            metrics_path: MeasurementPath::PROMETHEUS,
        }
    }
}

// === impl ScalingRules ===

impl ScalingRules {
    /// What the API server fills in on the way up: four replicas or 100 % per 15 s.
    pub const UP: [Rate; 2] = [
        Rate { kind: RateKind::Pods, value: 4, period: Duration::from_secs(15) },
        Rate { kind: RateKind::Percent, value: 100, period: Duration::from_secs(15) },
    ];
    /// What the API server fills in on the way down: 100 % per 15 s.
    pub const DOWN: [Rate; 1] = [Rate { kind: RateKind::Percent, value: 100, period: Duration::from_secs(15) }];
}
