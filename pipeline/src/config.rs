//! What a run is made of: documents, flags and defaults, checked together, with every problem at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracescale_core::policy::Mode;
use tracescale_core::target::TargetSpec;
use tracescale_core::time::Timestamp;
use tracescale_documents::{Documents, Problem, RuleSpec, Settings, Storage};
use tracescale_ingest as ingest;
use tracescale_ingest::decode::Declared;
use tracescale_queries::{Engine, EngineConfig, EngineParts, QueryError, ViewProblem, ViewSource, judgement, of_metrics, shipped, streams};
use tracescale_sinks::{Clock, Kubernetes, Memory, Sinks, kubernetes};

use crate::cli::ListenArgs;
use crate::controller::{self, Controller, Described, RolloutRecord};
use crate::discovery::Discovery;
use crate::recorded::Source;
use crate::{columns, keeping, rules};

/// Where files go when nobody says otherwise.
pub const DEFAULT_DATA_DIR: &str = ".tracescale";

/// What a replay waits for beyond lateness: a window of a minute, and derived streams that trail by up to a minute.
const SETTLE: Duration = Duration::from_secs(150);

/// Everything a run needs, checked.
#[derive(Debug)]
pub struct Config {
    /// Where the documents are.
    paths: Vec<PathBuf>,
    documents: Documents,
    /// The engine that the documents were checked with, until somebody takes it: planning all views takes a second or two.
    checked: Mutex<Option<PlannedEngine>>,
    /// The OTLP receiver.
    pub receiver: ingest::Config,
    /// Address of `/metrics`.
    pub metrics: SocketAddr,
    /// Directory of the journal, the write-ahead log and, unless it is elsewhere, the archive.
    pub data_dir: PathBuf,
}

/// An engine, and what its derived streams have to give up.
pub type PlannedEngine = (Engine, Arc<streams::Counters>);

// === impl Config ===

impl Config {
    /// Reads and checks documents, and applies flags on top.
    ///
    /// # Errors
    /// Every problem of every document, view and rule.
    pub async fn load(paths: &[PathBuf], listen: &ListenArgs, data_dir: Option<PathBuf>) -> Result<Self, Vec<Problem>> {
        Self::load_with(paths, listen, data_dir, None).await
    }

    /// [`Config::load`] with an engine of the shipped views that was planned before, for documents without views of their own.
    ///
    /// # Errors
    /// Every problem of every document, view and rule.
    pub async fn load_with(
        paths: &[PathBuf],
        listen: &ListenArgs,
        data_dir: Option<PathBuf>,
        shipped: Option<PlannedEngine>,
    ) -> Result<Self, Vec<Problem>> {
        let documents = documents(paths)?;
        let checked = Mutex::new(shipped.filter(|_| documents.views.is_empty()));
        let settings = &documents.settings;
        let config = Self {
            paths: paths.to_vec(),
            receiver: receiver(settings, listen),
            metrics: listen.metrics.unwrap_or(settings.telemetry.metrics_listen),
            data_dir: data_dir.or_else(|| settings.data_dir.clone()).unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            documents,
            checked,
        };
        let problems = config.problems().await;
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// What is kept of the telemetry.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.documents.settings.storage
    }

    /// Where this configuration's telemetry is recorded.
    ///
    /// # Errors
    /// When the location cannot be understood.
    pub fn recorded(&self) -> anyhow::Result<Source> {
        let location = keeping::location(&self.data_dir, self.storage().archive.location.as_deref())?;
        Ok(Source::Archive { location, wal_dir: keeping::wal_dir(&self.data_dir), sampling: self.sampling().clone() })
    }

    /// What is declared of spans that do not state their sampling: the same for all who decode requests.
    #[must_use]
    pub fn sampling(&self) -> &Declared {
        &self.receiver.sampling
    }

    /// Where our own spans go over OTLP, if anywhere.
    #[must_use]
    pub fn otlp_endpoint(&self) -> Option<&str> {
        self.documents.settings.telemetry.otlp_endpoint.as_deref()
    }

    /// The receiver, engine and rules are checked by the code that runs them.
    async fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let source = self.documents.settings_source.as_ref();
        if let Err(wrong) = self.receiver.validate() {
            problems.extend(wrong.into_iter().map(|wrong| Problem {
                file: source.map_or_else(|| "flags and defaults".to_owned(), |source| source.file.clone()),
                line: None,
                path: format!("spec.receiver.{}", wrong.field),
                value: Some(wrong.value),
                message: "does not work".to_owned(),
                hint: Some(wrong.hint.to_owned()),
            }));
        }
        problems.extend(self.own_spans_problem());
        problems.extend(self.location_problem());
        match self.engine().await {
            Ok((engine, losses)) => {
                problems.extend(self.rule_problems(&engine).await);
                self.keep_engine(engine, losses);
            }
            Err(wrong) => problems.extend(wrong.into_iter().map(view_problem)),
        }
        problems
    }

    fn location_problem(&self) -> Option<Problem> {
        let location = self.storage().archive.location.as_deref();
        let error = keeping::location(&self.data_dir, location).err()?;
        Some(Problem {
            file: self.documents.settings_source.as_ref().map_or_else(String::new, |source| source.file.clone()),
            line: None,
            path: "spec.archive.location".to_owned(),
            value: location.map(str::to_owned),
            message: format!("{error:#}"),
            hint: Some("a directory, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix".to_owned()),
        })
    }

    /// Our own spans must not come back to us: each would make more of them.
    fn own_spans_problem(&self) -> Option<Problem> {
        let endpoint = self.otlp_endpoint()?;
        let (_, authority) = endpoint.split_once("://").unwrap_or(("", endpoint));
        let (host, port) = authority.trim_end_matches('/').rsplit_once(':')?;
        let is_here = ["localhost", "127.0.0.1", "0.0.0.0", "[::1]"].contains(&host);
        let is_ours = [self.receiver.grpc.port(), self.receiver.http.port()].iter().any(|own| port.parse() == Ok(*own));
        (is_here && is_ours).then(|| Problem {
            file: self.documents.settings_source.as_ref().map_or_else(String::new, |source| source.file.clone()),
            line: None,
            path: "spec.telemetry.otlpEndpoint".to_owned(),
            value: Some(endpoint.to_owned()),
            message: "is our own receiver: every span of ours would make more of them".to_owned(),
            hint: Some("send them to a Collector, or to another tracescale".to_owned()),
        })
    }

    async fn rule_problems(&self, engine: &Engine) -> Vec<Problem> {
        let snapshot = engine.tables();
        let targets = Arc::new(rules::targets_schema());
        let mut problems = Vec::new();
        for (source, rule) in &self.documents.rules {
            let problem = |value: Option<String>, message: String, hint: Option<String>| Problem {
                file: source.file.clone(),
                line: Some(source.line).filter(|line| *line > 0),
                path: format!("rule {}: spec.sql", rule.name),
                value,
                message,
                hint,
            };
            match snapshot.prepare(&rule.sql, &[("targets", Arc::clone(&targets))]).await {
                Err(QueryError::Invalid { message, position: None, hint }) => problems.push(problem(None, message, hint)),
                Err(error) => problems.push(problem(None, error.to_string(), None)),
                Ok(prepared) => {
                    let wrong = columns::problems(&prepared.schema());
                    problems.extend(wrong.into_iter().map(|wrong| problem(wrong.value, wrong.message, Some(wrong.hint))));
                }
            }
        }
        problems
    }

    /// An engine of the shipped views and the user's, and what its derived streams have to give up.
    ///
    /// # Errors
    /// Every problem of every view.
    pub async fn engine(&self) -> Result<PlannedEngine, Vec<ViewProblem>> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner).take();
        match checked {
            Some(checked) => Ok(checked),
            None => self.engine_with(Duration::ZERO, &self.specs().0, |parts| parts).await,
        }
    }

    /// Keeps an engine that took no rows for whoever asks next.
    pub fn keep_engine(&self, engine: Engine, losses: Arc<streams::Counters>) {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some((engine, losses));
    }

    /// The engine that was kept, when it has the shipped views only.
    #[must_use]
    pub fn into_shipped_engine(self) -> Option<PlannedEngine> {
        let kept = self.checked.into_inner().unwrap_or_else(PoisonError::into_inner);
        kept.filter(|_| self.documents.views.is_empty())
    }

    /// [`Config::engine`] with some of the views and models, whose windows are no closer to each other than `slide_min`, and for
    /// these targets.
    ///
    /// # Errors
    /// Every problem of every view.
    pub async fn engine_with(
        &self,
        slide_min: Duration,
        targets: &[TargetSpec],
        select: impl FnOnce(EngineParts) -> EngineParts,
    ) -> Result<PlannedEngine, Vec<ViewProblem>> {
        let windows = &self.documents.settings.windows;
        let config = EngineConfig {
            lateness: windows.lateness,
            allowed_lateness: windows.allowed_lateness,
            history: windows.history,
            history_bytes: windows.history_bytes,
            max_groups_per_view: windows.max_groups,
            source_timeout: windows.source_timeout,
            slide_min,
            ..EngineConfig::default()
        };
        let (parts, losses) = shipped::parts(&streams::Config::default(), &self.judgement(targets), self.own_views());
        Ok((Engine::with_parts(config, select(parts)).await?, losses))
    }

    /// What the shipped models are told.
    fn judgement(&self, targets: &[TargetSpec]) -> judgement::Settings {
        let models = self.documents.settings.models.clone();
        judgement::Settings {
            holidays: models.holidays.iter().copied().collect(),
            advice: controller::advice_of_targets(targets.iter()),
            clock: judgement::LocalClock::new(move |time| models.local_seconds(time)),
        }
    }

    /// The targets and rules.
    #[must_use]
    pub fn specs(&self) -> (Vec<TargetSpec>, Vec<RuleSpec>) {
        let documents = &self.documents;
        let targets = documents.targets.iter().map(|(_, target)| target.clone()).collect();
        (targets, documents.rules.iter().map(|(_, rule)| rule.clone()).collect())
    }

    /// Targets, rules and budgets, and what the views are made of.
    #[must_use]
    pub fn described(&self) -> Described {
        let (targets, rules) = self.specs();
        let budgets = self.documents.budgets.iter().map(|(_, budget)| budget.clone()).collect();
        Described { targets, rules, budgets, of_metrics: self.of_metrics() }
    }

    fn of_metrics(&self) -> BTreeSet<String> {
        of_metrics(&shipped::parts(&streams::Config::default(), &judgement::Settings::default(), self.own_views()).0)
    }

    fn own_views(&self) -> Vec<ViewSource> {
        let view = |view: &tracescale_documents::ViewFile| {
            let origin = view.path.display().to_string();
            ViewSource { name: origin.clone(), sql: view.sql.clone(), origin }
        };
        self.documents.views.iter().map(view).collect()
    }

    /// A controller of what is described, for a replay.
    #[must_use]
    pub fn controller(&self) -> Controller {
        Controller::new(self.described(), self.discovery()).declaring(&self.documents.settings.sampling.services)
    }

    /// A controller that goes on from what an earlier process wrote down.
    #[must_use]
    pub fn resumed_controller(&self, now: Timestamp, record: RolloutRecord) -> Controller {
        Controller::resumed(now, self.described(), self.discovery(), record).declaring(&self.documents.settings.sampling.services)
    }

    /// Every sink.
    #[must_use]
    pub fn sinks(&self, clock: Clock) -> Sinks {
        let options = kubernetes::Options {
            instance: std::env::var("POD_NAME").unwrap_or_else(|_| "tracescale".to_owned()),
            read_resources: self.documents.rules.iter().any(|(_, rule)| rule.policy.spec().vertical.mode != Mode::Off),
            ..kubernetes::Options::default()
        };
        Sinks::new(Memory::new(Arc::clone(&clock)), Kubernetes::new(options, clock))
    }

    /// Reads targets, rules and budgets again and checks them as at the start. Views and settings take a restart. Blocks.
    ///
    /// # Errors
    /// Every problem of every document; the running configuration then stays.
    pub fn reload(&self) -> Result<Described, Vec<Problem>> {
        let documents = documents(&self.paths)?;
        let (paths, receiver, data_dir) = (self.paths.clone(), self.receiver.clone(), self.data_dir.clone());
        let new = Self { documents, paths, receiver, data_dir, metrics: self.metrics, checked: Mutex::default() };
        let checked = tokio::runtime::Builder::new_current_thread().enable_time().build().map(|runtime| runtime.block_on(new.problems()));
        match checked {
            Ok(problems) if problems.is_empty() => Ok(Described { of_metrics: self.of_metrics(), ..new.described() }),
            Ok(problems) => Err(problems),
            Err(error) => Err(vec![Problem {
                file: String::new(),
                line: None,
                path: String::new(),
                value: None,
                message: format!("rules cannot be checked: {error}"),
                hint: None,
            }]),
        }
    }

    /// How many targets, rules and views there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let documents = &self.documents;
        (documents.targets.len(), documents.rules.len(), shipped::VIEWS.len() + documents.views.len())
    }

    /// How long after the last row every window that holds it is final: the longest shipped window, and what late rows may take.
    #[must_use]
    pub fn settle_time(&self) -> Duration {
        SETTLE + self.documents.settings.windows.lateness
    }

    /// How far behind the newest row another may come and still count in a window, if only in a revision.
    #[must_use]
    pub fn disorder(&self) -> Duration {
        let windows = &self.documents.settings.windows;
        windows.lateness + windows.allowed_lateness
    }

    fn discovery(&self) -> Discovery {
        let discovery = &self.documents.settings.discovery;
        Discovery {
            enabled: discovery.enabled,
            acts: discovery.act,
            namespaces: discovery.namespaces.clone(),
            targets_max: discovery.max_targets,
        }
    }
}

/// The documents, with the default rule when they bring none.
fn documents(paths: &[PathBuf]) -> Result<Documents, Vec<Problem>> {
    let mut documents = tracescale_documents::load(paths)?;
    if documents.rules.is_empty() {
        documents.rules = tracescale_documents::parse("queries/rules/observe.yaml (shipped)", shipped::DEFAULT_RULE)?.rules;
    }
    Ok(documents)
}

fn receiver(settings: &Settings, listen: &ListenArgs) -> ingest::Config {
    let receiver = &settings.receiver;
    let tls =
        |tls: &tracescale_documents::Tls| ingest::Tls { cert: tls.cert.clone(), key: tls.key.clone(), client_ca: tls.client_ca.clone() };
    ingest::Config {
        grpc: listen.grpc.unwrap_or(receiver.grpc),
        http: listen.http.unwrap_or(receiver.http),
        tls: receiver.tls.as_ref().map(tls),
        bearer_tokens: receiver.bearer_tokens.iter().map(|token| token.expose().to_owned()).collect(),
        max_request_bytes: receiver.limits.max_request_bytes,
        max_concurrent_requests: receiver.limits.max_concurrent_requests,
        queue_bytes: receiver.limits.queue_bytes,
        sampling: Declared::new(settings.sampling.probability, settings.sampling.services.clone()),
        acknowledge: ingest::Acknowledge::Kept,
        ..ingest::Config::default()
    }
}

fn view_problem(wrong: ViewProblem) -> Problem {
    Problem { file: wrong.origin, line: None, path: format!("view {}", wrong.view), value: None, message: wrong.message, hint: wrong.hint }
}
