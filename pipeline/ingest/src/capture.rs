//! OTLP captures: recorded requests in the framing of the OpenTelemetry Collector's file exporter.
//!
//! ```text
//! JSON lines        { … }\n{ … }\n
//! framed            len(4, big-endian) message  len message  …     message = protobuf or JSON, each maybe zstd-compressed
//! ```
//!
//! The Collector's file receiver reads what [`Writer`] writes, and [`Reader`] reads what the exporter writes in any of its
//! configurations. A file does not say which it is: the first byte does (a frame that starts like a JSON line would be
//! two gigabytes long), and each message says by its own first bytes whether it is compressed and whether it is JSON.
//! Nor does a protobuf message say which signal it is: see [`sniff`]. A message that is damaged is an error of its own:
//! those behind it are read as long as their beginning can be found.

use std::fmt::{self, Display};
use std::io::{self, BufRead, BufReader, Read, Write};

use serde::de::IgnoredAny;

use crate::decode::{self, DecodeError, Encoding, Signal};

/// The largest message that a [`Reader`] accepts unless told otherwise, in bytes after decompression.
pub const DEFAULT_MAX_MESSAGE: usize = 64 << 20;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// Fast, and within a few percent of slower levels on telemetry.
const ZSTD_LEVEL: i32 = 3;

/// One recorded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it carries.
    pub signal: Signal,
    /// How `body` is written.
    pub encoding: Encoding,
    /// The request body, decompressed.
    pub body: Vec<u8>,
    /// Where it starts.
    pub place: Place,
}

/// Where a message starts in a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// In bytes of the file.
    pub offset: u64,
    /// Its line, the first is 1; `None` where messages are no lines.
    pub line: Option<u64>,
}

/// Why a message, or all from it on, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The capture ends inside a message: the recorder was stopped hard, or the file was cut.
    #[error("{place}: the request is cut off after {found} bytes")]
    Truncated {
        /// Where the message starts.
        place: Place,
        /// Bytes of it that are present.
        found: u64,
    },
    /// A message is larger as stored than allowed. Also what a file looks like that is no capture, and a damaged length.
    #[error("{place}: the request would have more than {limit} bytes")]
    TooLarge {
        /// Where the message starts.
        place: Place,
        /// The limit in bytes.
        limit: usize,
    },
    /// A compressed message cannot be decompressed, or not into as many bytes as are allowed.
    #[error("{place}: the request cannot be decompressed")]
    Corrupt {
        /// Where the message starts.
        place: Place,
        /// What the decompressor met.
        #[source]
        source: io::Error,
    },
    /// A line or a JSON message is no OTLP request.
    #[error("{place}: no JSON object with resourceSpans, resourceMetrics or resourceLogs")]
    UnknownSignal {
        /// Where the message starts.
        place: Place,
    },
    /// Reading failed.
    #[error("{place}: cannot be read")]
    Io {
        /// Where the message starts.
        place: Place,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Why a request could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The body is not what it claims to be.
    #[error("the request cannot be transcoded to the capture's format")]
    Transcode(#[from] DecodeError),
    /// The body is longer than a frame's length can say.
    #[error("a request of {0} bytes is too long for a capture")]
    TooLong(usize),
    /// Writing failed.
    #[error("cannot write the capture")]
    Io(#[from] io::Error),
}

/// What a [`Writer`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Length-prefixed protobuf, each message compressed with zstd (`format: proto`, `compression: zstd`).
    ProtoZstd,
    /// JSON lines (`format: json`).
    Json,
}

/// Reads messages one by one. One that cannot be read is an error, and the next one follows, unless the error [is an
/// end](ReadError::is_end).
#[derive(Debug)]
pub struct Reader<R> {
    input: BufReader<R>,
    max_message: usize,
    /// Bytes and lines that were read.
    offset: u64,
    lines: u64,
    framing: Option<Framing>,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Lines,
    Lengths,
}

/// Appends requests to a capture.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    format: Format,
}

// === impl Place ===

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} (byte {})", self.offset),
            None => write!(f, "byte {}", self.offset),
        }
    }
}

// === impl ReadError ===

impl ReadError {
    /// Whether nothing behind it can be read, because nobody knows where the next message begins.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        match self {
            Self::Truncated { .. } | Self::TooLarge { .. } | Self::Io { .. } => true,
            Self::Corrupt { .. } | Self::UnknownSignal { .. } => false,
        }
    }
}

// === impl Reader ===

impl<R: Read> Reader<R> {
    /// Reads a capture; nothing is read before the first message is asked for.
    pub fn new(input: R) -> Self {
        Self { input: BufReader::new(input), max_message: DEFAULT_MAX_MESSAGE, offset: 0, lines: 0, framing: None, done: false }
    }

    /// Limits messages to `bytes`, both as stored and decompressed.
    #[must_use]
    pub const fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// How far the capture has been read, in bytes of the file.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    fn read_next(&mut self) -> Result<Option<Message>, ReadError> {
        let framing = match self.framing {
            Some(framing) => framing,
            None => {
                let first = self.input.fill_buf().map_err(|source| ReadError::Io { place: Place::default(), source })?.first();
                let framing = if first.is_some_and(|byte| b"{ \t\r\n".contains(byte)) { Framing::Lines } else { Framing::Lengths };
                *self.framing.insert(framing)
            }
        };
        match framing {
            Framing::Lines => self.read_line(),
            Framing::Lengths => self.read_frame(),
        }
    }

    fn read_line(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            let place = Place { offset: self.offset, line: Some(self.lines + 1) };
            let mut line = Vec::new();
            let limit = self.max_message as u64 + 1;
            let read = self.input.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|source| ReadError::Io { place, source })?;
            self.offset += read as u64;
            self.lines += 1;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == limit && line.last() != Some(&b'\n') {
                return Err(ReadError::TooLarge { place, limit: self.max_message });
            }
            let ended = line.last() == Some(&b'\n');
            line.truncate(line.trim_ascii_end().len());
            let blank = line.len() - line.trim_ascii_start().len();
            drop(line.drain(..blank));
            if line.is_empty() {
                continue;
            }
            if !line.starts_with(b"{") {
                return Err(ReadError::UnknownSignal { place });
            }
            // A line without its end was cut, unless it happens to be whole.
            if !ended && serde_json::from_slice::<IgnoredAny>(&line).is_err() {
                return Err(ReadError::Truncated { place, found: read as u64 });
            }
            return message(line, place).map(Some);
        }
    }

    fn read_frame(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            let place = Place { offset: self.offset, line: None };
            let mut prefix = Vec::with_capacity(4);
            self.read_exactly(4, &mut prefix, place)?;
            let Ok(prefix) = <[u8; 4]>::try_from(prefix.as_slice()) else { return Ok(None) };
            let length = u64::from(u32::from_be_bytes(prefix));
            if length > self.max_message as u64 {
                return Err(ReadError::TooLarge { place, limit: self.max_message });
            }
            let mut stored = Vec::new();
            if length > 0 && self.read_exactly(length, &mut stored, place)? == 0 {
                return Err(ReadError::Truncated { place, found: 4 });
            }
            let body = if stored.starts_with(&ZSTD_MAGIC) { self.decompress(&stored, place)? } else { stored };
            // An empty request says nothing, not even of which signal it is.
            if !body.is_empty() {
                return message(body, place).map(Some);
            }
        }
    }

    /// Reads `length` bytes, or none at the end of the capture; grows with what is there, not with what is announced.
    fn read_exactly(&mut self, length: u64, bytes: &mut Vec<u8>, place: Place) -> Result<usize, ReadError> {
        let read = self.input.by_ref().take(length).read_to_end(bytes).map_err(|source| ReadError::Io { place, source })?;
        self.offset += read as u64;
        if read == 0 || read as u64 == length { Ok(read) } else { Err(ReadError::Truncated { place, found: self.offset - place.offset }) }
    }

    fn decompress(&self, stored: &[u8], place: Place) -> Result<Vec<u8>, ReadError> {
        let corrupt = |source| ReadError::Corrupt { place, source };
        let decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(corrupt)?;
        let mut body = Vec::new();
        decoder.take(self.max_message as u64 + 1).read_to_end(&mut body).map_err(corrupt)?;
        let too_many = || io::Error::other(format!("it has more than {} bytes", self.max_message));
        if body.len() > self.max_message { Err(corrupt(too_many())) } else { Ok(body) }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Message, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read_next().transpose();
        self.done = next.as_ref().is_none_or(|message| message.as_ref().is_err_and(ReadError::is_end));
        next
    }
}

fn message(body: Vec<u8>, place: Place) -> Result<Message, ReadError> {
    let json = body.first() == Some(&b'{');
    let (encoding, signal) = if json {
        (Encoding::Json, sniff_json(&body).ok_or(ReadError::UnknownSignal { place })?)
    } else {
        (Encoding::Protobuf, sniff(&body))
    };
    Ok(Message { signal, encoding, body, place })
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    /// Writes to `output` from where it stands.
    pub const fn new(output: W, format: Format) -> Self {
        Self { output, format }
    }

    /// Appends one request, transcoding it when the capture's format differs from its own. The message is handed to
    /// the output in one piece, so that a crash cuts off at most the last one.
    ///
    /// # Errors
    /// When the body cannot be transcoded, is too long, or the output fails.
    pub fn write(&mut self, signal: Signal, encoding: Encoding, body: &[u8]) -> Result<(), WriteError> {
        let message = match self.format {
            Format::ProtoZstd => {
                let body = decode::to_protobuf(signal, encoding, body)?;
                let compressed = zstd::bulk::compress(&body, ZSTD_LEVEL)?;
                let length = u32::try_from(compressed.len()).map_err(|_| WriteError::TooLong(compressed.len()))?;
                [length.to_be_bytes().as_slice(), &compressed].concat()
            }
            Format::Json => {
                let mut line = decode::to_json(signal, encoding, body)?.trim_ascii().to_vec();
                // Outside of strings, where JSON allows no raw line break, one is only white space.
                line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
                line.push(b'\n');
                line
            }
        };
        Ok(self.output.write_all(&message)?)
    }

    /// Flushes the output.
    ///
    /// # Errors
    /// When the output fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// The output.
    pub fn into_inner(self) -> W {
        self.output
    }
}

/// Tells by its structure which signal a protobuf request carries. All three nest the same way (request, resource,
/// scope, item); the items differ: a span has its times in fields 7 and 8, a log record in fields 1 and 11, and a
/// metric has neither. A request without items reads as metrics, and decodes to nothing as any of them.
#[must_use]
pub fn sniff(body: &[u8]) -> Signal {
    let items = children(body, 1).flat_map(|resource| children(resource, 2)).flat_map(|scope| children(scope, 2));
    items.filter_map(sniff_item).next().unwrap_or(Signal::Metrics)
}

fn sniff_item(item: &[u8]) -> Option<Signal> {
    fields(item).find_map(|(field, wire, _)| match (field, wire) {
        (7 | 8, FIXED64) | (6, VARINT) | (16, FIXED32) => Some(Signal::Traces),
        (1 | 11, FIXED64) | (2 | 7, VARINT) | (6, LENGTH) | (8, FIXED32) => Some(Signal::Logs),
        (7, LENGTH) => Some(Signal::Metrics),
        _ => None,
    })
}

/// Tells by its first known key which signal a JSON request carries.
fn sniff_json(body: &[u8]) -> Option<Signal> {
    const KEYS: [(&str, Signal); 6] = [
        ("\"resourceSpans\"", Signal::Traces),
        ("\"resource_spans\"", Signal::Traces),
        ("\"resourceMetrics\"", Signal::Metrics),
        ("\"resource_metrics\"", Signal::Metrics),
        ("\"resourceLogs\"", Signal::Logs),
        ("\"resource_logs\"", Signal::Logs),
    ];
    let position = |key: &str| body.windows(key.len()).position(|window| window == key.as_bytes());
    // The request's key is its first: look near the start before looking everywhere.
    let head = body.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    KEYS.iter().find(|(key, _)| head.starts_with(key.as_bytes())).map(|(_, signal)| *signal).or_else(|| {
        let found = KEYS.iter().filter_map(|(key, signal)| position(key).map(|at| (at, *signal)));
        found.min_by_key(|(at, _)| *at).map(|(_, signal)| signal)
    })
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED32: u8 = 5;

/// The length-delimited fields numbered `field`.
fn children(message: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).filter(move |(number, wire, _)| *number == field && *wire == LENGTH).map(|(_, _, bytes)| bytes)
}

/// Field number, wire type and bytes of each field; ends where the message is malformed.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, u8, &[u8])> {
    std::iter::from_fn(move || {
        let tag = take_varint(&mut rest)?;
        let wire = tag.to_le_bytes()[0] & 7;
        let length = match wire {
            VARINT => rest.iter().position(|byte| byte & 0x80 == 0)? + 1,
            FIXED64 => 8,
            LENGTH => usize::try_from(take_varint(&mut rest)?).ok()?,
            FIXED32 => 4,
            _ => return None,
        };
        let (bytes, tail) = rest.split_at_checked(length)?;
        rest = tail;
        Some((tag >> 3, wire, bytes))
    })
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = rest.get(index + 1..)?;
            return Some(value);
        }
    }
    None
}
