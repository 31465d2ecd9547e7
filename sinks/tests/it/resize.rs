//! Resizing, story by story. The scale and the Deployment are recorded answers; pods and their `resize` subresource are written
//! after the API reference, for no server that we could record had a kubelet behind it.

use serde_json::{Value, json};
use tracescale_core::capacity::{Capacity, Resources};
use tracescale_core::target::{KubernetesRef, TargetRef};
use tracescale_sinks::kubernetes::Options;
use tracescale_sinks::{ApplyContext, Kubernetes, Outcome, ResizeWay, ScaleTarget, SinkError, SinkErrorKind};

use crate::cluster::{DEPLOYMENT, WORKER};
use crate::conformance::{clock, object};
use crate::exchange::{Exchange, Strict};
use crate::pods::{PODS, pod};

const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn apply(target: &TargetRef, desired: Resources, context: ApplyContext, script: Vec<Exchange>) -> Result<Outcome, SinkError> {
    let server = Strict::start(script).await;
    let sink = Kubernetes::new(Options::default(), clock()).with_config(None, server.config()).await.expect("a client");
    let outcome = sink.apply(target, Capacity::resources(desired), &context).await;
    server.finish();
    outcome
}

fn more_cpu() -> Resources {
    Resources { cpu: Some(250), ..Resources::NONE }
}

fn asks(cpu: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"memory": "128Mi"}})
}

/// Two pods that ask for as much CPU as they were given.
fn two(first: &str, second: &str) -> Vec<Value> {
    vec![pod("checkout-a", 7, &asks(first), &asks(first), "tracescale"), pod("checkout-b", 8, &asks(second), &asks(second), "tracescale")]
}

fn list(items: &[Value]) -> Exchange {
    Exchange::written("GET", PODS)
        .with_query([("labelSelector", "app=checkout"), ("limit", "500")])
        .answered_with(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// A patch of one pod's `resize`.
fn patch(name: &str, version: u64, status: u16, answer: &Value) -> Exchange {
    let container = json!([{"name": "app", "resources": {"requests": {"cpu": "250m"}}}]);
    Exchange::written("PATCH", &format!("{PODS}/{name}/resize"))
        .with_query([("fieldManager", "tracescale")])
        .with_content(STRATEGIC)
        .with_body(json!({"metadata": {"resourceVersion": version.to_string()}, "spec": {"containers": container}}))
        .answered(status, answer)
}

fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

/// Discovery, and the two reads of the scale: how many replicas there are, and which pods they are.
fn begin() -> Vec<Exchange> {
    vec![
        Exchange::recorded("discovery-apps-v1-200"),
        Exchange::recorded("deployment-scale-get-200"),
        Exchange::recorded("deployment-scale-get-200"),
    ]
}

/// The Deployment whose template asks for this much CPU.
fn deployment(cpu: &str) -> Value {
    let mut body = crate::exchange::recorded("deployment-get-200")["response"]["body"].clone();
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = asks(cpu);
    body
}

/// What falls back to the template: read, patch under a precondition, read back.
fn by_template() -> Vec<Exchange> {
    let container = json!([{"name": "app", "resources": {"requests": {"cpu": "250m"}}}]);
    vec![
        Exchange::recorded("deployment-get-200").answered_with(&deployment("100m")),
        Exchange::written("PATCH", DEPLOYMENT)
            .with_query([("fieldManager", "tracescale")])
            .with_content(STRATEGIC)
            .with_body(json!({"metadata": {"resourceVersion": "314"}, "spec": {"template": {"spec": {"containers": container}}}}))
            .answered(200, &deployment("250m")),
        Exchange::recorded("deployment-get-200").answered_with(&deployment("250m")),
    ]
}

/// Guarantees: each pod that asks for something else is patched, in place and under a precondition, and read back.
#[tokio::test]
async fn pods_are_resized_in_place() {
    let mut script = begin();
    script.push(list(&two("100m", "250m")));
    script.push(patch("checkout-a", 7, 200, &two("250m", "250m")[0]));
    let mut after = two("250m", "250m");
    after[0]["status"]["containerStatuses"][0]["resources"] = asks("100m");
    after[0]["status"]["conditions"] = json!([{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]);
    script.push(list(&after));
    let outcome = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect("resized");
    assert_eq!((outcome.changed, outcome.is_confirmed(), outcome.before, outcome.confirmed), (true, true, 2, 2));
    let resized = outcome.resized.expect("resources");
    assert_eq!((resized.way, resized.in_effect, resized.replicas), (ResizeWay::InPlace, 1, 2));
    assert_eq!(outcome.warnings, ["1 of 2 pods wait for room on their machines"]);
}

/// Guarantees: when every pod asks for it already nothing is written and nobody is looked for.
#[tokio::test]
async fn no_change_no_write() {
    let mut script = begin();
    let mut pods = two("250m", "0.25");
    pods[0]["metadata"]["managedFields"][1]["manager"] = "vpa-updater".into();
    script.push(list(&pods));
    let outcome = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect("found");
    assert_eq!((outcome.changed, outcome.is_confirmed()), (false, true));
}

/// Guarantees: a server that knows no resize, and one that refuses this one, make us set the template instead, and say so.
#[tokio::test]
async fn the_template_is_the_second_way() {
    for (status, reason, message) in [
        (404, "NotFound", "the server could not find the requested resource"),
        (405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
        (
            422,
            "Invalid",
            "Pod \"checkout-a\" is invalid: metadata: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing",
        ),
    ] {
        let mut script = begin();
        script.push(list(&two("100m", "100m")));
        script.push(patch("checkout-a", 7, status, &refusal(status, reason, message)));
        script.extend(by_template());
        let outcome = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect("resized");
        let way = outcome.resized.as_ref().map(|resized| resized.way);
        assert_eq!((outcome.changed, outcome.is_confirmed(), way), (true, true, Some(ResizeWay::Template)), "{status}");
        assert!(outcome.warnings[0].contains("which replaces the pods"), "{:?}", outcome.warnings);
    }
}

/// Guarantees: a pod whose machine will never have the room makes us set the template; without running pods it is set, too.
#[tokio::test]
async fn infeasible_pods_are_replaced() {
    let mut pods = two("250m", "250m");
    pods[1]["status"]["conditions"] = json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
    for pods in [pods, Vec::new()] {
        let mut script = begin();
        script.push(list(&pods));
        script.extend(by_template());
        let outcome = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect("resized");
        assert_eq!(outcome.resized.map(|resized| resized.way), Some(ResizeWay::Template));
    }
}

/// Guarantees: a write between our read and ours is noticed; what was done before it is not done again.
#[tokio::test]
async fn conflict_then_success() {
    let mut script = begin();
    script.push(list(&two("100m", "100m")));
    script.push(patch("checkout-a", 7, 200, &two("250m", "100m")[0]));
    script.push(patch("checkout-b", 8, 409, &refusal(409, "Conflict", "the object has been modified")));
    let mut again = two("250m", "100m");
    again[1]["metadata"]["resourceVersion"] = "9".into();
    script.push(list(&again));
    script.push(patch("checkout-b", 9, 200, &again[1]));
    script.push(list(&two("250m", "250m")));
    let outcome = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect("resized");
    assert_eq!((outcome.changed, outcome.is_confirmed(), outcome.conflicts), (true, true, 1));
    assert_eq!(outcome.resized.map(|resized| resized.before.cpu), Some(Some(100)));
}

/// Guarantees: a pod that ended meanwhile is no failure, and pods that end or have not started are left alone.
#[tokio::test]
async fn pods_come_and_go() {
    let mut pods = two("100m", "100m");
    let mut ending = pod("checkout-c", 9, &asks("100m"), &asks("100m"), "tracescale");
    ending["metadata"]["deletionTimestamp"] = "2026-11-22T00:24:35Z".into();
    let mut starting = pod("checkout-d", 9, &asks("100m"), &asks("100m"), "tracescale");
    starting["status"]["phase"] = "Pending".into();
    pods.extend([ending, starting]);
    let mut script = begin();
    script.push(list(&pods));
    script.push(patch("checkout-a", 7, 404, &refusal(404, "NotFound", "pods \"checkout-a\" not found")));
    script.push(patch("checkout-b", 8, 200, &two("100m", "250m")[1]));
    script.push(list(&two("250m", "250m")[1..]));
    let outcome = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect("resized");
    assert_eq!((outcome.is_confirmed(), outcome.resized.map(|resized| resized.replicas)), (true, Some(1)));
}

/// Guarantees: a missing right is named; another writer of resources is left alone by name.
#[tokio::test]
async fn refusals_are_told() {
    let mut script = begin();
    script.push(list(&two("100m", "100m")));
    script.push(patch("checkout-a", 7, 403, &refusal(403, "Forbidden", "pods \"checkout-a\" is forbidden")));
    let error = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Denied);
    assert!(error.chain().contains("the right to `patch` `pods/resize` in namespace `shop`"), "{}", error.chain());
    let mut pods = two("100m", "100m");
    pods[1]["metadata"]["managedFields"][1]["manager"] = "vpa-updater".into();
    let mut script = begin();
    script.push(list(&pods));
    let error = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Contested { by: "field manager vpa-updater".into() });
}

/// Guarantees: of several containers the named one is resized, and when none is clear nothing is.
#[tokio::test]
async fn one_container_of_several() {
    let mut pods = two("100m", "100m");
    for pod in &mut pods {
        pod["spec"]["containers"].as_array_mut().expect("containers").insert(0, json!({"name": "proxy"}));
    }
    let mut script = begin();
    script.push(list(&pods));
    let error = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Invalid);
    assert!(error.chain().contains("proxy, app") && error.chain().contains("kubernetes.container"), "{}", error.chain());
    let TargetRef::Kubernetes(reference) = object(DEPLOYMENT) else { panic!("an object") };
    let named = TargetRef::Kubernetes(KubernetesRef { container: Some("app".into()), ..reference });
    let mut script = begin();
    script.push(list(&pods));
    script.push(patch("checkout-a", 7, 200, &pods[0]));
    script.push(patch("checkout-b", 8, 200, &pods[1]));
    script.push(list(&two("250m", "250m")));
    assert!(apply(&named, more_cpu(), ApplyContext::default(), script).await.expect("resized").is_confirmed());
}

/// Guarantees: a dry run asks the server and changes nothing.
#[tokio::test]
async fn a_dry_run_only_asks() {
    let mut script = begin();
    script.push(list(&two("100m", "250m")));
    let dry = [("dryRun", "All"), ("fieldManager", "tracescale")];
    script.push(patch("checkout-a", 7, 200, &two("250m", "250m")[0]).with_query(dry));
    let context = ApplyContext { dry_run: true, ..ApplyContext::default() };
    let outcome = apply(&object(DEPLOYMENT), more_cpu(), context, script).await.expect("accepted");
    assert_eq!((outcome.changed, outcome.is_confirmed()), (false, true));
}

/// Guarantees: a kind without a template that we can set is told so when its pods cannot be resized.
#[tokio::test]
async fn custom_kinds_have_no_second_way() {
    let pods = "/api/v1/namespaces/shop/pods";
    let script = vec![
        Exchange::recorded("discovery-example-io-v1-200"),
        Exchange::recorded("worker-scale-get-200"),
        Exchange::recorded("worker-scale-get-200"),
        Exchange::written("GET", pods)
            .with_query([("labelSelector", "app=encoder"), ("limit", "500")])
            .answered_with(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})),
    ];
    let error = apply(&object(WORKER), more_cpu(), ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Invalid);
    assert!(error.chain().contains("kind Worker of example.io/v1 has no pod template"), "{}", error.chain());
}

/// Guarantees: what most pods have is what is observed, and how many differ; without leave to read pods, what the template says.
#[tokio::test]
async fn most_pods_are_observed() {
    let forbidden = refusal(403, "Forbidden", "pods is forbidden");
    let mut pods = two("250m", "250m");
    pods.push(pod("checkout-c", 9, &asks("100m"), &asks("100m"), "tracescale"));
    for (answer, cpu, differing) in [(list(&pods), 250, 1), (list(&[]).answered(403, &forbidden), 100, 0)] {
        let script = vec![
            Exchange::recorded("discovery-apps-v1-200"),
            Exchange::recorded("deployment-scale-get-200"),
            Exchange::recorded("deployment-get-200").answered_with(&deployment("100m")),
            answer,
        ];
        let server = Strict::start(script).await;
        let options = Options { read_resources: true, ..Options::default() };
        let sink = Kubernetes::new(options, clock()).with_config(None, server.config()).await.expect("a client");
        let observed = sink.observe(&object(DEPLOYMENT)).await.expect("observed");
        let expected = Resources { cpu: Some(cpu), memory: Some(64 << 20), memory_limit: Some(128 << 20) };
        assert_eq!((observed.resources, observed.differing), (expected, differing));
        server.finish();
    }
}

/// Guarantees: one call resizes a hundred pods and says how many are left; what was accepted is told by those it met.
#[tokio::test]
async fn many_pods_take_several_calls() {
    let named = |index: usize, cpu| pod(&format!("checkout-{index}"), 7, &asks(cpu), &asks(cpu), "tracescale");
    let before: Vec<Value> = (0..250).map(|index| named(index, "100m")).collect();
    let after: Vec<Value> = (0..250).map(|index| named(index, if index < 100 { "250m" } else { "100m" })).collect();
    let mut script = begin();
    script.push(list(&before));
    script.extend((0..100).map(|index| patch(&format!("checkout-{index}"), 7, 200, &after[index])));
    script.push(list(&after));
    let outcome = apply(&object(DEPLOYMENT), more_cpu(), ApplyContext::default(), script).await.expect("resized");
    let resized = outcome.resized.clone().expect("resources");
    assert_eq!((outcome.is_confirmed(), resized.in_effect, resized.replicas), (true, 100, 250));
    assert_eq!(outcome.warnings, ["150 of 250 pods are left for the next call"]);
}
