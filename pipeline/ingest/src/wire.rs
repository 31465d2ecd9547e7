//! A request's body as it came over the wire, and the numbers under which its parts are written to disk.

use std::sync::Arc;

use bytes::Bytes;

use crate::admission::Budget;
use crate::decode::{Encoding, Signal};
use crate::decompress::{Compression, decompress};

/// A body as it was sent, still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireBody {
    /// How `bytes` are compressed.
    pub compression: Compression,
    /// What was sent.
    pub bytes: Bytes,
}

/// A body that cannot be decompressed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WireError(String);

// === impl WireBody ===

impl WireBody {
    /// The body as the sender wrote it, at most `limit` bytes.
    ///
    /// # Errors
    /// When it is damaged or larger.
    pub fn open(&self, limit: usize) -> Result<Bytes, WireError> {
        let mut permit = Budget::new(usize::MAX, Arc::default()).permit();
        decompress(self.compression, self.bytes.clone(), limit, &mut permit).map_err(|refused| WireError(refused.message.into_owned()))
    }
}

// The numbers below are in files: they never change their meaning.

impl Signal {
    /// Its number in files.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Traces => 1,
            Self::Metrics => 2,
            Self::Logs => 3,
        }
    }

    /// The signal with that number.
    #[must_use]
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Traces),
            2 => Some(Self::Metrics),
            3 => Some(Self::Logs),
            _ => None,
        }
    }
}

impl Encoding {
    /// Its number in files.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Protobuf => 1,
            Self::Json => 2,
        }
    }

    /// The encoding with that number.
    #[must_use]
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Self::Protobuf),
            2 => Some(Self::Json),
            _ => None,
        }
    }
}

impl Compression {
    /// Its number in files.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Identity => 0,
            Self::Gzip => 1,
            Self::Zstd => 2,
        }
    }

    /// The compression with that number.
    #[must_use]
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            0 => Some(Self::Identity),
            1 => Some(Self::Gzip),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: every part of a request comes back from its number, and a body opens to what was compressed.
    #[test]
    fn tags_and_bodies_come_back() {
        for tag in 0..=u8::MAX {
            assert!(Signal::from_tag(tag).is_none_or(|signal| signal.tag() == tag));
            assert!(Encoding::from_tag(tag).is_none_or(|encoding| encoding.tag() == tag));
            assert!(Compression::from_tag(tag).is_none_or(|compression| compression.tag() == tag));
        }
        let text = b"the same again and again and again and again".as_slice();
        let packed = WireBody { compression: Compression::Zstd, bytes: zstd::bulk::compress(text, 1).unwrap().into() };
        assert_eq!(packed.open(100).unwrap(), text);
        assert!(packed.open(10).is_err());
        assert!(WireBody { bytes: packed.bytes.slice(..9), ..packed }.open(100).is_err());
        assert!([Signal::Traces, Signal::Metrics, Signal::Logs].iter().all(|signal| Signal::from_tag(signal.tag()) == Some(*signal)));
    }
}
