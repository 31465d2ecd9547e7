//! Requests that metrics count, compared with those that spans account for: sampled traces look like little load.
//!
//! ```text
//! measured  98  97  99 /s    by metrics, which SDKs make before spans are sampled
//! spans     10   9  10 /s    for three minutes, and of so many requests that it is not chance: one trace in ten is kept
//! ```
//!
//! Metrics come once in up to a minute and are spread over it, so for a minute after each change of the load the two differ:
//! three minutes must agree.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tracescale_core::time::Timestamp;

/// Length of the windows that are compared.
const MINUTE: Duration = Duration::from_secs(60);
/// Minutes in a row that must agree.
const MINUTES: u32 = 3;
/// Part of the measured requests, accounted for by spans, below which traces are sampled; decisions have the same.
const FEW: f64 = 0.7;
/// And above which spans count for too many.
const MANY: f64 = 1.3;
/// Between these the two agree again: what has been told is over.
const AGREE: std::ops::RangeInclusive<f64> = 0.8..=1.25;
/// Standard errors of the expected number of spans that the difference must be: by chance once in millions of minutes.
const ERRORS: f64 = 5.0;
/// For how long minutes are kept: three, and what is final only later.
const KEEP: Duration = Duration::from_secs(360);

/// What the spans and the metrics of a target's service say of the number of its requests.
#[derive(Debug, Default)]
pub(super) struct Traced {
    /// By their end; `None` where a side is missing.
    minutes: BTreeMap<Timestamp, Option<Compared>>,
    /// What people were told last.
    told: Option<Side>,
}

/// One window of a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compared {
    /// Requests/s that metrics count, and which metrics.
    pub(super) measured: f64,
    pub(super) by: String,
    /// Requests/s that spans account for, with the sampling that is known.
    pub(super) spans: f64,
    /// Effective samples behind them.
    pub(super) samples: f64,
}

/// How far spans and metrics are apart, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Disagreement {
    /// The service.
    pub service: String,
    /// Requests/s that its metrics count.
    pub measured: f64,
    /// Which metrics.
    pub by: String,
    /// Requests/s that its spans account for.
    pub spans: f64,
    /// Requests that a span stands for today, on average.
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Few,
    Many,
}

// === impl Traced ===

impl Traced {
    /// Takes note of the minute that ended then; again when late rows changed it.
    pub(super) fn hear(&mut self, end: Timestamp, compared: Option<Compared>) {
        let _ = self.minutes.insert(end, compared.filter(|minute| minute.measured > 0.0));
    }

    /// The part of the requests that spans account for in the newest minutes without a gap, and until when; `None` unless all of
    /// them are far from one on the same side, beyond chance.
    pub(super) fn share(&self) -> Option<(Timestamp, f64)> {
        let (end, sum) = self.newest()?;
        let _ = self.side(end, &sum)?;
        Some((end, sum.share()))
    }

    /// What people should be told and were not yet.
    pub(super) fn news(&mut self, service: &str) -> Option<Disagreement> {
        let (end, sum) = self.newest()?;
        let side = self.side(end, &sum);
        if side.is_none() && AGREE.contains(&sum.share()) {
            self.told = None;
        }
        if side.is_none() || self.told == side {
            return None;
        }
        self.told = side;
        let minutes = f64::from(MINUTES);
        let weight = if sum.samples > 0.0 { sum.spans * MINUTE.as_secs_f64() / sum.samples } else { 1.0 };
        Some(Disagreement { service: service.to_owned(), measured: sum.measured / minutes, by: sum.by, spans: sum.spans / minutes, weight })
    }

    fn side(&self, end: Timestamp, sum: &Compared) -> Option<Side> {
        let shares = || last(end).filter_map(|end| self.minutes.get(&end)?.as_ref().map(Compared::share));
        let side = match () {
            () if shares().all(|share| share < FEW) => Side::Few,
            () if shares().all(|share| share > MANY) => Side::Many,
            () => return None,
        };
        sum.is_beyond_chance().then_some(side)
    }

    /// All of the newest minutes together, and their end.
    fn newest(&self) -> Option<(Timestamp, Compared)> {
        let end = *self.minutes.last_key_value()?.0;
        let minutes = last(end).map(|end| self.minutes.get(&end).cloned().flatten());
        let sum = minutes.collect::<Option<Vec<_>>>()?.into_iter().reduce(Compared::and)?;
        Some((end, sum))
    }

    /// Forgets what is old, and what a clock that stepped back left in the future.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        self.minutes.retain(|end, _| now.since(*end) <= KEEP && *end <= now + MINUTE);
    }
}

fn last(end: Timestamp) -> impl Iterator<Item = Timestamp> {
    (0..MINUTES).map(move |ago| end - MINUTE * ago)
}

// === impl Compared ===

impl Compared {
    /// With another place of the same minute, or another minute: rates and samples add up.
    pub(super) fn and(self, other: Self) -> Self {
        let by = if self.by == other.by || other.by.is_empty() { self.by } else { other.by };
        Self { measured: self.measured + other.measured, by, spans: self.spans + other.spans, samples: self.samples + other.samples }
    }

    fn share(&self) -> f64 {
        self.spans / self.measured
    }

    /// Whether samples that are drawn from the measured requests would hardly ever be as few, or as many.
    fn is_beyond_chance(&self) -> bool {
        let share = self.share();
        // Where nothing is left to say how many requests a span stands for, each is taken to be one.
        let expected = if self.samples > 0.0 { self.samples / share } else { self.measured * MINUTE.as_secs_f64() };
        (1.0 - share).abs() * expected.sqrt() >= ERRORS
    }
}

// === impl Disagreement ===

impl Disagreement {
    /// The probability with which spans were kept, when they explain the difference.
    fn probability(&self) -> Option<f64> {
        // Metrics and spans of a minute are seldom of exactly the same requests.
        let probability = self.spans / self.measured / self.weight;
        (probability > 0.0 && probability <= *AGREE.end()).then(|| probability.min(1.0))
    }

    /// True when spans account for too few requests, false when for too many.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.spans < self.measured
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, by, .. } = self;
        let (measured, spans) = (digits(self.measured), digits(self.spans));
        write!(f, "{service} answers {measured} requests/s by {by}, spans account for {spans}: ")?;
        let declare = self.probability().map(|probability| format!("spec.sampling.services.{service}: {}", digits(probability)));
        match (self.is_sampled(), declare) {
            (true, Some(declare)) => write!(
                f,
                "its traces are sampled. Declare `{declare}` (1 where not every request is meant to be traced), or take rules that need no spans \
                 (utilization)"
            ),
            (true, None) => write!(f, "its traces are lost, or sampled to nothing. Take rules that need no spans (utilization)"),
            (false, Some(declare)) => write!(f, "its spans count for too much. Declare `{declare}`"),
            (false, None) => write!(f, "its spans come twice, or its metrics do not count every request"),
        }
    }
}

/// A positive figure with two digits that count.
fn digits(figure: f64) -> String {
    if figure >= 10.0 {
        return format!("{figure:.0}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few decimals of a positive figure")]
    let decimals = if figure > 0.0 { (1.0 - figure.log10().floor()).clamp(0.0, 9.0) as usize } else { 0 };
    let text = format!("{figure:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_767_600_000);

    /// Measured requests/s, those that spans account for, and effective samples in a minute.
    type Minute = Option<(f64, f64, f64)>;

    fn compared((measured, spans, samples): (f64, f64, f64)) -> Compared {
        Compared { measured, by: "http.server.request.duration".to_owned(), spans, samples }
    }

    fn heard(minutes: &[Minute]) -> Traced {
        let mut traced = Traced::default();
        for (number, minute) in (1..).zip(minutes) {
            traced.hear(START + MINUTE * number, minute.map(compared));
            traced.tidy(START + MINUTE * number + Duration::from_secs(75));
        }
        traced
    }

    fn share(minutes: &[Minute]) -> Option<f64> {
        heard(minutes).share().map(|(_, share)| (share * 1e6).round() / 1e6)
    }

    const WHOLE: Minute = Some((100.0, 99.0, 5940.0));
    const TENTH: Minute = Some((98.0, 9.8, 588.0));

    /// Guarantees: three minutes in a row in which spans account for far fewer requests, or far more, are a statement; fewer, a
    /// gap, a side that is missing, or a step of the load that metrics show a minute later, are none.
    #[test]
    fn three_minutes_that_agree_are_a_statement() {
        assert_eq!(share(&[WHOLE, TENTH, TENTH]), None);
        assert_eq!(share(&[WHOLE, TENTH, TENTH, TENTH]), Some(0.1));
        assert_eq!(share(&[TENTH, TENTH, TENTH, WHOLE]), None);
        assert_eq!(share(&[TENTH, None, TENTH, TENTH]), None);
        assert_eq!(share(&[Some((0.0, 5.0, 300.0)); 4]), None, "nothing is measured");
        assert_eq!(share(&[Some((100.0, 150.0, 900.0)); 3]), Some(1.5));
        for share_of in [0.7, 1.0, 1.3] {
            assert_eq!(share(&[Some((100.0, 100.0 * share_of, 6000.0 * share_of)); 5]), None, "{share_of}");
        }
        let step = [Some((100.0, 100.0, 6000.0)), Some((80.0, 10.0, 600.0)), Some((25.0, 10.0, 600.0)), Some((10.0, 10.0, 600.0))];
        assert_eq!(share(&step), None);
        let mut gap = heard(&[TENTH, TENTH]);
        gap.hear(START + MINUTE * 4, TENTH.map(compared));
        assert_eq!(gap.share(), None);
    }

    /// Guarantees: what may be chance says nothing: 31 requests of which three have spans are enough, fewer are not; where no span
    /// is left each counts as one request.
    #[test]
    fn chance_says_nothing() {
        let tenth = |requests: f64| Some((requests / 180.0, requests / 1800.0, requests / 30.0));
        assert_eq!(share(&[tenth(31.0); 3]), Some(0.1));
        assert_eq!(share(&[tenth(30.0); 3]), None);
        // Two thirds: 25 / (1/3)^2 = 225 requests.
        let most = |requests: f64| Some((requests / 180.0, requests / 270.0, requests / 4.5));
        assert_eq!((share(&[most(226.0); 3]).is_some(), share(&[most(224.0); 3])), (true, None));
        // Spans that stand for a hundred each, of which there are only four.
        assert_eq!(share(&[Some((10.0, 6.6, 4.0)); 3]), None);
        assert_eq!((share(&[Some((1.0, 0.0, 0.0)); 3]), share(&[Some((0.1, 0.0, 0.0)); 3])), (Some(0.0), None));
    }

    /// Guarantees: people are told once, again when it was over meanwhile or turned into the opposite, and late rows count.
    #[test]
    fn a_disagreement_is_told_once() {
        let mut traced = Traced::default();
        let mut told = Vec::new();
        let many = Some((98.0, 196.0, 588.0));
        let days =
            [TENTH, TENTH, TENTH, TENTH, WHOLE, TENTH, TENTH, TENTH, WHOLE, WHOLE, WHOLE, TENTH, TENTH, TENTH, many, many, many, many];
        for (number, minute) in (1..).zip(days) {
            traced.hear(START + MINUTE * number, minute.map(compared));
            traced.tidy(START + MINUTE * number);
            told.extend(traced.news("cart").map(|news| (number, news.is_sampled())));
            assert!(traced.minutes.len() <= 8);
        }
        assert_eq!(told, [(3, true), (14, true), (17, false)]);
        traced.hear(START + MINUTE * 18, WHOLE.map(compared));
        assert_eq!(traced.share(), None);
        traced.tidy(START - MINUTE * 60);
        assert!(traced.minutes.is_empty());
    }

    /// Guarantees: the words say what is measured and by what, and what to declare, beside what is declared already.
    #[test]
    fn the_words_say_what_to_do() {
        let say = |measured: f64, spans: f64, weight: f64| {
            let by = "http.server.request.duration".to_owned();
            Disagreement { service: "checkout".to_owned(), measured, by, spans, weight }.to_string()
        };
        assert_eq!(
            say(98.0, 9.9, 1.0),
            "checkout answers 98 requests/s by http.server.request.duration, spans account for 9.9: its traces are sampled. Declare \
             `spec.sampling.services.checkout: 0.1` (1 where not every request is meant to be traced), or take rules that need no spans (utilization)"
        );
        assert!(say(1234.5, 308.6, 2.0).contains("answers 1234 requests/s") && say(1234.5, 308.6, 2.0).contains("checkout: 0.12`"));
        assert!(say(98.0, 0.0, 1.0).contains("spans account for 0: its traces are lost"));
        assert!(say(100.0, 500.0, 10.0).ends_with("its spans count for too much. Declare `spec.sampling.services.checkout: 0.5`"));
        assert!(say(100.0, 200.0, 1.0).contains("come twice"));
        assert_eq!([0.001_25, 0.1, 1.0, 0.999, 9.96].map(digits), ["0.0013", "0.1", "1", "1", "10"]);
    }
}
