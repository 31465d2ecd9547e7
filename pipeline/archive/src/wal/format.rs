//! The bytes of the log. All numbers are little-endian.
//!
//! ```text
//! NNNNNNNNNNNNNNNNNNNN.wal   a segment: header, then records until the end of the file; the name is its first lsn
//!
//! header   magic 8   version u32   first lsn u64   crc u32                                                    24 bytes
//!          The crc covers what stands before it. This layout holds for every version, so that an old program can tell
//!          a newer file from a damaged one.
//!
//! record   length u32   crc u32   lsn u64   received i64   signal u8   encoding u8   compression u8   reserved u8
//!          source 16   body                                                                         44 bytes + length
//!          length is that of the body. The crc covers all of the record but itself. received is in nanoseconds since
//!          the Unix epoch. signal, encoding and compression are the caller's numbers. reserved is zero. source is an
//!          IPv6 address, or an IPv4 one mapped into IPv6.
//! ```
//!
//! Within a segment numbers (lsn) increase. They are consecutive unless damaged records between them were given up.

use std::net::{IpAddr, Ipv6Addr};

use tracescale_core::time::Timestamp;

use super::{Entry, Lsn};

/// The longest body, in bytes: what a receiver accepts at most (64 MiB), and some slack for framing.
pub const MAX_BODY: usize = (64 << 20) + (1 << 20);
/// Length of a segment's header, in bytes.
pub(super) const SEGMENT_HEADER: usize = 24;
/// Length of a record without its body, in bytes.
pub(super) const RECORD_HEADER: usize = 44;
/// The version written, and the newest that is understood.
pub(super) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"TSCALWAL";
/// Where what the crc of a record covers goes on after its length.
const AFTER_CRC: usize = 8;

/// A segment's header as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentHeader {
    /// Readable, and of this first number.
    Known(Lsn),
    /// Intact, but written by a later release.
    Newer(u32),
    /// Cut off, overwritten, or never one.
    Damaged,
}

/// What precedes a body, with its own bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordHeader {
    pub(super) length: u32,
    pub(super) lsn: Lsn,
    pub(super) received_at: Timestamp,
    pub(super) signal: u8,
    pub(super) encoding: u8,
    pub(super) compression: u8,
    pub(super) source: IpAddr,
    crc: u32,
    reserved: u8,
    raw: [u8; RECORD_HEADER],
}

// === impl SegmentHeader ===

impl SegmentHeader {
    /// The header of a segment that begins with `first`.
    pub(super) fn encode(first: Lsn) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &first.0.to_le_bytes()].concat();
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the start of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self::parse(bytes).unwrap_or(Self::Damaged)
    }

    fn parse(mut rest: &[u8]) -> Option<Self> {
        let covered = rest.get(..SEGMENT_HEADER - 4)?;
        let (magic, version, first, crc) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
        if magic != MAGIC || u32::from_le_bytes(crc) != crc32fast::hash(covered) {
            return None;
        }
        let version = u32::from_le_bytes(version);
        Some(if version == VERSION { Self::Known(Lsn(u64::from_le_bytes(first))) } else { Self::Newer(version) })
    }
}

// === impl RecordHeader ===

impl RecordHeader {
    /// Reads a header; any bytes long enough read as one, only [`RecordHeader::fits`] tells.
    pub(super) fn decode(raw: &[u8]) -> Option<Self> {
        let raw = *raw.first_chunk::<RECORD_HEADER>()?;
        let mut rest = raw.as_slice();
        let rest = &mut rest;
        let (length, crc) = (u32::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?));
        let (lsn, received_at) = (Lsn(u64::from_le_bytes(take(rest)?)), Timestamp::from_nanos(i64::from_le_bytes(take(rest)?)));
        let [signal, encoding, compression, reserved] = take(rest)?;
        let source = IpAddr::V6(Ipv6Addr::from(take::<16>(rest)?)).to_canonical();
        Some(Self { length, lsn, received_at, signal, encoding, compression, source, crc, reserved, raw })
    }

    /// Whether this can be a record at all when `room` bytes follow its header.
    pub(super) fn is_plausible(&self, room: u64) -> bool {
        self.length as usize <= MAX_BODY && u64::from(self.length) <= room && self.reserved == 0 && self.lsn.0 > 0
    }

    /// Whether header and body are what was written.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        self.crc == checksum(&self.raw, body)
    }

    /// Bytes of the whole record.
    pub(super) fn size(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.length)
    }
}

/// Appends a record to `out`. `length` is that of the entry's body.
pub(super) fn encode_record(out: &mut Vec<u8>, lsn: Lsn, entry: &Entry, length: u32) {
    let start = out.len();
    let source = match entry.source {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&lsn.0.to_le_bytes());
    out.extend_from_slice(&entry.received_at.as_nanos().to_le_bytes());
    out.extend_from_slice(&[entry.signal, entry.encoding, entry.compression, 0]);
    out.extend_from_slice(&source.octets());
    let crc = checksum(&out[start..], &entry.body);
    out[start + AFTER_CRC - 4..start + AFTER_CRC].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&entry.body);
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..AFTER_CRC - 4]);
    hasher.update(&header[AFTER_CRC..]);
    hasher.update(body);
    hasher.finalize()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;

    use super::*;

    /// Guarantees: the layout is the documented one; files of earlier builds stay readable.
    #[test]
    fn the_layout_does_not_move() {
        let entry = Entry {
            signal: 1,
            encoding: 2,
            compression: 3,
            source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
            received_at: Timestamp::from_nanos(-2),
            body: Bytes::from_static(b"body"),
        };
        let mut record = Vec::new();
        encode_record(&mut record, Lsn(0x0102), &entry, 4);
        let crc = record[4..8].to_vec();
        let expected: Vec<u8> = [
            [4, 0, 0, 0].as_slice(),
            &crc,
            &[2, 1, 0, 0, 0, 0, 0, 0],
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            &[1, 2, 3, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 7],
            b"body",
        ]
        .concat();
        assert_eq!(record, expected);
        let covered = [&record[..4], &record[8..]].concat();
        assert_eq!(crc, crc32fast::hash(&covered).to_le_bytes());

        let header = SegmentHeader::encode(Lsn(258));
        assert_eq!(&header[..20], b"TSCALWAL\x01\0\0\0\x02\x01\0\0\0\0\0\0");
        assert_eq!(SegmentHeader::decode(&header), SegmentHeader::Known(Lsn(258)));
    }

    /// Guarantees: a header of a later version is told from a damaged one.
    #[test]
    fn a_newer_version_is_no_damage() {
        let mut header = SegmentHeader::encode(Lsn(1));
        header[8] = 2;
        assert_eq!(SegmentHeader::decode(&header), SegmentHeader::Damaged);
        let crc = crc32fast::hash(&header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&header), SegmentHeader::Newer(2));
        assert_eq!(SegmentHeader::decode(&header[..23]), SegmentHeader::Damaged);
    }
}
