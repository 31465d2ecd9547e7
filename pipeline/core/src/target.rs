//! Scaling targets: what can be scaled, which service it runs, and what people said about it.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::name::TargetName;
use crate::time::Timestamp;

/// A scaling target as its document or discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetSpec {
    /// The name that rules return in their `target` column.
    pub name: TargetName,
    /// The object whose capacity is set.
    pub reference: TargetRef,
    /// The service whose telemetry belongs to this target.
    pub service: ServiceSelector,
    /// When true nothing is changed, whatever the rules say.
    pub paused: bool,
    /// When true the capacity is set although another writer (an HPA, another field manager) holds it.
    #[serde(default)]
    pub take_over: bool,
    /// A capacity that a person ordered for a while.
    #[serde(rename = "override")]
    pub override_: Option<Override>,
    /// True when nobody wrote a document for it: it was found in resource attributes.
    pub discovered: bool,
    /// What was promised of its requests; `None` where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    /// Requests whose own work a replica does at once, such as its cores. `None` is not known, and counts as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<NonZeroU32>,
    /// Workers of a replica of which a request holds one until it is answered, also while it waits for others. `None` where a request
    /// that waits holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<NonZeroU32>,
}

impl TargetSpec {
    /// A number of replicas in this process for a service, of which nothing else is said.
    #[must_use]
    pub fn in_memory(name: TargetName, service: ServiceSelector, replicas: u32) -> Self {
        Self {
            reference: TargetRef::Memory(MemoryRef { name: name.to_string(), replicas }),
            name,
            service,
            paused: false,
            take_over: false,
            override_: None,
            discovered: false,
            objective: None,
            servers: None,
            workers: None,
        }
    }
}

/// A promise: a share of the requests takes no longer than a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// The latency; more than zero.
    #[serde(with = "crate::duration::text")]
    pub latency: Duration,
    /// The share in parts of a hundred thousand: 99000 of 100000 requests. Whole, so that records compare exactly.
    pub per_100k: u32,
}

/// The object whose capacity is set; the key says which sink owns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum TargetRef {
    /// An object with a scale subresource.
    Kubernetes(KubernetesRef),
    /// A number in this process, for trials and tests.
    Memory(MemoryRef),
}

/// An object with a scale subresource in a Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesRef {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Context of the kubeconfig; `None` is the current one, or the cluster we run in.
    pub context: Option<String>,
    /// The container whose resources are set; `None` is the only one, or the one of the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// A number of replicas kept in this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryRef {
    /// Name of the counter.
    pub name: String,
    /// Replicas that it starts with.
    pub replicas: u32,
}

/// Which telemetry belongs to a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSelector {
    /// `service.name` of the resource.
    pub service_name: String,
    /// `service.namespace` of the resource; `None` matches any.
    pub service_namespace: Option<String>,
}

/// A capacity that a person ordered, until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// Replicas to hold. Obeyed exactly, also outside the policy's bounds.
    pub replicas: u32,
    /// The first instant at which it no longer holds.
    pub until: Timestamp,
    /// Why, in the person's words.
    pub reason: String,
}

// === impl TargetRef ===

impl fmt::Display for TargetRef {
    /// `kubernetes:apps/v1/Deployment/shop/checkout` or `memory:checkout`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes(k) => {
                write!(f, "kubernetes:{}/{}/{}/{}", k.api_version, k.kind, k.namespace, k.name)?;
                k.context.as_ref().map_or(Ok(()), |context| write!(f, "@{context}"))
            }
            Self::Memory(m) => write!(f, "memory:{}", m.name),
        }
    }
}

// === impl ServiceSelector ===

impl ServiceSelector {
    /// True when telemetry with this service name and namespace belongs to the target.
    #[must_use]
    pub fn matches(&self, name: &str, namespace: Option<&str>) -> bool {
        self.service_name == name && self.service_namespace.as_deref().is_none_or(|own| Some(own) == namespace)
    }
}

// === impl Objective ===

impl Objective {
    /// A latency and a share of the requests, 0..1; `None` when there is no latency, or the share is not between 0 and 1.
    #[must_use]
    pub fn new(latency: Duration, share: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is checked then")]
        let per_100k = (share * 100_000.0).round() as u32;
        (!latency.is_zero() && (1..100_000).contains(&per_100k)).then_some(Self { latency, per_100k })
    }

    /// The share of the requests, 0..1.
    #[must_use]
    pub fn share(&self) -> f64 {
        f64::from(self.per_100k) / 100_000.0
    }
}

// === impl Override ===

impl Override {
    /// True while the order holds.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        now < self.until
    }
}
