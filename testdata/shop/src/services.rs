//! The services of the shop, what each does with a request, and how much it can carry.
//!
//! ```text
//! load ─▶ gateway ─▶ catalog ─▶ orders-db
//!              └───▶ checkout ─▶ catalog, orders-db, payments
//!                        └─────▶ queue `orders` ─▶ worker ─▶ orders-db
//! ```

use std::sync::Arc;

use http::{Method, StatusCode};
use opentelemetry::trace::{Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::metrics::Temporality;

use crate::instance::Instance;
use crate::world::World;

/// A service of the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Service {
    Gateway,
    Checkout,
    Catalog,
    Payments,
    Worker,
}

/// How much one instance can carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Requests worked on at once; one holds its worker until it is answered, as a thread per request does.
    pub(crate) workers: u32,
    /// Requests that may wait for a worker; further ones are answered with 503.
    pub(crate) backlog: u32,
    /// Mean time that the service itself works on a request, in seconds.
    pub(crate) work: f64,
    /// Waiting happens before the server span begins, as in a listen backlog: only the caller's span shows it.
    pub(crate) hidden_wait: bool,
    pub(crate) replicas: u32,
}

// === impl Service ===

impl Service {
    pub(crate) const ALL: [Self; 5] = [Self::Gateway, Self::Checkout, Self::Catalog, Self::Payments, Self::Worker];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Checkout => "checkout",
            Self::Catalog => "catalog",
            Self::Payments => "payments",
            Self::Worker => "worker",
        }
    }

    /// What names of faults begin with.
    pub(crate) const fn stem(self) -> &'static str {
        match self {
            Self::Payments => "payment",
            other => other.name(),
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    pub(crate) fn from_stem(stem: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.stem() == stem)
    }

    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Gateway => "3.1.0",
            Self::Checkout => "2.4.1",
            Self::Catalog => "1.9.0",
            Self::Payments => "5.0.2",
            Self::Worker => "1.2.0",
        }
    }

    pub(crate) const fn size(self) -> Size {
        const fn size(workers: u32, backlog: u32, work: f64, replicas: u32) -> Size {
            Size { workers, backlog, work, hidden_wait: false, replicas }
        }
        match self {
            Self::Gateway => size(64, 256, 0.002, 2),
            Self::Checkout => size(8, 64, 0.015, 2),
            Self::Catalog => size(8, 64, 0.008, 2),
            Self::Payments => Size { hidden_wait: true, ..size(6, 64, 0.040, 2) },
            Self::Worker => size(4, 0, 0.060, 1),
        }
    }

    /// Both temporalities occur: catalog reports deltas, the others cumulative values.
    pub(crate) const fn temporality(self) -> Temporality {
        match self {
            Self::Catalog => Temporality::Delta,
            _ => Temporality::Cumulative,
        }
    }

    /// Both kinds of histograms occur: gateway and catalog use exponential ones.
    pub(crate) const fn exponential_histograms(self) -> bool {
        matches!(self, Self::Gateway | Self::Catalog)
    }

    /// The route template of a request, or none when the service has no such resource.
    pub(crate) fn route(self, method: &Method, path: &str) -> Option<&'static str> {
        let get = method == Method::GET;
        match (self, path.split('/').nth(1).unwrap_or_default()) {
            (Self::Gateway | Self::Catalog, "products") if get && path == "/products" => Some("/products"),
            (Self::Gateway | Self::Catalog, "products") if get => Some("/products/{id}"),
            (Self::Gateway | Self::Checkout, "orders") if !get => Some("/orders"),
            (Self::Payments, "charges") if !get => Some("/charges"),
            _ => None,
        }
    }

    /// Answers one request on `instance`; the worker is held meanwhile.
    pub(crate) async fn answer(self, world: &Arc<World>, instance: &Arc<Instance>, cx: &Context, path: &str) -> StatusCode {
        let ok = match self {
            Self::Gateway => return gateway(world, instance, cx, path).await,
            Self::Checkout => return checkout(world, instance, cx).await,
            Self::Catalog => {
                instance.work(world, 1.0).await;
                let operation = if path == "/products" { 2.0 } else { 1.0 };
                world.database.run(world, instance, cx, "SELECT", "products", operation).await
            }
            Self::Payments | Self::Worker => {
                instance.work(world, 1.0).await;
                true
            }
        };
        if ok && !world.fails(self) { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
    }
}

async fn gateway(world: &Arc<World>, instance: &Arc<Instance>, cx: &Context, path: &str) -> StatusCode {
    instance.work(world, 1.0).await;
    let answer = if path == "/orders" {
        instance.call(world, cx, Service::Checkout, Method::POST, "/orders").await
    } else {
        instance.call(world, cx, Service::Catalog, Method::GET, path).await
    };
    match answer {
        Some(status) if status.is_server_error() => StatusCode::BAD_GATEWAY,
        Some(status) if !world.fails(Service::Gateway) => status,
        Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
        None => StatusCode::GATEWAY_TIMEOUT,
    }
}

async fn checkout(world: &Arc<World>, instance: &Arc<Instance>, cx: &Context) -> StatusCode {
    let attributes = [KeyValue::new("shop.basket.items", i64::from(world.draw(1..=6)))];
    let span = instance.telemetry.tracer.span_builder("price basket").with_attributes(attributes);
    let price = cx.with_span(instance.telemetry.tracer.build_with_context(span, cx));
    instance.work(world, 1.0).await;
    let stock = instance.call(world, &price, Service::Catalog, Method::GET, "/products/42").await;
    if !stock.is_some_and(|status| status.is_success()) {
        price.span().set_status(Status::error("stock unknown"));
    }
    price.span().end();
    if world.fails(Service::Checkout) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    // The charge and the row do not wait for each other: the two calls overlap.
    let (stored, charged) = tokio::join!(
        world.database.run(world, instance, cx, "INSERT", "orders", 1.5),
        instance.call(world, cx, Service::Payments, Method::POST, "/charges"),
    );
    if !(stored && charged.is_some_and(|status| status.is_success())) {
        return StatusCode::BAD_GATEWAY;
    }
    if world.queue.send(instance, cx) { StatusCode::CREATED } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: names and stems find their service again, and routes are templates, not paths.
    #[test]
    fn names_and_routes() {
        for service in Service::ALL {
            assert_eq!(Service::from_name(service.name()), Some(service));
            assert_eq!(Service::from_stem(service.stem()), Some(service));
        }
        assert_eq!(Service::Gateway.route(&Method::GET, "/products/7"), Some("/products/{id}"));
        assert_eq!(Service::Gateway.route(&Method::POST, "/orders"), Some("/orders"));
        assert_eq!(Service::Payments.route(&Method::GET, "/charges"), None);
        assert_eq!(Service::Worker.route(&Method::GET, "/orders"), None);
    }
}
