//! The path of one export request, the same for both protocols: enter, read, decompress, decode, queue, acknowledge.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use tokio::sync::Semaphore;
use tracescale_core::time::Timestamp;

use crate::admission::{Admission, Admitted, Permit, Source};
use crate::auth::Tokens;
use crate::body::{self, Framing, Limits};
use crate::config::Config;
use crate::decode::{Decoded, Encoding, Signal};
use crate::decompress::{Compression, decompress};
use crate::health::Health;
use crate::receipt::{Acknowledge, Receipt};
use crate::server::{Clock, DecodeFn};
use crate::stats::{Protocol, Refusal, Stats};
use crate::status::{Accepted, Refused};
use crate::wire::WireBody;

/// What all connections share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) decode: DecodeFn,
    pub(crate) admission: Admission,
    pub(crate) tokens: Tokens,
    pub(crate) workers: Arc<Semaphore>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) health: Health,
}

/// What the header of a request says.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) signal: Signal,
    pub(crate) protocol: Protocol,
    pub(crate) encoding: Encoding,
    pub(crate) compression: Compression,
    pub(crate) source: Source,
    pub(crate) received_at: Timestamp,
}

/// A request whose rows exist.
struct Work {
    body: WireBody,
    /// Bytes of the body after decompression.
    length: usize,
    decoded: Decoded,
    permit: Permit,
}

/// Uncompressed bodies up to this size (some fifty spans) are decoded where they were read: that takes less time than the way to another thread and back.
const INLINE_BYTES: usize = 16 << 10;
/// Charged for each queued request beside its bytes: vectors, schemas, strings.
const REQUEST_OVERHEAD: usize = 1 << 10;

/// Reads, decodes and queues one request. When this returns `Ok`, the rows are in the queue, or kept when answers wait for that.
///
/// When the caller goes away before the request is queued and this future is dropped, whatever was held is given back.
pub(crate) async fn export<B>(context: &Context, call: Call, body: &mut B) -> Result<Accepted, Refused>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut entry = context.admission.enter()?;
    let config = &context.config;
    let limits = Limits { bytes: config.max_request_bytes, idle: config.body_idle_timeout, total: config.body_timeout };
    let framing = if call.protocol == Protocol::Grpc { Framing::Grpc } else { Framing::Bare };
    let message = body::read(body, framing, limits, &mut entry.permit).await?;
    let compression = match (message.compressed, call.compression) {
        (true, Compression::Identity) if framing == Framing::Grpc => {
            return Err(Refused::new(Refusal::Malformed, "the message is flagged as compressed, but grpc-encoding names no compression"));
        }
        (true, compression) => compression,
        (false, _) => Compression::Identity,
    };
    // Logs are counted and answered, never queued.
    let place = if call.signal == Signal::Logs { None } else { Some(context.admission.reserve()?) };
    let wire = message.bytes.len();
    let permit = std::mem::replace(&mut entry.permit, context.admission.permit());
    let work = decode(context, Call { compression, ..call }, message.bytes, permit).await?;
    let accepted = outcome(call.signal, &work.decoded);
    let Work { body, length, decoded, permit } = work;
    let items = decoded.items;
    if let Some(place) = place {
        let Call { signal, encoding, source, received_at, .. } = call;
        let (receipt, waiting) = match config.acknowledge {
            Acknowledge::Kept => Some(Receipt::new()).unzip(),
            Acknowledge::Queued => (None, None),
        };
        place.send(Admitted { signal, encoding, source, received_at, decoded, body, receipt, permit });
        if let Some(waiting) = waiting {
            waiting.signed().await?;
        }
    }
    context.stats.record_accepted(call.signal, call.protocol, call.encoding, wire, length);
    context.stats.record_items(call.signal, items, accepted.rejected);
    context.stats.record_duration((context.clock)().since(call.received_at));
    Ok(accepted)
}

/// Decompresses and decodes, on a blocking thread unless the body is small. A 64 MiB body takes most of a second, during which
/// an I/O thread would answer nobody. At most `decode_workers` run at a time, so decoding cannot take every processor's time away
/// from the rest of the process, nor can more than that many decompressed bodies be in the making.
async fn decode(context: &Context, call: Call, wire: Bytes, mut permit: Permit) -> Result<Work, Refused> {
    let (decode, limit) = (Arc::clone(&context.decode), context.config.max_request_bytes);
    let small = call.compression == Compression::Identity && wire.len() <= INLINE_BYTES;
    let job = move || {
        let body = decompress(call.compression, wire.clone(), limit, &mut permit)?;
        let decoded = decode(call.signal, call.encoding, &body, call.received_at)
            .map_err(|error| Refused::new(Refusal::Malformed, error.to_string()))?;
        let rows: usize = decoded.batches.iter().map(|(_, batch)| batch.get_array_memory_size()).sum();
        permit.settle(wire.len() + rows + REQUEST_OVERHEAD);
        Ok(Work { body: WireBody { compression: call.compression, bytes: wire }, length: body.len(), decoded, permit })
    };
    // A panic is a defect of ours in the face of one request; the others need not suffer.
    let guarded = move || catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| Err(internal()));
    if small {
        return guarded();
    }
    let worker = Arc::clone(&context.workers).acquire_owned().await.map_err(|_| internal())?;
    let task = tokio::task::spawn_blocking(move || {
        let _worker = worker;
        guarded()
    });
    task.await.unwrap_or_else(|_| Err(internal()))
}

fn outcome(signal: Signal, decoded: &Decoded) -> Accepted {
    match signal {
        // The whole request is answered as rejected: the specification then forbids the client to send it again.
        Signal::Logs if decoded.items > 0 => {
            Accepted { rejected: decoded.items, reason: "tracescale keeps no logs; send it traces and metrics".to_owned() }
        }
        Signal::Logs => Accepted::default(),
        Signal::Traces | Signal::Metrics => Accepted { rejected: decoded.rejected, reason: decoded.rejected_reason.clone() },
    }
}

fn internal() -> Refused {
    Refused::new(Refusal::Internal, "the request made the decoder fail; please report it")
}
