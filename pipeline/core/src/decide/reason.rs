//! The closed vocabulary of decisions: one label serves the log, the metric, the journal column and the console.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares an enum whose variants have stable labels, a list of all, and a sentence for people.
macro_rules! labels {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type {
            $($(#[$doc])* #[serde(rename = $label)] $variant,)+
        }

        impl $type {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(super) use labels;

labels! {
    /// The guards, in the order in which they stand.
    Guard {
        /// Detects a clock that jumped.
        Clock = "clock",
        /// Rules that are switched off.
        Mode = "mode",
        /// A paused target.
        Pause = "pause",
        /// What the sink saw.
        Observation = "observation",
        /// An action that is still under way.
        InFlight = "in_flight",
        /// A person's order.
        Override = "override",
        /// A target that somebody scaled to zero.
        Zero = "zero",
        /// A rule without an answer.
        Missing = "missing",
        /// Evidence that is not good enough.
        Evidence = "evidence",
        /// A change that was not demanded often enough yet.
        Condition = "condition",
        /// The choice among the rules; its step states the proposal.
        Priority = "priority",
        /// Small changes.
        Tolerance = "tolerance",
        /// Replicas that never started.
        Startup = "startup",
        /// Violations on a loaded service.
        Reactive = "reactive",
        /// Recommendations of the recent past.
        Stabilization = "stabilization",
        /// Who is responsible for slow requests.
        Cause = "cause",
        /// A new version of the service.
        Deployment = "deployment",
        /// Requests that callers sent and the service does not report, replicas that serve unseen, and traces that are sampled.
        Telemetry = "telemetry",
        /// Rate limits.
        Behaviour = "behaviour",
        /// Largest single step.
        StepLimit = "step_limit",
        /// Pause after a change.
        Cooldown = "cooldown",
        /// Changes of services that call it, or that it calls.
        Cascade = "cascade",
        /// What a budget leaves.
        Budget = "budget",
        /// What earlier changes did to the requests.
        Verification = "verification",
        /// Bounds that a schedule sets.
        Schedule = "schedule",
        /// Bounds that the policy sets.
        Bounds = "bounds",
    }
}

labels! {
    /// Why a value is what it is.
    Reason {
        /// The rule demands more than there is.
        DemandAbove = "demand_above",
        /// The rule demands less than there is.
        DemandBelow = "demand_below",
        /// The rule demands what there is.
        DemandMet = "demand_met",
        /// The clock went back; remembered times were moved with it.
        ClockWentBack = "clock_went_back",
        /// The clock jumped ahead, or nobody asked for long; remembered times were moved with it.
        ClockJumpedAhead = "clock_jumped_ahead",
        /// All rules of the target are off, or this one is.
        ModeOff = "mode_off",
        /// The target is paused.
        Paused = "paused",
        /// The current capacity is unknown.
        NotObserved = "not_observed",
        /// The observation is too old to act on.
        ObservationTooOld = "observation_too_old",
        /// The observation is older than our last action; what we set counts.
        ObservationBeforeAction = "observation_before_action",
        /// A person ordered a capacity.
        OverrideActive = "override_active",
        /// An action is under way.
        ActionInFlight = "action_in_flight",
        /// The target has no replicas though its min is above zero: somebody switched it off.
        ScaledToZero = "scaled_to_zero",
        /// No rule serves the target.
        NoRules = "no_rules",
        /// The rule has no answer; the capacity is kept.
        DataMissing = "data_missing",
        /// The rule has no answer; it lets others decide.
        DataMissingSkipped = "data_missing_skipped",
        /// The rule has no answer; its policy then asks for the min.
        FallbackMin = "fallback_min",
        /// The rule has no answer; its policy then asks for the max.
        FallbackMax = "fallback_max",
        /// The rule has no answer; its policy then asks for a number of replicas.
        FallbackReplicas = "fallback_replicas",
        /// The rule has no answer; its policy then asks for what was last demanded, if that is more than there is.
        FallbackLastDemand = "fallback_last_demand",
        /// The rule has no answer for long; its policy then asks for what is usual at this hour, if that is more than there is.
        FallbackUsual = "fallback_usual",
        /// Too few samples.
        TooFewSamples = "too_few_samples",
        /// Too little confidence.
        LowConfidence = "low_confidence",
        /// The window is not complete enough.
        Incomplete = "incomplete",
        /// Scaling down needs a final window.
        NotFinal = "not_final",
        /// Scaling down needs a final window, and the row does not say whether it is.
        FinalityUnknown = "finality_unknown",
        /// Scaling down needs newer evidence.
        TooOldToScaleDown = "too_old_to_scale_down",
        /// The change was not demanded often enough yet.
        ConditionPending = "condition_pending",
        /// The change is within the tolerance.
        WithinTolerance = "within_tolerance",
        /// A lower recommendation of the recent past limits the way up.
        StabilizedUp = "stabilized_up",
        /// A higher recommendation of the recent past limits the way down.
        StabilizedDown = "stabilized_down",
        /// Data were missing until recently; no scale-down yet.
        Recovering = "recovering",
        /// Replicas that were asked for long ago never became ready; others take their place.
        StartLost = "start_lost",
        /// Too many requests are over the objective while the service is loaded.
        ViolationsHigh = "violations_high",
        /// Another service is responsible for the slow requests; more replicas of this one would not help.
        DownstreamBound = "downstream_bound",
        /// More replicas would not help.
        ScalingFutile = "scaling_futile",
        /// The last scale-down made requests slow; it is taken back.
        RolledBack = "rolled_back",
        /// A scale-down to fewer replicas was taken back a while ago.
        FloorAfterRollback = "floor_after_rollback",
        /// The last scale-ups did not make requests faster.
        ScalingIneffective = "scaling_ineffective",
        /// Errors rose with the last scale-up.
        ErrorsRiseWithReplicas = "errors_rise_with_replicas",
        /// A new version of the service came a while ago; no scale-down yet.
        RecentlyDeployed = "recently_deployed",
        /// Callers account for far more requests than the service reports: its telemetry is lost, not its load.
        RequestsUnheard = "requests_unheard",
        /// Some replicas are ready and not heard of: what they serve is in no rate.
        InstancesSilent = "instances_silent",
        /// Spans account for far fewer requests than the service's metrics count: its traces are sampled.
        TracesSampled = "traces_sampled",
        /// A service that it calls must have its new capacity first.
        WaitsForDownstream = "waits_for_downstream",
        /// A service that calls it must scale down first.
        WaitsForUpstream = "waits_for_upstream",
        /// A budget leaves no more.
        BudgetExhausted = "budget_exhausted",
        /// The policy forbids the direction.
        DirectionDisabled = "direction_disabled",
        /// A rate policy limits the change.
        RateLimited = "rate_limited",
        /// The step limit cuts the change.
        StepLimited = "step_limited",
        /// Too soon after the last change.
        CoolingDown = "cooling_down",
        /// What each replica asks for changed a moment ago; capacity is not taken away until that shows.
        ResizeSettling = "resize_settling",
        /// Raised to a schedule's lower bound.
        ScheduledMin = "scheduled_min",
        /// Cut to a schedule's upper bound.
        ScheduledMax = "scheduled_max",
        /// Raised to the min.
        BelowMin = "below_min",
        /// Cut to the max.
        AboveMax = "above_max",
        /// The bounds of several rules or schedules cross; the lower bound holds.
        BoundsCrossed = "bounds_crossed",
    }
}

labels! {
    /// What became of a rule's answer.
    Verdict {
        /// It was obeyed.
        Chosen = "chosen",
        /// A rule of equal priority asked for more.
        Outvoted = "outvoted",
        /// A rule of higher priority had an answer.
        Outranked = "outranked",
        /// It had no answer and let others decide.
        Abstained = "abstained",
        /// It only recommends, while another rule of the target enforces.
        NotEnforced = "not_enforced",
        /// It is off.
        Off = "off",
    }
}

// === impl Verdict ===

impl Verdict {
    /// True when the answer took part in the choice.
    #[must_use]
    pub const fn had_a_say(self) -> bool {
        matches!(self, Self::Chosen | Self::Outvoted | Self::Outranked)
    }
}
