//! The rights we ask for in `deploy/kubernetes/rbac.yaml` are exactly the calls we make: none missing, none to spare.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use tracescale_core::capacity::{Capacity, Resources};
use tracescale_core::time::Timestamp;
use tracescale_sinks::kubernetes::Options;
use tracescale_sinks::{ActionEvent, ActionKind, ApplyContext, Kubernetes, ScaleTarget};

use crate::cluster::{Cluster, DEPLOYMENT};
use crate::conformance::{clock, object};
use crate::server::Received;

/// Verb, API group, resource.
type Right = (String, String, String);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// The documents of `deploy/kubernetes/rbac.yaml`.
pub(crate) fn manifests() -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/rbac.yaml");
    let text = std::fs::read_to_string(path).expect("rbac.yaml");
    serde_saphyr::from_multiple(&text).expect("manifests")
}

fn granted(role: &str) -> BTreeSet<Right> {
    let of = |manifest: &Value| manifest["kind"] == "ClusterRole" && manifest["metadata"]["name"] == role;
    let manifest = manifests().into_iter().find(of).expect("the role");
    let rules: Vec<Rule> = serde_json::from_value(manifest["rules"].clone()).expect("rules");
    let mut rights = BTreeSet::new();
    for (verb, group, resource) in rules.iter().flat_map(product) {
        assert!(![verb, group, resource].contains(&"*"), "a wildcard in {role}");
        rights.insert((verb.to_owned(), group.to_owned(), resource.to_owned()));
    }
    rights
}

fn product(rule: &Rule) -> Vec<(&str, &str, &str)> {
    let mut all = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            all.extend(rule.resources.iter().map(|resource| (verb.as_str(), group.as_str(), resource.as_str())));
        }
    }
    all
}

/// The right that a call needs; none for discovery, which every account has.
fn needed(call: &Received) -> Option<Right> {
    let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
    let (group, resource, rest) = match parts.as_slice() {
        ["apis", group, _version, "namespaces", _namespace, resource, rest @ ..] => (group, resource, rest),
        ["api", "v1", "namespaces", _namespace, resource, rest @ ..] => (&"", resource, rest),
        _ => {
            assert!(matches!(parts.as_slice(), ["apis", _, _]), "a call outside namespaces: {}", call.path);
            return None;
        }
    };
    let (verb, resource) = match (call.method.as_str(), rest) {
        ("GET", []) => ("list", (*resource).to_owned()),
        ("GET", [_]) => ("get", (*resource).to_owned()),
        ("GET", [_, sub]) => ("get", format!("{resource}/{sub}")),
        ("POST", []) => ("create", (*resource).to_owned()),
        ("PATCH", [_]) => ("patch", (*resource).to_owned()),
        ("PATCH", [_, sub]) => ("patch", format!("{resource}/{sub}")),
        _ => panic!("no right is known for {call:?}"),
    };
    Some((verb.to_owned(), (*group).to_owned(), resource))
}

/// The same rights for the other kinds that the roles name.
fn for_deployments(rights: BTreeSet<Right>) -> BTreeSet<Right> {
    let (others, mine): (BTreeSet<Right>, BTreeSet<Right>) =
        rights.into_iter().partition(|(_, _, resource)| resource.starts_with("statefulsets"));
    for (verb, group, resource) in others {
        let same = (verb, group, resource.replace("statefulsets", "deployments"));
        assert!(mine.contains(&same), "StatefulSets have a right that Deployments have not: {same:?}");
    }
    mine
}

/// Guarantees: whoever binds our roles grants exactly what observing and acting call for.
#[tokio::test]
async fn roles_are_exact() {
    let cluster = Cluster::start().await;
    let sink = Kubernetes::new(Options::default(), clock()).with_config(None, cluster.server.config()).await.expect("a client");
    let target = object(DEPLOYMENT);
    sink.observe(&target).await.expect("observed");
    let observing: BTreeSet<Right> = cluster.server.calls().iter().filter_map(needed).collect();
    assert_eq!(observing, for_deployments(granted("tracescale-observe")));

    for (replicas, dry_run, take_over) in [(3, false, false), (4, true, false), (5, false, true)] {
        let context = ApplyContext { dry_run, take_over, ..ApplyContext::default() };
        sink.apply(&target, Capacity::replicas(replicas), &context).await.expect("applied");
    }
    for second in 0..3 {
        let event = ActionEvent::new(ActionKind::Contested, "held", Timestamp::from_secs(second));
        sink.report(&target, &event).await.expect("reported");
    }
    let acting: BTreeSet<Right> = cluster.server.calls().iter().filter_map(needed).collect();
    assert_eq!(acting, for_deployments(granted("tracescale-act")));
    cluster.finish();
}

/// Guarantees: the role for CPU and memory grants exactly what setting them calls for, in place and by the template.
#[tokio::test]
async fn the_role_for_resources_is_exact() {
    let cluster = Cluster::start().await;
    let resources = |cpu| Resources { cpu: Some(cpu), ..Resources::NONE };
    cluster.equip(resources(500));
    let options = Options { read_resources: true, ..Options::default() };
    let sink = Kubernetes::new(options, clock()).with_config(None, cluster.server.config()).await.expect("a client");
    sink.observe(&object(DEPLOYMENT)).await.expect("observed");
    for cpu in [250, 100] {
        let outcome =
            sink.apply(&object(DEPLOYMENT), Capacity::resources(resources(cpu)), &ApplyContext::default()).await.expect("resized");
        assert!(outcome.is_confirmed() && outcome.changed, "{outcome:?}");
        cluster.grow_old();
    }
    let needed: BTreeSet<Right> = cluster.server.calls().iter().filter_map(needed).collect();
    assert_eq!(needed, for_deployments(granted("tracescale-resize")));
    cluster.finish();
}
