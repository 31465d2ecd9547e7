//! The one suite, for every sink that needs nothing but this process.

use std::sync::Arc;

use async_trait::async_trait;
use tracescale_core::capacity::Resources;
use tracescale_core::target::{KubernetesRef, MemoryRef, TargetRef};
use tracescale_core::time::Timestamp;
use tracescale_sinks::conformance::{self, Condition, Subject, WAIT};
use tracescale_sinks::kubernetes::Options;
use tracescale_sinks::memory::Fault;
use tracescale_sinks::{Clock, Kubernetes, Memory, ScaleTarget, Sinks};

use crate::cluster::{Cluster, DEPLOYMENT, WORKER};

pub(crate) fn clock() -> Clock {
    Arc::new(|| Timestamp::from_secs(1_800_000_000))
}

pub(crate) fn object(path: &str) -> TargetRef {
    let (api_version, kind, name) = match path {
        WORKER => ("example.io/v1", "Worker", "encoder"),
        _ => ("apps/v1", "Deployment", "checkout"),
    };
    TargetRef::Kubernetes(KubernetesRef {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: "shop".into(),
        name: name.into(),
        context: None,
        container: None,
    })
}

pub(crate) fn renamed(target: &TargetRef, name: &str) -> TargetRef {
    let TargetRef::Kubernetes(reference) = target else { panic!("not an object: {target}") };
    TargetRef::Kubernetes(KubernetesRef { name: name.into(), ..reference.clone() })
}

struct InMemory {
    memory: Memory,
}

#[async_trait]
impl Subject for InMemory {
    fn sink(&self) -> &dyn ScaleTarget {
        &self.memory
    }
    fn target(&self) -> TargetRef {
        TargetRef::Memory(MemoryRef { name: "cart".into(), replicas: 2 })
    }
    fn missing(&self) -> TargetRef {
        self.memory.remove("gone");
        TargetRef::Memory(MemoryRef { name: "gone".into(), replicas: 2 })
    }
    async fn reset(&self, replicas: u32) {
        self.memory.remove("cart");
        self.memory.set("cart", replicas);
    }
    async fn stored(&self) -> u32 {
        self.memory.replicas("cart").expect("it exists")
    }
    async fn equip(&self, resources: Resources) -> bool {
        self.memory.equip("cart", resources);
        true
    }
    async fn equipped(&self) -> Resources {
        self.memory.resources("cart").expect("it exists")
    }
    async fn arrange(&self, condition: Condition) -> bool {
        let faults = match condition {
            Condition::Throttled => vec![Fault::Throttle(Some(WAIT))],
            Condition::Unavailable => vec![Fault::Unavailable],
            Condition::Conflicts(times) => vec![Fault::Conflict(2); usize::try_from(times).expect("few")],
            Condition::Altered(replicas) => vec![Fault::Altered(replicas)],
            Condition::Denied => vec![Fault::Denied],
            Condition::Rival => vec![Fault::Contested("another scaler".into())],
        };
        self.memory.script("cart", faults);
        true
    }
}

struct Mocked {
    sink: Sinks,
    cluster: Cluster,
    path: &'static str,
}

#[async_trait]
impl Subject for Mocked {
    fn sink(&self) -> &dyn ScaleTarget {
        self.sink.of(&self.target()).expect("a sink")
    }
    fn target(&self) -> TargetRef {
        object(self.path)
    }
    fn missing(&self) -> TargetRef {
        renamed(&self.target(), "missing")
    }
    async fn reset(&self, replicas: u32) {
        self.cluster.reset(self.path, replicas);
    }
    async fn stored(&self) -> u32 {
        self.cluster.replicas(self.path)
    }
    async fn equip(&self, resources: Resources) -> bool {
        self.cluster.equip(resources);
        true
    }
    async fn equipped(&self) -> Resources {
        self.cluster.equipped()
    }
    async fn arrange(&self, condition: Condition) -> bool {
        match condition {
            Condition::Throttled => self.cluster.answer_once("throttled-429-scale-patch"),
            Condition::Unavailable => self.cluster.answer_once("deployment-scale-get-504-store-down"),
            Condition::Conflicts(times) => self.cluster.conflict(times),
            Condition::Altered(replicas) => self.cluster.alter(replicas),
            Condition::Denied => self.cluster.deny(),
            Condition::Rival => self.cluster.rival(self.path),
        }
        true
    }
}

/// Guarantees: the memory target behaves as every sink must, under every condition of the suite.
#[tokio::test]
async fn memory_conforms() {
    let report = conformance::run(&InMemory { memory: Memory::new(clock()) }).await;
    assert!(report.failed.is_empty() && report.skipped.is_empty(), "{report}");
}

/// Guarantees: the Kubernetes sink behaves as every sink must, for a built-in kind and for a custom resource.
#[tokio::test]
async fn kubernetes_conforms_on_a_mock() {
    for path in [DEPLOYMENT, WORKER] {
        let cluster = Cluster::start().await;
        let options = Options { read_resources: true, ..Options::default() };
        let kubernetes = Kubernetes::new(options, clock()).with_config(None, cluster.server.config()).await.expect("a client");
        let subject = Mocked { sink: Sinks::new(Memory::new(clock()), kubernetes), cluster, path };
        let report = conformance::run(&subject).await;
        assert!(report.failed.is_empty() && report.skipped.is_empty(), "{path}\n{report}");
        subject.cluster.finish();
        assert_eq!(subject.cluster.events().len(), 2, "an action and a refusal with a series");
    }
}
