//! Errors that a caller can act on: the kind says what to do, the source says why.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tracescale_core::capacity::{Unobserved, UnobservedKind};
use tracescale_core::target::TargetRef;

/// A sink could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {kind}")]
pub struct SinkError {
    /// What to do about it.
    pub kind: SinkErrorKind,
    /// The target that was asked for.
    pub target: TargetRef,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// What a caller does about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// The target's world asked us to slow down.
    Throttled {
        /// How long it asked us to wait.
        retry_after: Option<Duration>,
    },
    /// No answer, or an answer that says to try again later. Whether a write happened is unknown.
    Unavailable,
    /// The target kept changing under us; nothing was written.
    Conflict,
    /// The target, its kind or its API group does not exist.
    NotFound,
    /// We may not do that: a missing right, bad credentials, or an admission policy.
    Denied,
    /// The request makes no sense to the target's world (a bound in its schema, a kind without a scale).
    Invalid,
    /// Another writer holds the capacity, and we do not fight.
    Contested {
        /// Who: `HorizontalPodAutoscaler shop/cart`, `field manager kubectl`.
        by: String,
    },
}

// === impl SinkError ===

impl SinkError {
    /// An error about `target`.
    pub fn new(kind: SinkErrorKind, target: &TargetRef, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, target: target.clone(), source: source.into() }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }

    /// The error and its causes in one line, for records that people read.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// A failed observation as the decider takes it: the capacity is unknown, which is never zero.
    #[must_use]
    pub fn unobserved(&self) -> Unobserved {
        let kind = match self.kind {
            SinkErrorKind::NotFound => UnobservedKind::NotFound,
            SinkErrorKind::Denied | SinkErrorKind::Invalid => UnobservedKind::Denied,
            _ => UnobservedKind::Unavailable,
        };
        Unobserved { kind, detail: self.chain() }
    }

    /// How long the target's world asked us to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.kind {
            SinkErrorKind::Throttled { retry_after } => retry_after,
            _ => None,
        }
    }
}

// === impl SinkErrorKind ===

impl SinkErrorKind {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable | Self::Conflict)
    }

    /// Whether the call may have changed something all the same: no answer came, or one from half way.
    #[must_use]
    pub const fn is_uncertain(&self) -> bool {
        matches!(self, Self::Unavailable)
    }

    /// The label in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Throttled { .. } => "throttled",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Contested { .. } => "contested",
        }
    }
}

impl fmt::Display for SinkErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throttled { retry_after: Some(wait) } => write!(f, "throttled, asked to wait {} s", wait.as_secs_f64()),
            Self::Throttled { retry_after: None } => f.write_str("throttled"),
            Self::Unavailable => f.write_str("unavailable"),
            Self::Conflict => f.write_str("changed by somebody else during every attempt"),
            Self::NotFound => f.write_str("not found"),
            Self::Denied => f.write_str("denied"),
            Self::Invalid => f.write_str("refused as invalid"),
            Self::Contested { by } => write!(f, "held by another writer, {by}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracescale_core::target::MemoryRef;

    /// Guarantees: only throttling, unavailability and conflicts are worth repeating unchanged, and a wait is passed on.
    #[test]
    fn kinds_say_what_is_worth_repeating() {
        let target = TargetRef::Memory(MemoryRef { name: "cart".into(), replicas: 1 });
        let wait = Duration::from_secs(3);
        let throttled = SinkError::new(SinkErrorKind::Throttled { retry_after: Some(wait) }, &target, "busy");
        assert_eq!((throttled.is_retryable(), throttled.retry_after()), (true, Some(wait)));
        for kind in [SinkErrorKind::Unavailable, SinkErrorKind::Conflict] {
            assert!(kind.is_retryable(), "{kind}");
        }
        let by = "field manager kubectl".to_owned();
        for kind in [SinkErrorKind::NotFound, SinkErrorKind::Denied, SinkErrorKind::Invalid, SinkErrorKind::Contested { by }] {
            assert!(!SinkError::new(kind.clone(), &target, "no").is_retryable(), "{kind}");
        }
    }

    /// Guarantees: the cause is in `source`, not in the message.
    #[test]
    fn the_cause_is_not_said_twice() {
        let target = TargetRef::Memory(MemoryRef { name: "cart".into(), replicas: 1 });
        let error = SinkError::new(SinkErrorKind::Denied, &target, "missing right");
        assert!(!error.to_string().contains("missing right"));
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("missing right"));
        assert_eq!(error.chain(), "memory:cart: denied: missing right");
        assert_eq!(error.unobserved().kind, UnobservedKind::Denied);
    }
}
