//! Which windows of a view are due: final ones at the watermark, the newest provisional one at each slide of the wall clock.
//!
//! The number of emissions per call is bounded whatever the clock does. Provisional windows that were missed are skipped,
//! only the newest is emitted. Final windows are never skipped while they hold rows; after a jump the windows without rows
//! are, except the last, and what exceeds the bound follows in the next call.

use tracescale_core::time::Timestamp;

use crate::window::Windows;

/// How far a view has come.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    windows: Windows,
    provisional: Option<Timestamp>,
    finished: Option<Timestamp>,
    has_finished: bool,
}

/// What to emit now, as window ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Final windows, oldest first.
    pub(crate) finals: Vec<Timestamp>,
    /// The newest provisional window.
    pub(crate) provisional: Option<Timestamp>,
    /// Provisional windows that were not emitted because a newer one is due.
    pub(crate) skipped: u64,
    /// There are more final windows.
    pub(crate) backlog: bool,
}

// === impl Cursor ===

impl Cursor {
    pub(crate) fn new(windows: Windows) -> Self {
        Self { windows, provisional: None, finished: None, has_finished: false }
    }

    /// The end of the newest final window.
    pub(crate) fn finished(&self) -> Option<Timestamp> {
        self.finished
    }

    /// Begins before the first window that can hold a row of `oldest`; nothing is due before that. Older rows move the
    /// beginning back until a window was final.
    pub(crate) fn begin(&mut self, oldest: Timestamp) {
        if !self.has_finished {
            let before = self.windows.end_at_or_before(oldest);
            self.finished = Some(self.finished.map_or(before, |finished| finished.min(before)));
        }
    }

    /// The next wall time at which a provisional window is due.
    pub(crate) fn next_tick(&self, now: Timestamp) -> Option<Timestamp> {
        self.finished?;
        Some(self.windows.end_after(self.provisional.unwrap_or(now).min(now)))
    }

    /// Whether a final window is due at that watermark.
    pub(crate) fn final_due(&self, watermark: Timestamp) -> bool {
        self.finished.is_some_and(|finished| self.windows.end_at_or_before(watermark) > finished)
    }

    /// Takes what is due. `next_rows(time)` is the first time at or after `time` for which there are rows.
    pub(crate) fn due(
        &mut self,
        now: Timestamp,
        watermark: Timestamp,
        max_finals: usize,
        next_rows: impl Fn(Timestamp) -> Option<Timestamp>,
    ) -> Due {
        let mut due = Due::default();
        let Some(mut finished) = self.finished else { return due };
        let target = self.windows.end_at_or_before(watermark);
        while finished < target {
            if due.finals.len() == max_finals {
                due.backlog = true;
                break;
            }
            finished = finished + self.windows.slide;
            // Many windows at once mean that time jumped: skip to the next one with rows.
            if target.since(finished) / 2 > self.windows.slide * u32::try_from(max_finals / 2).unwrap_or(u32::MAX) {
                let rows = next_rows(self.windows.start(finished)).map_or(target, |rows| self.windows.end_after(rows));
                finished = finished.max(rows.min(target));
            }
            due.finals.push(finished);
        }
        self.has_finished |= !due.finals.is_empty();
        self.finished = Some(finished);
        let tick = self.windows.end_at_or_before(now);
        if self.provisional.is_none_or(|last| tick > last) {
            let last = self.provisional.unwrap_or(tick - self.windows.slide);
            let missed = (tick.since(last).as_nanos() / self.windows.slide.as_nanos()).saturating_sub(1);
            due.skipped = u64::try_from(missed).unwrap_or(u64::MAX);
            self.provisional = Some(tick);
            due.provisional = (tick > finished).then_some(tick);
        }
        due
    }

    /// The wall clock stepped back.
    pub(crate) fn step_back(&mut self, now: Timestamp, watermark: Timestamp) {
        self.provisional = self.provisional.map(|last| last.min(self.windows.end_at_or_before(now)));
        self.finished = self.finished.map(|finished| finished.min(self.windows.end_at_or_before(watermark)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cursor() -> Cursor {
        let mut cursor = Cursor::new(Windows { slide: Duration::from_secs(5), size: Duration::from_secs(60) });
        cursor.begin(Timestamp::from_secs(1_000));
        cursor
    }

    /// Guarantees: one provisional window per slide, finals at the watermark in order, nothing twice.
    #[test]
    fn steady_time_emits_each_window_once() {
        let mut cursor = cursor();
        let (mut finals, mut provisional) = (Vec::new(), Vec::new());
        for second in 1_001..1_100 {
            let now = Timestamp::from_secs(second);
            let due = cursor.due(now, now - Duration::from_secs(10), 64, Some);
            finals.extend(due.finals);
            provisional.extend(due.provisional);
        }
        assert_eq!(finals, (1_005..=1_085).step_by(5).map(Timestamp::from_secs).collect::<Vec<_>>());
        assert_eq!(provisional, (1_005..1_100).step_by(5).map(Timestamp::from_secs).collect::<Vec<_>>());
    }

    /// Guarantees: a jump of a year emits a bounded number of windows per call, and reaches the new time.
    #[test]
    fn a_jump_forward_does_not_flood() {
        let mut cursor = cursor();
        let now = Timestamp::from_secs(1_000 + 365 * 86_400);
        let rows = |time: Timestamp| (time <= Timestamp::from_secs(1_000)).then(|| time.max(Timestamp::from_secs(1_000)));
        let mut emitted = 0;
        loop {
            let due = cursor.due(now, now, 64, rows);
            emitted += due.finals.len();
            assert!(due.finals.len() <= 64);
            if !due.backlog {
                break;
            }
        }
        assert!(emitted < 200, "{emitted}");
        assert_eq!(cursor.finished(), Some(now));
    }

    /// Guarantees: after the clock steps back an hour, the next slide emits again.
    #[test]
    fn a_step_back_does_not_stall() {
        let mut cursor = cursor();
        let ahead = Timestamp::from_secs(5_000);
        cursor.due(ahead, ahead, 64, Some);
        let now = Timestamp::from_secs(1_400);
        cursor.step_back(now, now - Duration::from_secs(10));
        let next = Timestamp::from_secs(1_405);
        assert_eq!(cursor.due(next, next - Duration::from_secs(10), 64, Some).provisional, Some(next));
    }
}
