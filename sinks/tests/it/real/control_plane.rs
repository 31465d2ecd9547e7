//! A real API server to test against: the one of `KUBECONFIG`, or one started from the folder of `KUBEBUILDER_ASSETS`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tokio::process::{Child, Command};

/// The administrator's token of a server that we start; it listens on loopback and lives as long as the test.
const TOKEN: &str = "for-this-test-only";

/// What we started; it ends when this is dropped.
pub(super) struct Running {
    _processes: Vec<Child>,
    _directory: Option<tempfile::TempDir>,
}

/// Administrator's credentials; none when no server is given.
pub(super) async fn given() -> Option<(Config, Running)> {
    if std::env::var_os("KUBECONFIG").is_some() {
        let config = Config::from_kubeconfig(&KubeConfigOptions::default()).await.expect("the current context of KUBECONFIG");
        return Some((config, Running { _processes: Vec::new(), _directory: None }));
    }
    let assets = PathBuf::from(std::env::var_os("KUBEBUILDER_ASSETS")?);
    Some(start(&assets).await)
}

async fn start(assets: &Path) -> (Config, Running) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    let key = rcgen::KeyPair::generate().expect("a key");
    std::fs::write(file("account.key"), key.serialize_pem()).expect("written");
    std::fs::write(file("account.pub"), key.public_key_pem()).expect("written");
    std::fs::write(file("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n")).expect("written");
    let (store, port) = (format!("http://127.0.0.1:{}", free_port()), free_port());
    let etcd = Command::new(assets.join("etcd"))
        .arg("--data-dir")
        .arg(file("etcd"))
        .args(["--listen-client-urls", &store, "--advertise-client-urls", &store, "--listen-peer-urls", "http://127.0.0.1:0"])
        .arg("--unsafe-no-fsync")
        .kill_on_drop(true)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(file("etcd.log")).expect("a log"))
        .spawn()
        .expect("etcd of KUBEBUILDER_ASSETS starts");
    let path = |flag: &str, name: &str| format!("--{flag}={}", file(name).display());
    let server = Command::new(assets.join("kube-apiserver"))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24"])
        .args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"])
        .args([
            "--service-account-issuer=https://kubernetes.default.svc",
            &format!("--etcd-servers={store}"),
            &format!("--secure-port={port}"),
        ])
        .args([path("service-account-key-file", "account.pub"), path("service-account-signing-key-file", "account.key")])
        .args([path("token-auth-file", "tokens.csv"), path("cert-dir", "certificates")])
        .kill_on_drop(true)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(file("apiserver.log")).expect("a log"))
        .spawn()
        .expect("kube-apiserver of KUBEBUILDER_ASSETS starts");
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().expect("a URL"));
    // It makes its own certificate at every start.
    config.accept_invalid_certs = true;
    config.auth_info.token = Some(TOKEN.to_owned().into());
    if !ready(&config).await {
        let log = std::fs::read_to_string(file("apiserver.log")).unwrap_or_default();
        panic!("the API server did not become ready:\n{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
    }
    (config, Running { _processes: vec![etcd, server], _directory: Some(directory) })
}

async fn ready(config: &Config) -> bool {
    for _ in 0..600 {
        let client = Client::try_from(config.clone()).expect("a client");
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
        if client.request_text(request).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.local_addr().expect("an address").port()
}
