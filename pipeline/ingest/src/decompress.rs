//! Decompression that cannot be made to fill memory: every step asks for the bytes before it writes them.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::HeaderValue;

use crate::admission::Permit;
use crate::stats::Refusal;
use crate::status::Refused;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Identity,
    /// gzip, any number of members.
    Gzip,
    /// Zstandard, any number of frames.
    Zstd,
}

/// What we read, as both protocols advertise it.
pub(crate) const ACCEPTED: &str = "gzip,zstd,identity";

/// First allocation, and the step in which the budget is asked.
const STEP: usize = 64 << 10;
/// Telemetry compresses 5 to 15 times; a hint beyond this ratio is not believed until the bytes are there.
const PLAUSIBLE_RATIO: usize = 32;
/// Largest zstd window, as a power of two: the 8 MiB that RFC 9659 makes the limit for HTTP. It is memory outside the budget.
const WINDOW_LOG_MAX: u32 = 23;

// === impl Compression ===

impl Compression {
    /// Reads `content-encoding` or `grpc-encoding`; no header means none.
    pub(crate) fn parse(header: Option<&HeaderValue>) -> Result<Self, Refused> {
        let Some(value) = header else { return Ok(Self::Identity) };
        match value.as_bytes().trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" => Ok(Self::Gzip),
            b"zstd" => Ok(Self::Zstd),
            other => Err(Refused::new(
                Refusal::UnsupportedCompression,
                format!("compression {:?} is not supported; send one of {ACCEPTED}", String::from_utf8_lossy(other)),
            )),
        }
    }
}

/// The body as the client wrote it, at most `limit` bytes. `permit` grows by what is held; the caller shrinks it when `wire` is let go.
pub(crate) fn decompress(compression: Compression, wire: Bytes, limit: usize, permit: &mut Permit) -> Result<Bytes, Refused> {
    match compression {
        Compression::Identity if wire.len() > limit => Err(too_large(limit)),
        Compression::Identity => Ok(wire),
        Compression::Gzip => read_capped(MultiGzDecoder::new(&wire[..]), gzip_hint(&wire), wire.len(), limit, permit),
        Compression::Zstd => match zstd::zstd_safe::get_frame_content_size(&wire) {
            Ok(Some(size)) if size > limit as u64 => Err(too_large(limit)),
            // A frame that tells its size is decompressed in one call, straight into place, with a context that is kept.
            Ok(Some(size)) => match usize::try_from(size) {
                Ok(size) if size <= wire.len().saturating_mul(PLAUSIBLE_RATIO) => zstd_at_once(&wire, size, limit, permit),
                _ => zstd_in_steps(&wire, limit, permit),
            },
            _ => zstd_in_steps(&wire, limit, permit),
        },
    }
}

fn zstd_at_once(wire: &[u8], size: usize, limit: usize, permit: &mut Permit) -> Result<Bytes, Refused> {
    thread_local! {
        static CONTEXT: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    permit.grow(size)?;
    let done = CONTEXT.with_borrow_mut(|context| {
        let decompressor = match context {
            Some(kept) => kept,
            None => context.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(wire, size)
    });
    match done {
        Ok(body) => Ok(body.into()),
        // Several frames in a row are legal, and the first one's size says nothing about the rest.
        Err(_) => {
            permit.shrink(size);
            zstd_in_steps(wire, limit, permit)
        }
    }
}

fn zstd_in_steps(wire: &[u8], limit: usize, permit: &mut Permit) -> Result<Bytes, Refused> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(wire).map_err(|error| malformed(&error))?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(|error| malformed(&error))?;
    read_capped(decoder, STEP, wire.len(), limit, permit)
}

/// The size that the gzip trailer claims: right for an honest single member, any number otherwise.
fn gzip_hint(wire: &[u8]) -> usize {
    wire.last_chunk::<4>().map_or(0, |trailer| u32::from_le_bytes(*trailer) as usize)
}

fn read_capped(mut reader: impl Read, hint: usize, wire: usize, limit: usize, permit: &mut Permit) -> Result<Bytes, Refused> {
    let plausible = hint.min(wire.saturating_mul(PLAUSIBLE_RATIO)).min(limit);
    let mut body = Vec::new();
    let mut filled = 0;
    loop {
        if filled == body.len() {
            // One byte beyond the hint or the limit, so that the end is seen without another step. A guess that the budget
            // cannot carry is no reason to refuse: the body may be smaller.
            let guess = if filled == 0 { plausible.max(STEP) } else { filled * 2 };
            let mut next = guess.min(limit) + 1;
            if permit.grow(next - filled).is_err() {
                next = next.min(filled + STEP);
                permit.grow(next - filled)?;
            }
            body.resize(next, 0);
        }
        match reader.read(&mut body[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(malformed(&error)),
        }
        if filled > limit {
            return Err(too_large(limit));
        }
    }
    permit.shrink(body.len() - filled);
    body.truncate(filled);
    body.shrink_to_fit();
    Ok(body.into())
}

pub(crate) fn too_large(limit: usize) -> Refused {
    Refused::new(Refusal::TooLarge, format!("request is larger than {limit} bytes after decompression; send smaller batches"))
}

fn malformed(error: &std::io::Error) -> Refused {
    Refused::new(Refusal::Malformed, format!("body cannot be decompressed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::admission::Budget;
    use crate::stats::Stats;

    fn budget(limit: usize) -> (Permit, std::sync::Arc<Stats>) {
        let stats = std::sync::Arc::<Stats>::default();
        (Budget::new(limit, stats.clone()).permit(), stats)
    }

    fn gzip(data: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap().into()
    }

    fn zstd_unsized(data: &[u8]) -> Bytes {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap().into()
    }

    fn noise(len: usize) -> Vec<u8> {
        (0_u32..).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect()
    }

    /// Guarantees: gzip and zstd (sized, unsized, several members or frames) give back what went in, and the permit holds exactly its length.
    #[test]
    fn round_trips_and_counts_what_it_holds() {
        for len in [0, 1, STEP - 1, STEP, STEP + 1, 300_000] {
            let data = noise(len);
            let forms = [
                (Compression::Gzip, gzip(&data)),
                (Compression::Gzip, [gzip(&data[..len / 2]), gzip(&data[len / 2..])].concat().into()),
                (Compression::Zstd, zstd::bulk::compress(&data, 1).unwrap().into()),
                (Compression::Zstd, zstd_unsized(&data)),
                (
                    Compression::Zstd,
                    [zstd::bulk::compress(&data[..len / 2], 1).unwrap(), zstd::bulk::compress(&data[len / 2..], 1).unwrap()]
                        .concat()
                        .into(),
                ),
            ];
            for (compression, wire) in forms {
                let (mut permit, stats) = budget(1 << 20);
                let body = decompress(compression, wire, 300_000, &mut permit).unwrap();
                assert!(body == data, "{compression:?} {len}");
                assert_eq!(stats.queue_bytes(), len as u64, "{compression:?}");
            }
        }
    }

    /// Guarantees: a bomb stops at the limit, whatever size it claims, having held no more than the limit and one step.
    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        let limit = 1 << 20;
        let forms = [
            (Compression::Gzip, gzip(&zeros)),
            (Compression::Zstd, zstd_unsized(&zeros)),
            (Compression::Zstd, zstd::bulk::compress(&zeros, 1).unwrap().into()),
        ];
        for (compression, wire) in forms {
            let (mut permit, _) = budget(limit + 1);
            let refused = decompress(compression, wire, limit, &mut permit).unwrap_err();
            assert_eq!(refused.reason, Refusal::TooLarge, "{compression:?}");
        }
    }

    /// Guarantees: without room in the budget decompression stops as retryable, before the bytes are written.
    #[test]
    fn a_full_budget_refuses_before_writing() {
        for (compression, wire) in [(Compression::Gzip, gzip(&noise(500_000))), (Compression::Zstd, zstd_unsized(&noise(500_000)))] {
            let (mut permit, stats) = budget(100_000);
            let refused = decompress(compression, wire, 1 << 20, &mut permit).unwrap_err();
            assert_eq!(refused.reason, Refusal::QueueFull);
            drop(permit);
            assert_eq!(stats.queue_bytes(), 0);
        }
    }

    /// Guarantees: damaged or cut data is malformed, never a short body.
    #[test]
    fn damaged_data_is_malformed() {
        let data = noise(100_000);
        for (compression, wire) in [(Compression::Gzip, gzip(&data)), (Compression::Zstd, zstd::bulk::compress(&data, 1).unwrap().into())] {
            for cut in [1, 5, wire.len() / 2, wire.len() - 1] {
                let (mut permit, _) = budget(1 << 20);
                let refused = decompress(compression, wire.slice(..cut), 1 << 20, &mut permit).unwrap_err();
                assert_eq!(refused.reason, Refusal::Malformed, "{compression:?} cut at {cut}");
            }
        }
    }
}
