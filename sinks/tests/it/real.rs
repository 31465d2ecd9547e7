//! The suite against a real API server, where one is given: `KUBECONFIG` (the current context, as an administrator), or
//! `KUBEBUILDER_ASSETS` (a folder with `kube-apiserver` and `etcd`, which are then started here). The sink runs as a service
//! account that is bound to our own role, so the rights we ship are proved as well.

mod control_plane;

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use kube::Client;
use serde_json::{Value, json};
use tracescale_core::capacity::Capacity;
use tracescale_core::target::{KubernetesRef, TargetRef};
use tracescale_sinks::conformance::{self, Condition, Subject};
use tracescale_sinks::kubernetes::Options;
use tracescale_sinks::{ApplyContext, Kubernetes, ScaleTarget, SinkErrorKind};

use crate::conformance::clock;
use crate::rbac::manifests;

/// The service account that the sink is.
const ACCOUNT: &str = "tracescale";

struct Real {
    admin: Client,
    /// Credentials of the account.
    account: kube::Config,
    sink: Kubernetes,
    namespace: String,
}

#[async_trait]
impl Subject for Real {
    fn sink(&self) -> &dyn ScaleTarget {
        &self.sink
    }
    fn target(&self) -> TargetRef {
        self.named("cart")
    }
    fn missing(&self) -> TargetRef {
        self.named("missing")
    }
    async fn reset(&self, replicas: u32) {
        self.bind("tracescale-act", true).await;
        // As ourselves, so that no other hand is left on the field.
        self.scale(replicas + 1, "tracescale").await;
        self.scale(replicas, "tracescale").await;
    }
    async fn stored(&self) -> u32 {
        let scale = self.call("GET", &self.path("/scale"), "", &Value::Null).await.expect("a scale");
        u32::try_from(scale["spec"]["replicas"].as_u64().unwrap_or(0)).expect("few")
    }
    async fn arrange(&self, condition: Condition) -> bool {
        match condition {
            // The same number again would leave the field with its owner.
            Condition::Rival => {
                let replicas = self.stored().await;
                self.scale(replicas + 1, "tracescale").await;
                self.scale(replicas, "kubectl").await;
            }
            Condition::Denied => self.bind("tracescale-act", false).await,
            _ => return false,
        }
        true
    }
}

// === impl Real ===

impl Real {
    /// Makes a namespace with a Deployment, our roles and an account; the namespace's name is new each time.
    async fn prepare(config: kube::Config) -> Self {
        let admin = Client::try_from(config.clone()).expect("a client");
        let namespace = format!("tracescale-conformance-{}", std::process::id());
        let mut account = config;
        account.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:{ACCOUNT}"));
        let real = Self { admin, sink: sink(&account).await, account, namespace };
        let named = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": real.namespace}});
        real.create("/api/v1/namespaces", named).await;
        let labels = json!({"app": "cart"});
        let container = json!({"name": "app", "image": "registry.k8s.io/pause:3.10"});
        real.create(
            &real.under("/apis/apps/v1", "deployments"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart"}, "spec": {"replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}}),
        )
        .await;
        for role in ["tracescale-observe", "tracescale-act"] {
            // The roles as shipped, but in a Role of this namespace: the test must not touch roles of the cluster.
            let mut manifest = manifests().into_iter().find(|manifest| manifest["metadata"]["name"] == role).expect("a role");
            manifest["kind"] = json!("Role");
            real.create(&real.under("/apis/rbac.authorization.k8s.io/v1", "roles"), manifest).await;
        }
        real.bind("tracescale-observe", true).await;
        real
    }

    fn named(&self, name: &str) -> TargetRef {
        let (api_version, kind) = ("apps/v1".to_owned(), "Deployment".to_owned());
        TargetRef::Kubernetes(KubernetesRef {
            api_version,
            kind,
            namespace: self.namespace.clone(),
            name: name.into(),
            context: None,
            container: None,
        })
    }

    fn under(&self, group: &str, resource: &str) -> String {
        format!("{group}/namespaces/{}/{resource}", self.namespace)
    }

    fn path(&self, subresource: &str) -> String {
        self.under("/apis/apps/v1", &format!("deployments/cart{subresource}"))
    }

    async fn scale(&self, replicas: u32, manager: &str) {
        let path = format!("{}?fieldManager={manager}", self.path("/scale"));
        let body = json!({"spec": {"replicas": replicas}});
        self.call("PATCH", &path, "application/merge-patch+json", &body).await.expect("scaled");
    }

    async fn create(&self, path: &str, body: Value) {
        self.call("POST", path, "application/json", &body).await.expect("created");
    }

    /// Gives or takes a role, and waits until the server acts on it: its authorizer follows a moment later.
    async fn bind(&self, role: &str, bound: bool) {
        let bindings = self.under("/apis/rbac.authorization.k8s.io/v1", "rolebindings");
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace}]});
        // Present or absent already is as good.
        let _ = match bound {
            true => self.call("POST", &bindings, "application/json", &binding).await,
            false => self.call("DELETE", &format!("{bindings}/{role}"), "", &Value::Null).await,
        };
        let verb = if role == "tracescale-act" { "patch" } else { "get" };
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": format!("system:serviceaccount:{}:{ACCOUNT}", self.namespace),
            "resourceAttributes": {"namespace": self.namespace, "verb": verb, "group": "apps", "resource": "deployments",
                "subresource": "scale", "name": "cart"}}});
        for _ in 0..100 {
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let answer = self.call("POST", path, "application/json", &review).await.expect("a review");
            if answer["status"]["allowed"].as_bool() == Some(bound) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the authorizer did not follow");
    }

    async fn call(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Result<Value, kube::Error> {
        let mut request = http::Request::builder().method(method).uri(path);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.admin.request(request.body(body).expect("a request")).await
    }

    /// An autoscaler on the object is found and left alone.
    async fn leaves_autoscalers_alone(&self) {
        self.reset(2).await;
        self.create(
            &self.under("/apis/autoscaling/v2", "horizontalpodautoscalers"),
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "cart"}, "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}, "minReplicas": 1, "maxReplicas": 4}}),
        )
        .await;
        // A new sink, which remembers no list of autoscalers.
        let error =
            sink(&self.account).await.apply(&self.target(), Capacity::replicas(3), &ApplyContext::default()).await.expect_err("refused");
        let by = format!("HorizontalPodAutoscaler {}/cart", self.namespace);
        assert_eq!(error.kind, SinkErrorKind::Contested { by });
    }

    async fn remove(&self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.call("DELETE", &path, "", &Value::Null).await.expect("the namespace is removed");
    }
}

async fn sink(account: &kube::Config) -> Kubernetes {
    Kubernetes::new(Options::default(), clock()).with_config(None, account.clone()).await.expect("a client")
}

/// Guarantees: on a real API server, with no more rights than we ship, the Kubernetes sink behaves as every sink must.
#[tokio::test]
async fn kubernetes_conforms_on_a_real_cluster() {
    let Some((config, _running)) = control_plane::given().await else {
        // Written past the test harness, which would hide the words of a test that passes.
        let words =
            "SKIPPED kubernetes_conforms_on_a_real_cluster: set KUBECONFIG, or KUBEBUILDER_ASSETS to a folder with kube-apiserver and etcd";
        writeln!(std::io::stderr(), "{words}").expect("stderr");
        return;
    };
    let real = Real::prepare(config).await;
    let checks = async {
        let report = conformance::run(&real).await;
        assert!(report.failed.is_empty(), "{report}");
        assert!(report.passed.len() > report.skipped.len(), "{report}");
        real.leaves_autoscalers_alone().await;
    };
    let result = AssertUnwindSafe(checks).catch_unwind().await;
    real.remove().await;
    if let Err(failure) = result {
        std::panic::resume_unwind(failure);
    }
}
