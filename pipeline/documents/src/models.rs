//! Settings of the models: whose habits make the load, and what is assumed of services that nobody described.

use std::collections::BTreeSet;

use tracescale_core::schedule::{self, parse_timezone};
use tracescale_core::time::Timestamp;

use crate::reader::{Fields, Reader};
use crate::settings::section;

/// What the models are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models {
    /// IANA time zone whose wall clock the load follows (default `UTC`).
    pub timezone: String,
    /// Days of that zone on which the load is that of a holiday, in days since 1970-01-01.
    pub holidays: BTreeSet<i64>,
}

// === impl Models ===

impl Models {
    /// The local time of an instant, in seconds since 1970 as if the clock on the wall showed UTC.
    #[must_use]
    pub fn local_seconds(&self, time: Timestamp) -> i64 {
        schedule::local_seconds(&self.timezone, time)
    }
}

impl Default for Models {
    fn default() -> Self {
        Self { timezone: "UTC".to_owned(), holidays: BTreeSet::new() }
    }
}

/// Reads `models`.
pub(crate) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> Models {
    let mut models = Models::default();
    let Some(mut fields) = section(reader, fields, "models") else { return models };
    if let Some(at) = fields.take(reader, "timezone")
        && let Some(text) = reader.text(&at)
    {
        if parse_timezone(text).is_some() {
            text.clone_into(&mut models.timezone);
        } else {
            reader.wrong(&at, "is no time zone", "an IANA name such as Europe/Berlin".to_owned());
        }
    }
    if let Some(at) = fields.take(reader, "holidays") {
        for item in reader.items(&at) {
            let Some(text) = reader.text(&item) else { continue };
            match schedule::parse_day(text) {
                Some(day) => {
                    let _ = models.holidays.insert(day);
                }
                None => reader.wrong(&item, "is no day", "such as 2026-12-25".to_owned()),
            }
        }
    }
    fields.finish(reader);
    models
}
