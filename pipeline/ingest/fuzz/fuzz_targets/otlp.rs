//! Feeds bytes to everything that reads what strangers send: nothing may panic, and what must agree is compared.
//!
//! The input is taken as a request of every signal in both encodings, as a capture, and as raw attributes. From the
//! folder of this crate's workspace (see the command in `.ci/run`):
//! `cargo fuzz run otlp corpus ../../../testdata/otlp -- -max_total_time=60`

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracescale_core::attributes::iter;
use tracescale_core::time::Timestamp;
use tracescale_ingest::capture::{Format, Reader, Writer, sniff};
use tracescale_ingest::decode::{Declared, Encoding, Signal, decode, to_json, to_protobuf};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fuzz_target!(|input: &[u8]| {
    for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            request(signal, encoding, input);
        }
    }
    for message in Reader::new(input).max_message(1 << 16).flatten() {
        let _ = decode(message.signal, message.encoding, &message.body, NOW, &Declared::default());
    }
    for (key, value) in iter(input) {
        let _ = (key.len(), value.text(), value.integer(), value.double());
    }
    let _ = sniff(input);
});

/// Decodes, and checks that counts add up, that a JSON body means the same in protobuf, and that captures keep it.
fn request(signal: Signal, encoding: Encoding, body: &[u8]) {
    let Ok(decoded) = decode(signal, encoding, body, NOW, &Declared::default()) else { return };
    let rows: usize = decoded.batches.first().map_or(0, |(_, batch)| batch.num_rows());
    if signal != Signal::Logs {
        assert_eq!(decoded.items - decoded.rejected, rows as u64);
    }
    assert_eq!(decoded.rejected == 0, decoded.rejected_reason.is_empty());
    for (stream, batch) in &decoded.batches {
        assert_eq!(batch.schema(), stream.schema());
    }
    if encoding == Encoding::Json {
        let Ok(protobuf) = to_protobuf(signal, encoding, body) else { panic!("decoded, but not transcoded") };
        // Maps nested deeper than protobuf parsers follow are the one thing that JSON may say and protobuf not.
        if let Ok(again) = decode(signal, Encoding::Protobuf, &protobuf, NOW, &Declared::default()) {
            assert_eq!(format!("{again:?}"), format!("{decoded:?}"));
        }
    } else if to_json(signal, encoding, body).is_ok() {
        let mut writer = Writer::new(Vec::new(), Format::Json);
        assert!(writer.write(signal, encoding, body).is_ok());
        assert!(Reader::new(&writer.into_inner()[..]).all(|message| message.is_ok_and(|message| message.signal == signal)));
    }
}
