//! Every way to cut a small log, and every byte of it that can be wrong.

use std::fs;
use std::ops::Range;
use std::path::Path;

use tracescale_archive::wal::{Appended, Lsn, Recovery, Wal};

use super::{
    RECORD_HEADER, Random, SEGMENT_HEADER, all, append_each, bodies, copy, entry, open, options, quick_dir, segment_path, segments,
    segments_of,
};

const BODIES: [&str; 6] = ["first", "the second one", "3", "", "the fifth", "last of all"];

/// Where each record of a segment stands that holds `bodies` only.
fn places(bodies: &[&str]) -> Vec<Range<u64>> {
    let mut start = SEGMENT_HEADER;
    let mut place = |body: &&str| {
        let range = start..start + RECORD_HEADER + body.len() as u64;
        start = range.end;
        range
    };
    bodies.iter().map(&mut place).collect()
}

/// The bodies with their numbers, without those in `lost`.
fn without(lost: &[usize]) -> Vec<(u64, String)> {
    let kept = BODIES.iter().enumerate().filter(|(place, _)| !lost.contains(place));
    kept.map(|(place, body)| (place as u64 + 1, (*body).to_owned())).collect()
}

/// Opens a damaged log, checks that it has `expected`, goes on, and is in good order afterwards.
fn recover(dir: &Path, expected: &[(u64, String)]) -> Recovery {
    let (mut wal, recovery) = Wal::open(dir, options()).unwrap();
    let found = super::follow(&mut wal.reader(), Lsn(1));
    assert_eq!(bodies(&found), expected, "{recovery}");
    assert_eq!(recovery.records, expected.len() as u64);
    assert!(expected.last().is_none_or(|(last, _)| wal.next() > Lsn(*last)));
    let next = wal.next();
    assert_eq!(wal.append(&[entry("appended afterwards")]).unwrap(), [Appended::New(next)]);
    drop(wal);
    let wal = open(dir, options());
    assert_eq!(wal.next(), Lsn(next.0 + 1));
    let after = bodies(&all(dir));
    assert_eq!(after.split_last(), Some((&(next.0, "appended afterwards".to_owned()), expected)));
    recovery
}

/// Guarantees: wherever a crash cuts the newest segment, all records before the cut survive, the rest is reported to the byte,
/// and appending goes on.
#[test]
fn a_cut_at_any_byte_loses_only_what_is_behind() {
    let original = quick_dir();
    append_each(&mut open(original.path(), options()), &BODIES);
    let places = places(&BODIES);
    let whole = fs::read(segment_path(original.path(), 1)).unwrap();
    assert_eq!(places.last().unwrap().end, whole.len() as u64);
    for cut in 0..=whole.len() {
        let dir = quick_dir();
        fs::write(segment_path(dir.path(), 1), &whole[..cut]).unwrap();
        let cut = cut as u64;
        let survivors = places.iter().filter(|place| place.end <= cut).count();
        let recovery = recover(dir.path(), &without(&(survivors..BODIES.len()).collect::<Vec<_>>()));
        let good = if cut < SEGMENT_HEADER { 0 } else { places[..survivors].last().map_or(SEGMENT_HEADER, |place| place.end) };
        let expected = (good < cut || cut == 0).then_some((good, cut - good));
        assert_eq!(recovery.torn.as_ref().map(|torn| (torn.offset, torn.bytes)), expected, "cut at {cut}: {recovery}");
        assert_eq!(recovery.quarantined, []);
    }
}

/// Guarantees: a newest segment that was being made when the machine died does not lose the number it begins with.
#[test]
fn a_cut_header_keeps_the_number() {
    for cut in 0..SEGMENT_HEADER {
        let dir = quick_dir();
        append_each(&mut open(dir.path(), segments_of(1)), &BODIES);
        for first in 1..6 {
            fs::remove_file(segment_path(dir.path(), first)).unwrap();
        }
        fs::File::options().write(true).open(segment_path(dir.path(), 6)).unwrap().set_len(cut).unwrap();
        let recovery = recover(dir.path(), &[]);
        assert_eq!((recovery.next, recovery.first), (Lsn(6), Lsn(6)));
        assert!(recovery.torn.is_some());
    }
}

/// Guarantees: whichever byte of a log of three segments is wrong, and however, at most the record that holds it is lost, the damage
/// is reported with its place, and the damaged file is kept as it was.
#[test]
fn a_wrong_byte_loses_at_most_its_record() {
    let original = quick_dir();
    append_each(&mut open(original.path(), segments_of(SEGMENT_HEADER + 2 * RECORD_HEADER + 20)), &BODIES);
    assert_eq!(segments(original.path()), [1, 3, 5]);
    for (first, flip) in [1, 3, 5].into_iter().flat_map(|first| [0x01, 0x80, 0xFF].map(|flip| (first, flip))) {
        let path = segment_path(original.path(), first);
        let whole = fs::read(&path).unwrap();
        let index = usize::try_from(first).unwrap() - 1;
        let places = places(&BODIES[index..index + 2]);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            let dir = copy(original.path());
            fs::write(segment_path(dir.path(), first), &damaged).unwrap();
            let hit = places.iter().position(|place| place.contains(&(at as u64)));
            let recovery = recover(dir.path(), &without(&hit.map(|hit| index + hit).into_iter().collect::<Vec<_>>()));
            let place = hit.map_or(0..SEGMENT_HEADER, |hit| places[hit].clone());
            if (first, hit) == (5, Some(1)) {
                let torn = recovery.torn.as_ref().unwrap();
                assert_eq!((torn.offset, torn.bytes), (place.start, place.end - place.start), "{first}@{at}");
                continue;
            }
            let [quarantined] = recovery.quarantined.as_slice() else { panic!("{first}@{at}: {recovery}") };
            assert_eq!((quarantined.offset, quarantined.lost_bytes), (place.start, place.end - place.start), "{first}@{at}");
            assert_eq!(quarantined.damaged, [place]);
            assert_eq!(fs::read(&quarantined.moved_to).unwrap(), damaged);
        }
    }
}

/// Guarantees: many damaged places at once, in any constellation, lose their records and no others; a second start has nothing
/// left to do.
#[test]
fn any_set_of_records_can_be_lost() {
    let original = quick_dir();
    append_each(&mut open(original.path(), options()), &BODIES);
    let whole = fs::read(segment_path(original.path(), 1)).unwrap();
    let places = places(&BODIES);
    // Bit i of the set is record i; each is hit in its length, its number, or its last byte.
    for (set, hit) in (1_usize..1 << BODIES.len()).flat_map(|set| [0, 8, usize::MAX].map(|hit| (set, hit))) {
        let lost: Vec<_> = (0..BODIES.len()).filter(|place| set >> place & 1 == 1).collect();
        let mut damaged = whole.clone();
        for place in &lost {
            let record = usize::try_from(places[*place].start).unwrap()..usize::try_from(places[*place].end).unwrap();
            damaged[record.start.saturating_add(hit).min(record.end - 1)] ^= 0x55;
        }
        let dir = quick_dir();
        fs::write(segment_path(dir.path(), 1), &damaged).unwrap();
        let recovery = recover(dir.path(), &without(&lost));
        let bytes: u64 = lost.iter().map(|place| places[*place].end - places[*place].start).sum();
        let reported = recovery.quarantined.iter().map(|one| one.lost_bytes).chain(recovery.torn.iter().map(|torn| torn.bytes));
        assert_eq!(reported.sum::<u64>(), bytes, "{set:b}: {recovery}");
    }
}

/// Guarantees: scribbling over several places of several segments, headers included, never panics and loses only what was hit.
#[test]
fn scribbling_loses_only_what_it_hits() {
    const RECORDS: usize = 24;
    let original = quick_dir();
    let mut random = Random(99);
    let mut wal = open(original.path(), segments_of(600));
    let mut written = Vec::new();
    for lsn in 1..=RECORDS {
        let body: String = (0..random.below(150)).map(|_| char::from(b'a' + random.next().to_le_bytes()[0] % 26)).collect();
        let body = format!("{lsn} {body}");
        wal.append(&[entry(body.clone())]).unwrap();
        let first = *segments(original.path()).last().unwrap();
        let end = fs::metadata(segment_path(original.path(), first)).unwrap().len();
        written.push((first, end - RECORD_HEADER - body.len() as u64..end, body));
    }
    drop(wal);
    for round in 0..400 {
        let dir = copy(original.path());
        let mut hit = [false; RECORDS];
        for _ in 0..=random.below(3) {
            let firsts = segments(original.path());
            let first = firsts[usize::try_from(random.below(firsts.len() as u64)).unwrap()];
            let mut bytes = fs::read(segment_path(dir.path(), first)).unwrap();
            let start = random.below(bytes.len() as u64);
            let end = (start + 1 + random.below(100)).min(bytes.len() as u64);
            let zero = random.below(2) == 0;
            for byte in &mut bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()] {
                *byte = if zero { 0 } else { random.next().to_le_bytes()[0] };
            }
            fs::write(segment_path(dir.path(), first), bytes).unwrap();
            for (record, (of, place, _)) in written.iter().enumerate() {
                hit[record] |= *of == first && place.start < end && start < place.end;
            }
        }
        let (wal, recovery) = Wal::open(dir.path(), options()).unwrap();
        let found = bodies(&super::follow(&mut wal.reader(), Lsn(1)));
        for (record, (.., body)) in written.iter().enumerate().filter(|(record, _)| !hit[*record]) {
            assert!(found.contains(&(record as u64 + 1, body.clone())), "round {round}, record {}: {recovery}", record + 1);
        }
        // Scribbling can write what was there before.
        assert!(found.iter().all(|(lsn, body)| written[usize::try_from(*lsn).unwrap() - 1].2 == *body));
        drop(wal);
        assert_eq!(bodies(&super::follow(&mut open(dir.path(), options()).reader(), Lsn(1))), found);
    }
}
