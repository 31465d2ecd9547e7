//! What a service used, and what its replicas should request for it.

use super::histogram::{Buckets, DecayingHistogram};
use super::peaks::Peaks;
use super::settings::{CpuTarget, MemoryTarget, Settings};

const DAY: f64 = 86_400.0;
/// Least weight of a CPU sample, so that a container without a request counts too.
const LEAST_WEIGHT: f64 = 0.1;

/// The usage of one service's replicas, condensed. Feed it samples of every replica.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageHistory {
    settings: Settings,
    cpu: DecayingHistogram,
    cpu_samples: f64,
    /// Times of the first and the last sample.
    span: Option<(f64, f64)>,
    memory: Peaks,
}

/// Cores and bytes of one replica; `None` where nothing is known or set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Cores.
    pub cpu: Option<f64>,
    /// Bytes.
    pub memory: Option<f64>,
}

/// What a replica should request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recommendation {
    /// Cores; `None` without CPU samples.
    pub cpu_request: Option<f64>,
    /// Bytes; `None` without memory samples.
    pub memory_request: Option<f64>,
    /// Bytes; `None` also where the settings leave the limit alone.
    pub memory_limit: Option<f64>,
    /// Requests below these are too small, as far as we can be sure of it.
    pub lower: Usage,
    /// Requests above these are too large, as far as we can be sure of it.
    pub upper: Usage,
}

// === impl UsageHistory ===

impl UsageHistory {
    /// An empty history. `None` when the settings leave no memory peak to look at.
    #[must_use]
    pub fn try_new(settings: Settings) -> Option<Self> {
        Some(Self {
            settings,
            cpu: DecayingHistogram::new(Buckets::cpu(), settings.cpu_half_life),
            cpu_samples: 0.0,
            span: None,
            memory: Peaks::try_new(settings.peak_interval, settings.peak_count)?,
        })
    }

    /// Takes note of cores in use at a time (seconds), by a replica that requested `request` cores: larger ones count more.
    /// False when it is no sample.
    pub fn observe_cpu(&mut self, time: f64, cores: f64, request: Option<f64>) -> bool {
        let weight = request.filter(|request| request.is_finite()).unwrap_or(0.0).max(LEAST_WEIGHT);
        let taken = self.cpu.add(cores, weight, time);
        if taken {
            self.cpu_samples += 1.0;
            self.extend(time);
        }
        taken
    }

    /// Takes note of bytes in use at a time (seconds). False when it is no sample, or too old to count.
    pub fn observe_memory(&mut self, time: f64, bytes: f64) -> bool {
        let taken = self.memory.add(bytes, time);
        if taken {
            self.extend(time);
        }
        taken
    }

    /// Takes note of a process that was killed at `bytes` for lack of memory: it counts as if it had used more. `bytes` is the
    /// larger one of what it used and what it requested. False when it is no number.
    pub fn oom(&mut self, time: f64, bytes: f64) -> bool {
        let Some(more) = self.bumped(bytes).filter(|_| bytes >= 0.0 && time.is_finite()) else {
            return false;
        };
        self.observe_memory(time, more)
    }

    /// How sure the history makes, in days: the time it spans, less where samples are missing in it.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        let days = self.span.map_or(0.0, |(first, last)| (last - first) / DAY);
        days.min(self.cpu_samples / self.settings.samples_per_day)
    }

    /// What a replica should request at `now` (seconds). `None` when nothing was observed.
    #[must_use]
    pub fn recommend(&self, now: f64) -> Option<Recommendation> {
        let settings = &self.settings;
        let peaks = self.memory.histogram(now, settings.memory_half_life);
        let cpu = match settings.cpu_target {
            CpuTarget::Percentile(share) => self.cpu.percentile(share),
            CpuTarget::LoadAdjusted(share) => self.cpu.load_adjusted_percentile(share),
        };
        let memory = match settings.memory_target {
            MemoryTarget::Max => self.memory.max(now),
            MemoryTarget::Percentile(share) => peaks.percentile(share),
        };
        let cpu = cpu.map(|cpu| (cpu * (1.0 + settings.cpu_margin)).max(settings.least_cpu));
        let memory = memory.map(|memory| (memory * (1.0 + settings.memory_margin)).max(settings.least_memory));
        if cpu.is_none() && memory.is_none() {
            return None;
        }
        let bound = |share, widened: fn(f64, f64) -> f64| {
            let days = self.confidence();
            let one = |histogram: &DecayingHistogram, margin, least: f64| {
                histogram.percentile(share).map(|value| widened(value * (1.0 + margin), days).max(least))
            };
            let cpu = one(&self.cpu, settings.cpu_margin, settings.least_cpu);
            (cpu, one(&peaks, settings.memory_margin, settings.least_memory))
        };
        let (lower, upper) = (bound(settings.lower, lowered), bound(settings.upper, raised));
        // A target outside its own bounds would be left as soon as it is reached.
        let most = |a: Option<f64>, b: Option<f64>| Some(a?.max(b?));
        let least = |a: Option<f64>, b: Option<f64>| Some(a?.min(b?));
        let lower = Usage { cpu: least(lower.0, cpu), memory: least(lower.1, memory) };
        let upper = Usage { cpu: most(upper.0, cpu), memory: most(upper.1, memory) };
        let memory_limit = memory.zip(settings.memory_limit_ratio).map(|(request, ratio)| request * ratio);
        Some(Recommendation { cpu_request: cpu, memory_request: memory, memory_limit, lower, upper })
    }

    /// What a kill at `bytes` counts as.
    fn bumped(&self, bytes: f64) -> Option<f64> {
        let more = (bytes * self.settings.oom_ratio).max(bytes + self.settings.oom_bump);
        more.is_finite().then_some(more)
    }

    fn extend(&mut self, time: f64) {
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
    }
}

/// A lower bound after so many days of history: the less is known, the lower. Zero when nothing is.
fn lowered(value: f64, days: f64) -> f64 {
    if days > 0.0 { value * (1.0 + 0.001 / days).powi(-2) } else { 0.0 }
}

/// An upper bound after so many days of history: the less is known, the higher.
fn raised(value: f64, days: f64) -> f64 {
    if days > 0.0 { value * (1.0 + 1.0 / days) } else { f64::INFINITY }
}

#[cfg(test)]
mod tests;
