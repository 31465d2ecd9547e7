//! The keep stage: every request is in the write-ahead log before its sender is told and before the windows see it.
//!
//! ```text
//! receiver ─requests▶ ┌──────┐ ─requests, in the order of the log▶ windows
//!  windows ─finals──▶ │ keep │
//! controller ─told──▶ └──────┘ ─position▶ archiving ─what may go▶ keep
//! ```
//!
//! Requests that wait are written and synced as one group. While it is synced the next one gathers, so that the cost of
//! syncing is shared by more requests the busier it is, and nobody waits for company.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tracescale_archive::wal::{Appended, Entry, Lsn, Wal, WalError};
use tracescale_core::time::Timestamp;
use tracescale_ingest::Admitted;

use crate::clock;
use crate::logged;
use crate::warning::{Troubles, chain};

/// Most requests and records of our own in one group.
const GROUP_MAX: usize = 1024;
/// Bodies of one group, in bytes; the first request of a group may be larger.
const GROUP_BYTES: usize = 8 << 20;

/// The stage's parts.
#[derive(Debug)]
pub struct Keep {
    /// The log.
    pub wal: Wal,
    /// Whether senders are told before their request is written.
    pub answers_first: bool,
    /// What other stages see.
    pub shared: Arc<Shared>,
    /// A log that is full.
    pub troubles: Troubles<()>,
}

/// A request that is in the log.
#[derive(Debug)]
pub struct Kept {
    /// Its number there.
    pub lsn: Lsn,
    /// The request.
    pub request: Admitted,
}

/// What the stages around the log tell each other.
#[derive(Debug, Default)]
pub struct Shared {
    /// Records below this are archived.
    pub archived: AtomicU64,
    /// Bytes of bodies that were ever appended.
    pub appended_bytes: AtomicU64,
    /// Bytes that the log takes.
    pub log_bytes: AtomicU64,
    /// Groups that were written.
    pub groups: AtomicU64,
    /// Requests that were in the log already.
    pub duplicates: AtomicU64,
    /// Windows, decisions and alerts that could not be kept.
    pub lost: AtomicU64,
}

/// Where the windows and the controller leave what is to be kept.
#[derive(Clone, Debug)]
pub struct Outbox {
    sender: mpsc::Sender<Entry>,
    shared: Arc<Shared>,
}

/// What is written at once.
#[derive(Default)]
struct Group {
    requests: Vec<Admitted>,
    own: Vec<Entry>,
    bytes: usize,
}

// === impl Outbox ===

impl Outbox {
    /// An outbox whose other end is read by [`Keep::run`].
    #[must_use]
    pub fn new(sender: mpsc::Sender<Entry>, shared: Arc<Shared>) -> Self {
        Self { sender, shared }
    }

    /// Leaves a record. When the log cannot follow it is lost, counted, and deciding goes on.
    pub fn leave(&self, entry: Result<Entry, logged::LoggedError>) {
        match entry {
            Ok(entry) => {
                if self.sender.try_send(entry).is_err() {
                    self.lost();
                }
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "a record cannot be written");
                self.lost();
            }
        }
    }

    fn lost(&self) {
        let _ = self.shared.lost.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl Keep ===

impl Keep {
    /// Runs until no request and no record of our own can come any more.
    ///
    /// # Errors
    /// When the disk fails in a way after which nothing that was written can be trusted.
    pub async fn run(
        mut self,
        mut requests: mpsc::Receiver<Admitted>,
        mut own: mpsc::Receiver<Entry>,
        kept: mpsc::Sender<Kept>,
    ) -> anyhow::Result<()> {
        let mut kept = Some(kept);
        loop {
            let mut group = Group::default();
            // Nothing is taken that could not be handed on: the windows and this stage never wait for each other in a circle.
            let request = async {
                let has_room = kept.as_ref()?.reserve().await.is_ok();
                if has_room { requests.recv().await } else { None }
            };
            tokio::select! {
                Some(entry) = own.recv() => group.add_own(entry),
                request = request, if kept.is_some() => match request {
                    Some(request) => group.add(request),
                    None => kept = None,
                },
                else => return Ok(()),
            }
            let places = kept.as_ref().map_or(0, mpsc::Sender::capacity);
            while group.requests.len() < places && group.has_room() {
                let Ok(request) = requests.try_recv() else { break };
                group.add(request);
            }
            while group.has_room() {
                let Ok(entry) = own.try_recv() else { break };
                group.add_own(entry);
            }
            for request in self.write(group)? {
                // The windows are gone only when the process ends; the request is safe.
                if let Some(kept) = &kept {
                    let _ = kept.try_send(request);
                }
            }
            self.let_go(clock::now());
        }
    }

    /// Writes a group and answers its senders. Returns the requests that are new.
    fn write(&mut self, mut group: Group) -> anyhow::Result<Vec<Kept>> {
        if self.answers_first {
            group.sign();
        }
        let entries: Vec<Entry> = group.requests.iter().map(logged::request).chain(std::mem::take(&mut group.own)).collect();
        let appended = match self.wal.append(&entries) {
            Ok(appended) => appended,
            Err(error) => {
                self.refuse(group, entries.len(), error)?;
                return Ok(Vec::new());
            }
        };
        group.sign();
        let shared = &self.shared;
        let _ = shared.groups.fetch_add(1, Ordering::Relaxed);
        let _ = shared.appended_bytes.fetch_add(group.bytes as u64, Ordering::Relaxed);
        shared.log_bytes.store(self.wal.bytes(), Ordering::Relaxed);
        if self.troubles.right(clock::now(), &()) {
            tracing::info!("the write-ahead log takes requests again");
        }
        let mut new = Vec::with_capacity(group.requests.len());
        for (request, appended) in group.requests.into_iter().zip(appended) {
            match appended {
                Appended::New(lsn) => new.push(Kept { lsn, request }),
                Appended::Duplicate => {
                    let _ = shared.duplicates.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(new)
    }

    /// Nothing of the group was written: senders keep their requests and send again.
    fn refuse(&mut self, group: Group, records: usize, error: WalError) -> anyhow::Result<()> {
        let own = records - group.requests.len();
        let _ = self.shared.lost.fetch_add(own as u64, Ordering::Relaxed);
        if !error.is_retryable() && !matches!(error, WalError::TooLarge { .. }) {
            return Err(error.into());
        }
        let why = chain(&error);
        if let Some(times) = self.troubles.wrong(clock::now(), (), &why, group.requests.len() as u64) {
            tracing::error!(error = %why, requests = times, "requests cannot be kept and are refused; deciding goes on");
        }
        for request in group.requests {
            if let Some(receipt) = request.receipt {
                receipt.refuse(why.clone());
            }
        }
        Ok(())
    }

    /// Gives up what is archived.
    fn let_go(&mut self, now: Timestamp) {
        let archived = Lsn(self.shared.archived.load(Ordering::Relaxed));
        if let Err(error) = self.wal.release(archived, now) {
            tracing::warn!(error = %chain(&error), "cannot delete an archived part of the write-ahead log");
        }
    }
}

// === impl Group ===

impl Group {
    fn add(&mut self, request: Admitted) {
        self.bytes += request.body.bytes.len();
        self.requests.push(request);
    }

    fn add_own(&mut self, entry: Entry) {
        self.bytes += entry.body.len();
        self.own.push(entry);
    }

    fn has_room(&self) -> bool {
        self.requests.len() + self.own.len() < GROUP_MAX && self.bytes < GROUP_BYTES
    }

    fn sign(&mut self) {
        self.requests.iter_mut().filter_map(|request| request.receipt.take()).for_each(tracescale_ingest::Receipt::sign);
    }
}
