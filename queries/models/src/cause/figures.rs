//! What one window says of services and of the calls between them.

/// Everything that one window says. Names are compared as they are; an edge may lead to a server that has no row, which is
/// then a dependency that nobody instruments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// One row per service.
    pub services: Vec<Service>,
    /// One row per pair of services that call each other.
    pub edges: Vec<Edge>,
}

/// One service in one window. What is not known is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Requests that ended in the window (adjusted for sampling).
    pub requests: f64,
    /// Effective samples behind its figures, where senders sample; as many as requests when unknown.
    pub samples: Option<f64>,
    /// Mean duration of its server spans, seconds.
    pub sojourn: Option<f64>,
    /// Mean time per request without its calls, seconds. When unknown it follows from `sojourn` and the edges.
    pub self_time: Option<f64>,
    /// Share of its capacity in use by its own work: CPU of the limit. Worker slots that are held while it waits for others do
    /// not count: a full pool is what a victim looks like.
    pub utilization: Option<f64>,
    /// The highest single measurement of it, over time and replicas; as the mean when unknown. Measurements come late and a window
    /// may begin before a fault does, so a mean still looks idle when the newest measurement does not.
    pub peak_utilization: Option<f64>,
    /// Utilization up to which it meets its objective; [`super::SAFE_UTILIZATION`] when unknown.
    pub safe_utilization: Option<f64>,
    /// Share of CPU periods in which it was throttled.
    pub throttled: Option<f64>,
    /// Share of its requests that failed.
    pub error_share: Option<f64>,
}

/// The calls of one service to another in one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edge {
    /// Who calls.
    pub client: String,
    /// Who answers.
    pub server: String,
    /// Calls that ended in the window (adjusted for sampling).
    pub calls: f64,
    /// Effective samples behind its figures, where senders sample; as many as calls when unknown.
    pub samples: Option<f64>,
    /// Mean duration that the client saw, seconds.
    pub client_duration: Option<f64>,
    /// Mean duration that the server saw, seconds.
    pub server_duration: Option<f64>,
    /// Mean of client minus server duration, seconds: the network and every queue in front of the server. When unknown it
    /// follows from both durations.
    pub wait: Option<f64>,
    /// A low quantile (5 %) of the same difference, seconds: what every call pays, with or without a queue.
    pub wait_floor: Option<f64>,
}

// === impl Window ===

impl Window {
    /// The row of a service.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Mean time per request that `service` spent itself, seconds: as measured, else its sojourn without its calls.
    /// `None` when neither is known. Calls in parallel make the second an underestimate, so it is clamped at zero.
    #[must_use]
    pub fn self_time(&self, service: &Service) -> Option<f64> {
        service.own_time(self.edges.iter().filter(|edge| edge.client == service.name))
    }
}

// === impl Service ===

impl Service {
    /// [`Window::self_time`] by its calls.
    pub(super) fn own_time<'e>(&self, calls: impl IntoIterator<Item = &'e Edge>) -> Option<f64> {
        if let Some(time) = self.self_time {
            return time.is_finite().then_some(time.max(0.0));
        }
        let mut rest = self.sojourn.filter(|time| time.is_finite() && self.requests > 0.0)?;
        for call in calls.into_iter().filter(|call| call.calls > 0.0) {
            rest -= call.client_duration? * call.calls / self.requests;
        }
        rest.is_finite().then_some(rest.max(0.0))
    }

    /// The utilization that it reached.
    pub(super) fn peak(&self) -> Option<f64> {
        self.peak_utilization.or(self.utilization)
    }

    /// Requests that were looked at.
    pub(super) fn seen(&self) -> f64 {
        self.samples.map_or(self.requests, |samples| samples.min(self.requests))
    }
}

// === impl Edge ===

impl Edge {
    /// Calls that were looked at.
    pub(super) fn seen(&self) -> f64 {
        self.samples.map_or(self.calls, |samples| samples.min(self.calls))
    }

    /// Mean time in front of the server, seconds.
    #[must_use]
    pub fn mean_wait(&self) -> Option<f64> {
        let wait = self.wait.or_else(|| Some(self.client_duration? - self.server_duration?))?;
        wait.is_finite().then_some(wait.max(0.0))
    }
}
