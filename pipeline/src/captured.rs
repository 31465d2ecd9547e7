//! The requests of a capture, each with the time at which it is taken to have arrived: what replays, SQL and backtests read.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::capture::{Message, Place, ReadError, Reader};
use tracescale_ingest::decode::{Declared, DecodeError, Decoded, Signal, decode};
use tracescale_queries::EngineStats;

use crate::warning::chain;

mod arrival;

use arrival::{Arrivals, FOLLOWING, Times};

/// Requests that are read ahead at most, those without rows (logs) included.
const AHEAD: usize = 256;
/// Bytes of rows that are read ahead at most, but for the last request: as much as a receiver queues.
const AHEAD_BYTES: usize = 64 << 20;
const FORMATS: &str = "captures are what `tracescale record` and the Collector's file exporter write: a JSON request in each line, or requests \
                       behind their lengths (protobuf or JSON, each maybe compressed with zstd); decompress a file that is compressed as a whole";

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
    /// What was read ahead.
    waiting: VecDeque<Waiting>,
    bytes: usize,
    ended: bool,
    /// Why it ends where it does, when not because it is over.
    end: Option<ReadError>,
    /// Requests that cannot be read.
    unread: Tally,
    /// Items that were refused one by one.
    refused: Tally,
}

/// How many there were of something, and what is known of the first.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    first: String,
}

struct Waiting {
    signal: Signal,
    decoded: Decoded,
    times: Option<Times>,
    bytes: usize,
}

// === impl Capture ===

impl Capture {
    /// Opens a capture, with what is declared of sampling, and how far rows may [come out of order](crate::config::Config::disorder).
    ///
    /// # Errors
    /// When it cannot be opened, or no request can be read from it.
    pub fn open(path: &Path, sampling: Declared, disorder: Duration) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("capture {}", path.display()))?;
        let mut capture = Self {
            path: path.to_owned(),
            reader: Reader::new(file),
            sampling,
            arrivals: Arrivals::new(disorder),
            waiting: VecDeque::new(),
            bytes: 0,
            ended: false,
            end: None,
            unread: Tally::default(),
            refused: Tally::default(),
        };
        capture.read_ahead();
        if capture.waiting.is_empty() {
            bail!("{} is no capture: {}; hint: {FORMATS}", path.display(), capture.why_none());
        }
        Ok(capture)
    }

    /// Why no request can be read from it.
    fn why_none(self) -> String {
        match self.end {
            _ if self.unread.count > 0 => self.unread.first,
            Some(ReadError::TooLarge { place: Place { offset: 0, line: None }, limit }) => {
                format!("it begins with neither a JSON object nor a length of up to {limit} bytes")
            }
            Some(error) => chain(&error),
            None => "it is empty".to_owned(),
        }
    }

    /// What people should know of a capture that was read to its end: what did not count, and what counted otherwise than it says.
    pub fn remarks(&self, stats: &EngineStats) -> Vec<String> {
        let file = self.path.display();
        let mut remarks = Vec::new();
        if let Some(error) = &self.end {
            remarks.push(format!(
                "{file} counts only up to {}; hint: a recorder that is killed leaves a request that is cut off; behind \
                 other damage like this the next request cannot be found",
                chain(error)
            ));
        }
        if let Tally { count: count @ 1.., first } = &self.unread {
            remarks.push(format!("{file} has requests that cannot be read and do not count: {count}, the first at {first}; hint: record it again where they matter"));
        }
        if let Tally { count: count @ 1.., first } = &self.refused {
            remarks.push(format!(
                "{file} has spans or metric points that are refused, as live: {count}, the first at {first}; hint: mend their sender"
            ));
        }
        let rows = |stream: Stream| stats.future_rows.iter().filter(move |((of, _), _)| *of == stream).map(|(_, rows)| rows).sum::<u64>();
        let ahead = Stream::ALL.into_iter().map(|stream| (stream, rows(stream))).filter(|(_, rows)| *rows > 0);
        let ahead: Vec<String> = ahead.map(|(stream, rows)| format!("{rows} {}", stream.name())).collect();
        if !ahead.is_empty() {
            let ahead = ahead.join(", ");
            remarks.push(format!("{file} has rows far ahead of the requests around them: {ahead}; they count as a little ahead, as live"));
        }
        remarks
    }

    fn read_ahead(&mut self) {
        let mut with_rows = self.following().count();
        while !self.ended && with_rows <= FOLLOWING && self.waiting.len() < AHEAD && self.bytes < AHEAD_BYTES {
            match self.reader.next() {
                Some(Ok(message)) => match self.decode(&message) {
                    Ok(waiting) => {
                        self.bytes += waiting.bytes;
                        with_rows += usize::from(waiting.times.is_some());
                        self.waiting.push_back(waiting);
                    }
                    // As live: a sender is told, and goes on with the next one.
                    Err(error) => self.unread.add(1, || format!("{}: {}", message.place, chain(&error))),
                },
                Some(Err(error)) if !error.is_end() => self.unread.add(1, || chain(&error)),
                end => {
                    self.end = end.and_then(Result::err);
                    self.ended = true;
                }
            }
        }
    }

    fn decode(&mut self, message: &Message) -> Result<Waiting, DecodeError> {
        let decoded = decode(message.signal, message.encoding, &message.body, Timestamp::EPOCH, &self.sampling)?;
        self.refused.add(decoded.rejected, || format!("{}: {}", message.place, decoded.rejected_reason));
        let bytes = decoded.batches.iter().map(|(_, batch)| batch.get_array_memory_size()).sum();
        Ok(Waiting { signal: message.signal, times: Times::new(decoded.times()), decoded, bytes })
    }

    /// The requests with rows that were read ahead, each by its median.
    fn following(&self) -> impl Iterator<Item = Timestamp> {
        self.waiting.iter().filter_map(|waiting| waiting.times.as_ref().map(Times::median))
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
        let waiting = self.waiting.pop_front()?;
        Some(self.receive(waiting))
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, count: u64, first: impl FnOnce() -> String) {
        if self.count == 0 && count > 0 {
            self.first = first();
        }
        self.count += count;
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
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
            kind: SpanKind::Server as i32,
            start_time_unix_nano: second * 1_000_000_000,
            end_time_unix_nano: second * 1_000_000_000,
            ..Span::default()
        };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let value = Some(AnyValue { value: Some(any_value::Value::StringValue("checkout".to_owned())) });
        let attributes = vec![KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() }];
        let resource = Some(Resource { attributes, ..Resource::default() });
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        (Signal::Traces, ExportTraceServiceRequest { resource_spans }.encode_to_vec())
    }

    fn logs() -> (Signal, Vec<u8>) {
        let log_records = vec![LogRecord { time_unix_nano: 1, ..LogRecord::default() }];
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        (Signal::Logs, ExportLogsServiceRequest { resource_logs }.encode_to_vec())
    }

    fn written(format: Format, requests: impl IntoIterator<Item = (Signal, Vec<u8>)>) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), format);
        requests.into_iter().for_each(|(signal, body)| writer.write(signal, Encoding::Protobuf, &body).unwrap());
        writer.into_inner()
    }

    fn open(bytes: &[u8]) -> anyhow::Result<Capture> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("capture"), bytes).unwrap();
        Capture::open(&dir.path().join("capture"), Declared::default(), Duration::from_secs(70))
    }

    fn read(requests: impl IntoIterator<Item = (Signal, Vec<u8>)>) -> Capture {
        open(&written(Format::ProtoZstd, requests)).unwrap()
    }

    /// How many requests there are, and what is said of the rest; places of files are left out.
    fn remarked(bytes: &[u8]) -> (usize, Vec<String>) {
        let mut capture = open(bytes).unwrap();
        let count = capture.by_ref().map(Result::unwrap).count();
        let remarks = capture.remarks(&EngineStats::default());
        let folder = capture.path.display().to_string();
        (count, remarks.into_iter().map(|remark| remark.replace(&folder, "FILE")).collect())
    }

    /// Guarantees: requests come in their order, those without rows without a time, and no more of them are held than the bounds say,
    /// however large they are and whatever is between those with rows.
    #[test]
    fn what_is_read_ahead_is_bounded() {
        let many = (0..1000).map(|number| if number % 500 == 499 { spans(number / 10, "") } else { logs() });
        let mut capture = read(many);
        let mut at = Vec::new();
        while let Some(received) = capture.next() {
            assert!(capture.waiting.len() < AHEAD);
            at.push(received.unwrap().at);
        }
        assert_eq!(at.iter().flatten().copied().collect::<Vec<_>>(), [49, 99].map(Timestamp::from_secs));
        assert_eq!((at.len(), at[499].is_some(), capture.bytes), (1000, true, 0));

        let large = "x".repeat(8 << 20);
        let mut capture = read((1..=20).map(|second| spans(second, &large)));
        let mut count = 0;
        while let Some(received) = capture.next() {
            assert_eq!(received.unwrap().at, Some(Timestamp::from_secs(count + 1)));
            assert!(capture.bytes < AHEAD_BYTES + (32 << 20), "{} bytes", capture.bytes);
            count += 1;
        }
        assert_eq!((count, capture.bytes), (20, 0));
    }

    /// Guarantees: of both formats a request that is damaged costs itself and nothing else, a cut end costs what is behind it, and both
    /// are told with their place and reason.
    #[test]
    fn damage_costs_a_request_and_is_told() {
        let requests = |seconds: std::ops::Range<u64>| seconds.map(|second| spans(second, "x"));
        for (format, place, reason) in [
            (Format::Json, "line 3 (byte ", "malformed OTLP Json request: "),
            (Format::ProtoZstd, "byte ", "malformed OTLP Protobuf request: "),
        ] {
            let (before, after) = (written(format, requests(1..3)), written(format, requests(3..9)));
            let broken: &[u8] = if format == Format::Json { b"{\"resourceSpans\":[{]}\n" } else { b"\0\0\0\x02\x0a\x7f" };
            let (count, remarks) = remarked(&[&before, broken, &after, broken].concat());
            let [remark] = &remarks[..] else { panic!("{remarks:?}") };
            assert_eq!(count, 8);
            let expected = format!("FILE has requests that cannot be read and do not count: 2, the first at {place}{}", before.len());
            assert!(remark.starts_with(&expected) && remark.contains(reason) && remark.contains("; hint: "), "{remark}");

            let (count, remarks) = remarked(&[&before, &after[..after.len() - 5]].concat());
            let [remark] = &remarks[..] else { panic!("{remarks:?}") };
            assert_eq!(count, 7);
            assert!(remark.starts_with("FILE counts only up to ") && remark.contains("the request is cut off after"), "{remark}");
            assert_eq!(remarked(&[before, after].concat()), (8, Vec::new()));
        }
    }

    /// Guarantees: items that a receiver would refuse are counted and told with the first of them and its reason.
    #[test]
    fn refused_items_are_told() {
        let mut request = ExportTraceServiceRequest::decode(&spans(10, "late").1[..]).unwrap();
        request.resource_spans[0].scope_spans[0].spans[0].start_time_unix_nano += 1_000_000_001;
        let refused = || (Signal::Traces, request.encode_to_vec());
        let capture = written(Format::Json, [spans(1, "fine"), refused(), spans(11, "fine"), refused()]);
        let (count, remarks) = remarked(&capture);
        let [remark] = &remarks[..] else { panic!("{remarks:?}") };
        assert_eq!(count, 4);
        let expected = "FILE has spans or metric points that are refused, as live: 2, the first at line 2 (byte ";
        assert!(remark.starts_with(expected), "{remark}");
        assert!(remark.contains("): span 'late': the span ends more than a second before it starts; hint: "), "{remark}");
    }

    /// Guarantees: what is no capture is called so, with what it is instead and which formats are.
    #[test]
    fn other_files_are_no_captures() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Capture::open(folder.path(), Declared::default(), Duration::ZERO).map(drop).unwrap_err();
        let other = |bytes: &[u8]| open(bytes).map(drop).unwrap_err();
        let length = "it begins with neither a JSON object nor a length of up to 67108864 bytes";
        for (error, why) in [
            (folder, "byte 0: cannot be read: Is a directory"),
            (other(b""), "it is empty"),
            (other(b"\n\n"), "it is empty"),
            (other(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), length),
            (other(b"\x28\xb5\x2f\xfd\x04\x58"), length),
            (other(b"time,rate\n0,1\n"), length),
            (other(b"  time\n"), "line 1 (byte 0): no JSON object with resourceSpans"),
            (other(b"{\n  \"resourceSpans\": []\n}\n"), "line 1 (byte 0): no JSON object with resourceSpans"),
            (other(b"\0\0\0\x05hello there"), "byte 0: malformed OTLP Protobuf request: "),
        ] {
            let told = error.to_string();
            assert!(told.contains(&format!(" is no capture: {why}")) && told.contains("; hint: captures are what"), "{told}");
        }
    }

    /// Guarantees: a capture whose times are the last that there are comes to its end.
    #[test]
    fn the_end_of_time_ends() {
        let last = u64::try_from(i64::MAX).unwrap() / 1_000_000_000;
        let capture = read((last - 300..=last).map(|second| spans(second, "")));
        let requests: Vec<_> = capture.map(Result::unwrap).map(|received| (received.at.unwrap(), received.decoded)).collect();
        assert_eq!(requests.len(), 301);
        let (done, ended) = std::sync::mpsc::sync_channel(1);
        // On a thread, so that a run that goes on for ever fails the test instead of holding it up.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = done.send(runtime.block_on(Box::pin(windows(requests))).0);
        });
        let windows = ended.recv_timeout(Duration::from_secs(120)).expect("it ends");
        assert!(!windows.is_empty(), "no window");
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
        let capture = read(requests.iter().map(|(_, end)| spans(*end, "")));
        let captured = capture.map(Result::unwrap).map(|received| (received.at.unwrap(), received.decoded));
        let captured = Box::pin(windows(captured)).await;
        assert_eq!(captured.1, live.1);
        assert_eq!(captured.0, live.0);
        assert!(live.0.len() > 100, "{} windows", live.0.len());
        assert!(live.1.contains("): 2}") && live.1.contains("): 5}"), "{}", live.1);
    }
}
