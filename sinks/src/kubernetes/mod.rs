//! Kubernetes objects with a scale subresource: Deployments, StatefulSets, Argo Rollouts, any custom resource that has one.
//!
//! ```text
//! GET scale ─▶ same? ─▶ done
//!     └─▶ LIST autoscalers, GET metadata ─▶ held by another? ─▶ Contested
//!             └─▶ PATCH scale (merge-patch, resourceVersion, fieldManager) ─▶ 409? again ─▶ GET scale: read back
//! ```
//!
//! Merge-patch, not server-side apply: apply on the scale of a custom resource is answered with 500 by real servers, and a
//! `resourceVersion` in the patch gives the same protection against a write between our read and ours.

mod apply;
mod contest;
mod events;
mod pods;
mod problem;
mod resize;
mod resources;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;
use tracescale_core::capacity::{Capacity, Observed};
use tracescale_core::target::{KubernetesRef, TargetRef};
use tracescale_core::time::Timestamp;

use crate::{ActionEvent, ApplyContext, Clock, Outcome, ScaleTarget, SinkError, SinkErrorKind};
use contest::{Autoscaler, Contests};
use events::{Plan, Recorder};
pub use problem::Problem;
use resources::Resource;
pub use wire::FIELD_MANAGER;
use wire::{Answer, Call, Verb, segment};

/// How long an API server may take to answer one call.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long we leave alone what another hand has scaled.
pub const DEFAULT_YIELD: Duration = Duration::from_secs(300);
/// Uids remembered for Events.
const UIDS: usize = 65_536;

type Failure = (SinkErrorKind, Problem);

/// How to reach clusters and behave in them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kubeconfig file; none means `KUBECONFIG`, then `~/.kube/config`, then the service account of the pod we run in.
    pub kubeconfig: Option<PathBuf>,
    /// How long an API server may take to answer one call.
    pub timeout: Duration,
    /// How long we leave alone what another field manager has scaled.
    pub yield_for: Duration,
    /// Who we are among replicas of tracescale, in Events: the pod's name.
    pub instance: String,
    /// Read how many replicas are ready as well (one more call per observation).
    pub read_ready: bool,
    /// Read what each running pod asks for (one more call per observation). Needed where rules may set CPU and memory: a pod that
    /// was resized in place differs from its template, which is all that is read otherwise.
    pub read_resources: bool,
}

/// Objects with a scale subresource, in any number of clusters.
pub struct Kubernetes {
    options: Options,
    clock: Clock,
    /// One per context, made when first needed. Held across the making, so that there is one.
    clients: tokio::sync::Mutex<HashMap<Option<String>, Connected>>,
    resources: resources::Cache,
    autoscalers: Mutex<HashMap<Place, Listed>>,
    contests: Contests,
    recorder: Recorder,
    uids: Mutex<HashMap<KubernetesRef, String>>,
}

/// A client for one context.
struct Connected {
    client: Client,
    /// Made from a configuration that was handed in, so that there is nothing to load again.
    given: bool,
}

/// A context and a namespace.
type Place = (Option<String>, String);
/// Autoscalers and when they were listed.
type Listed = (Timestamp, Arc<Vec<Autoscaler>>);

/// A target whose parts are checked, with all that is needed to call about it.
struct Located<'a> {
    reference: &'a KubernetesRef,
    client: Client,
    resource: Resource,
}

/// The `Scale` object: what we read of it. Zero replicas are left out by the server.
#[derive(Debug, Deserialize)]
struct Scale {
    metadata: Metadata,
    #[serde(default)]
    spec: ScaleSpec,
    #[serde(default)]
    status: ScaleStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
}

#[derive(Debug, Default, Deserialize)]
struct ScaleSpec {
    #[serde(default)]
    replicas: u32,
}

#[derive(Debug, Default, Deserialize)]
struct ScaleStatus {
    /// Which pods are its replicas, as a query.
    selector: Option<String>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            timeout: DEFAULT_TIMEOUT,
            yield_for: DEFAULT_YIELD,
            instance: "tracescale".to_owned(),
            read_ready: true,
            read_resources: false,
        }
    }
}

// === impl Kubernetes ===

impl Kubernetes {
    /// Connects to nothing yet: credentials are loaded when a target first needs them.
    #[must_use]
    pub fn new(options: Options, clock: Clock) -> Self {
        Self {
            options,
            clock,
            clients: tokio::sync::Mutex::default(),
            resources: resources::Cache::default(),
            autoscalers: Mutex::default(),
            contests: Contests::default(),
            recorder: Recorder::default(),
            uids: Mutex::default(),
        }
    }

    /// Uses these credentials for a context (none: for targets that name no context).
    ///
    /// # Errors
    /// When no connection can be set up with them (a bad certificate, say). Nothing is sent.
    pub async fn with_config(self, context: Option<String>, config: Config) -> Result<Self, Problem> {
        let client = client(config).map_err(|source| credentials(context.as_deref(), source))?;
        self.clients.lock().await.insert(context, Connected { client, given: true });
        Ok(self)
    }

    async fn client(&self, context: Option<&str>) -> Result<Client, Failure> {
        let mut clients = self.clients.lock().await;
        let key = context.map(ToOwned::to_owned);
        // Certificates of a credential plugin may end before we do.
        let now = i128::from((self.clock)().as_nanos());
        let valid = |client: &Client| client.valid_until().as_ref().is_none_or(|until| until.as_nanosecond() > now);
        if let Some(connected) = clients.get(&key).filter(|connected| connected.given || valid(&connected.client)) {
            return Ok(connected.client.clone());
        }
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| (SinkErrorKind::Invalid, credentials(context, source));
        let config = self.config(key.clone()).await.map_err(fail)?;
        let made = client(config).map_err(|source| fail(source.into()))?;
        clients.insert(key, Connected { client: made.clone(), given: false });
        Ok(made)
    }

    /// Turns a failure into an error. Credentials that were not accepted are loaded anew next time: somebody may have renewed
    /// the file.
    async fn failed(&self, target: &TargetRef, (kind, problem): Failure) -> SinkError {
        if let (TargetRef::Kubernetes(reference), Problem::Unauthenticated { .. }) = (target, &problem) {
            let mut clients = self.clients.lock().await;
            if clients.get(&reference.context).is_some_and(|connected| !connected.given) {
                clients.remove(&reference.context);
            }
        }
        SinkError::new(kind, target, problem)
    }

    async fn config(&self, context: Option<String>) -> Result<Config, Box<dyn std::error::Error + Send + Sync>> {
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        Ok(match &self.options.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
            None if options.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        })
    }

    async fn locate<'a>(&self, reference: &'a KubernetesRef) -> Result<Located<'a>, Failure> {
        let invalid = |problem| (SinkErrorKind::Invalid, problem);
        let (group, version) = reference.api_version.split_once('/').unwrap_or(("core", &reference.api_version));
        let parts = [("API group", group), ("API version", version), ("namespace", &reference.namespace), ("name", &reference.name)];
        for (what, value) in parts {
            segment(what, value).map_err(invalid)?;
        }
        let client = self.client(reference.context.as_deref()).await?;
        let resource = self.discover(reference, &client).await?;
        if !resource.scalable {
            return Err(invalid(Problem::NoScale { api_version: reference.api_version.clone(), kind: reference.kind.clone() }));
        }
        Ok(Located { reference, client, resource })
    }

    async fn discover(&self, reference: &KubernetesRef, client: &Client) -> Result<Resource, Failure> {
        let (context, api_version, now) = (reference.context.as_deref(), reference.api_version.as_str(), (self.clock)());
        let find = |resources: &[Resource]| resources.iter().find(|resource| resource.kind == reference.kind).cloned();
        if let Some(found) = self.resources.get(context, api_version, now).and_then(|known| find(&known)) {
            return Ok(found);
        }
        let call = Call::discovery(api_version);
        let answer = call.send(client, self.options.timeout).await.map_err(|(kind, problem)| match kind {
            SinkErrorKind::NotFound => {
                let problem = Problem::GroupNotInstalled { api_version: api_version.to_owned(), kind: reference.kind.clone() };
                (kind, problem)
            }
            kind => (kind, problem),
        })?;
        let listed = resources::parse(answer.body).map_err(|source| (SinkErrorKind::Unavailable, call.malformed(source)))?;
        let listed = self.resources.put(context, api_version, listed, now);
        find(&listed).ok_or_else(|| {
            let scalable: Vec<&str> = listed.iter().filter(|resource| resource.scalable).map(|resource| resource.kind.as_str()).collect();
            let known = if scalable.is_empty() { "none that can be scaled".to_owned() } else { scalable.join(", ") };
            let problem = Problem::KindUnknown { api_version: api_version.to_owned(), kind: reference.kind.clone(), known };
            (SinkErrorKind::NotFound, problem)
        })
    }

    async fn read_scale(&self, located: &Located<'_>) -> Result<Scale, Failure> {
        let call = located.call(Verb::Get, "/scale");
        let answer = call.send(&located.client, self.options.timeout).await.inspect_err(|(kind, problem)| {
            if *kind == SinkErrorKind::NotFound && problem.is_of_the_path() {
                self.resources.forget(located.reference.context.as_deref(), &located.reference.api_version);
            }
        })?;
        self.parse_scale(located, &call, answer.body)
    }

    fn parse_scale(&self, located: &Located<'_>, call: &Call, body: Value) -> Result<Scale, Failure> {
        let scale: Scale = serde_json::from_value(body).map_err(|source| (SinkErrorKind::Unavailable, call.malformed(source)))?;
        let mut uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        if uids.len() >= UIDS && !uids.contains_key(located.reference) {
            uids.clear();
        }
        uids.insert(located.reference.clone(), scale.metadata.uid.clone());
        Ok(scale)
    }

    async fn observe(&self, reference: &KubernetesRef) -> Result<Observed, Failure> {
        let located = self.locate(reference).await?;
        let scale = self.read_scale(&located).await?;
        let status = if self.options.read_ready { self.read_object(&located).await? } else { Value::Null };
        let ready = status["status"]["readyReplicas"].as_u64().and_then(|ready| u32::try_from(ready).ok());
        // The built-in kinds leave zero out of their status; of other kinds we do not know what an absent field means.
        let omits_zero = matches!(reference.api_version.as_str(), "apps/v1" | "v1") && status["status"].is_object();
        let template = self.template_of(&located, &status);
        let (resources, differing) = self.observe_resources(&located, &scale, template).await?;
        Ok(Observed {
            desired: scale.spec.replicas,
            ready: ready.or(omits_zero.then_some(0)),
            observed_at: (self.clock)(),
            generation: Some(scale.metadata.resource_version),
            resources,
            differing,
            template,
        })
    }

    /// The whole object, for its status; null when we may not read it. Scaling needs no right to read what is scaled.
    async fn read_object(&self, located: &Located<'_>) -> Result<Value, Failure> {
        match located.call(Verb::Get, "").send(&located.client, self.options.timeout).await {
            Ok(Answer { body, .. }) => Ok(body),
            Err((SinkErrorKind::Denied, problem)) => {
                tracing::debug!(name = located.reference.name, error = %problem, "readiness is unknown");
                Ok(Value::Null)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn report(&self, reference: &KubernetesRef, event: &ActionEvent) -> Result<(), Failure> {
        match self.recorder.plan(reference, event) {
            Plan::Quiet => return Ok(()),
            Plan::Create(name) => self.create_event(reference, event, &name).await,
            Plan::Repeat { name, count } => match self.repeat_event(reference, event, &name, count).await {
                // Events live for an hour; the series may outlive its first.
                Err((SinkErrorKind::NotFound, _)) => match self.recorder.plan_anew(reference, event) {
                    Plan::Create(name) => self.create_event(reference, event, &name).await,
                    _ => Ok(()),
                },
                result => result,
            },
        }
        .inspect_err(|_| self.recorder.forget(reference, event))
    }

    async fn create_event(&self, reference: &KubernetesRef, event: &ActionEvent, name: &str) -> Result<(), Failure> {
        let located = self.locate(reference).await?;
        let known = self.uids.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned();
        let uid = match known {
            Some(uid) => uid,
            None => self.read_scale(&located).await?.metadata.uid,
        };
        let call = Call::new(Verb::Create, "events.k8s.io/v1", "events", Some(&reference.namespace), None).with_body(events::body(
            reference,
            &uid,
            name,
            &self.options.instance,
            event,
        ));
        call.send(&located.client, self.options.timeout).await.map(drop)
    }

    async fn repeat_event(&self, reference: &KubernetesRef, event: &ActionEvent, name: &str, count: u32) -> Result<(), Failure> {
        let client = self.client(reference.context.as_deref()).await?;
        let call = Call::new(Verb::Patch, "events.k8s.io/v1", "events", Some(&reference.namespace), Some(name))
            .with_body(events::series_body(count, event.at));
        call.send(&client, self.options.timeout).await.map(drop)
    }
}

#[async_trait]
impl ScaleTarget for Kubernetes {
    async fn observe(&self, target: &TargetRef) -> Result<Observed, SinkError> {
        match self.observe(reference(target)?).await {
            Ok(result) => Ok(result),
            Err(failure) => Err(self.failed(target, failure).await),
        }
    }

    async fn apply(&self, target: &TargetRef, desired: Capacity, context: &ApplyContext) -> Result<Outcome, SinkError> {
        match self.apply(reference(target)?, desired, context).await {
            Ok(result) => Ok(result),
            Err(failure) => Err(self.failed(target, failure).await),
        }
    }

    async fn report(&self, target: &TargetRef, event: &ActionEvent) -> Result<(), SinkError> {
        match self.report(reference(target)?, event).await {
            Ok(result) => Ok(result),
            Err(failure) => Err(self.failed(target, failure).await),
        }
    }

    fn name(&self) -> &'static str {
        "kubernetes"
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").field("options", &self.options).finish_non_exhaustive()
    }
}

// === impl Located ===

impl Located<'_> {
    /// A call about the object, or with `/scale` about that subresource.
    fn call(&self, verb: Verb, subresource: &str) -> Call {
        let namespace = self.resource.namespaced.then_some(self.reference.namespace.as_str());
        let resource = format!("{}{subresource}", self.resource.plural);
        Call::new(verb, &self.reference.api_version, &resource, namespace, Some(&self.reference.name))
    }
}

fn reference(target: &TargetRef) -> Result<&KubernetesRef, SinkError> {
    match target {
        TargetRef::Kubernetes(reference) => Ok(reference),
        _ => Err(SinkError::new(SinkErrorKind::Invalid, target, "not a Kubernetes target")),
    }
}

fn client(mut config: Config) -> Result<Client, kube::Error> {
    // Retries are the actuator's: it knows whether the decision still holds.
    config.default_retry = false;
    Client::try_from(config)
}

fn credentials(context: Option<&str>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Problem {
    let context = context.map_or_else(|| "the default context".to_owned(), |context| format!("context `{context}`"));
    Problem::Credentials { context, source: source.into() }
}
