//! Derived streams run through the engine like decoded ones, with a watermark that trails by their delay.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, TimestampNanosecondArray, new_null_array};
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use tracescale_core::schema::{Stream, dictionary};
use tracescale_core::time::Timestamp;
use tracescale_queries::config::{EngineConfig, EngineParts};
use tracescale_queries::derive::{Derive, DeriveError};
use tracescale_queries::engine::Engine;

use crate::engine_rows::{span, spans, text, views};

/// One row of activity per span; half of them are held back until the watermark has passed.
#[derive(Default)]
struct Busy {
    held: Vec<RecordBatch>,
}

impl Derive for Busy {
    fn output(&self) -> Stream {
        Stream::Activity
    }

    fn inputs(&self) -> &'static [Stream] {
        &[Stream::Spans]
    }

    fn push(&mut self, _: Stream, batch: &RecordBatch) -> Result<Vec<RecordBatch>, DeriveError> {
        let times = batch.column_by_name("end_time").unwrap().as_primitive::<TimestampNanosecondType>();
        let durations = batch.column_by_name("duration").unwrap().as_primitive::<Float64Type>();
        let rows = batch.num_rows();
        let number = |value: f64| -> ArrayRef { Arc::new(Float64Array::from_value(value, rows)) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from_iter_values(times.values().iter().copied())),
            Arc::clone(batch.column_by_name("service_name").unwrap()),
            new_null_array(&dictionary(), rows),
            new_null_array(&dictionary(), rows),
            number(1.0),
            number(1.0),
            Arc::new(durations.clone()),
            number(0.0),
            Arc::new(Int64Array::from_value(1, rows)),
            number(1.0),
        ];
        let derived = RecordBatch::try_new(Stream::Activity.schema(), columns).unwrap();
        self.held.push(derived.slice(0, rows / 2));
        Ok(vec![derived.slice(rows / 2, rows - rows / 2)])
    }

    fn advance(&mut self, _: Timestamp) -> Result<Vec<RecordBatch>, DeriveError> {
        Ok(std::mem::take(&mut self.held))
    }

    fn delay(&self) -> Duration {
        Duration::from_secs(7)
    }
}

/// Guarantees: rows that an operator gives out at once and at the watermark are both counted, and final windows wait for its delay.
#[tokio::test]
async fn derived_rows_are_windowed_after_their_delay() {
    let sql = "CREATE VIEW busy AS SELECT window_end, service_name, sum(busy_seconds) AS busy, sum(spans) AS spans \
               FROM TUMBLE(activity, time, INTERVAL '5 seconds') GROUP BY window_end, service_name";
    let parts = EngineParts { views: views(&[sql]), derives: vec![Box::new(Busy::default())], ..EngineParts::default() };
    let mut engine = Engine::with_parts(EngineConfig::default(), parts).await.unwrap();
    let at = Timestamp::from_secs;
    let rows = [span(1_001_000, "a", 1.0), span(1_002_000, "a", 2.0), span(1_003_000, "b", 4.0)];
    engine.push("x", vec![(Stream::Spans, spans(&rows))], at(1_003)).await.unwrap();
    engine.push("x", vec![(Stream::Spans, spans(&[span(1_016_000, "b", 1.0)]))], at(1_016)).await.unwrap();
    // The spans are complete up to 1006, activity only up to 999.
    let early = engine.advance(at(1_016)).await.unwrap();
    assert!(early.iter().all(|emission| !emission.is_final), "{early:?}");
    let finals = engine.advance(at(1_027)).await.unwrap();
    let first = finals.iter().find(|emission| emission.is_final && emission.window_end == at(1_005)).unwrap();
    assert_eq!(text(&first.rows, &["service_name", "busy", "spans"]), ["a 3.0 2", "b 4.0 1"]);
}
