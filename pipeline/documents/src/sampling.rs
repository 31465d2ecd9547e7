//! Settings of sampling: with which probability spans were kept of which nothing is stated.

use std::collections::BTreeMap;

use crate::reader::{At, Fields, Reader};
use crate::settings::section;

/// How spans were sampled whose `tracestate` does not say so.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Probability, above 0 and at most 1, with which they were kept (default 1: each counts as one).
    pub probability: f64,
    /// The probability for some services, by `service.name`.
    pub services: BTreeMap<String, f64>,
}

// === impl Sampling ===

impl Default for Sampling {
    fn default() -> Self {
        Self { probability: 1.0, services: BTreeMap::new() }
    }
}

/// Reads `sampling`.
pub(crate) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> Sampling {
    let mut sampling = Sampling::default();
    let Some(mut fields) = section(reader, fields, "sampling") else { return sampling };
    if let Some(at) = fields.take(reader, "probability") {
        sampling.probability = probability(reader, &at).unwrap_or(sampling.probability);
    }
    if let Some(at) = fields.take(reader, "services")
        && let Some(services) = reader.fields(&at)
    {
        let parent = format!("{}.", at.path);
        for at in services.rest() {
            let service = at.path.strip_prefix(&parent).unwrap_or_default().to_owned();
            sampling.services.extend(probability(reader, &at).map(|probability| (service, probability)));
        }
    }
    fields.finish(reader);
    sampling
}

fn probability(reader: &mut Reader, at: &At<'_>) -> Option<f64> {
    let value = reader.number(at)?;
    if value > 0.0 && value <= 1.0 {
        return Some(value);
    }
    reader.wrong(at, "must be a probability above 0, at most 1", "0.1 keeps one trace in ten, 1 all of them".to_owned());
    None
}
