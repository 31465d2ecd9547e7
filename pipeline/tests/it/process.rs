//! The binary as a user starts it: a child process with its ports, its lines and its end.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for anything a process should do; generous because CI machines are slow, and never reached when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tracescale`, killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
}

/// What a finished command left.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

// === impl Process ===

impl Process {
    /// Starts `tracescale run --json` on free ports, in `dir`; returns when it listens, with the addresses of gRPC and metrics.
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> (Self, SocketAddr, SocketAddr) {
        let any = "127.0.0.1:0";
        let mut child = command(dir)
            .args(["run", "--json", "--grpc", any, "--http", any, "--metrics", any])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(1 << 16);
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let process = Self { child, lines };
        let listening = process.wait_for(|line| line["type"] == "listening");
        let address = |what: &str| listening["addresses"][what].as_str().unwrap().parse().unwrap();
        (process, address("OTLP/gRPC"), address("metrics"))
    }

    /// The next line that `wanted` accepts.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the process goes on and says what is waited for");
            let line: Value = serde_json::from_str(&line).expect("every line is JSON");
            if wanted(&line) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Asks it to stop; returns its summary and how it ended.
    pub(crate) fn stop(mut self) -> (Value, ExitStatus) {
        self.signal("-TERM");
        let summary = self.wait_for(|line| line["type"] == "summary");
        (summary, self.child.wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is what most tests want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Finished {
    let output = command(dir).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Finished { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracescale"));
    command.current_dir(dir).env_remove("RUST_LOG").env_remove("TRACESCALE_DATA_DIR");
    command
}
