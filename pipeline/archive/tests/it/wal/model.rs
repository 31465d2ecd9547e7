//! Random histories of a log against the simplest thing that could be one.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tracescale_archive::wal::{Appended, Entry, Lsn, Options, Reader, Wal};
use tracescale_core::time::Timestamp;

use super::{entry, follow, options, quick_dir};

const REMEMBER: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
enum Step {
    /// A group: what each body is, its length, and how far the clock moves before it.
    Append(Vec<(u8, usize, i64)>),
    Reopen,
    /// Below this many records before the end.
    Release(u64),
    Skip(u64),
    Read(u64, usize),
}

/// What the log must hold, and what it must recognise.
#[derive(Default)]
struct Model {
    records: BTreeMap<u64, Entry>,
    next: u64,
    newest: Option<i64>,
    /// The bodies recognised, and when they were written by the newest clock.
    known: Vec<(Entry, i64)>,
}

// === impl Model ===

impl Model {
    fn advance(&mut self, secs: i64) -> i64 {
        let newest = self.newest.map_or(secs, |newest| newest.max(secs));
        self.newest = Some(newest);
        self.known.retain(|(_, at)| newest - at < 20);
        newest
    }

    fn knows(&self, entry: &Entry) -> bool {
        self.known.iter().any(|(known, _)| known.body == entry.body)
    }

    fn append(&mut self, group: &[Entry]) -> Vec<Appended> {
        let newest = group.iter().map(|entry| entry.received_at.as_nanos() / 1_000_000_000).max();
        let at = newest.map_or(0, |newest| self.advance(newest));
        let mut append = |entry: &Entry| {
            if self.knows(entry) {
                return Appended::Duplicate;
            }
            self.known.push((entry.clone(), at));
            self.records.insert(self.next, entry.clone());
            self.next += 1;
            Appended::New(Lsn(self.next - 1))
        };
        group.iter().map(&mut append).collect()
    }

    /// A restart knows of times only what the records say.
    fn reopen(&mut self) {
        (self.newest, self.known) = (None, Vec::new());
        for entry in self.records.values().cloned().collect::<Vec<_>>() {
            let at = self.advance(entry.received_at.as_nanos() / 1_000_000_000);
            if !self.knows(&entry) {
                self.known.push((entry, at));
            }
        }
    }

    fn from(&self, lsn: u64) -> impl Iterator<Item = (Lsn, &Entry)> {
        self.records.range(lsn..).map(|(lsn, entry)| (Lsn(*lsn), entry))
    }
}

fn step() -> impl Strategy<Value = Step> {
    let one = (0_u8..12, prop_oneof![4 => 0_usize..80, 1 => 200_usize..500], prop_oneof![6 => 0_i64..3, 1 => -40_i64..40]);
    prop_oneof![
        8 => prop::collection::vec(one, 0..6).prop_map(Step::Append),
        2 => Just(Step::Reopen),
        2 => (0_u64..20).prop_map(Step::Release),
        1 => (0_u64..30).prop_map(Step::Skip),
        4 => (0_u64..40, 0_usize..600).prop_map(|(back, max)| Step::Read(back, max)),
    ]
}

fn small() -> Options {
    Options { segment_bytes: 400, remember: REMEMBER, ..options() }
}

fn run(steps: Vec<Step>) {
    let dir = quick_dir();
    let mut wal = super::open(dir.path(), small());
    let (mut reader, mut other) = (wal.reader(), Reader::open(dir.path()).unwrap());
    let mut model = Model { next: 1, ..Model::default() };
    let mut secs = 1_000_i64;
    for step in steps {
        match step {
            Step::Append(group) => {
                let group: Vec<_> = group
                    .into_iter()
                    .map(|(name, length, pause)| {
                        secs += pause;
                        Entry { received_at: Timestamp::from_secs(secs), ..entry(vec![name; length]) }
                    })
                    .collect();
                assert_eq!(wal.append(&group).unwrap(), model.append(&group));
            }
            Step::Reopen => {
                drop(wal);
                let (reopened, recovery) = Wal::open(dir.path(), small()).unwrap();
                assert!(recovery.torn.is_none() && recovery.quarantined.is_empty(), "{recovery}");
                assert_eq!(recovery.records, model.records.len() as u64);
                wal = reopened;
                reader = wal.reader();
                model.reopen();
            }
            Step::Release(back) => release(&mut wal, &mut model, back, secs),
            Step::Skip(ahead) => {
                model.next += ahead;
                wal.skip_to(Lsn(model.next)).unwrap();
            }
            Step::Read(back, max) => {
                // A reader may still see released records in a file that it has open.
                let from = model.next.saturating_sub(back).max(wal.first().0);
                for reader in [&mut reader, &mut other] {
                    let read = reader.read(Lsn(from), max).unwrap();
                    assert!(read.iter().map(|record| (record.lsn, &record.entry)).eq(model.from(from).take(read.len())));
                    assert_eq!(read.is_empty(), model.from(from).next().is_none());
                }
            }
        }
        assert_eq!(wal.next(), Lsn(model.next));
    }
    for reader in [&mut reader, &mut other] {
        let found = follow(reader, wal.first());
        assert!(found.iter().map(|record| (record.lsn, &record.entry)).eq(model.from(0)));
    }
}

fn release(wal: &mut Wal, model: &mut Model, back: u64, secs: i64) {
    let below = model.next.saturating_sub(back);
    let (before, bytes) = (wal.bytes(), wal.release(Lsn(below), Timestamp::from_secs(secs)).unwrap());
    assert_eq!(wal.bytes(), before - bytes);
    let gone: Vec<_> = model.records.range(..wal.first().0).map(|(lsn, _)| *lsn).collect();
    let now = model.newest.unwrap_or(secs).max(secs);
    for lsn in gone {
        let entry = model.records.remove(&lsn).unwrap();
        assert!(lsn < below && now - entry.received_at.as_nanos() / 1_000_000_000 >= 20, "record {lsn} was released too early");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// Guarantees: whatever the order of groups, restarts, releases and skips, and however the clock jumps, the log holds exactly
    /// what it was given and not told to release, recognises what it should, and readers agree.
    #[test]
    fn a_log_behaves_like_its_model(steps in prop::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
