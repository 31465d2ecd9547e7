//! Everything that runs: the fleets of instances, the queue, the database, the faults.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value};

use crate::database::Database;
use crate::faults::Switchboard;
use crate::instance::Instance;
use crate::queue::Queue;
use crate::services::Service;
use crate::telemetry::{Export, Tally};

/// How long an instance that is taken away may finish its requests.
const GRACE: Duration = Duration::from_secs(10);
/// More instances than this in one process would measure the process, not the shop.
pub(crate) const MAX_REPLICAS: u32 = 64;

/// The whole shop.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) export: Export,
    pub(crate) tally: Arc<Tally>,
    pub(crate) faults: Switchboard,
    pub(crate) queue: Arc<Queue>,
    pub(crate) database: Database,
    pub(crate) load: Load,
    fleets: RwLock<BTreeMap<Service, Vec<Arc<Instance>>>>,
    /// One change of replicas at a time.
    scaling: tokio::sync::Mutex<BTreeMap<Service, u32>>,
    random: Mutex<SmallRng>,
}

/// What the load generator did.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) sent: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) unanswered: AtomicU64,
}

// === impl World ===

impl World {
    /// A shop without instances yet.
    pub(crate) fn new(export: Export, database_slots: u32, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            export,
            tally: Arc::default(),
            faults: Switchboard::default(),
            queue: Arc::default(),
            database: Database::new(database_slots),
            load: Load::default(),
            fleets: RwLock::default(),
            scaling: tokio::sync::Mutex::default(),
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
        })
    }

    /// Sets replicas from `{"checkout": 3}`; all names are checked before anything changes.
    pub(crate) async fn set_replicas(self: &Arc<Self>, wanted: &Value) -> anyhow::Result<()> {
        let wanted = wanted.as_object().context("replicas are an object, e.g. {\"checkout\": 3}")?;
        let mut changes = Vec::new();
        for (name, count) in wanted {
            let service = Service::from_name(name).with_context(|| format!("{name}: no such service"))?;
            let count = count.as_u64().and_then(|count| u32::try_from(count).ok()).filter(|count| *count <= MAX_REPLICAS);
            changes.push((service, count.with_context(|| format!("{name}: expects a number from 0 to {MAX_REPLICAS}"))?));
        }
        for (service, count) in changes {
            self.scaling.lock().await.insert(service, count);
        }
        self.reconcile().await
    }

    /// Starts and stops instances until each fleet is as wanted; a crashed service has none.
    pub(crate) async fn reconcile(self: &Arc<Self>) -> anyhow::Result<()> {
        let wanted = self.scaling.lock().await;
        let faults = self.faults.now();
        for (&service, &count) in wanted.iter() {
            if faults.of(service).crash {
                self.take(service, 0).into_iter().for_each(|instance| drop(tokio::spawn(instance.crash())));
                continue;
            }
            for instance in self.take(service, count as usize) {
                tracing::info!(service = service.name(), instance = instance.id, "draining");
                tokio::spawn(instance.drain(GRACE));
            }
            while self.fleet(service).len() < count as usize {
                let seed = self.random.lock().unwrap_or_else(PoisonError::into_inner).random();
                let instance = Instance::start(self, service, seed).await?;
                tracing::info!(service = service.name(), instance = instance.id, address = %instance.address, "started");
                self.fleets.write().unwrap_or_else(PoisonError::into_inner).entry(service).or_default().push(instance);
            }
            for instance in self.fleet(service) {
                instance.telemetry.silent.store(faults.of(service).silent, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Takes the newest instances out of the fleet until `keep` are left.
    fn take(&self, service: Service, keep: usize) -> Vec<Arc<Instance>> {
        let mut fleets = self.fleets.write().unwrap_or_else(PoisonError::into_inner);
        let fleet = fleets.entry(service).or_default();
        fleet.split_off(keep.min(fleet.len()))
    }

    pub(crate) fn fleet(&self, service: Service) -> Vec<Arc<Instance>> {
        self.fleets.read().unwrap_or_else(PoisonError::into_inner).get(&service).cloned().unwrap_or_default()
    }

    /// The replicas that run now, by service.
    pub(crate) fn replicas(&self) -> Value {
        let count = |service: Service| (service.name().to_owned(), Value::from(self.fleet(service).len()));
        Value::Object(Service::ALL.into_iter().map(count).collect::<Map<_, _>>())
    }

    /// The less busy of two instances drawn at random.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index below the number of instances"
    )]
    pub(crate) fn pick(&self, service: Service, first: f64, second: f64) -> Option<Arc<Instance>> {
        let fleets = self.fleets.read().unwrap_or_else(PoisonError::into_inner);
        let fleet = fleets.get(&service)?;
        let at = |draw: f64| fleet.get((draw * fleet.len() as f64) as usize);
        let (first, second) = (at(first)?, at(second)?);
        Some(Arc::clone(if second.inside() < first.inside() { second } else { first }))
    }

    /// Whether the next request of `service` fails, by its fault.
    pub(crate) fn fails(&self, service: Service) -> bool {
        let errors = self.faults.now().of(service).errors;
        errors > 0.0 && self.uniform() < errors
    }

    /// A number in [0, 1).
    pub(crate) fn uniform(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    pub(crate) fn draw(&self, range: RangeInclusive<u32>) -> u32 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(range)
    }

    /// Ends every instance, upstream services first so that nobody calls into an empty fleet.
    pub(crate) async fn stop(self: &Arc<Self>) {
        self.scaling.lock().await.clear();
        for service in Service::ALL {
            if service == Service::Worker {
                self.empty_queue().await;
            }
            let drains = self.take(service, 0).into_iter().map(|instance| instance.drain(GRACE));
            futures::future::join_all(drains).await;
        }
    }

    async fn empty_queue(&self) {
        let end = tokio::time::Instant::now() + GRACE;
        while self.queue.len() > 0 && tokio::time::Instant::now() < end && !self.fleet(Service::Worker).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ground truth: what was asked of the shop and what the receiver acknowledged.
    pub(crate) fn summary(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        serde_json::json!({
            "requests": {
                "sent": count(&self.load.sent), "answered": count(&self.load.answered),
                "failed": count(&self.load.failed), "unanswered": count(&self.load.unanswered),
            },
            "services": self.tally.to_json(),
        })
    }
}
