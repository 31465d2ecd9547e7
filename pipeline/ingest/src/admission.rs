//! Who gets in: one byte budget, one count of requests, one bounded queue. All decisions are O(1) and nobody waits here;
//! a client that cannot be served now is told so, because it holds the data and can send it again.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tracescale_core::time::Timestamp;

use crate::config::Config;
use crate::decode::{Decoded, Encoding, Signal};
use crate::receipt::Receipt;
use crate::stats::{Gauge, Refusal, Stats};
use crate::status::Refused;
use crate::wire::WireBody;

/// Who sent a request: the peer's address without its port, so that a reconnecting client stays one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

/// One admitted request on its way to the windows.
#[derive(Debug)]
pub struct Admitted {
    /// Which service it was sent to.
    pub signal: Signal,
    /// How `body` is written.
    pub encoding: Encoding,
    /// Who sent it.
    pub source: Source,
    /// When its header arrived.
    pub received_at: Timestamp,
    /// Its rows.
    pub decoded: Decoded,
    /// The request as it was sent.
    pub body: WireBody,
    /// What the client's answer waits for, with [`Acknowledge::Kept`](crate::Acknowledge::Kept).
    pub receipt: Option<Receipt>,
    /// Its share of the byte budget, given back when dropped: keep it as long as the rows or the body are held.
    pub permit: Permit,
}

/// Bytes that may be held at a time. The amount in use *is* the gauge of [`Stats::queue_bytes`].
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    stats: Arc<Stats>,
}

/// Bytes taken from the budget, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

/// The gate that every export request passes.
pub(crate) struct Admission {
    budget: Arc<Budget>,
    concurrency: Semaphore,
    concurrency_limit: u32,
    queue: mpsc::Sender<Admitted>,
    draining: AtomicBool,
    stats: Arc<Stats>,
}

/// A request that was let in; it counts as in flight until this is dropped.
pub(crate) struct Entry<'a> {
    pub(crate) permit: Permit,
    _slot: SemaphorePermit<'a>,
    _gauge: Gauge<'a>,
}

// === impl Source ===

impl Source {
    /// The source at an address. IPv4 clients of a dual-stack socket are shown as IPv4.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Budget ===

impl Budget {
    pub(crate) fn new(limit: usize, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self { limit: limit as u64, stats })
    }

    pub(crate) fn permit(self: &Arc<Self>) -> Permit {
        Permit { budget: Arc::clone(self), bytes: 0 }
    }

    /// Whether `bytes` more would fit now. Takes nothing.
    fn fits(&self, bytes: u64) -> bool {
        self.stats.held().load(Ordering::Relaxed).saturating_add(bytes) <= self.limit
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|total| *total <= self.limit);
        self.stats.held().fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

// === impl Permit ===

impl Permit {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Refuses when `bytes` more would not fit now; takes nothing. A client's word about its size is checked, not reserved:
    /// otherwise a few idle connections could claim the whole budget.
    pub(crate) fn expect(&self, bytes: usize) -> Result<(), Refused> {
        if self.budget.fits(bytes as u64) { Ok(()) } else { Err(queue_full()) }
    }

    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        if !self.budget.take(bytes as u64) {
            return Err(queue_full());
        }
        self.bytes += bytes as u64;
        Ok(())
    }

    pub(crate) fn shrink(&mut self, bytes: usize) {
        let given = self.bytes.min(bytes as u64);
        self.bytes -= given;
        self.budget.stats.held().fetch_sub(given, Ordering::Relaxed);
    }

    /// Makes the permit what is really held once the rows exist. It may overdraw the budget (the memory is in use, and work that is
    /// done is not thrown away); by how much is bounded by the number of decode workers times one request. Until it is given back,
    /// everybody else is refused.
    pub(crate) fn settle(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.budget.stats.held().fetch_add(bytes, Ordering::Relaxed);
        self.budget.stats.held().fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.stats.held().fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(config: &Config, stats: Arc<Stats>) -> (Self, mpsc::Receiver<Admitted>) {
        let (queue, receiver) = mpsc::channel(config.queue_requests);
        let admission = Self {
            budget: Budget::new(config.queue_bytes, Arc::clone(&stats)),
            concurrency: Semaphore::new(config.max_concurrent_requests),
            concurrency_limit: u32::try_from(config.max_concurrent_requests).unwrap_or(u32::MAX),
            queue,
            draining: AtomicBool::new(false),
            stats,
        };
        (admission, receiver)
    }

    /// Lets one request in, before any of its body is read.
    pub(crate) fn enter(&self) -> Result<Entry<'_>, Refused> {
        if self.draining.load(Ordering::Acquire) || self.queue.is_closed() {
            return Err(Refused::new(Refusal::Draining, "shutting down; send again"));
        }
        let slot = self.concurrency.try_acquire().map_err(|_| {
            Refused::new(Refusal::Concurrency, format!("{} requests are being answered already; send again later", self.concurrency_limit))
        })?;
        if !self.budget.fits(1) {
            return Err(queue_full());
        }
        Ok(Entry { permit: self.budget.permit(), _slot: slot, _gauge: self.stats.request_started() })
    }

    /// A permit that holds nothing yet.
    pub(crate) fn permit(&self) -> Permit {
        self.budget.permit()
    }

    /// A place in the queue. Taken before the work of decoding, so that what was decoded can always be handed over.
    pub(crate) fn reserve(&self) -> Result<mpsc::OwnedPermit<Admitted>, Refused> {
        self.queue.clone().try_reserve_owned().map_err(|refused| match refused {
            TrySendError::Full(_) => queue_full(),
            TrySendError::Closed(_) => Refused::new(Refusal::Draining, "shutting down; send again"),
        })
    }

    /// Whether a request would be let in now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Acquire) && !self.queue.is_closed() && self.queue.capacity() > 0 && self.budget.fits(1)
    }

    /// From now on every new request is refused.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Returns once no request is in flight.
    pub(crate) async fn idle(&self) {
        // Fails only when the semaphore is closed, which nobody does.
        let _all = self.concurrency.acquire_many(self.concurrency_limit).await;
    }
}

fn queue_full() -> Refused {
    Refused::new(Refusal::QueueFull, "the queue is full; send again later")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the budget is never exceeded by growing, an overdraft by settling blocks everybody else, and dropping gives everything back.
    #[test]
    fn the_budget_adds_up() {
        let budget = Budget::new(100, Arc::default());
        let (mut a, mut b) = (budget.permit(), budget.permit());
        a.grow(60).unwrap();
        assert_eq!(b.grow(41).unwrap_err().reason, Refusal::QueueFull);
        b.grow(40).unwrap();
        a.shrink(10);
        b.expect(10).unwrap();
        b.expect(11).unwrap_err();
        a.settle(500);
        assert_eq!(budget.stats.queue_bytes(), 540);
        b.grow(0).unwrap_err();
        drop(a);
        b.grow(60).unwrap();
        drop(b);
        assert_eq!(budget.stats.queue_bytes(), 0);
    }

    /// Guarantees: draining refuses the next request as retryable, says not ready, and waits for the one inside.
    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_who_is_inside() {
        let (admission, _queue) = Admission::new(&Config { max_concurrent_requests: 1, ..Config::default() }, Arc::default());
        let inside = admission.enter().unwrap();
        assert_eq!(admission.enter().err().unwrap().reason, Refusal::Concurrency);
        assert!(admission.is_ready());
        admission.drain();
        assert_eq!(admission.enter().err().unwrap().reason, Refusal::Draining);
        assert!(!admission.is_ready());
        let wait = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, admission.idle()).await.is_err());
        drop(inside);
        assert!(tokio::time::timeout(wait, admission.idle()).await.is_ok());
    }
}
