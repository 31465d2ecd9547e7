//! The JavaScript that plans are written in, as far as it is arithmetic and comparison: a tree, never executed.

use serde::{Deserialize, Serialize};

/// Deepest nesting.
const MAX_DEPTH: usize = 24;
/// Longest text in bytes.
const MAX_TEXT: usize = 8 << 10;
/// Most parts of one expression, which bounds the query that it becomes.
const MAX_PARTS: usize = 200;

/// An expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Script {
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Truth(bool),
    /// `$name`: a variable of the plan, or the state of a component.
    Variable(String),
    /// `get({…})`.
    Get(MetricQuery),
    /// `-x` or `!x`.
    Prefix {
        /// `-` or `!`.
        sign: String,
        /// What it is before.
        of: Box<Script>,
    },
    /// `a + b`, `a >= b`, `a && b`.
    Infix {
        /// As JavaScript writes it, `===` as `==`.
        sign: String,
        /// What is left of it.
        left: Box<Script>,
        /// What is right of it.
        right: Box<Script>,
    },
    /// `Math.ceil(…)`, and `floor`, `round`, `abs`, `min`, `max`.
    Call {
        /// `ceil`.
        function: String,
        /// Its arguments.
        arguments: Vec<Script>,
    },
}

/// What `get` asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricQuery {
    /// Which metric document.
    pub metric_id: String,
    /// Name of the series.
    pub name: Option<String>,
    /// Tags of the series, as written.
    pub tags: Vec<(String, String)>,
    /// `latest` where nothing is written.
    pub stats: Option<String>,
    /// Length of the look-back in seconds, 300 where nothing is written.
    pub period_sec: Option<f64>,
}

struct Parser<'t> {
    rest: &'t str,
    parts: usize,
}

/// Operators by how strongly they bind, weakest first.
const LEVELS: [&[(&str, &str)]; 5] = [
    &[("||", "||")],
    &[("&&", "&&")],
    &[("===", "=="), ("!==", "!="), ("==", "=="), ("!=", "!="), ("<=", "<="), (">=", ">="), ("<", "<"), (">", ">")],
    &[("+", "+"), ("-", "-")],
    &[("*", "*"), ("/", "/"), ("%", "%")],
];

/// Reads an expression; `None` when it is more than arithmetic and comparison.
pub(crate) fn read(text: &str) -> Option<Script> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let text = text.trim().trim_end_matches(';');
    let mut parser = Parser { rest: text, parts: 0 };
    let script = parser.level(0, 0)?;
    parser.rest.trim().is_empty().then_some(script)
}

// === impl Script ===

impl Script {
    /// Visits every part.
    pub(crate) fn visit<'s>(&'s self, visitor: &mut impl FnMut(&'s Self)) {
        visitor(self);
        match self {
            Self::Prefix { of, .. } => of.visit(visitor),
            Self::Infix { left, right, .. } => {
                left.visit(visitor);
                right.visit(visitor);
            }
            Self::Call { arguments, .. } => arguments.iter().for_each(|argument| argument.visit(visitor)),
            Self::Number(_) | Self::Truth(_) | Self::Variable(_) | Self::Get(_) => {}
        }
    }
}

// === impl Parser ===

impl<'t> Parser<'t> {
    fn level(&mut self, level: usize, depth: usize) -> Option<Script> {
        self.parts += 1;
        if depth > MAX_DEPTH || self.parts > MAX_PARTS * LEVELS.len() {
            return None;
        }
        let Some(signs) = LEVELS.get(level) else { return self.prefix(depth) };
        let mut left = self.level(level + 1, depth)?;
        let mut length = 0;
        loop {
            let rest = self.rest.trim_start();
            let Some((sign, meaning)) = signs.iter().find(|(sign, _)| rest.starts_with(sign)) else { return Some(left) };
            length += 1;
            if length > MAX_DEPTH {
                return None;
            }
            self.rest = &rest[sign.len()..];
            let right = Box::new(self.level(level + 1, depth)?);
            left = Script::Infix { sign: (*meaning).to_owned(), left: Box::new(left), right };
        }
    }

    fn prefix(&mut self, depth: usize) -> Option<Script> {
        self.rest = self.rest.trim_start();
        for sign in ["-", "!"] {
            if let Some(rest) = self.rest.strip_prefix(sign) {
                self.rest = rest;
                if depth >= MAX_DEPTH {
                    return None;
                }
                return Some(Script::Prefix { sign: sign.to_owned(), of: Box::new(self.prefix(depth + 1)?) });
            }
        }
        self.primary(depth)
    }

    fn primary(&mut self, depth: usize) -> Option<Script> {
        if self.sign('(').is_some() {
            let inner = self.level(0, depth + 1)?;
            self.sign(')')?;
            return Some(inner);
        }
        let word = self.word();
        match word {
            "" => None,
            "true" => Some(Script::Truth(true)),
            "false" => Some(Script::Truth(false)),
            "get" => self.get().map(Script::Get),
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => {
                word.parse::<f64>().ok().filter(|number| number.is_finite()).map(Script::Number)
            }
            _ => match (word.strip_prefix('$'), word.strip_prefix("Math.")) {
                (Some(name), _) if !name.is_empty() => Some(Script::Variable(name.to_owned())),
                (_, Some(function @ ("ceil" | "floor" | "round" | "abs" | "min" | "max"))) => {
                    let function = function.to_owned();
                    Some(Script::Call { function, arguments: self.arguments(depth)? })
                }
                _ => None,
            },
        }
    }

    fn arguments(&mut self, depth: usize) -> Option<Vec<Script>> {
        self.sign('(')?;
        let mut arguments = vec![self.level(0, depth + 1)?];
        while self.sign(',').is_some() {
            arguments.push(self.level(0, depth + 1)?);
        }
        self.sign(')')?;
        Some(arguments)
    }

    /// `({metric_id: 'x', tags: {a: 'b'}, stats: 'avg', period_sec: 60})`.
    fn get(&mut self) -> Option<MetricQuery> {
        self.sign('(')?;
        let mut query = MetricQuery::default();
        for (key, value) in self.object(true)? {
            match (key.as_str(), value) {
                ("metric_id", Field::Text(text)) => query.metric_id = text,
                ("name", Field::Text(text)) => query.name = Some(text),
                ("stats", Field::Text(text)) => query.stats = Some(text),
                ("period_sec", Field::Number(number)) => query.period_sec = Some(number),
                ("tags", Field::Tags(tags)) => query.tags = tags,
                _ => return None,
            }
        }
        self.sign(')')?;
        (!query.metric_id.is_empty()).then_some(query)
    }

    fn object(&mut self, nested: bool) -> Option<Vec<(String, Field)>> {
        self.sign('{')?;
        let mut fields = Vec::new();
        while self.sign('}').is_none() {
            let key = match self.text() {
                Some(key) => key,
                None => Some(self.word().to_owned()).filter(|word| !word.is_empty())?,
            };
            self.sign(':')?;
            let value = if let Some(text) = self.text() {
                Field::Text(text)
            } else if nested && self.rest.trim_start().starts_with('{') {
                let text = |(key, value)| if let Field::Text(text) = value { Some((key, text)) } else { None };
                Field::Tags(self.object(false)?.into_iter().map(text).collect::<Option<_>>()?)
            } else {
                Field::Number(self.word().parse::<f64>().ok().filter(|number| number.is_finite())?)
            };
            fields.push((key, value));
            if self.sign(',').is_none() {
                self.sign('}')?;
                break;
            }
        }
        Some(fields)
    }

    /// A text in quotes without escapes.
    fn text(&mut self) -> Option<String> {
        let rest = self.rest.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"' | '`'))?;
        let (text, after) = rest[1..].split_once(quote)?;
        if text.contains(['\\', '\n']) || text.contains("${") {
            return None;
        }
        self.rest = after;
        Some(text.to_owned())
    }

    fn word(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$'))).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn sign(&mut self, sign: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(sign)?;
        Some(())
    }
}

enum Field {
    Text(String),
    Number(f64),
    Tags(Vec<(String, String)>),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: expressions are grouped as JavaScript groups them, and a query keeps all its fields.
    #[test]
    fn expressions_are_read() {
        let get =
            "get({ metric_id: 'waiting', name: \"len\", tags: { 'queue': 'a' }, stats: 'max', period_sec: 60, }) >= 500 && $replicas < 3";
        let Script::Infix { sign, left, .. } = read(get).unwrap() else { panic!("not a conjunction") };
        assert_eq!(sign, "&&");
        let Script::Infix { left, .. } = *left else { panic!("not a comparison") };
        let expect = MetricQuery {
            metric_id: "waiting".into(),
            name: Some("len".into()),
            tags: vec![("queue".into(), "a".into())],
            stats: Some("max".into()),
            period_sec: Some(60.0),
        };
        assert_eq!(*left, Script::Get(expect));
        let Script::Infix { sign, .. } = read("1 + 2 * 3 > 4 || false").unwrap() else { panic!("not a disjunction") };
        assert_eq!(sign, "||");
        assert_eq!(read("Math.ceil($x / 10)"), read(" Math.ceil( $x/10 );"));
    }

    /// Guarantees: whatever is more than arithmetic and comparison is refused, and so is what nests without end.
    #[test]
    fn programs_are_refused() {
        for text in
            ["", "a", "get('x')", "get({})", "x => x", "$a ? 1 : 2", "while(true){}", "1 +", "(1", "'text'", "Math.random()", "1 2", "é"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&"(".repeat(5000)), None);
        assert_eq!(read(&"-".repeat(5000)), None);
        assert_eq!(read(&format!("1{}", "+1".repeat(3000))), None);
    }
}
