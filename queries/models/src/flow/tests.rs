//! Call graphs with known traffic.

use super::*;

/// A door `web` with `rate` requests per second, each of which calls `cart` twice, and `cart` `db` three times.
fn minute(number: f64, rate: f64) -> Minute {
    let arrivals = [("web", rate), ("cart", 2.0 * rate), ("db", 6.0 * rate)].map(|(name, rate)| (name.to_owned(), rate));
    Minute { end: 60.0 * number, arrivals: arrivals.into(), calls: vec![calls("web", "cart", 2.0 * rate), calls("cart", "db", 6.0 * rate)] }
}

fn calls(from: &str, to: &str, rate: f64) -> Calls {
    Calls { from: from.to_owned(), to: to.to_owned(), rate, samples: 1000.0, failed: 0.0 }
}

/// A flow, and the ratios that it goes by.
#[derive(Default)]
struct Graphs {
    flow: Flow,
    ratios: Ratios,
}

impl Graphs {
    fn learn(&mut self, minute: &Minute) {
        self.ratios.learn(minute);
        self.flow.learn(minute);
    }

    fn ratios(&self) -> Vec<Ratio> {
        self.ratios.iter().collect()
    }

    fn ratio(&self, from: &str, to: &str) -> Option<Ratio> {
        self.ratios.iter().find(|ratio| ratio.from == from && ratio.to == to)
    }

    fn calls_per_request(&self, from: &str, to: &str) -> Option<f64> {
        self.ratio(from, to).map(|ratio| ratio.calls_per_request)
    }

    fn is_storm(&self) -> bool {
        self.ratios.iter().any(|ratio| ratio.retry_factor.is_some())
    }

    fn called(&self, window: &Minute, to: &str) -> f64 {
        self.flow.called(window, &self.ratios())[to]
    }

    fn announced(&self, forecasts: &BTreeMap<String, Announced>, z: f64) -> BTreeMap<String, Announced> {
        self.flow.announced(&self.ratios(), forecasts, z).into_iter().map(|(name, announced)| (name.to_owned(), announced)).collect()
    }

    /// What limits each door.
    fn limits(&self, utilization: &BTreeMap<String, f64>) -> BTreeMap<String, (String, f64)> {
        let ratios = self.ratios();
        let limits = self.flow.limits(&ratios, utilization);
        limits.into_iter().map(|(door, limit)| (door.to_owned(), (limit.service.to_owned(), limit.growth))).collect()
    }
}

fn learned() -> Graphs {
    let mut graphs = Graphs::default();
    (1..=10).for_each(|number| graphs.learn(&minute(f64::from(number), 10.0)));
    graphs
}

fn forecast(mean: f64, upper: f64) -> Announced {
    Announced { mean, upper }
}

fn close(value: f64, expected: f64) -> bool {
    (value - expected).abs() < 1e-9 * expected.abs().max(1.0)
}

/// Guarantees: calls multiply along the graph, only what comes from outside makes a door, and a forecast there announces the load
/// of everything behind it.
#[test]
fn a_chain() {
    let flow = learned();
    assert!(close(flow.calls_per_request("web", "cart").unwrap(), 2.0) && flow.calls_per_request("web", "db").is_none());
    assert_eq!(["web", "cart", "db"].map(|name| flow.flow.outside(name)), [Some(1.0), Some(0.0), Some(0.0)]);
    let ratios = flow.ratios();
    assert_eq!(
        flow.flow.visits(&ratios).into_iter().map(|(name, visits)| (name, visits.round())).collect::<Vec<_>>(),
        [("cart", 2.0), ("db", 6.0), ("web", 1.0)]
    );
    let announced = flow.announced(&BTreeMap::from([("web".to_owned(), forecast(30.0, 50.0))]), 1.28);
    assert_eq!(announced.keys().collect::<Vec<_>>(), ["cart", "db"], "nobody calls the door");
    assert!(close(announced["db"].mean, 180.0) && close(announced["db"].upper, 300.0), "{announced:?}");
    assert!(flow.announced(&BTreeMap::new(), 1.28).is_empty());
}

/// Guarantees: a service that is itself called from outside counts with its part, and many doors add variances, not quantiles.
#[test]
fn several_doors() {
    let mut flow = Graphs::default();
    let doors = ["a", "b", "c", "d"];
    let mut seen = Minute { end: 60.0, arrivals: doors.map(|name| (name.to_owned(), 10.0)).into(), calls: Vec::new() };
    let _ = seen.arrivals.insert("shared".to_owned(), 50.0);
    seen.calls = doors.map(|name| calls(name, "shared", 10.0)).into();
    flow.learn(&seen);
    assert!(close(flow.flow.outside("shared").unwrap(), 0.2));
    let mut forecasts: BTreeMap<String, Announced> = doors.map(|name| (name.to_owned(), forecast(10.0, 14.0))).into();
    let _ = forecasts.insert("shared".to_owned(), forecast(50.0, 50.0));
    let announced = flow.announced(&forecasts, 2.0);
    // 4 × 10 and a fifth of 50; four standard deviations of 2 add up to 4, times 2.
    assert!(close(announced["shared"].mean, 50.0) && close(announced["shared"].upper, 58.0), "{announced:?}");
}

/// Guarantees: the service that saturates first limits its door: alone at once, shared by the part that the door has in it.
#[test]
fn what_saturates_first() {
    let flow = learned();
    let busy = |shares: &[(&str, f64)]| shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect::<BTreeMap<_, _>>();
    let limits = flow.limits(&busy(&[("web", 0.2), ("cart", 0.5), ("db", 0.4)]));
    assert_eq!(limits.keys().collect::<Vec<_>>(), ["web"]);
    assert!(limits["web"].0 == "cart" && close(limits["web"].1, 2.0), "{limits:?}");
    assert!(flow.limits(&BTreeMap::new()).is_empty());
    let mut shared = learned();
    let mut seen = minute(11.0, 10.0);
    let _ = seen.arrivals.insert("batch".to_owned(), 20.0);
    let _ = seen.arrivals.insert("db".to_owned(), 120.0);
    seen.calls.push(calls("batch", "db", 60.0));
    shared.learn(&seen);
    // Half of what the database does, it does for the batch: that half may grow until it is three times as much.
    let limits = shared.limits(&busy(&[("db", 0.5)]));
    assert!(close(limits["batch"].1, 3.0) && close(limits["web"].1, 3.0), "{limits:?}");
}

/// Guarantees: of what is behind calls of an unknown number nothing is said, neither visits nor what limits the door.
#[test]
fn what_is_behind_unsure_calls_is_unknown() {
    let mut flow = learned();
    (11..=13).for_each(|number| {
        let calls = vec![calls("web", "cart", 60.0), calls("cart", "db", 60.0)];
        flow.learn(&Minute { calls, ..minute(f64::from(number), 10.0) });
    });
    assert!(!flow.ratio("web", "cart").unwrap().is_sure() && flow.ratio("cart", "db").unwrap().is_sure());
    assert_eq!(flow.flow.visits(&flow.ratios()).keys().copied().collect::<Vec<_>>(), ["web"]);
    assert!(flow.limits(&BTreeMap::from([("db".to_owned(), 0.5)])).is_empty());
}

/// Guarantees: callers account for the load of a service whose spans are lost, because their calls then lead to nobody; not for that
/// of one that they call less or not at all; and batches of many messages are as many requests as they usually are.
#[test]
fn what_callers_account_for() {
    let flow = learned();
    assert!(close(flow.called(&minute(11.0, 10.0), "db"), 60.0));
    let mut lost = minute(11.0, 10.0);
    let _ = lost.arrivals.insert("cart".to_owned(), 1.0);
    lost.calls = vec![calls("web", "cart", 1.0), calls("web", "", 19.0), calls("cart", "db", 3.0)];
    assert!(close(flow.called(&lost, "cart"), 20.0), "{:?}", flow.called(&lost, "cart"));
    let mut gone = minute(11.0, 10.0);
    gone.calls = vec![calls("web", "10.0.0.7", 20.0), calls("cart", "db", 60.0)];
    let _ = gone.arrivals.remove("cart");
    assert!(close(flow.called(&gone, "cart"), 20.0));
    let mut less = minute(11.0, 10.0);
    less.calls[0].rate = 2.0;
    assert!(close(flow.called(&less, "cart"), 2.0));
    less.calls.clear();
    assert!(close(flow.called(&less, "cart"), 0.0));
    let mut batches = Graphs::default();
    let batch = |number: f64| Minute {
        end: 60.0 * number,
        arrivals: [("producer".to_owned(), 20.0), ("consumer".to_owned(), 2.0)].into(),
        calls: vec![calls("producer", "consumer", 20.0)],
    };
    (1..=5).for_each(|number| batches.learn(&batch(f64::from(number))));
    assert!(close(batches.called(&batch(6.0), "consumer"), 2.0));
}

/// Guarantees: more calls per request that fail are retries and no demand; without failures they are followed, slowly; few
/// samples and quiet callers teach nothing.
#[test]
fn retries_are_no_demand() {
    let mut flow = learned();
    let mut storm = minute(11.0, 10.0);
    storm.calls[0] = Calls { failed: 0.3, ..calls("web", "cart", 60.0) };
    flow.learn(&storm);
    assert!(
        close(flow.ratio("web", "cart").unwrap().retry_factor.unwrap(), 3.0) && flow.ratio("cart", "db").unwrap().retry_factor.is_none()
    );
    assert!(close(flow.calls_per_request("web", "cart").unwrap(), 2.0));
    let mut more = minute(12.0, 10.0);
    more.calls[0] = calls("web", "cart", 60.0);
    flow.learn(&more);
    let followed = flow.calls_per_request("web", "cart").unwrap();
    assert!(!flow.is_storm() && followed > 2.0 && followed < 2.05, "{followed}");
    flow.learn(&Minute { end: 60.0 * 12.5, ..storm.clone() });
    assert!(flow.is_storm());
    flow.learn(&Minute { end: 60.0 * 12.7, calls: Vec::new(), ..storm });
    assert!(!flow.is_storm(), "nothing tells of it any more");
    let few = Calls { samples: 3.0, ..calls("web", "new", 5.0) };
    let quiet = calls("nobody", "new", 5.0);
    flow.learn(&Minute { calls: vec![few, quiet], ..minute(13.0, 10.0) });
    assert!(flow.calls_per_request("web", "new").is_none() && flow.calls_per_request("nobody", "new").is_none());
}

/// Guarantees: cycles that amplify without end announce nothing, what is silent is forgotten, minutes of the past are ignored, and
/// nonsense changes nothing.
#[test]
fn odd_minutes() {
    let mut flow = Graphs::default();
    let arrivals = BTreeMap::from([("a".to_owned(), 10.0), ("b".to_owned(), 10.0)]);
    flow.learn(&Minute { end: 60.0, arrivals: arrivals.clone(), calls: vec![calls("a", "b", 10.0), calls("b", "a", 9.0)] });
    let forecasts = BTreeMap::from([("a".to_owned(), forecast(1.0, 1.0))]);
    let announced = flow.announced(&forecasts, 1.28);
    assert!(close(announced["b"].mean, 0.1 * 10.0), "a tenth comes from outside and goes around: {announced:?}");
    let nonsense = vec![calls("a", "b", f64::NAN), calls("a", "a", 10.0), calls("b", "a", f64::INFINITY)];
    flow.learn(&Minute { end: 120.0, arrivals: arrivals.clone(), calls: nonsense });
    flow.learn(&Minute { end: 90.0, arrivals: arrivals.clone(), calls: vec![calls("a", "c", 10.0)] });
    flow.learn(&Minute { end: f64::NAN, arrivals, calls: vec![calls("a", "c", 10.0)] });
    assert!(close(flow.calls_per_request("a", "b").unwrap(), 1.0) && flow.calls_per_request("a", "c").is_none());
    flow.learn(&Minute { end: 120.0 + 90_000.0, ..Minute::default() });
    assert!(flow.flow.visits(&flow.ratios()).is_empty() && flow.announced(&forecasts, 1.28).is_empty());
}
