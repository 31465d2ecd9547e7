//! `orders-db`: a dependency without telemetry of its own. Only so many statements run at once; the others wait inside
//! the caller's client span, as they do when a database is the bottleneck.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::instance::{Instance, stretch};
use crate::world::World;

/// Mean time of a statement, in seconds.
const STATEMENT: f64 = 0.004;

/// The database.
#[derive(Debug)]
pub(crate) struct Database {
    slots: Semaphore,
}

// === impl Database ===

impl Database {
    /// A database that runs `slots` statements at once.
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots: Semaphore::new(slots as usize) }
    }

    /// Runs a statement of `amount` times the mean; false when it failed.
    pub(crate) async fn run(
        &self,
        world: &Arc<World>,
        from: &Instance,
        cx: &Context,
        operation: &'static str,
        table: &'static str,
        amount: f64,
    ) -> bool {
        let attributes = [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.namespace", "orders"),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.collection.name", table),
            KeyValue::new("server.address", "orders-db"),
            KeyValue::new("server.port", 5432),
        ];
        let summary = format!("{operation} {table}");
        let builder = from
            .telemetry
            .tracer
            .span_builder(summary.clone())
            .with_kind(SpanKind::Client)
            .with_attributes(attributes.iter().cloned().chain([KeyValue::new("db.query.summary", summary), peer()]));
        let cx = cx.with_span(from.telemetry.tracer.build_with_context(builder, cx));
        let begin = Instant::now();
        let faults = world.faults.now().database;
        let slot = self.slots.acquire().await;
        tokio::time::sleep(Duration::from_secs_f64(STATEMENT * amount * faults.slow * stretch(from.random()))).await;
        drop(slot);
        let failed = from.random() < faults.errors;
        let mut labels = attributes[..4].to_vec();
        if failed {
            let error = KeyValue::new("error.type", "40001");
            cx.span().set_attributes([error.clone(), KeyValue::new("db.response.status_code", "40001")]);
            cx.span().set_status(Status::error("could not serialize access"));
            labels.push(error);
        }
        cx.span().end();
        from.telemetry.instruments.database_duration.record(begin.elapsed().as_secs_f64(), &labels);
        !failed
    }
}

fn peer() -> KeyValue {
    KeyValue::new("service.peer.name", "orders-db")
}
