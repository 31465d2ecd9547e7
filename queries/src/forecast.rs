//! `forecast(time, value, horizon, probability)` as an aggregate: what the forecaster of the shipped models says after the rows
//! of a group, for history and for questions of the day. Rules read `service_forecast`, which does not begin anew each time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use tracescale_models::forecast::{Forecaster, Settings};

/// Steps that observations are averaged over, in seconds: the first that is not shorter than the distance of rows.
const STEPS: [i64; 6] = [60, 300, 600, 900, 1800, 3600];
/// Most rows of a group: two months of minutes.
const ROWS_MAX: usize = 90_000;
const SECOND: i64 = 1_000_000_000;

#[derive(Debug, PartialEq, Eq, Hash)]
struct ForecastAggregate {
    signature: Signature,
}

/// Rows of one group: time in nanoseconds, value.
#[derive(Debug, Default)]
struct Rows {
    rows: Vec<(i64, f64)>,
    asked: Option<(f64, f64)>,
}

/// The aggregate of this module.
pub(crate) fn aggregate() -> AggregateUDF {
    let types = vec![tracescale_core::schema::timestamp(), DataType::Float64, DataType::Float64, DataType::Float64];
    AggregateUDF::new_from_impl(ForecastAggregate { signature: Signature::exact(types, Volatility::Immutable) })
}

/// The forecast of rows at a horizon (seconds), exceeded with probability 1 − `probability`; `None` is the expected value.
fn forecast(rows: &mut [(i64, f64)], horizon: f64, probability: f64) -> Option<f64> {
    rows.sort_unstable_by_key(|(time, _)| *time);
    let apart = rows.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|apart| *apart > 0).min()?;
    let step = STEPS.into_iter().find(|step| step * SECOND >= apart)?;
    let mut steps: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (time, value) in rows.iter().filter(|(_, value)| value.is_finite()) {
        // A time is the end of what it stands for.
        let sum = steps.entry((time - 1).div_euclid(step * SECOND)).or_default();
        *sum = (sum.0 + value, sum.1 + 1.0);
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is refused then")]
    let lead = ((horizon / seconds(step)).ceil().max(1.0) as i64).saturating_mul(step);
    let mut forecaster = Forecaster::new(Settings::new(step, vec![lead])).ok()?;
    for (place, (sum, count)) in steps {
        let _ = forecaster.observe(place * step, Some(sum / count));
    }
    forecaster.forecast(lead)?.upper(probability)
}

#[expect(clippy::cast_precision_loss, reason = "at most an hour")]
fn seconds(step: i64) -> f64 {
    step as f64
}

// === impl ForecastAggregate ===

impl AggregateUDFImpl for ForecastAggregate {
    fn name(&self) -> &'static str {
        "forecast"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>, DataFusionError> {
        Ok(vec![Arc::new(Field::new(format!("{}[rows]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, DataFusionError> {
        Ok(Box::<Rows>::default())
    }
}

// === impl Rows ===

impl Rows {
    fn ask(&mut self, horizon: f64, probability: f64) -> Result<(), DataFusionError> {
        let bits = |asked: (f64, f64)| (asked.0.to_bits(), asked.1.to_bits());
        match self.asked {
            Some(asked) if bits(asked) != bits((horizon, probability)) => {
                let text = "forecast(time, value, horizon, probability): horizon and probability must be the same in all rows of a group";
                Err(DataFusionError::Execution(text.to_owned()))
            }
            _ => {
                self.asked = Some((horizon, probability));
                Ok(())
            }
        }
    }

    fn add(&mut self, time: i64, value: f64) -> Result<(), DataFusionError> {
        if self.rows.len() >= ROWS_MAX {
            let text = format!("forecast() takes at most {ROWS_MAX} rows of a group; hint: bound the time, or average over minutes first");
            return Err(DataFusionError::Execution(text));
        }
        self.rows.push((time, value));
        Ok(())
    }
}

impl Accumulator for Rows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let times = values[0].as_primitive::<TimestampNanosecondType>();
        let [numbers, horizons, probabilities] = [1, 2, 3].map(|place| values[place].as_primitive::<Float64Type>());
        for row in 0..times.len() {
            if horizons.is_valid(row) && probabilities.is_valid(row) {
                self.ask(horizons.value(row), probabilities.value(row))?;
                if times.is_valid(row) && numbers.is_valid(row) {
                    self.add(times.value(row), numbers.value(row))?;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue, DataFusionError> {
        let answer = self.asked.and_then(|(horizon, probability)| forecast(&mut self.rows, horizon, probability));
        Ok(ScalarValue::Float64(answer.filter(|value| value.is_finite())))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.rows.capacity() * size_of::<(i64, f64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>, DataFusionError> {
        let Some((horizon, probability)) = self.asked else { return Ok(vec![ScalarValue::Binary(None)]) };
        let mut bytes = Vec::with_capacity(16 * (self.rows.len() + 1));
        bytes.extend(horizon.to_le_bytes());
        bytes.extend(probability.to_le_bytes());
        for (time, value) in &self.rows {
            bytes.extend(time.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<(), DataFusionError> {
        let states = states[0].as_binary::<i32>();
        for state in states.iter().flatten() {
            let (words, _) = state.as_chunks::<8>();
            let (pairs, _) = words.as_chunks::<2>();
            let mut pairs = pairs.iter();
            let Some([horizon, probability]) = pairs.next() else { continue };
            self.ask(f64::from_le_bytes(*horizon), f64::from_le_bytes(*probability))?;
            for [time, value] in pairs {
                self.add(i64::from_le_bytes(*time), f64::from_le_bytes(*value))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a daily pattern in windows of a minute is forecast an hour ahead, whatever the order of rows, and two rows are
    /// no ground for more than the last value.
    #[test]
    fn a_daily_pattern_is_forecast() {
        let day = 86_400.0;
        let rate = |minute: f64| 100.0 + 50.0 * (minute * 60.0 * std::f64::consts::TAU / day).sin();
        let mut rows: Vec<(i64, f64)> =
            (0..7 * 1440).map(|minute| ((minute + 1) * 60 * SECOND, rate(f64::from(i32::try_from(minute).unwrap())))).collect();
        rows.reverse();
        let ahead = forecast(&mut rows, 3600.0, 0.5).unwrap();
        assert!((ahead / rate(7.0 * 1440.0 + 59.0) - 1.0).abs() < 0.05, "{ahead}");
        assert_eq!(forecast(&mut [(SECOND, 3.0)], 60.0, 0.5), None);
    }

    /// Guarantees: a state that went through bytes says the same.
    #[test]
    fn states_merge() {
        let mut one = Rows::default();
        one.ask(60.0, 0.5).unwrap();
        (0..200).for_each(|minute| one.add(minute * 60 * SECOND, 5.0).unwrap());
        let state = one.state().unwrap();
        let mut other = Rows::default();
        other.merge_batch(&[state[0].to_array().unwrap()]).unwrap();
        assert_eq!(one.evaluate().unwrap(), other.evaluate().unwrap());
        assert!(other.ask(61.0, 0.5).is_err());
    }
}
