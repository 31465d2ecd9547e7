//! `queries/README.md` is complete: what SQL can see is named there.

use std::collections::{BTreeMap, BTreeSet};

use tracescale_core::schema::Stream;
use tracescale_queries::{functions, shipped};

use crate::streams_sql::{appended, directory, files, schemas};

/// The sections of the page by the name in their heading, with the names in backticks in each; "" holds all of them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(directory("README.md")).unwrap();
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    let mut in_code = false;
    for line in page.lines() {
        in_code ^= line.starts_with("```");
        if in_code {
            continue;
        }
        if line.starts_with('#') {
            section = line.trim_start_matches('#').trim().trim_matches('`').to_owned();
        }
        for quoted in line.split('`').skip(1).step_by(2) {
            let name: String = quoted.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            sections.entry(section.clone()).or_default().insert(name.clone());
            sections.entry(String::new()).or_default().insert(name);
        }
    }
    sections
}

fn missing<'a>(names: impl Iterator<Item = &'a str>, sections: &[&BTreeSet<String>]) -> Vec<&'a str> {
    names.filter(|name| !sections.iter().any(|section| section.contains(*name))).collect()
}

/// Guarantees: every stream has a section, and every column of it is named there (resource columns: in the section of `spans`).
#[test]
fn every_stream_column_is_documented() {
    let sections = documented();
    for stream in Stream::ALL {
        let section = sections.get(stream.name()).unwrap_or_else(|| panic!("no section `{}`", stream.name()));
        let schema = stream.schema();
        let absent = missing(schema.fields().iter().map(|field| field.name().as_str()), &[section, &sections["spans"]]);
        assert!(absent.is_empty(), "columns of {} that are not documented: {absent:?}", stream.name());
    }
}

/// Guarantees: every shipped view and model has a section, and every column of it is named there or among the columns that all have.
#[tokio::test]
async fn every_view_column_is_documented() {
    let sections = documented();
    let common = &sections["Columns that every shipped view has"];
    for (view, schema) in schemas().await {
        let section = sections.get(&view).unwrap_or_else(|| panic!("no section `{view}`"));
        let absent = missing(schema.fields().iter().map(|field| field.name().as_str()), &[section, common]);
        assert!(absent.is_empty(), "columns of {view} that are not documented: {absent:?}");
    }
    let absent =
        appended().iter().filter(|field| !sections["Columns that the engine appends to every view"].contains(field.name())).count();
    assert_eq!(absent, 0);
}

/// Guarantees: every function is named on the page.
#[test]
fn every_function_is_documented() {
    let sections = documented();
    let functions: Vec<String> = functions::all().iter().map(|function| function.name().to_owned()).collect();
    let words = [
        "HOP",
        "TUMBLE",
        "window_seconds",
        "latest",
        "quantile",
        "histogram",
        "histogram_merge",
        "histogram_quantile",
        "attribute",
        "forecast",
    ];
    let absent = missing(functions.iter().map(String::as_str).chain(words), &[&sections[""]]);
    assert!(absent.is_empty(), "functions that are not documented: {absent:?}");
}

/// Guarantees: every file in `views/` is compiled in.
#[test]
fn every_view_file_is_shipped() {
    let shipped: BTreeMap<String, String> = shipped::VIEWS.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
    assert_eq!(shipped, files("views", "sql"));
}
