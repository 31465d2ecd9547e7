//! Recorded exchanges, and a server that plays them strictly: each call must be the next one expected, in method, path,
//! query, content type, accept and body; a call too many or too few fails the test.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::server::{Received, Reply, Respond, Server};

/// An expected call and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    name: String,
    call: Received,
    reply: Reply,
}

/// Plays exchanges in order.
pub(crate) struct Strict {
    server: Server,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    expected: Mutex<VecDeque<Exchange>>,
    violations: Mutex<Vec<String>>,
}

/// The content of a recorded exchange.
pub(crate) fn recorded(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../testdata/kubernetes/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a recorded exchange")
}

// === impl Exchange ===

impl Exchange {
    /// The exchange as it was recorded.
    pub(crate) fn recorded(name: &str) -> Self {
        let file = recorded(name);
        let (request, response) = (&file["request"], &file["response"]);
        let header = |name: &str| request["headers"][name].as_str().map(ToOwned::to_owned);
        let call = Received {
            method: request["method"].as_str().expect("a method").to_owned(),
            path: request["path"].as_str().expect("a path").to_owned(),
            query: serde_json::from_value(request["query"].clone()).expect("a query"),
            content_type: header("content-type"),
            accept: header("accept"),
            body: request["body"].clone(),
        };
        let headers: BTreeMap<String, String> = serde_json::from_value(response["headers"].clone()).expect("headers");
        let body = match &response["body"] {
            Value::Null => Vec::new(),
            Value::String(text) => text.clone().into_bytes(),
            body => body.to_string().into_bytes(),
        };
        let status = u16::try_from(response["status"].as_u64().expect("a status")).expect("a status");
        let reply = Reply { status, headers: headers.into_iter().collect(), body, silent: false };
        Self { name: name.to_owned(), call, reply }
    }

    /// An exchange written by hand, where none could be recorded.
    pub(crate) fn written(method: &str, path: &str) -> Self {
        let call = Received {
            method: method.to_owned(),
            path: path.to_owned(),
            query: BTreeMap::new(),
            content_type: None,
            accept: Some("application/json".to_owned()),
            body: Value::Null,
        };
        Self { name: format!("{method} {path}"), call, reply: Reply::json(200, &Value::Null) }
    }

    /// The same call with a body of this type.
    pub(crate) fn with_content(mut self, kind: &str) -> Self {
        self.call.content_type = Some(kind.to_owned());
        self
    }

    /// The same call, answered with this status and body.
    pub(crate) fn answered(mut self, status: u16, body: &Value) -> Self {
        self.reply = Reply::json(status, body);
        self
    }

    /// The same call with another body.
    pub(crate) fn with_body(mut self, body: Value) -> Self {
        self.call.body = body;
        self
    }

    /// The same call with another query.
    pub(crate) fn with_query<const N: usize>(mut self, query: [(&str, &str); N]) -> Self {
        self.call.query = query.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self
    }

    /// The same call to another path.
    pub(crate) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.call.path);
        self
    }

    /// The same call, answered with the body of another recorded answer.
    pub(crate) fn answered_as(mut self, name: &str) -> Self {
        self.reply = Self::recorded(name).reply;
        self
    }

    /// The same call, answered with this body.
    pub(crate) fn answered_with(mut self, body: &Value) -> Self {
        self.reply.body = body.to_string().into_bytes();
        self
    }

    /// The same call, never answered.
    pub(crate) fn unanswered(mut self) -> Self {
        self.reply.silent = true;
        self
    }
}

// === impl Strict ===

impl Strict {
    pub(crate) async fn start(exchanges: impl IntoIterator<Item = Exchange>) -> Self {
        let script = Arc::new(Script { expected: Mutex::new(exchanges.into_iter().collect()), ..Script::default() });
        let server = Server::start(Arc::clone(&script) as Arc<dyn Respond>).await;
        Self { server, script }
    }

    pub(crate) fn config(&self) -> kube::Config {
        self.server.config()
    }

    /// Fails unless every call was expected and every expected call was made.
    pub(crate) fn finish(self) {
        let violations = self.script.violations.lock().expect("no handler panicked");
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        let missing: Vec<String> = self.script.expected.lock().expect("no handler panicked").iter().map(|next| next.name.clone()).collect();
        assert!(missing.is_empty(), "calls that were not made: {missing:?}");
    }
}

impl Respond for Script {
    fn respond(&self, call: &Received) -> Reply {
        let next = self.expected.lock().expect("no handler panicked").pop_front();
        let violation = match next {
            Some(next) if next.call == *call => return next.reply,
            Some(next) => format!("expected {} {:#?}\ngot {call:#?}", next.name, next.call),
            None => format!("a call too many: {call:#?}"),
        };
        self.violations.lock().expect("no handler panicked").push(violation);
        Reply::json(400, &json!({"message": "the test expected another call"}))
    }
}
