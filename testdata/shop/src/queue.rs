//! The queue between checkout and worker: the asynchronous hop.
//!
//! A message carries the context of its producer span. The consumer's process span is a child of that context and links
//! to it, as the messaging conventions advise for messages handled one by one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Link, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::headers::{Extract, Inject};
use crate::instance::{Instance, Phase};
use crate::services::Service;
use crate::world::World;

const NAME: &str = "orders";
/// Messages the queue holds; more are refused to the producer.
const CAPACITY: usize = 20_000;
/// How often a consumer looks whether it may take messages again after a stall.
const STALL: Duration = Duration::from_millis(50);

/// A bounded first-in-first-out queue in memory.
#[derive(Debug)]
pub(crate) struct Queue {
    messages: Mutex<VecDeque<Message>>,
    available: Semaphore,
}

#[derive(Debug)]
struct Message {
    id: String,
    headers: HeaderMap,
}

// === impl Queue ===

impl Default for Queue {
    fn default() -> Self {
        Self { messages: Mutex::new(VecDeque::new()), available: Semaphore::new(0) }
    }
}

impl Queue {
    /// Messages that no consumer has taken.
    pub(crate) fn len(&self) -> usize {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sends a message within a producer span; false when the queue is full.
    pub(crate) fn send(&self, from: &Instance, cx: &Context) -> bool {
        let id = format!("{:016x}", from.random().to_bits());
        let builder = from
            .telemetry
            .tracer
            .span_builder(format!("send {NAME}"))
            .with_kind(SpanKind::Producer)
            .with_attributes(attributes("send", &id));
        let cx = cx.with_span(from.telemetry.tracer.build_with_context(builder, cx));
        let mut headers = HeaderMap::new();
        TraceContextPropagator::new().inject_context(&cx, &mut Inject(&mut headers));
        let accepted = {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            let room = messages.len() < CAPACITY;
            if room {
                messages.push_back(Message { id, headers });
            }
            room
        };
        let mut labels = attributes("send", "")[..4].to_vec();
        if accepted {
            self.available.add_permits(1);
        } else {
            cx.span().set_attribute(KeyValue::new("error.type", "queue_full"));
            cx.span().set_status(Status::error("queue full"));
            labels.push(KeyValue::new("error.type", "queue_full"));
        }
        from.telemetry.instruments.sent_messages.add(1, &labels);
        cx.span().end();
        accepted
    }

    async fn receive(&self) -> Option<Message> {
        self.available.acquire().await.ok()?.forget();
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

fn attributes(operation: &'static str, id: &str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "shop_queue"),
        KeyValue::new("messaging.destination.name", NAME),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("messaging.message.id", id.to_owned()),
        KeyValue::new("server.address", "queue"),
    ]
}

/// Starts the consumers of a worker instance: one per worker of its size.
pub(crate) fn consume(world: &Arc<World>, instance: &Arc<Instance>) {
    let queue = Arc::clone(&world.queue);
    instance.telemetry.observe_queue(NAME, move || queue.len() as u64);
    for _ in 0..instance.service.size().workers {
        tokio::spawn(consumer(Arc::clone(world), Arc::clone(instance)));
    }
}

async fn consumer(world: Arc<World>, instance: Arc<Instance>) {
    let mut phase = instance.phase.subscribe();
    loop {
        if world.faults.now().of(Service::Worker).stall {
            tokio::select! {
                () = tokio::time::sleep(STALL) => continue,
                _changed = phase.changed() => return,
            }
        }
        let message = tokio::select! {
            biased;
            _changed = phase.wait_for(|phase| *phase != Phase::Serving) => return,
            message = world.queue.receive() => message,
        };
        if let Some(message) = message {
            let usage = &instance.telemetry.usage;
            usage.inside.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            process(&world, &instance, message).await;
            usage.inside.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

async fn process(world: &Arc<World>, instance: &Arc<Instance>, message: Message) {
    let begin = Instant::now();
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Extract(&message.headers));
    let link = Link::new(parent.span().span_context().clone(), vec![KeyValue::new("messaging.message.id", message.id.clone())], 0);
    let mut described = attributes("process", &message.id);
    described.push(KeyValue::new("messaging.consumer.group.name", "worker"));
    let builder = instance
        .telemetry
        .tracer
        .span_builder(format!("process {NAME}"))
        .with_kind(SpanKind::Consumer)
        .with_attributes(described.clone())
        .with_links(vec![link]);
    let cx = parent.with_span(instance.telemetry.tracer.build_with_context(builder, &parent));
    let stored = world.database.run(world, instance, &cx, "UPDATE", "orders", 1.0).await;
    let done = Service::Worker.answer(world, instance, &cx, "").await.is_success() && stored;
    let mut labels = described[..4].to_vec();
    if !done {
        cx.span().set_attribute(KeyValue::new("error.type", "processing_failed"));
        cx.span().set_status(Status::error("processing failed"));
        labels.push(KeyValue::new("error.type", "processing_failed"));
    }
    cx.span().end();
    instance.telemetry.instruments.process_duration.record(begin.elapsed().as_secs_f64(), &labels);
}
