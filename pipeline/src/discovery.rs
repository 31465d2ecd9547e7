//! Targets found in resource attributes: every service that telemetry shows, with the object that runs it where the
//! attributes name one, and the number of its instances.

use tracescale_core::target::{ServiceSelector, TargetName, TargetSpec};
use tracescale_queries::Emission;
use tracescale_sinks::discover;

use crate::rows;

/// The shipped view that this reads.
const VIEW: &str = "workloads";

/// What discovery may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Whether services get targets at all.
    pub enabled: bool,
    /// Whether such targets are observed and acted on like any other; otherwise their instances are their capacity and rules
    /// only recommend.
    pub acts: bool,
    /// Kubernetes namespaces to look at; empty is all.
    pub namespaces: Vec<String>,
    /// Most targets found.
    pub targets_max: usize,
}

/// A service as one window showed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The target it gets.
    pub spec: TargetSpec,
    /// Instances that sent telemetry; `None` when they do not tell themselves apart or are silent.
    pub instances: Option<u32>,
}

// === impl Discovery ===

impl Discovery {
    /// The services in these emissions.
    #[must_use]
    pub fn learn(&self, emissions: &[Emission]) -> Vec<Found> {
        if !self.enabled {
            return Vec::new();
        }
        let rows = emissions.iter().filter(|emission| emission.view == VIEW && !emission.is_final);
        let rows = rows.flat_map(|emission| (0..emission.rows.num_rows()).map(move |row| (emission, row)));
        rows.filter(|(emission, row)| self.looks_at(emission, *row)).filter_map(|(emission, row)| found(emission, row)).collect()
    }

    fn looks_at(&self, emission: &Emission, row: usize) -> bool {
        let namespace = emission.rows.column_by_name("k8s_namespace_name").and_then(|column| rows::text(column, row));
        self.namespaces.is_empty() || namespace.is_some_and(|namespace| self.namespaces.iter().any(|own| own == namespace))
    }
}

fn found(emission: &Emission, row: usize) -> Option<Found> {
    let column = |name: &str| emission.rows.column_by_name(name);
    let text = |name: &str| column(name).and_then(|column| rows::text(column, row));
    let service = text("service_name")?;
    // The conventions say that an empty namespace is none.
    let namespace = text("service_namespace").filter(|namespace| !namespace.is_empty());
    let name = TargetName::of_service(namespace, service);
    let instances = column("instances").and_then(|column| rows::number(column, row)).filter(|count| *count >= 1.0);
    let selector = ServiceSelector { service_name: service.to_owned(), service_namespace: namespace.map(str::to_owned) };
    let mut spec = TargetSpec { discovered: true, ..TargetSpec::in_memory(name, selector, 1) };
    if let Some(reference) = discover::target(|column| text(column)) {
        spec.reference = reference;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of instances, at least 1")]
    let instances = instances.map(|count| count as u32);
    Some(Found { spec, instances })
}
