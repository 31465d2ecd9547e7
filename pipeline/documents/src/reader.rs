//! A typed walk over a tree that collects problems instead of stopping at the first.
//!
//! A reader of a kind asks a [`Fields`] for the fields it knows; `finish` reports the rest as unknown, with the nearest of the
//! names that were asked for. So the code that reads a kind *is* its schema, and there is no second list to keep in step.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use tracescale_core::duration;

use crate::Problem;
use crate::tree::{Node, Value};

/// Collects what is wrong.
#[derive(Debug)]
pub(crate) struct Reader {
    file: String,
    pub(crate) problems: Vec<Problem>,
    /// Every path that any reader asked for, without list indices: the schema as it is read.
    pub(crate) known: BTreeSet<String>,
}

/// A node and where it is in its document.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
    /// Line of the field's name; of the node itself in lists.
    pub(crate) line: u64,
}

/// The fields of a mapping, of which a reader takes those it knows.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    entries: &'a [(crate::tree::Key, Node)],
    path: String,
    line: u64,
    asked: Vec<&'static str>,
}

/// Names that people bring from other systems, and what they are called here.
const ELSEWHERE: [(&str, &str); 26] = [
    ("minReplicas", "write `min`"),
    ("maxReplicas", "write `max`"),
    ("minReplicaCount", "write `min`"),
    ("maxReplicaCount", "write `max`"),
    ("behavior", "write `scaleUp` and `scaleDown` directly in `policy`"),
    ("behaviour", "write `scaleUp` and `scaleDown` directly in `policy`"),
    ("stabilizationWindowSeconds", "write `stabilizationWindow: 300s`"),
    ("periodSeconds", "write `period: 60s`"),
    ("cooldownPeriod", "write `cooldown: 5m` in `scaleDown`"),
    ("pollingInterval", "write `every: 5s`"),
    ("interval", "write `every: 5s`"),
    ("query", "write `sql`"),
    ("dryRun", "write `mode: recommend`"),
    ("scaleTargetRef", "write `kubernetes: {apiVersion, kind, namespace, name}`"),
    ("targetRef", "write `kubernetes: {apiVersion, kind, namespace, name}`"),
    ("minimum", "write `min`"),
    ("maximum", "write `max`"),
    ("serviceName", "write `service: {name: …}`"),
    ("timeZone", "write `timezone`"),
    ("schedule", "write `schedules`, a list"),
    ("replicas", "write `min` and `max`"),
    ("enabled", "write `mode: off` to switch a rule off"),
    ("fallback", "write `onMissing: {replicas: 5}`"),
    ("tokens", "write `bearerTokensFile: FILE`; secrets are read from files"),
    ("bearerTokens", "write `bearerTokensFile: FILE`; secrets are read from files"),
    ("<<", "YAML merge keys are not read; repeat the fields, or use an alias for the whole value"),
];

// === impl Reader ===

impl Reader {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), problems: Vec::new(), known: BTreeSet::new() }
    }

    /// Reports a problem that is not about a field.
    pub(crate) fn report(&mut self, line: u64, path: &str, value: Option<String>, message: impl Display, hint: Option<String>) {
        self.problems.push(Problem {
            file: self.file.clone(),
            line: (line > 0).then_some(line),
            path: path.to_owned(),
            value,
            message: message.to_string(),
            hint,
        });
    }

    /// Reports a problem with a value.
    pub(crate) fn wrong(&mut self, at: &At<'_>, message: impl Display, hint: impl Into<Option<String>>) {
        self.report(at.line, &at.path, Some(at.node.shown()), message, hint.into());
    }

    /// The fields of a mapping. An absent one is an empty mapping, so that `spec:` with nothing below is complete.
    pub(crate) fn fields<'a>(&mut self, at: &At<'a>) -> Option<Fields<'a>> {
        let entries: &[_] = match &at.node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                self.wrong(at, format!("must be a mapping, not {}", at.node.kind()), None);
                return None;
            }
        };
        for (index, (key, _)) in entries.iter().enumerate() {
            if let Some((first, _)) = entries[..index].iter().find(|(other, _)| other.text == key.text) {
                let message = if first.line > 0 {
                    format!("stands here twice, first in line {}", first.line)
                } else {
                    "stands here twice".to_owned()
                };
                self.report(key.line, &joined(&at.path, &key.text), None, message, None);
            }
        }
        Some(Fields { entries, path: at.path.clone(), line: at.line, asked: Vec::new() })
    }

    /// The items of a list.
    pub(crate) fn items<'a>(&mut self, at: &At<'a>) -> Vec<At<'a>> {
        match &at.node.value {
            Value::List(items) => {
                items.iter().enumerate().map(|(index, node)| At { node, path: format!("{}[{index}]", at.path), line: node.line }).collect()
            }
            Value::Null => Vec::new(),
            _ => {
                self.wrong(at, format!("must be a list, not {}", at.node.kind()), "write it as `- …` or `[…]`".to_owned());
                Vec::new()
            }
        }
    }

    /// A text; plain words of any look are texts too.
    pub(crate) fn text<'a>(&mut self, at: &At<'a>) -> Option<&'a str> {
        match &at.node.value {
            Value::Plain(text) | Value::Text(text) if !text.trim().is_empty() => Some(text),
            Value::Plain(_) | Value::Text(_) | Value::Null => {
                self.wrong(at, "must not be empty", None);
                None
            }
            Value::List(_) | Value::Map(_) => {
                self.wrong(at, format!("must be a text, not {}", at.node.kind()), None);
                None
            }
        }
    }

    /// A word without quotes, for numbers and truth values.
    fn plain<'a>(&mut self, at: &At<'a>, what: &str) -> Option<&'a str> {
        match &at.node.value {
            Value::Plain(text) => Some(text),
            Value::Text(_) => {
                self.wrong(at, format!("must be {what}, not a text"), "remove the quotes".to_owned());
                None
            }
            _ => {
                self.wrong(at, format!("must be {what}, not {}", at.node.kind()), None);
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn whole(&mut self, at: &At<'_>, least: i64, most: i64) -> Option<i64> {
        let text = self.plain(at, "a whole number")?;
        match text.parse::<i64>() {
            Ok(value) if (least..=most).contains(&value) => Some(value),
            Ok(_) => {
                self.wrong(at, "is out of range", format!("a whole number from {least} to {most}"));
                None
            }
            Err(_) => {
                self.wrong(at, "must be a whole number", format!("a whole number from {least} to {most}"));
                None
            }
        }
    }

    /// A number of replicas.
    pub(crate) fn replicas(&mut self, at: &At<'_>) -> Option<u32> {
        self.whole(at, 0, 1_000_000).and_then(|value| u32::try_from(value).ok())
    }

    /// A finite number.
    pub(crate) fn number(&mut self, at: &At<'_>) -> Option<f64> {
        let text = self.plain(at, "a number")?;
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Some(value),
            _ => {
                self.wrong(at, "must be a number", "such as 0.1".to_owned());
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn truth(&mut self, at: &At<'_>) -> Option<bool> {
        match self.plain(at, "true or false")? {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.wrong(at, "must be true or false", None);
                None
            }
        }
    }

    /// A duration from `least` to `most`.
    pub(crate) fn duration(&mut self, at: &At<'_>, least: Duration, most: Duration) -> Option<Duration> {
        let text = self.text(at)?;
        match duration::parse(text) {
            Ok(value) if (least..=most).contains(&value) => Some(value),
            Ok(_) => {
                self.wrong(at, "is out of range", format!("from {} to {}", duration::format(least), duration::format(most)));
                None
            }
            Err(error) => {
                let hint =
                    if text.parse::<f64>().is_ok() { format!("write {text}s for seconds") } else { "such as 30s, 5m or 1h30m".to_owned() };
                self.wrong(at, error, hint);
                None
            }
        }
    }

    /// A duration without bounds of its own: whoever makes the value checks it.
    pub(crate) fn any_duration(&mut self, at: &At<'_>) -> Option<Duration> {
        self.duration(at, Duration::ZERO, Duration::from_secs(u64::from(u32::MAX)))
    }

    /// Bytes: a number, or with a unit such as `64MiB`.
    pub(crate) fn bytes(&mut self, at: &At<'_>, least: usize, most: usize) -> Option<usize> {
        let text = self.text(at)?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: usize = match unit.trim() {
            "" | "B" => 1,
            "KiB" | "Ki" => 1 << 10,
            "MiB" | "Mi" => 1 << 20,
            "GiB" | "Gi" => 1 << 30,
            _ => 0,
        };
        match number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)).filter(|_| unit > 0) {
            Some(value) if (least..=most).contains(&value) => Some(value),
            Some(_) => {
                self.wrong(at, "is out of range", format!("from {least} to {most} bytes"));
                None
            }
            None => {
                self.wrong(at, "must be a number of bytes", "such as 64MiB (units: KiB, MiB, GiB)".to_owned());
                None
            }
        }
    }

    /// One of some words.
    pub(crate) fn one_of<T: Copy>(&mut self, at: &At<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(at)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.wrong(at, format!("must be one of {}", names.join(", ")), nearest(text, &names).map(|word| format!("did you mean `{word}`?")));
        None
    }

    /// Anything that parses from text.
    pub(crate) fn parsed<T: std::str::FromStr>(&mut self, at: &At<'_>, what: &str, example: &str) -> Option<T> {
        let text = self.text(at)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.wrong(at, format!("must be {what}"), format!("such as {example}"));
        }
        value
    }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// A field, when it stands there. `null` is the same as absent.
    pub(crate) fn take(&mut self, reader: &mut Reader, name: &'static str) -> Option<At<'a>> {
        self.asked.push(name);
        let path = joined(&self.path, name);
        reader.known.insert(without_indices(&path));
        let (key, node) = self.entries.iter().find(|(key, _)| key.text == name)?;
        (node.value != Value::Null).then_some(At { node, path, line: key.line })
    }

    /// A field that others write there and that means nothing to us.
    pub(crate) fn ignore(&mut self, name: &'static str) {
        self.asked.push(name);
    }

    /// A field that must stand there.
    pub(crate) fn require(&mut self, reader: &mut Reader, name: &'static str, hint: &str) -> Option<At<'a>> {
        let found = self.take(reader, name);
        if found.is_none() {
            reader.report(self.line, &joined(&self.path, name), None, "is missing", Some(hint.to_owned()));
        }
        found
    }

    /// The fields that nobody asked for, where the reader does something else with them than to call them unknown.
    pub(crate) fn rest(self) -> Vec<At<'a>> {
        let unasked = self.entries.iter().filter(|(key, node)| !self.asked.contains(&key.text.as_str()) && node.value != Value::Null);
        unasked.map(|(key, node)| At { node, path: joined(&self.path, &key.text), line: key.line }).collect()
    }

    /// Reports the fields that nobody asked for.
    pub(crate) fn finish(self, reader: &mut Reader) {
        for (key, _) in self.entries.iter().filter(|(key, _)| !self.asked.contains(&key.text.as_str())) {
            let brought = ELSEWHERE.iter().find(|(name, _)| *name == key.text).map(|(_, hint)| (*hint).to_owned());
            let hint = nearest(&key.text, &self.asked)
                .map(|name| format!("did you mean `{name}`?"))
                .or(brought)
                .unwrap_or_else(|| format!("fields here: {}", self.asked.join(", ")));
            reader.report(key.line, &joined(&self.path, &key.text), None, "unknown field", Some(hint));
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// `policies[3].period` as `policies[].period`.
fn without_indices(path: &str) -> String {
    path.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The nearest of some names, when it is near: a third of the letters may differ.
#[must_use]
pub fn nearest<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    let length = text.chars().count();
    if length > 64 {
        return None;
    }
    let (distance, name) = names.iter().map(|name| (distance(&text.to_lowercase(), &name.to_lowercase()), *name)).min()?;
    (distance <= (length / 3).max(1)).then_some(name)
}

/// Edit distance: insertions, deletions, replacements.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
