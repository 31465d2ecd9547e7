//! A walk over a foreign document: what is wrong goes to problems, and what becomes of each field to notes.

use std::time::Duration;

use crate::foreign::{Fate, Note, quantity};
use crate::reader::{At, Fields, Reader};
use crate::tree::{Node, Value};

/// Most replicas that a policy can name.
const MAX_REPLICAS: u32 = 1_000_000;
/// Most metrics, triggers or items of one document: more than anybody writes, and few enough to compare each with each.
const MAX_ITEMS: usize = 100;
/// Longest time that a document can name: more is a slip of the finger.
const MAX_SECONDS: u64 = 7 * 24 * 3600;

/// Collects problems and notes of one document.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) reader: Reader,
    pub(crate) notes: Vec<Note>,
}

// === impl Walk ===

impl Walk {
    pub(crate) fn new(file: &str) -> Self {
        Self { reader: Reader::new(file), notes: Vec::new() }
    }

    /// Says what became of a field.
    pub(crate) fn note(&mut self, fate: Fate, at: &At<'_>, message: impl Into<String>, hint: impl Into<String>) {
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        let line = (at.line > 0).then_some(at.line);
        let value = shown(&at.path, at.node);
        self.notes.push(Note { fate, path: at.path.clone(), line, value: Some(value), message: message.into(), hint });
    }

    /// A field that means the same here.
    pub(crate) fn exact(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.note(Fate::Exact, at, message, "");
    }

    /// Says something about what the document does not write: a default, or how the other system works.
    pub(crate) fn assume(&mut self, fate: Fate, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self.notes.push(Note { fate, path: path.to_owned(), line: None, value: None, message: message.into(), hint });
    }

    /// Tells of every field that nobody asked for.
    pub(crate) fn rest(&mut self, fields: Fields<'_>) {
        for at in fields.rest() {
            self.note(Fate::Lost, &at, "is not a field that is known here", "look up what it does; nothing here does it");
        }
    }

    /// A field that must stand there, as its value.
    pub(crate) fn text_of(&mut self, fields: &mut Fields<'_>, name: &'static str, hint: &str) -> Option<String> {
        let at = fields.require(&mut self.reader, name, hint)?;
        self.reader.text(&at).map(str::to_owned)
    }

    /// A field that may stand there, as text.
    pub(crate) fn text_if(&mut self, fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
        let at = fields.take(&mut self.reader, name)?;
        self.reader.text(&at).map(str::to_owned)
    }

    /// The items of a list that is not too long.
    pub(crate) fn items<'a>(&mut self, at: &At<'a>) -> Vec<At<'a>> {
        let items = self.reader.items(at);
        if items.len() > MAX_ITEMS {
            self.reader.wrong(at, "is too long", format!("at most {MAX_ITEMS}"));
            return Vec::new();
        }
        items
    }

    /// A number of replicas, with or without quotes.
    pub(crate) fn replicas(&mut self, at: &At<'_>) -> Option<u32> {
        let text = self.reader.text(at)?;
        let replicas = text.parse::<u32>().ok().filter(|replicas| *replicas <= MAX_REPLICAS);
        if replicas.is_none() {
            self.reader.wrong(at, "must be a number of replicas", format!("a whole number from 0 to {MAX_REPLICAS}"));
        }
        replicas
    }

    /// Whole seconds, with or without quotes.
    pub(crate) fn seconds(&mut self, at: &At<'_>) -> Option<Duration> {
        let text = self.reader.text(at)?;
        let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds <= MAX_SECONDS);
        if seconds.is_none() {
            self.reader.wrong(at, "must be a whole number of seconds", format!("from 0 to {MAX_SECONDS}, without a unit"));
        }
        seconds.map(Duration::from_secs)
    }

    /// A quantity such as `500m`, with or without quotes.
    pub(crate) fn quantity(&mut self, at: &At<'_>) -> Option<f64> {
        let text = self.reader.text(at)?;
        let value = quantity::parse(text);
        if value.is_none() {
            self.reader.wrong(at, "must be a quantity", "a number, or one with a unit such as 500m, 1.5k or 2Gi".to_owned());
        }
        value
    }

    /// A quantity that something is divided by.
    pub(crate) fn positive(&mut self, at: &At<'_>) -> Option<f64> {
        let value = self.quantity(at)?;
        if value < 1e-9 {
            self.reader.wrong(at, "must be larger than zero", None);
            return None;
        }
        Some(value)
    }

    /// `true` or `false`, with or without quotes.
    pub(crate) fn truth(&mut self, at: &At<'_>) -> Option<bool> {
        match &at.node.value {
            Value::Plain(text) | Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::Plain(text) | Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => {
                self.reader.wrong(at, "must be true or false", None);
                None
            }
        }
    }

    /// The name of an object of the cluster.
    pub(crate) fn object_name(&mut self, at: &At<'_>) -> Option<String> {
        let text = self.reader.text(at)?;
        if let Err(error) = tracescale_core::name::check(text) {
            let hint =
                if text.contains("{{") { "fill in the placeholders first, as `helm template` does" } else { "as the cluster writes it" };
            self.reader.wrong(at, format!("is not the name of an object: {error}"), hint.to_owned());
            return None;
        }
        Some(text.to_owned())
    }

    /// True when nothing was wrong so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.reader.problems.is_empty()
    }
}

/// A value in short, unless nobody should see it.
pub(crate) fn shown(path: &str, node: &Node) -> String {
    if is_secret(path) { "(not shown)".to_owned() } else { node.shown() }
}

/// True for fields that hold what nobody should read in a report.
fn is_secret(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    ["password", "secret", "token", "apikey", "api_key", "access_key", "accesskey", "connection"].iter().any(|word| name.contains(word))
}
