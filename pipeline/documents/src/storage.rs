//! Settings of what is kept: the write-ahead log and the archive.

use std::time::Duration;

use crate::reader::{Fields, Reader};
use crate::settings::{GIB, MIB, section, size, time};

/// What is kept, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// The write-ahead log.
    pub wal: Wal,
    /// The archive.
    pub archive: Archive,
}

/// The write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wal {
    /// What an acknowledgement means (default [`Durability::Fsync`]).
    pub durability: Durability,
    /// Most bytes on disk (default 4 GiB); requests beyond it are refused until the archive has caught up.
    pub bytes_max: usize,
}

/// What is safe when a request is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on the disk: it survives the loss of power.
    Fsync,
    /// The operating system has it: it survives the end of the process in any way.
    Os,
    /// It is in memory: what is on its way when the process is killed is lost.
    None,
}

/// The archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// A directory or the URL of an object store; `None` is `archive` in the data directory.
    pub location: Option<String>,
    /// Which ids of spans are kept (default [`Ids::Full`]).
    pub ids: Ids,
    /// How old rows may become (default 30 days).
    pub keep: Duration,
    /// Most bytes; the oldest hours go first (default 20 GiB).
    pub bytes_max: usize,
    /// How long rows wait in the write-ahead log before a file is written (default 60 s).
    pub every: Duration,
}

/// Which ids of spans are kept. They do not compress: 32 bytes of a span's 60.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Trace, span and parent.
    Full,
    /// The trace only.
    Trace,
    /// None.
    None,
}

// === impl Wal ===

impl Default for Wal {
    fn default() -> Self {
        Self { durability: Durability::Fsync, bytes_max: 4 * GIB }
    }
}

// === impl Archive ===

impl Default for Archive {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { location: None, ids: Ids::Full, keep: 30 * day, bytes_max: 20 * GIB, every: Duration::from_secs(60) }
    }
}

/// Reads `wal` and `archive` out of the settings.
pub(crate) fn read(reader: &mut Reader, fields: &mut Fields<'_>, storage: &mut Storage) {
    let Storage { wal, archive } = storage;
    if let Some(mut fields) = section(reader, fields, "wal") {
        let words = [("fsync", Durability::Fsync), ("os", Durability::Os), ("none", Durability::None)];
        if let Some(durability) = fields.take(reader, "durability").and_then(|at| reader.one_of(&at, &words)) {
            wal.durability = durability;
        }
        size(reader, &mut fields, "maxBytes", 64 * MIB..=4096 * GIB, &mut wal.bytes_max);
        fields.finish(reader);
    }
    if let Some(mut fields) = section(reader, fields, "archive") {
        archive.location = fields.take(reader, "location").and_then(|at| reader.text(&at).map(str::to_owned));
        let words = [("full", Ids::Full), ("trace", Ids::Trace), ("none", Ids::None)];
        if let Some(ids) = fields.take(reader, "ids").and_then(|at| reader.one_of(&at, &words)) {
            archive.ids = ids;
        }
        let hour = Duration::from_secs(3600);
        time(reader, &mut fields, "keep", hour..=hour * 24 * 3660, &mut archive.keep);
        size(reader, &mut fields, "maxBytes", 64 * MIB..=1 << 60, &mut archive.bytes_max);
        time(reader, &mut fields, "every", Duration::from_secs(1)..=hour, &mut archive.every);
        fields.finish(reader);
    }
}
