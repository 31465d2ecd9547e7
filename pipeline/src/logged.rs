//! What is in the write-ahead log: requests as they came, and what we made of them. Everything that is archived was here
//! first, so that one position in one log says what is archived.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracescale_archive::wal::{Entry, Lsn};
use tracescale_core::decide::Decision;
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::{Declared, DecodeError, Decoded, Encoding, MAX_BODY, Signal, decode};
use tracescale_ingest::wire::WireError;
use tracescale_ingest::{Admitted, Compression, WireBody};
use tracescale_queries::Emission;

use crate::conclusion::Conclusion;

/// A record of the log, read.
#[derive(Debug)]
pub enum Logged {
    /// A request.
    Request(Request),
    /// The rows of a final window.
    Window(Window),
    /// A decision.
    Decision(Box<Decision>),
    /// What became of a decision's order.
    Outcome(Conclusion),
    /// What people were told.
    Alert(Alert),
}

/// A request as it was received.
#[derive(Debug)]
pub struct Request {
    signal: Signal,
    encoding: Encoding,
    body: WireBody,
    received_at: Timestamp,
    source: IpAddr,
}

/// The rows of one view for one final window.
#[derive(Clone, Debug)]
pub struct Window {
    /// The view.
    pub view: String,
    /// The first instant after the window.
    pub end: Timestamp,
    /// How often it was changed by late rows.
    pub revision: u32,
    /// The last request that it was made with.
    pub through: Lsn,
    /// Its rows.
    pub rows: RecordBatch,
}

/// What people were told, as it is archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// When.
    pub at: Timestamp,
    /// Of what kind: a stable word.
    pub kind: String,
    /// The rule or target that it is about; empty when it is about several.
    pub subject: String,
    /// What is wrong.
    pub message: String,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoggedError {
    /// A kind that this release does not know.
    #[error("a record of kind {kind} (encoding {encoding}, compression {compression}), which this release does not know")]
    Unknown {
        /// The number of the kind.
        kind: u8,
        /// That of the encoding.
        encoding: u8,
        /// That of the compression.
        compression: u8,
    },
    /// The body does not decompress.
    #[error("a body that cannot be decompressed")]
    Wire(#[from] WireError),
    /// The request is not OTLP.
    #[error("a request that cannot be decoded")]
    Decode(#[from] DecodeError),
    /// The rows are damaged.
    #[error("rows that cannot be read")]
    Rows(#[from] ArrowError),
    /// The record is damaged.
    #[error("a record that cannot be read")]
    Json(#[from] serde_json::Error),
    /// It was not possible to compress.
    #[error("rows that cannot be compressed")]
    Compress(#[source] std::io::Error),
}

// Numbers of kinds beside those of signals. They are in files: they never change their meaning.
const WINDOW: u8 = 101;
const DECISION: u8 = 102;
const OUTCOME: u8 = 103;
const ALERT: u8 = 104;

/// Keys in the metadata of a window's schema.
const VIEW_KEY: &str = "tracescale.view";
const END_KEY: &str = "tracescale.window_end";
const REVISION_KEY: &str = "tracescale.revision";
const THROUGH_KEY: &str = "tracescale.through";

/// Fast: a window is a few kilobytes, and compresses to a fifth.
const ZSTD_LEVEL: i32 = 1;

/// The entry of a request.
#[must_use]
pub fn request(admitted: &Admitted) -> Entry {
    Entry {
        signal: admitted.signal.tag(),
        encoding: admitted.encoding.tag(),
        compression: admitted.body.compression.tag(),
        source: admitted.source.address(),
        received_at: admitted.received_at,
        body: admitted.body.bytes.clone(),
    }
}

/// The entry of a final window that was made with the requests up to `through`.
///
/// # Errors
/// When its rows cannot be written as Arrow IPC, which is a defect.
pub fn window(emission: &Emission, through: Lsn, now: Timestamp) -> Result<Entry, LoggedError> {
    let schema = emission.rows.schema();
    let pairs = [
        (VIEW_KEY, emission.view.clone()),
        (END_KEY, emission.window_end.as_nanos().to_string()),
        (REVISION_KEY, emission.revision.to_string()),
        (THROUGH_KEY, through.to_string()),
    ];
    let metadata = pairs.map(|(key, value)| (key.to_owned(), value)).into();
    let schema = Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata));
    let rows = RecordBatch::try_new(Arc::clone(&schema), emission.rows.columns().to_vec())?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&rows)?;
    let body = zstd::bulk::compress(&writer.into_inner()?, ZSTD_LEVEL).map_err(LoggedError::Compress)?;
    Ok(own(WINDOW, Compression::Zstd, body, now))
}

/// The entry of a decision.
///
/// # Errors
/// When it cannot be written as JSON, which is a defect.
pub fn decision(decision: &Decision, now: Timestamp) -> Result<Entry, LoggedError> {
    json(DECISION, decision, now)
}

/// The entry of an order's end.
///
/// # Errors
/// When it cannot be written as JSON, which is a defect.
pub fn outcome(conclusion: &Conclusion, now: Timestamp) -> Result<Entry, LoggedError> {
    json(OUTCOME, conclusion, now)
}

/// The entry of an alert.
///
/// # Errors
/// When it cannot be written as JSON, which is a defect.
pub fn alert(alert: &Alert, now: Timestamp) -> Result<Entry, LoggedError> {
    json(ALERT, alert, now)
}

/// Reads an entry.
///
/// # Errors
/// When it is damaged, or of a kind that only a later release knows.
pub fn read(entry: &Entry) -> Result<Logged, LoggedError> {
    let Entry { signal: kind, encoding, compression, ref body, .. } = *entry;
    let unknown = || LoggedError::Unknown { kind, encoding, compression };
    let body = WireBody { compression: Compression::from_tag(compression).ok_or_else(unknown)?, bytes: body.clone() };
    if let Some(signal) = Signal::from_tag(kind) {
        let encoding = Encoding::from_tag(encoding).ok_or_else(unknown)?;
        return Ok(Logged::Request(Request { signal, encoding, body, received_at: entry.received_at, source: entry.source }));
    }
    let body = body.open(MAX_BODY)?;
    Ok(match kind {
        WINDOW => Logged::Window(read_window(&body)?),
        DECISION => Logged::Decision(Box::new(from_json(&body)?)),
        OUTCOME => Logged::Outcome(from_json(&body)?),
        ALERT => Logged::Alert(from_json(&body)?),
        _ => return Err(unknown()),
    })
}

// === impl Request ===

impl Request {
    /// When it was received.
    #[must_use]
    pub const fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// Who sent it, as the windows know it.
    #[must_use]
    pub fn source(&self) -> String {
        self.source.to_canonical().to_string()
    }

    /// Decodes it again: the same rows as when it was received, where the same is declared of sampling.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn decode(&self, declared: &Declared) -> Result<Decoded, LoggedError> {
        Ok(decode(self.signal, self.encoding, &self.body.open(MAX_BODY)?, self.received_at, declared)?)
    }
}

fn own(kind: u8, compression: Compression, body: Vec<u8>, now: Timestamp) -> Entry {
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Entry { signal: kind, encoding: 0, compression: compression.tag(), source, received_at: now, body: body.into() }
}

fn json<T: Serialize>(kind: u8, record: &T, now: Timestamp) -> Result<Entry, LoggedError> {
    Ok(own(kind, Compression::Identity, serde_json::to_vec(record)?, now))
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, LoggedError> {
    Ok(serde_json::from_slice(body)?)
}

fn read_window(body: &[u8]) -> Result<Window, LoggedError> {
    let reader = StreamReader::try_new(body, None)?;
    let schema = reader.schema();
    let text = |key: &str| schema.metadata().get(key).map(String::as_str).unwrap_or_default();
    let number = |key: &str| {
        text(key).parse::<i64>().map_err(|_| ArrowError::IpcError(format!("a window whose `{key}` is `{}`, not a number", text(key))))
    };
    let through = Lsn(number(THROUGH_KEY)?.cast_unsigned());
    let (view, end) = (text(VIEW_KEY).to_owned(), Timestamp::from_nanos(number(END_KEY)?));
    let revision = u32::try_from(number(REVISION_KEY)?).unwrap_or(u32::MAX);
    // Metadata off, so that rows of many windows are of one schema.
    let plain = Arc::new(Schema::new(schema.fields().iter().map(|field| Field::clone(field)).collect::<Vec<_>>()));
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    let rows = arrow::compute::concat_batches(&schema, &batches)?;
    Ok(Window { view, end, revision, through, rows: RecordBatch::try_new(plain, rows.columns().to_vec())? })
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, DictionaryArray, Float64Array, TimestampNanosecondArray};
    use arrow::datatypes::Int32Type;

    use super::*;
    use crate::conclusion::Ending;

    fn emission() -> Emission {
        let names: DictionaryArray<Int32Type> = ["cart", "pay", "cart"].into_iter().collect();
        let columns: [(&str, Arc<dyn arrow::array::Array>); 3] = [
            ("window_end", Arc::new(TimestampNanosecondArray::from(vec![60_000_000_000; 3]))),
            ("service_name", Arc::new(names)),
            ("p99", Arc::new(Float64Array::from(vec![Some(0.25), None, Some(f64::MAX)]))),
        ];
        Emission {
            view: "service_latency".to_owned(),
            window_start: Timestamp::EPOCH,
            window_end: Timestamp::from_secs(60),
            is_final: true,
            revision: 3,
            rows: RecordBatch::try_from_iter(columns).unwrap(),
            evidence_time: Timestamp::from_secs(59),
        }
    }

    /// Guarantees: what is written into the log is read from it, bit for bit.
    #[test]
    fn records_come_back() {
        let now = Timestamp::from_secs(70);
        let (emission, alert) = (emission(), Alert { at: now, kind: "rule_failed".into(), subject: "slo".into(), message: "why".into() });
        let Logged::Window(window) = read(&window(&emission, Lsn(9), now).unwrap()).unwrap() else { panic!("not a window") };
        assert_eq!((window.view.as_str(), window.end, window.revision), ("service_latency", emission.window_end, 3));
        assert_eq!(window.through, Lsn(9));
        assert_eq!(window.rows.column(2), emission.rows.column(2));
        assert_eq!(window.rows.column(1).as_dictionary::<Int32Type>().len(), 3);
        assert_eq!(window.rows.schema().fields().len(), 3);
        let Logged::Alert(read_alert) = read(&super::alert(&alert, now).unwrap()).unwrap() else { panic!("not an alert") };
        assert_eq!(read_alert, alert);
        let ended = Conclusion { concludes: "a".to_owned().into(), at: now, result: Ending::Withheld { until: now } };
        let Logged::Outcome(read_outcome) = read(&outcome(&ended, now).unwrap()).unwrap() else { panic!("not an outcome") };
        assert_eq!(read_outcome, ended);
    }

    /// Guarantees: a record that is damaged or of the future is an error that says what it is.
    #[test]
    fn what_cannot_be_read_is_said() {
        let entry = window(&emission(), Lsn::FIRST, Timestamp::EPOCH).unwrap();
        let cut = Entry { body: entry.body.slice(..20), ..entry.clone() };
        assert!(matches!(read(&cut), Err(LoggedError::Wire(_))));
        let later = Entry { signal: 200, ..entry.clone() };
        assert_eq!(
            read(&later).unwrap_err().to_string(),
            "a record of kind 200 (encoding 0, compression 2), which this release does not know"
        );
        let odd = Entry { signal: DECISION, ..entry };
        assert!(matches!(read(&odd), Err(LoggedError::Json(_))));
    }
}
