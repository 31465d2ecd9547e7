//! Why the API server did not do it, said so that an operator knows what to change; and which kind of error that is.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::SinkErrorKind;
use crate::kubernetes::wire::Call;

/// The longest piece of a foreign message that we repeat, in characters.
const MESSAGE: usize = 400;

/// Why a call to a Kubernetes API server failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No credentials, or none for this context.
    #[error("cannot load credentials for {context}: give a kubeconfig that has it, or run in a cluster with a service account")]
    Credentials {
        /// The context, in words.
        context: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("no answer to `{call}` within {} s", after.as_secs_f64())]
    Timeout {
        /// The call.
        call: String,
        /// How long we waited.
        after: Duration,
    },
    /// The connection failed.
    #[error("`{call}` got no answer")]
    Connection {
        /// The call.
        call: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is not what the API promises.
    #[error("the answer to `{call}` cannot be read")]
    Malformed {
        /// The call.
        call: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API group of the target is not served.
    #[error("API group {api_version} is not installed in this cluster: install what defines {kind}, or correct `apiVersion`")]
    GroupNotInstalled {
        /// As in the target.
        api_version: String,
        /// As in the target.
        kind: String,
    },
    /// The API group has no such kind.
    #[error("API group {api_version} has no kind {kind}; it has {known}")]
    KindUnknown {
        /// As in the target.
        api_version: String,
        /// As in the target.
        kind: String,
        /// Kinds with a scale, in words.
        known: String,
    },
    /// The kind cannot be scaled.
    #[error("kind {kind} of {api_version} has no scale subresource")]
    NoScale {
        /// As in the target.
        api_version: String,
        /// As in the target.
        kind: String,
    },
    /// A name that cannot be part of a path.
    #[error("`{value}` cannot be the {what} of a Kubernetes object")]
    Name {
        /// Which part of the target.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A right is missing.
    #[error("the right to `{verb}` {resource} is missing; grant it in a Role and bind it (deploy/kubernetes/rbac.yaml): {message}")]
    Forbidden {
        /// The missing verb.
        verb: &'static str,
        /// The resource, its group and namespace.
        resource: String,
        /// What the server said.
        message: String,
    },
    /// The credentials are not accepted.
    #[error("the API server does not accept our credentials for `{call}`: {message}")]
    Unauthenticated {
        /// The call.
        call: String,
        /// What the server said.
        message: String,
    },
    /// An admission webhook or policy said no.
    #[error("an admission policy refused `{call}`: {message}")]
    Admission {
        /// The call.
        call: String,
        /// What the policy said.
        message: String,
    },
    /// Another writer holds the replicas.
    #[error("{by} sets the replicas of this object{until}; remove it, or set `takeOver: true` on the target to write nevertheless")]
    Contested {
        /// Who.
        by: String,
        /// How long we yield, in words.
        until: String,
    },
    /// Another writer sets resources.
    #[error("{by} sets the resources of these pods; remove it, or set `takeOver: true` on the target to write nevertheless")]
    ResourcesContested {
        /// Who.
        by: String,
    },
    /// Nobody can tell whose resources to set.
    #[error("{wanted} in the pods, which have {known}; name one in `kubernetes.container` of the target")]
    Container {
        /// What is not clear.
        wanted: String,
        /// The containers there are.
        known: String,
    },
    /// Resources cannot be set in place, and not in a template either.
    #[error("kind {kind} of {api_version} has no pod template that we can set; its pods must be resizable in place (Kubernetes 1.33)")]
    NoTemplate {
        /// As in the target.
        api_version: String,
        /// As in the target.
        kind: String,
    },
    /// Any other refusal.
    #[error("`{call}` was answered with {status}: {message}")]
    Refused {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
    },
}

/// The part of a Kubernetes Status that we read. Seen without `kind` and `apiVersion` in timeouts, so none is asked for.
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Option<Vec<Cause>>,
    #[serde(default, rename = "retryAfterSeconds")]
    retry_after_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

// === impl Problem ===

impl Problem {
    /// Whether the server knows no such path at all, as opposed to no such object: a group or resource that is gone. The first
    /// is answered in plain text, the second names no object.
    pub(super) fn is_of_the_path(&self) -> bool {
        let Self::Refused { status: 404, message, .. } = self else { return false };
        message.starts_with("404 page not found") || message.ends_with("could not find the requested resource")
    }

    /// Whether the server cannot resize a pod in place: it is too old to know how, or this change needs a new pod.
    pub(super) fn is_no_resize(&self) -> bool {
        matches!(self, Self::Refused { status: 405 | 422, .. }) || self.is_of_the_path()
    }
}

/// What kind of error an unsuccessful answer is, and why. The body is parsed by trying, never by its content type.
pub(super) fn classify(call: &Call, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> (SinkErrorKind, Problem) {
    let parsed = serde_json::from_slice::<Status>(body)
        .unwrap_or_else(|_| Status { message: String::from_utf8_lossy(body).trim().to_owned(), ..Status::default() });
    let message = cut(&parsed.message);
    let refused = |message: String| Problem::Refused { call: call.to_string(), status: status.as_u16(), message };
    let details = parsed.details.unwrap_or_default();
    let wait = retry_after(headers).or(details.retry_after_seconds.map(Duration::from_secs));
    if is_admission(&parsed.message) {
        return (SinkErrorKind::Denied, Problem::Admission { call: call.to_string(), message });
    }
    match status.as_u16() {
        401 => (SinkErrorKind::Denied, Problem::Unauthenticated { call: call.to_string(), message }),
        403 => (SinkErrorKind::Denied, Problem::Forbidden { verb: call.verb.as_str(), resource: call.resource_in_words(), message }),
        404 | 410 => (SinkErrorKind::NotFound, refused(message)),
        409 => {
            let by = details.causes.unwrap_or_default().into_iter().find(|cause| cause.reason == "FieldManagerConflict");
            match by {
                Some(cause) => {
                    let by = cut(&cause.message);
                    (SinkErrorKind::Contested { by: by.clone() }, Problem::Contested { by, until: String::new() })
                }
                None => (SinkErrorKind::Conflict, refused(message)),
            }
        }
        429 => (SinkErrorKind::Throttled { retry_after: wait }, refused(message)),
        // A server that shuts down says when to come back: the same wish to wait as a throttle.
        503 if wait.is_some() => (SinkErrorKind::Throttled { retry_after: wait }, refused(message)),
        408 | 500.. => (SinkErrorKind::Unavailable, refused(message)),
        _ => {
            let message = if parsed.reason.is_empty() { message } else { format!("{}: {message}", parsed.reason) };
            (SinkErrorKind::Invalid, refused(message))
        }
    }
}

/// A webhook that says no may choose any status; only its words tell it from the server's own refusals. A webhook that cannot
/// be reached is worded otherwise ("failed calling webhook") and worth a retry.
fn is_admission(message: &str) -> bool {
    (message.starts_with("admission webhook ") && message.contains("denied the request"))
        || message.contains("denied request: ") && message.contains("ValidatingAdmissionPolicy")
        || message.contains("exceeded quota")
}

/// Seconds to wait. API servers send whole seconds, never a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// The start of a foreign message, on one line.
pub(super) fn cut(message: &str) -> String {
    let mut short: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = short.char_indices().nth(MESSAGE) {
        short.truncate(end);
        short.push('…');
    }
    short
}
