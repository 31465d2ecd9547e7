//! How well tracescale judges: forecasts, scaling and causes, measured on recorded series and labelled faults.
//!
//! ```text
//! data folder ─▶ load ─┬▶ forecasts  rolling origins against naive forecasters       ┐
//!                      ├▶ scaling    the model against calibrated HPA, KPA and KEDA  ├─▶ report: text, JSON
//!                      └▶ causes     labelled faults and negatives                   ┘
//! ```
//!
//! Architecture invariants: reads the folder it is given and nothing else; no clock, no SQL; all randomness from seeds, so that a
//! figure in `benches/README.md` is what the next run gives.

pub mod causes;
pub mod forecasts;
pub mod load;
pub mod scaling;
