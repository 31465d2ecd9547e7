//! Consistent head sampling that tells the receiver its probability: `tracestate: ot=th:<threshold>`.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

/// Values of the 56 random bits at the end of a trace id.
const RANGE: u64 = 1 << 56;

/// Keeps a trace when the random bits of its id reach the rejection threshold. For root spans; below them the parent decides.
#[derive(Clone, Debug)]
pub(crate) struct ConsistentHead {
    threshold: u64,
    state: TraceState,
}

// === impl ConsistentHead ===

impl ConsistentHead {
    /// `probability` in (0, 1].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "2^56 times a fraction fits u64, and a threshold is no more exact than the fraction it is made from"
    )]
    pub(crate) fn new(probability: f64) -> Self {
        let threshold = (((1.0 - probability.clamp(f64::EPSILON, 1.0)) * RANGE as f64) as u64).min(RANGE - 1);
        let state = TraceState::from_key_value([("ot", format!("th:{}", encode(threshold)))]).unwrap_or_default();
        Self { threshold, state }
    }
}

impl ShouldSample for ConsistentHead {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let random = u64::from_be_bytes(trace_id.to_bytes()[8..].try_into().unwrap_or_default()) % RANGE;
        if random >= self.threshold {
            return SamplingResult { decision: SamplingDecision::RecordAndSample, attributes: Vec::new(), trace_state: self.state.clone() };
        }
        let trace_state = parent.map(|parent| parent.span().span_context().trace_state().clone()).unwrap_or_default();
        SamplingResult { decision: SamplingDecision::Drop, attributes: Vec::new(), trace_state }
    }
}

/// 14 hex digits without trailing zeros, at least one.
fn encode(threshold: u64) -> String {
    let digits = format!("{threshold:014x}");
    match digits.trim_end_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: probabilities are written as the thresholds that the specification names.
    #[test]
    fn thresholds_are_written_as_specified() {
        for (probability, expected) in [(1.0, "0"), (0.5, "8"), (0.25, "c"), (0.0625, "f"), (0.1, "e6666666666668")] {
            assert_eq!(encode(ConsistentHead::new(probability).threshold), expected, "{probability}");
        }
    }

    /// Guarantees: the share of trace ids that is kept is the probability, and kept ones carry it.
    #[test]
    fn keeps_the_stated_share() {
        let sampler = ConsistentHead::new(0.25);
        let ids = (0..4096_u64).map(|i| TraceId::from(u128::from(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
        let results = ids.map(|id| sampler.should_sample(None, id, "", &SpanKind::Server, &[], &[]));
        let kept: Vec<_> = results.filter(|result| result.decision == SamplingDecision::RecordAndSample).collect();
        assert!(kept.len().abs_diff(1024) < 64, "{}", kept.len());
        assert!(kept.iter().all(|result| result.trace_state.get("ot") == Some("th:c")));
    }
}
