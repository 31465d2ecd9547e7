//! A small API server with a memory: one Deployment and one custom resource that can be scaled, and conditions on demand.
//! Answers have the shape of recorded ones; calls that a real server would not understand are violations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracescale_core::capacity::Resources;

use crate::exchange::recorded;
use crate::pods::{PODS, Pods};
use crate::server::{Received, Reply, Respond, Server};

pub(crate) struct Cluster {
    pub(crate) server: Server,
    world: Arc<World>,
}

#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By path of the object.
    objects: BTreeMap<String, Object>,
    events: BTreeMap<String, Value>,
    violations: Vec<String>,
    once: Vec<Reply>,
    conflicts: u32,
    altered: Option<u32>,
    denied: bool,
    pods: Pods,
    /// The resources in the template of the Deployment.
    template: Value,
}

#[derive(Clone, Debug)]
struct Object {
    /// The recorded object that lends its metadata.
    template: &'static str,
    replicas: u32,
    version: u64,
    owner: Owner,
}

/// Who wrote the replicas last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Tracescale,
    Kubectl,
}

pub(crate) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/checkout";
pub(crate) const WORKER: &str = "/apis/example.io/v1/namespaces/shop/workers/encoder";

// === impl Cluster ===

impl Cluster {
    pub(crate) async fn start() -> Self {
        let world = Arc::new(World::default());
        {
            let mut state = world.state.lock().expect("a new lock");
            for (path, template) in [(DEPLOYMENT, "deployment-get-200-partial-metadata"), (WORKER, "worker-get-200-partial-metadata")] {
                state.objects.insert(path.to_owned(), Object { template, replicas: 2, version: 100, owner: Owner::Tracescale });
            }
        }
        let server = Server::start(Arc::clone(&world) as Arc<dyn Respond>).await;
        Self { server, world }
    }

    pub(crate) fn reset(&self, path: &str, replicas: u32) {
        let mut state = self.world.state.lock().expect("no handler panicked");
        let object = state.objects.get_mut(path).expect("an object");
        (object.replicas, object.version, object.owner) = (replicas, object.version + 1, Owner::Tracescale);
        (state.conflicts, state.altered, state.denied) = (0, None, false);
        state.once.clear();
        state.pods.equip(Resources::NONE);
    }

    pub(crate) fn equip(&self, resources: Resources) {
        self.world.state.lock().expect("no handler panicked").pods.equip(resources);
    }

    pub(crate) fn equipped(&self) -> Resources {
        self.world.state.lock().expect("no handler panicked").pods.equipped()
    }

    /// From now on the server knows no `resize` of pods.
    pub(crate) fn grow_old(&self) {
        self.world.state.lock().expect("no handler panicked").pods.old = true;
    }

    pub(crate) fn replicas(&self, path: &str) -> u32 {
        self.world.state.lock().expect("no handler panicked").objects[path].replicas
    }

    pub(crate) fn answer_once(&self, fixture: &str) {
        let response = recorded(fixture)["response"].clone();
        let body = response["body"].as_str().map_or_else(|| response["body"].to_string(), ToOwned::to_owned).into_bytes();
        let headers: BTreeMap<String, String> = serde_json::from_value(response["headers"].clone()).expect("headers");
        let status = u16::try_from(response["status"].as_u64().expect("a status")).expect("a status");
        let reply = Reply { status, headers: headers.into_iter().collect(), body, silent: false };
        self.world.state.lock().expect("no handler panicked").once.push(reply);
    }

    pub(crate) fn conflict(&self, times: u32) {
        self.world.state.lock().expect("no handler panicked").conflicts = times;
    }

    pub(crate) fn alter(&self, replicas: u32) {
        self.world.state.lock().expect("no handler panicked").altered = Some(replicas);
    }

    pub(crate) fn deny(&self) {
        self.world.state.lock().expect("no handler panicked").denied = true;
    }

    pub(crate) fn rival(&self, path: &str) {
        let mut state = self.world.state.lock().expect("no handler panicked");
        state.objects.get_mut(path).expect("an object").owner = Owner::Kubectl;
        state.pods.rival = true;
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.world.state.lock().expect("no handler panicked").events.values().cloned().collect()
    }

    pub(crate) fn finish(&self) {
        let violations = &self.world.state.lock().expect("no handler panicked").violations;
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
}

impl Respond for World {
    fn respond(&self, call: &Received) -> Reply {
        let mut state = self.state.lock().expect("no handler panicked");
        if let Some(violation) = violation(call) {
            state.violations.push(violation);
        }
        let discovery = match call.path.as_str() {
            "/apis/apps/v1" => Some("discovery-apps-v1-200"),
            "/apis/example.io/v1" => Some("discovery-example-io-v1-200"),
            _ => None,
        };
        if let Some(fixture) = discovery {
            return Reply::json(200, &recorded(fixture)["response"]["body"]);
        }
        if let Some(reply) = state.once.pop() {
            return reply;
        }
        if call.path.ends_with("/horizontalpodautoscalers") {
            return Reply::json(200, &recorded("hpa-list-200-empty")["response"]["body"]);
        }
        if call.path.starts_with("/apis/events.k8s.io/v1/") {
            return state.event(call);
        }
        if call.path.starts_with(PODS) {
            return state.pod(call);
        }
        state.object(call)
    }
}

// === impl State ===

impl State {
    fn object(&mut self, call: &Received) -> Reply {
        let (path, scale) = call.path.strip_suffix("/scale").map_or((call.path.as_str(), false), |path| (path, true));
        let Some(object) = self.objects.get(path).cloned() else {
            return Reply::json(404, &recorded("deployment-scale-get-404-missing")["response"]["body"]);
        };
        match (call.method.as_str(), scale) {
            ("GET", true) => Reply::json(200, &object.scale()),
            ("GET", false) => Reply::json(200, &self.with_template(object.metadata(call))),
            ("PATCH", true) => self.patch(path, object, call),
            ("PATCH", false) => {
                let container = &call.body["spec"]["template"]["spec"]["containers"][0];
                self.template = container["resources"].clone();
                Reply::json(200, &self.with_template(object.metadata(call)))
            }
            _ => {
                self.violations.push(format!("no such call: {call:?}"));
                Reply::json(405, &json!({}))
            }
        }
    }

    fn patch(&mut self, path: &str, mut object: Object, call: &Received) -> Reply {
        let fixture = if self.denied {
            Some("rbac-scale-patch-403-other-namespace")
        } else if self.conflicts > 0 || call.body["metadata"]["resourceVersion"] != json!(object.version.to_string()) {
            self.conflicts = self.conflicts.saturating_sub(1);
            Some("deployment-scale-patch-409-stale-resource-version")
        } else {
            None
        };
        if let Some(fixture) = fixture {
            let response = &recorded(fixture)["response"];
            return Reply::json(u16::try_from(response["status"].as_u64().expect("a status")).expect("a status"), &response["body"]);
        }
        let wanted = u32::try_from(call.body["spec"]["replicas"].as_u64().expect("replicas")).expect("few");
        object.replicas = self.altered.take().unwrap_or(wanted);
        if !call.query.contains_key("dryRun") {
            object.version += 1;
            object.owner = Owner::Tracescale;
            self.objects.insert(path.to_owned(), object.clone());
        }
        Reply::json(200, &object.scale())
    }

    fn with_template(&self, mut object: Value) -> Value {
        object["spec"]["template"]["spec"]["containers"] = json!([{"name": "app", "resources": self.template}]);
        object
    }

    fn pod(&mut self, call: &Received) -> Reply {
        let name = call.path.strip_prefix(PODS).and_then(|rest| rest.strip_suffix("/resize")).map(|name| name.trim_start_matches('/'));
        let fixture = match (call.method.as_str(), name) {
            ("GET", None) => return Reply::json(200, &self.pods.list()),
            ("PATCH", Some(_)) if self.pods.old => "unknown-resource-404",
            ("PATCH", Some(_)) if self.denied => "rbac-scale-patch-403-other-namespace",
            ("PATCH", Some(_)) if self.conflicts > 0 => {
                self.conflicts -= 1;
                "deployment-scale-patch-409-stale-resource-version"
            }
            ("PATCH", Some(name)) => match self.pods.patch(name, &call.body, call.query.contains_key("dryRun")) {
                Ok(pod) => return Reply::json(200, &pod),
                Err(status) => return Reply::json(status, &json!({"message": "refused"})),
            },
            _ => "deployment-scale-get-404-missing",
        };
        let response = &recorded(fixture)["response"];
        Reply::json(u16::try_from(response["status"].as_u64().expect("a status")).expect("a status"), &response["body"])
    }

    fn event(&mut self, call: &Received) -> Reply {
        match call.method.as_str() {
            "POST" => {
                let name = call.body["metadata"]["name"].as_str().expect("a name").to_owned();
                let known = recorded("event-v1-create-201");
                for (key, value) in known["request"]["body"].as_object().expect("a body") {
                    if std::mem::discriminant(&call.body[key]) != std::mem::discriminant(value) {
                        self.violations.push(format!("an event's {key} is {} instead of something like {value}", call.body[key]));
                    }
                }
                self.events.insert(name, call.body.clone());
                Reply::json(201, &call.body)
            }
            _ => match call.path.rsplit('/').next().and_then(|name| self.events.get_mut(name)) {
                Some(event) => {
                    event["series"] = call.body["series"].clone();
                    Reply::json(200, event)
                }
                None => Reply::json(404, &recorded("deployment-scale-get-404-missing")["response"]["body"]),
            },
        }
    }
}

// === impl Object ===

impl Object {
    fn scale(&self) -> Value {
        let mut scale = recorded("deployment-scale-get-200")["response"]["body"].clone();
        scale["metadata"]["resourceVersion"] = json!(self.version.to_string());
        // The server leaves a zero out.
        scale["spec"] = if self.replicas == 0 { json!({}) } else { json!({"replicas": self.replicas}) };
        scale
    }

    fn metadata(&self, call: &Received) -> Value {
        let mut object = recorded(self.template)["response"]["body"].clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        // A write of the scale takes the field from whoever had it.
        let entries = object["metadata"]["managedFields"].as_array_mut().expect("entries");
        for entry in entries.iter_mut() {
            if let Some(spec) = entry["fieldsV1"]["f:spec"].as_object_mut() {
                spec.remove("f:replicas");
            }
        }
        let manager = if self.owner == Owner::Kubectl { "kubectl" } else { "tracescale" };
        entries.push(json!({"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale"}));
        if !call.accept.as_deref().is_some_and(|accept| accept.contains("PartialObjectMetadata")) {
            object["status"] = json!({"replicas": self.replicas, "readyReplicas": self.replicas.min(1)});
        }
        object
    }
}

/// What a real server would refuse or misunderstand.
fn violation(call: &Received) -> Option<String> {
    let resources = call.path.ends_with("/resize") || call.body["spec"].get("template").is_some();
    let content_type = match call.method.as_str() {
        "PATCH" if resources => Some("application/strategic-merge-patch+json"),
        "PATCH" => Some("application/merge-patch+json"),
        "POST" => Some("application/json"),
        _ => None,
    };
    let writes = content_type.is_some();
    let manager = call.query.get("fieldManager").map(String::as_str);
    let known = ["fieldManager", "dryRun", "limit", "labelSelector"];
    let fine = call.content_type.as_deref() == content_type
        && call.body.is_null() != writes
        && manager == writes.then_some("tracescale")
        && call.accept.as_deref().is_some_and(|accept| accept.starts_with("application/json"))
        && call.query.keys().all(|key| known.contains(&key.as_str()));
    (!fine).then(|| format!("a call that a server would not take: {call:?}"))
}
