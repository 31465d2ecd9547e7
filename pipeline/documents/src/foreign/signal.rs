//! What a foreign metric is in our telemetry, and the SQL that turns it into replicas.

use crate::foreign::write::{literal, number};

/// Where a figure is found in our views.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// Servers kept busy: arrival rate × service time, of `service_summary`.
    Load,
    /// Requests per second, of `service_load`.
    Arrivals,
    /// Requests in flight, of `service_load`.
    Concurrency,
    /// A quantile of the request duration in seconds, of `service_latency`.
    Latency(&'static str),
    /// A level, and which column of `metric_gauges` says it.
    Gauge(String, &'static str),
    /// The growth of a counter per second, of `metric_rates`.
    Rate(String),
    /// A quantile of a histogram, of `metric_histograms`.
    Histogram(String, &'static str),
}

/// How a figure becomes replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Division {
    /// So much of the figure for each replica: ⌈figure / target⌉.
    PerReplica(f64),
    /// The figure is the same for any number of replicas, or their mean: ⌈ready · figure / target⌉.
    Ratio(f64),
}

/// Scaling to an idle number where the figure says that there is nothing to do, as KEDA has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Activation {
    /// Active above this figure.
    pub(crate) above: f64,
    /// Replicas while it is not active.
    pub(crate) idle: u32,
    /// Fewest replicas while it is.
    pub(crate) least: u32,
}

/// One figure and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signal {
    pub(crate) source: Source,
    pub(crate) division: Division,
    pub(crate) activation: Option<Activation>,
}

/// True for names that can stand in a query as they are: what people and exporters name metrics.
pub(crate) fn is_metric_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= 255 && name.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric())
}

/// The trace figure that a metric's name speaks of, if it does: requests per second, or requests in flight.
pub(crate) fn of_requests(name: &str) -> Option<Source> {
    let name = name.to_ascii_lowercase().replace(['-', '.', '/'], "_");
    let is_request = name.contains("request");
    let in_flight = ["in_flight", "inflight", "concurren", "active_requests", "busy_requests"].iter().any(|word| name.contains(word));
    let per_second = ["per_second", "_rate", "_total", "_count"].iter().any(|word| name.contains(word)) || name.ends_with("requests");
    let short = name.split('_').any(|word| matches!(word, "rps" | "qps"));
    match (in_flight, short || is_request && per_second) {
        (true, _) => Some(Source::Concurrency),
        (false, true) => Some(Source::Arrivals),
        (false, false) => None,
    }
}

// === impl Source ===

impl Source {
    /// What it is, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Load => "the offered load of the service's spans (arrival rate × own working time)".to_owned(),
            Self::Arrivals => "the request rate of the service's spans (service_load.arrival_rate)".to_owned(),
            Self::Concurrency => "the requests in flight of the service's spans (service_load.concurrency)".to_owned(),
            Self::Latency(quantile) => format!("the request duration of the service's spans (service_latency.{quantile}, seconds)"),
            Self::Gauge(name, column) => format!("the level `{name}` among the service's own metrics (metric_gauges.{column})"),
            Self::Rate(name) => format!("the growth of the counter `{name}` among the service's own metrics (metric_rates.rate)"),
            Self::Histogram(name, column) => format!("the histogram `{name}` among the service's own metrics (metric_histograms.{column})"),
        }
    }

    /// The metric that must be sent for it, if it is not made of spans.
    pub(crate) fn metric(&self) -> Option<&str> {
        match self {
            Self::Gauge(name, _) | Self::Rate(name) | Self::Histogram(name, _) => Some(name),
            Self::Load | Self::Arrivals | Self::Concurrency | Self::Latency(_) => None,
        }
    }

    /// View and column.
    fn place(&self) -> (&'static str, &str) {
        match self {
            Self::Load => ("service_summary", "offered_load"),
            Self::Arrivals => ("service_load", "arrival_rate"),
            Self::Concurrency => ("service_load", "concurrency"),
            Self::Latency(quantile) => ("service_latency", quantile),
            Self::Gauge(_, column) => ("metric_gauges", column),
            Self::Rate(_) => ("metric_rates", "rate"),
            Self::Histogram(_, column) => ("metric_histograms", column),
        }
    }
}

// === impl Division ===

impl Division {
    fn of(self, source: &Source, column: &str) -> String {
        match (self, source) {
            // A share of a server above one is several servers.
            (Self::PerReplica(target), Source::Load) => {
                let (servers, utilization) = if target > 1.0 { (target, 1.0) } else { (1.0, target) };
                let (servers, utilization) = (number(servers), number(utilization));
                format!("replicas_for_load(s.arrival_rate, s.service_time, servers => {servers}, utilization => {utilization})")
            }
            (Self::PerReplica(target), Source::Concurrency) => {
                format!("replicas_for_concurrency(s.concurrency, per_replica => {})", number(target))
            }
            (Self::PerReplica(target), _) => format!("ceil({column} / {})", number(target)),
            (Self::Ratio(target), _) => format!("ceil(coalesce(t.ready, t.current) * {column} / {})", number(target)),
        }
    }
}

// === impl Signal ===

impl Signal {
    /// The query of a rule: one row for the target.
    pub(crate) fn sql(&self, target: &str) -> String {
        let (view, column) = self.source.place();
        let column = format!("s.{column}");
        let mut wanted = self.division.of(&self.source, &column);
        let mut idle = String::new();
        if let Some(Activation { above, idle: replicas, least }) = self.activation {
            // An idle service has no service time, and so no offered load.
            let activity = if self.source == Source::Load { "s.arrival_rate" } else { &column };
            idle = format!("            WHEN {activity} <= {} THEN {}\n", number(above), number(f64::from(replicas)));
            wanted = format!("greatest({wanted}, {})", number(f64::from(least)));
        } else if self.source == Source::Load {
            // An idle service has no service time, but nothing to serve either.
            "            WHEN s.arrival_rate = 0 THEN 0\n".clone_into(&mut idle);
        }
        // The number of points behind a level says nothing about its certainty: n_eff is told for spans only.
        let (evidence, filter) = match self.source.metric() {
            Some(name) => ("", format!(" AND metric_name = {}", literal(name))),
            None => ("s.n_eff, s.confidence, ", String::new()),
        };
        let shown = if self.source == Source::Load { "s.arrival_rate, s.service_time, s.offered_load" } else { &column };
        format!(
            "SELECT t.target,\n       CASE WHEN s.presence = 'missing' THEN NULL\n{idle}            ELSE {wanted} END AS replicas,\n       \
             s.window_end, s.is_final, {evidence}s.completeness, s.age, s.presence,\n       {shown}\nFROM targets t\n\
             LEFT JOIN (SELECT * FROM {view} WHERE window_end = latest(){filter}) s\n       ON s.service_name = t.service_name\n      \
             AND (t.service_namespace IS NULL OR s.service_namespace = t.service_namespace)\nWHERE t.target = {}",
            literal(target)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: names that speak of requests lead to spans, and others do not.
    #[test]
    fn names_of_request_metrics_are_known() {
        for name in
            ["http_requests_total", "requests-per-second", "http.server.request.duration_count", "rps", "nginx_ingress_controller_requests"]
        {
            assert_eq!(of_requests(name), Some(Source::Arrivals), "{name}");
        }
        for name in ["http_requests_in_flight", "http.server.active_requests", "request_concurrency"] {
            assert_eq!(of_requests(name), Some(Source::Concurrency), "{name}");
        }
        for name in ["queue_length", "messages_total", "packets-per-second", "jobs"] {
            assert_eq!(of_requests(name), None, "{name}");
        }
    }

    /// Guarantees: a quote in a name ends no literal, and a target above one server is several servers.
    #[test]
    fn queries_are_quoted() {
        let signal = Signal { source: Source::Gauge("it's".into(), "total"), division: Division::PerReplica(3.0), activation: None };
        assert!(signal.sql("a").contains("metric_name = 'it''s'"));
        let signal = Signal { source: Source::Load, division: Division::PerReplica(1.5), activation: None };
        assert!(signal.sql("a").contains("servers => 1.5, utilization => 1.0"), "{}", signal.sql("a"));
    }
}
