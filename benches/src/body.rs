//! Request bodies that are encoded once and re-dated often: a load generator must not be slower than what it loads.
//!
//! Times and trace ids have a fixed width in protobuf, so a new body is a copy of the old one with those bytes replaced.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tracescale_core::time::Timestamp;

/// How a body is compressed on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Not at all.
    None,
    /// Level 6, what exporters use.
    Gzip,
    /// Level 1, what Collectors use.
    Zstd,
}

/// An encoded trace request whose times and trace ids can be replaced.
#[derive(Clone, Debug)]
pub struct Template {
    plain: Vec<u8>,
    /// Where the eight bytes of each time are.
    times: Vec<usize>,
    /// Where the sixteen bytes of each trace id are.
    traces: Vec<usize>,
    spans: u64,
    base: Timestamp,
}

/// How a frame of zstd begins that is not data.
const SKIPPED_FRAME: u32 = 0x184d_2a50;

/// A protobuf field: its number and where its payload is.
struct Field {
    number: u64,
    start: usize,
    end: usize,
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

// === impl Compression ===

impl Compression {
    /// Every compression, cheapest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Zstd, Self::Gzip];

    /// The name in `grpc-encoding` and `content-encoding`; none when nothing is to be said.
    #[must_use]
    pub const fn header(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses a body.
    ///
    /// # Errors
    /// When the compressor fails, which it does not for lack of space.
    pub fn compress(self, plain: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::None => Ok(plain.to_vec()),
            Self::Zstd => zstd::bulk::compress(plain, 1).context("zstd"),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(plain.len() / 4), flate2::Compression::new(6));
                encoder.write_all(plain).context("gzip")?;
                encoder.finish().context("gzip")
            }
        }
    }

    /// Makes a compressed body unlike all others with another `nonce`, without changing what it says: a receiver that
    /// recognises repetitions would count it once. Far cheaper than compressing another body.
    pub fn mark(self, body: &mut Vec<u8>, nonce: u64) {
        match self {
            // A field that no request has, eight bytes wide: protobuf readers skip it.
            Self::None => {
                body.push(0x79);
                body.extend(nonce.to_le_bytes());
            }
            // An empty member whose comment is the nonce, which ends with a zero; its checksum and length are zero too.
            Self::Gzip => {
                body.extend([0x1f, 0x8b, 0x08, 0x10, 0, 0, 0, 0, 0, 0xff]);
                body.extend(format!("{nonce:016x}\0").bytes());
                body.extend([0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
            // A frame that decompressors skip.
            Self::Zstd => {
                body.extend(SKIPPED_FRAME.to_le_bytes());
                body.extend(8_u32.to_le_bytes());
                body.extend(nonce.to_le_bytes());
            }
        }
    }

    /// Decompresses a body of at most `capacity` bytes.
    ///
    /// # Errors
    /// When it is damaged or larger.
    pub fn decompress(self, body: &[u8], capacity: usize) -> Result<Vec<u8>> {
        match self {
            Self::None => Ok(body.to_vec()),
            Self::Zstd => zstd::bulk::decompress(body, capacity).context("zstd"),
            Self::Gzip => {
                let mut plain = Vec::with_capacity(capacity);
                let limit = u64::try_from(capacity).unwrap_or(u64::MAX);
                flate2::read::MultiGzDecoder::new(body).take(limit).read_to_end(&mut plain).context("gzip")?;
                Ok(plain)
            }
        }
    }
}

// === impl Template ===

impl Template {
    /// Encodes a request that was generated for the time `base`.
    ///
    /// # Errors
    /// When the walk over the encoded bytes does not find what was encoded.
    pub fn new(request: &ExportTraceServiceRequest, base: Timestamp) -> Result<Self> {
        let plain = request.encode_to_vec();
        let (mut times, mut traces, mut spans) = (Vec::new(), Vec::new(), 0);
        for resource in (Fields { bytes: &plain, at: 0, end: plain.len() }).numbered(1) {
            for scope in resource?.fields(&plain).numbered(2) {
                for span in scope?.fields(&plain).numbered(2) {
                    spans += 1;
                    for field in span?.fields(&plain) {
                        let field = field?;
                        match field.number {
                            1 => traces.push(field.start),
                            7 | 8 => times.push(field.start),
                            _ => {}
                        }
                    }
                }
            }
        }
        if times.len() != traces.len() * 2 {
            bail!("{} times in {} spans: a span lacks its start or end", times.len(), traces.len());
        }
        Ok(Self { plain, times, traces, spans, base })
    }

    /// Spans in the body.
    #[must_use]
    pub const fn spans(&self) -> u64 {
        self.spans
    }

    /// The bytes as generated.
    #[must_use]
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// The same traces at another time and, for another `nonce`, with other trace ids.
    #[must_use]
    pub fn render(&self, at: Timestamp, nonce: u64) -> Vec<u8> {
        let shift = at.as_nanos().wrapping_sub(self.base.as_nanos()).cast_unsigned();
        let mut plain = self.plain.clone();
        for &time in &self.times {
            replace(&mut plain, time, |old| old.wrapping_add(shift));
        }
        // An odd multiplier keeps nonces apart and spreads them over all bytes.
        let mask = nonce.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for &trace in &self.traces {
            replace(&mut plain, trace, |old| old ^ mask);
        }
        plain
    }
}

fn replace(bytes: &mut [u8], at: usize, change: impl Fn(u64) -> u64) {
    if let Some(slot) = bytes.get_mut(at..).and_then(|tail| tail.first_chunk_mut::<8>()) {
        *slot = change(u64::from_le_bytes(*slot)).to_le_bytes();
    }
}

/// The five-byte prefix of gRPC before a message.
#[must_use]
pub fn grpc_frame(compression: Compression, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(body.len() + 5);
    frame.put_u8(u8::from(compression != Compression::None));
    frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    frame.put_slice(body);
    frame.freeze()
}

// === impl Field ===

impl Field {
    const fn fields<'a>(&self, bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, at: self.start, end: self.end }
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    fn numbered(self, number: u64) -> impl Iterator<Item = Result<Field>> + 'a {
        self.filter(move |field| field.as_ref().map_or(true, |field| field.number == number))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).context("a number is cut off")?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a number is too long")
    }

    fn field(&mut self) -> Result<Field> {
        let tag = self.varint()?;
        let (start, length) = match tag & 7 {
            0 => {
                let start = self.at;
                self.varint()?;
                (start, self.at - start)
            }
            1 => (self.at, 8),
            2 => {
                let length = usize::try_from(self.varint()?)?;
                (self.at, length)
            }
            5 => (self.at, 4),
            wire => bail!("wire type {wire}"),
        };
        let end = start.checked_add(length).filter(|end| *end <= self.end).context("a field is cut off")?;
        self.at = end;
        Ok(Field { number: tag >> 3, start, end })
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.at < self.end).then(|| {
            let field = self.field();
            if field.is_err() {
                self.at = self.end;
            }
            field
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::generate::{BASE, TraceGenerator, TraceShape};

    use super::*;

    fn decoded(body: &[u8]) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(body).unwrap()
    }

    /// Guarantees: a re-dated body says what the original says, at the other time and in other traces.
    #[test]
    fn rendering_changes_times_and_traces_only() {
        let request = TraceGenerator::new(TraceShape { spans: 100, ..TraceShape::default() }).request(BASE, Duration::ZERO);
        let template = Template::new(&request, BASE).unwrap();
        assert_eq!(template.spans(), 100);
        assert_eq!(decoded(&template.render(BASE, 0)), request);

        let mut moved = decoded(&template.render(BASE + Duration::from_secs(9), 7));
        let originals = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans[0].spans);
        let spans = moved.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans[0].spans);
        for (span, original) in spans.zip(originals) {
            assert_ne!(span.trace_id, original.trace_id);
            span.trace_id.clone_from(&original.trace_id);
            span.start_time_unix_nano -= 9_000_000_000;
            span.end_time_unix_nano -= 9_000_000_000;
        }
        assert_eq!(moved, request);
    }

    /// Guarantees: every compression is undone by its decompression.
    #[test]
    fn compression_round_trips() {
        let plain = b"tracescale ".repeat(100);
        for compression in Compression::ALL {
            let body = compression.compress(&plain).unwrap();
            assert_eq!(compression.decompress(&body, plain.len()).unwrap(), plain);
        }
    }

    /// Guarantees: marks make bodies different, and change nothing that they say.
    #[test]
    fn marks_say_nothing() {
        let request = TraceGenerator::new(TraceShape { spans: 20, ..TraceShape::default() }).request(BASE, Duration::ZERO);
        let plain = request.encode_to_vec();
        for compression in Compression::ALL {
            let [first, second] = [1, 2].map(|nonce| {
                let mut body = compression.compress(&plain).unwrap();
                compression.mark(&mut body, nonce);
                body
            });
            assert_ne!(first, second);
            assert_eq!(decoded(&compression.decompress(&first, plain.len()).unwrap()), request);
        }
    }

    /// Guarantees: damaged bytes are an error, not a panic or an endless walk.
    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = [0x0a, 0x7f, 0x01];
        let fields = Fields { bytes: &bytes, at: 0, end: bytes.len() };
        assert!(fields.map(|field| field.is_err()).eq([true]));
    }
}
