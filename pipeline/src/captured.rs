//! The requests of a capture, each with the time at which it is taken to have arrived: what replays, SQL and backtests read.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tracescale_core::time::Timestamp;
use tracescale_ingest::capture::{Message, Reader};
use tracescale_ingest::decode::{Declared, Decoded, Signal, decode};
use tracescale_queries::EngineStats;

use crate::warning::chain;

mod arrival;

use arrival::{Arrivals, FOLLOWING, Times};

/// Requests that are read ahead at most, those without rows (logs) included.
const AHEAD: usize = 256;
/// Bytes of rows that are read ahead at most, but for the last request: as much as a receiver queues.
const AHEAD_BYTES: usize = 64 << 20;

/// A request of a capture.
#[derive(Debug)]
pub struct Received {
    /// What it carries.
    pub signal: Signal,
    /// When it is taken to have arrived, never before the request in front of it; `None` without rows.
    pub at: Option<Timestamp>,
    /// Its rows.
    pub decoded: Decoded,
}

/// The requests of a capture, in their order.
pub struct Capture {
    path: PathBuf,
    reader: Reader<File>,
    sampling: Declared,
    arrivals: Arrivals,
    /// What was read ahead; an error is the last.
    waiting: VecDeque<anyhow::Result<Waiting>>,
    bytes: usize,
    ended: bool,
}

struct Waiting {
    signal: Signal,
    decoded: Decoded,
    times: Option<Times>,
    bytes: usize,
}

/// Says which rows were ahead of the requests around them, when a capture was read to its end.
pub fn tell_ahead(path: &Path, stats: &EngineStats) {
    let mut streams: Vec<String> = Vec::new();
    for stream in tracescale_core::schema::Stream::ALL {
        let rows: u64 = stats.future_rows.iter().filter(|((of, _), _)| *of == stream).map(|(_, rows)| rows).sum();
        if rows > 0 {
            streams.push(format!("{rows} {}", stream.name()));
        }
    }
    if !streams.is_empty() {
        let (rows, file) = (streams.join(", "), path.display());
        tracing::warn!(%rows, %file, "rows are far ahead of the requests around them: they count as a little ahead, as live");
    }
}

// === impl Capture ===

impl Capture {
    /// Opens a capture, with what is declared of sampling, and how far rows may [come out of order](crate::config::Config::disorder).
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, sampling: Declared, disorder: Duration) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("capture {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            reader: Reader::new(file),
            sampling,
            arrivals: Arrivals::new(disorder),
            waiting: VecDeque::new(),
            bytes: 0,
            ended: false,
        })
    }

    fn read_ahead(&mut self) {
        let mut with_rows = self.following().count();
        while !self.ended && with_rows <= FOLLOWING && self.waiting.len() < AHEAD && self.bytes < AHEAD_BYTES {
            let read = match self.reader.next() {
                Some(Ok(message)) => self.decode(&message),
                // A torn tail is what a killed recorder leaves; everything before it counts.
                Some(Err(error)) => {
                    tracing::error!(error = %chain(&error), file = %self.path.display(), "the capture ends early");
                    self.ended = true;
                    return;
                }
                None => {
                    self.ended = true;
                    return;
                }
            };
            self.ended = read.is_err();
            self.bytes += read.as_ref().map_or(0, |waiting| waiting.bytes);
            with_rows += usize::from(read.as_ref().is_ok_and(|waiting| waiting.times.is_some()));
            self.waiting.push_back(read);
        }
    }

    fn decode(&self, message: &Message) -> anyhow::Result<Waiting> {
        let decoded = decode(message.signal, message.encoding, &message.body, Timestamp::EPOCH, &self.sampling);
        let decoded = decoded.with_context(|| format!("capture {}", self.path.display()))?;
        let bytes = decoded.batches.iter().map(|(_, batch)| batch.get_array_memory_size()).sum();
        Ok(Waiting { signal: message.signal, times: Times::new(decoded.times()), decoded, bytes })
    }

    /// The requests with rows that were read ahead, each by its median.
    fn following(&self) -> impl Iterator<Item = Timestamp> {
        self.waiting.iter().flatten().filter_map(|waiting| waiting.times.as_ref().map(Times::median))
    }

    fn receive(&mut self, Waiting { signal, mut decoded, times, bytes }: Waiting) -> anyhow::Result<Received> {
        self.bytes -= bytes;
        let Some(times) = times else { return Ok(Received { signal, at: None, decoded }) };
        let following: Vec<Timestamp> = self.following().take(FOLLOWING).collect();
        let at = self.arrivals.arrive(&times, &following);
        decoded.set_received_at(at)?;
        Ok(Received { signal, at: Some(at), decoded })
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("path", &self.path).field("arrivals", &self.arrivals).finish_non_exhaustive()
    }
}

impl Iterator for Capture {
    type Item = anyhow::Result<Received>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_ahead();
        Some(self.waiting.pop_front()?.and_then(|waiting| self.receive(waiting)))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message as _;
    use tracescale_ingest::capture::{Format, Writer};
    use tracescale_ingest::decode::Encoding;

    use super::*;
    use crate::cli::ListenArgs;
    use crate::config::Config;
    use crate::windows::step;

    fn spans(second: u64, name: &str) -> (Signal, Vec<u8>) {
        let span = Span {
            trace_id: vec![1; 16],
            span_id: vec![1; 8],
            name: name.to_owned(),
            start_time_unix_nano: second * 1_000_000_000,
            end_time_unix_nano: second * 1_000_000_000,
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        (Signal::Traces, ExportTraceServiceRequest { resource_spans }.encode_to_vec())
    }

    fn logs() -> (Signal, Vec<u8>) {
        let log_records = vec![LogRecord { time_unix_nano: 1, ..LogRecord::default() }];
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        (Signal::Logs, ExportLogsServiceRequest { resource_logs }.encode_to_vec())
    }

    fn read(requests: impl IntoIterator<Item = (Signal, Vec<u8>)>) -> (tempfile::TempDir, Capture) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(Vec::new(), Format::ProtoZstd);
        requests.into_iter().for_each(|(signal, body)| writer.write(signal, Encoding::Protobuf, &body).unwrap());
        std::fs::write(dir.path().join("capture"), writer.into_inner()).unwrap();
        let capture = Capture::open(&dir.path().join("capture"), Declared::default(), Duration::from_secs(70)).unwrap();
        (dir, capture)
    }

    /// Guarantees: requests come in their order, those without rows without a time, and no more of them are held than the bounds say,
    /// however large they are and whatever is between those with rows.
    #[test]
    fn what_is_read_ahead_is_bounded() {
        let many = (0..1000).map(|number| if number % 500 == 499 { spans(number / 10, "") } else { logs() });
        let (_dir, mut capture) = read(many);
        let mut at = Vec::new();
        while let Some(received) = capture.next() {
            assert!(capture.waiting.len() < AHEAD);
            at.push(received.unwrap().at);
        }
        assert_eq!(at.iter().flatten().copied().collect::<Vec<_>>(), [49, 99].map(Timestamp::from_secs));
        assert_eq!((at.len(), at[499].is_some(), capture.bytes), (1000, true, 0));

        let large = "x".repeat(8 << 20);
        let (_dir, mut capture) = read((1..=20).map(|second| spans(second, &large)));
        let mut count = 0;
        while let Some(received) = capture.next() {
            assert_eq!(received.unwrap().at, Some(Timestamp::from_secs(count + 1)));
            assert!(capture.bytes < AHEAD_BYTES + (32 << 20), "{} bytes", capture.bytes);
            count += 1;
        }
        assert_eq!((count, capture.bytes), (20, 0));
    }

    /// All windows that became final, with what was counted as late and as ahead.
    async fn windows(requests: impl IntoIterator<Item = (Timestamp, Decoded)>) -> (Vec<String>, String) {
        let config = Config::load(&[], &ListenArgs::default(), None).await.unwrap();
        let (mut engine, _) = config.engine().await.unwrap();
        let (mut emissions, mut now) = (Vec::new(), None);
        for (at, mut decoded) in requests {
            emissions.extend(step(&mut engine, now, at).await.unwrap());
            now = Some(at);
            decoded.set_received_at(at).unwrap();
            engine.push("sender", decoded.batches, at).await.unwrap();
        }
        emissions.extend(step(&mut engine, now, now.unwrap() + config.settle_time()).await.unwrap());
        let told = |emission: tracescale_queries::Emission| format!("{} {} {:?}", emission.view, emission.window_end, emission.rows);
        (emissions.into_iter().map(told).collect(), format!("{:?} {:?}", engine.stats().late_rows, engine.stats().future_rows))
    }

    /// Guarantees: requests from clocks that are ahead or behind count in a capture as they do where the time of receipt is known.
    #[tokio::test]
    async fn a_capture_counts_as_live() {
        const DAY: u64 = 86_400;
        let second = |second: u64| 1_767_600_000 + second;
        let mut requests: Vec<(u64, u64)> = (0..60).map(|at| (second(at), second(at))).collect();
        requests.extend([(second(59), second(59) + 600), (second(59), second(59) + 400 * DAY)]);
        requests.splice(45..45, [(second(44), second(44) - 600), (second(44), second(44) - 400 * DAY)]);
        requests.splice(30..30, [(second(29), second(29) + 400 * DAY), (second(29), second(29) + 600)]);
        requests.insert(0, (second(0), second(600)));
        let live = requests.iter().map(|(at, end)| {
            let (signal, body) = spans(*end, "");
            let at = Timestamp::from_secs(i64::try_from(*at).unwrap());
            (at, decode(signal, Encoding::Protobuf, &body, at, &Declared::default()).unwrap())
        });
        let live = Box::pin(windows(live)).await;
        let (_dir, capture) = read(requests.iter().map(|(_, end)| spans(*end, "")));
        let captured = capture.map(Result::unwrap).map(|received| (received.at.unwrap(), received.decoded));
        let captured = Box::pin(windows(captured)).await;
        assert_eq!(captured.1, live.1);
        assert_eq!(captured.0, live.0);
        assert!(live.1.contains("): 2}") && live.1.contains("): 5}"), "{}", live.1);
    }
}
