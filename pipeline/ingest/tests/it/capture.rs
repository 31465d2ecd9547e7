//! Captures: every framing of the Collector's file exporter, and files that are cut, wrong or too large.

use std::error::Error as _;

use tracescale_ingest::capture::{Format, Message, Place, ReadError, Reader, WriteError, Writer, sniff};
use tracescale_ingest::decode::{Encoding, Signal, to_protobuf};

use crate::rows::decoded;

const TRACES: &[u8] = include_bytes!("../../../../testdata/otlp/traces.json");
const METRICS: &[u8] = include_bytes!("../../../../testdata/otlp/metrics.json");
const LOGS: &[u8] = include_bytes!("../../../../testdata/otlp/logs.json");
const ALL: [(Signal, &[u8]); 3] = [(Signal::Traces, TRACES), (Signal::Metrics, METRICS), (Signal::Logs, LOGS)];

fn read(capture: &[u8]) -> Vec<Result<Message, ReadError>> {
    Reader::new(capture).collect()
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn written(format: Format) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), format);
    for (signal, body) in ALL {
        writer.write(signal, Encoding::Json, body).unwrap();
    }
    writer.flush().unwrap();
    writer.into_inner()
}

/// Guarantees: what is written is read back, of the same signal and with the same rows, in both formats.
#[test]
fn captures_round_trip() {
    for (format, encoding) in [(Format::ProtoZstd, Encoding::Protobuf), (Format::Json, Encoding::Json)] {
        let messages = read(&written(format));
        assert_eq!(messages.len(), 3);
        for (message, (signal, body)) in messages.into_iter().zip(ALL) {
            let message = message.unwrap();
            assert_eq!((message.signal, message.encoding), (signal, encoding));
            let (original, copy) = (decoded(signal, Encoding::Json, body), decoded(signal, encoding, &message.body));
            assert_eq!(format!("{original:?}"), format!("{copy:?}"));
        }
    }
}

/// Guarantees: frames are read whether compressed or not, protobuf or JSON, and an empty one is passed over.
#[test]
fn every_framing_is_detected() {
    let protobuf = to_protobuf(Signal::Traces, Encoding::Json, TRACES).unwrap();
    let compressed = |body: &[u8]| zstd::bulk::compress(body, 1).unwrap();
    let capture = [frame(&protobuf), frame(&compressed(&protobuf)), frame(&[]), frame(METRICS), frame(&compressed(LOGS))].concat();
    let messages: Vec<_> = read(&capture).into_iter().map(Result::unwrap).collect();
    let signals: Vec<_> = messages.iter().map(|message| message.signal).collect();
    assert_eq!(signals, [Signal::Traces, Signal::Traces, Signal::Metrics, Signal::Logs]);
    assert_eq!(messages[1].body, *protobuf);
    assert_eq!(messages[1].place.offset, protobuf.len() as u64 + 4);
    let lines = [b"\n", oneline(TRACES).as_slice(), b"\r\n\n", oneline(LOGS).as_slice()].concat();
    assert_eq!(read(&lines).into_iter().map(|message| message.unwrap().signal).collect::<Vec<_>>(), [Signal::Traces, Signal::Logs]);
    assert!(read(&[]).is_empty());
}

fn oneline(json: &[u8]) -> Vec<u8> {
    json.iter().copied().filter(|byte| *byte != b'\n').collect()
}

/// Guarantees: a protobuf body is not taken for JSON when the length of its first resource is the code of an opening brace.
#[test]
fn a_length_is_not_a_brace() {
    let body = [&[0x0a, b'{', 0x1a, 121][..], &[b's'; 121]].concat();
    let messages = read(&[frame(&body), frame(METRICS)].concat());
    let encodings: Vec<_> = messages.into_iter().map(|message| message.unwrap().encoding).collect();
    assert_eq!(encodings, [Encoding::Protobuf, Encoding::Json]);
}

/// Guarantees: protobuf requests tell their signal by structure; one without items is metrics.
#[test]
fn signals_are_told_apart() {
    for (signal, body) in ALL {
        assert_eq!(sniff(&to_protobuf(signal, Encoding::Json, body).unwrap()), signal);
    }
    assert_eq!(sniff(&[]), Signal::Metrics);
    assert_eq!(sniff(&[0xFF; 32]), Signal::Metrics);
}

/// Guarantees: a capture cut at any byte gives every whole message, then one error that says where, then nothing.
#[test]
fn a_cut_capture_gives_its_whole_messages() {
    for format in [Format::ProtoZstd, Format::Json] {
        let capture = written(format);
        let starts: Vec<_> = read(&capture).into_iter().map(|message| message.unwrap().place.offset).collect();
        for cut in 1..capture.len() {
            let messages = read(&capture[..cut]);
            // A line that lacks only its line break is whole.
            let reach = cut as u64 + u64::from(format == Format::Json);
            let ends = starts[1..].iter().copied().chain([capture.len() as u64]);
            let whole = ends.filter(|end| *end <= reach).count();
            assert_eq!(messages.iter().filter(|message| message.is_ok()).count(), whole, "{format:?} cut at {cut}");
            match messages.last() {
                Some(Err(ReadError::Truncated { place, found })) => {
                    assert!(starts.contains(&place.offset), "{place}");
                    assert_eq!(*found, cut as u64 - place.offset);
                }
                Some(Err(error)) => panic!("{error}"),
                _ => assert_eq!(messages.len(), whole),
            }
        }
    }
}

/// Guarantees: no message may be larger than the limit, neither as stored nor decompressed; only where it is stored so is the next one
/// lost.
#[test]
fn sizes_are_bounded() {
    let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap();
    for capture in [frame(&vec![1; 70_000]), [b"{", " ".repeat(70_000).as_bytes()].concat()] {
        let messages: Vec<_> = Reader::new(&capture[..]).max_message(1 << 16).collect();
        assert_eq!(messages.len(), 1);
        assert!(matches!(messages[0], Err(ReadError::TooLarge { place: Place { offset: 0, .. }, limit: 65_536 })), "{messages:?}");
    }
    let messages: Vec<_> = Reader::new(&[frame(&bomb), frame(METRICS)].concat()[..]).max_message(1 << 16).collect();
    assert!(matches!(messages[..], [Err(ReadError::Corrupt { .. }), Ok(_)]), "{messages:?}");
    // Text that is no capture announces a gigantic frame.
    let error = read(b"end_time,service\n1,cart\n").remove(0).unwrap_err();
    assert_eq!(error.to_string(), "byte 0: the request would have more than 67108864 bytes");
}

/// Guarantees: damage is told with its place and its cause, and costs one message where the next one can be found, in both formats.
#[test]
fn damage_is_told() {
    let mut compressed = zstd::bulk::compress(TRACES, 1).unwrap();
    compressed.truncate(compressed.len() / 2);
    let messages = read(&[frame(METRICS), frame(&compressed), frame(b"{\"spans\":[]}"), frame(LOGS)].concat());
    let at = METRICS.len() + 4;
    let told = |message: &Result<Message, ReadError>| message.as_ref().map(|message| message.signal).map_err(ToString::to_string);
    assert_eq!(told(&messages[1]), Err(format!("byte {at}: the request cannot be decompressed")));
    assert!(messages[1].as_ref().is_err_and(|error| error.source().is_some()));
    let other = "no JSON object with resourceSpans, resourceMetrics or resourceLogs";
    assert_eq!(told(&messages[2]), Err(format!("byte {}: {other}", at + compressed.len() + 4)));
    assert_eq!((told(&messages[3]), messages.len()), (Ok(Signal::Logs), 4));

    let first = oneline(METRICS);
    let lines = [&first, b"\n\n{\"spans\":[]}\r\nhello\n \t".as_slice(), &oneline(LOGS)].concat();
    let told: Vec<_> = read(&lines).iter().map(told).collect();
    let wrong = |line, offset| Err(format!("line {line} (byte {offset}): {other}"));
    assert_eq!(told, [Ok(Signal::Metrics), wrong(3, first.len() + 2), wrong(4, first.len() + 16), Ok(Signal::Logs)]);
}

/// Guarantees: a recording never loses values silently; protobuf recordings take everything.
#[test]
fn what_json_cannot_hold_is_refused() {
    let protobuf = to_protobuf(Signal::Metrics, Encoding::Json, METRICS).unwrap();
    let mut json = Writer::new(Vec::new(), Format::Json);
    assert!(matches!(json.write(Signal::Metrics, Encoding::Protobuf, &protobuf), Err(WriteError::Transcode(_))));
    assert!(json.into_inner().is_empty());
    let traces = to_protobuf(Signal::Traces, Encoding::Json, TRACES).unwrap();
    let mut json = Writer::new(Vec::new(), Format::Json);
    json.write(Signal::Traces, Encoding::Protobuf, &traces).unwrap();
    let message = read(&json.into_inner()).remove(0).unwrap();
    assert_eq!(to_protobuf(Signal::Traces, message.encoding, &message.body).unwrap(), traces);
}
