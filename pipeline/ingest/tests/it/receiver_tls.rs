//! TLS and mutual TLS with certificates made for the test.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tracescale_ingest::{BindError, Config, Receiver, Tls};

use crate::receiver::{PROTO, clock, config, send_over, start, traces};

/// Guarantees: over TLS both protocols are served, chosen by ALPN, and a plain-text client gets nothing.
#[tokio::test]
async fn both_protocols_are_served_over_tls() {
    let authority = Authority::new();
    let receiver = start(Config { tls: Some(authority.server(false)), ..config() }).await;
    let mut client = TraceServiceClient::new(authority.channel(&receiver.grpc, None).await.unwrap());
    client.export(traces(3)).await.unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(tls.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(receiver.http).await.unwrap();
    let stream = tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let answer = send_over(stream, "POST", "/v1/traces", &[PROTO], Full::new(Bytes::from(traces(1).encode_to_vec()))).await;
    assert_eq!(answer.status, 200);

    let mut plain = TraceServiceClient::connect(receiver.grpc.clone()).await.unwrap();
    plain.export(traces(1)).await.unwrap_err();
    assert_eq!((receiver.stats.accepted_total(), receiver.stats.tls_failures()), (2, 1));
}

/// Guarantees: with a client authority configured, only its certificates get in.
#[tokio::test]
async fn mutual_tls_asks_for_the_right_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let receiver = start(Config { tls: Some(authority.server(true)), ..config() }).await;
    let mut client = TraceServiceClient::new(authority.channel(&receiver.grpc, Some(authority.client())).await.unwrap());
    client.export(traces(3)).await.unwrap();
    for identity in [None, Some(stranger.client())] {
        // TLS 1.3 clients may see the refusal with the connection or with the first call.
        let refused = match authority.channel(&receiver.grpc, identity).await {
            Ok(channel) => TraceServiceClient::new(channel).export(traces(1)).await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
    assert_eq!((receiver.stats.accepted_total(), receiver.stats.tls_failures()), (1, 2));
}

/// Guarantees: what cannot start says which setting, file or port it was.
#[tokio::test]
async fn start_up_errors_name_their_cause() {
    let authority = Authority::new();
    let missing = Tls { cert: "/nowhere/cert.pem".into(), ..authority.server(false) };
    let error = bind_error(Config { tls: Some(missing), ..config() }).await;
    assert_eq!(chain(&error), "receiver TLS: cannot read certificates from /nowhere/cert.pem");
    let server = authority.server(false);
    let swapped = Tls { cert: server.key.clone(), key: server.cert.clone(), client_ca: None };
    let error = bind_error(Config { tls: Some(swapped), ..config() }).await;
    assert!(chain(&error).contains("server.pem") || chain(&error).contains("server.key"), "{}", chain(&error));
    let other = Tls { key: authority.server_key_of(&Authority::new()), ..server };
    let error = bind_error(Config { tls: Some(other), ..config() }).await;
    assert!(chain(&error).contains("cannot be used together"), "{}", chain(&error));

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = bind_error(Config { grpc: taken.local_addr().unwrap(), ..config() }).await;
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()));
    let error = bind_error(Config { max_connections: 0, ..config() }).await;
    assert_eq!(error.to_string(), "receiver settings: max_connections = 0: expected 1 to 1073741824");
}

async fn bind_error(config: Config) -> BindError {
    Receiver::bind(config, clock()).await.err().unwrap()
}

/// The two outer layers; what the operating system says below them differs.
fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A certificate authority with a server certificate on disk.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, dir: tempfile::tempdir().unwrap() };
        let (cert, key) = authority.issue("localhost");
        authority.write("ca.pem", &authority.pem());
        authority.write("server.pem", &cert);
        authority.write("server.key", &key);
        authority
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::join(self.dir.path(), name)
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn server(&self, mutual: bool) -> Tls {
        Tls { cert: self.path("server.pem"), key: self.path("server.key"), client_ca: mutual.then(|| self.path("ca.pem")) }
    }

    /// Another authority's key, kept where this one's files are.
    fn server_key_of(&self, other: &Self) -> std::path::PathBuf {
        self.write("other.key", &std::fs::read_to_string(other.path("server.key")).unwrap());
        self.path("other.key")
    }

    fn client(&self) -> Identity {
        let (cert, key) = self.issue("collector");
        Identity::from_pem(cert, key)
    }

    async fn channel(&self, address: &str, identity: Option<Identity>) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem())).domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        Channel::from_shared(address.replace("http://", "https://")).unwrap().tls_config(tls)?.connect().await
    }
}
