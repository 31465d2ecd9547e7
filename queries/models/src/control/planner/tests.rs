//! Tests of the planner on made windows.

use super::*;
use crate::sizing::Workers;

fn settings() -> Settings {
    Settings {
        objective: Objective { latency: 0.5, quantile: 0.99 },
        station: Station { pooling: 0.15, ..Station::new(ServiceTime::from_moments(0.05, 1.0).unwrap(), 2.0) },
        utilization_max: 0.95,
        replicas_min: 1,
        replicas_max: 60,
        violation_price: 50.0,
        violation_budget: None,
        pipeline_delay: 10.0,
        interval: 15.0,
        drain: 60.0,
    }
}

/// A planner that has seen two hours of a rate which alternates a little.
fn planner(settings: Settings, rate: f64) -> Planner {
    let mut planner = Planner::new(settings, Startups::default()).unwrap();
    for sample in 1..=480 {
        let wave = if sample % 2 == 0 { 1.02 } else { 0.98 };
        let arrival_rate = Some(rate * wave);
        planner.observe(&Window { end: f64::from(sample) * 15.0, arrival_rate, ..Window::default() });
    }
    planner
}

/// Guarantees: a steady load gets what sizing says, give or take one; a backlog, an announced load and a bias get more, and the
/// plan says why.
#[test]
fn plans_and_their_reasons() {
    let mut planner = planner(settings(), 400.0);
    let plan = planner.plan(&Supply::default()).unwrap();
    let sized = planner.curve.replicas(400.0);
    assert!(plan.replicas.abs_diff(sized) <= 1 && plan.reason == Reason::Forecast, "{plan:?} {sized}");
    assert!((plan.lead - 150.0).abs() < 1e-9 && (plan.level - 400.0).abs() < 1.0 && plan.shortage < 0.05);
    let last = planner.last.unwrap();
    let mut with = |window: Window| {
        planner.last = Some(window);
        planner.plan(&Supply { ready: 10, ..Supply::default() }).unwrap()
    };
    // 12,000 requests are 300 replica-seconds: with a lead of 150 s and this price best worked off in 30 s, by 20 servers.
    let behind = with(Window { backlog: Some(12_000.0), ..last });
    assert!(behind.reason == Reason::Backlog && (behind.catch_up - 20.0).abs() < 0.5 && behind.replicas >= sized + 9, "{behind:?}");
    let announced = with(Window { announced: Some(800.0), ..last });
    assert_eq!((announced.reason, announced.replicas), (Reason::Announced, planner.curve.replicas(800.0)));
    let mut with = |window: Window| {
        planner.last = Some(window);
        planner.plan(&Supply::default()).unwrap()
    };
    assert!(with(Window { bias: Some(1.5), ..last }).replicas > sized + 3);
    assert_eq!(with(Window { announced: Some(1e9), ..last }).reason, Reason::Most);
}

/// Guarantees: the dearer a violation, the more replicas; never fewer than low peaks need.
#[test]
fn dearer_violations_need_more() {
    let at = |price| planner(Settings { violation_price: price, ..settings() }, 400.0).plan(&Supply::default()).unwrap().replicas;
    let found = [0.1, 10.0, 1e6].map(at);
    assert!(found.is_sorted() && found[0] + 1 >= planner(settings(), 400.0).curve.replicas(400.0), "{found:?}");
}

/// Guarantees: a service time that doubles is measured and doubles the replicas, about.
#[test]
fn follows_the_service_time() {
    let mut planner = planner(Settings { objective: Objective { latency: 1.0, quantile: 0.99 }, ..settings() }, 400.0);
    let before = planner.plan(&Supply::default()).unwrap().replicas;
    for sample in 481..=1500 {
        let rate = Some(400.0);
        let window = Window {
            end: f64::from(sample) * 15.0,
            arrival_rate: rate,
            completion_rate: rate,
            service_time: Some(0.1),
            ..Window::default()
        };
        planner.observe(&window);
    }
    let plan = planner.plan(&Supply::default()).unwrap();
    assert!((plan.service_time - 0.1).abs() < 0.003, "{plan:?}");
    assert!(plan.replicas.abs_diff(2 * before) <= 3, "{before} {plan:?}");
}

/// Guarantees: another station is planned with from then on, its servers and its balancer too; one that cannot keep the promise is
/// told, and has the servers that its load needs.
#[test]
fn follows_the_station() {
    let mut planner = planner(settings(), 400.0);
    let replicas = |planner: &Planner| planner.plan(&Supply::default()).unwrap().replicas;
    let before = replicas(&planner);
    let (station, objective) = (settings().station, settings().objective);
    assert!(planner.set_station(Station { servers: 2.0 * station.servers, ..station.clone() }, objective));
    let wide = replicas(&planner);
    assert!(wide < before, "{wide} {before}");
    assert!(planner.set_station(Station { pooling: 0.0, ..station.clone() }, objective));
    assert!(replicas(&planner) < before);
    assert!(planner.set_station(station.clone(), objective));
    assert_eq!(replicas(&planner), before);
    // Three times the work is waited for outside, by as many workers as there are servers; and half of the time is left.
    let workers = Workers { count: 2, outside: 3.0 * station.service_time.mean() };
    assert!(planner.set_station(Station { workers: Some(workers), ..station.clone() }, objective));
    assert!(replicas(&planner) > 3 * before, "{} {before}", replicas(&planner));
    assert!(planner.set_station(station.clone(), Objective { latency: 0.5 * objective.latency, ..objective }));
    assert!(replicas(&planner) > before);
    let slow = Station { service_time: station.service_time.scaled(20.0).unwrap(), ..station.clone() };
    assert!(!planner.set_station(slow.clone(), objective));
    assert!(slow.load(350.0) / slow.servers > f64::from(settings().replicas_max));
    assert_eq!(planner.plan(&Supply::default()).unwrap().reason, Reason::Most);
}

/// Guarantees: starts that take longer lengthen the look ahead; late and repeated windows change nothing.
#[test]
fn lead_time_and_order() {
    let mut planner = planner(settings(), 400.0);
    (0..50).for_each(|_| planner.started(600.0));
    assert!(planner.plan(&Supply::default()).unwrap().lead > 500.0);
    let before = planner.plan(&Supply::default());
    planner.observe(&Window { end: 100.0, arrival_rate: Some(1e6), ..Window::default() });
    assert_eq!(planner.plan(&Supply::default()), before);
    assert!(Planner::new(Settings { violation_price: 0.0, ..settings() }, Startups::default()).is_none());
    let infeasible = Objective { latency: 0.1, quantile: 0.99 };
    assert!(Planner::new(Settings { objective: infeasible, ..settings() }, Startups::default()).is_none());
}

/// Guarantees: with a budget the price rises with every violation beyond it and falls while there are fewer, within bounds.
#[test]
fn paces_the_price() {
    let mut planner = planner(Settings { violation_budget: Some(0.01), ..settings() }, 400.0);
    let mut end = 480.0 * 15.0;
    let mut show = |planner: &mut Planner, violated| {
        end += 15.0;
        planner.observe(&Window { end, arrival_rate: Some(400.0), violated: Some(violated), ..Window::default() });
    };
    show(&mut planner, true);
    assert!((planner.violation_price() - 50.0 * 0.099_f64.exp()).abs() < 1e-9);
    (0..99).for_each(|_| show(&mut planner, false));
    assert!((planner.violation_price() - 50.0).abs() < 1e-9);
    (0..100).for_each(|_| show(&mut planner, true));
    assert!((planner.violation_price() - 50.0 * 3.0_f64.exp()).abs() < 1e-9);
    planner.set_violation_budget(None);
    show(&mut planner, false);
    assert!((planner.violation_price() - 50.0 * 3.0_f64.exp()).abs() < 1e-9);
}

/// Guarantees: a quantile covers what it says, a lower utilization asks for more, and senseless ones change nothing.
#[test]
fn quantiles_and_utilizations() {
    let mut planner = planner(settings(), 400.0);
    let mut replicas = |quantile, utilization| {
        planner.set_quantile(quantile);
        planner.set_utilization_max(utilization);
        planner.plan(&Supply::default()).unwrap().replicas
    };
    let (usual, careful, odd) = (replicas(Some(0.9), 1.0), replicas(Some(0.9), 0.5), replicas(Some(0.9), 7.0));
    assert!((20..=21).contains(&careful) && usual < careful && odd == careful, "{usual} {careful} {odd}");
}

/// Guarantees: windows that overlap are learned from every 15 s, and say every 5 s what the load is.
#[test]
fn overlapping_windows() {
    let (mut often, mut seldom) = (planner(settings(), 400.0), planner(settings(), 400.0));
    for step in 1..=360 {
        let end = 7200.0 + f64::from(step) * 5.0;
        let window = Window { end, arrival_rate: Some(400.0), ..Window::default() };
        often.observe(&window);
        if step % 3 == 0 {
            seldom.observe(&window);
        }
    }
    assert_eq!(often.plan(&Supply::default()), seldom.plan(&Supply::default()));
    let before = often.plan(&Supply::default()).unwrap();
    often.observe(&Window { end: 9005.0, arrival_rate: Some(800.0), ..Window::default() });
    let after = often.plan(&Supply::default()).unwrap();
    assert!((after.level - 600.0).abs() < 1e-6 && after.replicas > before.replicas + 3, "{before:?} {after:?}");
}

/// Guarantees: replicas are not changed for less than a change costs, in either direction, and are when it costs nothing; without
/// knowing what is there, the plan is what is wanted.
#[test]
fn changes_have_a_price() {
    let mut planner = planner(settings(), 400.0);
    let mut replicas = |price, ready| {
        planner.set_change_price(price);
        planner.plan(&Supply { ready, ..Supply::default() }).unwrap().replicas
    };
    let wanted = replicas(0.0, 0);
    assert_eq!([replicas(0.0, wanted + 1), replicas(0.0, wanted - 1)], [wanted, wanted]);
    // One replica more costs ten replica-minutes in ten minutes.
    assert_eq!([replicas(9.0, wanted + 1), replicas(11.0, wanted + 1), replicas(11.0, wanted + 2)], [wanted, wanted + 1, wanted]);
    assert_eq!(replicas(-1.0, wanted + 1), wanted + 1);
    // Nothing is known of this load but its rate: what it may come to spans several replicas.
    let mut unseen = Planner::new(settings(), Startups::default()).unwrap();
    unseen.observe(&Window { end: 15.0, arrival_rate: Some(400.0), ..Window::default() });
    let wanted = unseen.plan(&Supply::default()).unwrap().replicas;
    let mut one_less = |price| {
        unseen.set_change_price(price);
        unseen.plan(&Supply { ready: wanted - 1, ..Supply::default() }).unwrap().replicas
    };
    assert_eq!([one_less(0.0), one_less(1e9)], [wanted, wanted - 1]);
}

/// Guarantees: where violations cost next to nothing, fewer than the lowest peaks need are still never kept: the price of a change
/// does not hold what never recovers.
#[test]
fn cheap_violations_do_not_hold_too_few() {
    let mut planner = planner(Settings { violation_price: 0.5, ..settings() }, 400.0);
    planner.set_change_price(100.0);
    let least = planner.plan(&Supply::default()).unwrap().replicas;
    let kept = planner.plan(&Supply { ready: least / 2, ..Supply::default() }).unwrap().replicas;
    assert!(kept >= least, "{least} {kept}");
}
