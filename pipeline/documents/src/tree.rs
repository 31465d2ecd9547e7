//! A text as a tree whose nodes know their lines. Untyped: `5`, `no` and `1.0` stay as they were written, and the reader of a
//! field says what they mean there, so that a name such as `no` never turns into a truth value.
//!
//! Everything is bounded: bytes, nodes (aliases count what they expand to), depth.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

mod json;

/// Largest text in bytes.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Most nodes in a text, those that aliases repeat included.
const MAX_NODES: usize = 200_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 48;
/// Most documents in a text.
const MAX_DOCUMENTS: usize = 20_000;

/// A value and where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Line from 1; 0 when unknown.
    pub(crate) line: u64,
    pub(crate) value: Value,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Nothing: `null`, `~` or empty.
    Null,
    /// A word without quotes.
    Plain(String),
    /// A text in quotes or a block.
    Text(String),
    List(Vec<Node>),
    /// Keys in the order of the text, also those that stand there twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) line: u64,
    pub(crate) text: String,
}

/// Why a text has no tree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unreadable {
    pub(crate) line: Option<u64>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Key>,
    /// Nodes that were made before it, to know how many it holds.
    nodes_before: usize,
    /// Depth of what it holds.
    depth: usize,
}

struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    roots: Vec<Node>,
    nodes: usize,
}

/// Reads a text; gives one node per document.
pub(crate) fn read(text: &str) -> Result<Vec<Node>, Unreadable> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        return Err(Unreadable {
            line: None,
            message: format!("the file has {} bytes, more than the {MAX_BYTES} that are read", text.len()),
            hint: Some("split it into several files".to_owned()),
        });
    }
    match read_yaml(text) {
        // JSON is YAML but for some escapes; a text that begins like JSON is tried as such before it is called broken.
        Err(unreadable) if text.trim_start().starts_with(['{', '[']) => json::read(text).map_err(|_| unreadable),
        other => other,
    }
}

fn read_yaml(text: &str) -> Result<Vec<Node>, Unreadable> {
    let options = serde_saphyr::granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Unreadable {
            line: Some(line(error.marker().line())),
            message: format!("not YAML: {}", error.info()),
            hint: None,
        })?;
        builder.event(event, span)?;
    }
    Ok(builder.roots)
}

fn line(line: usize) -> u64 {
    u64::try_from(line).unwrap_or(0)
}

// === impl Node ===

impl Node {
    /// What kind of thing it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Plain(_) | Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value in short, for people.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Plain(text) => shortened(text),
            Value::Text(text) => format!("\"{}\"", shortened(text)),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(fields) => format!("a mapping of {}", fields.len()),
        }
    }

    /// The line of the deepest node on a path such as `policies[0].period`, as far as the path exists.
    pub(crate) fn line_of(&self, path: &str) -> u64 {
        self.find(path).0
    }

    /// That line, and the node where the whole path exists.
    pub(crate) fn find(&self, path: &str) -> (u64, Option<&Self>) {
        let mut node = self;
        let mut line = self.line;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            let next = match (&node.value, part.strip_suffix(']')) {
                (Value::List(items), Some(index)) => index.parse::<usize>().ok().and_then(|index| items.get(index)).map(|n| (n.line, n)),
                (Value::Map(fields), None) => fields.iter().find(|(key, _)| key.text == part).map(|(key, n)| (key.line, n)),
                _ => None,
            };
            let Some((found, next)) = next else { return (line, None) };
            (line, node) = (found, next);
        }
        (line, Some(node))
    }
}

/// At most 80 characters of a text, on one line.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

// === impl Builder ===

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Unreadable> {
        let line = line(span.start.line());
        match event {
            Event::Scalar(text, style, anchor, _tag) => {
                let value = match (style, text.as_ref()) {
                    (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
                    (ScalarStyle::Plain, _) => Value::Plain(text.into_owned()),
                    _ => Value::Text(text.into_owned()),
                };
                self.count(1, line)?;
                self.complete(Node { line, value }, anchor, 1, 0)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Value::List(Vec::new()), anchor, line),
            Event::MappingStart(_, anchor, _) => self.begin(Value::Map(Vec::new()), anchor, line),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let nodes = self.nodes - open.nodes_before;
                self.complete(open.node, open.anchor, nodes, open.depth)
            }
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id) else {
                    return Err(fault(line, "an alias inside its own anchor has no end"));
                };
                let (node, nodes, depth) = (anchored.node.clone(), anchored.nodes, anchored.depth);
                self.count(nodes, line)?;
                if self.open.len() + depth > MAX_DEPTH {
                    return Err(fault(line, &format!("nested deeper than {MAX_DEPTH}")));
                }
                self.complete(Node { line, ..node }, 0, nodes, depth)
            }
            Event::DocumentStart(..) => {
                self.anchors.clear();
                if self.roots.len() >= MAX_DOCUMENTS {
                    return Err(fault(line, &format!("more than {MAX_DOCUMENTS} documents in one file")));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, line: u64) -> Result<(), Unreadable> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(fault(line, &format!("more than {MAX_NODES} values, counting what aliases repeat")));
        }
        Ok(())
    }

    fn begin(&mut self, value: Value, anchor: usize, line: u64) -> Result<(), Unreadable> {
        if self.open.len() >= MAX_DEPTH {
            return Err(fault(line, &format!("nested deeper than {MAX_DEPTH}")));
        }
        let nodes_before = self.nodes;
        self.count(1, line)?;
        self.open.push(Open { node: Node { line, value }, anchor, key: None, nodes_before, depth: 0 });
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn complete(&mut self, node: Node, anchor: usize, nodes: usize, depth: usize) -> Result<(), Unreadable> {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, depth: depth + 1 });
        }
        let Some(open) = self.open.last_mut() else {
            self.roots.push(node);
            return Ok(());
        };
        open.depth = open.depth.max(depth + 1);
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(fields) => match open.key.take() {
                Some(key) => fields.push((key, node)),
                None => {
                    let (Value::Plain(text) | Value::Text(text)) = node.value else {
                        return Err(fault(node.line, "a field name must be a single word"));
                    };
                    open.key = Some(Key { line: node.line, text });
                }
            },
            Value::Null | Value::Plain(_) | Value::Text(_) => {}
        }
        Ok(())
    }
}

fn fault(line: u64, message: &str) -> Unreadable {
    Unreadable { line: Some(line), message: message.to_owned(), hint: None }
}
