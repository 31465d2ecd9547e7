//! The target and the rule of most tests.

/// Service `checkout` of the tests' traffic, which may be acted on.
pub(crate) fn target(replicas: u32) -> String {
    format!(
        "
apiVersion: tracescale.io/v1alpha1
kind: ScalingTarget
metadata: {{name: checkout}}
spec:
  memory: {{replicas: {replicas}}}
  service: {{name: checkout, namespace: shop}}
"
    )
}

/// A rule that enforces the answer `replicas` over the newest window of a view.
pub(crate) fn rule(every: &str, replicas: &str, view: &str, policy: &str) -> String {
    format!(
        "
apiVersion: tracescale.io/v1alpha1
kind: ScalingRule
metadata: {{name: load}}
spec:
  every: {every}
  mode: enforce
  sql: |
    SELECT target, {replicas} AS replicas, l.n_eff, l.completeness, l.age, l.presence, l.is_final, l.window_end
    FROM targets JOIN {view} l USING (service_name) WHERE window_end = latest()
  policy: {policy}
"
    )
}
