//! A store that fails, for tests: at steps that are told by their number, once or until it is revived.

use std::collections::VecDeque;
use std::sync::Mutex;

use object_store::Error;

/// When a store fails.
#[derive(Debug)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Failures to come: after how many steps that succeed, counted from the one before.
    plan: VecDeque<(u64, Mode)>,
    steps: u64,
    crashed: bool,
}

/// For how long a store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// From then on: the process has crashed.
    Crash,
    /// Once: a request was lost, or its answer was.
    Once,
}

// === impl Faults ===

impl Faults {
    pub(crate) fn new(plan: impl IntoIterator<Item = (u64, Mode)>) -> Self {
        Self { state: Mutex::new(State { plan: plan.into_iter().collect(), steps: 0, crashed: false }) }
    }

    /// Whether every failure has happened.
    pub(crate) fn exhausted(&self) -> bool {
        self.state.lock().unwrap().plan.is_empty()
    }

    pub(crate) fn crashed(&self) -> bool {
        self.state.lock().unwrap().crashed
    }

    /// A new process.
    pub(crate) fn revive(&self) {
        self.state.lock().unwrap().crashed = false;
    }

    pub(super) fn step(&self, name: &'static str) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap();
        if state.crashed {
            return Err(failure(name));
        }
        if let Some((after, mode)) = state.plan.front().copied()
            && state.steps >= after
        {
            state.plan.pop_front();
            (state.steps, state.crashed) = (0, mode == Mode::Crash);
            return Err(failure(name));
        }
        state.steps += 1;
        Ok(())
    }
}

fn failure(name: &'static str) -> Error {
    Error::Generic { store: "faulty", source: format!("made to fail {name}").into() }
}
