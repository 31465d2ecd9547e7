//! The shipped views and rules are valid SQL over the schemas of the streams, with the columns that they promise.
//!
//! Planned by plain DataFusion: `HOP` becomes the stream with two more columns, sketches become plain aggregates of the same type.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use tracescale_core::schema::{Stream, timestamp};
use tracescale_queries::functions;

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

fn register(context: &SessionContext, name: &str, schema: Schema) {
    context.register_table(name, Arc::new(MemTable::try_new(Arc::new(schema), vec![vec![]]).unwrap())).unwrap();
}

/// A session with every stream, every shipped view (with its appended columns) and `targets`; and the views' own schemas.
pub(crate) async fn session() -> (SessionContext, BTreeMap<String, Schema>) {
    let context = SessionContext::new();
    functions::all().into_iter().for_each(|function| context.register_udf(function));
    for stream in Stream::ALL {
        let fields = stream.schema().fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
        let window = ["window_start", "window_end"].map(|name| Field::new(name, timestamp(), false));
        register(&context, stream.name(), Schema::new([fields, window.to_vec()].concat()));
    }
    let mut schemas = BTreeMap::new();
    let (streamed, rolled): (Vec<_>, Vec<_>) = files("views", "sql").into_iter().partition(|(_, sql)| sql.contains("HOP("));
    for (name, sql) in streamed.into_iter().chain(rolled) {
        let query = plain(&sql);
        assert!(query.contains(&format!("CREATE VIEW {name} AS")), "{name}.sql creates another view");
        let (_, query) = query.split_once(" AS\n").unwrap();
        let frame = context.sql(query.trim_end().trim_end_matches(';')).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let schema = frame.schema().as_arrow().clone();
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
        register(&context, &name, Schema::new([fields, appended()].concat()));
        schemas.insert(name, schema);
    }
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = |name| Field::new(name, DataType::Int64, true);
    let targets = vec![
        text("target"),
        text("service_name"),
        text("service_namespace"),
        text("kind"),
        number("current"),
        number("ready"),
        number("min"),
        number("max"),
        Field::new("paused", DataType::Boolean, true),
    ];
    register(&context, "targets", Schema::new(targets));
    (context, schemas)
}

/// The SQL without what only the engine has.
fn plain(sql: &str) -> String {
    let sql: String = sql.lines().filter(|line| !line.trim_start().starts_with("--")).map(|line| format!("{line}\n")).collect();
    let sql = replace_call(&sql, "HOP", |arguments| arguments.split(',').next().unwrap().to_owned());
    let sql = replace_call(&sql, "histogram_quantile", |_| "CAST(max(count) AS DOUBLE)".to_owned());
    let sql = replace_call(&sql, "quantile", |arguments| format!("max({})", arguments.split(',').next().unwrap()));
    let sql = replace_call(&sql, "latest", |_| "TIMESTAMP '2026-01-01 00:00:00'".to_owned());
    replace_call(&sql, "window_seconds", |_| "60.0".to_owned())
}

/// Replaces every call of a function, given its arguments as text.
fn replace_call(sql: &str, function: &str, with: impl Fn(&str) -> String) -> String {
    let (mut rest, mut replaced, call) = (sql, String::new(), format!("{function}("));
    while let Some(at) = rest.find(&call) {
        let before = rest[..at].chars().next_back();
        let (head, tail) = rest.split_at(at + call.len());
        let mut depth = 1;
        let end = tail
            .char_indices()
            .find(|(_, letter)| {
                depth += i32::from(*letter == '(') - i32::from(*letter == ')');
                depth == 0
            })
            .unwrap()
            .0;
        if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            replaced.push_str(head);
            rest = tail;
        } else {
            replaced.push_str(&rest[..at]);
            replaced.push_str(&with(&tail[..end]));
            rest = &tail[end + 1..];
        }
    }
    replaced + rest
}

/// Guarantees: every shipped view plans, has the columns that all views share with their types, and none that the engine appends.
#[tokio::test]
async fn shipped_views_have_the_common_columns() {
    let (_, schemas) = session().await;
    assert_eq!(schemas.len(), 12);
    for (view, schema) in &schemas {
        for (column, data_type) in [
            ("window_start", timestamp()),
            ("window_end", timestamp()),
            ("n_eff", DataType::Float64),
            ("confidence", DataType::Float64),
            ("samples", DataType::Int64),
        ] {
            let found = schema.field_with_name(column).unwrap_or_else(|_| panic!("{view} has no column {column}"));
            assert_eq!(*found.data_type(), data_type, "{view}.{column}");
        }
        let service = if view == "calls" { "client_service" } else { "service_name" };
        assert!(schema.field_with_name(service).is_ok(), "{view} has no column {service}");
        for field in appended() {
            assert!(schema.field_with_name(field.name()).is_err(), "{view} selects {}", field.name());
        }
    }
}

/// Guarantees: every shipped rule plans over views and targets, and returns a target, a number of replicas and the evidence.
#[tokio::test]
async fn shipped_rules_return_targets_and_evidence() {
    let (context, _) = session().await;
    let rules = files("rules", "yaml");
    assert!(rules.contains_key("observe"));
    for (rule, document) in rules {
        let (_, rest) = document.split_once("  sql: |\n").unwrap();
        let (sql, _) = rest.split_once("  policy:\n").unwrap();
        let frame = context.sql(&plain(sql)).await.unwrap_or_else(|error| panic!("{rule}: {error}"));
        for column in ["target", "replicas", "window_end", "is_final", "n_eff", "confidence", "completeness", "age", "presence"] {
            assert!(frame.schema().field_with_unqualified_name(column).is_ok(), "{rule} has no column {column}");
        }
        let replicas = frame.schema().field_with_unqualified_name("replicas").unwrap().data_type().clone();
        assert!(replicas.is_numeric(), "{rule}: replicas is {replicas}");
    }
}
