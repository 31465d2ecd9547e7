//! The part of PromQL that people scale on: a level or a rate of one metric, summed, averaged, or its quantile.
//!
//! Everything else (arithmetic, joins, sub-queries, several results) has no counterpart in one view and is refused, not guessed.

use crate::foreign::signal::{Source, is_metric_name, of_requests};

/// Deepest nesting of calls.
const MAX_DEPTH: usize = 8;

/// What a query asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) source: Source,
    /// Selectors, ranges and groupings, which our views do not have.
    pub(crate) ignored: Vec<String>,
}

/// A parsed query.
#[derive(Debug)]
enum Query {
    Metric { name: String },
    Number(f64),
    Call { name: String, arguments: Vec<Query> },
}

struct Parser<'t> {
    rest: &'t str,
    ignored: Vec<String>,
}

/// Finds what a query asks for; `None` when it is not of the forms above.
pub(crate) fn read(text: &str) -> Option<Reading> {
    let mut parser = Parser { rest: text.trim(), ignored: Vec::new() };
    let query = parser.query(0)?;
    if !parser.rest.trim().is_empty() {
        return None;
    }
    Some(Reading { source: source(&query)?, ignored: parser.ignored })
}

fn source(query: &Query) -> Option<Source> {
    match query {
        Query::Metric { name } => Some(gauge(name, "total")),
        Query::Call { name, arguments } => match (name.as_str(), arguments.as_slice()) {
            ("histogram_quantile", [Query::Number(share), buckets]) => quantile(*share, buckets),
            ("rate" | "irate", [Query::Metric { name }]) => Some(rate(name)),
            ("avg_over_time" | "last_over_time", [Query::Metric { name }]) => Some(gauge(name, "mean")),
            ("max_over_time", [Query::Metric { name }]) => Some(gauge(name, "max")),
            ("min_over_time", [Query::Metric { name }]) => Some(gauge(name, "min")),
            ("sum", [Query::Metric { name }]) => Some(gauge(name, "total")),
            ("avg", [Query::Metric { name }]) => Some(gauge(name, "mean")),
            ("max", [Query::Metric { name }]) => Some(gauge(name, "max")),
            ("min", [Query::Metric { name }]) => Some(gauge(name, "min")),
            // The sum of rates, and whatever is aggregated already.
            ("sum" | "max" | "min" | "avg" | "scalar", [inner @ Query::Call { name: called, .. }]) => {
                let is_mean_of_rates = name == "avg" && matches!(called.as_str(), "rate" | "irate");
                source(inner).filter(|_| !is_mean_of_rates)
            }
            _ => None,
        },
        Query::Number(_) => None,
    }
}

fn gauge(name: &str, column: &'static str) -> Source {
    // A counter's level is no rate: only what is in flight is a level of requests.
    match of_requests(name) {
        Some(Source::Concurrency) => Source::Concurrency,
        _ => Source::Gauge(name.to_owned(), column),
    }
}

fn rate(name: &str) -> Source {
    match of_requests(name) {
        Some(Source::Arrivals) => Source::Arrivals,
        _ => Source::Rate(name.to_owned()),
    }
}

/// `histogram_quantile(0.99, sum by (le) (rate(…_bucket[5m])))`.
fn quantile(share: f64, buckets: &Query) -> Option<Source> {
    let columns = [(0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99")];
    let (_, column) = columns.into_iter().find(|(known, _)| (known - share).abs() < 1e-9)?;
    let mut inner = buckets;
    while let Query::Call { name, arguments } = inner
        && matches!(name.as_str(), "sum" | "rate" | "irate" | "increase")
    {
        inner = arguments.first()?;
    }
    let Query::Metric { name } = inner else { return None };
    let name = name.strip_suffix("_bucket").unwrap_or(name);
    let is_seconds = name.contains("request") && name.contains("duration") && name.ends_with("_seconds");
    Some(if is_seconds { Source::Latency(column) } else { Source::Histogram(name.to_owned(), column) })
}

// === impl Parser ===

impl<'t> Parser<'t> {
    fn query(&mut self, depth: usize) -> Option<Query> {
        if depth > MAX_DEPTH {
            return None;
        }
        let word = self.word();
        if word.is_empty() {
            return self.parentheses(depth);
        }
        if word.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return word.parse().ok().map(Query::Number);
        }
        self.grouping(word)?;
        if self.rest.trim_start().starts_with('(') {
            let arguments = self.arguments(depth)?;
            self.grouping(word)?;
            return Some(Query::Call { name: word.to_owned(), arguments });
        }
        for (open, close) in [('{', '}'), ('[', ']')] {
            if let Some(skipped) = self.enclosed(open, close)? {
                self.ignored.push(skipped);
            }
        }
        is_metric_name(word).then(|| Query::Metric { name: word.to_owned() })
    }

    /// `( query )`.
    fn parentheses(&mut self, depth: usize) -> Option<Query> {
        let mut arguments = self.arguments(depth)?;
        if arguments.len() == 1 { arguments.pop() } else { None }
    }

    fn arguments(&mut self, depth: usize) -> Option<Vec<Query>> {
        self.sign('(')?;
        let mut arguments = vec![self.query(depth + 1)?];
        while self.sign(',').is_some() {
            arguments.push(self.query(depth + 1)?);
        }
        self.sign(')')?;
        Some(arguments)
    }

    /// `by (…)` or `without (…)` before or after the arguments of an aggregate.
    fn grouping(&mut self, word: &str) -> Option<()> {
        let before = self.rest;
        let keyword = self.word();
        if !matches!(keyword, "by" | "without") || !matches!(word, "sum" | "avg" | "max" | "min") {
            self.rest = before;
            return Some(());
        }
        let labels = self.enclosed('(', ')')??;
        self.ignored.push(format!("{keyword} {labels}"));
        Some(())
    }

    fn word(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.'))).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn sign(&mut self, sign: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(sign)?;
        Some(())
    }

    /// `{…}` with quoted values, in which the closing sign may stand. `None` when it does not end.
    #[expect(clippy::option_option, reason = "nothing there is fine, an open end is not")]
    fn enclosed(&mut self, open: char, close: char) -> Option<Option<String>> {
        let text = self.rest.trim_start();
        if !text.starts_with(open) {
            return Some(None);
        }
        let (mut quote, mut escaped) = (None, false);
        for (at, c) in text.char_indices() {
            match quote {
                _ if escaped => escaped = false,
                Some(_) if c == '\\' => escaped = true,
                Some(sign) if c == sign => quote = None,
                None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
                None if c == close => {
                    let (inside, rest) = text.split_at(at + c.len_utf8());
                    self.rest = rest;
                    return Some(Some(inside.to_owned()));
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the usual queries lead to the view that holds the figure, and what they select is told.
    #[test]
    fn usual_queries_are_understood() {
        let cases = [
            ("sum(rate(http_requests_total{app=\"shop\"}[2m]))", Source::Arrivals),
            ("sum by (job) (irate(http_server_request_duration_seconds_count[1m]))", Source::Arrivals),
            ("sum(rate(orders_created_total[5m])) without (pod)", Source::Rate("orders_created_total".into())),
            ("sum(http_requests_in_flight)", Source::Concurrency),
            ("avg(queue_depth{queue=\"a}b\"})", Source::Gauge("queue_depth".into(), "mean")),
            ("queue_depth", Source::Gauge("queue_depth".into(), "total")),
            ("max(max_over_time(jobs_waiting[10m]))", Source::Gauge("jobs_waiting".into(), "max")),
            ("histogram_quantile(0.99, sum(rate(http_request_duration_seconds_bucket{a=\"b\"}[5m])) by (le))", Source::Latency("p99")),
            ("histogram_quantile(0.95, rate(job_seconds_bucket[5m]))", Source::Histogram("job_seconds".into(), "p95")),
        ];
        for (text, source) in cases {
            assert_eq!(read(text).map(|reading| reading.source), Some(source), "{text}");
        }
        let ignored = read("sum by (job) (rate(http_requests_total{app=\"shop\"}[2m]))").unwrap().ignored;
        assert_eq!(ignored, ["by (job)", "{app=\"shop\"}", "[2m]"]);
    }

    /// Guarantees: what has no counterpart is not guessed.
    #[test]
    fn other_queries_are_refused() {
        for text in [
            "",
            "sum(a) / sum(b)",
            "a + b",
            "42",
            "avg(rate(http_requests_total[2m]))",
            "histogram_quantile(0.42, rate(a_bucket[5m]))",
            "sum(rate(a[5m])",
            "predict_linear(a[1h], 3600)",
            "a{b=\"c\"",
            "a offset 5m",
            "((((((((((a))))))))))",
            "sum(a) > 3",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
