//! A service that learns from windows of a queue that is known.

use super::*;

const WORK: f64 = 0.05;

/// Exponential work of 50 ms on so many servers.
fn truth(servers: f64, pooling: f64) -> Station {
    Station { pooling, ..Station::new(ServiceTime::from_moments(WORK, 1.0).unwrap(), servers) }
}

/// A window in which so many replicas of `truth` are busy for the share `load` of the time.
fn window(truth: &Station, load: f64, replicas: u32, busy: Option<f64>) -> Figures {
    let arrival_rate = load * truth.capacity() * f64::from(replicas);
    let Some(Prediction::Stable(stable)) = predict(truth, arrival_rate, replicas) else { panic!("{load}") };
    let mut own_distribution = Histogram::new();
    for rank in 0..40_u32 {
        own_distribution.record(stable.quantile((f64::from(rank) + 0.5) / 40.0).unwrap(), 75.0);
    }
    Figures {
        arrival_rate,
        completion_rate: Some(arrival_rate),
        own_time: Some(stable.mean()),
        own_scv: Some(1.0),
        own_p95: stable.quantile(QUANTILE),
        own_distribution: Some(own_distribution),
        sojourn: Some(stable.mean() + 0.1),
        concurrency: Some(arrival_rate * (stable.mean() + 0.1)),
        front: None,
        instances: Some(f64::from(replicas)),
        is_fetched: false,
        busy,
        versions: Vec::new(),
        cores: None,
        n_eff: Some(3000.0),
        confidence: Some(1.0),
    }
}

fn told(servers: Option<f64>) -> Servers {
    let mut known = Servers::default();
    known.say(servers);
    known
}

/// A service that learned from windows with such loads, one a minute.
fn learned(truth: &Station, servers: Option<f64>, measured: bool, loads: impl Iterator<Item = f64>) -> Service {
    let mut service = None;
    for (minute, load) in loads.enumerate() {
        let figures = window(truth, load, 4, measured.then_some(load));
        let service = service.get_or_insert_with(|| Service::new(told(servers), &figures).unwrap());
        let end = Timestamp::from_secs(60 * i64::try_from(minute).unwrap());
        service.calibrate(end, &figures, Some(&Promise { latency: 0.6, quantile: 0.99 }));
    }
    service.unwrap()
}

fn wave(minutes: u32, low: f64, high: f64) -> impl Iterator<Item = f64> {
    (0..minutes).map(move |minute| low + (high - low) * 0.5 * (1.0 - (f64::from(minute) / 120.0 * std::f64::consts::TAU).cos()))
}

/// Guarantees: a service that is never quiet is not taken for a slower one, from its first window on: its service time is what
/// is behind its latencies.
#[test]
fn the_wait_is_not_taken_for_service() {
    let truth = truth(2.0, 1.0);
    for minutes in [1, 120] {
        let service = learned(&truth, Some(2.0), false, wave(minutes, 0.7, 0.9));
        let mean = service.calibration.work.time.value();
        assert!((mean / WORK - 1.0).abs() < 0.02, "{minutes}: {mean}");
    }
    let service = learned(&truth, Some(2.0), false, wave(120, 0.7, 0.9));
    let predicted = service.predict(Timestamp::from_secs(7200), &window(&truth, 0.8, 4, None));
    assert!((predicted.utilization.unwrap() - 0.8).abs() < 0.03, "{predicted:?}");
    assert!(!service.calibration.demoted() && service.state() == "trusted");
}

/// Guarantees: a balancer that pools replicas is recognised where nobody says so, once loads were low and high, and the service
/// time with it.
#[test]
fn balancers_are_recognised() {
    let truth = truth(2.0, 0.2);
    let service = learned(&truth, Some(2.0), false, wave(720, 0.2, 0.85));
    assert!((service.calibration.pooling - 0.2).abs() < 0.12, "{}", service.calibration.pooling);
    assert!((service.calibration.work.time.value() / WORK - 1.0).abs() < 0.03);
}

/// Guarantees: where nobody says how many servers a replica has, CPU tells, or else loads that were low and high; an overload
/// that was never seen is not invented.
#[test]
fn servers_are_learned() {
    let truth = truth(8.0, 1.0);
    let measured = learned(&truth, None, true, wave(120, 0.3, 0.6));
    assert_eq!(measured.servers.source(), Source::Utilization);
    assert!((measured.servers.value() / 8.0 - 1.0).abs() < 0.05, "{}", measured.servers.value());
    let fitted = learned(&truth, None, false, wave(360, 0.1, 0.9));
    assert_eq!((fitted.servers.source(), fitted.servers.value()), (Source::LoadCurve, 8.0));
    assert!((fitted.calibration.work.time.value() / WORK - 1.0).abs() < 0.1);
    let unknown = learned(&truth, None, false, wave(60, 0.5, 0.6));
    assert_eq!(unknown.servers.source(), Source::Assumed);
    let predicted = unknown.predict(Timestamp::from_secs(3600), &window(&truth, 0.55, 4, None));
    assert!(predicted.utilization.unwrap() < 1.0, "{predicted:?}");
}

/// Guarantees: what replicas fetch when they are free has its own time as service time, however busy they are, and their servers
/// are what is under way over how busy they are.
#[test]
fn fetched_messages_do_not_wait() {
    let truth = truth(2.0, 1.0);
    let mut service = None;
    for minute in 0..60 {
        let window = window(&truth, 0.65, 4, Some(0.65));
        let figures = Figures { is_fetched: true, own_time: Some(WORK), sojourn: Some(WORK), ..window };
        let service = service.get_or_insert_with(|| Service::new(told(None), &figures).unwrap());
        service.calibrate(Timestamp::from_secs(60 * minute), &figures, None);
    }
    let service: Service = service.unwrap();
    assert!((service.calibration.work.time.value() / WORK - 1.0).abs() < 1e-6);
    assert!((service.servers.value() - 2.0).abs() < 1e-6 && service.state() == "calibrating");
}

/// A service that was known for an hour becomes slower by half: what its service time is taken for in each of the next minutes,
/// with what `change` makes of the windows.
fn slowed(change: impl Fn(&mut Figures)) -> Vec<f64> {
    let (before, after) = (truth(2.0, 1.0), Station::new(ServiceTime::from_moments(1.5 * WORK, 1.0).unwrap(), 2.0));
    let mut service = learned(&before, Some(2.0), false, wave(60, 0.4, 0.5));
    (60..64)
        .map(|minute| {
            let mut figures = window(&after, 0.5, 4, None);
            change(&mut figures);
            service.calibrate(Timestamp::from_secs(60 * minute), &figures, None);
            service.calibration.work.time.value()
        })
        .collect()
}

/// Guarantees: a service that is slower is known to be after two minutes, also where its load rises with that; in a burst that is
/// shorter than its window some requests are as quick as ever, and the service stays what it was.
#[test]
fn a_slower_service_is_followed_and_a_burst_is_not() {
    let found = slowed(|_| ());
    assert!((found[1] / (1.5 * WORK) - 1.0).abs() < 0.05, "{found:?}");
    let burst = slowed(|figures| {
        let mut times = Histogram::new();
        for rank in 0..40_u32 {
            let usual = 0.02 * WORK * f64::from(rank + 1);
            times.record(if rank < 10 { usual } else { 20.0 * usual }, 75.0);
        }
        (figures.own_time, figures.own_distribution) = (Some(6.0 * WORK), Some(times));
    });
    assert!(burst.iter().all(|time| (time / WORK - 1.0).abs() < 0.05), "{burst:?}");
}

/// Guarantees: after a new version, and after a change of the size of replicas, what is seen counts at once, whatever it is.
#[test]
fn another_service_is_known_anew() {
    let quicker = truth(2.0, 1.0);
    for (version, cores) in [("1", 1.0), ("2", 1.0), ("1", 2.0)] {
        let mut service = None;
        for minute in 0..64 {
            let is_new = minute >= 60;
            let figures = Figures {
                versions: vec![if is_new { version } else { "1" }.to_owned()],
                cores: Some(if is_new { cores } else { 1.0 }),
                ..window(&if is_new { quicker.clone() } else { Station::new(quicker.service_time.scaled(1.4).unwrap(), 2.0) }, 0.5, 4, None)
            };
            let service = service.get_or_insert_with(|| Service::new(told(Some(2.0)), &figures).unwrap());
            service.calibrate(Timestamp::from_secs(60 * minute), &figures, None);
        }
        let found = service.unwrap().calibration.work.time.value();
        assert_eq!((found / WORK - 1.0).abs() < 0.05, version != "1" || cores > 1.0, "{version} {cores}: {found}");
    }
}

/// Guarantees: the distribution of service times is that of requests that did not wait, and predictions have its tail; a
/// successor that is told the row knows the same.
#[test]
fn the_distribution_is_learned() {
    let points: Vec<(f64, f64)> = vec![(0.02, 0.9), (0.32, 0.1)];
    let truth = Station::new(ServiceTime::from_points(&points).unwrap(), 8.0);
    let service = learned(&truth, Some(8.0), false, wave(60, 0.1, 0.3));
    let time = service.service_time.as_ref().unwrap();
    assert!((time.quantile(0.85).unwrap() / 0.02 - 1.0).abs() < 0.1 && (time.quantile(0.95).unwrap() / 0.32 - 1.0).abs() < 0.1);
    let end = Timestamp::from_secs(3600);
    let (numbers, texts, [bytes]) = service.row(end, None);
    assert!(service.safe_utilization.is_some_and(|safe| safe > 0.3));
    let known = Known {
        end,
        service_time: numbers[1].unwrap(),
        service_scv: numbers[2].unwrap(),
        servers: numbers[3].unwrap(),
        pooling: numbers[4].unwrap(),
        load_bias: numbers[5].unwrap(),
        distribution: bytes,
        workers: None,
        hold_time: Some(numbers[1].unwrap() + 0.2),
        servers_from: texts[1],
        learned_samples: 4000.0,
        model_error: None,
        demoted: false,
    };
    let successor = Service::recalled(&known, told(Some(8.0)));
    assert_eq!(successor.row(end, None).2[0], bytes);
    assert!((successor.outside.middle().unwrap() - 0.2).abs() < 1e-9);
    assert!((successor.service_time.unwrap().quantile(0.95).unwrap() / 0.32 - 1.0).abs() < 0.1);
    let busy = learned(&truth, Some(8.0), false, wave(60, 0.9, 0.95));
    assert_eq!(busy.row(end, None).2, [None]);
}

/// Who sees the wait for a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waits {
    Inside,
    InFront,
    Unseen,
}

/// A window of replicas of `truth` whose requests hold a worker.
fn held(truth: &Station, load: f64, waits: Waits) -> Figures {
    let all = window(truth, load, 4, Some(0.2));
    if waits == Waits::Inside {
        return all;
    }
    let free = Station { workers: None, ..truth.clone() };
    let shown = window(&free, load * truth.capacity() / free.capacity(), 4, Some(0.2));
    let wait = |with: Option<f64>, without: Option<f64>| with.zip(without).map(|(with, without)| with - without);
    let front = wait(all.own_time, shown.own_time).zip(wait(all.own_p95, shown.own_p95)).map(|(mean, p95)| Front { mean, p95 });
    Figures { front: front.filter(|_| waits == Waits::InFront), ..shown }
}

/// A service of which so many workers are said, after minutes with such loads.
fn told_of_workers(said: u32, truth: &Station, waits: Waits, loads: impl Iterator<Item = f64>) -> Service {
    let mut service = None;
    for (minute, load) in loads.enumerate() {
        let figures = held(truth, load, waits);
        let service = service.get_or_insert_with(|| Service { workers: Some(said), ..Service::new(told(Some(4.0)), &figures).unwrap() });
        service.calibrate(Timestamp::from_secs(60 * i64::try_from(minute).unwrap()), &figures, None);
    }
    service.unwrap()
}

/// Guarantees: fewer workers than there are make what happens impossible, and the model is demoted within a quarter of an hour; more
/// than there are, as soon as the wait for them shows anywhere.
#[test]
fn wrong_workers_are_refuted() {
    let truth = |count| Station { workers: Some(Workers { count, outside: 0.1 }), ..truth(4.0, 1.0) };
    assert_eq!(told_of_workers(2, &truth(8), Waits::Inside, wave(15, 0.5, 0.6)).state(), "demoted");
    for waits in [Waits::Inside, Waits::InFront] {
        assert_eq!(told_of_workers(4, &truth(3), waits, wave(600, 0.25, 0.9)).state(), "demoted", "{waits:?}");
    }
}

/// Guarantees: whether requests wait inside is asked anew when another number of workers is said, and only then.
#[test]
fn other_workers_may_be_waited_for_elsewhere() {
    let truth = Station { workers: Some(Workers { count: 8, outside: 0.1 }), ..truth(4.0, 1.0) };
    let mut service = told_of_workers(2, &truth, Waits::Inside, wave(15, 0.5, 0.6));
    service.employ(Some(2));
    assert!(service.waits_inside);
    service.employ(Some(8));
    assert!(!service.waits_inside);
}

/// Guarantees: replicas whose requests hold one of a few workers while they wait for others are known as such from the moment that
/// somebody says so: service time, how much of what they can do is asked of them, and latencies, whether spans contain the wait for a
/// worker, callers see it, or nobody does.
#[test]
fn held_workers_are_counted() {
    let truth = Station { workers: Some(Workers { count: 3, outside: 0.1 }), ..truth(4.0, 1.0) };
    for waits in [Waits::Inside, Waits::InFront, Waits::Unseen] {
        let service = told_of_workers(3, &truth, waits, wave(480, 0.3, 0.9));
        let end = Timestamp::from_secs(480 * 60);
        let mean = service.calibration.work.time.value();
        assert!((mean / WORK - 1.0).abs() < 0.04, "{waits:?}: {mean}");
        assert!(
            (service.calibration.bias(480.0 * 60.0) - 1.0).abs() < 0.08 && !service.calibration.demoted(),
            "{waits:?}: {:?}",
            service.calibration
        );
        let figures = held(&truth, 0.7, waits);
        let (numbers, ..) = service.row(end, Some(&figures));
        let column = |name: &str| numbers[super::super::LAYOUT.numbers.iter().position(|column| *column == name).unwrap()].unwrap();
        assert!((column("utilization") - 0.7).abs() < 0.06, "{waits:?}: {}", column("utilization"));
        assert!((column("hold_time") - WORK - 0.1).abs() < 0.01 && (column("capacity") / truth.capacity() - 1.0).abs() < 0.05);
        assert!((column("predicted_p95") / column("observed_p95") - 1.0).abs() < 0.2, "{waits:?}: {numbers:?}");
    }
}
