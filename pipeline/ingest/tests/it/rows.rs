//! Cells of batches as text, so that a test states a row the way one reads it.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::decode::{Declared, Decoded, Encoding, Signal, decode};

/// When every test request arrives.
pub(crate) const RECEIVED_AT: Timestamp = Timestamp::from_secs(1_700_000_100);

/// Decodes a request that must be readable.
pub(crate) fn decoded(signal: Signal, encoding: Encoding, body: &[u8]) -> Decoded {
    decode(signal, encoding, body, RECEIVED_AT, &Declared::default()).unwrap()
}

/// The batch of `stream`.
pub(crate) fn batch(decoded: &Decoded, stream: Stream) -> &RecordBatch {
    decoded.batches.iter().find(|(of, _)| *of == stream).map(|(_, batch)| batch).unwrap()
}

/// A column as text, NULL as `-`.
pub(crate) fn column(batch: &RecordBatch, name: &str) -> Vec<String> {
    let array = batch.column_by_name(name).unwrap();
    let options = FormatOptions::new().with_null("-");
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    (0..batch.num_rows()).map(|row| formatter.value(row).to_string()).collect()
}

/// A binary column, row by row.
pub(crate) fn bytes(batch: &RecordBatch, name: &str) -> Vec<Vec<u8>> {
    let array = arrow::compute::cast(batch.column_by_name(name).unwrap(), &arrow::datatypes::DataType::Binary).unwrap();
    let array = arrow::array::AsArray::as_binary::<i32>(&array);
    array.iter().map(|value| value.unwrap_or_default().to_vec()).collect()
}
