//! The promise of the archive: whatever fails between any two steps, readers see every row once.

use proptest::prelude::*;

use super::*;
use crate::audit::audit;
use crate::error::ArchiveError;
use crate::expire::Retention;
use crate::store::faults::{Faults, Mode};

const ROWS_PER_HOUR: u64 = 8;

/// What is done, in order.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Archives the next so many rows. A position of the write-ahead log is a row, and its id.
    Cut(u64),
    /// Merges until nothing is due.
    Compact,
    /// Drops the first hour.
    Expire,
}

/// A writer that fails and goes on.
struct Run {
    store: Store,
    faults: Arc<Faults>,
    archive: Option<Archive>,
    now: Timestamp,
    opened: u64,
    /// Whether there is a reason to look: without a failure all runs are alike.
    failed: bool,
    expiring: bool,
}

// === impl Run ===

impl Run {
    fn new(store: Store, failures: impl IntoIterator<Item = (u64, Mode)>) -> Self {
        Self { store, faults: Arc::new(Faults::new(failures)), archive: None, now: START, opened: 0, failed: false, expiring: false }
    }

    async fn try_step(&mut self, step: Step, until: u64) -> Result<(), ArchiveError> {
        let now = self.now;
        let archive = match &mut self.archive {
            Some(archive) => archive,
            closed => {
                self.opened += 1;
                let mut options = options("w", self.opened);
                options.compaction.most_fresh = 2;
                let store = self.store.clone().with_faults(Arc::clone(&self.faults));
                closed.insert(Archive::open(store, options, now).await?)
            }
        };
        let through = archive.settle(now).await?;
        match step {
            Step::Cut(_) if through < until => drop(archive.commit(cut(until, vec![rows_of(through..until)]), now).await?),
            Step::Cut(_) => assert_eq!(through, until),
            Step::Compact => while archive.compact(now).await?.more {},
            Step::Expire => {
                let retention = Retention { max_age: Some(now.since(START + HOUR)), ..Retention::default() };
                archive.expire(now, &retention).await?;
            }
        }
        Ok(())
    }

    /// Does a step however often it fails.
    async fn step(&mut self, step: Step, until: u64) {
        self.expiring |= matches!(step, Step::Expire);
        self.now = self.now + 20 * MINUTE;
        loop {
            match self.try_step(step, until).await {
                Ok(()) if std::mem::take(&mut self.failed) => return self.check().await,
                Ok(()) => return,
                Err(ArchiveError::Store { .. }) => {
                    self.failed = true;
                    self.check().await;
                }
                Err(error) => panic!("{step:?}: {error}"),
            }
            if self.faults.crashed() {
                self.archive = None;
                self.faults.revive();
            }
        }
    }

    /// Does all steps, tidies up, and leaves nothing behind.
    async fn all(mut self, steps: &[Step]) {
        let mut until = 0;
        for step in steps {
            until += if let Step::Cut(rows) = step { *rows } else { 0 };
            self.step(*step, until).await;
        }
        self.now = self.now + DAY;
        self.step(Step::Compact, until).await;
        self.now = self.now + DAY;
        self.step(Step::Compact, until).await;
        let findings = audit(&self.store).await.unwrap();
        // A failed deletion of an orphan is tried again by the next sweep, and the sweep is part of every step.
        assert!(findings.is_empty(), "{findings:?}");
        let expired = if self.expiring { ROWS_PER_HOUR.min(until) } else { 0 };
        let found = ids(&self.store).await;
        if steps.iter().rposition(|step| matches!(step, Step::Expire)) == Some(steps.len() - 1) {
            assert_eq!(found, (expired as i64..until as i64).collect::<Vec<_>>());
        }
    }

    /// Every row before the position is there once and none after it, but those of the first hour when they may be dropped.
    async fn check(&self) {
        let catalog = Catalog::over(self.store.clone()).await.unwrap();
        let through = catalog.writers().first().map_or(0, |writer| writer.through) as i64;
        let found = ids(&self.store).await;
        let (first_hour, later): (Vec<i64>, Vec<i64>) = found.iter().partition(|id| **id < ROWS_PER_HOUR as i64);
        assert_eq!(later, (ROWS_PER_HOUR as i64..through).collect::<Vec<_>>());
        let expected: Vec<i64> = (0..through.min(ROWS_PER_HOUR as i64)).collect();
        // Rows of the first hour that come after it was dropped are there until it is dropped again.
        assert!(first_hour == expected || (self.expiring && expected.ends_with(&first_hour)), "{first_hour:?} of {through}");
    }
}

fn rows_of(positions: std::ops::Range<u64>) -> RecordBatch {
    let row = |position: u64| {
        let (hour, within) = (position / ROWS_PER_HOUR, position % ROWS_PER_HOUR);
        (START + HOUR * hour as u32 + MINUTE * within as u32, position as i64)
    };
    rows(&positions.map(row).collect::<Vec<_>>())
}

const SCRIPT: &[Step] = &[
    Step::Cut(3),
    Step::Cut(2),
    Step::Cut(7),
    Step::Compact,
    Step::Cut(6),
    Step::Compact,
    Step::Compact,
    Step::Cut(1),
    Step::Compact,
    Step::Expire,
];

/// As short as it can be with every kind of commit: files that are synced take their time.
const SHORT: &[Step] = &[Step::Cut(3), Step::Cut(6), Step::Cut(1), Step::Compact, Step::Expire];

/// Runs a script once per step that can fail, and returns how many there are.
async fn everywhere(script: &[Step], mode: Mode, store: impl Fn() -> (Option<tempfile::TempDir>, Store)) -> usize {
    // Several at once, because they wait for the disk most of the time.
    const AT_ONCE: u64 = 8;
    let mut steps = 0;
    for first in (0..).step_by(AT_ONCE as usize) {
        let one = async |step| {
            let (_folder, store) = store();
            let run = Run::new(store, [(step, mode)]);
            let faults = Arc::clone(&run.faults);
            run.all(script).await;
            faults.exhausted()
        };
        let failed = futures::future::join_all((first..first + AT_ONCE).map(one)).await;
        steps += failed.iter().filter(|failed| **failed).count();
        if failed.contains(&false) {
            break;
        }
    }
    steps
}

fn in_folder() -> (Option<tempfile::TempDir>, Store) {
    let path = tempfile::tempdir().unwrap();
    let store = folder(path.path());
    (Some(path), store)
}

/// Guarantees: a crash at any step of a local archive (down to the parts of a put) loses and doubles no row, and leaves
/// no file behind.
#[tokio::test]
async fn a_crash_anywhere_in_a_folder_is_harmless() {
    assert!(everywhere(SHORT, Mode::Crash, in_folder).await > 80);
}

/// Guarantees: a failure at any step of a local archive, after which the same process goes on, is as harmless.
#[tokio::test]
async fn a_failure_anywhere_in_a_folder_is_harmless() {
    assert!(everywhere(SHORT, Mode::Once, in_folder).await > 80);
}

/// Guarantees: the same for an object store, where a put may have happened although its answer was lost.
#[tokio::test]
async fn a_crash_or_lost_answer_anywhere_in_a_bucket_is_harmless() {
    for mode in [Mode::Crash, Mode::Once] {
        let steps = everywhere(SCRIPT, mode, || (None, memory())).await;
        assert!(steps > 70, "{steps}");
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => (1..9_u64).prop_map(Step::Cut), 3 => Just(Step::Compact), 1 => Just(Step::Expire)]
}

fn failure() -> impl Strategy<Value = (u64, Mode)> {
    (0..60_u64, prop_oneof![Just(Mode::Crash), Just(Mode::Once)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(29), ..ProptestConfig::default() })]

    /// Guarantees: any sequence of cuts, merges and expiries with any number of failures shows every row once.
    #[test]
    fn failures_upon_failures_are_harmless(
        steps in prop::collection::vec(step(), 1..14),
        failures in prop::collection::vec(failure(), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Run::new(memory(), failures).all(&steps));
    }
}
