//! What a rollout guarantees.

use super::*;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);

fn at(minutes: u64) -> Timestamp {
    START + Duration::from_secs(minutes * 60)
}

fn rule() -> RuleName {
    RuleName::try_new("latency").unwrap()
}

fn targets(count: usize) -> Vec<TargetName> {
    (0..count).map(|index| TargetName::try_new(format!("service-{index}")).unwrap()).collect()
}

fn count(bad: u64, all: u64) -> Option<Count> {
    Some(Count { bad, all })
}

/// Two versions of a rule, the second just loaded.
fn changed(spec: &RolloutSpec) -> Rollouts {
    let mut rollouts = Rollouts::new();
    rollouts.load(START, &rule(), Version::of(["one"]), Some(spec));
    rollouts.load(START, &rule(), Version::of(["two"]), Some(spec));
    rollouts
}

/// A rollout in its canary stage.
fn in_canary(spec: &RolloutSpec, all: &[TargetName]) -> Rollouts {
    let mut rollouts = changed(spec);
    let stage = rollouts.advance(at(30), &rule(), spec, all, &Seen::default());
    assert!(matches!(stage, Some(Stage::Canary { .. })));
    rollouts
}

fn stage(rollouts: &Rollouts) -> &Stage {
    rollouts.get(&rule()).unwrap().stage()
}

/// Guarantees: a changed rule is watched, then decides for a tenth, then for all, each for its time.
#[test]
fn a_changed_rule_comes_in_stages() {
    let (spec, all) = (RolloutSpec::default(), targets(40));
    let mut rollouts = changed(&spec);
    let seen = Seen::default();
    let deciding = |rollouts: &Rollouts| all.iter().filter(|target| rollouts.get(&rule()).unwrap().decides(target) == Decides::New).count();
    assert_eq!(rollouts.advance(at(29), &rule(), &spec, &all, &seen), None);
    assert_eq!(deciding(&rollouts), 0);
    assert_eq!(rollouts.get(&rule()).unwrap().previous(), Some(Version::of(["one"])));
    assert!(rollouts.advance(at(30), &rule(), &spec, &all, &seen).is_some());
    assert_eq!(deciding(&rollouts), 4);
    assert_eq!(rollouts.advance(at(89), &rule(), &spec, &all, &seen), None);
    assert_eq!(rollouts.advance(at(90), &rule(), &spec, &all, &seen), Some(&Stage::Full));
    assert_eq!((deciding(&rollouts), rollouts.get(&rule()).unwrap().previous()), (40, None));
    assert_eq!(rollouts.advance(at(500), &rule(), &spec, &all, &seen), None);
}

/// Guarantees: what is new, what has no `rollout`, and what returns to what is in force applies at once.
#[test]
fn only_changes_are_rolled_out() {
    let spec = RolloutSpec::default();
    let mut rollouts = Rollouts::new();
    rollouts.load(START, &rule(), Version::of(["one"]), Some(&spec));
    assert_eq!(stage(&rollouts), &Stage::Full);
    rollouts.load(START, &rule(), Version::of(["two"]), None);
    assert_eq!(stage(&rollouts), &Stage::Full);
    rollouts.load(at(1), &rule(), Version::of(["three"]), Some(&spec));
    assert_eq!(stage(&rollouts), &Stage::Shadow { since: at(1) });
    rollouts.load(at(9), &rule(), Version::of(["three"]), Some(&spec));
    assert_eq!(stage(&rollouts), &Stage::Shadow { since: at(1) }, "the same documents again change nothing");
    rollouts.load(at(10), &rule(), Version::of(["four"]), Some(&spec));
    assert_eq!(stage(&rollouts), &Stage::Shadow { since: at(10) });
    assert_eq!(rollouts.get(&rule()).unwrap().previous(), Some(Version::of(["two"])), "what was never in force is not returned to");
    rollouts.load(at(11), &rule(), Version::of(["two"]), Some(&spec));
    assert_eq!(stage(&rollouts), &Stage::Full);
    assert_ne!(Version::of(["a", "bc"]), Version::of(["ab", "c"]));
}

/// Guarantees: canaries are the same for the same version, others for another one, at least one and at most all.
#[test]
fn canaries_are_deterministic() {
    let all = targets(200);
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    let version = Version::of(["one"]);
    let chosen = canaries(version, 0.1, &all);
    assert_eq!(chosen.len(), 20);
    assert_eq!(chosen, canaries(version, 0.1, &reversed));
    assert_ne!(chosen, canaries(Version::of(["two"]), 0.1, &all));
    assert_eq!(canaries(version, 0.0, &all).len(), 1);
    assert_eq!(canaries(version, 1.0, &all).len(), 200);
    assert!(canaries(version, 0.5, &[]).is_empty());
}

/// Guarantees: a version whose canaries violate more than before and than the others is taken back, and stays so until it changes.
#[test]
fn violations_take_it_back() {
    let (spec, all) = (RolloutSpec::default(), targets(10));
    let cases = [
        (count(60, 1000), count(20, 9000), count(10, 1000), true),
        (count(60, 1000), None, count(10, 1000), true),
        (count(60, 1000), count(20, 9000), None, true),
        (count(60, 1000), count(540, 9000), count(10, 1000), false),
        (count(60, 1000), count(20, 9000), count(58, 1000), false),
        (count(60, 1000), None, None, false),
        (count(16, 1000), None, count(5, 1000), false),
        (count(20, 299), count(0, 9000), count(0, 1000), false),
    ];
    for (canary, control, before, expected) in cases {
        let mut rollouts = in_canary(&spec, &all);
        let seen = Seen { canary, control, before, ..Seen::default() };
        let reverted = rollouts.advance(at(40), &rule(), &spec, &all, &seen).is_some();
        assert_eq!(reverted, expected, "{seen:?}");
        if reverted {
            assert!(all.iter().all(|target| rollouts.get(&rule()).unwrap().decides(target) == Decides::Previous));
            assert_eq!(rollouts.advance(at(900), &rule(), &spec, &all, &Seen::default()), None);
            rollouts.load(at(901), &rule(), Version::of(["two"]), Some(&spec));
            assert!(matches!(stage(&rollouts), Stage::Reverted { .. }));
            rollouts.load(at(902), &rule(), Version::of(["three"]), Some(&spec));
            assert_eq!(stage(&rollouts), &Stage::Shadow { since: at(902) });
        }
    }
}

/// Guarantees: a rollback at a canary and a failing query take it back, the latter also in the shadow, unless switched off.
#[test]
fn failures_take_it_back() {
    let (spec, all) = (RolloutSpec::default(), targets(10));
    let failed = Seen { failed: Some("no such column".to_owned()), ..Seen::default() };
    let rolled_back = Seen { rolled_back: all.first().cloned(), ..Seen::default() };
    assert!(changed(&spec).advance(at(1), &rule(), &spec, &all, &failed).is_some());
    assert_eq!(changed(&spec).advance(at(1), &rule(), &spec, &all, &rolled_back), None, "in the shadow it decides nothing");
    for seen in [&failed, &rolled_back] {
        let mut rollouts = in_canary(&spec, &all);
        assert!(matches!(rollouts.advance(at(31), &rule(), &spec, &all, seen), Some(Stage::Reverted { .. })));
        let lenient = RolloutSpec { revert_on: RevertSpec { violations: false, rollback: false, failure: false }, ..spec.clone() };
        assert_eq!(in_canary(&spec, &all).advance(at(31), &rule(), &lenient, &all, seen), None);
    }
}

/// Guarantees: the state survives being written down, and goes on from there.
#[test]
fn the_state_can_be_kept() {
    let (spec, all) = (RolloutSpec::default(), targets(10));
    let mut rollouts = in_canary(&spec, &all);
    let text = serde_json::to_string(&rollouts).unwrap();
    let mut back: Rollouts = serde_json::from_str(&text).unwrap();
    assert_eq!(back, rollouts);
    let seen = Seen::default();
    assert_eq!(back.advance(at(90), &rule(), &spec, &all, &seen), rollouts.advance(at(90), &rule(), &spec, &all, &seen));
}
