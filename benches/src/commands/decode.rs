//! OTLP bytes → Arrow, beside decoding with prost and dropping the result: time of one thread per span.

use std::hint::black_box;

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tracescale_benches::body::{Compression, Template};
use tracescale_benches::generate::{Attributes, BASE};
use tracescale_benches::measure::{Elapsed, Spread, Stopwatch, Table, float, nanos_per};
use tracescale_ingest::decode::{self, Encoding, Signal};

use super::Shape;

/// Arguments of `decode`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Measured rounds of each cell; one more is a warm-up.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Different requests per round.
    #[arg(long, default_value_t = 64)]
    requests: usize,
}

/// How the bodies of a cell are written.
#[derive(Clone, Copy)]
enum Written {
    Protobuf(Compression),
    Json,
}

struct Cell {
    attributes: Attributes,
    written: Written,
    bodies: Vec<Vec<u8>>,
    spans: u64,
    /// Decompressed protobuf or JSON, bytes.
    plain: u64,
    capacity: usize,
}

/// One round: decompress and parse with the reference; the same into Arrow.
#[derive(Default)]
struct Rounds {
    reference: Vec<f64>,
    arrow: Vec<f64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    println!("decode: {} requests of {} spans a round, {} rounds, one thread", args.requests, args.shape.spans(), args.rounds);
    println!("ns/span of thread CPU, `median (min–max)`; decompression is part of both columns\n");
    let titles = ["attributes", "body", "B/span", "prost, drop", "to Arrow", "Arrow / prost", "M spans/s/core", "MB/s plain"];
    let mut table = Table::new(&titles);
    for attributes in [Attributes::Six, Attributes::Fourteen] {
        let templates = args.shape.templates(attributes, args.requests)?;
        let compressions = Compression::ALL.map(Written::Protobuf);
        for written in compressions.into_iter().chain([Written::Json]) {
            let cell = Cell::new(attributes, written, &templates)?;
            let rounds = cell.measure(args.rounds)?;
            let arrow = Spread::of(&rounds.arrow);
            table.row(&[
                &attributes.count(),
                &written.name(),
                &format!("{:.0}", float(cell.bodies.iter().map(|body| body.len() as u64).sum()) / float(cell.spans)),
                &Spread::of(&rounds.reference),
                &arrow,
                &Spread::ratio(&rounds.arrow, &rounds.reference),
                &format!("{:.2}", 1e3 / arrow.median),
                &format!("{:.0}", float(cell.plain) / float(cell.spans) * 1e3 / arrow.median),
            ]);
        }
    }
    println!("{table}\nIn the JSON rows, \"prost\" is serde_json into the same structs.");
    Ok(())
}

// === impl Written ===

impl Written {
    const fn name(self) -> &'static str {
        match self {
            Self::Protobuf(Compression::None) => "protobuf",
            Self::Protobuf(Compression::Zstd) => "protobuf, zstd",
            Self::Protobuf(Compression::Gzip) => "protobuf, gzip",
            Self::Json => "JSON",
        }
    }
}

// === impl Cell ===

impl Cell {
    fn new(attributes: Attributes, written: Written, templates: &[Template]) -> Result<Self> {
        let (mut bodies, mut plain, mut capacity) = (Vec::new(), 0, 0);
        for template in templates {
            let (body, size) = match written {
                Written::Protobuf(compression) => (compression.compress(template.plain())?, template.plain().len()),
                Written::Json => {
                    let body = serde_json::to_vec(&ExportTraceServiceRequest::decode(template.plain())?)?;
                    let size = body.len();
                    (body, size)
                }
            };
            bodies.push(body);
            plain += size as u64;
            capacity = capacity.max(size);
        }
        let spans = templates.iter().map(Template::spans).sum();
        Ok(Self { attributes, written, bodies, spans, plain, capacity })
    }

    fn measure(&self, rounds: usize) -> Result<Rounds> {
        let mut measured = Rounds::default();
        for round in 0..=rounds {
            let (reference, arrow) = (self.reference()?, self.arrow()?);
            if round > 0 {
                measured.reference.push(nanos_per(reference.cpu, self.spans));
                measured.arrow.push(nanos_per(arrow.cpu, self.spans));
            }
        }
        Ok(measured)
    }

    fn reference(&self) -> Result<Elapsed> {
        let watch = Stopwatch::start();
        for body in &self.bodies {
            let request = match self.written {
                Written::Protobuf(Compression::None) => ExportTraceServiceRequest::decode(body.as_slice())?,
                Written::Protobuf(compression) => {
                    ExportTraceServiceRequest::decode(compression.decompress(body, self.capacity)?.as_slice())?
                }
                Written::Json => serde_json::from_slice(body)?,
            };
            drop(black_box(request));
        }
        Ok(watch.elapsed())
    }

    fn arrow(&self) -> Result<Elapsed> {
        let watch = Stopwatch::start();
        let mut items = 0;
        for body in &self.bodies {
            let plain;
            let (encoding, body) = match self.written {
                Written::Protobuf(Compression::None) => (Encoding::Protobuf, body),
                Written::Protobuf(compression) => {
                    plain = compression.decompress(body, self.capacity)?;
                    (Encoding::Protobuf, &plain)
                }
                Written::Json => (Encoding::Json, body),
            };
            let decoded = decode::decode(Signal::Traces, encoding, body, BASE, &decode::Declared::default())
                .with_context(|| format!("{} attributes, {}", self.attributes.count(), self.written.name()))?;
            items += decoded.items - decoded.rejected;
            drop(black_box(decoded));
        }
        let elapsed = watch.elapsed();
        anyhow::ensure!(items == self.spans, "{items} of {} spans were decoded", self.spans);
        Ok(elapsed)
    }
}
