//! One story each, played by answers recorded from a real API server.

use std::time::Duration;

use serde_json::{Value, json};
use tracescale_core::capacity::Capacity;
use tracescale_core::target::{KubernetesRef, TargetRef};
use tracescale_core::time::Timestamp;
use tracescale_sinks::kubernetes::Options;
use tracescale_sinks::{ActionEvent, ActionKind, ApplyContext, Kubernetes, Outcome, ScaleTarget, SinkError, SinkErrorKind};

use crate::cluster::{DEPLOYMENT, WORKER};
use crate::conformance::{clock, object, renamed};
use crate::exchange::{Exchange, Strict};

const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers";

/// Asks for `replicas` and holds the server to the script.
async fn apply(target: &TargetRef, replicas: u32, context: ApplyContext, script: Vec<Exchange>) -> Result<Outcome, SinkError> {
    let server = Strict::start(script).await;
    let sink = sink(&server, Options::default()).await;
    let outcome = sink.apply(target, Capacity::replicas(replicas), &context).await;
    server.finish();
    outcome
}

async fn sink(server: &Strict, options: Options) -> Kubernetes {
    Kubernetes::new(options, clock()).with_config(None, server.config()).await.expect("a client")
}

fn cart() -> TargetRef {
    renamed(&object(DEPLOYMENT), "cart")
}

fn discovery() -> Exchange {
    Exchange::recorded("discovery-apps-v1-200")
}

fn no_autoscalers() -> Exchange {
    Exchange::recorded("hpa-list-200-empty").at(AUTOSCALERS).with_query([("limit", "500")])
}

fn autoscalers() -> Exchange {
    Exchange::recorded("hpa-list-200").with_query([("limit", "500")])
}

/// A recorded write of the scale, expected with the precondition that we send.
fn write(name: &str, replicas: u32, version: &str) -> Exchange {
    let body = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}});
    Exchange::recorded(name).with_body(body).with_query([("fieldManager", "tracescale")])
}

/// The calls before a write to the Deployment `checkout`, which has 2 replicas at version 314.
fn before_a_write() -> Vec<Exchange> {
    vec![
        discovery(),
        Exchange::recorded("deployment-scale-get-200"),
        no_autoscalers(),
        Exchange::recorded("deployment-get-200-partial-metadata"),
    ]
}

/// Guarantees: scaling up is one patch under a version precondition, read back.
#[tokio::test]
async fn scale_up() {
    let mut script = before_a_write();
    script.push(write("deployment-scale-patch-200-merge", 3, "314"));
    script.push(Exchange::recorded("deployment-scale-get-200").answered_as("deployment-scale-patch-200-merge"));
    let outcome = apply(&object(DEPLOYMENT), 3, ApplyContext::default(), script).await.expect("applied");
    assert_eq!((outcome.before, outcome.confirmed, outcome.changed, outcome.conflicts), (2, 3, true, 0));
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
}

/// Guarantees: when nothing changes, nothing is written and nobody is looked for.
#[tokio::test]
async fn no_change_no_write() {
    let script = vec![discovery(), Exchange::recorded("deployment-scale-get-200")];
    let outcome = apply(&object(DEPLOYMENT), 2, ApplyContext::default(), script).await.expect("applied");
    assert!(!outcome.changed);
}

/// Guarantees: discovery and autoscalers are not asked for again within their expiry; observing writes nothing.
#[tokio::test]
async fn answers_are_remembered() {
    let mut script = before_a_write();
    script.push(write("deployment-scale-patch-200-merge", 3, "314"));
    script.push(Exchange::recorded("deployment-scale-get-200").answered_as("deployment-scale-patch-200-merge"));
    script.push(Exchange::recorded("deployment-scale-get-200"));
    script.push(Exchange::recorded("deployment-get-200"));
    script.push(Exchange::recorded("deployment-scale-get-200"));
    script.push(Exchange::recorded("deployment-get-200-partial-metadata").answered_as("deployment-get-200-managed-fields-after-apply"));
    script.push(write("deployment-scale-patch-200-merge", 3, "314"));
    script.push(Exchange::recorded("deployment-scale-get-200").answered_as("deployment-scale-patch-200-merge"));
    let server = Strict::start(script).await;
    let sink = sink(&server, Options::default()).await;
    let (target, context) = (object(DEPLOYMENT), ApplyContext::default());
    sink.apply(&target, Capacity::replicas(3), &context).await.expect("applied");
    let observed = sink.observe(&target).await.expect("observed");
    assert_eq!((observed.desired, observed.generation.as_deref()), (2, Some("314")));
    sink.apply(&target, Capacity::replicas(3), &context).await.expect("applied");
    server.finish();
}

/// Guarantees: a write between our read and ours is noticed, and the second attempt starts from what is there now.
#[tokio::test]
async fn conflict_then_success() {
    let mut script = before_a_write();
    script.push(write("deployment-scale-patch-409-stale-resource-version", 3, "314"));
    script.push(Exchange::recorded("deployment-scale-get-200").answered_as("deployment-scale-get-200-after-dry-run"));
    script.push(Exchange::recorded("deployment-get-200-partial-metadata"));
    let version = crate::exchange::recorded("deployment-scale-get-200-after-dry-run");
    let version = version["response"]["body"]["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    script.push(write("deployment-scale-patch-200-merge", 3, &version));
    script.push(Exchange::recorded("deployment-scale-get-200").answered_as("deployment-scale-patch-200-merge"));
    let outcome = apply(&object(DEPLOYMENT), 3, ApplyContext::default(), script).await.expect("applied");
    assert_eq!((outcome.confirmed, outcome.changed, outcome.conflicts), (3, true, 1));
}

/// Guarantees: a missing right is named by verb, resource, group and namespace.
#[tokio::test]
async fn forbidden_names_the_right() {
    let quiet = "/apis/apps/v1/namespaces/quiet/deployments/missing";
    let target = TargetRef::Kubernetes(KubernetesRef {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: "quiet".into(),
        name: "missing".into(),
        context: None,
        container: None,
    });
    let script = vec![
        discovery(),
        Exchange::recorded("deployment-scale-get-200").at(&format!("{quiet}/scale")),
        write("rbac-scale-patch-403-other-namespace", 3, "314"),
    ];
    let error = apply(&target, 3, ApplyContext { take_over: true, ..ApplyContext::default() }, script).await.expect_err("refused");
    assert_eq!((error.kind.clone(), error.is_retryable()), (SinkErrorKind::Denied, false));
    for part in ["`patch`", "`deployments/scale`", "`apps`", "`quiet`"] {
        assert!(error.chain().contains(part), "{part} in {}", error.chain());
    }
}

/// Guarantees: a missing right to look for other writers stops the write: not knowing is no licence.
#[tokio::test]
async fn without_the_right_to_look_nothing_is_written() {
    let mut script = before_a_write();
    script.pop();
    script.push(Exchange::recorded("deployment-get-200-partial-metadata").answered_as("rbac-deployment-get-403"));
    let error = apply(&object(DEPLOYMENT), 3, ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Denied);
    assert!(error.chain().contains("the right to `get` `deployments` of API group `apps`"), "{}", error.chain());
}

/// Guarantees: an object without readable status still has a capacity; its readiness is unknown, not zero.
#[tokio::test]
async fn readiness_may_be_unknown() {
    let script = vec![
        discovery(),
        Exchange::recorded("deployment-scale-get-200"),
        Exchange::recorded("deployment-get-200").answered_as("rbac-deployment-get-403"),
    ];
    let server = Strict::start(script).await;
    let observed = sink(&server, Options::default()).await.observe(&object(DEPLOYMENT)).await.expect("observed");
    assert_eq!((observed.desired, observed.ready), (2, None));
    server.finish();
}

/// Guarantees: ready replicas are those of the object's status.
#[tokio::test]
async fn readiness_is_read() {
    let cart = "/apis/apps/v1/namespaces/shop/deployments/cart";
    let script = vec![
        discovery(),
        Exchange::recorded("deployment-scale-get-200").at(&format!("{cart}/scale")),
        Exchange::recorded("deployment-get-200").at(cart).answered_as("deployment-get-200-managed-fields-hpa"),
    ];
    let server = Strict::start(script).await;
    let observed = sink(&server, Options::default()).await.observe(&self::cart()).await.expect("observed");
    assert_eq!(observed.ready, Some(6));
    server.finish();
}

/// Guarantees: what does not exist is not found, and that is not worth repeating.
#[tokio::test]
async fn missing() {
    let script = vec![discovery(), Exchange::recorded("deployment-scale-get-404-missing")];
    let error = apply(&renamed(&object(DEPLOYMENT), "missing"), 3, ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!((error.kind.clone(), error.is_retryable()), (SinkErrorKind::NotFound, false));
}

/// Guarantees: a missing object does not make us ask again what its group serves; a resource that is gone does.
#[tokio::test]
async fn discovery_is_repeated_when_it_misled() {
    let scale = || Exchange::recorded("deployment-scale-get-200");
    let script = vec![
        discovery(),
        scale().answered_as("deployment-scale-get-404-missing"),
        scale().answered_as("unknown-resource-404"),
        discovery(),
        scale().answered_as("discovery-group-404-not-installed"),
        discovery(),
        scale(),
    ];
    let server = Strict::start(script).await;
    let sink = sink(&server, Options { read_ready: false, ..Options::default() }).await;
    for _ in 0..3 {
        assert_eq!(sink.observe(&object(DEPLOYMENT)).await.expect_err("refused").kind, SinkErrorKind::NotFound);
    }
    sink.observe(&object(DEPLOYMENT)).await.expect("observed");
    server.finish();
}

/// Guarantees: Retry-After of a throttled write is passed on, although its body is plain text.
#[tokio::test]
async fn throttled_with_retry_after() {
    let mut script = before_a_write();
    script.push(write("throttled-429-scale-patch", 3, "314"));
    let error = apply(&object(DEPLOYMENT), 3, ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert!(error.is_retryable());
}

/// Guarantees: a store that is down is worth repeating; its Status without a kind is understood.
#[tokio::test]
async fn store_down() {
    let mut script = before_a_write();
    script.push(write("deployment-scale-patch-504-store-down", 3, "314"));
    let error = apply(&object(DEPLOYMENT), 3, ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!((error.kind.clone(), error.is_retryable()), (SinkErrorKind::Unavailable, true));
    assert!(error.chain().contains("allotted timeout"), "{}", error.chain());
}

/// Guarantees: no answer at all ends after the timeout and is worth repeating.
#[tokio::test]
async fn no_answer() {
    let script = vec![discovery(), Exchange::recorded("deployment-scale-get-200").unanswered()];
    let server = Strict::start(script).await;
    let sink = sink(&server, Options { timeout: Duration::from_millis(200), ..Options::default() }).await;
    let error = sink.observe(&object(DEPLOYMENT)).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Unavailable);
    assert!(error.chain().contains("no answer"), "{}", error.chain());
    server.finish();
}

/// Guarantees: a webhook's refusal is final and quoted, whatever code it chose; one that cannot be reached is worth repeating.
#[tokio::test]
async fn webhooks() {
    for (fixture, kind) in [
        ("worker-scale-patch-403-webhook-deny", SinkErrorKind::Denied),
        ("worker-scale-patch-422-webhook-deny", SinkErrorKind::Denied),
        ("worker-scale-patch-500-webhook-connection-refused", SinkErrorKind::Unavailable),
        ("worker-scale-patch-500-webhook-timeout", SinkErrorKind::Unavailable),
        ("worker-scale-patch-422-above-schema-maximum", SinkErrorKind::Invalid),
    ] {
        let script = worker(vec![write(fixture, 10, "290")]);
        let error = apply(&object(WORKER), 10, take_over(), script).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{fixture}: {}", error.chain());
        assert!(error.chain().contains(if kind == SinkErrorKind::Invalid { "50" } else { "guard.example.io" }), "{}", error.chain());
    }
}

/// Guarantees: a conflict over the field's owner is told from one over the version, and not repeated.
#[tokio::test]
async fn owner_conflict_is_no_version_conflict() {
    let owned = write("worker-scale-patch-504-request-timeout", 10, "290").answered_as("worker-scale-apply-409-conflict");
    let error = apply(&object(WORKER), 10, take_over(), worker(vec![owned])).await.expect_err("refused");
    assert!(matches!(&error.kind, SinkErrorKind::Contested { by } if by.contains("conflict with")), "{error:?}");
}

/// Guarantees: what a webhook warns of reaches the outcome, and what it changed is believed only when read.
#[tokio::test]
async fn webhook_warns_or_changes() {
    let context = ApplyContext { dry_run: true, ..take_over() };
    let dry = [("dryRun", "All"), ("fieldManager", "tracescale")];
    let script = worker(vec![write("worker-scale-patch-200-webhook-warning", 10, "290").with_query(dry)]);
    let outcome = apply(&object(WORKER), 10, context.clone(), script).await.expect("accepted");
    assert_eq!((outcome.warnings, outcome.changed), (vec!["replicas above the budget of team video".to_owned()], false));
    let script = worker(vec![write("worker-scale-patch-200-webhook-mutated", 10, "290").with_query(dry)]);
    let outcome = apply(&object(WORKER), 10, context, script).await.expect("accepted");
    assert_eq!((outcome.requested, outcome.confirmed, outcome.is_confirmed()), (10, 8, false));
}

/// Guarantees: an object on which an autoscaler acts is left to it, by name; nothing is written.
#[tokio::test]
async fn autoscaler_present() {
    let script = vec![discovery(), Exchange::recorded("deployment-scale-get-200"), autoscalers()];
    let error = apply(&object(DEPLOYMENT), 3, ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Contested { by: "HorizontalPodAutoscaler shop/checkout".into() });
    assert!(!error.is_retryable());
    assert!(error.chain().contains("takeOver"), "{}", error.chain());
}

/// Guarantees: an autoscaler on another object does not matter, nor what a deleted one left in the managed fields.
#[tokio::test]
async fn autoscaler_gone() {
    let cart = "/apis/apps/v1/namespaces/shop/deployments/cart";
    let scale = || Exchange::recorded("deployment-scale-get-200").at(&format!("{cart}/scale"));
    let script = vec![
        discovery(),
        scale(),
        no_autoscalers(),
        Exchange::recorded("deployment-get-200-partial-metadata").at(cart).answered_as("deployment-get-200-managed-fields-hpa"),
        write("deployment-scale-patch-200-merge", 3, "314").at(&format!("{cart}/scale")),
        scale().answered_as("deployment-scale-patch-200-merge"),
    ];
    let outcome = apply(&self::cart(), 3, ApplyContext::default(), script).await.expect("applied");
    assert!(outcome.changed);
}

/// Guarantees: a foreign manager on the scale is left alone and named; with `takeOver` it is written without looking.
#[tokio::test]
async fn foreign_manager() {
    let mut script = before_a_write();
    script.pop();
    let mut foreign = crate::exchange::recorded("deployment-get-200-managed-fields-after-apply")["response"]["body"].clone();
    foreign["metadata"]["managedFields"][0]["manager"] = Value::from("second-scaler");
    script.push(Exchange::recorded("deployment-get-200-partial-metadata").answered_with(&foreign));
    let error = apply(&object(DEPLOYMENT), 3, ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Contested { by: "field manager second-scaler".into() });
    assert!(error.chain().contains("300 s"), "{}", error.chain());
    let script = vec![
        discovery(),
        Exchange::recorded("deployment-scale-get-200"),
        write("deployment-scale-patch-200-merge", 3, "314"),
        Exchange::recorded("deployment-scale-get-200").answered_as("deployment-scale-patch-200-merge"),
    ];
    let outcome = apply(&object(DEPLOYMENT), 3, take_over(), script).await.expect("applied");
    assert!(outcome.changed);
}

/// Guarantees: a group that is not installed, a kind that a group lacks and a kind without a scale are told apart.
#[tokio::test]
async fn discovery_says_what_is_wrong() {
    let reference = |api_version: &str, kind: &str| {
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        TargetRef::Kubernetes(KubernetesRef {
            api_version,
            kind,
            namespace: "shop".into(),
            name: "x".into(),
            context: None,
            container: None,
        })
    };
    let script = vec![Exchange::recorded("discovery-group-404-not-installed")];
    let error = apply(&reference("metrics.k8s.io/v1beta1", "Rollout"), 3, ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::NotFound);
    assert!(error.chain().contains("metrics.k8s.io/v1beta1 is not installed"), "{}", error.chain());
    let error = apply(&reference("apps/v1", "Deploymint"), 3, ApplyContext::default(), vec![discovery()]).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::NotFound);
    assert!(error.chain().contains("Deployment, ReplicaSet, StatefulSet"), "{}", error.chain());
    let error = apply(&reference("apps/v1", "DaemonSet"), 3, ApplyContext::default(), vec![discovery()]).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Invalid);
}

/// Guarantees: a name that could lead a call elsewhere is refused before anything is sent.
#[tokio::test]
async fn silence_about_bad_names() {
    let error = apply(&renamed(&object(DEPLOYMENT), "../../secrets/x"), 3, ApplyContext::default(), Vec::new()).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Invalid);
}

/// Guarantees: a sink that nobody asks for anything sends nothing, not even to log in.
#[tokio::test]
async fn silence() {
    let server = Strict::start(Vec::new()).await;
    let sink = sink(&server, Options::default()).await;
    assert_eq!(sink.name(), "kubernetes");
    server.finish();
}

/// Guarantees: an action becomes an Event on the object, found by its uid; a repetition makes it a series; when the Event has
/// expired meanwhile, a new one is made; a failed report is tried anew.
#[tokio::test]
async fn events() {
    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";
    let at = |seconds: i64| Timestamp::from_secs(1_767_225_600 + seconds);
    let body = |name: &str, time: &str| {
        let mut body = crate::exchange::recorded("event-v1-create-201")["request"]["body"].clone();
        body["metadata"]["name"] = Value::from(name);
        body["eventTime"] = Value::from(time);
        (body["reason"], body["type"]) = (Value::from("Contested"), Value::from("Warning"));
        body
    };
    let create = |name, time| Exchange::recorded("event-v1-create-201").with_body(body(name, time));
    let (first, second) = ("checkout.18867251edfa000001", "checkout.18867266e265040002");
    let script = vec![
        discovery(),
        Exchange::recorded("deployment-scale-get-200"),
        create(first, "2026-01-01T00:00:00.000000Z"),
        Exchange::recorded("event-v1-patch-200-series").at(&format!("{EVENTS}/{first}")),
        Exchange::recorded("event-v1-patch-200-series")
            .at(&format!("{EVENTS}/{first}"))
            .with_body(json!({"series": {"count": 4, "lastObservedTime": "2026-01-01T00:01:30.000000Z"}}))
            .answered_as("deployment-scale-get-404-missing"),
        create(second, "2026-01-01T00:01:30.000000Z"),
    ];
    let server = Strict::start(script).await;
    let sink = sink(&server, Options { instance: "tracescale-0".into(), ..Options::default() }).await;
    for seconds in [0, 30, 60, 90] {
        let note = "replicas 3 -> 5: predicted 420 requests/s in 60 s";
        sink.report(&object(DEPLOYMENT), &ActionEvent::new(ActionKind::Contested, note, at(seconds))).await.expect("reported");
    }
    server.finish();
}

/// Guarantees: an encrypted connection that nobody accepts is an outage, said with its cause, and no panic of the TLS stack.
#[tokio::test]
async fn nobody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let config = kube::Config::new(url.parse().expect("a URL"));
    let sink = Kubernetes::new(Options::default(), clock()).with_config(None, config).await.expect("a client");
    let error = sink.observe(&object(DEPLOYMENT)).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Unavailable);
    assert!(error.chain().to_lowercase().contains("refused"), "{}", error.chain());
}

/// Guarantees: unknown credentials are denied with the server's word.
#[tokio::test]
async fn unauthenticated() {
    let script = vec![discovery(), Exchange::recorded("auth-401-bad-token")];
    let error = apply(&object(DEPLOYMENT), 3, ApplyContext::default(), script).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Denied);
    assert!(error.chain().contains("does not accept our credentials"), "{}", error.chain());
}

fn take_over() -> ApplyContext {
    ApplyContext { take_over: true, ..ApplyContext::default() }
}

/// The calls about the custom resource `encoder`, which has 2 replicas at version 290, up to those given.
fn worker(rest: Vec<Exchange>) -> Vec<Exchange> {
    let mut script = vec![Exchange::recorded("discovery-example-io-v1-200"), Exchange::recorded("worker-scale-get-200")];
    script.extend(rest);
    script
}
