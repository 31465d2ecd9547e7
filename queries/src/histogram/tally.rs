//! Adding up the entries of many groups without comparing them.
//!
//! Entries are first dealt to their groups by counting. Within a group the buckets of a latency lie close together (a power of two
//! has 128), so counts are added in an array over them: a few nanoseconds for an entry, where a comparison sort takes twenty.
//! A group whose buckets lie far apart for their number is sorted.

/// So many buckets of the array may be visited for each entry, and at least [`DENSE_MIN`], before sorting is cheaper.
const DENSE_PER_ENTRY: usize = 8;
const DENSE_MIN: usize = 256;

/// A count of one bucket of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) group: u32,
    pub(super) key: i32,
    pub(super) count: u64,
}

/// Memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Where the next entry of each group goes.
    places: Vec<usize>,
    dealt: Vec<Entry>,
    /// All zero between uses.
    counts: Vec<u64>,
}

// === impl Tally ===

impl Tally {
    /// Adds `more` to `entries`, whose groups are below `groups`, and leaves them in order of group and bucket, each once.
    pub(super) fn run(&mut self, more: impl ExactSizeIterator<Item = Entry>, entries: &mut Vec<Entry>, groups: usize) {
        entries.reserve(more.len());
        entries.extend(more);
        self.deal(entries, groups);
        entries.clear();
        let dealt = std::mem::take(&mut self.dealt);
        for of_group in dealt.chunk_by(|a, b| a.group == b.group) {
            self.add_up(of_group, entries);
        }
        self.dealt = dealt;
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.places.capacity() * size_of::<usize>() + self.dealt.capacity() * size_of::<Entry>() + self.counts.capacity() * size_of::<u64>()
    }

    /// Orders entries by group.
    fn deal(&mut self, entries: &[Entry], groups: usize) {
        self.places.clear();
        self.places.resize(groups.max(1), 0);
        for entry in entries {
            self.places[entry.group as usize] += 1;
        }
        let mut begin = 0;
        for place in &mut self.places {
            begin += std::mem::replace(place, begin);
        }
        self.dealt.clear();
        self.dealt.resize(entries.len(), Entry::default());
        for entry in entries {
            let place = &mut self.places[entry.group as usize];
            self.dealt[*place] = *entry;
            *place += 1;
        }
    }

    /// Appends the sums of the entries of one group.
    fn add_up(&mut self, of_group: &[Entry], sums: &mut Vec<Entry>) {
        let (mut lowest, mut highest) = (i32::MAX, i32::MIN);
        for entry in of_group {
            (lowest, highest) = (lowest.min(entry.key), highest.max(entry.key));
        }
        let width = usize::try_from(i64::from(highest) - i64::from(lowest) + 1).unwrap_or(usize::MAX);
        if width > DENSE_MIN.max(of_group.len().saturating_mul(DENSE_PER_ENTRY)) {
            return sort(of_group, sums);
        }
        if self.counts.len() < width {
            self.counts.resize(width, 0);
        }
        for entry in of_group {
            let count = &mut self.counts[entry.key.abs_diff(lowest) as usize];
            *count = count.saturating_add(entry.count);
        }
        for (key, count) in (lowest..=highest).zip(&mut self.counts[..width]).filter(|(_, count)| **count > 0) {
            sums.push(Entry { group: of_group[0].group, key, count: std::mem::take(count) });
        }
    }
}

fn sort(of_group: &[Entry], sums: &mut Vec<Entry>) {
    let begin = sums.len();
    sums.extend_from_slice(of_group);
    sums[begin..].sort_unstable_by_key(|entry| entry.key);
    let mut last = begin;
    for next in begin + 1..sums.len() {
        if sums[next].key == sums[last].key {
            sums[last].count = sums[last].count.saturating_add(sums[next].count);
        } else {
            last += 1;
            sums[last] = sums[next];
        }
    }
    sums.truncate(last + 1);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Guarantees: sums are those of a map, in its order, whether buckets lie close together or far apart.
        #[test]
        fn adds_up_as_a_map_does(rows in prop::collection::vec((0_u32..6, prop_oneof![-40..40_i32, any::<i32>()], 1..u64::MAX), 0..400), cut in 0_usize..400) {
            let rows: Vec<Entry> = rows.into_iter().map(|(group, key, count)| Entry { group, key, count }).collect();
            let mut map: BTreeMap<(u32, i32), u64> = BTreeMap::new();
            for row in &rows {
                let sum = map.entry((row.group, row.key)).or_default();
                *sum = sum.saturating_add(row.count);
            }
            let (first, second) = rows.split_at(cut.min(rows.len()));
            let (mut tally, mut entries) = (Tally::default(), Vec::new());
            tally.run(first.iter().copied(), &mut entries, 6);
            tally.run(second.iter().copied(), &mut entries, 6);
            let expected: Vec<Entry> = map.into_iter().map(|((group, key), count)| Entry { group, key, count }).collect();
            prop_assert_eq!(entries, expected);
        }
    }
}
