//! What is scaled: a reference to one thing with a capacity, in the words of the world it lives in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A reference to one thing with a capacity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum TargetRef {
    /// An object with a scale subresource.
    Kubernetes(KubernetesRef),
    /// A capacity kept in this process, for demonstrations and simulation.
    Memory(MemoryRef),
}

/// A Kubernetes object with a scale subresource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesRef {
    /// Group and version, as in a manifest: `apps/v1`, or `v1` for the core group.
    pub api_version: String,
    /// The kind, as in a manifest: `Deployment`.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The kubeconfig context; none means the default credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// A capacity kept in this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemoryRef {
    /// Its name.
    pub name: String,
    /// Replicas it starts with.
    #[serde(default)]
    pub replicas: u32,
}

// === impl TargetRef ===

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes(reference) => reference.fmt(f),
            Self::Memory(reference) => write!(f, "memory/{}", reference.name),
        }
    }
}

// === impl KubernetesRef ===

impl fmt::Display for KubernetesRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(context) = &self.context {
            write!(f, "{context}:")?;
        }
        write!(f, "{}/{}/{}", self.namespace, self.kind, self.name)
    }
}
