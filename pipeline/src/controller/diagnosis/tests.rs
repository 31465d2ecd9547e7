//! What is read from windows, and what is not.

use tracescale_core::decide::Silent;
use tracescale_core::target::{KubernetesRef, ServiceSelector, TargetRef};

use super::super::tests::telemetry::{cause, queue, sampled, sampling, senders, silence, sojourn, versions};
use super::*;

const START: Timestamp = Timestamp::from_secs(1_767_600_000);

fn minute(number: u32) -> Timestamp {
    START + MINUTE * number
}

/// One in a hundred requests of `cart` may take longer than 100 ms.
fn spec() -> TargetSpec {
    let service = ServiceSelector { service_name: "cart".to_owned(), service_namespace: None };
    let objective = Objective::new(Duration::from_millis(100), 0.99);
    TargetSpec { objective, ..TargetSpec::in_memory(TargetName::try_new("cart").unwrap(), service, 1) }
}

fn learned(emissions: &[Emission]) -> Diagnoses {
    let mut diagnoses = Diagnoses::default();
    let spec = spec();
    let services = Services::new(std::iter::once(&spec));
    let now = emissions.iter().map(|emission| emission.window_end).max().unwrap_or(START);
    let _ = diagnoses.learn(now, emissions, &services);
    diagnoses
}

fn slow(diagnosis: Option<Diagnosis>) -> Option<(Timestamp, u64, u64)> {
    diagnosis.and_then(|diagnosis| diagnosis.slow().map(|slow| (diagnosis.at, slow.bad, slow.all)))
}

/// Guarantees: three minutes that follow each other are a diagnosis; fewer, or a gap, or a minute without telemetry, are none,
/// and without an objective there is nothing to be slow by.
#[test]
fn three_minutes_make_a_diagnosis() {
    let busy = |number: u32| sojourn("cart", minute(number), 200.0, f64::from(number));
    assert_eq!(slow(learned(&[busy(1), busy(2)]).of(&spec())), None);
    let whole = learned(&[busy(1), busy(2), busy(3), busy(4)]);
    assert_eq!(slow(whole.of(&spec())), Some((minute(4), 9, 600)));
    let diagnosis = whole.of(&spec()).unwrap();
    assert_eq!((diagnosis.window, diagnosis.errors, diagnosis.objective), (WINDOW, Some(6), Some(0.99)));
    assert_eq!(whole.of(&TargetSpec { objective: None, ..spec() }), None);
    assert_eq!(slow(learned(&[busy(1), busy(2), busy(4)]).of(&spec())), None);
    assert_eq!(slow(learned(&[busy(1), busy(2), silence("cart", minute(3)), busy(4)]).of(&spec())), None);
    assert_eq!(slow(learned(&[sojourn("other", minute(1), 9.0, 9.0), busy(2), busy(3)]).of(&spec())), None);
}

/// Guarantees: late rows replace their minute and do not add to it, and a minute is told of once.
#[test]
fn late_rows_replace_a_minute() {
    let mut diagnoses = learned(&[sojourn("cart", minute(1), 200.0, 0.0), sojourn("cart", minute(2), 200.0, 0.0)]);
    let spec = spec();
    let services = Services::new(std::iter::once(&spec));
    let over = diagnoses.learn(minute(3), &[sojourn("cart", minute(3), 100.0, 1.0)], &services);
    assert_eq!(over, [Over { target: spec.name.clone(), end: minute(3), slow: Count { bad: 1, all: 100 } }]);
    let again = diagnoses.learn(minute(3), &[sojourn("cart", minute(3), 150.0, 50.0)], &services);
    assert_eq!((again, slow(diagnoses.of(&spec))), (Vec::new(), Some((minute(3), 50, 550))));
}

/// Guarantees: requests that a sender sampled count as the samples behind them, unless every request is to count.
#[test]
fn sampled_requests_count_as_samples() {
    let windows = [1, 2, 3].map(|number| sampled("cart", minute(number), 10_000.0, 500.0, 100.0));
    assert_eq!(slow(learned(&windows).of(&spec())), Some((minute(3), 15, 300)));
    let mut all = Diagnoses::default();
    all.count_all();
    let spec = spec();
    let _ = all.learn(minute(3), &windows, &Services::new(std::iter::once(&spec)));
    assert_eq!(slow(all.of(&spec)), Some((minute(3), 1500, 30_000)));
}

/// Guarantees: who is to blame is said only while the objective is violated, and only of a cause that is in the service's way.
#[test]
fn causes_need_a_violation() {
    let windows = |slow: f64, helps: &str, blamed: Option<&str>| {
        let mut windows = [1, 2, 3].map(|number| sojourn("cart", minute(number), 1000.0, slow)).to_vec();
        windows.push(cause("cart", minute(3), helps, blamed, 0.2));
        learned(&windows).of(&spec()).unwrap()
    };
    let blamed = windows(100.0, "no", Some("shop/pay"));
    let pay = Cause { service: "shop/pay".to_owned(), kind: "capacity".to_owned(), share: 0.8 };
    assert_eq!((blamed.cause, blamed.futile, blamed.queue_share), (Some(pay), Some(true), None));
    let fine = windows(1.0, "no", Some("shop/pay"));
    assert_eq!((fine.cause, fine.futile, fine.utilization), (None, None, Some(0.2)));
    let elsewhere = windows(100.0, "unknown", Some("pay"));
    assert_eq!((elsewhere.cause, elsewhere.futile, elsewhere.queue_share), (None, None, None));
    let own = windows(100.0, "yes", Some("cart"));
    assert_eq!((own.cause, own.futile, own.queue_share), (None, Some(false), Some(0.9)));
}

/// Guarantees: utilization is that of the same minutes, of gauges where there are any, else of the model.
#[test]
fn utilization_is_of_the_same_minutes() {
    let mut windows = [1, 2, 3].map(|number| sojourn("cart", minute(number), 1000.0, 0.0)).to_vec();
    windows.extend([1, 2, 3].map(|number| queue("cart", minute(number), 0.9)));
    windows.push(queue("cart", minute(3) + Duration::from_secs(5), 9.0));
    assert_eq!(learned(&windows).of(&spec()).unwrap().utilization, Some(0.9));
    windows.extend([(1, 0.25), (2, 0.5)].map(|(number, share)| cause("cart", minute(number), "unknown", None, share)));
    assert_eq!(learned(&windows).of(&spec()).unwrap().utilization, Some(0.375));
}

/// `cart` as a deployment, of which so many replicas are ready all the time, and what is known after some minutes, of which
/// the first had five senders and a thousand requests.
fn silent(spec: &TargetSpec, ready: Option<u32>, minutes: &[&[(Option<f64>, f64)]]) -> Option<Silent> {
    let services = Services::new(std::iter::once(spec));
    let mut diagnoses = Diagnoses::default();
    let whole: &[(Option<f64>, f64)] = &[(Some(5.0), 1000.0)];
    for (number, places) in (0..).zip([whole].iter().chain(minutes)) {
        for quarter in 0..4 {
            diagnoses.see(spec, &Observed::replicas(5, ready, minute(number) + Duration::from_secs(15) * quarter));
        }
        // Of windows that overlap, the minutes count.
        let early = senders("cart", minute(number + 1) - Duration::from_secs(5), &[(Some(1.0), 1000.0)]);
        let _ = diagnoses.learn(minute(number + 1), &[early, senders("cart", minute(number + 1), places)], &services);
    }
    diagnoses.of(spec).and_then(|diagnosis| diagnosis.silent)
}

fn deployed() -> TargetSpec {
    let object = KubernetesRef {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
        context: None,
        container: None,
    };
    TargetSpec { reference: TargetRef::Kubernetes(object), ..spec() }
}

/// Guarantees: replicas that fell silent are counted over all places where the service runs, with an objective or without; where
/// some senders do not tell themselves apart, nothing runs, few requests come or nobody says who is ready, none is missed.
#[test]
fn replicas_that_fell_silent_are_counted() {
    const THREE: &[(Option<f64>, f64)] = &[(Some(3.0), 1000.0)];
    const SPREAD: &[(Option<f64>, f64)] = &[(Some(2.0), 500.0), (Some(1.0), 500.0), (None, 0.0)];
    const UNNAMED: &[(Option<f64>, f64)] = &[(Some(3.0), 500.0), (None, 500.0)];
    const IDLE: &[(Option<f64>, f64)] = &[(None, 0.0)];
    const QUIET: &[(Option<f64>, f64)] = &[(Some(3.0), 12.0)];
    let two = Some(Silent { instances: 2, ready: 5 });
    let spec = deployed();
    assert_eq!(silent(&spec, Some(5), &[THREE, THREE, SPREAD]), two);
    assert_eq!(silent(&TargetSpec { objective: None, ..deployed() }, Some(5), &[SPREAD, SPREAD, SPREAD]), two);
    for minutes in [[THREE, THREE, UNNAMED], [UNNAMED; 3], [THREE, THREE, QUIET], [THREE, THREE, IDLE], [IDLE; 3]] {
        assert_eq!(silent(&spec, Some(5), &minutes), None, "{minutes:?}");
    }
    assert_eq!(silent(&spec, Some(5), &[THREE, THREE, THREE, IDLE]), None, "silence of before");
    assert_eq!(silent(&spec, None, &[THREE; 4]), None);
    assert_eq!(silent(&spec, Some(7), &[THREE; 4]), None, "never whole");
    assert_eq!(silent(&self::spec(), Some(5), &[THREE; 4]), None, "nothing runs for a target in memory");
}

/// Guarantees: what spans account for is compared with what metrics count over whole minutes, with an objective or without; where a
/// side is missing, or people say that all traces are there, nothing is said.
#[test]
fn spans_are_compared_with_metrics() {
    let spec = TargetSpec { objective: None, ..spec() };
    let traced = |trusted: Option<&str>, measured: Option<f64>| {
        let services = Services::new(std::iter::once(&spec));
        let mut diagnoses = Diagnoses::default();
        diagnoses.declare(&trusted.map(|service| (service.to_owned(), 1.0)).into_iter().collect());
        for number in 1..4 {
            let other = Emission { is_final: false, ..sampling("cart", minute(number), Some(98.0), 98.0) };
            let _ = diagnoses.learn(minute(number), &[other, sampling("cart", minute(number), measured, 49.0)], &services);
        }
        let told = diagnoses.take_news().len();
        assert!(diagnoses.take_news().is_empty());
        (diagnoses.of(&spec).and_then(|diagnosis| diagnosis.traced), told)
    };
    assert_eq!(traced(None, Some(98.0)), (Some(0.5), 1));
    assert_eq!((traced(None, None), traced(Some("cart"), Some(98.0))), ((None, 0), (None, 0)));
}

/// Guarantees: the first versions were there before us, another one is a deployment, one that comes and goes is the same.
#[test]
fn a_new_version_is_a_deployment() {
    let deployed = |seen: &[(u32, &str, &str)]| {
        let windows: Vec<_> = seen.iter().map(|(number, lowest, highest)| versions("cart", minute(*number), lowest, highest)).collect();
        learned(&windows).of(&spec()).and_then(|diagnosis| diagnosis.deployed_at)
    };
    assert_eq!(deployed(&[(1, "v1", "v1"), (2, "v1", "v1")]), None);
    assert_eq!(deployed(&[(1, "v9", "v9"), (2, "v10", "v9"), (3, "v10", "v10")]), Some(minute(2)));
    assert_eq!(deployed(&[(1, "v1", "v1"), (2, "v1", "v2"), (3, "v1", "v1"), (4, "v2", "v2")]), Some(minute(2)));
    assert_eq!(deployed(&[(1, "v1", "v1"), (2, "v2", "v2"), (70, "v2", "v2"), (71, "v1", "v2")]), Some(minute(71)), "taken back");
}

/// Guarantees: after the clock stepped back, windows of the future do not stand in the way, and memory is bounded.
#[test]
fn windows_of_the_future_are_forgotten() {
    let spec = spec();
    let services = Services::new(std::iter::once(&spec));
    let mut diagnoses = Diagnoses::default();
    for number in (1000..1300).chain(1..4) {
        let _ = diagnoses.learn(minute(number), &[sojourn("cart", minute(number), 100.0, 0.0)], &services);
        let service = &diagnoses.services[&spec.name];
        assert!(service.minutes.len() <= MINUTES && service.history.len() <= HISTORY);
    }
    assert_eq!(slow(diagnoses.of(&spec)), Some((minute(3), 0, 300)));
}
