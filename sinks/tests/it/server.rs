//! An HTTP server on loopback that hands each call to a [`Respond`] and keeps a log of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{OriginalUri, Query, State};
use axum::http::{HeaderMap, Method, Response};
use serde_json::Value;

/// A call as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) content_type: Option<String>,
    pub(crate) accept: Option<String>,
    /// Null when there is none.
    pub(crate) body: Value,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Never answer.
    pub(crate) silent: bool,
}

pub(crate) trait Respond: Send + Sync + 'static {
    fn respond(&self, call: &Received) -> Reply;
}

/// A running server; it ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) url: String,
    log: Arc<Mutex<Vec<Received>>>,
}

struct Shared {
    responder: Arc<dyn Respond>,
    log: Arc<Mutex<Vec<Received>>>,
}

// === impl Server ===

impl Server {
    pub(crate) async fn start(responder: Arc<dyn Respond>) -> Self {
        let log = Arc::new(Mutex::default());
        let shared = Arc::new(Shared { responder, log: Arc::clone(&log) });
        let router = Router::new().fallback(handle).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, log }
    }

    pub(crate) fn calls(&self) -> Vec<Received> {
        self.log.lock().expect("no handler panicked").clone()
    }

    /// Credentials for this server.
    pub(crate) fn config(&self) -> kube::Config {
        kube::Config::new(self.url.parse().expect("a URL"))
    }
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    method: Method,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("a JSON body") };
    let call = Received {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query,
        content_type: header("content-type"),
        accept: header("accept"),
        body,
    };
    let reply = shared.responder.respond(&call);
    shared.log.lock().expect("no handler panicked").push(call);
    if reply.silent {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).expect("a response")
}

// === impl Reply ===

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes(), silent: false }
    }
}
