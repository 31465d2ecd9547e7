//! Verdicts on small systems whose fault is known.

use proptest::prelude::*;

use super::*;
use crate::interval::{Node, Span};

/// Figures of a shop in one window: a frontend that calls currency, cart and catalog a thousand times each.
fn shop() -> Window {
    let service = |name: &str, sojourn: f64, self_time: f64, utilization: f64| Service {
        name: name.to_owned(),
        requests: 1000.0,
        sojourn: Some(sojourn),
        self_time: Some(self_time),
        utilization: Some(utilization),
        ..Service::default()
    };
    let edge = |server: &str, server_duration: f64| Edge {
        client: "frontend".to_owned(),
        server: server.to_owned(),
        calls: 1000.0,
        client_duration: Some(server_duration + 0.002),
        server_duration: Some(server_duration),
        wait: Some(0.002),
        wait_floor: Some(0.001),
        ..Edge::default()
    };
    Window {
        services: vec![
            service("frontend", 0.05, 0.014, 0.3),
            service("currency", 0.01, 0.01, 0.5),
            service("cart", 0.01, 0.01, 0.2),
            service("catalog", 0.01, 0.01, 0.3),
        ],
        edges: vec![edge("currency", 0.01), edge("cart", 0.01), edge("catalog", 0.01)],
    }
}

fn usual() -> Baseline {
    Baseline::learn(&vec![shop(); 6])
}

fn service<'w>(window: &'w mut Window, name: &str) -> &'w mut Service {
    window.services.iter_mut().find(|service| service.name == name).unwrap()
}

fn slow_call(window: &mut Window, server: &str, wait: f64, floor: f64) {
    let edge = window.edges.iter_mut().find(|edge| edge.server == server).unwrap();
    (edge.wait, edge.wait_floor) = (Some(wait), Some(floor));
    edge.client_duration = edge.server_duration.map(|time| time + wait);
    let calls = window.edges.iter().filter_map(|edge| edge.client_duration).sum::<f64>();
    let frontend = service(window, "frontend");
    frontend.sojourn = frontend.self_time.map(|time| time + calls);
}

fn blocked_by(service: &str) -> Help {
    Help::No { blocked_by: service.to_owned() }
}

/// Guarantees: what is as usual has no cause, and nothing is said for or against scaling.
#[test]
fn the_usual_has_no_cause() {
    let verdict = judge(&shop(), &usual());
    assert_eq!((verdict.culprit(), verdict.would_help("frontend")), (None, Help::Unknown));
}

/// Guarantees: a queue in front of a busy service makes that service the cause, although all of the time was measured at its
/// caller; the caller is a victim and would not be helped.
#[test]
fn the_victim_is_not_the_cause() {
    let mut window = shop();
    slow_call(&mut window, "currency", 1.5, 0.1);
    service(&mut window, "currency").utilization = Some(0.99);
    service(&mut window, "frontend").utilization = Some(0.1);
    let verdict = judge(&window, &usual());
    let culprit = verdict.culprit().unwrap();
    assert_eq!((culprit.service.as_str(), culprit.kind), ("currency", Kind::Capacity));
    assert!(culprit.score > 0.99 && culprit.share > 0.9 && culprit.queue_share > 0.99, "{culprit:?}");
    assert_eq!(verdict.would_help("currency"), Help::Yes);
    assert_eq!(verdict.would_help("frontend"), blocked_by("currency"));
    assert_eq!(verdict.would_help("somebody else"), Help::Unknown);
}

/// Guarantees: without any utilization a wait that varies is a queue and one that does not is the network.
#[test]
fn a_constant_delay_is_the_network() {
    for (floor, kind, help) in [(0.05, Kind::Capacity, Help::Yes), (0.59, Kind::Network, blocked_by("currency"))] {
        let mut window = shop();
        slow_call(&mut window, "currency", 0.6, floor);
        service(&mut window, "currency").utilization = None;
        let verdict = judge(&window, &usual());
        assert_eq!((verdict.culprit().unwrap().kind, verdict.would_help("currency")), (kind, help), "{floor}");
    }
}

/// Guarantees: a mean that a few slow calls made, while the fastest are as fast as ever, is no proof of a queue.
#[test]
fn a_few_slow_calls_are_no_queue() {
    let mut window = shop();
    slow_call(&mut window, "currency", 0.6, 0.001);
    service(&mut window, "currency").utilization = None;
    assert_eq!(judge(&window, &usual()).culprit().unwrap().kind, Kind::Unknown);
}

/// Guarantees: a queue in front of a service that does less than usual, or nearly nothing, is not one for its processor.
#[test]
fn a_queue_before_an_idle_service_is_no_lack_of_capacity() {
    for utilization in [0.45, 0.05] {
        let mut window = shop();
        slow_call(&mut window, "currency", 0.6, 0.05);
        service(&mut window, "currency").utilization = Some(utilization);
        assert_eq!(judge(&window, &usual()).culprit().unwrap().kind, Kind::NotCapacity);
    }
}

/// Guarantees: longer own work at low utilization is not capacity, at high utilization it is, and while the utilization rises
/// below that, or is not known, nobody knows; the caller is not blamed in any case.
#[test]
fn own_work_is_judged_by_utilization() {
    let cases = [(Some(0.25), Kind::NotCapacity), (Some(0.8), Kind::Unknown), (Some(0.9), Kind::Capacity), (None, Kind::Unknown)];
    for (utilization, kind) in cases {
        let mut window = shop();
        let cart = service(&mut window, "cart");
        (cart.sojourn, cart.self_time, cart.utilization) = (Some(0.4), Some(0.4), utilization);
        let verdict = judge(&window, &usual());
        assert_eq!(verdict.causes.len(), 1, "{verdict:?}");
        let culprit = verdict.culprit().unwrap();
        assert_eq!((culprit.service.as_str(), culprit.kind), ("cart", kind));
        assert_eq!(verdict.would_help("catalog"), Help::Unknown);
        assert_eq!(verdict.would_help("frontend"), blocked_by("cart"));
    }
}

/// Guarantees: throttling at a low mean utilization asks for a larger limit, not for replicas.
#[test]
fn throttling_is_the_limit() {
    let mut window = shop();
    let cart = service(&mut window, "cart");
    (cart.self_time, cart.throttled) = (Some(0.4), Some(0.2));
    let verdict = judge(&window, &usual());
    assert_eq!((verdict.culprit().unwrap().kind, verdict.would_help("cart")), (Kind::CpuLimit, blocked_by("cart")));
}

/// Guarantees: a rise of failures at a service with capacity to spare is an event, not a reason to scale.
#[test]
fn failures_are_no_lack_of_capacity() {
    let mut window = shop();
    service(&mut window, "currency").error_share = Some(0.0);
    let usual = Baseline::learn(&vec![window.clone(); 6]);
    slow_call(&mut window, "currency", 0.6, 0.05);
    (service(&mut window, "currency").utilization, service(&mut window, "currency").error_share) = (Some(0.6), Some(0.3));
    assert_eq!(judge(&window, &usual).culprit().unwrap().kind, Kind::NotCapacity);
}

/// Guarantees: when all calls of a client got slower alike, the client is the cause, not whom it calls.
#[test]
fn what_all_calls_share_belongs_to_the_client() {
    let mut window = shop();
    for server in ["currency", "cart", "catalog"] {
        slow_call(&mut window, server, 0.3, 0.05);
    }
    let verdict = judge(&window, &usual());
    assert_eq!(verdict.causes.iter().map(|cause| cause.service.as_str()).collect::<Vec<_>>(), ["frontend"]);
}

/// Guarantees: what one of two callers of a server sees alone is not a queue in front of that server.
#[test]
fn what_one_caller_sees_alone_is_not_the_servers() {
    let mut window = shop();
    window.edges.push(Edge { client: "cart".to_owned(), ..window.edges[2].clone() });
    let usual = Baseline::learn(&vec![window.clone(); 6]);
    let edge = &mut window.edges[3];
    (edge.wait, edge.wait_floor, edge.client_duration) = (Some(0.3), Some(0.05), Some(0.31));
    let verdict = judge(&window, &usual);
    assert_eq!(verdict.causes.iter().map(|cause| cause.service.as_str()).collect::<Vec<_>>(), ["cart"]);
    assert_ne!(verdict.would_help("catalog"), Help::Yes);
}

/// Guarantees: a dependency that only its callers measure is named, and nobody is scaled for it.
#[test]
fn a_slow_dependency_is_named() {
    let database = |duration| Edge {
        client: "cart".to_owned(),
        server: "database".to_owned(),
        calls: 1000.0,
        client_duration: Some(duration),
        ..Edge::default()
    };
    let mut window = shop();
    window.edges.push(database(0.005));
    let usual = Baseline::learn(&vec![window.clone(); 6]);
    window.edges.pop();
    window.edges.push(database(0.5));
    service(&mut window, "cart").sojourn = Some(0.51);
    let verdict = judge(&window, &usual);
    assert_eq!((verdict.culprit().unwrap().service.as_str(), verdict.culprit().unwrap().kind), ("database", Kind::Dependency));
    assert_eq!(verdict.would_help("cart"), blocked_by("database"));
    assert_eq!(verdict.would_help("frontend"), blocked_by("database"));
}

/// Guarantees: a service whose newest measurement left the idle is not called idle because the mean of the window still is, and one
/// whose measurements are as high as ever is.
#[test]
fn a_processor_on_its_way_up_is_not_idle() {
    let mut calm = shop();
    service(&mut calm, "currency").utilization = Some(0.1);
    service(&mut calm, "currency").peak_utilization = Some(0.2);
    let baseline = Baseline::learn(&vec![calm.clone(); 6]);
    for (peak, expected) in [(Some(0.9), Kind::Unknown), (Some(0.2), Kind::NotCapacity), (None, Kind::NotCapacity)] {
        let mut window = calm.clone();
        let currency = service(&mut window, "currency");
        (currency.self_time, currency.utilization, currency.peak_utilization) = (Some(0.1), Some(0.3), peak);
        let verdict = judge(&window, &baseline);
        assert_eq!(verdict.culprit().map(|cause| (cause.service.as_str(), cause.kind)), Some(("currency", expected)), "{peak:?}");
    }
}

/// Guarantees: spans that stand for many requests are as few as they are: a dozen of them is no mean of a thousand requests.
#[test]
fn sampled_requests_are_few() {
    for (samples, expected) in [(None, Some("currency")), (Some(50.0), Some("currency")), (Some(12.0), None)] {
        let mut window = shop();
        slow_call(&mut window, "currency", 0.1, 0.05);
        window.services.iter_mut().for_each(|service| service.samples = samples);
        window.edges.iter_mut().for_each(|edge| edge.samples = samples);
        let verdict = judge(&window, &usual());
        assert_eq!(verdict.culprit().map(|cause| cause.service.as_str()), expected, "{verdict:?}");
        let mut window = shop();
        service(&mut window, "currency").self_time = Some(0.1);
        service(&mut window, "currency").samples = samples;
        assert_eq!(judge(&window, &usual()).culprit().is_some(), expected.is_some());
    }
}

/// Guarantees: a service with too few requests for a mean is judged by its saturation alone, and one that is always busy is
/// no news.
#[test]
fn saturation_needs_no_latency() {
    let mut window = shop();
    let cart = service(&mut window, "cart");
    (cart.requests, cart.self_time, cart.utilization) = (5.0, Some(3.0), Some(0.95));
    let verdict = judge(&window, &usual());
    assert_eq!((verdict.culprit().unwrap().service.as_str(), verdict.would_help("cart")), ("cart", Help::Yes));
    let always = Baseline::learn(&vec![window.clone(); 6]);
    assert_eq!(judge(&window, &always).culprit(), None);
    service(&mut window, "cart").utilization = Some(0.5);
    assert_eq!(judge(&window, &usual()).culprit(), None);
}

/// Guarantees: nothing that is no number makes a verdict.
#[test]
fn no_numbers_no_verdict() {
    let mut window = shop();
    let cart = service(&mut window, "cart");
    (cart.self_time, cart.sojourn, cart.utilization) = (Some(f64::NAN), Some(f64::INFINITY), Some(f64::NAN));
    slow_call(&mut window, "currency", f64::NAN, f64::NAN);
    assert_eq!(judge(&window, &usual()).culprit(), None);
    assert_eq!(judge(&Window::default(), &Baseline::default()).culprit(), None);
}

fn call_trace(queue: f64) -> Path {
    let span = |service, start: f64, end: f64, parent, is_call| PathSpan {
        node: Node { span: Span { start, end }, parent },
        service,
        target: None,
        is_call,
    };
    let end = 20.0 + queue;
    let spans = [
        span("frontend", 0.0, end + 10.0, None, false),
        span("frontend", 10.0, end, Some(0), true),
        span("currency", end - 5.0, end - 1.0, Some(1), false),
    ];
    critical_services(&spans).unwrap()
}

/// Guarantees: on the critical path of a trace the time of a call that the server did not see is the server's.
#[test]
fn uncovered_time_of_a_call_is_the_callees() {
    let path = call_trace(100.0);
    assert_eq!((path.duration, path.services["frontend"], path.services["currency"]), (130.0, 20.0, 110.0));
    assert_eq!(critical_services(&[]), None);
}

/// Guarantees: the service that makes slow traces slow has the largest excess, and few traces have none.
#[test]
fn slow_traces_name_their_bottleneck() {
    let paths: Vec<Path> = (0..100).map(|index| call_trace(if index % 20 == 0 { 500.0 } else { 1.0 })).collect();
    let found = bottlenecks(&paths);
    assert_eq!(found[0].service, "currency");
    assert!(found[0].excess() > 0.5 && found[0].excess() > MATERIAL_SHARE, "{found:?}");
    assert!(bottlenecks(&paths[..50]).is_empty());
}

proptest! {
    /// Guarantees: whatever the figures, the scores of the causes sum to one (or nothing has a delay), shares stay shares, the
    /// worst comes first, and only a lack of capacity is ever scaled.
    #[test]
    fn verdicts_are_consistent(
        figures in proptest::collection::vec((0.0f64..200.0, 0.0f64..2.0, proptest::option::of(0.0f64..1.2)), 4),
        calls in proptest::collection::vec((0.0f64..200.0, 0.0f64..2.0, 0.0f64..1.0), 3),
    ) {
        let mut window = shop();
        for (service, (requests, time, utilization)) in window.services.iter_mut().zip(figures) {
            (service.requests, service.self_time, service.utilization) = (requests * 10.0, Some(time), utilization);
        }
        for (edge, (count, wait, floor)) in window.edges.iter_mut().zip(calls) {
            (edge.calls, edge.wait, edge.wait_floor) = (count, Some(wait), Some(floor * wait));
        }
        let verdict = judge(&window, &usual());
        let total: f64 = verdict.causes.iter().map(|cause| cause.score).sum();
        prop_assert!(total == 0.0 || (total - 1.0).abs() < 1e-9);
        prop_assert!(verdict.causes.iter().all(|cause| (0.0..=1.0).contains(&cause.share) && (0.0..=1.0 + 1e-9).contains(&cause.queue_share)));
        prop_assert!(verdict.causes.windows(2).all(|pair| pair[0].added >= pair[1].added));
        for service in &window.services {
            let is_capacity = verdict.causes.iter().any(|cause| cause.service == service.name && cause.kind == Kind::Capacity);
            prop_assert_eq!(verdict.would_help(&service.name) == Help::Yes, is_capacity);
        }
    }
}
