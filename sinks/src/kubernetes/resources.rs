//! API discovery: which resource a kind is, and whether it can be scaled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tracescale_core::time::Timestamp;

/// How long an answer is believed. A kind that is missing from it is asked for again at once.
const EXPIRY: Duration = Duration::from_secs(600);

/// A resource of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) kind: String,
    /// The plural in paths.
    pub(super) plural: String,
    pub(super) namespaced: bool,
    pub(super) scalable: bool,
}

/// What groups serve, by context and group version.
#[derive(Debug, Default)]
pub(super) struct Cache {
    groups: Mutex<HashMap<(Option<String>, String), Group>>,
}

#[derive(Debug)]
struct Group {
    resources: Arc<Vec<Resource>>,
    read_at: Timestamp,
}

#[derive(Debug, Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ListedResource>,
}

#[derive(Debug, Deserialize)]
struct ListedResource {
    name: String,
    kind: String,
    #[serde(default)]
    namespaced: bool,
}

// === impl Cache ===

impl Cache {
    pub(super) fn get(&self, context: Option<&str>, api_version: &str, now: Timestamp) -> Option<Arc<Vec<Resource>>> {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.get(&key(context, api_version))?;
        (now.since(group.read_at) < EXPIRY).then(|| Arc::clone(&group.resources))
    }

    pub(super) fn put(&self, context: Option<&str>, api_version: &str, resources: Vec<Resource>, now: Timestamp) -> Arc<Vec<Resource>> {
        let resources = Arc::new(resources);
        let group = Group { resources: Arc::clone(&resources), read_at: now };
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(key(context, api_version), group);
        resources
    }

    /// Forgets a group, so that the next call asks again: what we remembered led to a path that is gone.
    pub(super) fn forget(&self, context: Option<&str>, api_version: &str) {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(context, api_version));
    }
}

fn key(context: Option<&str>, api_version: &str) -> (Option<String>, String) {
    (context.map(ToOwned::to_owned), api_version.to_owned())
}

/// Reads an `APIResourceList`.
pub(super) fn parse(body: serde_json::Value) -> Result<Vec<Resource>, serde_json::Error> {
    let list: ResourceList = serde_json::from_value(body)?;
    let scales: Vec<&str> = list.resources.iter().filter_map(|resource| resource.name.strip_suffix("/scale")).collect();
    let plain = list.resources.iter().filter(|resource| !resource.name.contains('/'));
    Ok(plain
        .map(|resource| Resource {
            kind: resource.kind.clone(),
            plural: resource.name.clone(),
            namespaced: resource.namespaced,
            scalable: scales.contains(&resource.name.as_str()),
        })
        .collect())
}
