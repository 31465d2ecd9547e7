//! What can go wrong on request: switched at run time by `POST /faults` or by a script.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value};

use crate::services::Service;

/// What is wrong with one part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PartFaults {
    /// Factor on the time a piece of work takes.
    pub(crate) slow: f64,
    /// Share of requests that fail, in [0, 1].
    pub(crate) errors: f64,
    /// Instances are gone: connections break, telemetry in flight is lost.
    pub(crate) crash: bool,
    /// Works, but its telemetry does not arrive.
    pub(crate) silent: bool,
    /// Takes no new work; what is queued for it stays queued.
    pub(crate) stall: bool,
}

/// What is wrong right now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Faults {
    services: [PartFaults; Service::ALL.len()],
    pub(crate) database: PartFaults,
    /// Factor on the arrival rate.
    pub(crate) load: f64,
}

/// The faults that every part reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Switchboard(Arc<RwLock<Faults>>);

const FIELDS: &str = "slow, errors, crash, silent, stall";

// === impl PartFaults ===

impl Default for PartFaults {
    fn default() -> Self {
        Self { slow: 1.0, errors: 0.0, crash: false, silent: false, stall: false }
    }
}

impl PartFaults {
    fn set(&mut self, field: &str, value: &Value) -> anyhow::Result<()> {
        match field {
            "slow" => self.slow = number(value, 0.01, 1000.0)?,
            "errors" => self.errors = number(value, 0.0, 1.0)?,
            "crash" => self.crash = flag(value)?,
            "silent" => self.silent = flag(value)?,
            "stall" => self.stall = flag(value)?,
            _ => bail!("no such fault; a part has {FIELDS}"),
        }
        Ok(())
    }

    fn to_json(self, stem: &str, into: &mut Map<String, Value>) {
        into.insert(format!("{stem}_slow"), self.slow.into());
        into.insert(format!("{stem}_errors"), self.errors.into());
        into.insert(format!("{stem}_crash"), self.crash.into());
        into.insert(format!("{stem}_silent"), self.silent.into());
        into.insert(format!("{stem}_stall"), self.stall.into());
    }
}

// === impl Faults ===

impl Default for Faults {
    fn default() -> Self {
        Self { services: [PartFaults::default(); Service::ALL.len()], database: PartFaults::default(), load: 1.0 }
    }
}

impl Faults {
    pub(crate) fn of(&self, service: Service) -> PartFaults {
        self.services[service as usize]
    }

    /// These faults with the fields of `change` replaced, e.g. `{"db_slow": 3, "payment_errors": 0.2, "load": 2}`.
    fn with(mut self, change: &Map<String, Value>) -> anyhow::Result<Self> {
        for (key, value) in change {
            self.set(key, value).with_context(|| format!("{key}: {value}"))?;
        }
        Ok(self)
    }

    fn set(&mut self, key: &str, value: &Value) -> anyhow::Result<()> {
        if key == "load" {
            self.load = number(value, 0.0, 1000.0)?;
            return Ok(());
        }
        let Some((stem, field)) = key.rsplit_once('_') else { bail!("no such fault") };
        let part = match Service::from_stem(stem) {
            Some(service) => &mut self.services[service as usize],
            None if stem == "db" => &mut self.database,
            None => bail!("no such part; there are db, {}", Service::ALL.map(Service::stem).join(", ")),
        };
        part.set(field, value)
    }

    /// Every fault by name.
    pub(crate) fn to_json(self) -> Value {
        let mut all = Map::new();
        all.insert("load".into(), self.load.into());
        self.database.to_json("db", &mut all);
        for service in Service::ALL {
            self.of(service).to_json(service.stem(), &mut all);
        }
        Value::Object(all)
    }
}

fn number(value: &Value, min: f64, max: f64) -> anyhow::Result<f64> {
    let number = value.as_f64().context("expects a number")?;
    ensure!((min..=max).contains(&number), "expects a number from {min} to {max}");
    Ok(number)
}

fn flag(value: &Value) -> anyhow::Result<bool> {
    value.as_bool().context("expects true or false")
}

// === impl Switchboard ===

impl Switchboard {
    pub(crate) fn now(&self) -> Faults {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies all of `change` or, when one field is wrong, none of it.
    pub(crate) fn change(&self, change: &Value) -> anyhow::Result<Faults> {
        let change = change.as_object().context("faults are an object, e.g. {\"db_slow\": 3}")?;
        let mut faults = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *faults = faults.with(change)?;
        Ok(*faults)
    }

    pub(crate) fn clear(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Faults::default();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Guarantees: a change touches what it names; a wrong field changes nothing and says which it is.
    #[test]
    fn changes_are_all_or_nothing() {
        let board = Switchboard::default();
        board.change(&json!({"db_slow": 3, "payment_errors": 0.2, "catalog_crash": true, "load": 2})).unwrap();
        let faults = board.now();
        assert_eq!((faults.database.slow, faults.of(Service::Payments).errors, faults.load), (3.0, 0.2, 2.0));
        assert!(faults.of(Service::Catalog).crash && !faults.of(Service::Checkout).crash);
        for wrong in [json!({"load": 5, "db_slow": "x"}), json!({"load": 5, "shop_slow": 1}), json!({"load": 5, "db_fast": 1}), json!(3)] {
            board.change(&wrong).unwrap_err();
        }
        assert_eq!(board.now(), faults);
        board.clear();
        assert_eq!(board.now(), Faults::default());
    }
}
