//! Documents of worlds, and what is refused.

use super::*;

fn service(name: &str) -> ServiceSpec {
    ServiceSpec::new(name, Discipline::ProcessorSharing { cores: 1 }, Distribution::Exponential { mean: 0.1 })
}

/// Guarantees: a document of the essentials is a world; unknown fields are refused.
#[test]
fn reads_documents() {
    let text = r#"{"seed": 7, "services": [{"name": "cart", "discipline": {"kind": "processorSharing", "cores": 2},
        "serviceTime": {"kind": "exponential", "mean": 0.05}}], "loads": [{"service": 0, "arrivals":
        {"varying": {"interval": "1m", "values": [1, 2]}}}]}"#;
    let world: World = serde_json::from_str(text).unwrap();
    assert_eq!(world.validate(), Ok(()));
    assert_eq!((world.services[0].initial_replicas, world.services[0].drain_grace.as_secs()), (1, 30));
    assert!(serde_json::from_str::<World>(r#"{"sead": 7}"#).is_err());
}

/// Guarantees: calls that multiply without end are refused, those that die out are not.
#[test]
fn endless_calls_are_refused() {
    let edge = |from, to, calls| Edge { from, to, calls: Calls::Mean(calls), mode: CallMode::Sequential };
    let mut world = World { services: vec![service("a"), service("b")], ..World::default() };
    world.edges = vec![edge(0, 1, 5.0), edge(1, 1, 0.1)];
    assert_eq!(world.validate(), Ok(()));
    world.edges.push(edge(1, 0, 0.3));
    assert!(matches!(world.validate(), Err(WorldError::Endless { .. })));
}

/// Guarantees: errors name the service, the field and the value.
#[test]
fn errors_name_their_place() {
    let mut world = World { services: vec![service("cart")], ..World::default() };
    world.services[0].objective.quantile = 1.0;
    assert_eq!(world.validate().unwrap_err().to_string(), r#"objective.quantile of service "cart" is 1, but must be between 0 and 1"#);
    world.services[0] = service("cart");
    world.loads.push(Load { service: 3, arrivals: Arrivals::poisson(1.0) });
    assert_eq!(world.validate().unwrap_err().to_string(), "load 0 refers to service 3, but there are 1 (counted from 0)");
    world.loads = vec![Load { service: 0, arrivals: Arrivals::Renewal(Distribution::Deterministic { value: 0.0 }) }];
    assert_eq!(
        world.validate().unwrap_err().to_string(),
        "load 0 (counted from 0) has inf requests per second, but at most 1e7 can be simulated; hint: is its unit requests per second?"
    );
    world.loads.clear();
    world.edges.push(Edge { from: 0, to: 0, calls: Calls::Poisson(f64::NAN), mode: CallMode::Sequential });
    assert!(matches!(world.validate(), Err(WorldError::Calls { place: 0, .. })));
}
