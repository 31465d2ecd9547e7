//! Tests of the comparison: protocols on made series, and the recorded ones where they are.

use std::path::PathBuf;

use super::*;

/// A wave of four days, in steps of five minutes.
fn wave() -> Workload {
    let values: Vec<f64> = (0..4 * 288).map(|step| 100.0 - 60.0 * (f64::from(step) / 288.0 * std::f64::consts::TAU).cos()).collect();
    Workload::new("wave", Timestamp::EPOCH, Duration::from_secs(300), &values).unwrap()
}

/// Guarantees: history, training and test follow each other, the test is the end, and the peak is what it is scaled to.
#[test]
fn parts_of_a_load() {
    let load = wave();
    assert_eq!((load.train.until, load.test.until), (load.test.from, Timestamp::from_secs(4 * 86_400)));
    assert!((load.train.seconds() - 1.2 * 86_400.0).abs() < 61.0 && (load.test.seconds() - 1.6 * 86_400.0).abs() < 61.0);
    let most = (0..4 * 288).map(|step| load.rates.at(Timestamp::from_secs(step * 300))).fold(0.0, f64::max);
    assert!((most / 1000.0 - 1.0).abs() < 0.001);
    assert!(Workload::new("nothing", Timestamp::EPOCH, Duration::from_secs(300), &[0.0; 100]).is_none());
}

/// Guarantees: a known load is served at equal violations by fewer replica-hours than a constant number needs and by more than
/// nine tenths of what an oracle does; the same run gives the same figures.
#[test]
fn one_case_from_end_to_end() {
    let load = wave();
    let mut bench = Bench::new();
    let mut case = || Contest { bench: &mut bench, load: &load, startup: 30.0 }.policy(Family::Tracescale, ALLOWED).unwrap().0;
    let (first, again) = (case(), case());
    assert_eq!(first, again);
    let hours = first.hours_at_level.unwrap();
    let (oracle, constant) = (bench.oracle(&load, load.test, 90.0), bench.constant(&load, load.test));
    assert!(hours > 0.9 * oracle && hours < 0.8 * constant, "{hours} {oracle} {constant}");
}

/// Counts how often it is asked.
struct Asked(Duration, std::rc::Rc<std::cell::Cell<u32>>);

impl Policy for Asked {
    fn name(&self) -> String {
        "asked".to_owned()
    }

    fn interval(&self) -> Duration {
        self.0
    }

    fn tick(&mut self, _: Timestamp, _: &tracescale_simulate::policy::Telemetry) -> Option<u32> {
        self.1.set(self.1.get() + 1);
        None
    }
}

/// Guarantees: every policy is asked as often as it asks for, KPA every 2 s and HPA every 15 s, whatever the step of the others.
#[test]
fn policies_look_as_often_as_they_do() {
    let load = wave();
    let part = Part { from: load.test.from, until: load.test.from + Duration::from_secs(3600) };
    let mut bench = Bench::new();
    for (interval, expected) in [(2, 1800), (5, 720), (15, 240)] {
        let count = std::rc::Rc::default();
        let policy = Asked(Duration::from_secs(interval), std::rc::Rc::clone(&count));
        bench.run(&load, part, 30.0, 1, Box::new(policy)).unwrap();
        assert_eq!(count.get(), expected, "{interval} s");
    }
    let kpa = baseline(Family::Kpa, 1.0, 0).unwrap();
    assert_eq!(kpa.interval(), Duration::from_secs(2));
}

/// Guarantees: on the recorded web server's log the model needs fewer replica-hours than every calibrated baseline.
#[test]
fn recorded_log() {
    let Some(root) = std::env::var_os("TRACESCALE_DATA").map(PathBuf::from) else {
        eprintln!("skipped: TRACESCALE_DATA does not name the data folder");
        return;
    };
    let load = read(&root, "nasa", 60, 1, Duration::ZERO).unwrap();
    let case = Contest { bench: &mut Bench::new(), load: &load, startup: 120.0 }.case().unwrap();
    assert!(case.saving_against_best().unwrap() > 0.05, "{case:?}");
}
