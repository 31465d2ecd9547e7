//! Adding up the entries of many groups without comparing them.
//!
//! What belongs to one group is brought together by counting. The buckets of a latency lie close together (a power of two has 128),
//! so counts are added in an array over them: a few nanoseconds for an entry, where a comparison sort takes twenty. Histograms in
//! bytes are added from their bytes. Buckets that lie far apart for their number are sorted after all.

use std::iter::Peekable;

use arrow::array::BinaryArray;

use super::{NotAHistogram, decode, first_key};

/// So many places of the array may be visited for each entry, and at least [`DENSE_MIN`], before sorting is cheaper.
const DENSE_PER_ENTRY: usize = 8;
const DENSE_MIN: usize = 256;

/// A count of one bucket of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) group: u32,
    pub(super) key: i32,
    pub(super) count: u64,
}

/// A histogram of one group: a row of an array.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) group: u32,
    pub(super) histograms: BinaryArray,
    pub(super) row: usize,
}

/// Memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Where the next entry of each group goes.
    places: Vec<usize>,
    dealt: Vec<Entry>,
    dense: Dense,
}

/// Counts of neighbouring buckets of one group.
#[derive(Debug, Default)]
struct Dense {
    group: u32,
    lowest: i32,
    /// Places that may be used.
    limit: usize,
    /// All zero between uses.
    counts: Vec<u64>,
    used: usize,
    /// Entries beyond the limit.
    far: Vec<Entry>,
}

// === impl Part ===

impl Part {
    pub(super) fn bytes(&self) -> &[u8] {
        self.histograms.value(self.row)
    }
}

// === impl Tally ===

impl Tally {
    /// Adds `parts` to `entries`, and leaves those in order of group and bucket, each once.
    pub(super) fn run(&mut self, entries: &mut Vec<Entry>, parts: &mut Vec<Part>) -> Result<(), NotAHistogram> {
        self.deal(entries);
        entries.clear();
        parts.sort_by_key(|part| part.group);
        let mut of_entries = self.dealt.chunk_by(|a, b| a.group == b.group).peekable();
        let mut of_parts = parts.chunk_by(|a, b| a.group == b.group).peekable();
        while let Some(group) = first(&mut of_entries, |entry| entry.group).into_iter().chain(first(&mut of_parts, |part| part.group)).min()
        {
            let of_entries = of_entries.next_if(|entries| entries[0].group == group).unwrap_or_default();
            let of_parts = of_parts.next_if(|parts| parts[0].group == group).unwrap_or_default();
            self.dense.add_up(group, of_entries, of_parts)?;
            self.dense.take(entries);
        }
        parts.clear();
        Ok(())
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.places.capacity() * size_of::<usize>()
            + (self.dealt.capacity() + self.dense.far.capacity()) * size_of::<Entry>()
            + self.dense.counts.capacity() * size_of::<u64>()
    }

    /// Orders entries by group.
    fn deal(&mut self, entries: &[Entry]) {
        self.places.clear();
        for entry in entries {
            let group = entry.group as usize;
            if group >= self.places.len() {
                self.places.resize(group + 1, 0);
            }
            self.places[group] += 1;
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
}

fn first<'a, T: 'a>(chunks: &mut Peekable<impl Iterator<Item = &'a [T]>>, group: fn(&T) -> u32) -> Option<u32> {
    chunks.peek().and_then(|chunk| chunk.first()).map(group)
}

// === impl Dense ===

impl Dense {
    fn add_up(&mut self, group: u32, entries: &[Entry], parts: &[Part]) -> Result<(), NotAHistogram> {
        let of_parts = parts.iter().filter_map(|part| first_key(part.bytes()));
        self.lowest = entries.iter().map(|entry| entry.key).chain(of_parts).min().unwrap_or_default();
        self.group = group;
        // An entry of a histogram has at least two bytes.
        let count = entries.len() + parts.iter().map(|part| part.bytes().len() / 2).sum::<usize>();
        self.limit = DENSE_MIN.max(count.saturating_mul(DENSE_PER_ENTRY));
        for entry in entries {
            self.add(entry.key, entry.count);
        }
        parts.iter().try_for_each(|part| decode(part.bytes(), |key, count| self.add(key, count)))
    }

    #[inline]
    fn add(&mut self, key: i32, count: u64) {
        let place = key.abs_diff(self.lowest) as usize;
        if place >= self.limit {
            self.far.push(Entry { group: self.group, key, count });
            return;
        }
        if place >= self.used {
            self.used = place + 1;
            if self.used > self.counts.len() {
                self.counts.resize(self.used.next_power_of_two(), 0);
            }
        }
        self.counts[place] = self.counts[place].saturating_add(count);
    }

    /// Appends the sums in order.
    fn take(&mut self, sums: &mut Vec<Entry>) {
        let used = std::mem::take(&mut self.used);
        for (key, count) in (self.lowest..=i32::MAX).zip(&mut self.counts[..used]).filter(|(_, count)| **count > 0) {
            sums.push(Entry { group: self.group, key, count: std::mem::take(count) });
        }
        self.far.sort_unstable_by_key(|entry| entry.key);
        let begin = sums.len();
        for entry in self.far.drain(..) {
            match sums[begin..].last_mut().filter(|last| last.key == entry.key) {
                Some(last) => last.count = last.count.saturating_add(entry.count),
                None => sums.push(entry),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::histogram::Histogram;

    proptest! {
        /// Guarantees: sums are those of a map, in its order, whether buckets lie close together or far apart, as entries or as bytes.
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
            entries.extend_from_slice(first);
            let histograms: Vec<Vec<u8>> = second.iter().map(|row| Histogram::from_entries(vec![(row.key, row.count)]).to_bytes()).collect();
            let histograms = BinaryArray::from_iter_values(histograms);
            let part = |(row, entry): (usize, &Entry)| Part { group: entry.group, histograms: histograms.clone(), row };
            let mut parts: Vec<Part> = second.iter().enumerate().map(part).collect();
            tally.run(&mut entries, &mut parts).unwrap();
            let expected: Vec<Entry> = map.into_iter().map(|((group, key), count)| Entry { group, key, count }).collect();
            prop_assert_eq!(entries, expected);
        }
    }
}
