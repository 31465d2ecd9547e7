use super::*;
use crate::score::Elasticity;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_secs(60 * minute)
}

fn load(name: &str, minutes: i64) -> ServiceLoad {
    ServiceLoad {
        name: name.to_owned(),
        objective: Objective { latency: 0.25, quantile: 0.99 },
        rate: (0..minutes).map(|minute| (at(minute), 20.0)).collect(),
        demand: vec![(at(0), 2), (at(minutes / 2), 4)],
    }
}

/// A result in which each `every`th minute breaks its promise, with so many replicas.
fn result(name: &str, minutes: i64, every: i64, replicas: u32) -> ServiceResult {
    let over = |minute: i64| if minute % every == every - 1 { 60.0 } else { 0.0 };
    let broken = (0..minutes).filter(|minute| over(*minute) > 0.0).count();
    ServiceResult {
        service: name.to_owned(),
        quantile: 0.99,
        score: Score {
            violation_minutes: u32::try_from(broken).unwrap(),
            judged_minutes: u32::try_from(minutes).unwrap(),
            p50: Some(0.02),
            p99: Some(1.5 / f64::from(replicas)),
            replica_hours: f64::from(replicas) * 12.3,
            ups: 3,
            downs: replicas,
            ..Score::default()
        },
        elasticity: Some(Elasticity { theta_over: f64::from(replicas), ..Elasticity::default() }),
        supply: (0..minutes)
            .map(|minute| Supply { at: at(minute), desired: replicas, ready: replicas - u32::from(minute % 2 == 0) })
            .collect(),
        minutes: (0..minutes).map(|minute| (at(minute), 1200.0, over(minute))).collect(),
    }
}

fn comparison(names: &[&str], minutes: i64) -> Comparison {
    let policy = |name: &str, every: i64, replicas: u32| PolicyResult {
        name: name.to_owned(),
        note: format!("{replicas} & more"),
        services: names.iter().map(|service| result(service, minutes, every, replicas)).collect(),
        failures: Vec::new(),
    };
    Comparison {
        title: "Shop".to_owned(),
        from: at(0),
        until: at(minutes),
        step: Duration::from_secs(5),
        assumptions: vec!["work is exponential".to_owned()],
        services: names.iter().map(|name| load(name, minutes)).collect(),
        policies: vec![policy("static", 60, 9), policy("current", 10, 4), policy("tracescale", 50, 3)],
    }
}

/// Checks that every element is closed by its own end, outside of style and script.
fn assert_balanced(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let end = rest.find('>').unwrap_or_else(|| panic!("a tag never ends: {}", &rest[..rest.len().min(80)]));
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of {tag}");
        rest = after;
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        match tag {
            _ if tag.starts_with('!') || tag.ends_with('/') || name == "meta" => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "end without beginning"),
            "style" | "script" => rest = &rest[rest.find("</").unwrap() + tag.len() + 3..],
            _ => open.push(name),
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

/// Guarantees: sums, weighted means and worst values over services, by hand; nothing known is a dash, not zero.
#[test]
fn totals_by_hand() {
    let mut policy = comparison(&["a", "b"], 100).policies.remove(1);
    policy.services[1].score.p99 = Some(2.0);
    policy.services[1].minutes = vec![(at(0), 80_000.0, 0.0)];
    policy.services[1].elasticity = Some(Elasticity { theta_over: 10.0, ..Elasticity::default() });
    let total = policy.total();
    assert_eq!((total.services, total.violation_minutes, total.ups, total.downs), (2, 20, 6, 8));
    assert!((total.violation_share.unwrap() - 600.0 / 200_000.0).abs() < 1e-12);
    assert!((total.replica_hours - 98.4).abs() < 1e-9);
    assert_eq!((total.p50, total.p95, total.p99), (Some(0.02), None, Some(2.0)));
    assert!((total.elasticity.unwrap().theta_over - 7.0).abs() < 1e-12);
    assert_eq!(Totals::of([]).violation_share, None);
}

/// Guarantees: the text is aligned and fits, marks the best of each column, and relates to the policy called current.
#[test]
fn text_is_aligned() {
    let text = comparison(&["checkout", "search"], 120).text();
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("policy")).take(6).collect();
    let place = |line: &str, what: &str| line[..line.find(what).unwrap()].chars().count() + what.chars().count();
    // Numbers end where their heads end.
    assert_eq!(place(table[0], "SLO min"), place(table[1], " 4"));
    assert_eq!(place(table[0], "repl-h"), place(table[3], "98.4"));
    assert_eq!(place(table[0], "up/down"), place(table[3], "6/8"));
    assert!(table[1].contains(" 4 ") && table[1].contains("*"), "{text}");
    assert!(table[2].trim_start().starts_with("-83%"), "{text}");
    assert!(table[3].starts_with("current") && table[4].starts_with("tracescale"), "{text}");
    assert!(table[4].contains("73.8*") && table[5].contains("-25%"), "{text}");
    assert!(text.contains("checkout (99 % within 250ms)") && text.contains("search (99 %"));
}

/// Guarantees: huge numbers, long names and missing ones neither break the width nor the alignment.
#[test]
fn text_of_extremes() {
    let mut extreme = comparison(&["a", "b"], 60);
    for (place, policy) in extreme.policies.iter_mut().enumerate() {
        policy.name = "a very long name of a policy that says all of its settings ".repeat(place + 1);
        for result in &mut policy.services {
            let score = &mut result.score;
            (score.ups, score.downs, score.violation_minutes, score.oscillations) = (u32::MAX, u32::MAX, 123_456, 999_999);
            (score.replica_hours, score.p50, score.p95) = (1.5e12, Some(1e9), Some(f64::NAN));
            result.elasticity = Some(Elasticity { theta_under: 12_345.6, theta_over: 99_999.0, tau_under: 1e-3, ..Elasticity::default() });
        }
    }
    extreme.policies[2].services.clear();
    let text = extreme.text();
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let row = text.lines().filter(|line| line.starts_with("a very")).nth(2).unwrap();
    assert_eq!(row.matches('–').count(), 12, "{text}");
}

/// Guarantees: every policy and every service with a plot is in the page, and the page is well-formed.
#[test]
fn page_shows_everything() {
    let page = comparison(&["checkout", "search"], 1440).page();
    assert_balanced(&page);
    // One of all services, one of each.
    assert_eq!(page.matches("<svg class=\"timeline\"").count(), 3);
    assert_eq!(page.matches("<svg class=\"frontier\"").count(), 1);
    for name in ["checkout", "search", "All services"] {
        assert!(page.contains(&format!("<h2>{name}")), "{name}");
    }
    for policy in ["static", "current", "tracescale"] {
        assert_eq!(page.matches(&format!("data-name=\"{policy}\"")).count(), 3, "{policy}");
    }
    assert!(page.contains("9 &amp; more") && !page.contains("NaN") && !page.contains("http"));
}

/// Guarantees: names are text, wherever they come from.
#[test]
fn names_are_escaped() {
    let attack = "<script>alert(\"1\")</script>";
    let mut hostile = comparison(&[attack, "b"], 10);
    hostile.title = attack.to_owned();
    hostile.assumptions = vec![attack.to_owned()];
    for policy in &mut hostile.policies {
        (policy.name, policy.note, policy.failures) = (attack.to_owned(), attack.to_owned(), vec![attack.to_owned()]);
    }
    let page = hostile.page();
    assert_eq!((page.matches("<script>").count(), page.matches("alert(\"").count()), (1, 0));
    assert_balanced(&page);
}

/// Guarantees: nothing, and next to nothing, makes a page and a text.
#[test]
fn empty_and_single() {
    let mut single = comparison(&["a"], 1);
    single.until = single.from;
    single.services[0].rate = vec![(at(0), f64::NAN)];
    single.services[0].demand.clear();
    single.policies[0].services.clear();
    let mut unknown = single.clone();
    unknown.policies.clear();
    for case in [Comparison::default(), single, unknown] {
        let (page, text) = (case.page(), case.text());
        assert_balanced(&page);
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        assert!(text.contains("policy"));
    }
}

/// Guarantees: services where policies matter get plots, the others a line in a table.
#[test]
fn many_services() {
    let names: Vec<String> = (0..30).map(|place| format!("service-{place}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut many = comparison(&names, 30);
    for policy in &mut many.policies {
        policy.services[17].score.violation_minutes = 1000;
    }
    many.policies[0].services[23].score.replica_hours = 1e5;
    let (page, text) = (many.page(), many.text());
    assert_balanced(&page);
    assert_eq!(page.matches("<svg class=\"timeline\"").count(), 13);
    assert!(page.contains("<h2>service-17 ") && page.contains("<h2>service-23 ") && page.contains("<tr><th>service-29</th>"));
    assert!(text.contains("20 more services"));
    let order = many.by_weight();
    assert!(order[..2].contains(&17) && order[..2].contains(&23), "{order:?}");
}

/// Guarantees: a document says the same as the data, unknown rates included; unknown fields are refused.
#[test]
fn documents_round_trip() {
    let mut original = comparison(&["a", "b"], 20);
    original.policies[0].services[0].elasticity = None;
    let text = serde_json::to_string(&original).unwrap();
    assert!(text.contains("\"violationMinutes\"") && text.contains("\"thetaOver\"") && text.contains("\"step\":\"5s\""), "{text}");
    assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), original);
    original.services[0].rate[3].1 = f64::NAN;
    let text = serde_json::to_string(&original).unwrap();
    let read: Comparison = serde_json::from_str(&text).unwrap();
    assert!(text.contains("null") && read.services[0].rate[3].1.is_nan());
    assert!(serde_json::from_str::<Comparison>(&text.replacen("\"title\"", "\"tittle\"", 1)).is_err());
}

/// Guarantees: a result holds what the report says, and its violations are those that the score counts.
#[test]
fn results_of_reports() {
    let mut report = ServiceReport::starting("a", at(5), 0.5, 2, 1);
    report.minutes =
        [(100.0, 1.0), (100.0, 2.0), (9.0, 9.0), (10.0, 1.0)].map(|(requests, over)| crate::report::Minute { requests, over }).to_vec();
    let result = ServiceResult::of(&report, 0.99, None);
    assert_eq!(result.violations().collect::<Vec<_>>(), [at(6), at(8)]);
    assert_eq!((result.score.violation_minutes, result.supply.len(), result.minutes[3]), (2, 1, (at(8), 10.0, 1.0)));
}

/// Guarantees: loads are sampled at every step before the end; demand that nobody can meet is no demand.
#[test]
fn sampled_loads() {
    use crate::distribution::Distribution;
    use crate::world::{Discipline, ServiceSpec};
    let mut spec = ServiceSpec::new("a", Discipline::ProcessorSharing { cores: 1 }, Distribution::Exponential { mean: 0.05 });
    spec.objective = Objective { latency: 0.5, quantile: 0.99 };
    let sample = |spec: &ServiceSpec| {
        let mut demand = Demand::new(spec);
        ServiceLoad::sampled("a", spec.objective, (at(0), at(3)), Duration::from_secs(60), &mut demand, |time| {
            if time < at(1) { 0.0 } else { 1.0 }
        })
    };
    let load = sample(&spec);
    assert_eq!((load.rate.len(), load.demand), (3, vec![(at(0), 0), (at(1), 1), (at(2), 1)]));
    spec.objective.latency = 0.01;
    assert_eq!(sample(&spec).demand, []);
}
