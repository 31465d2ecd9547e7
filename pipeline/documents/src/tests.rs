//! What reading documents guarantees.

use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use tracescale_core::policy::{CauseGuard, Mode, OnMissing, RateKind, SelectPolicy};
use tracescale_core::target::TargetRef;

use super::*;

/// Every field of every kind, each with a value that differs from its default.
const EVERYTHING: &str = include_str!("../tests/everything.yaml");

fn problems(text: &str) -> Vec<Problem> {
    parse("test.yaml", text).err().unwrap_or_default()
}

fn paths(text: &str) -> Vec<String> {
    problems(text).into_iter().map(|problem| problem.path).collect()
}

fn rule(policy: &str) -> String {
    format!("apiVersion: tracescale.io/v1alpha1\nkind: ScalingRule\nmetadata: {{name: r}}\nspec:\n  sql: SELECT 1\n  policy:\n{policy}")
}

/// Guarantees: the example of the design page means what it says there, and what it leaves out has the HPA's defaults.
#[test]
fn the_design_example_is_read() {
    let text = "apiVersion: tracescale.io/v1alpha1\nkind: ScalingTarget\nmetadata: {name: checkout}\nspec:\n  kubernetes: {apiVersion: apps/v1, kind: Deployment, namespace: shop, name: checkout}\n---\napiVersion: tracescale.io/v1alpha1\nkind: ScalingRule\nmetadata: {name: latency-slo}\nspec:\n  every: 5s\n  mode: recommend            # recommend (default) | enforce | off\n  sql: |\n    SELECT target, 3 AS replicas\n    FROM service_queue JOIN targets USING (service_name)\n  policy:\n    min: 2\n    max: 40\n    scaleDown: {stabilizationWindow: 5m, policies: [{type: Percent, value: 10, period: 60s}]}\n    onMissing: hold\n";
    let documents = parse("a.yaml", text).unwrap();
    let (source, target) = &documents.targets[0];
    assert_eq!(source.line, 1);
    assert_eq!(target.reference.to_string(), "kubernetes:apps/v1/Deployment/shop/checkout");
    assert_eq!(target.service.service_name, "checkout");
    let (source, rule) = &documents.rules[0];
    assert_eq!(source.line, 7);
    assert_eq!(rule.mode, Mode::Recommend);
    assert!(rule.sql.starts_with("SELECT target") && rule.sql.contains('\n'));
    let spec = rule.policy.spec();
    assert_eq!((spec.min, spec.max, spec.on_missing), (2, 40, OnMissing::Hold));
    assert_eq!(spec.scale_down.policies.len(), 1);
    assert_eq!(spec.scale_down.policies[0].kind, RateKind::Percent);
    assert_eq!(spec.scale_up.policies.len(), 2);
    assert_eq!(spec.scale_up.select_policy, SelectPolicy::Max);
    assert_eq!(documents.settings, Settings::default());
}

/// Guarantees: a document with every field is read, each value where it belongs.
#[test]
fn every_field_is_read() {
    let documents = parse("everything.yaml", EVERYTHING).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(documents.targets.len(), 2);
    let (_, target) = &documents.targets[0];
    assert!(target.paused && target.override_.as_ref().is_some_and(|order| order.replicas == 7));
    assert_eq!(target.service.service_namespace.as_deref(), Some("shop"));
    assert!(matches!(&documents.targets[1].1.reference, TargetRef::Memory(memory) if memory.replicas == 3));
    let (_, rule) = &documents.rules[0];
    assert!(rule.serves(&target.name) && !rule.serves(&documents.targets[1].1.name));
    let spec = rule.policy.spec();
    assert_eq!(spec.on_missing, OnMissing::After { after: Duration::from_secs(600), replicas: 6 });
    assert_eq!(spec.gates.min_samples_down, Some(60.0));
    assert_eq!(spec.condition.map(|condition| condition.times), Some(3));
    assert_eq!(rule.policy.schedules().len(), 1);
    assert_eq!((spec.gates.max_age, spec.gates.max_age_down), (Some(Duration::from_secs(90)), Some(Duration::from_secs(45))));
    let control = &spec.control;
    assert_eq!((control.cause, control.reactive, control.startup), (CauseGuard::Note, false, Some(Duration::from_secs(90))));
    assert_eq!((control.after_deployment, control.after_outage), (Duration::from_secs(1200), Some(Duration::from_secs(600))));
    assert_eq!(
        (control.verify.enabled, control.settle(Duration::ZERO), control.verify.floor.as_secs()),
        (false, Duration::from_secs(240), 7200)
    );
    let rollout = rule.rollout.as_ref().unwrap();
    assert_eq!((rollout.shadow.as_secs(), rollout.canary.length.as_secs()), (900, 7200));
    assert!((rollout.canary.share - 0.25).abs() < 1e-12 && !rollout.revert_on.failure);
    let (_, budget) = &documents.budgets[0];
    assert_eq!((budget.name.as_str(), budget.max_replicas), ("shop", 50));
    assert_eq!((budget.weights.get(&target.name), budget.priorities.len()), (Some(&3), 1));
    let vertical = &spec.vertical;
    assert_eq!((vertical.mode, vertical.every), (Mode::Recommend, Duration::from_secs(24 * 3600)));
    assert_eq!((vertical.cpu.min, vertical.cpu.max, vertical.memory.min, vertical.memory.max), (100, Some(4000), 128 << 20, Some(4 << 30)));
    assert!(matches!(&target.reference, TargetRef::Kubernetes(object) if object.container.as_deref() == Some("app")));
    let settings = &documents.settings;
    assert_eq!(settings.receiver.limits.max_request_bytes, 32 << 20);
    assert_eq!(settings.windows.lateness, Duration::from_secs(20));
    assert_eq!(settings.discovery.namespaces, ["shop"]);
    let services = settings.sampling.services.iter().map(|(service, probability)| format!("{service} {probability}"));
    assert_eq!(services.collect::<Vec<_>>(), ["cart.v2 1", "checkout 0.1"]);
    assert!((settings.sampling.probability - 0.5).abs() < 1e-12);
    // One hour ahead of UTC on a winter's day.
    assert_eq!(settings.models.local_seconds(tracescale_core::time::Timestamp::from_secs(1_767_225_600)), 1_767_225_600 + 3600);
    assert_eq!(settings.models.holidays.iter().copied().collect::<Vec<_>>(), [20_812, 20_819]);
    assert_eq!(target.objective.map(|objective| (objective.latency.as_millis(), objective.per_100k)), Some((400, 95_000)));
    assert_eq!(target.servers.zip(target.workers).map(|(servers, workers)| (servers.get(), workers.get())), Some((4, 16)));
    assert!(settings.receiver.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()));
}

/// Guarantees: `deploy/documents.md` names every field that the readers know, and no other.
#[test]
fn the_reference_names_every_field() {
    let mut collector = document::Collector::default();
    collector.text("everything.yaml", EVERYTHING);
    let page = include_str!("../../../deploy/documents.md");
    let mut section = "";
    let mut written = std::collections::BTreeSet::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.trim();
        } else if let Some(path) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            for kind in ["ScalingTarget", "ScalingRule", "ScalingBudget", "Settings"]
                .iter()
                .filter(|kind| section == **kind || section == "Every document")
            {
                written.insert((*kind, path.to_owned()));
            }
        }
    }
    let missing: Vec<_> = collector.known.iter().filter(|field| !written.contains(&(field.0, field.1.clone()))).collect();
    assert!(missing.is_empty(), "not in deploy/documents.md: {missing:?}");
    let extra: Vec<_> = written.iter().filter(|field| !collector.known.contains(*field)).collect();
    assert!(extra.is_empty(), "in deploy/documents.md, but not read: {extra:?}");
}

/// Guarantees: all mistakes of a file are told at once, each with line, path, value and what to write instead.
#[test]
fn all_problems_come_at_once() {
    let text = "apiVersion: tracescale.io/v1alpha1\nkind: ScalingRule\nmetadata: {name: Bad Name}\nspec:\n  evry: 5s\n  mode: enforced\n  sql: SELECT 1\n  policy:\n    min: 5\n    max: 3\n    tolerance: .nan\n    scaleDown:\n      stabilizationWindow: 300\n      policies:\n      - {type: Percentage, value: 10, period: 60s}\n      - {type: Pods, value: 0, period: 60s}\n    schedules:\n    - {name: day, cron: '61 * * * *', timezone: Europe/Berln, duration: 8h, min: 3}\n  targets: [nowhere]\n---\nkind: ScalingTargt\n";
    let found = problems(text);
    let expect = [
        (Some(3), "metadata.name", "is not allowed"),
        (Some(6), "spec.mode", "must be one of"),
        (Some(11), "spec.policy.tolerance", "must be a number"),
        (Some(13), "spec.policy.scaleDown.stabilizationWindow", "needs a unit"),
        (Some(15), "spec.policy.scaleDown.policies[0].type", "must be one of"),
        (Some(9), "spec.policy.min", "larger than max"),
        (Some(16), "spec.policy.scaleDown.policies[1].value", "at least 1"),
        (Some(18), "spec.policy.schedules[0].cron", "not a cron expression"),
        (Some(18), "spec.policy.schedules[0].timezone", "not a time zone"),
        (Some(5), "spec.evry", "unknown field"),
        (Some(19), "spec.targets[0]", "no ScalingTarget"),
        (Some(21), "apiVersion", "is missing"),
        (Some(21), "metadata", "is missing"),
        (Some(21), "kind", "must be one of"),
    ];
    for (line, path, message) in expect {
        let problem = found.iter().find(|problem| problem.path == path).unwrap_or_else(|| panic!("nothing about {path}: {found:#?}"));
        assert_eq!(problem.line, line, "{path}");
        assert!(problem.message.contains(message), "{problem}");
        assert!(problem.hint.is_some(), "{problem}");
    }
    assert_eq!(found.len(), expect.len(), "{found:#?}");
    let typo = found.iter().find(|problem| problem.path == "spec.evry").unwrap();
    assert_eq!(typo.to_string(), "test.yaml:5: spec.evry: unknown field\n  hint: did you mean `every`?");
}

/// Guarantees: names are unique, references resolve, one object has one target, and there is one Settings document.
#[test]
fn documents_must_agree() {
    let target = |name: &str| {
        format!("---\napiVersion: tracescale.io/v1alpha1\nkind: ScalingTarget\nmetadata: {{name: {name}}}\nspec: {{memory: {{name: x}}}}\n")
    };
    let settings = "---\napiVersion: tracescale.io/v1alpha1\nkind: Settings\n";
    let twice = problems(&format!("{}{}{settings}{settings}", target("checkout"), target("checkout")));
    assert_eq!(twice.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["metadata.name", "spec", "kind"], "{twice:#?}");
    let dangling = problems(&format!(
        "{}{}",
        target("checkout"),
        rule("    max: 3\n  targets: [checkuot]\n").replace("apiVersion", "---\napiVersion")
    ));
    assert_eq!(dangling.len(), 1, "{dangling:#?}");
    assert_eq!(dangling[0].hint.as_deref(), Some("did you mean `checkout`?"));
    assert_eq!(dangling[0].path, "spec.targets[0]");
}

/// Guarantees: a budget names targets that exist, weighs only its own, and without a list means every target.
#[test]
fn budgets_are_checked() {
    let budget = |spec: &str| {
        let target =
            "apiVersion: tracescale.io/v1alpha1\nkind: ScalingTarget\nmetadata: {name: checkout}\nspec: {memory: {name: x}}\n---\n";
        format!("{target}apiVersion: tracescale.io/v1alpha1\nkind: ScalingBudget\nmetadata: {{name: b}}\nspec: {spec}\n")
    };
    for spec in ["{maxReplicas: 9}", "{maxReplicas: 9, targets: all}"] {
        let documents = parse("b.yaml", &budget(spec)).unwrap();
        assert_eq!((documents.budgets[0].1.targets.clone(), documents.budgets[0].1.max_replicas), (None, 9));
    }
    for (spec, expected) in [
        ("{}", "spec.maxReplicas"),
        ("{maxReplicas: 0}", "spec.maxReplicas"),
        ("{maxReplicas: 9, targets: []}", "spec.targets"),
        ("{maxReplicas: 9, targets: [chekout]}", "spec.targets[0]"),
        ("{maxReplicas: 9, weights: {chekout: 2}}", "spec.weights.chekout"),
        ("{maxReplicas: 9, weights: {checkout: 0}}", "spec.weights.checkout"),
        ("{maxReplicas: 9, targets: [checkout], priorities: {weights.db: 1}}", "spec.priorities.weights.db"),
        ("{maxReplicas: 9, priorities: {Bad Name: 1}}", "spec.priorities.Bad Name"),
    ] {
        assert_eq!(paths(&budget(spec)), [expected], "{spec}");
    }
}

/// Guarantees: `usual` has a short and a long form, and the ages of evidence fit each other.
#[test]
fn stale_data_have_a_policy() {
    let policy = |text: &str| parse("r", &rule(&format!("    max: 9\n    {text}\n"))).map(|read| read.rules[0].1.policy.spec().clone());
    let on_missing = |text: &str| policy(&format!("onMissing: {text}")).unwrap().on_missing;
    let after = |secs| OnMissing::Usual { after: Duration::from_secs(secs) };
    assert_eq!(
        [on_missing("usual"), on_missing("{replicas: usual}"), on_missing("{after: 10m, replicas: usual}")],
        [after(420), after(420), after(600)]
    );
    assert_eq!(policy("gates: {maxAge: 90s}").unwrap().gates.max_age_down, None);
    assert!(policy("gates: {maxAge: {scaleDown: 3m}}").is_ok());
    assert_eq!(policy("gates: {maxAge: {scaleDown: 4m}}").unwrap_err()[0].path, "spec.policy.gates.maxAge.scaleDown");
    assert_eq!(policy("startup: 0s").unwrap_err()[0].path, "spec.policy.startup");
    assert_eq!(policy("verify: {settle: 8d}").unwrap_err()[0].path, "spec.policy.verify.settle");
}

/// Guarantees: a rollout that says nothing has the defaults, its share is a part, and a version is what the rule computes.
#[test]
fn rollouts_are_read() {
    let read = |text: &str| parse("r", &rule(&format!("    max: 9\n{text}"))).map(|documents| documents.rules[0].1.clone());
    let plain = read("").unwrap();
    assert_eq!(plain.rollout, None);
    assert_eq!(read("  rollout: {shadow: 30m}\n").unwrap().rollout, Some(tracescale_core::rollout::RolloutSpec::default()));
    for share in ["0", "1.5", "-1"] {
        assert_eq!(read(&format!("  rollout: {{canary: {{share: {share}}}}}\n")).unwrap_err()[0].path, "spec.rollout.canary.share");
    }
    assert_eq!(read("  mode: enforce\n  rollout: {shadow: 1m}\n").unwrap().version(), plain.version());
    assert_ne!(read("  every: 7s\n").unwrap().version(), plain.version());
    assert_ne!(read("    min: 2\n").unwrap().version(), plain.version());
}

/// Guarantees: words mean what their field says: `no` is a fine name, a quoted number is not a number.
#[test]
fn fields_give_words_their_meaning() {
    let text = "apiVersion: tracescale.io/v1alpha1\nkind: ScalingTarget\nmetadata: {name: no}\nspec: {memory: {replicas: 2}}";
    assert_eq!(parse("x", text).unwrap().targets[0].1.name.as_str(), "no");
    assert_eq!(paths(&rule("    max: '3'\n")), ["spec.policy.max"]);
    assert_eq!(paths(&rule("    max: 3.0\n")), ["spec.policy.max"]);
    assert_eq!(paths(&rule("    max: 3\n    max: 4\n")), ["spec.policy.max"]);
    assert_eq!(paths(&rule("    max: -3\n")), ["spec.policy.max"]);
    assert_eq!(paths(&rule("    max: 99999999999999999999\n")), ["spec.policy.max"]);
    assert_eq!(paths(&rule("    max: 3\n    gates: {minCompleteness: .inf}\n")), ["spec.policy.gates.minCompleteness"]);
}

/// Guarantees: names from other systems lead to ours.
#[test]
fn names_from_elsewhere_are_translated() {
    let found = problems(&rule("    maxReplicas: 4\n    behavior: {}\n    max: 3\n"));
    let hints: Vec<_> = found.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    assert_eq!(hints, ["write `max`", "write `scaleUp` and `scaleDown` directly in `policy`"]);
}

/// Guarantees: JSON is read like YAML, also with escapes that YAML does not have, also as a list of documents.
#[test]
fn json_is_read() {
    let one = r#"{"apiVersion":"tracescale.io\/v1alpha1","kind":"ScalingTarget","metadata":{"name":"a"},"spec":{"memory":{"replicas":2}}}"#;
    assert_eq!(parse("a.json", one).unwrap().targets.len(), 1);
    let surrogate = one.replace("\"a\"", "\"a\",\"labels\":{\"x\":\"\\ud83d\\ude00\"}");
    assert_eq!(parse("a.json", &format!("[{surrogate}]")).unwrap().targets.len(), 1);
    assert_eq!(parse("a.json", "{\"a\": ").unwrap_err().len(), 1);
    assert_eq!(parse("empty.yaml", "# nothing\n---\n").unwrap(), Documents::default());
}

/// Guarantees: texts that grow when they are read, or nest without end, are refused.
#[test]
fn bombs_are_refused() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        bomb.push_str(&format!("{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from}]\n"));
    }
    assert!(problems(&bomb)[0].message.contains("more than"));
    assert!(!problems(&"[".repeat(100_000)).is_empty());
    assert!(!problems(&format!("{}x", "- ".repeat(10_000))).is_empty());
    assert!(!problems("a: &a [*a]").is_empty());
    assert!(!problems(&"x".repeat(tree::MAX_BYTES + 1)).is_empty());
    let deep = (0..30).fold("x".to_owned(), |inner, _| format!("[{inner}]"));
    assert!(
        problems(&format!("a: &a {deep}\nb: [[[[[[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]]]]]"))
            .iter()
            .any(|p| p.message.contains("nested deeper"))
    );
}

/// Guarantees: a directory is read whole and in order, what is not a document is left alone, and each bad file is told.
#[test]
fn directories_are_read_whole() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("views/.hidden")).unwrap();
    fs::write(root.join("b.yml"), EVERYTHING.split("---\n").next().unwrap()).unwrap();
    fs::write(root.join("views/v.sql"), "CREATE VIEW v AS SELECT 1").unwrap();
    fs::write(root.join("views/.hidden/broken.yaml"), "{").unwrap();
    fs::write(root.join("notes.txt"), "{").unwrap();
    let documents = load(&[root.to_owned(), root.join("b.yml")]).unwrap();
    assert_eq!((documents.targets.len(), documents.views.len()), (1, 1));
    fs::write(root.join("c.yaml"), [b'a', b'\n', 0xff, 0xfe]).unwrap();
    fs::write(root.join("d.json"), "{").unwrap();
    let problems = load(&[root.to_owned(), root.join("gone")]).unwrap_err();
    let files: Vec<_> = problems.iter().map(|p| p.file.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(files, ["c.yaml", "d.json", "gone"], "{problems:#?}");
    assert!(problems[0].message.contains("UTF-8 from line 2"));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(load(&[empty.path().to_owned()]).unwrap_err().len(), 1);
}

/// Guarantees: the shipped examples are read, serve the same targets, and act where they say so.
#[test]
fn the_examples_are_read() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    for (name, mode) in [("shop", Mode::Enforce), ("shop-kubernetes", Mode::Recommend)] {
        let documents = load(&[root.join(name)]).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let mut targets: Vec<_> = documents.targets.iter().map(|(_, target)| target.name.as_str()).collect();
        targets.sort_unstable();
        assert_eq!(targets, ["catalog", "checkout", "gateway", "orders-db", "payments", "worker"]);
        let rules: Vec<_> = documents.rules.iter().map(|(_, rule)| (rule.name.as_str(), rule.mode)).collect();
        let recommend = Mode::Recommend;
        assert_eq!(rules, [("shop-load", mode), ("shop-checkout-slo", recommend), ("shop-worker", mode), ("shop-database", recommend)]);
        assert!(targets.iter().all(|name| documents.rules.iter().any(|(_, rule)| rule.serves(&name.to_string().try_into().unwrap()))));
    }
}

/// Guarantees: secrets come from files beside the document, never show in debug output, and unreadable files are told.
#[test]
fn secrets_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("settings.yaml");
    let text = "apiVersion: tracescale.io/v1alpha1\nkind: Settings\nspec:\n  receiver:\n    bearerTokensFile: tokens\n";
    fs::write(&file, text).unwrap();
    let problems = load(std::slice::from_ref(&file)).unwrap_err();
    assert_eq!((problems[0].path.as_str(), problems[0].line), ("spec.receiver.bearerTokensFile", Some(5)));
    fs::write(directory.path().join("tokens"), "# ours\n s3cret \n").unwrap();
    let settings = load(&[file]).unwrap().settings;
    assert_eq!(settings.receiver.bearer_tokens, [Secret::new("s3cret")]);
    assert!(!format!("{settings:?}").contains("s3cret"));
}

proptest! {
    /// Guarantees: no text makes the reader panic.
    #[test]
    fn any_text_is_read_or_refused(text in "[\\PC\n\t]{0,200}") {
        let _ = parse("any", &text);
    }

    /// Guarantees: a valid file with any part cut, doubled or overwritten is read or refused, and what is read is valid.
    #[test]
    fn damaged_documents_are_read_or_refused(cut in 0..EVERYTHING.len(), length in 0_usize..60, insert in "[-\\[\\]{}:&*#'\" \n\\PC]{0,6}") {
        let boundary = |mut at: usize| { while !EVERYTHING.is_char_boundary(at) { at -= 1; } at };
        let (from, to) = (boundary(cut), boundary((cut + length).min(EVERYTHING.len())));
        let damaged = format!("{}{insert}{}", &EVERYTHING[..from], &EVERYTHING[to..]);
        match parse("damaged", &damaged) {
            Ok(documents) => prop_assert!(documents.rules.iter().all(|(_, rule)| rule.policy.spec().min <= rule.policy.spec().max)),
            Err(problems) => prop_assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.to_string().is_empty())),
        }
    }
}

/// Guarantees: what is no probability is told with its service, its value and what to write, one as a percentage too.
#[test]
fn probabilities_are_checked() {
    let head = "apiVersion: tracescale.io/v1alpha1\nkind: Settings\nspec:\n  sampling:\n";
    let found = problems(&format!("{head}    probability: 0\n    services: {{checkout: 10, pay.v2: 1%, web: 1, db: -0.5, odd: .nan}}\n"));
    let told: Vec<_> = found.iter().map(|problem| (problem.path.as_str(), problem.value.as_deref(), problem.hint.is_some())).collect();
    let expected =
        [("probability", "0"), ("services.checkout", "10"), ("services.pay.v2", "1%"), ("services.db", "-0.5"), ("services.odd", ".nan")];
    let expected = expected.map(|(path, value)| (format!("spec.sampling.{path}"), value));
    assert_eq!(told, expected.iter().map(|(path, value)| (path.as_str(), Some(*value), true)).collect::<Vec<_>>(), "{found:#?}");
    let line = format!("{}", found[1]);
    assert_eq!(
        line,
        "test.yaml:6: spec.sampling.services.checkout = 10: must be a probability above 0, at most 1\n  hint: 0.1 keeps one trace in ten, 1 all of them"
    );
    assert_eq!(problems(&format!("{head}    probabilty: 0.5\n"))[0].hint.as_deref(), Some("did you mean `probability`?"));
}

/// Guarantees: amounts that are none are told with what to write, and enforcing needs a max that names itself.
#[test]
fn amounts_are_checked() {
    let found = problems(&rule("    max: 3\n    vertical: {mode: enforce, cpu: {min: 1 core, max: 2}, memory: {min: 128Mi}}\n"));
    let paths: Vec<_> = found.iter().map(|problem| (problem.path.as_str(), problem.hint.is_some())).collect();
    assert_eq!(paths, [("spec.policy.vertical.cpu.min", true), ("spec.policy.vertical.memory.max", true)], "{found:#?}");
}
