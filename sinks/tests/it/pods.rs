//! Pods of the small API server: two, with one container, as the Pod API documents them. No recorded answer is behind these:
//! the shapes are those of the API reference (`Pod`, `PodList`, the `resize` subresource of Kubernetes 1.33 and later).

use serde_json::{Value, json};
use tracescale_core::capacity::Resources;

pub(crate) const PODS: &str = "/api/v1/namespaces/shop/pods";

/// The pods of the one workload that a test looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pods {
    resources: Vec<Value>,
    version: u64,
    pub(crate) rival: bool,
    /// The server knows no `resize`.
    pub(crate) old: bool,
}

// === impl Pods ===

impl Pods {
    pub(crate) fn equip(&mut self, resources: Resources) {
        let mut amounts = json!({"requests": {}, "limits": {}});
        for (kind, name, value) in [
            ("requests", "cpu", resources.cpu.map(|cpu| format!("{cpu}m"))),
            ("requests", "memory", resources.memory.map(|bytes| bytes.to_string())),
            ("limits", "memory", resources.memory_limit.map(|bytes| bytes.to_string())),
        ] {
            if let Some(value) = value {
                amounts[kind][name] = value.into();
            }
        }
        *self = Self { resources: vec![amounts.clone(), amounts], version: self.version + 1, ..Self::default() };
    }

    /// What every pod asks for; none when they differ.
    pub(crate) fn equipped(&self) -> Resources {
        let amount = |kind: &str, name: &str| {
            let texts: Vec<&str> = self.resources.iter().filter_map(|amounts| amounts[kind][name].as_str()).collect();
            texts.first().filter(|first| texts.len() == 2 && texts[1] == **first).map(|text| (*text).to_owned())
        };
        Resources {
            cpu: amount("requests", "cpu").and_then(|text| tracescale_core::quantity::millicores(&text)),
            memory: amount("requests", "memory").and_then(|text| tracescale_core::quantity::bytes(&text)),
            memory_limit: amount("limits", "memory").and_then(|text| tracescale_core::quantity::bytes(&text)),
        }
    }

    pub(crate) fn list(&self) -> Value {
        let items: Vec<Value> = (0..self.resources.len()).map(|index| self.pod(index)).collect();
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "900"}, "items": items})
    }

    fn pod(&self, index: usize) -> Value {
        let manager = if self.rival { "vpa-updater" } else { "tracescale" };
        let amounts = &self.resources[index];
        pod(&format!("checkout-{index}"), self.version, amounts, amounts, manager)
    }

    /// A patch of `resize`; an error is the status to answer with.
    pub(crate) fn patch(&mut self, name: &str, body: &Value, dry_run: bool) -> Result<Value, u16> {
        let index: usize = name.strip_prefix("checkout-").and_then(|index| index.parse().ok()).ok_or(404_u16)?;
        if body["metadata"]["resourceVersion"] != json!(self.version.to_string()) {
            return Err(409);
        }
        let mut after = self.resources.get(index).cloned().ok_or(404_u16)?;
        let containers = body["spec"]["containers"].as_array().ok_or(422_u16)?;
        for container in containers.iter().filter(|container| container["name"] == "app") {
            for (kind, amounts) in container["resources"].as_object().into_iter().flatten() {
                for (name, amount) in amounts.as_object().into_iter().flatten() {
                    after[kind][name] = amount.clone();
                }
            }
        }
        let before = self.resources[index].clone();
        self.resources[index] = after;
        let answer = self.pod(index);
        if dry_run {
            self.resources[index] = before;
        } else {
            self.rival = false;
        }
        Ok(answer)
    }
}

/// A running pod that asks for `asked` and has been given `given`.
pub(crate) fn pod(name: &str, version: u64, asked: &Value, given: &Value, manager: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "resourceVersion": version.to_string(),
            "managedFields": [
                {"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}, "subresource": "status"},
                {"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}, "subresource": "resize"},
            ],
        },
        "spec": {"containers": [{"name": "app", "image": "registry.example.io/checkout:1", "resources": asked}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "ready": true, "allocatedResources": given["requests"], "resources": given}]},
    })
}
