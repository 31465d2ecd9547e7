//! Triggers: what their metadata say, for those whose figure telemetry can show.

use std::collections::BTreeMap;

use crate::foreign::Fate;
use crate::foreign::hpa::MetricTarget;
use crate::foreign::keda::{Demand, Trigger};
use crate::foreign::walk::Walk;
use crate::reader::{At, Fields, Reader};
use crate::tree::Value;

/// Triggers on what waits in a queue: KEDA's type, the field with the wanted length and its default, the field with the
/// activation, and the metric under which a receiver of OpenTelemetry's collector reports the length.
const QUEUES: [(&str, &str, Option<f64>, &str, &str); 4] = [
    ("kafka", "lagThreshold", Some(10.0), "activationLagThreshold", "kafka.consumer_group.lag"),
    ("apache-kafka", "lagThreshold", Some(10.0), "activationLagThreshold", "kafka.consumer_group.lag"),
    ("rabbitmq", "value", None, "activationValue", "rabbitmq.message.current"),
    ("redis", "listLength", Some(5.0), "activationListLength", "redis.list.length"),
];

/// Where a value of metadata stands.
struct Metadata<'a> {
    fields: Fields<'a>,
    at: At<'a>,
}

/// Reads one trigger.
pub(crate) fn read(walk: &mut Walk, at: &At<'_>) -> Option<Trigger> {
    let mut fields = walk.reader.fields(at)?;
    let kind = walk.text_of(&mut fields, "type", "such as prometheus");
    let name = walk.text_if(&mut fields, "name");
    let metric_type = fields.take(&mut walk.reader, "metricType");
    if let Some(at) = fields.take(&mut walk.reader, "authenticationRef") {
        walk.note(Fate::Lost, &at, "is not needed: telemetry comes to tracescale by itself", "");
    }
    if let Some(at) = fields.take(&mut walk.reader, "useCachedMetrics") {
        walk.note(Fate::Lost, &at, "is about how KEDA asks; here nothing is asked", "");
    }
    let at = fields.require(&mut walk.reader, "metadata", "metadata: {…}");
    let texts = at.as_ref().and_then(|at| texts(walk, at));
    let metadata = at.and_then(|at| Some(Metadata { fields: walk.reader.fields(&at)?, at }));
    walk.rest(fields);
    let (kind, texts, mut metadata) = (kind?, texts?, metadata?);
    let demand = demand(walk, &kind, metric_type.as_ref(), &mut metadata);
    if demand != Some(Demand::Unknown) {
        for at in metadata.fields.rest() {
            walk.note(Fate::Lost, &at, "has no counterpart here", hint_of(&at.path));
        }
    }
    Some(Trigger { kind, name, metadata: texts, demand: demand? })
}

fn hint_of(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "topic" | "consumerGroup" | "queueName" | "listName" | "vhostName" => {
            "the views add up all that the service reports; write a view over `metrics` with attribute(attributes, …) to keep one apart"
        }
        "serverAddress" | "bootstrapServers" | "host" | "address" | "hostFromEnv" => {
            "telemetry comes to tracescale by itself: nothing is asked"
        }
        _ => "",
    }
}

/// All metadata as texts, for the record.
fn texts(walk: &mut Walk, at: &At<'_>) -> Option<BTreeMap<String, String>> {
    let Value::Map(entries) = &at.node.value else {
        walk.reader.wrong(at, format!("must be a mapping, not {}", at.node.kind()), None);
        return None;
    };
    let text = |value: &Value| match value {
        Value::Plain(text) | Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    Some(entries.iter().filter_map(|(key, node)| Some((key.text.clone(), text(&node.value)?))).collect())
}

fn demand(walk: &mut Walk, kind: &str, metric_type: Option<&At<'_>>, metadata: &mut Metadata<'_>) -> Option<Demand> {
    match kind {
        "cpu" | "memory" => resource(walk, kind, metric_type, metadata),
        "prometheus" => prometheus(walk, metric_type, metadata),
        "cron" => cron(walk, metadata),
        _ => {
            if let Some((_, length, default, activation, metric)) = QUEUES.iter().find(|(name, ..)| *name == kind) {
                return backlog(walk, metric_type, metadata, (length, *default, activation, metric));
            }
            let hint = match kind {
                "external" | "external-push" => "if it is a scaler of your own, send what it measures by OTLP, and write a rule over it",
                _ => "send what it measures as a metric by OTLP, and write a rule over metric_gauges or metric_rates",
            };
            walk.note(Fate::Lost, &metadata.at, format!("is a trigger of type {kind}, whose figure is in no telemetry that we know"), hint);
            Some(Demand::Unknown)
        }
    }
}

fn resource(walk: &mut Walk, kind: &str, metric_type: Option<&At<'_>>, metadata: &mut Metadata<'_>) -> Option<Demand> {
    let value = metadata.fields.require(&mut walk.reader, "value", "such as \"70\"");
    // An older place of `metricType`.
    let older = metadata.fields.take(&mut walk.reader, "type");
    if let Some(at) = metadata.fields.take(&mut walk.reader, "containerName") {
        walk.note(Fate::Approximate, &at, "is about one container; here the whole pod is looked at", "");
    }
    let types = [("Utilization", true), ("AverageValue", false)];
    let is_share = match metric_type.or(older.as_ref()) {
        Some(at) => walk.reader.one_of(at, &types)?,
        None => true,
    };
    let value = value?;
    let target = if is_share {
        let percent = walk.replicas(&value)?;
        if percent == 0 {
            walk.reader.wrong(&value, "must be at least 1", None);
            return None;
        }
        MetricTarget::Utilization(percent)
    } else {
        MetricTarget::AverageValue(walk.positive(&value)?)
    };
    Some(Demand::Resource { resource: kind.to_owned(), target })
}

/// `metricType` of triggers on a figure from outside.
fn external(walk: &mut Walk, metric_type: Option<&At<'_>>, wanted: f64) -> Option<MetricTarget> {
    let types = [("AverageValue", true), ("Value", false)];
    let is_average = metric_type.map_or(Some(true), |at| walk.reader.one_of(at, &types))?;
    Some(if is_average { MetricTarget::AverageValue(wanted) } else { MetricTarget::Value(wanted) })
}

fn number(walk: &mut Walk, at: Option<&At<'_>>) -> Option<f64> {
    at.map_or(Some(0.0), |at| walk.quantity(at))
}

fn prometheus(walk: &mut Walk, metric_type: Option<&At<'_>>, metadata: &mut Metadata<'_>) -> Option<Demand> {
    let query = walk.text_of(&mut metadata.fields, "query", "the PromQL query");
    let threshold = metadata.fields.require(&mut walk.reader, "threshold", "such as \"100\"").and_then(|at| walk.positive(&at));
    let activation = metadata.fields.take(&mut walk.reader, "activationThreshold");
    let activation = number(walk, activation.as_ref());
    let ignore = metadata.fields.take(&mut walk.reader, "ignoreNullValues");
    let ignore_null_values = match &ignore {
        Some(at) => walk.truth(at)?,
        None => true,
    };
    let path = format!("{}.ignoreNullValues", metadata.at.path);
    if ignore_null_values {
        let message = "makes an empty answer zero, which scales down when the telemetry breaks; here it is missing data: hold";
        walk.assume(Fate::Approximate, &path, message, "`policy.onMissing` says what else to do");
    } else {
        walk.assume(Fate::Exact, &path, "an empty answer is missing data", "");
    }
    let target = external(walk, metric_type, threshold?)?;
    Some(Demand::Prometheus { query: query?, target, activation: activation?, ignore_null_values })
}

fn cron(walk: &mut Walk, metadata: &mut Metadata<'_>) -> Option<Demand> {
    let timezone = metadata.fields.require(&mut walk.reader, "timezone", "an IANA name such as Europe/Berlin").and_then(|at| {
        let text = walk.reader.text(&at)?;
        if tracescale_core::schedule::parse_timezone(text).is_none() {
            walk.reader.wrong(&at, "is not a time zone", "an IANA name such as Europe/Berlin or UTC".to_owned());
            return None;
        }
        Some(text.to_owned())
    });
    let start = metadata.fields.require(&mut walk.reader, "start", "such as 0 8 * * 1-5").and_then(|at| expression(&mut walk.reader, &at));
    let end = metadata.fields.require(&mut walk.reader, "end", "such as 0 18 * * 1-5").and_then(|at| expression(&mut walk.reader, &at));
    let replicas = metadata.fields.require(&mut walk.reader, "desiredReplicas", "such as \"5\"").and_then(|at| walk.replicas(&at));
    Some(Demand::Cron { timezone: timezone?, start: start?, end: end?, replicas: replicas? })
}

fn expression(reader: &mut Reader, at: &At<'_>) -> Option<String> {
    let text = reader.text(at)?;
    if let Err(error) = tracescale_core::schedule::parse_cron(text) {
        reader.wrong(at, error, "minute hour day-of-month month day-of-week, such as `0 8 * * MON-FRI`".to_owned());
        return None;
    }
    Some(text.to_owned())
}

fn backlog(
    walk: &mut Walk,
    metric_type: Option<&At<'_>>,
    metadata: &mut Metadata<'_>,
    (length, default, activation, metric): (&'static str, Option<f64>, &'static str, &'static str),
) -> Option<Demand> {
    if let Some(at) = metadata.fields.take(&mut walk.reader, "mode")
        && walk.reader.text(&at)? != "QueueLength"
    {
        walk.note(Fate::Lost, &at, "is not the length of the queue, which alone is known here", "write a rule over metric_rates");
        return Some(Demand::Unknown);
    }
    let wanted = match (metadata.fields.take(&mut walk.reader, length), default) {
        (Some(at), _) => walk.positive(&at),
        (None, Some(default)) => Some(default),
        (None, None) => {
            let path = format!("{}.{length}", metadata.at.path);
            walk.reader.report(metadata.at.line, &path, None, "is missing", Some("such as \"20\"".to_owned()));
            None
        }
    };
    let activation = metadata.fields.take(&mut walk.reader, activation);
    let activation = number(walk, activation.as_ref());
    let message = format!("the length of the queue is taken from the metric {metric} among those of the service");
    let hint = "needs the receiver of the collector for it, with service.name of the target on its metrics";
    walk.assume(Fate::Approximate, &metadata.at.path, message, hint);
    let target = external(walk, metric_type, wanted?)?;
    Some(Demand::Backlog { metric: metric.to_owned(), target, activation: activation? })
}

/// How long it is from the begin to the end of a cron trigger, in minutes; `None` where the expressions are too different to
/// tell. Both must name one minute and one hour, and the same days, or one day of the week each.
pub(crate) fn minutes_between(start: &str, end: &str) -> Option<u32> {
    let (start, end) = (moment(start)?, moment(end)?);
    let (day, week) = (24 * 60, 7 * 24 * 60);
    let forward = |from: u32, to: u32, round: u32| Some((to + round - from) % round).filter(|minutes| *minutes > 0);
    if start.days == end.days {
        return forward(start.minute, end.minute, day);
    }
    let weekday = |text: &str| text.parse::<u32>().ok().filter(|day| *day <= 7).map(|day| day % 7);
    let ([days, month, from], [other_days, other_month, to]) = (start.days, end.days);
    if [days, month, other_days, other_month] != ["*"; 4] {
        return None;
    }
    forward(weekday(from)? * day + start.minute, weekday(to)? * day + end.minute, week)
}

struct Moment<'t> {
    /// Minute of the day.
    minute: u32,
    /// Day of the month, month, day of the week.
    days: [&'t str; 3],
}

fn moment(text: &str) -> Option<Moment<'_>> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else { return None };
    let minute = minute.parse::<u32>().ok().filter(|minute| *minute < 60)?;
    let hour = hour.parse::<u32>().ok().filter(|hour| *hour < 24)?;
    Some(Moment { minute: hour * 60 + minute, days: [day, month, weekday] })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the time between two expressions is right over midnight and over a weekend, and is not guessed.
    #[test]
    fn spans_of_cron_triggers_are_known() {
        let cases = [
            ("30 8 * * 1-5", "0 18 * * 1-5", Some(570)),
            ("0 22 * * *", "0 6 * * *", Some(480)),
            ("0 8 * * 1", "0 18 * * 5", Some(4 * 1440 + 600)),
            ("0 18 * * 5", "0 8 * * 1", Some(2 * 1440 + 14 * 60)),
            ("0 0 1 * *", "0 12 1 * *", Some(720)),
            ("0 0 1 * *", "0 0 2 * *", None),
            ("0 8 * * *", "0 8 * * *", None),
            ("*/5 8 * * *", "0 9 * * *", None),
            ("0 8 * * 1-5", "0 18 * * 5", None),
        ];
        for (start, end, minutes) in cases {
            assert_eq!(minutes_between(start, end), minutes, "{start} … {end}");
        }
    }
}
