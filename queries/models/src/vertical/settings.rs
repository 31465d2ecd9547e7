//! The constants of a recommender.

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// What CPU is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CpuTarget {
    /// This share of the time is served.
    Percentile(f64),
    /// This share of the load is served.
    LoadAdjusted(f64),
}

/// What memory is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemoryTarget {
    /// The largest peak.
    Max,
    /// This share of the peaks, older ones counting less.
    Percentile(f64),
}

/// The constants of a recommender. Percentiles and shares are 0..1, times are seconds, memory is bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What CPU is asked for.
    pub cpu_target: CpuTarget,
    /// Time until a CPU sample counts half.
    pub cpu_half_life: f64,
    /// Share added to CPU.
    pub cpu_margin: f64,
    /// What memory is asked for.
    pub memory_target: MemoryTarget,
    /// Time until a memory peak counts half, where older ones count less.
    pub memory_half_life: f64,
    /// Share added to memory.
    pub memory_margin: f64,
    /// Memory limit over memory request; `None` leaves the limit alone.
    pub memory_limit_ratio: Option<f64>,
    /// Percentile of the lower bound, before the margin and the lack of confidence.
    pub lower: f64,
    /// Percentile of the upper bound, likewise.
    pub upper: f64,
    /// CPU samples that a full day has: fewer are less than a day's confidence.
    pub samples_per_day: f64,
    /// Length of the interval of one memory peak.
    pub peak_interval: f64,
    /// Intervals that count.
    pub peak_count: u16,
    /// Memory after a kill: usage times this, at least.
    pub oom_ratio: f64,
    /// Memory after a kill: usage and this, at least.
    pub oom_bump: f64,
    /// Least CPU, cores.
    pub least_cpu: f64,
    /// Least memory.
    pub least_memory: f64,
}

// === impl Settings ===

impl Settings {
    /// Ours: CPU for nine tenths of the load of the last half days, memory for the largest peak of a week.
    #[must_use]
    pub const fn ours() -> Self {
        Self {
            cpu_target: CpuTarget::LoadAdjusted(0.9),
            cpu_half_life: 12.0 * HOUR,
            cpu_margin: 0.1,
            memory_target: MemoryTarget::Max,
            memory_half_life: 48.0 * HOUR,
            memory_margin: 0.15,
            memory_limit_ratio: Some(1.2),
            lower: 0.5,
            upper: 0.95,
            samples_per_day: 288.0,
            peak_interval: HOUR,
            peak_count: 168,
            oom_ratio: 1.2,
            oom_bump: 1e8,
            least_cpu: 0.01,
            least_memory: 1e7,
        }
    }

    /// Those of the recommender of the Vertical Pod Autoscaler.
    #[must_use]
    pub const fn vpa() -> Self {
        Self {
            cpu_target: CpuTarget::Percentile(0.9),
            cpu_half_life: DAY,
            cpu_margin: 0.15,
            memory_target: MemoryTarget::Percentile(0.9),
            memory_half_life: DAY,
            memory_margin: 0.15,
            memory_limit_ratio: None,
            samples_per_day: 1440.0,
            peak_interval: DAY,
            peak_count: 8,
            oom_bump: 104_857_600.0,
            least_cpu: 0.025,
            least_memory: 2.5e8,
            ..Self::ours()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::ours()
    }
}
