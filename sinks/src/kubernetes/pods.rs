//! Pods and pod templates: what a container asks for, what it has been given, and what stands in the way.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, json};
use tracescale_core::capacity::Resources;
use tracescale_core::quantity;

use crate::kubernetes::problem::Problem;
use crate::kubernetes::wire::FIELD_MANAGER;

/// A running pod, as far as the one container whose resources we set is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) container: Container,
    /// What its machine has given it; `None` where the server does not tell.
    pub(super) given: Option<Resources>,
    pub(super) obstacle: Option<Obstacle>,
    /// A field manager other than us that resized it.
    pub(super) rival: Option<String>,
}

/// A container in a pod or a template: what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) asked: Resources,
    cpu_limit: Option<u64>,
}

/// Why a resize does not come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It never will on this machine.
    Infeasible,
    /// The machine has no room now.
    Deferred,
    /// It was begun and went wrong.
    Failed,
}

#[derive(Debug, Deserialize)]
struct PodList {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(default)]
    items: Vec<PodObject>,
}

#[derive(Debug, Default, Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Debug, Deserialize)]
struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    #[serde(default)]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Debug, Deserialize)]
struct ManagedFields {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    subresource: String,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    containers: Vec<Listed>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    container_statuses: Vec<Listed>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

/// A container in a spec or a status.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    resources: Option<Amounts>,
}

#[derive(Debug, Default, Deserialize)]
struct Amounts {
    #[serde(default)]
    requests: BTreeMap<String, String>,
    #[serde(default)]
    limits: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
}

/// The running pods of a `PodList`, and where the next page begins. Pods that end are none: nobody resizes them.
pub(super) fn parse(body: Value, wanted: Option<&str>, workload: &str) -> Result<(Vec<Pod>, Option<String>), Parsed> {
    let list: PodList = serde_json::from_value(body).map_err(Parsed::Malformed)?;
    let next = Some(list.metadata.next).filter(|next| !next.is_empty());
    let live = list.items.into_iter().filter(|pod| pod.status.phase == "Running" && pod.metadata.deletion_timestamp.is_none());
    let pods: Result<Vec<Pod>, Problem> = live.map(|pod| Pod::of(pod, wanted, workload)).collect();
    Ok((pods.map_err(Parsed::Container)?, next))
}

/// The container in the pod template of a workload.
pub(super) fn template(object: &Value, wanted: Option<&str>, workload: &str) -> Result<Container, Parsed> {
    let spec: Spec = serde_json::from_value(object["spec"]["template"]["spec"].clone()).map_err(Parsed::Malformed)?;
    choose(&spec.containers, wanted, workload).map(Container::of).map_err(Parsed::Container)
}

/// Why pods cannot be told.
#[derive(Debug)]
pub(super) enum Parsed {
    Malformed(serde_json::Error),
    Container(Problem),
}

/// What most of some pods show, and how many show something else.
pub(super) fn majority(shown: impl Iterator<Item = Resources>) -> Option<(Resources, u32)> {
    let mut counts: HashMap<Resources, u32> = HashMap::new();
    let mut total = 0_u32;
    for resources in shown {
        *counts.entry(resources).or_default() += 1;
        total = total.saturating_add(1);
    }
    let size = |resources: &Resources| (resources.cpu, resources.memory, resources.memory_limit);
    let (most, count) = counts.into_iter().max_by_key(|(resources, count)| (*count, size(resources)))?;
    Some((most, total - count))
}

/// The named container, or the only one, or the one of the workload's name.
fn choose<'a>(containers: &'a [Listed], wanted: Option<&str>, workload: &str) -> Result<&'a Listed, Problem> {
    let named = |name: &str| containers.iter().find(|container| container.name == name);
    let found = match (wanted, containers) {
        (Some(name), _) => named(name),
        (None, [only]) => Some(only),
        (None, _) => named(workload),
    };
    found.ok_or_else(|| Problem::Container {
        wanted: wanted.map_or_else(|| "which container is meant is not clear".to_owned(), |name| format!("there is no container `{name}`")),
        known: containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

// === impl Pod ===

impl Pod {
    fn of(pod: PodObject, wanted: Option<&str>, workload: &str) -> Result<Self, Problem> {
        let container = Container::of(choose(&pod.spec.containers, wanted, workload)?);
        let status = pod.status.container_statuses.iter().find(|status| status.name == container.name);
        let on = |kind: &str| pod.status.conditions.iter().find(|one| one.kind == kind && one.status == "True");
        let obstacle =
            match (on("PodResizePending").map(|one| one.reason.as_str()), on("PodResizeInProgress").map(|one| one.reason.as_str())) {
                (Some("Infeasible"), _) => Some(Obstacle::Infeasible),
                (Some(_), _) => Some(Obstacle::Deferred),
                (None, Some("Error")) => Some(Obstacle::Failed),
                _ => None,
            };
        let rival = pod.metadata.managed_fields.into_iter().find(|one| one.subresource == "resize" && one.manager != FIELD_MANAGER);
        Ok(Self {
            name: pod.metadata.name,
            version: pod.metadata.resource_version,
            given: status.and_then(|status| status.resources.as_ref()).map(Amounts::resources),
            container,
            obstacle,
            rival: rival.map(|one| one.manager),
        })
    }

    /// What it has, or else what it asks for.
    pub(super) fn shown(&self) -> Resources {
        self.given.unwrap_or(self.container.asked)
    }
}

// === impl Container ===

impl Container {
    fn of(listed: &Listed) -> Self {
        let none = Amounts::default();
        let amounts = listed.resources.as_ref().unwrap_or(&none);
        let cpu_limit = amounts.limits.get("cpu").and_then(|text| quantity::millicores(text));
        Self { name: listed.name.clone(), asked: amounts.resources(), cpu_limit }
    }

    /// Whether it asks for all that is desired.
    pub(super) fn asks_for(&self, desired: Resources) -> bool {
        self.asked.only(desired) == desired
    }

    /// The strategic merge of `spec.containers` that makes it ask for what is desired. Limits keep their proportion to their
    /// requests: a request above its limit is refused, and equal ones are a class of service that must not change.
    pub(super) fn patch(&self, desired: Resources) -> Value {
        let (mut requests, mut limits) = (json!({}), json!({}));
        if let Some(cpu) = desired.cpu {
            requests["cpu"] = quantity::of_millicores(cpu).into();
            if let Some(limit) = proportional(cpu, self.cpu_limit, self.asked.cpu) {
                limits["cpu"] = quantity::of_millicores(limit).into();
            }
        }
        if let Some(memory) = desired.memory {
            requests["memory"] = memory.to_string().into();
        }
        let limit = desired.memory.and_then(|memory| proportional(memory, self.asked.memory_limit, self.asked.memory));
        if let Some(limit) = desired.memory_limit.or(limit) {
            limits["memory"] = limit.to_string().into();
        }
        let mut resources = json!({});
        for (name, amounts) in [("requests", requests), ("limits", limits)] {
            if amounts.as_object().is_some_and(|amounts| !amounts.is_empty()) {
                resources[name] = amounts;
            }
        }
        json!([{"name": self.name, "resources": resources}])
    }
}

fn proportional(value: u64, limit: Option<u64>, request: Option<u64>) -> Option<u64> {
    let limit = limit?;
    let scaled = request
        .filter(|request| *request > 0)
        .map_or(u128::from(limit.max(value)), |request| (u128::from(value) * u128::from(limit)).div_ceil(u128::from(request)));
    Some(u64::try_from(scaled).unwrap_or(u64::MAX))
}

// === impl Amounts ===

impl Amounts {
    fn resources(&self) -> Resources {
        Resources {
            cpu: self.requests.get("cpu").and_then(|text| quantity::millicores(text)),
            memory: self.requests.get("memory").and_then(|text| quantity::bytes(text)),
            memory_limit: self.limits.get("memory").and_then(|text| quantity::bytes(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(containers: &Value) -> Value {
        json!({"items": [{"metadata": {"name": "cart-1"}, "spec": {"containers": containers}, "status": {"phase": "Running"}}]})
    }

    fn chosen(containers: &Value, wanted: Option<&str>) -> Option<String> {
        parse(list(containers), wanted, "cart").ok().map(|(pods, _)| pods[0].container.name.clone())
    }

    /// Guarantees: the named container is taken, else the only one, else the one of the workload's name; otherwise none is.
    #[test]
    fn the_container_is_clear_or_refused() {
        let (one, two) = (json!([{"name": "app"}]), json!([{"name": "proxy"}, {"name": "cart"}]));
        assert_eq!(chosen(&one, None).as_deref(), Some("app"));
        assert_eq!(chosen(&two, None).as_deref(), Some("cart"));
        assert_eq!(chosen(&two, Some("proxy")).as_deref(), Some("proxy"));
        assert_eq!(chosen(&two, Some("app")), None);
        assert_eq!(chosen(&json!([{"name": "a"}, {"name": "b"}]), None), None);
    }

    /// Guarantees: limits keep their proportion, equal ones stay equal, and what is not meant is not written.
    #[test]
    fn limits_go_with_their_requests() {
        let container = |resources: Value| {
            template(&json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "resources": resources}]}}}}), None, "cart")
                .unwrap()
        };
        let guaranteed = container(json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "1Gi"}}));
        let desired = Resources { cpu: Some(750), memory: Some(1 << 31), memory_limit: None };
        let both = json!({"cpu": "750m", "memory": "2147483648"});
        assert_eq!(guaranteed.patch(desired), json!([{"name": "app", "resources": {"requests": both, "limits": both}}]));
        let burstable = container(json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "2"}}));
        let cpu = Resources { cpu: Some(1000), ..Resources::NONE };
        assert_eq!(burstable.patch(cpu), json!([{"name": "app", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}}]));
        let bare = container(json!({"requests": {"cpu": "500m"}}));
        assert_eq!(bare.patch(cpu), json!([{"name": "app", "resources": {"requests": {"cpu": "1"}}}]));
        assert!(bare.asks_for(Resources { cpu: Some(500), ..Resources::NONE }) && !bare.asks_for(desired));
    }

    /// Guarantees: most replicas speak for all, the larger where as many differ, and nobody where there is none.
    #[test]
    fn most_replicas_speak() {
        let cpu = |cpu| Resources { cpu: Some(cpu), ..Resources::NONE };
        assert_eq!(majority([cpu(1), cpu(2), cpu(1)].into_iter()), Some((cpu(1), 1)));
        assert_eq!(majority([cpu(1), cpu(2)].into_iter()), Some((cpu(2), 1)));
        assert_eq!(majority(std::iter::empty()), None);
    }
}
