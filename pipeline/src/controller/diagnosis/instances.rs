//! Instances that are ready and fell silent: what they serve is in no rate.
//!
//! ```text
//! ready    ● ● ● ● ●    all were heard of once: five spans' senders for five replicas
//! heard    ● ● ● ○ ○    for three minutes, each with so many requests that by chance nobody would have had none
//! ```
//!
//! Replicas are not compared with the number of senders where that never was the same: instances without an id count as one, a
//! process may be several, and a balancer may leave some without work for good. New replicas have to be heard of before they can
//! fall silent, so what still starts is never missed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tracescale_core::capacity::Observed;
use tracescale_core::decide::Silent;
use tracescale_core::time::Timestamp;

/// Length of the windows in which senders are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// Minutes in a row in which some must have been silent: an exporter may be late once, and a restart is over by then.
const SILENT: u32 = 3;
/// The chance that a replica had no request in a minute at which its silence means something; in three it is one in a thousand
/// million.
const CHANCE: f64 = 1e-3;
/// For how long minutes and observations are kept: three minutes, and what is final only later.
const KEEP: Duration = Duration::from_secs(360);
/// Most observations in that time; they come every 15 s, and after changes.
const OBSERVATIONS: usize = 64;
/// After a day in which some were always silent, that is how the load is spread, or people know.
const FORGET: Duration = Duration::from_secs(86_400);

/// The instances of a target's service, as its sink and as its spans tell.
#[derive(Debug, Default)]
pub(super) struct Instances {
    /// Replicas that were ready, the oldest first.
    ready: VecDeque<(Timestamp, u32)>,
    /// What the minutes said, by their end; `None` where they cannot tell.
    minutes: BTreeMap<Timestamp, Option<Silent>>,
    /// When all replicas that were ready were last heard of, and how many they were, less those that were given up since.
    whole: Option<(Timestamp, u32)>,
}

/// What the spans of a minute tell of who sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// Senders that tell themselves apart; `None` when some do not.
    pub(super) instances: Option<f64>,
    /// Effective samples of requests.
    pub(super) samples: f64,
}

// === impl Instances ===

impl Instances {
    /// Takes note of what a sink saw.
    pub(super) fn see(&mut self, observed: &Observed) {
        let Some(ready) = observed.ready else { return };
        if self.ready.len() >= OBSERVATIONS {
            let _ = self.ready.pop_front();
        }
        self.ready.push_back((observed.observed_at, ready));
        // Those that remain after a scale-down were heard of; those that come after it are others.
        self.whole = self.whole.map(|(at, whole)| (at, whole.min(observed.desired)));
    }

    /// Takes note of who was heard of in the minute that ended then; again when late rows changed that.
    pub(super) fn hear(&mut self, end: Timestamp, heard: Heard) {
        let silent = self.judge(end, heard);
        let _ = self.minutes.insert(end, silent);
    }

    fn judge(&mut self, end: Timestamp, heard: Heard) -> Option<Silent> {
        let (instances, (least, most)) = (heard.instances?, self.ready_in(end)?);
        if least == most && is(instances, least) {
            // A late row of the past says nothing of what was given up since.
            let newest = self.whole.is_none_or(|(at, _)| at < end);
            self.whole = if newest { Some((end, least)) } else { self.whole };
            return None;
        }
        let (_, whole) = self.whole.filter(|(at, _)| end.since(*at) < FORGET)?;
        let expected = f64::from(whole.min(least));
        if instances >= expected || chance_of_none(least, heard.samples) > CHANCE {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count of replicas")]
        let missing = (expected - instances).round() as u32;
        Some(Silent { instances: missing, ready: least })
    }

    /// The fewest and most replicas that were ready at once from the beginning of the minute that ended then until now; `None`
    /// when nobody looked for half a minute.
    fn ready_in(&self, end: Timestamp) -> Option<(u32, u32)> {
        let start = end - MINUTE;
        let seen = || self.ready.iter().filter(|(at, _)| *at >= start);
        let _ = seen().find(|(at, _)| at.since(start) <= MINUTE / 2)?;
        Some((seen().map(|(_, ready)| *ready).min()?, seen().map(|(_, ready)| *ready).max()?))
    }

    /// How many were silent in each of the newest minutes without a gap, and until when.
    pub(super) fn silent(&self) -> Option<(Timestamp, Silent)> {
        let newest = *self.minutes.last_key_value()?.0;
        let minutes = (0..SILENT).map(|ago| self.minutes.get(&(newest - MINUTE * ago)).copied().flatten());
        let fewest = minutes.collect::<Option<Vec<Silent>>>()?.into_iter().min_by_key(|silent| silent.instances)?;
        Some((newest, fewest))
    }

    /// Forgets what is old, and what a clock that stepped back left in the future.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        let is_near = |at: Timestamp| now.since(at) <= KEEP && at <= now + MINUTE;
        self.minutes.retain(|end, _| is_near(*end));
        self.ready.retain(|(at, _)| is_near(*at));
        self.whole = self.whole.filter(|(at, _)| now.since(*at) < FORGET).map(|(at, whole)| (at.min(now), whole));
    }
}

// === impl Heard ===

impl Heard {
    /// With other rows of the same minute: those of an instance bear the same attributes.
    pub(super) fn and(self, other: Self) -> Self {
        let instances = self.instances.zip(other.instances).map(|(some, others)| some + others);
        Self { instances, samples: self.samples + other.samples }
    }
}

fn is(number: f64, whole: u32) -> bool {
    (number - f64::from(whole)).abs() < 0.5
}

/// The chance that one of so many replicas has none of the requests, at most, where each goes to any of them (Bonferroni).
fn chance_of_none(replicas: u32, requests: f64) -> f64 {
    let replicas = f64::from(replicas);
    replicas * (1.0 - 1.0 / replicas.max(1.0)).powf(requests.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_767_600_000);

    /// A minute: replicas that are ready, senders, and requests.
    type Minute = (u32, Option<f64>, f64);

    /// Lives through minutes with an observation every quarter of each, and the window final a few seconds later.
    fn lived(minutes: impl IntoIterator<Item = Minute>) -> Instances {
        let mut instances = Instances::default();
        for (number, minute) in (0..).zip(minutes) {
            live(&mut instances, number, minute);
        }
        instances
    }

    fn live(instances: &mut Instances, number: u32, (ready, heard, samples): Minute) {
        let start = START + MINUTE * number;
        for quarter in 0..4 {
            instances.see(&Observed::replicas(ready, Some(ready), start + MINUTE / 4 * quarter));
        }
        instances.hear(start + MINUTE, Heard { instances: heard, samples });
        instances.tidy(start + MINUTE);
    }

    fn silent(minutes: &[Minute]) -> Option<(u32, u32)> {
        lived(minutes.iter().copied()).silent().map(|(_, silent)| (silent.instances, silent.ready))
    }

    const WHOLE: Minute = (5, Some(5.0), 1000.0);
    const SOME: Minute = (5, Some(3.0), 1000.0);

    /// Guarantees: replicas that were all heard of are missed after three minutes of silence of some, by the fewest that were
    /// silent in any; one that speaks again, a minute without telemetry, and a gap are a new beginning.
    #[test]
    fn three_minutes_of_silence_mean_something() {
        assert_eq!(silent(&[WHOLE, SOME, SOME]), None);
        assert_eq!(silent(&[WHOLE, SOME, SOME, SOME]), Some((2, 5)));
        assert_eq!(silent(&[WHOLE, SOME, (5, Some(4.0), 1000.0), SOME]), Some((1, 5)));
        assert_eq!(silent(&[WHOLE, SOME, SOME, SOME, WHOLE]), None);
        assert_eq!(silent(&[WHOLE, SOME, (5, None, 0.0), SOME, SOME]), None);
        let mut gap = lived([WHOLE, SOME, SOME]);
        live(&mut gap, 4, SOME);
        assert_eq!(gap.silent(), None);
    }

    /// Guarantees: nothing is missed of a service whose spans name no instance, or always the same, or whose replicas were never
    /// all heard of, or are several processes each, or that nobody observes.
    #[test]
    fn what_never_was_whole_is_not_missed() {
        for heard in [None, Some(1.0), Some(4.0), Some(10.0)] {
            assert_eq!(silent(&[(5, heard, 1000.0); 20]), None, "{heard:?}");
        }
        let mut unseen = Instances::default();
        (1..10).for_each(|number| unseen.hear(START + MINUTE * number, Heard { instances: Some(3.0), samples: 1000.0 }));
        assert_eq!(unseen.silent(), None);
    }

    /// Guarantees: replicas that are new are not missed before they were heard of, and those of before still are; after a
    /// scale-down only what is left is.
    #[test]
    fn what_starts_is_not_missed() {
        let three = (3, Some(3.0), 1000.0);
        let pinned = (5, Some(3.0), 1000.0);
        assert_eq!(silent(&[three, pinned, pinned, pinned, pinned]), None);
        let fallen = (5, Some(2.0), 1000.0);
        assert_eq!(silent(&[three, pinned, fallen, fallen, fallen]), Some((1, 5)));
        assert_eq!(silent(&[WHOLE, three, three, three, three]), None);
        assert_eq!(silent(&[WHOLE, (3, Some(2.0), 1000.0), pinned, pinned, pinned]), None, "up again");
        // Of those that are not ready nothing is expected.
        let mut unready = lived([WHOLE]);
        for number in 1..5 {
            let start = START + MINUTE * number;
            (0..4).for_each(|quarter| unready.see(&Observed::replicas(5, Some(3), start + MINUTE / 4 * quarter)));
            unready.hear(start + MINUTE, Heard { instances: Some(3.0), samples: 1000.0 });
        }
        assert_eq!(unready.silent(), None);
    }

    /// Guarantees: so few requests, or samples of them, that one of the replicas may well have had none, say nothing.
    #[test]
    fn idle_replicas_are_not_missed() {
        // 5 (4/5)^n is a thousandth from n = 38.2 on.
        for (samples, expected) in [(38.0, None), (39.0, Some((1, 5))), (0.0, None), (f64::NAN, None)] {
            let quiet = (5, Some(4.0), samples);
            assert_eq!(silent(&[WHOLE, quiet, quiet, quiet]), expected, "{samples}");
        }
        assert_eq!(silent(&[WHOLE, SOME, (5, Some(3.0), 20.0), SOME]), None);
    }

    /// Guarantees: what has been so for a day is normal, what was long ago is no news, and memory is bounded.
    #[test]
    fn old_news_are_forgotten() {
        let mut instances = lived([WHOLE]);
        for number in 1..2000 {
            live(&mut instances, number, SOME);
            assert!(instances.minutes.len() <= 8 && instances.ready.len() <= OBSERVATIONS);
            assert_eq!(instances.silent().is_some(), (3..1440).contains(&number), "{number}");
        }
        let mut old = lived([WHOLE, SOME, SOME, SOME]);
        assert!(old.silent().is_some());
        old.tidy(START + MINUTE * 12);
        assert_eq!(old.silent(), None);
        let mut stepped = lived([WHOLE, SOME, SOME, SOME]);
        stepped.tidy(START - MINUTE * 60);
        assert_eq!((stepped.silent(), stepped.ready.len()), (None, 0));
    }

    /// Guarantees: late rows correct their minute.
    #[test]
    fn late_rows_correct_a_minute() {
        let mut instances = lived([WHOLE, SOME, SOME, SOME]);
        instances.hear(START + MINUTE * 3, Heard { instances: Some(5.0), samples: 1000.0 });
        assert_eq!(instances.silent(), None);
    }
}
