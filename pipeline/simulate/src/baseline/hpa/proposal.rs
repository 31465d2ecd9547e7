//! What each metric proposes: the replica calculator of the horizontal pod autoscaler.

use std::time::Duration;

use tracescale_core::time::Timestamp;

use super::config::HpaConfig;
use crate::number::whole;
use crate::plant::{Phase, ReplicaGroup};
use crate::policy::Telemetry;

/// Absorbs what binary fractions add to a quotient of decimal numbers.
const ROUNDING: f64 = 1e-9;

/// Pods that are alike, as the control plane shows them and with their metric, if there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pod {
    pub(crate) count: u32,
    pub(crate) state: State,
    pub(crate) started_at: Timestamp,
    /// When readiness last changed.
    pub(crate) changed_at: Timestamp,
    pub(crate) sample: Option<Sample>,
}

/// State of a pod as far as the calculator cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Deleted,
    Pending,
    NotReady,
    Ready,
}

/// A metric of a pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    pub(crate) at: Timestamp,
    pub(crate) window: Duration,
}

/// Pods by what their metric is good for.
#[derive(Debug, Default)]
struct Groups {
    usable: Vec<(u32, f64)>,
    unready: Vec<(u32, f64)>,
    missing: u32,
}

/// What a usage is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Hundredths of what each pod requests.
    Utilization { percent: u32, request: f64 },
    /// A mean per pod.
    Average(f64),
}

/// Pods of a service with the samples of an observation.
pub(crate) fn pods(
    now: Timestamp,
    config: &HpaConfig,
    seen: &Telemetry,
    sampled: Timestamp,
    value: impl Fn(&ReplicaGroup) -> f64,
) -> Vec<Pod> {
    let source = seen.latest(sampled);
    let sample = |live: &ReplicaGroup| {
        let observation = source?;
        let holds = |group: &&ReplicaGroup| (group.first..group.first + u64::from(group.count)).contains(&live.first);
        let group = observation.replicas.iter().find(holds)?;
        let running = observation.until >= group.created_at + config.pending;
        running.then(|| Sample { value: value(group), at: observation.until, window: observation.until.since(observation.from) })
    };
    let pod = |live: &ReplicaGroup| Pod {
        count: live.count,
        state: match live.phase {
            Phase::Draining => State::Deleted,
            Phase::Ready => State::Ready,
            Phase::Starting if now < live.created_at + config.pending => State::Pending,
            Phase::Starting => State::NotReady,
        },
        started_at: live.created_at,
        changed_at: live.ready_at.unwrap_or(live.created_at),
        sample: sample(live),
    };
    seen.replicas().iter().map(pod).collect()
}

/// The proposal of a metric per pod. `None` when no pod has a usable sample.
pub(crate) fn per_pod(config: &HpaConfig, now: Timestamp, current: u32, pods: &[Pod], target: Target) -> Option<u32> {
    let cpu = matches!(target, Target::Utilization { .. });
    let groups = group(config, now, pods, cpu);
    let ready: u32 = groups.usable.iter().map(|(count, _)| count).sum();
    if ready == 0 {
        return None;
    }
    let tolerances = config.tolerances();
    let first = target.ratio(&groups.usable)?;
    let unready = !groups.unready.is_empty() && first > 1.0;
    if !unready && groups.missing == 0 {
        return Some(if is_within(first, tolerances) { current } else { ceil(first * f64::from(ready)) });
    }
    let mut filled = groups.usable;
    if groups.missing > 0 {
        // Pods without a metric damp: they count as busy on the way down and as idle on the way up.
        if first < 1.0 {
            filled.push((groups.missing, target.busy()));
        } else if first > 1.0 {
            filled.push((groups.missing, 0.0));
        }
    }
    if unready {
        filled.extend(groups.unready.iter().map(|(count, _)| (*count, 0.0)));
    }
    let second = target.ratio(&filled)?;
    if is_within(second, tolerances) || (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0) {
        return Some(current);
    }
    let counted: u32 = filled.iter().map(|(count, _)| count).sum();
    let proposal = ceil(second * f64::from(counted));
    let against = (second < 1.0 && proposal > current) || (second > 1.0 && proposal < current);
    Some(if against { current } else { proposal })
}

/// The proposal of a number of the whole service against a value.
pub(crate) fn by_value(config: &HpaConfig, current: u32, ready: u32, sum: f64, value: f64) -> u32 {
    let ratio = sum / value;
    if current == 0 {
        ceil(ratio)
    } else if is_within(ratio, config.tolerances()) {
        current
    } else {
        ceil(ratio * f64::from(ready))
    }
}

/// The proposal of a number of the whole service against a value per replica.
pub(crate) fn by_average(config: &HpaConfig, existing: u32, sum: f64, average: f64) -> u32 {
    let ratio = sum / (average * f64::from(existing));
    if is_within(ratio, config.tolerances()) { existing } else { ceil(sum / average) }
}

fn group(config: &HpaConfig, now: Timestamp, pods: &[Pod], cpu: bool) -> Groups {
    let mut groups = Groups::default();
    for pod in pods {
        match (pod.state, pod.sample) {
            (State::Deleted, _) => {}
            (State::Pending, _) => groups.unready.push((pod.count, 0.0)),
            (_, None) => groups.missing += pod.count,
            (_, Some(sample)) if cpu && is_unready(config, now, pod, sample) => groups.unready.push((pod.count, sample.value)),
            (_, Some(sample)) => groups.usable.push((pod.count, sample.value)),
        }
    }
    groups
}

/// Whether the CPU of a pod says nothing yet: it starts, or its sample is from before it was ready.
fn is_unready(config: &HpaConfig, now: Timestamp, pod: &Pod, sample: Sample) -> bool {
    let not_ready = pod.state == State::NotReady;
    if pod.started_at + config.cpu_initialization > now {
        not_ready || sample.at < pod.changed_at + sample.window
    } else {
        not_ready && pod.started_at + config.initial_readiness > pod.changed_at
    }
}

fn is_within(ratio: f64, (down, up): (f64, f64)) -> bool {
    (1.0 - down - ROUNDING..=1.0 + up + ROUNDING).contains(&ratio)
}

fn ceil(value: f64) -> u32 {
    whole((value - ROUNDING).ceil())
}

// === impl Target ===

impl Target {
    /// Usage relative to the target. `None` for no pods.
    fn ratio(self, pods: &[(u32, f64)]) -> Option<f64> {
        let count: u32 = pods.iter().map(|(count, _)| count).sum();
        let sum: f64 = pods.iter().map(|(count, value)| f64::from(*count) * value).sum();
        if count == 0 {
            return None;
        }
        let ratio = match self {
            Self::Utilization { percent, request } => {
                let utilization = (100.0 * sum / (request * f64::from(count)) + ROUNDING).trunc();
                utilization / f64::from(percent)
            }
            Self::Average(value) => sum / f64::from(count) / value,
        };
        ratio.is_finite().then_some(ratio)
    }

    /// The usage that is assumed of a pod without a metric on the way down.
    fn busy(self) -> f64 {
        match self {
            Self::Utilization { percent, request } => request * f64::from(percent.max(100)) / 100.0,
            Self::Average(value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Target = Target::Utilization { percent: 50, request: 1.0 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// Pods that have been ready for long, with this usage.
    fn ready(count: u32, value: f64) -> Pod {
        let sample = Some(Sample { value, at: at(990), window: Duration::from_secs(15) });
        Pod { count, state: State::Ready, started_at: at(0), changed_at: at(20), sample }
    }

    fn missing(count: u32) -> Pod {
        Pod { sample: None, ..ready(count, 0.0) }
    }

    fn pending(count: u32) -> Pod {
        Pod { state: State::Pending, started_at: at(995), changed_at: at(995), ..missing(count) }
    }

    fn propose(current: u32, pods: &[Pod], target: Target) -> Option<u32> {
        per_pod(&HpaConfig::default(), at(1000), current, pods, target)
    }

    /// Guarantees: with all pods ready the proposal is the ratio times the pods, rounded up, on whole percents, outside of 10 %.
    #[test]
    fn ready_pods() {
        for (usage, expected) in [(0.5, 4), (0.55, 4), (0.559, 4), (0.56, 5), (0.45, 4), (0.449, 4), (1.0, 8), (0.01, 1), (0.0, 0)] {
            assert_eq!(propose(4, &[ready(4, usage)], CPU), Some(expected), "usage {usage}");
        }
        // 44.9 % is 44 %, which is 0.88 of the target: outside, and ceil(3.52) is 4 all the same. With ten pods it shows.
        assert_eq!(propose(10, &[ready(10, 0.449)], CPU), Some(9));
        assert_eq!(propose(10, &[ready(10, 0.45)], CPU), Some(10));
        assert_eq!(propose(4, &[], CPU), None);
        assert_eq!(propose(4, &[missing(4)], CPU), None);
    }

    /// Guarantees: pods without a metric count as idle on the way up and as fully busy on the way down.
    #[test]
    fn missing_pods() {
        // Up: 90 % on 2 of 4; with two idle 45 % is 0.9 of the target: the direction turned, nothing changes.
        assert_eq!(propose(4, &[ready(2, 0.9), missing(2)], CPU), Some(4));
        // 150 % on 2 of 4: 75 %, 1.5 × 4 = 6.
        assert_eq!(propose(4, &[ready(2, 1.5), missing(2)], CPU), Some(6));
        // Down: 10 % on 9 of 10, one at 100 %: 19 %, 0.38 × 10 rounded up.
        assert_eq!(propose(10, &[ready(9, 0.1), missing(1)], CPU), Some(4));
        // Down: 20 % on 2 of 4 and two at 100 %: 60 % turns the direction.
        assert_eq!(propose(4, &[ready(2, 0.2), missing(2)], CPU), Some(4));
        // On target, one missing: neither filled in, within tolerance.
        assert_eq!(propose(3, &[ready(2, 0.5), missing(1)], CPU), Some(3));
    }

    /// Guarantees: pods that start count as idle on the way up and not at all on the way down.
    #[test]
    fn unready_pods() {
        assert_eq!(propose(4, &[ready(2, 1.5), pending(2)], CPU), Some(6));
        assert_eq!(propose(4, &[ready(2, 0.1), pending(2)], CPU), Some(1));
        // Deleted pods are no pods.
        let deleted = Pod { state: State::Deleted, ..ready(5, 9.0) };
        assert_eq!(propose(2, &[ready(2, 0.5), deleted], CPU), Some(2));
    }

    /// Guarantees: in the first 300 s a CPU sample counts only if all of its window is after readiness; later a pod that was never
    /// ready does not count, and one that ceased to be does.
    #[test]
    fn readiness_of_cpu_samples() {
        let config = HpaConfig::default();
        let young = Pod { started_at: at(900), changed_at: at(970), ..ready(1, 1.0) };
        let sample = |taken| Sample { value: 1.0, at: at(taken), window: Duration::from_secs(15) };
        assert!(is_unready(&config, at(1000), &young, sample(984)));
        assert!(!is_unready(&config, at(1000), &young, sample(985)));
        assert!(!is_unready(&config, at(1200), &young, sample(971)));
        let never = Pod { state: State::NotReady, started_at: at(0), changed_at: at(0), ..young };
        let ceased = Pod { changed_at: at(500), ..never };
        assert!(is_unready(&config, at(1000), &never, sample(990)));
        assert!(!is_unready(&config, at(1000), &ceased, sample(990)));
        // Outside of CPU, only pending pods are unready.
        let pods = [Pod { state: State::NotReady, ..ready(1, 9.0) }];
        assert_eq!(propose(1, &pods, Target::Average(3.0)), Some(3));
    }

    /// Guarantees: a proposal against the direction of its own ratio is not followed: fewer pods counted than there are.
    #[test]
    fn proposals_against_their_direction() {
        // 120 % on one pod, one missing: 60 %, 1.2 × 2 = 3 pods, but six are wanted already.
        assert_eq!(propose(6, &[ready(1, 1.2), missing(1)], CPU), Some(6));
    }

    /// Guarantees: means per pod fill a missing pod with the target on the way down and with nothing on the way up.
    #[test]
    fn averages() {
        let target = Target::Average(10.0);
        assert_eq!(propose(4, &[ready(4, 15.0)], target), Some(6));
        assert_eq!(propose(4, &[ready(3, 2.0), missing(1)], target), Some(2));
        assert_eq!(propose(4, &[ready(3, 20.0), missing(1)], target), Some(6));
        assert_eq!(propose(4, &[ready(4, 10.9)], target), Some(4));
    }

    /// Guarantees: external metrics multiply the ready pods by the ratio, or divide the sum, and wake a service from zero.
    #[test]
    fn external_metrics() {
        let config = HpaConfig::default();
        for (current, ready, sum, expected) in [(0, 0, 250.0, 3), (4, 4, 109.0, 4), (4, 3, 200.0, 6), (4, 4, 50.0, 2), (4, 4, 0.0, 0)] {
            assert_eq!(by_value(&config, current, ready, sum, 100.0), expected, "{sum} at {current}");
        }
        for (existing, sum, expected) in [(4, 430.0, 4), (4, 441.0, 5), (4, 350.0, 4), (0, 250.0, 3), (10, 0.0, 0)] {
            assert_eq!(by_average(&config, existing, sum, 100.0), expected, "{sum} at {existing}");
        }
    }
}
