//! The shipped views and models have the columns that they promise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Field, Schema};
use tracescale_core::schema::timestamp;
use tracescale_queries::config::EngineConfig;
use tracescale_queries::engine::Engine;
use tracescale_queries::{judgement, shipped, streams};

/// Columns that the engine appends to every view.
pub(crate) fn appended() -> Vec<Field> {
    let field = |name, data_type| Field::new(name, data_type, true);
    vec![
        field("is_final", DataType::Boolean),
        field("revision", DataType::Int32),
        field("completeness", DataType::Float64),
        field("age", DataType::Float64),
        field("presence", DataType::Utf8),
    ]
}

pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Files of a directory by stem, in order.
pub(crate) fn files(name: &str, extension: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory(name)).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The names of the shipped models.
pub(crate) fn models() -> Vec<&'static str> {
    judgement::all(&judgement::Settings::default()).iter().map(|model| model.name()).collect()
}

/// The own columns of every shipped view and model.
pub(crate) async fn schemas() -> BTreeMap<String, Schema> {
    let (parts, _) = shipped::parts(&streams::Config::default(), &judgement::Settings::default(), Vec::new());
    let engine = Engine::with_parts(EngineConfig::default(), parts).await.unwrap_or_else(|problems| panic!("{problems:#?}"));
    let appended: Vec<String> = appended().iter().map(|field| field.name().clone()).collect();
    let own = |schema: &Schema| {
        let fields = schema.fields().iter().filter(|field| !appended.contains(field.name()));
        Schema::new(fields.map(|field| field.as_ref().clone()).collect::<Vec<_>>())
    };
    engine.tables().views().map(|(name, schema)| (name.to_owned(), own(schema))).collect()
}

/// Guarantees: every shipped view and model is there with the columns that all views share with their types, and names a service;
/// models say nothing of samples but those of what they read.
#[tokio::test]
async fn shipped_views_have_the_common_columns() {
    let (schemas, models) = (schemas().await, models());
    assert_eq!(schemas.len(), shipped::VIEWS.len() + models.len());
    for (view, schema) in &schemas {
        let all = [
            ("window_start", timestamp()),
            ("window_end", timestamp()),
            ("n_eff", DataType::Float64),
            ("confidence", DataType::Float64),
            ("samples", DataType::Int64),
        ];
        let promised = if models.contains(&view.as_str()) { &all[..2] } else { &all[..] };
        for (column, data_type) in promised {
            let found = schema.field_with_name(column).unwrap_or_else(|_| panic!("{view} has no column {column}"));
            assert_eq!(found.data_type(), data_type, "{view}.{column}");
        }
        let service = if view == "calls" { "client_service" } else { "service_name" };
        assert!(schema.field_with_name(service).is_ok(), "{view} has no column {service}");
    }
}

/// Guarantees: every shipped rule has tests beside it.
#[test]
fn shipped_rules_have_tests() {
    let (rules, tests) = (files("rules", "yaml"), files("rules", "slt"));
    assert!(rules.contains_key("observe"));
    assert_eq!(rules.keys().collect::<Vec<_>>(), tests.keys().collect::<Vec<_>>());
}
