//! Who else sets the replicas of an object, and whether we yield to them.
//!
//! Two witnesses. An autoscaler that names the object will write it again, so we never write beside it. A field manager that
//! wrote the scale may be a person with `kubectl scale` or another controller; the server keeps no time for such writes, so
//! we yield from when we first see one. If the same hand takes the field back after us, we yield twice as long each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tracescale_core::target::KubernetesRef;
use tracescale_core::time::Timestamp;

use crate::kubernetes::wire::FIELD_MANAGER;

/// Autoscalers are listed at most this often per namespace: their own controller acts every 15 seconds, a younger one has not
/// acted yet.
pub(super) const AUTOSCALERS_EXPIRY: Duration = Duration::from_secs(15);
/// Yielding doubles at most this often.
const DOUBLINGS: u32 = 6;
/// The manager under which the autoscaler's controller writes the scale.
const AUTOSCALER_MANAGER: &str = "kube-controller-manager";
/// Targets remembered; at this many the memory starts anew, which at worst costs one more write against a rival.
const TARGETS: usize = 65_536;

/// Objects on which an autoscaler of a namespace acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Autoscaler {
    pub(super) name: String,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default)]
    api_version: String,
    kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Debug, Default, Deserialize)]
struct ListMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Item {
    metadata: ItemMeta,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct ItemMeta {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: Target,
}

/// The part of an object's metadata that says who writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ownership {
    #[serde(default)]
    managed_fields: Vec<Entry>,
    #[serde(default)]
    owner_references: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    subresource: String,
    #[serde(default, rename = "fieldsV1")]
    fields: Value,
}

#[derive(Debug, Deserialize)]
struct Owner {
    kind: String,
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

/// What we know of the hands on each target.
#[derive(Debug, Default)]
pub(super) struct Contests {
    hands: Mutex<HashMap<KubernetesRef, Hand>>,
}

#[derive(Debug, Default)]
struct Hand {
    /// Since when the field is ours, as far as we know.
    ours: Option<Timestamp>,
    /// Who holds it instead, with which replicas, since when.
    other: Option<(String, u32, Timestamp)>,
    taken_back: u32,
}

/// What to do about other hands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write; with what is worth saying.
    Free(Vec<String>),
    /// Do not write before then (never, when none).
    Held { by: String, for_another: Option<Duration> },
}

// === impl Autoscaler ===

impl Autoscaler {
    /// Reads a page of a list: the autoscalers, and the token of the next page.
    pub(super) fn parse(body: Value) -> Result<(Vec<Self>, Option<String>), serde_json::Error> {
        let list: List = serde_json::from_value(body)?;
        let items = list.items.into_iter().map(|item| Self { name: item.metadata.name, target: item.spec.scale_target_ref });
        Ok((items.collect(), list.metadata.next.filter(|next| !next.is_empty())))
    }

    /// Whether it acts on this object. The version may differ: it is the same object in every version of a group.
    pub(super) fn acts_on(&self, reference: &KubernetesRef) -> bool {
        let group = |api_version: &str| api_version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned());
        self.target.kind == reference.kind
            && self.target.name == reference.name
            && group(&self.target.api_version) == group(&reference.api_version)
    }
}

// === impl Contests ===

impl Contests {
    /// Remembers that we wrote the replicas.
    pub(super) fn wrote(&self, reference: &KubernetesRef, now: Timestamp) {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let hand = hands.entry(reference.clone()).or_default();
        hand.ours = Some(hand.ours.unwrap_or(now));
        hand.other = None;
    }

    /// Whether we may write, given who owns the fields of the object and which replicas it has now.
    pub(super) fn judge(
        &self,
        reference: &KubernetesRef,
        ownership: &Ownership,
        replicas: u32,
        yield_for: Duration,
        now: Timestamp,
    ) -> Verdict {
        if let Some(owner) = ownership.owner_references.iter().find(|owner| owner.controller == Some(true)) {
            let by = format!("its owner {}/{}", owner.kind, owner.name);
            if reference.kind == "ReplicaSet" && owner.kind == "Deployment" {
                return Verdict::Held { by, for_another: None };
            }
            let note = format!("{by} may set the replicas back");
            return self.judge_managers(reference, ownership, replicas, yield_for, now).with(note);
        }
        self.judge_managers(reference, ownership, replicas, yield_for, now)
    }

    fn judge_managers(
        &self,
        reference: &KubernetesRef,
        ownership: &Ownership,
        replicas: u32,
        yield_for: Duration,
        now: Timestamp,
    ) -> Verdict {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        if hands.len() >= TARGETS && !hands.contains_key(reference) {
            hands.clear();
        }
        let hand = hands.entry(reference.clone()).or_default();
        let after_us = hand.ours.is_some() || hand.other.is_some() || hand.taken_back > 0;
        // Nobody yields to whoever created the object with a number in it; only to a write of the scale, or to a write after ours.
        let Some(entry) = ownership.foreign().find(|entry| entry.subresource == "scale" || after_us) else {
            hand.other = None;
            let declared = ownership.foreign().filter(|entry| entry.operation == "Apply");
            let note = |entry: &Entry| {
                format!("field manager {} applies spec.replicas and will undo this; leave replicas out of its manifest", entry.manager)
            };
            return Verdict::Free(declared.map(note).collect());
        };
        let since = match &hand.other {
            Some((manager, seen, since)) if *manager == entry.manager && *seen == replicas => *since,
            _ => {
                // A hand that comes back soon after us is a controller; one that comes back after days is a person.
                hand.taken_back = match hand.ours.take() {
                    Some(ours) if now.since(ours) < 2 * patience(yield_for, hand.taken_back) => (hand.taken_back + 1).min(DOUBLINGS),
                    Some(_) => 0,
                    None => hand.taken_back,
                };
                hand.other = Some((entry.manager.clone(), replicas, now));
                now
            }
        };
        let patience = patience(yield_for, hand.taken_back);
        match patience.checked_sub(now.since(since)).filter(|left| !left.is_zero()) {
            Some(left) => Verdict::Held { by: format!("field manager {}", entry.manager), for_another: Some(left) },
            None => Verdict::Free(vec![format!("taking over from field manager {}, which was quiet", entry.manager)]),
        }
    }
}

// === impl Ownership ===

impl Ownership {
    /// Entries of others that own the replicas. The autoscaler's controller is left out: a living autoscaler was found by its
    /// own object, and what remains of a deleted one holds nothing.
    fn foreign(&self) -> impl Iterator<Item = &Entry> {
        self.managed_fields.iter().filter(|entry| {
            let owns = entry.subresource == "scale" || entry.subresource.is_empty() && entry.fields["f:spec"].get("f:replicas").is_some();
            owns && entry.manager != FIELD_MANAGER && !(entry.subresource == "scale" && entry.manager == AUTOSCALER_MANAGER)
        })
    }
}

// === impl Verdict ===

impl Verdict {
    fn with(mut self, note: String) -> Self {
        if let Self::Free(notes) = &mut self {
            notes.push(note);
        }
        self
    }
}

fn patience(yield_for: Duration, doublings: u32) -> Duration {
    yield_for.saturating_mul(1 << doublings.min(DOUBLINGS))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const YIELD: Duration = Duration::from_secs(300);

    fn cart() -> KubernetesRef {
        KubernetesRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "cart".into(),
            context: None,
            container: None,
        }
    }

    fn owned(manager: &str, operation: &str, subresource: &str) -> Ownership {
        let entry =
            json!({"manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        serde_json::from_value(json!({ "managedFields": [entry] })).expect("ownership")
    }

    fn judge(contests: &Contests, ownership: &Ownership, replicas: u32, seconds: i64) -> Option<u64> {
        match contests.judge(&cart(), ownership, replicas, YIELD, Timestamp::from_secs(seconds)) {
            Verdict::Free(_) => None,
            Verdict::Held { for_another, .. } => Some(for_another.expect("a term").as_secs()),
        }
    }

    /// Guarantees: an autoscaler is taken for a rival on its own object, in whatever version, and on no other.
    #[test]
    fn autoscalers_are_matched_by_group_kind_and_name() {
        let acts = |api_version: &str, kind: &str, name: &str| {
            let target = json!({"apiVersion": api_version, "kind": kind, "name": name});
            let list = json!({"items": [{"metadata": {"name": "a"}, "spec": {"scaleTargetRef": target}}], "metadata": {"continue": ""}});
            let (autoscalers, next) = Autoscaler::parse(list).expect("a list");
            assert_eq!(next, None);
            autoscalers[0].acts_on(&cart())
        };
        assert!(acts("apps/v1", "Deployment", "cart") && acts("apps/v1beta2", "Deployment", "cart"));
        assert!(!acts("example.io/v1", "Deployment", "cart"));
        assert!(!acts("apps/v1", "StatefulSet", "cart") && !acts("apps/v1", "Deployment", "basket"));
    }

    /// Guarantees: a person's `kubectl scale` is kept for the yield time, counted anew when they change it, and no longer.
    #[test]
    fn a_manual_scale_is_kept_for_a_while() {
        let (contests, kubectl) = (Contests::default(), owned("kubectl", "Update", "scale"));
        assert_eq!(judge(&contests, &kubectl, 5, 0), Some(300));
        assert_eq!(judge(&contests, &kubectl, 5, 200), Some(100));
        assert_eq!(judge(&contests, &kubectl, 6, 200), Some(300));
        assert_eq!(judge(&contests, &kubectl, 6, 500), None);
    }

    /// Guarantees: against a writer that keeps taking the field back, we write ever more rarely.
    #[test]
    fn a_writer_that_comes_back_is_left_alone_for_longer() {
        let (contests, other) = (Contests::default(), owned("other-scaler", "Update", ""));
        assert_eq!(judge(&contests, &other, 5, 0), None);
        let mut now = 0;
        for expected in [600, 1200, 2400, 4800, 9600, 19200, 19200] {
            contests.wrote(&cart(), Timestamp::from_secs(now));
            assert_eq!(judge(&contests, &other, 5, now + 15), Some(expected));
            now += 15 + i64::try_from(expected).expect("small");
            assert_eq!(judge(&contests, &other, 5, now), None);
        }
    }

    /// Guarantees: whoever created the object is no rival; one that declares replicas by apply is named.
    #[test]
    fn a_creator_is_no_rival() {
        let contests = Contests::default();
        let verdict = contests.judge(&cart(), &owned("deployer", "Update", ""), 5, YIELD, Timestamp::EPOCH);
        assert_eq!(verdict, Verdict::Free(Vec::new()));
        let verdict = contests.judge(&cart(), &owned("gitops", "Apply", ""), 5, YIELD, Timestamp::EPOCH);
        assert!(matches!(&verdict, Verdict::Free(notes) if notes[0].contains("gitops")), "{verdict:?}");
    }

    /// Guarantees: a ReplicaSet of a Deployment is never scaled beside it.
    #[test]
    fn a_controlled_replica_set_is_never_ours() {
        let owner = json!({"ownerReferences": [{"kind": "Deployment", "name": "cart", "controller": true}]});
        let ownership: Ownership = serde_json::from_value(owner).expect("ownership");
        let reference = KubernetesRef { kind: "ReplicaSet".into(), ..cart() };
        let verdict = Contests::default().judge(&reference, &ownership, 5, YIELD, Timestamp::EPOCH);
        assert_eq!(verdict, Verdict::Held { by: "its owner Deployment/cart".into(), for_another: None });
    }
}
