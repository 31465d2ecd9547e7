//! A server under load in its own process: its start, what the kernel and its own `/metrics` say about it, its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::measure;

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory now, bytes.
    pub resident: u64,
    /// The most it ever was, bytes.
    pub peak: u64,
    /// User and system time of all its threads.
    pub cpu: Duration,
}

/// The clock tick of `/proc/PID/stat`, the same on every Linux.
const TICK: Duration = Duration::from_millis(10);
const POLL: Duration = Duration::from_millis(20);

// === impl Server ===

impl Server {
    /// Starts a command whose output goes to files, on these processors only when `cpus` names some (`taskset` syntax).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[String], cpus: Option<&str>, output: &Path, log: &Path) -> Result<Self> {
        let mut command = if let Some(cpus) = cpus {
            let mut command = Command::new("taskset");
            command.args(["-c", cpus]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).stdin(Stdio::null()).stdout(File::create(output)?).stderr(File::create(log)?);
        let child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self { child })
    }

    /// Waits until a port is open.
    ///
    /// # Errors
    /// When the process ends first or the time is over.
    pub async fn wait_for(&mut self, address: SocketAddr, patience: Duration) -> Result<()> {
        let begun = measure::instant();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status} before {address} was open");
            }
            if begun.elapsed() > patience {
                bail!("{address} was not open after {patience:?}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> Result<Usage> {
        let pid = self.child.id();
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid} is gone"));
        let status = read("status")?;
        let kilobytes = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Usage { resident: kilobytes("VmRSS:") << 10, peak: kilobytes("VmHWM:") << 10, cpu: cpu(&read("stat")?) })
    }

    /// Sends `SIGTERM` and waits for the end.
    ///
    /// # Errors
    /// When it does not end within `patience`; it is killed then.
    pub async fn terminate(mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal()?;
        let begun = measure::instant();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > patience {
                bail!("the server did not end within {patience:?} of SIGTERM");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends `SIGTERM` and does not wait.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&self) -> Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().context("kill cannot be started")?;
        if status.success() { Ok(()) } else { bail!("process {} cannot be signalled", self.child.id()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already in every run that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of all processes that this one started and that have ended.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn ended_children() -> Result<Duration> {
    Ok(ticks(&std::fs::read_to_string("/proc/self/stat")?, 13))
}

/// User and system time of a process itself.
fn cpu(stat: &str) -> Duration {
    ticks(stat, 11)
}

/// Two fields of `/proc/PID/stat`, counted behind the second one, which may hold anything in parentheses.
fn ticks(stat: &str, skipped: usize) -> Duration {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(skipped).take(2).filter_map(|ticks| ticks.parse::<u32>().ok());
    TICK * ticks.sum::<u32>()
}

/// Every sample of a Prometheus exposition: name with labels, and value.
///
/// # Errors
/// When the address does not answer with success.
pub async fn scrape(address: SocketAddr) -> Result<BTreeMap<String, f64>> {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let response = client.get(format!("http://{address}/metrics").parse()?).await.context("/metrics does not answer")?;
    if !response.status().is_success() {
        bail!("/metrics answers {}", response.status());
    }
    let body = response.into_body().collect().await?.to_bytes();
    Ok(samples(&String::from_utf8_lossy(&body)))
}

fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// The sum of the samples with this name whose labels contain all of these `key="value"` texts.
#[must_use]
pub fn total(samples: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let named = samples.iter().filter(|(sample, _)| sample.split('{').next() == Some(name));
    named.filter(|(sample, _)| labels.iter().all(|label| sample.contains(label))).map(|(_, value)| value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: processor time is read even when a program's name has blanks and parentheses.
    #[test]
    fn processor_time_is_read() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(cpu(stat), Duration::from_secs(2));
    }

    /// Guarantees: samples are summed over the labels that were not asked for.
    #[test]
    fn samples_are_summed() {
        let text = "# HELP a b\na_total{signal=\"traces\",code=\"0\"} 2\na_total{signal=\"traces\",code=\"8\"} 3\na_total_x 9\n";
        let samples = samples(text);
        assert!((total(&samples, "a_total", &["signal=\"traces\""]) - 5.0).abs() < 1e-9);
        assert!((total(&samples, "a_total", &["code=\"8\""]) - 3.0).abs() < 1e-9);
    }
}
