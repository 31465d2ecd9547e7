//! What was written lately, so that a request whose acknowledgement got lost is not counted twice.
//!
//! Senders of OTLP repeat an unanswered request with the identical body, and do so for five minutes by default (Go, Java).
//! A fingerprint is the 128-bit xxh3 of the body, seeded with signal, encoding and compression. The sender's address is left
//! out: a repetition may come through another one.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tracescale_core::time::Timestamp;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Identifies a body together with how it is to be read.
pub(super) type Fingerprint = u128;

/// Fingerprints of the latest records, oldest first.
///
/// Time here never runs backwards: a record counts as written at the newest time seen so far. So a clock that is set back
/// neither lets fingerprints expire early nor orders them wrongly.
#[derive(Debug)]
pub(super) struct Duplicates {
    remember: Duration,
    max: usize,
    newest: Timestamp,
    known: HashSet<Fingerprint>,
    /// Two halves, because a `u128` would be aligned to 16 bytes and cost 32 with the time.
    order: VecDeque<(Timestamp, [u64; 2])>,
}

// === impl Duplicates ===

impl Duplicates {
    pub(super) fn new(remember: Duration, max: usize) -> Self {
        Self { remember, max, newest: Timestamp::MIN, known: HashSet::new(), order: VecDeque::new() }
    }

    /// The newest time seen.
    pub(super) const fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Learns that it is `now`, and forgets what became too old.
    pub(super) fn advance(&mut self, now: Timestamp) {
        self.newest = self.newest.max(now);
        while self.order.front().is_some_and(|(at, _)| self.newest.since(*at) >= self.remember) {
            self.forget_oldest();
        }
    }

    /// Whether this is the first of its kind. It counts as known from now on, but only [`Duplicates::keep`] makes that last and
    /// [`Duplicates::withdraw`] undoes it.
    pub(super) fn stage(&mut self, fingerprint: Fingerprint) -> bool {
        self.remember.is_zero() || self.max == 0 || self.known.insert(fingerprint)
    }

    /// The staged records were written.
    pub(super) fn keep(&mut self, staged: &[Fingerprint]) {
        if self.remember.is_zero() || self.max == 0 {
            return;
        }
        for fingerprint in staged {
            self.order.push_back((self.newest, halves(*fingerprint)));
        }
        while self.order.len() > self.max {
            self.forget_oldest();
        }
    }

    /// The staged records were not written.
    pub(super) fn withdraw(&mut self, staged: &[Fingerprint]) {
        for fingerprint in staged {
            self.known.remove(fingerprint);
        }
    }

    /// Learns of a record that is in the log already.
    pub(super) fn learn(&mut self, fingerprint: Fingerprint, received_at: Timestamp) {
        self.advance(received_at);
        if self.stage(fingerprint) {
            self.keep(&[fingerprint]);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, [high, low])) = self.order.pop_front() {
            self.known.remove(&(u128::from(high) << 64 | u128::from(low)));
        }
    }
}

/// The fingerprint of a body.
pub(super) fn fingerprint(signal: u8, encoding: u8, compression: u8, body: &[u8]) -> Fingerprint {
    xxh3_128_with_seed(body, u64::from_le_bytes([signal, encoding, compression, 0, 0, 0, 0, 0]))
}

#[expect(clippy::cast_possible_truncation, reason = "each half keeps its 64 bits")]
const fn halves(fingerprint: Fingerprint) -> [u64; 2] {
    [(fingerprint >> 64) as u64, fingerprint as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn write(duplicates: &mut Duplicates, fingerprint: Fingerprint, secs: i64) -> bool {
        duplicates.advance(Timestamp::from_secs(secs));
        let new = duplicates.stage(fingerprint);
        if new {
            duplicates.keep(&[fingerprint]);
        }
        new
    }

    /// Guarantees: a body is recognised for as long as promised and no longer, counted from its first writing.
    #[test]
    fn fingerprints_expire() {
        let mut duplicates = Duplicates::new(MINUTE, 10);
        assert!(write(&mut duplicates, 1, 0));
        assert!(!write(&mut duplicates, 1, 59));
        assert!(write(&mut duplicates, 1, 60));
        assert!(!write(&mut duplicates, 1, 61));
        assert_eq!(duplicates.known.len(), 1);
    }

    /// Guarantees: a clock that is set back does not forget anything, and what is written then expires with the rest.
    #[test]
    fn a_clock_set_back_loses_nothing() {
        let mut duplicates = Duplicates::new(MINUTE, 10);
        assert!(write(&mut duplicates, 1, 1_000));
        assert!(write(&mut duplicates, 2, 10));
        assert!(!write(&mut duplicates, 1, 10) && !write(&mut duplicates, 2, 11));
        assert!(write(&mut duplicates, 2, 1_060));
        assert_eq!(duplicates.known.len(), 1);
    }

    /// Guarantees: memory is bounded, and the oldest go first; both collections stay in step.
    #[test]
    fn the_oldest_go_first() {
        let mut duplicates = Duplicates::new(MINUTE, 3);
        for fingerprint in 1..=5 {
            assert!(write(&mut duplicates, fingerprint, 0));
        }
        assert_eq!((duplicates.known.len(), duplicates.order.len()), (3, 3));
        assert!(!write(&mut duplicates, u128::from(5_u8), 0) && write(&mut duplicates, 1, 0));
        assert!(write(&mut duplicates, u128::MAX - 1, 0));
        duplicates.advance(Timestamp::MAX);
        assert!(duplicates.known.is_empty() && duplicates.order.is_empty());
    }

    /// Guarantees: what was not written is not known, and with nothing to remember nothing is ever a duplicate.
    #[test]
    fn withdrawn_and_disabled() {
        let mut duplicates = Duplicates::new(MINUTE, 3);
        assert!(duplicates.stage(7) && !duplicates.stage(7));
        duplicates.withdraw(&[7]);
        assert!(duplicates.stage(7));
        for (remember, max) in [(Duration::ZERO, 3), (MINUTE, 0)] {
            let mut duplicates = Duplicates::new(remember, max);
            assert!(write(&mut duplicates, 1, 0) && write(&mut duplicates, 1, 0));
            assert!(duplicates.known.is_empty() && duplicates.order.is_empty());
        }
    }

    /// Guarantees: the same bytes mean something else under another signal, encoding or compression.
    #[test]
    fn tags_distinguish() {
        let all = [fingerprint(0, 0, 0, b"x"), fingerprint(1, 0, 0, b"x"), fingerprint(0, 1, 0, b"x"), fingerprint(0, 0, 1, b"x")];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4);
    }
}
