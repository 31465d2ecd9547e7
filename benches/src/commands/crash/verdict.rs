//! Compares what was sent with what the archive holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tracescale_benches::repeat::Signal;
use tracescale_core::time::Timestamp;

use super::archived::{Archived, SpanRow, WindowRow};
use super::traffic::Sent;
use super::{ALLOWED_LATENESS, LATENESS, SIZE, SLIDE, VIEWS};

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub(super) spans: Items,
    pub(super) points: Items,
    /// Two points of one series at one time.
    pub(super) double_times: usize,
    pub(super) windows: Windows,
    /// Decisions, outcomes and alerts, and those that are there more than once.
    pub(super) records: usize,
    pub(super) double_records: usize,
    /// What the audit of the archive found.
    pub(super) findings: Vec<String>,
    /// Everything that is wrong, in words.
    pub(super) wrong: Vec<String>,
}

/// Items of one signal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Items {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) archived: u64,
    /// Acknowledged and not there.
    pub(super) lost: u64,
    /// There more than once.
    pub(super) double: u64,
    /// There, and never sent.
    pub(super) strange: u64,
}

/// Windows of every service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Windows {
    pub(super) compared: usize,
    /// With a newest revision above zero.
    pub(super) corrected: usize,
    pub(super) different: usize,
    /// Different, and with rows that came too late to change them.
    pub(super) too_late: usize,
}

/// The end of a window, and a service.
type Key<'a> = (Timestamp, &'a str);

/// Most wrong things of a kind that are told one by one.
const TOLD: usize = 12;

// === impl Verdict ===

impl Verdict {
    /// Compares; windows that end in `(begin, end]`.
    pub(super) fn of(sent: &[Sent], archived: &Archived, begin: Timestamp, end: Timestamp) -> Self {
        let mut verdict = Self::default();
        let spans = count(archived.spans.iter().map(|span| span.id));
        verdict.spans = verdict.items("span", sent, Signal::Traces, &spans);
        let points = count(archived.points.iter().map(|(_, _, value)| *value));
        verdict.points = verdict.items("point", sent, Signal::Metrics, &points);
        let times: BTreeSet<_> = archived.points.iter().map(|(series, time, _)| (series, time)).collect();
        verdict.double_times = archived.points.len() - times.len();
        verdict.compare_windows(archived, begin, end);
        verdict.records = archived.records.values().sum();
        for ((table, key), times) in archived.records.iter().filter(|(_, times)| **times > 1) {
            verdict.double_records += 1;
            verdict.wrong.push(format!("{times} rows of `{table}` are {}", key.join(" · ")));
        }
        verdict
    }

    fn items(&mut self, what: &str, sent: &[Sent], signal: Signal, archived: &HashMap<u64, u64>) -> Items {
        let mut items = Items { archived: archived.values().sum(), ..Items::default() };
        let mut told = Vec::new();
        let mut expected = 0;
        for sent in sent.iter().filter(|sent| sent.signal == signal) {
            items.sent += sent.items;
            items.acknowledged += if sent.acknowledged { sent.items } else { 0 };
            for id in sent.first..sent.first + sent.items {
                let copies = archived.get(&id).copied().unwrap_or(0);
                expected += copies;
                let (is_lost, is_double) = (sent.acknowledged && copies == 0, copies > 1);
                items.lost += u64::from(is_lost);
                items.double += u64::from(is_double);
                if is_lost || is_double {
                    told.push(format!("{what} {id:#x} is there {copies} times; its request went out {} times", sent.attempts));
                }
            }
        }
        items.strange = items.archived - expected;
        told.truncate(TOLD);
        self.wrong.extend(told);
        items
    }

    fn compare_windows(&mut self, archived: &Archived, begin: Timestamp, end: Timestamp) {
        let entries = || archived.spans.iter().filter(|span| span.is_entry);
        let mut expected: BTreeMap<Key<'_>, i64> = BTreeMap::new();
        let mut late = BTreeSet::new();
        for span in entries() {
            for window_end in window_ends(span) {
                *expected.entry((window_end, span.service.as_str())).or_default() += 1;
                if span.received_at.since(span.end) > LATENESS + ALLOWED_LATENESS {
                    let _ = late.insert((window_end, span.service.as_str()));
                }
            }
        }
        for (view, delay) in VIEWS {
            let (newest, again) = newest(archived.windows.iter().filter(|row| row.view == view));
            for ((end, service), revision) in again {
                self.windows.different += 1;
                self.wrong.push(format!("{view} until {end}: two rows of {service} in revision {revision}"));
            }
            let is_compared = |key: &&Key<'_>| key.0 > begin && key.0 + delay <= end;
            let keys: BTreeSet<Key<'_>> = expected.keys().chain(newest.keys()).filter(is_compared).copied().collect();
            for key in keys {
                self.compare_window(view, key, expected.get(&key).copied().unwrap_or(0), newest.get(&key).copied(), late.contains(&key));
            }
        }
    }

    fn compare_window(&mut self, view: &str, (end, service): Key<'_>, expected: i64, found: Option<&WindowRow>, is_late: bool) {
        self.windows.compared += 1;
        self.windows.corrected += usize::from(found.is_some_and(|row| row.revision > 0));
        if expected == found.map_or(0, |row| row.samples) {
            return;
        }
        if is_late {
            self.windows.too_late += 1;
            return;
        }
        self.windows.different += 1;
        let found = found.map_or_else(|| "no row".to_owned(), |row| format!("{} in revision {}", row.samples, row.revision));
        self.wrong.push(format!("{view} until {end}: {expected} entry spans of {service}, {found}"));
    }

    pub(super) fn is_good(&self) -> bool {
        let wrong = |items: &Items| items.lost + items.double + items.strange;
        wrong(&self.spans) + wrong(&self.points) == 0
            && self.double_times + self.windows.different + self.double_records + self.findings.len() == 0
    }
}

/// The ends of the windows that hold a span.
fn window_ends(span: &SpanRow) -> impl Iterator<Item = Timestamp> {
    let first = span.end.floor(SLIDE);
    (1..).map(move |step| first + SLIDE * step).take_while(move |end| end.since(first) <= SIZE)
}

/// The newest revision of each window and service, and what is there twice.
fn newest<'a>(rows: impl Iterator<Item = &'a WindowRow>) -> (BTreeMap<Key<'a>, &'a WindowRow>, Vec<(Key<'a>, i64)>) {
    let (mut newest, mut seen, mut again): (BTreeMap<Key<'_>, &WindowRow>, _, _) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for row in rows {
        let key = (row.end, row.service.as_str());
        if !seen.insert((key, row.revision)) {
            again.push((key, row.revision));
        }
        let known = newest.entry(key).or_insert(row);
        if row.revision > known.revision {
            *known = row;
        }
    }
    (newest, again)
}

fn count(ids: impl Iterator<Item = u64>) -> HashMap<u64, u64> {
    let mut counts = HashMap::new();
    ids.for_each(|id| *counts.entry(id).or_default() += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp::from_secs(1_767_225_660);

    fn span(id: u64, age: u64) -> SpanRow {
        let end = END - std::time::Duration::from_secs(age);
        SpanRow { id, service: "cart".to_owned(), end, received_at: end, is_entry: true }
    }

    fn sent(first: u64, items: u64, acknowledged: bool) -> Sent {
        Sent { signal: Signal::Traces, first, items, acknowledged, attempts: 1 }
    }

    fn row(revision: i64, samples: i64) -> WindowRow {
        WindowRow { view: VIEWS[0].0, end: END, service: "cart".to_owned(), revision, samples }
    }

    fn verdict(spans: &[SpanRow], windows: &[WindowRow]) -> Verdict {
        let archived = Archived { spans: spans.to_vec(), windows: windows.to_vec(), ..Archived::default() };
        Verdict::of(&[sent(1, 3, true), sent(4, 1, false)], &archived, END - SLIDE, END)
    }

    /// Guarantees: spans that are lost, double or strange are found, and one that was never acknowledged may be there or not.
    #[test]
    fn items_are_compared() {
        let all = [span(1, 1), span(2, 1), span(3, 1)];
        assert!(verdict(&all, &[row(0, 3)]).is_good());
        let four = [all.to_vec(), vec![span(4, 1)]].concat();
        assert!(verdict(&four, &[row(0, 4)]).is_good());
        let wrong = verdict(&[span(1, 1), span(1, 1), span(3, 1), span(9, 1)], &[row(0, 4)]);
        assert_eq!((wrong.spans.lost, wrong.spans.double, wrong.spans.strange), (1, 1, 1));
        assert!(!wrong.is_good());
    }

    /// Guarantees: the newest revision counts; a window that misses a row, counts one twice, is missing or is there twice is
    /// wrong, one that its row could not reach any more is not.
    #[test]
    fn windows_are_compared() {
        let spans = [span(1, 1), span(2, 1), span(3, 70)];
        let different = |windows: &[WindowRow]| verdict(&spans, windows).windows.different;
        assert_eq!(different(&[row(0, 1), row(1, 2)]), 0);
        assert_eq!(different(&[row(0, 2), row(1, 1)]), 1);
        assert_eq!(different(&[row(0, 3)]), 1);
        assert_eq!(different(&[]), 1);
        assert_eq!(different(&[row(0, 2), row(0, 2)]), 1);
        let late = SpanRow { received_at: END + SIZE, ..span(2, 1) };
        let windows = verdict(&[span(1, 1), late, span(3, 70)], &[row(0, 1)]).windows;
        assert_eq!((windows.compared, windows.different, windows.too_late), (1, 0, 1));
    }
}
