//! tracescale: wiring, command line and controller. `ARCHITECTURE.md` is the map.

pub mod actuator;
pub mod board;
pub mod check;
pub mod cli;
pub mod clock;
pub mod columns;
pub mod conclusion;
pub mod config;
pub mod console;
pub mod controller;
pub mod discovery;
pub mod explain;
pub mod journal;
pub mod metrics;
pub mod record;
pub mod replay;
pub mod rows;
pub mod rules;
pub mod run;
pub mod telemetry;
pub mod topology;
pub mod warning;
pub mod windows;
