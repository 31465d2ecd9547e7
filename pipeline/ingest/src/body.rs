//! Reads one request body, counting each piece against the budget as it arrives and giving up on clients that stand still.

use std::fmt::Display;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::admission::Permit;
use crate::decompress::too_large;
use crate::stats::Refusal;
use crate::status::Refused;

/// How the message lies in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The body is the message.
    Bare,
    /// One gRPC frame: compressed flag, length, message.
    Grpc,
}

/// One message as it came.
pub(crate) struct Message {
    pub(crate) bytes: Bytes,
    /// The gRPC flag; always set without framing, where the header alone decides.
    pub(crate) compressed: bool,
}

/// What a body may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
}

/// Pieces received so far. One piece is kept as it is: most requests fit one frame, and copying them costs more than anything else here.
#[derive(Default)]
struct Received {
    first: Bytes,
    rest: BytesMut,
}

/// Bytes before a gRPC message.
const PREFIX: usize = 5;

// === impl Framing ===

impl Framing {
    const fn overhead(self) -> usize {
        match self {
            Self::Bare => 0,
            Self::Grpc => PREFIX,
        }
    }
}

// === impl Received ===

impl Received {
    fn len(&self) -> usize {
        if self.rest.is_empty() { self.first.len() } else { self.rest.len() }
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.rest.extend_from_slice(&piece);
    }

    fn as_slice(&self) -> &[u8] {
        if self.rest.is_empty() { &self.first } else { &self.rest }
    }

    fn finish(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}

/// Reads the body to its end. On success `permit` holds the length of the body.
pub(crate) async fn read<B>(body: &mut B, framing: Framing, limits: Limits, permit: &mut Permit) -> Result<Message, Refused>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    if let Some(announced) = body.size_hint().exact() {
        expect(announced, limits.bytes + framing.overhead(), limits.bytes, permit)?;
    }
    let received = timeout(limits.total, collect(body, framing, limits, permit)).await.map_err(|_| stalled(limits.total))??;
    match framing {
        Framing::Bare => Ok(Message { bytes: received.finish(), compressed: true }),
        Framing::Grpc => unframe(received.finish()),
    }
}

async fn collect<B>(body: &mut B, framing: Framing, limits: Limits, permit: &mut Permit) -> Result<Received, Refused>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let cap = limits.bytes + framing.overhead();
    let mut received = Received::default();
    let mut announced = framing == Framing::Bare;
    while let Some(frame) = timeout(limits.idle, body.frame()).await.map_err(|_| stalled(limits.idle))? {
        let frame = frame.map_err(|error| Refused::new(Refusal::Aborted, format!("body ended early: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        if received.len() + piece.len() > cap {
            return Err(too_large(limits.bytes));
        }
        permit.grow(piece.len())?;
        received.push(piece);
        if !announced && let Some((_, length)) = prefix(received.as_slice()) {
            announced = true;
            let missing = length.saturating_sub(received.len() as u64);
            expect(missing, limits.bytes, limits.bytes, permit)?;
        }
    }
    Ok(received)
}

/// Refuses a size that the client has only announced.
fn expect(announced: u64, cap: usize, limit: usize, permit: &Permit) -> Result<(), Refused> {
    match usize::try_from(announced) {
        Ok(bytes) if bytes <= cap => permit.expect(bytes),
        _ => Err(too_large(limit)),
    }
}

fn prefix(bytes: &[u8]) -> Option<(u8, u64)> {
    let (flag, length) = bytes.split_first()?;
    Some((*flag, u64::from(u32::from_be_bytes(*length.first_chunk::<4>()?))))
}

fn unframe(mut bytes: Bytes) -> Result<Message, Refused> {
    let malformed = |message: String| Err(Refused::new(Refusal::Malformed, message));
    let Some((flag, length)) = prefix(&bytes) else {
        return malformed(format!("a unary call carries one message; the body has {} bytes", bytes.len()));
    };
    bytes.advance(PREFIX);
    if bytes.len() as u64 != length {
        return malformed(format!("a unary call carries one message; its length is {length}, the body has {} bytes", bytes.len()));
    }
    match flag {
        0 | 1 => Ok(Message { bytes, compressed: flag == 1 }),
        _ => malformed(format!("the compressed flag is {flag}; expected 0 or 1")),
    }
}

fn stalled(limit: Duration) -> Refused {
    Refused::new(Refusal::Stalled, format!("the body did not arrive within {limit:?}; send again"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use futures::StreamExt;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use crate::admission::Budget;
    use crate::stats::Stats;

    const LIMITS: Limits = Limits { bytes: 100, idle: Duration::from_secs(10), total: Duration::from_secs(60) };

    async fn read_pieces(framing: Framing, pieces: Vec<Vec<u8>>, every: Duration, budget: usize) -> Result<Vec<u8>, Refusal> {
        let stats = Arc::<Stats>::default();
        let mut permit = Budget::new(budget, Arc::clone(&stats)).permit();
        let pieces = futures::stream::iter(pieces).then(|piece| async move {
            tokio::time::sleep(every).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))
        });
        let mut body = StreamBody::new(pieces.boxed());
        let message = read(&mut body, framing, LIMITS, &mut permit).await.map_err(|refused| refused.reason)?;
        assert_eq!(stats.queue_bytes() as usize, message.bytes.len() + framing.overhead());
        Ok(message.bytes.to_vec())
    }

    fn framed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    /// Guarantees: however the bytes are cut into pieces, the message is the same.
    #[tokio::test(start_paused = true)]
    async fn any_split_gives_the_same_message() {
        let message: Vec<u8> = (0..40).collect();
        for size in [1, 2, 4, 5, 6, 45] {
            let pieces = framed(0, 40, &message).chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(read_pieces(Framing::Grpc, pieces, Duration::ZERO, 1_000).await.as_deref(), Ok(&message[..]), "{size}");
            let pieces = message.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(read_pieces(Framing::Bare, pieces, Duration::ZERO, 1_000).await.as_deref(), Ok(&message[..]), "{size}");
        }
    }

    /// Guarantees: cut, doubled, oversized and flagged messages are told apart, and an oversized one is refused by its prefix alone.
    #[tokio::test(start_paused = true)]
    async fn broken_frames_are_told_apart() {
        let now = Duration::ZERO;
        let one = |bytes: Vec<u8>| read_pieces(Framing::Grpc, vec![bytes], now, 1_000);
        assert_eq!(one(vec![]).await, Err(Refusal::Malformed));
        assert_eq!(one(framed(0, 3, b"ab")).await, Err(Refusal::Malformed));
        assert_eq!(one([framed(0, 1, b"a"), framed(0, 1, b"b")].concat()).await, Err(Refusal::Malformed));
        assert_eq!(one(framed(7, 1, b"a")).await, Err(Refusal::Malformed));
        assert_eq!(one(framed(0, u32::MAX, b"")).await, Err(Refusal::TooLarge));
        assert_eq!(read_pieces(Framing::Bare, vec![vec![0; 60], vec![0; 60]], now, 1_000).await, Err(Refusal::TooLarge));
        assert_eq!(read_pieces(Framing::Grpc, vec![framed(0, 80, b"a")], now, 50).await, Err(Refusal::QueueFull));
        assert_eq!(read_pieces(Framing::Bare, vec![vec![0; 30], vec![0; 30]], now, 50).await, Err(Refusal::QueueFull));
    }

    /// Guarantees: a body that stands still, or that drips for ever, is given up within its limit.
    #[tokio::test(start_paused = true)]
    async fn slow_bodies_are_given_up() {
        let still = read_pieces(Framing::Bare, vec![vec![0]; 2], Duration::from_secs(11), 1_000).await;
        assert_eq!(still, Err(Refusal::Stalled));
        let dripping = read_pieces(Framing::Bare, vec![vec![0]; 90], Duration::from_secs(1), 1_000).await;
        assert_eq!(dripping, Err(Refusal::Stalled));
        let slow = read_pieces(Framing::Bare, vec![vec![0]; 50], Duration::from_secs(1), 1_000).await;
        assert_eq!(slow.map(|body| body.len()), Ok(50));
    }
}
