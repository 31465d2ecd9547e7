//! Steering a running shop: over HTTP and by a script with a time line.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::world::World;

/// One step of a script: what changes at which time.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    at: Duration,
    faults: Option<Value>,
    replicas: Option<Value>,
}

#[derive(Clone)]
struct Control {
    world: Arc<World>,
    stop: Arc<Notify>,
}

/// The routes: `/healthz`, `/faults`, `/replicas`, `/summary`, `/stop`.
pub(crate) fn router(world: Arc<World>, stop: Arc<Notify>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/faults", get(faults).post(set_faults).delete(clear_faults))
        .route("/replicas", get(replicas).post(set_replicas))
        .route("/summary", get(summary))
        .route("/stop", post(stop_now))
        .with_state(Control { world, stop })
}

async fn faults(State(control): State<Control>) -> Json<Value> {
    Json(control.world.faults.now().to_json())
}

async fn set_faults(State(control): State<Control>, body: String) -> Response {
    let changed = match parse(&body).and_then(|change| control.world.faults.change(&change)) {
        Ok(faults) => control.world.reconcile().await.map(|()| faults.to_json()),
        Err(error) => Err(error),
    };
    answer(changed)
}

async fn clear_faults(State(control): State<Control>) -> Response {
    control.world.faults.clear();
    answer(control.world.reconcile().await.map(|()| control.world.faults.now().to_json()))
}

async fn replicas(State(control): State<Control>) -> Json<Value> {
    Json(control.world.replicas())
}

async fn set_replicas(State(control): State<Control>, body: String) -> Response {
    let set = match parse(&body) {
        Ok(wanted) => control.world.set_replicas(&wanted).await,
        Err(error) => Err(error),
    };
    answer(set.map(|()| control.world.replicas()))
}

async fn summary(State(control): State<Control>) -> Json<Value> {
    Json(control.world.summary())
}

async fn stop_now(State(control): State<Control>) -> &'static str {
    control.stop.notify_one();
    "stopping\n"
}

/// JSON whatever the content type says, so that `curl -d` needs no header.
fn parse(body: &str) -> anyhow::Result<Value> {
    serde_json::from_str(body).context("expects JSON")
}

fn answer(result: anyhow::Result<Value>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}

// === impl Step ===

impl Step {
    /// Reads `[{"at": 60, "faults": {...}, "replicas": {...}}, …]`, `at` in seconds from the start.
    pub(crate) fn parse_all(text: &str) -> anyhow::Result<Vec<Self>> {
        let steps: Value = serde_json::from_str(text).context("a script is JSON")?;
        let steps = steps.as_array().context("a script is a list of steps")?;
        let mut parsed: Vec<Self> = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            parsed.push(Self::parse(step).with_context(|| format!("step {index}: {step}"))?);
        }
        parsed.sort_by_key(|step| step.at);
        Ok(parsed)
    }

    fn parse(step: &Value) -> anyhow::Result<Self> {
        let fields = step.as_object().context("a step is an object")?;
        if let Some(unknown) = fields.keys().find(|key| !["at", "faults", "replicas"].contains(&key.as_str())) {
            anyhow::bail!("no field {unknown}; a step has at, faults, replicas");
        }
        let at = fields.get("at").and_then(Value::as_f64).context("`at` is a number of seconds")?;
        ensure!((0.0..1e7).contains(&at), "`at` is a number of seconds from 0");
        // A script is refused at the start, not in the middle of a run.
        if let Some(faults) = fields.get("faults") {
            crate::faults::Switchboard::default().change(faults)?;
        }
        Ok(Self { at: Duration::from_secs_f64(at), faults: fields.get("faults").cloned(), replicas: fields.get("replicas").cloned() })
    }
}

/// Plays the script; a step that fails is reported and the rest goes on.
pub(crate) async fn play(world: Arc<World>, steps: Vec<Step>) {
    let begin = Instant::now();
    for step in steps {
        tokio::time::sleep_until(begin + step.at).await;
        tracing::info!(at = step.at.as_secs_f64(), faults = ?step.faults, replicas = ?step.replicas, "script");
        if let Some(Err(error)) = step.faults.as_ref().map(|faults| world.faults.change(faults)) {
            tracing::error!("{error:#}");
        }
        let result = match &step.replicas {
            Some(replicas) => world.set_replicas(replicas).await,
            None => world.reconcile().await,
        };
        if let Err(error) = result {
            tracing::error!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: steps come out in time order; a wrong one is refused with its number.
    #[test]
    fn scripts_are_checked_before_they_run() {
        let steps = Step::parse_all(r#"[{"at": 9, "replicas": {"checkout": 3}}, {"at": 1.5, "faults": {"db_slow": 3}}]"#).unwrap();
        assert_eq!(steps.iter().map(|step| step.at.as_secs_f64()).collect::<Vec<_>>(), [1.5, 9.0]);
        for wrong in ["{}", "[{}]", r#"[{"at": 1, "fault": {}}]"#, r#"[{"at": 1, "faults": {"x": 1}}]"#, r#"[{"at": -1}]"#] {
            Step::parse_all(wrong).unwrap_err();
        }
    }
}
