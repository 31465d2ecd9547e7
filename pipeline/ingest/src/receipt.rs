//! The answer that a client waits for: given by whoever keeps the request, once it is kept.

use tokio::sync::oneshot;

use crate::stats::Refusal;
use crate::status::Refused;

/// When a request is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// As soon as it is in the queue: what is on its way when the process is killed is lost.
    #[default]
    Queued,
    /// When its [`Receipt`] is signed.
    Kept,
}

/// Signed by whoever took a request from the queue; dropped unsigned, the client is told to send again.
#[derive(Debug)]
pub struct Receipt(oneshot::Sender<Result<(), String>>);

/// The receiver's end of a [`Receipt`].
pub(crate) struct Waiting(oneshot::Receiver<Result<(), String>>);

// === impl Receipt ===

impl Receipt {
    pub(crate) fn new() -> (Self, Waiting) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), Waiting(receiver))
    }

    /// The request is kept: its sender may forget it.
    pub fn sign(self) {
        // A client that went away sends again, and the copy is recognized.
        let _ = self.0.send(Ok(()));
    }

    /// The request cannot be kept now; its sender is told why and that it should send again later.
    pub fn refuse(self, why: String) {
        let _ = self.0.send(Err(why));
    }
}

// === impl Waiting ===

impl Waiting {
    pub(crate) async fn signed(self) -> Result<(), Refused> {
        match self.0.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Refused::new(Refusal::NotKept, why)),
            Err(_) => Err(Refused::new(Refusal::Draining, "shutting down; send again")),
        }
    }
}
