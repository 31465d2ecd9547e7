//! What a span may take: measured on the start of the recorded capture, whose spans are those of a small shop.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use tracescale_archive::encode::{Hours, Origin, encode};
use tracescale_archive::name::WriterName;
use tracescale_archive::streams::{self, Ids};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;
use tracescale_ingest::{capture, decode};

const SPANS: usize = 12_000;

fn spans() -> Result<(Vec<RecordBatch>, Timestamp), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/shop.otlp.zst");
    let (mut batches, mut newest, mut rows) = (vec![], Timestamp::EPOCH, 0);
    for message in capture::Reader::new(File::open(path)?) {
        let message = message?;
        let mut decoded = decode::decode(message.signal, message.encoding, &message.body, Timestamp::EPOCH, &decode::Declared::default())?;
        let Some(time) = decoded.newest_time() else { continue };
        newest = newest.max(time);
        decoded.set_received_at(time)?;
        for (stream, batch) in decoded.batches {
            if stream == Stream::Spans {
                rows += batch.num_rows();
                batches.push(batch);
            }
        }
        if rows >= SPANS {
            break;
        }
    }
    assert!(rows >= SPANS);
    Ok((batches, newest))
}

/// Guarantees: a fresh file of 12 000 spans takes at most 60 bytes per span with all ids and 25 without.
#[test]
fn a_span_takes_at_most_60_bytes_with_ids_and_25_without() {
    let (batches, newest) = spans().unwrap();
    let origin = Origin { writer: WriterName::new("w").unwrap(), sequence: 1, at: newest };
    for (ids, most) in [(Ids::Full, 60), (Ids::Trace, 44), (Ids::None, 25)] {
        let files = encode(&streams::table(Stream::Spans, ids), &batches, &Hours::default(), &origin).unwrap();
        let (rows, bytes) = files.iter().fold((0, 0), |(rows, bytes), file| (rows + file.meta.rows, bytes + file.meta.bytes));
        assert!(bytes <= most * rows, "{ids:?}: {bytes} bytes for {rows} spans");
    }
}
