//! The tables of the streams: how each is sorted, and what can be left out.

use std::collections::BTreeSet;

use tracescale_core::schema::Stream;

use crate::table::Table;

/// Which ids are archived. They are random, so that they are most of what an archived span takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// All of them.
    #[default]
    Full,
    /// Of the item itself the trace id only: finds the spans of a trace, not how they hang together.
    Trace,
    /// None.
    None,
}

const TRACE_IDS: &[&str] = &["trace_id"];
const OTHER_IDS: &[&str] = &["span_id", "parent_span_id", "linked_trace_id", "linked_span_id"];

/// The tables of the streams that ingest decodes.
#[must_use]
pub fn tables(ids: Ids) -> Vec<Table> {
    [Stream::Spans, Stream::SpanEvents, Stream::SpanLinks, Stream::Metrics].map(|stream| table(stream, ids)).into()
}

/// The table of a stream. Rows are sorted for the question "one service, some hours": its rows lie together.
#[must_use]
pub fn table(stream: Stream, ids: Ids) -> Table {
    let schema = stream.schema();
    let left_out = match ids {
        Ids::Full => vec![],
        Ids::Trace => OTHER_IDS.to_vec(),
        Ids::None => [TRACE_IDS, OTHER_IDS].concat(),
    };
    let present = |name: &&str| schema.field_with_name(name).is_ok() && !left_out.contains(name);
    let owned = |names: &[&'static str]| names.iter().copied().filter(present).map(str::to_owned).collect::<Vec<_>>();
    Table {
        name: stream.name().to_owned(),
        time_column: stream.time_column().to_owned(),
        sort: owned(sort(stream)),
        bloom: owned(TRACE_IDS),
        omit: left_out.iter().filter(|name| schema.field_with_name(name).is_ok()).map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
        schema,
    }
}

const fn sort(stream: Stream) -> &'static [&'static str] {
    match stream {
        Stream::Spans => &["service_namespace", "service_name", "kind", "name", "end_time"],
        Stream::SpanEvents => &["service_name", "name", "time"],
        Stream::SpanLinks => &["service_name", "end_time"],
        Stream::Metrics => &["metric_name", "service_name", "series_id", "time"],
        Stream::Activity => &["service_namespace", "service_name", "service_instance_id", "time"],
        Stream::CallSpans => &["client_service", "server_service", "operation", "end_time"],
        Stream::Increments => &["metric_name", "service_name", "series_id", "time"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: every stream has a table that is valid, whichever ids are left out, and no id is left in by mistake.
    #[test]
    fn every_stream_has_a_valid_table() {
        for ids in [Ids::Full, Ids::Trace, Ids::None] {
            for stream in Stream::ALL {
                let table = table(stream, ids);
                table.validate().unwrap();
                let archived = table.archived_schema();
                let has = |name: &str| archived.field_with_name(name).is_ok();
                let had = |name: &str| table.schema.field_with_name(name).is_ok();
                assert_eq!(has("trace_id"), had("trace_id") && ids != Ids::None, "{}", table.name);
                assert_eq!(has("span_id"), had("span_id") && ids == Ids::Full, "{}", table.name);
                assert_eq!(has("linked_trace_id"), had("linked_trace_id") && ids == Ids::Full, "{}", table.name);
            }
        }
    }
}
