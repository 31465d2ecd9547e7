//! What reading foreign documents guarantees.

use std::path::PathBuf;

use proptest::prelude::*;
use tracescale_core::policy::{Mode, OnMissing, SelectPolicy};

use super::*;

const HPA: &str = include_str!("../../../../deploy/examples/import/hpa.yaml");
const HPA_V1: &str = include_str!("../../../../deploy/examples/import/hpa-v1.yaml");
const KEDA: &str = include_str!("../../../../deploy/examples/import/keda.yaml");
const WAVE: &str = include_str!("../../../../deploy/examples/import/wave.yaml");
const CLOUDPULSE: &str = include_str!("../../../../deploy/examples/import/cloudpulse.yaml");
const ALL: [(&str, &str); 5] = [("hpa", HPA), ("hpa-v1", HPA_V1), ("keda", KEDA), ("wave", WAVE), ("cloudpulse", CLOUDPULSE)];

fn import(text: &str) -> Import {
    read("test.yaml", text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn problems(text: &str) -> Vec<Problem> {
    read("test.yaml", text).err().unwrap_or_default()
}

fn note<'i>(imported: &'i Imported, path: &str) -> &'i Note {
    imported.notes.iter().find(|note| note.path == path).unwrap_or_else(|| panic!("nothing about {path}: {:#?}", imported.notes))
}

/// Guarantees: the documents that each example becomes are the recorded ones, to the letter, with all their notes.
#[test]
fn the_examples_become_what_is_recorded() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    for (name, text) in ALL {
        let import = import(text);
        let notes: Vec<String> =
            import.imported.iter().flat_map(|imported| &imported.notes).chain(&import.others).map(ToString::to_string).collect();
        let found = format!("{}\n=== notes ===\n{}\n", together(&import.imported), notes.join("\n"));
        let path = directory.join(format!("{name}.txt"));
        if std::env::var_os("RECORD").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let recorded = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, recorded, "{name}: run with RECORD=1 where the change is meant");
    }
}

/// Guarantees: what is written is read by our own reader, one by one and together, recommends, and serves its target.
#[test]
fn what_is_written_is_read() {
    for (name, text) in ALL {
        let import = import(text);
        for imported in &import.imported {
            crate::parse(name, &imported.documents).unwrap_or_else(|problems| panic!("{problems:#?}"));
        }
        let documents = crate::parse(name, &together(&import.imported)).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(!documents.rules.is_empty() && !documents.targets.is_empty(), "{name}");
        for (_, rule) in &documents.rules {
            assert_eq!(rule.mode, Mode::Recommend);
            assert_eq!(rule.targets.as_ref().map(|scope| scope.names.len()), Some(1));
        }
    }
}

/// Guarantees: an HPA is read with all its figures: quantities, limits and what is wanted of each metric.
#[test]
fn the_form_of_an_hpa_is_faithful() {
    let import = import(HPA);
    let Form::Hpa(hpa) = &import.imported[0].form else { panic!("not an HPA") };
    assert_eq!((hpa.min, hpa.max, hpa.target.name.as_str()), (2, 20, "checkout"));
    let targets: Vec<MetricTarget> = hpa.metrics.iter().map(|metric| metric.target).collect();
    let expect = [
        MetricTarget::Utilization(70),
        MetricTarget::AverageValue(524_288_000.0),
        MetricTarget::AverageValue(25.0),
        MetricTarget::Value(1000.0),
    ];
    assert_eq!(targets, expect);
    let down = &hpa.behavior.as_ref().unwrap().scale_down;
    assert_eq!((down.select_policy, down.policies.len(), down.tolerance), (SelectPolicy::Min, 2, Some(0.05)));
    let rules = crate::parse("x", &import.imported[0].documents).unwrap().rules;
    assert_eq!(rules.len(), 4);
    let spec = rules[0].1.policy.spec();
    assert_eq!((spec.min, spec.max, &spec.scale_down), (2, 20, down));
}

/// Guarantees: version 1 is read out of a list, with 80 % of the CPU where nothing is wanted.
#[test]
fn lists_and_the_older_form_are_read() {
    let import = import(HPA_V1);
    let metrics = import.imported.iter().map(|imported| match &imported.form {
        Form::Hpa(hpa) => hpa.metrics[0].target,
        _ => panic!("not an HPA"),
    });
    assert_eq!(metrics.collect::<Vec<_>>(), [MetricTarget::Utilization(60), MetricTarget::Utilization(DEFAULT_CPU_PERCENT)]);
    assert!(import.imported[1].documents.contains("\"shop.sessions-statefulset\""));
}

/// Guarantees: KEDA's defaults, fallback, pauses and schedules end where they belong.
#[test]
fn the_form_of_a_scaled_object_is_faithful() {
    let import = import(KEDA);
    let Form::Keda(object) = &import.imported[0].form else { panic!("not a ScaledObject") };
    assert_eq!((object.min, object.max, object.cooldown_period.as_secs()), (0, 30, 600));
    assert!(object.paused.scale_in && matches!(object.triggers[3].demand, Demand::Unknown));
    assert_eq!(object.triggers[0].metadata["topic"], "orders");
    let rules = crate::parse("x", &import.imported[0].documents).unwrap().rules;
    let spec = rules[0].1.policy.spec();
    assert_eq!(rules.len(), 2);
    assert_eq!(spec.scale_down.select_policy, SelectPolicy::Disabled);
    assert_eq!(spec.scale_down.stabilization_window.as_secs(), 600);
    assert_eq!(spec.on_missing, OnMissing::After { after: std::time::Duration::from_secs(30), replicas: 6 });
    assert_eq!((spec.schedules[0].min, spec.schedules[0].duration.as_secs()), (Some(4), 690 * 60));
    let Form::Keda(clock) = &import.imported[2].form else { panic!("not a ScaledObject") };
    assert_eq!((clock.polling_interval.as_secs(), clock.cooldown_period.as_secs(), clock.max), (30, 300, 100));
}

/// Guarantees: the items of a plan are tried by priority, and keep their scripts as written and as trees.
#[test]
fn the_form_of_a_plan_is_faithful() {
    let import = import(WAVE);
    let Form::Wave(plan) = &import.imported[0].form else { panic!("not a plan") };
    let ids: Vec<_> = plan.items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["morning", "scale_out", "scale_in"]);
    assert!(plan.items[1].condition.is_some() && plan.items[0].cron.is_some());
    let spec = &crate::parse("x", &import.imported[0].documents).unwrap().rules[0].1;
    assert_eq!(spec.every.as_secs(), 10);
    assert_eq!((spec.policy.spec().max, spec.policy.spec().scale_up.cooldown.as_secs()), (100, 120));
    assert_eq!(import.others.len(), 2, "{:#?}", import.others);
}

/// Guarantees: every field that nobody reads is told with its place and value, and secrets are not shown.
#[test]
fn nothing_is_dropped_silently() {
    let text = "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nextra: 1\nmetadata: {name: a, labels: {x: y}, annotations: {note: n}}\nspec:\n  surprise: [1, 2]\n  scaleTargetRef: {name: a, odd: 3}\n  advanced: {scalingModifiers: {formula: a+b}, unheard: 5}\n  triggers:\n  - {type: cpu, wonder: 6, metadata: {value: '50', password: hunter2}}\n";
    let import = import(text);
    let imported = &import.imported[0];
    for (path, value) in [
        ("extra", "1"),
        ("metadata.labels", "a mapping of 1"),
        ("metadata.annotations.note", "n"),
        ("spec.surprise", "a list of 2"),
        ("spec.scaleTargetRef.odd", "3"),
        ("spec.advanced.scalingModifiers", "a mapping of 1"),
        ("spec.advanced.unheard", "5"),
        ("spec.triggers[0].wonder", "6"),
        ("spec.triggers[0].metadata.password", "(not shown)"),
    ] {
        let note = note(imported, path);
        assert_eq!((note.fate, note.value.as_deref()), (Fate::Lost, Some(value)), "{path}");
        assert!(note.line.is_some(), "{path}");
    }
}

/// Guarantees: all mistakes of a file are told at once, each with line, path and what to write instead.
#[test]
fn all_problems_come_at_once() {
    let text = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: Bad_Name}\nspec:\n  minReplicas: 5\n  maxReplicas: 3\n  metrics:\n  - type: Resource\n    resource: {name: cpu, target: {type: Utilization, averageUtilization: 70%}}\n  - {type: Pods, pods: {metric: {name: a}, target: {type: Value, value: 3}}}\n  - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 12GB}}}\n  behavior: {scaleUp: {stabilizationWindowSeconds: 9999, policies: []}}\n---\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: b}\nspec: {scaleTargetRef: {name: b}, minReplicaCount: x, triggers: []}\n---\nkind: ScalingPlan\nid: p\nplans: [{id: a, scaling_components: [{component_id: gone, replicas: 1}]}]\n---\napiVersion: cloudpulse.io/v1\nkind: ScalingRule\nmetadata: {name: c}\nspec: {nodeId: n, metric: m, action: explode, threshold: high, replicas: 0}\n";
    let found = problems(text);
    let expect = [
        (3, "metadata.name"),
        (4, "spec.scaleTargetRef"),
        (5, "spec.minReplicas"),
        (9, "spec.metrics[0].resource.target.averageUtilization"),
        (10, "spec.metrics[1].pods.target.type"),
        (11, "spec.metrics[2].resource.target.averageValue"),
        (12, "spec.behavior.scaleUp.stabilizationWindowSeconds"),
        (12, "spec.behavior.scaleUp.policies"),
        (17, "spec.minReplicaCount"),
        (17, "spec.triggers"),
        (21, "plans[0].expression"),
        (21, "plans[].scaling_components[].component_id"),
        (26, "spec.action"),
        (26, "spec.threshold"),
        (26, "spec.replicas"),
    ];
    for (line, path) in expect {
        let problem = found.iter().find(|problem| problem.path == path).unwrap_or_else(|| panic!("nothing about {path}: {found:#?}"));
        assert_eq!(problem.line, Some(line), "{path}");
    }
    assert_eq!(found.len(), expect.len(), "{found:#?}");
}

/// Guarantees: what cannot be imported is told: alone as a problem, beside what can as a note.
#[test]
fn other_documents_are_told() {
    assert_eq!(problems("a: [").len(), 1);
    assert_eq!(problems("").len(), 1);
    assert_eq!(problems("just text").len(), 1);
    let many = "{type: cpu, metadata: {value: '5'}}, ".repeat(101);
    let many = format!(
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: a}}\nspec: {{scaleTargetRef: {{name: a}}, triggers: [{many}]}}"
    );
    assert!(problems(&many)[0].message.contains("too long"));
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
    assert_eq!(problems(deployment)[0].value.as_deref(), Some("apps/v1 Deployment"));
    let old = "apiVersion: autoscaling/v2beta1\nkind: HorizontalPodAutoscaler\n";
    assert!(problems(old)[0].hint.as_deref().is_some_and(|hint| hint.contains("kubectl")));
    let import = import(&format!("{deployment}---\n{CLOUDPULSE}"));
    assert_eq!((import.imported.len(), import.others.len()), (2, 1));
    assert!(problems("apiVersion: v1\nkind: List\nitems: [{kind: A}, 3]")[1].path.starts_with("items[1]"));
}

/// Guarantees: where a metric is lost the others do not scale down, and say so; a lost schedule counts too.
#[test]
fn what_is_lost_holds_the_rest() {
    let spec = "spec:\n  scaleTargetRef: {kind: Deployment, name: a}\n  maxReplicas: 5\n  metrics:\n  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 150}}}\n";
    let gpu = "  - {type: Resource, resource: {name: gpu, target: {type: Utilization, averageUtilization: 70}}}\n";
    let head = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a, namespace: n}\n";
    let select = |text: &str| {
        let documents = import(text).imported.remove(0).documents;
        let rule = crate::parse("x", &documents).unwrap().rules.remove(0).1;
        (rule.policy.spec().scale_down.select_policy, documents.contains("Not carried over"), rule.sql)
    };
    let (kept, told, sql) = select(&format!("{head}{spec}"));
    assert_eq!((kept, told), (SelectPolicy::Max, false));
    assert!(sql.contains("servers => 1.5, utilization => 1.0"), "{sql}");
    let (held, told, _) = select(&format!("{head}{spec}{gpu}"));
    assert_eq!((held, told), (SelectPolicy::Disabled, true));
    let keda = "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: a, namespace: n}\nspec:\n  scaleTargetRef: {name: a}\n  minReplicaCount: 1\n  triggers:\n  - {type: cpu, metadata: {value: '50'}}\n  - {type: cron, metadata: {timezone: UTC, start: 0 8 * * 1-5, end: 0 18 * * 6, desiredReplicas: '3'}}\n";
    let (held, told, _) = select(keda);
    assert_eq!((held, told), (SelectPolicy::Disabled, true));
}

/// Guarantees: an object that idles goes there where nothing is active, and otherwise not below its least.
#[test]
fn idle_objects_idle() {
    let text = "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: a, namespace: n}\nspec:\n  scaleTargetRef: {name: a}\n  minReplicaCount: 3\n  idleReplicaCount: 0\n  triggers:\n  - {type: cpu, metadata: {value: '50'}}\n  - {type: redis, metadata: {listLength: '7', activationListLength: '2'}}\n";
    let imported = import(text).imported.remove(0);
    let rules = crate::parse("x", &imported.documents).unwrap().rules;
    assert!(rules[0].1.sql.contains("WHEN s.arrival_rate <= 0.0 THEN 0.0") && rules[0].1.sql.contains(", 3.0) END"), "{}", rules[0].1.sql);
    assert!(
        rules[1].1.sql.contains("WHEN s.total <= 2.0 THEN 0.0\n            ELSE greatest(ceil(s.total / 7.0), 3.0) END"),
        "{}",
        rules[1].1.sql
    );
    assert_eq!(rules[0].1.policy.spec().min, 0);
}

/// Guarantees: a plan's scripts become SQL with the same grouping, and what has no SQL is left out and told.
#[test]
fn scripts_become_queries() {
    let plan = |items: &str| {
        format!(
            "kind: ScalingComponent\nid: c\ncomponent_kind: kubernetes-deployment\nmetadata: {{namespace: n, name: a}}\n---\nkind: ScalingPlan\nid: p\nplans:\n{items}"
        )
    };
    let item = |id: &str, expression: &str, replicas: &str| {
        format!("- {{id: {id}, expression: \"{expression}\", scaling_components: [{{component_id: c, replicas: \"{replicas}\"}}]}}\n")
    };
    let items = item(
        "a",
        "get({metric_id: 'x'}) > 1 + 2 * 3 && !($replicas == 4 || get({metric_id: 'y', stats: 'max'}) != 5)",
        "Math.max($replicas - 1, 2)",
    ) + &item("b", "get({metric_id: 'x', stats: 'linear_slope'}) > 0", "3")
        + &item("c", "$unknown > 0", "3");
    let imported = import(&plan(&items)).imported.remove(0);
    let sql = crate::parse("x", &imported.documents).unwrap().rules.remove(0).1.sql;
    let expect = "WHEN (m0.mean > (1.0 + (2.0 * 3.0)) AND (NOT (CAST(t.current AS DOUBLE) = 4.0 OR m1.max <> 5.0))) \
                  THEN greatest((CAST(t.current AS DOUBLE) - 1.0), 2.0) -- a";
    assert!(sql.contains(expect), "{sql}");
    assert!(sql.contains("m0.is_final AND m1.is_final AS is_final, least(m0.completeness, m1.completeness) AS completeness"), "{sql}");
    assert!(note(&imported, "plans[b]").message.contains("linear_slope"));
    assert!(note(&imported, "plans[c]").message.contains("$unknown"));
    assert!(imported.documents.contains("selectPolicy: Disabled") && imported.documents.contains("Not carried over: b, c."));
    // A plan that computes nothing from metrics needs no windows.
    let imported = import(&plan(&item("a", "$replicas < 2", "2"))).imported.remove(0);
    let rule = crate::parse("x", &imported.documents).unwrap().rules.remove(0).1;
    assert!(!rule.sql.contains("JOIN") && rule.policy.spec().gates.scale_down_needs_final == Some(false));
}

/// Guarantees: two rules of one target share it, and a schedule is all that an object with a clock alone needs.
#[test]
fn documents_are_put_together() {
    let import = import(CLOUDPULSE);
    let documents = crate::parse("x", &together(&import.imported)).unwrap();
    assert_eq!((documents.targets.len(), documents.rules.len()), (1, 2));
    assert_eq!(together(&import.imported), together(import.imported.iter().chain(&import.imported)));
}

proptest! {
    /// Guarantees: no text makes the reader panic, and what it writes is read.
    #[test]
    fn any_text_is_read_or_refused(text in "[\\PC\n\t]{0,200}") {
        let _ = read("any", &text);
    }

    /// Guarantees: an example with any part cut, doubled or overwritten is read or refused, and what becomes of it is read.
    #[test]
    fn damaged_documents_are_read_or_refused(which in 0..ALL.len(), cut in 0.0..1.0_f64, length in 0_usize..40, insert in "[-\\[\\]{}:&*#'\"$<> \n\\PC]{0,6}") {
        let text = ALL[which].1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short text")]
        let cut = (cut * text.len() as f64) as usize;
        let boundary = |mut at: usize| { while !text.is_char_boundary(at) { at -= 1; } at };
        let (from, to) = (boundary(cut), boundary((cut + length).min(text.len())));
        match read("damaged", &format!("{}{insert}{}", &text[..from], &text[to..])) {
            Ok(import) => for imported in &import.imported {
                let parsed = crate::parse("written", &imported.documents);
                prop_assert!(parsed.is_ok(), "{parsed:#?}\n{}", imported.documents);
            },
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                // Our own limits are all known where a document is read.
                prop_assert!(problems.iter().all(|problem| !problem.message.starts_with("cannot be carried over: spec.sql")), "{problems:#?}");
            }
        }
    }
}
