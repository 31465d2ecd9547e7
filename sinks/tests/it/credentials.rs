//! Credentials as users have them: a kubeconfig with several contexts, a private authority and a token.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls;
use tracescale_core::target::{KubernetesRef, TargetRef};
use tracescale_sinks::kubernetes::Options;
use tracescale_sinks::{Kubernetes, ScaleTarget, SinkErrorKind};

use crate::cluster::DEPLOYMENT;
use crate::conformance::{clock, object};
use crate::exchange::{Exchange, Strict, recorded};

fn at(context: &str) -> TargetRef {
    let TargetRef::Kubernetes(reference) = object(DEPLOYMENT) else { panic!("not an object") };
    TargetRef::Kubernetes(KubernetesRef { context: Some(context.to_owned()), ..reference })
}

/// Guarantees: each context has its own credentials, one that is unknown is an error that names it, and nothing else is tried.
#[tokio::test]
async fn contexts_are_kept_apart() {
    let (first, second) = (
        Strict::start([Exchange::recorded("discovery-apps-v1-200"), Exchange::recorded("deployment-scale-get-200")]).await,
        Strict::start([]).await,
    );
    let config = kubeconfig(&[("first", &first), ("second", &second)]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config");
    std::fs::write(&path, config).expect("written");
    let sink = Kubernetes::new(Options { kubeconfig: Some(path), read_ready: false, ..Options::default() }, clock());
    sink.observe(&at("first")).await.expect("observed");
    let error = sink.observe(&at("third")).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Invalid);
    assert!(error.chain().contains("context `third`"), "{}", error.chain());
    first.finish();
    second.finish();
}

fn kubeconfig(contexts: &[(&str, &Strict)]) -> String {
    let clusters: Vec<Value> = contexts
        .iter()
        .map(|(name, server)| json!({"name": name, "cluster": {"server": server.config().cluster_url.to_string()}}))
        .collect();
    let contexts: Vec<Value> = contexts.iter().map(|(name, _)| json!({"name": name, "context": {"cluster": name, "user": "u"}})).collect();
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "first", "clusters": clusters, "contexts": contexts,
        "users": [{"name": "u", "user": {}}]})
    .to_string()
}

/// A server with a certificate of its own authority, that answers each connection once and keeps the heads of requests.
struct Encrypted {
    url: String,
    authority: String,
    heads: Arc<Mutex<Vec<String>>>,
}

// === impl Encrypted ===

impl Encrypted {
    async fn start(answers: Vec<Value>) -> Self {
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            for answer in answers {
                let (stream, _) = listener.accept().await.expect("a connection");
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a request"));
                }
                kept.lock().expect("no panic").push(String::from_utf8(head).expect("text"));
                let body = answer.to_string();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.expect("written");
                stream.shutdown().await.expect("closed");
            }
        });
        Self { url, authority: key.cert.pem(), heads }
    }
}

/// Guarantees: the authority and the token of a kubeconfig are used; a server of another authority gets no token.
#[tokio::test]
async fn authority_and_token_are_used() {
    let answer = |name: &str| recorded(name)["response"]["body"].clone();
    let server = Encrypted::start(vec![answer("discovery-apps-v1-200"), answer("deployment-scale-get-200")]).await;
    let stranger = Encrypted::start(vec![answer("discovery-apps-v1-200")]).await;
    let directory = tempfile::tempdir().expect("a directory");
    let authority = directory.path().join("ca.crt");
    std::fs::write(&authority, &server.authority).expect("written");
    let cluster =
        |name: &str, server: &Encrypted| json!({"name": name, "cluster": {"server": server.url, "certificate-authority": authority}});
    let context = |name: &str| json!({"name": name, "context": {"cluster": name, "user": "u"}});
    let config = json!({"apiVersion": "v1", "kind": "Config", "clusters": [cluster("mine", &server), cluster("stranger", &stranger)],
        "contexts": [context("mine"), context("stranger")], "users": [{"name": "u", "user": {"token": "a-token"}}]});
    let path = directory.path().join("config");
    std::fs::write(&path, config.to_string()).expect("written");
    let sink = Kubernetes::new(Options { kubeconfig: Some(path), read_ready: false, ..Options::default() }, clock());
    assert_eq!(sink.observe(&at("mine")).await.expect("observed").desired, 2);
    let heads = server.heads.lock().expect("no panic").clone();
    assert!(heads.iter().all(|head| head.to_lowercase().contains("authorization: bearer a-token")), "{heads:?}");
    let error = sink.observe(&at("stranger")).await.expect_err("refused");
    assert_eq!(error.kind, SinkErrorKind::Unavailable);
    assert!(error.chain().to_lowercase().contains("certificate"), "{}", error.chain());
    assert!(stranger.heads.lock().expect("no panic").is_empty());
}

/// Guarantees: credentials that are no longer accepted are loaded anew, so that a renewed file needs no restart.
#[tokio::test]
async fn refused_credentials_are_loaded_again() {
    let (old, new) = (
        Strict::start([Exchange::recorded("discovery-apps-v1-200"), Exchange::recorded("auth-401-bad-token")]).await,
        Strict::start([Exchange::recorded("deployment-scale-get-200")]).await,
    );
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config");
    std::fs::write(&path, kubeconfig(&[("first", &old)])).expect("written");
    let sink = Kubernetes::new(Options { kubeconfig: Some(path.clone()), read_ready: false, ..Options::default() }, clock());
    assert_eq!(sink.observe(&at("first")).await.expect_err("refused").kind, SinkErrorKind::Denied);
    std::fs::write(&path, kubeconfig(&[("first", &new)])).expect("written");
    sink.observe(&at("first")).await.expect("observed");
    old.finish();
    new.finish();
}
