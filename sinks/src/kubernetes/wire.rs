//! One call to an API server: what we send, exactly, and what we keep of the answer.
//!
//! Requests are written by hand on top of kube's authenticated connection, because two things matter here that typed clients
//! hide: warnings in response headers, and which right a refused call would have needed.

use std::fmt::{self, Write as _};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, WARNING};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use crate::SinkErrorKind;
use crate::kubernetes::problem::{Problem, classify, cut};

/// The name under which the API server records that a field is ours.
pub const FIELD_MANAGER: &str = "tracescale";
/// The largest answer we read, in bytes: a page of autoscalers is the largest thing that we ask for.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Warnings kept per answer.
const WARNINGS: usize = 8;

/// What a call does, in the words of a Role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    List,
    Patch,
    Create,
}

/// A call to an API server.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) verb: Verb,
    /// Empty for the core group and for discovery.
    group: String,
    /// `deployments/scale`; empty for discovery.
    resource: String,
    namespace: Option<String>,
    path: String,
    query: String,
    accept: &'static str,
    /// How the server takes the body.
    content: &'static str,
    body: Option<Value>,
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Value,
    pub(super) warnings: Vec<String>,
}

// === impl Verb ===

impl Verb {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Create => "create",
        }
    }
}

// === impl Call ===

impl Call {
    /// A call about a resource: `api_version` as in a manifest, `resource` as in a path, `name` unless it is a collection.
    /// Every part must have been checked with [`segment`].
    pub(super) fn new(verb: Verb, api_version: &str, resource: &str, namespace: Option<&str>, name: Option<&str>) -> Self {
        let mut path = root(api_version);
        if let Some(namespace) = namespace {
            let _ = write!(path, "/namespaces/{namespace}");
        }
        let (collection, subresource) = resource.split_once('/').map_or((resource, None), |(first, second)| (first, Some(second)));
        let _ = write!(path, "/{collection}");
        for part in [name, subresource].into_iter().flatten() {
            let _ = write!(path, "/{part}");
        }
        Self {
            verb,
            group: api_version.split_once('/').map_or("", |(group, _)| group).to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.map(ToOwned::to_owned),
            path,
            query: String::new(),
            accept: "application/json",
            content: if verb == Verb::Patch { "application/merge-patch+json" } else { "application/json" },
            body: None,
        }
    }

    /// What a group serves.
    pub(super) fn discovery(api_version: &str) -> Self {
        Self {
            verb: Verb::Get,
            group: String::new(),
            resource: String::new(),
            namespace: None,
            path: root(api_version),
            query: String::new(),
            accept: "application/json",
            content: "application/json",
            body: None,
        }
    }

    /// Asks for an object's metadata only.
    pub(super) fn metadata_only(mut self) -> Self {
        self.accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        self
    }

    pub(super) fn with_query(mut self, key: &str, value: &str) -> Self {
        let separator = if self.query.is_empty() { '?' } else { '&' };
        let _ = write!(self.query, "{separator}{key}=");
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.query.push(char::from(byte)),
                _ => {
                    let _ = write!(self.query, "%{byte:02X}");
                }
            }
        }
        self
    }

    /// Writes, as our field manager.
    pub(super) fn with_body(self, body: Value) -> Self {
        let mut call = self.with_query("fieldManager", FIELD_MANAGER);
        call.body = Some(body);
        call
    }

    /// As [`Call::with_body`], for a patch that merges lists by the names in them. Built-in kinds know how.
    pub(super) fn with_strategic_body(mut self, body: Value) -> Self {
        self.content = "application/strategic-merge-patch+json";
        self.with_body(body)
    }

    /// `deployments/scale` of API group `apps` in namespace `shop`.
    pub(super) fn resource_in_words(&self) -> String {
        let mut words = if self.resource.is_empty() { self.path.clone() } else { format!("`{}`", self.resource) };
        if !self.group.is_empty() {
            let _ = write!(words, " of API group `{}`", self.group);
        }
        if let Some(namespace) = &self.namespace {
            let _ = write!(words, " in namespace `{namespace}`");
        }
        words
    }

    /// Sends it and reads the answer.
    pub(super) async fn send(&self, client: &Client, timeout: Duration) -> Result<Answer, (SinkErrorKind, Problem)> {
        let exchange = async {
            let request = self.request().map_err(|source| (SinkErrorKind::Invalid, self.malformed(source)))?;
            let response = client.send(request).await.map_err(|source| self.unanswered(source))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|source| self.unanswered(source))?.to_bytes();
            if !head.status.is_success() {
                return Err(classify(self, head.status, &head.headers, &body));
            }
            let body = serde_json::from_slice(&body).map_err(|source| (SinkErrorKind::Unavailable, self.malformed(source)))?;
            Ok(Answer { body, warnings: warnings(&head.headers) })
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err((SinkErrorKind::Unavailable, Problem::Timeout { call: self.to_string(), after: timeout })),
        }
    }

    /// The answer's body is not of the type we need.
    pub(super) fn malformed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Problem {
        Problem::Malformed { call: self.to_string(), source: source.into() }
    }

    fn unanswered(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> (SinkErrorKind, Problem) {
        (SinkErrorKind::Unavailable, Problem::Connection { call: self.to_string(), source: source.into() })
    }

    fn request(&self) -> Result<Request<Body>, http::Error> {
        let method = match self.verb {
            Verb::Get | Verb::List => Method::GET,
            Verb::Patch => Method::PATCH,
            Verb::Create => Method::POST,
        };
        let builder = Request::builder().method(method).uri(format!("{}{}", self.path, self.query)).header(ACCEPT, self.accept);
        match &self.body {
            None => builder.body(Body::empty()),
            Some(body) => builder.header(CONTENT_TYPE, self.content).body(Body::from(body.to_string().into_bytes())),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.path)
    }
}

fn root(api_version: &str) -> String {
    if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
}

/// Checks that a part of a target can stand in a path and mean only itself there.
pub(super) fn segment(what: &'static str, value: &str) -> Result<(), Problem> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    let fits =
        !value.is_empty() && value.len() <= 253 && value.bytes().all(allowed) && value.bytes().any(|byte| byte.is_ascii_alphanumeric());
    if fits { Ok(()) } else { Err(Problem::Name { what, value: cut(value) }) }
}

/// The texts of `Warning: 299 - "text"` headers.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let mut texts = Vec::new();
    for value in headers.get_all(WARNING).iter().filter_map(|value| value.to_str().ok()) {
        // Several warnings may share a header; each text stands between unescaped quotes.
        let (mut inside, mut escaped, mut text) = (false, false, String::new());
        for character in value.chars() {
            match character {
                _ if escaped => {
                    text.push(character);
                    escaped = false;
                }
                '\\' if inside => escaped = true,
                '"' if inside => {
                    texts.push(cut(&std::mem::take(&mut text)));
                    inside = false;
                }
                '"' => inside = true,
                _ if inside => text.push(character),
                _ => {}
            }
        }
    }
    texts.truncate(WARNINGS);
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: every warning of an answer is read, also two in one header and with quotes inside.
    #[test]
    fn warnings_are_read() {
        let mut headers = HeaderMap::new();
        headers.append(WARNING, r#"299 - "first \"quoted\" one", 299 - "second""#.parse().expect("a header"));
        headers.append(WARNING, r#"299 kube "third""#.parse().expect("a header"));
        assert_eq!(warnings(&headers), [r#"first "quoted" one"#, "second", "third"]);
    }

    /// Guarantees: a name from telemetry can never point a call at something else.
    #[test]
    fn names_cannot_leave_their_place() {
        for name in ["checkout", "a.b-c", "system:x", "x9"] {
            assert!(segment("name", name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a?b", "a%2Fb", "a b", "ä", "a#b", &"x".repeat(254)] {
            assert!(segment("name", name).is_err(), "{name}");
        }
    }

    /// Guarantees: paths are those of the API conventions, for named and core groups, objects, collections and subresources.
    #[test]
    fn paths_follow_the_conventions() {
        let call = Call::new(Verb::Patch, "apps/v1", "deployments/scale", Some("shop"), Some("cart"));
        assert_eq!(call.path, "/apis/apps/v1/namespaces/shop/deployments/cart/scale");
        assert_eq!(call.resource_in_words(), "`deployments/scale` of API group `apps` in namespace `shop`");
        let call = Call::new(Verb::List, "v1", "pods", Some("shop"), None).with_query("continue", "a/b=");
        assert_eq!(format!("{}{}", call.path, call.query), "/api/v1/namespaces/shop/pods?continue=a%2Fb%3D");
        assert_eq!(Call::discovery("v1").path, "/api/v1");
    }
}
