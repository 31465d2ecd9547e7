//! When the requests of a capture are taken to have arrived: a capture does not say, so their rows must.
//!
//! Recorded time goes through the times of the rows, request by request, and never back. A row that is further ahead of it than
//! rows may come out of order is behind a pause of the recording, or from a clock that runs ahead. The requests behind it tell:
//! after a pause all of them are as late, and no single clock moves them. A row that they do not bear out does not move recorded
//! time; the engine counts it as it counts a row from such a clock in a live run.

use std::time::Duration;

use tracescale_core::time::Timestamp;

/// So many requests behind one are heard about it. More hear of longer bursts of a clock that is wrong.
pub(super) const FOLLOWING: usize = 16;
/// Requests that must have come to a time, the first one included, before a pause is taken to have ended at it.
const AGREED: usize = 3;

/// The times of a request's rows.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// In their order; never empty.
    sorted: Vec<Timestamp>,
    median: Timestamp,
}

/// Recorded time.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    /// How far rows may come out of order: nothing is lost behind a row that is so far ahead.
    disorder: Duration,
    now: Option<Timestamp>,
    /// The longest that it went on with one request.
    longest: Duration,
}

/// What the requests behind a time say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It was that time.
    Yes,
    /// It was not.
    No,
    /// There are too few to tell, and they do not object.
    Open,
}

// === impl Times ===

impl Times {
    /// `None` without rows.
    pub(super) fn new(mut times: Vec<Timestamp>) -> Option<Self> {
        times.sort_unstable();
        let median = *times.get(times.len() / 2)?;
        Some(Self { sorted: times, median })
    }

    /// What the request says of those in front of it. Not its newest row: a Collector puts rows of many clocks into one request.
    pub(super) const fn median(&self) -> Timestamp {
        self.median
    }
}

// === impl Arrivals ===

impl Arrivals {
    pub(super) const fn new(disorder: Duration) -> Self {
        Self { disorder, now: None, longest: Duration::ZERO }
    }

    /// When the next request arrived, by its rows and by the [medians](Times::median) of up to [`FOLLOWING`] requests behind it:
    /// fewer only where the capture ends, or where more would not fit into memory.
    pub(super) fn arrive(&mut self, times: &Times, following: &[Timestamp]) -> Timestamp {
        let before = self.now.unwrap_or_else(|| self.beginning(times.median, following));
        let mut now = before;
        for time in times.sorted.iter().copied().filter(|time| *time > before) {
            if !self.is_reached(time, now, following) {
                break;
            }
            now = time;
        }
        self.longest = self.longest.max(now.since(before));
        self.now = Some(now);
        now
    }

    /// The first request's own time, unless those behind it object: then that of the first to which nobody objects.
    fn beginning(&self, first: Timestamp, following: &[Timestamp]) -> Timestamp {
        let behind = |place: usize| following.get(place..).unwrap_or_default();
        let times = std::iter::once(first).chain(following.iter().copied()).enumerate();
        let mut fitting = times.filter(|(place, time)| self.word(*time, behind(*place)) != Word::No);
        fitting.next().map_or(first, |(_, time)| time)
    }

    fn is_reached(&self, time: Timestamp, now: Timestamp, following: &[Timestamp]) -> bool {
        let step = time.since(now);
        step <= self.disorder
            || match self.word(time, following) {
                Word::Yes => true,
                Word::No => false,
                // Where the capture ends nobody is left to ask: a pause as long as there were before is believed.
                Word::Open => step <= self.longest,
            }
    }

    /// Whether it was `time`, by the requests behind it: more must not object than agree, wherever one stops to count. So a clock
    /// that is ahead is found out by the next few requests, however long it takes those behind them to come to its time.
    fn word(&self, time: Timestamp, following: &[Timestamp]) -> Word {
        let (mut agree, mut object) = (1, 0);
        for median in following {
            if *median + self.disorder >= time {
                agree += 1;
            } else {
                object += 1;
            }
            if object > agree {
                return Word::No;
            }
        }
        if agree >= AGREED { Word::Yes } else { Word::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISORDER: Duration = Duration::from_secs(70);
    const MINUTES: i64 = 60;
    const DAYS: i64 = 86_400;

    /// When requests arrived whose rows have these times, in seconds.
    fn arrivals(requests: &[Vec<i64>]) -> Vec<i64> {
        let requests: Vec<Times> =
            requests.iter().map(|seconds| Times::new(seconds.iter().copied().map(Timestamp::from_secs).collect()).unwrap()).collect();
        let medians: Vec<Timestamp> = requests.iter().map(Times::median).collect();
        let mut arrivals = Arrivals::new(DISORDER);
        let following = |index: usize| &medians[index + 1..medians.len().min(index + 1 + FOLLOWING)];
        let at = requests.iter().enumerate().map(|(index, times)| arrivals.arrive(times, following(index)).as_nanos() / 1_000_000_000);
        at.collect()
    }

    /// A request a second for a minute, with two rows, and others put in before some of them.
    fn with(strays: &[(usize, &[i64])]) -> Vec<Vec<i64>> {
        let mut requests: Vec<Vec<i64>> = (0..60).map(|second| vec![second - 1, second]).collect();
        for (place, seconds) in strays.iter().rev() {
            requests.splice(place..place, seconds.iter().map(|second| vec![*second]));
        }
        requests
    }

    /// The arrivals of the requests of [`with`] without others, as long as each of the others is at the time before it.
    fn undisturbed(strays: &[(usize, &[i64])]) -> Vec<i64> {
        let mut at: Vec<i64> = (0..60).collect();
        for (place, seconds) in strays.iter().rev() {
            let before = i64::try_from(place.saturating_sub(1)).unwrap();
            at.splice(place..place, seconds.iter().map(|_| before));
        }
        at
    }

    /// Guarantees: requests that are ahead or behind, by minutes or more than a year, at the beginning, in the middle or at the end,
    /// alone, two in a row or more, move nothing: each arrives with the request in front of it, and the others when their rows say.
    #[test]
    fn strays_do_not_move_time() {
        for ahead in [3 * MINUTES, 10 * MINUTES, 400 * DAYS] {
            for place in [0, 1, 30, 59, 60] {
                for strays in [&[ahead][..], &[ahead + 1, ahead], &[ahead, 400 * DAYS]] {
                    let strays = [(place, strays)];
                    assert_eq!(arrivals(&with(&strays)), undisturbed(&strays), "{ahead} s ahead at {place}");
                }
            }
            let strays: [(usize, &[i64]); 3] = [(0, &[ahead; 7]), (20, &[ahead; 7]), (40, &[ahead, -ahead, ahead])];
            assert_eq!(arrivals(&with(&strays)), undisturbed(&strays), "{ahead} s ahead");
        }
        for behind in [10 * MINUTES, 400 * DAYS] {
            for place in [4, 30, 60] {
                let strays: [(usize, &[i64]); 1] = [(place, &[-behind, -behind, -behind])];
                assert_eq!(arrivals(&with(&strays)), undisturbed(&strays), "{behind} s behind at {place}");
            }
        }
    }

    /// Guarantees: one in three senders, or one in three rows of every request, may have a clock that runs ahead.
    #[test]
    fn a_clock_that_is_always_ahead_moves_nothing() {
        let requests: Vec<Vec<i64>> = (0..60).map(|second| vec![if second % 3 == 1 { second + 600 } else { second }]).collect();
        let expected: Vec<i64> = (0..60).map(|second| if second % 3 == 1 { second - 1 } else { second }).collect();
        assert_eq!(arrivals(&requests), expected);
        let requests: Vec<Vec<i64>> = (0..60).map(|second| vec![second - 1, second, second + 600]).collect();
        assert_eq!(arrivals(&requests), (0..60).collect::<Vec<_>>());
    }

    /// Guarantees: after a pause of minutes or more than a year time goes on where the rows do, also with requests in between that are
    /// older, ahead, or from before the pause; so it does in a capture with minutes between any two requests.
    #[test]
    fn pauses_are_pauses() {
        for pause in [5 * MINUTES, 30 * DAYS, 400 * DAYS] {
            let after = |second: i64| 60 + pause + second;
            let strays: [&[i64]; 6] = [&[], &[30], &[after(0), 30], &[after(0), 30, after(0)], &[after(0), after(600)], &[900 * DAYS, 30]];
            for strays in strays {
                let mut requests = with(&[]);
                requests.extend(strays.iter().map(|second| vec![*second]));
                requests.extend((0..60).map(|second| vec![after(second)]));
                let at = arrivals(&requests);
                assert_eq!(at[..60], (0..60).collect::<Vec<_>>());
                assert_eq!(at[60 + strays.len()..], (0..60).map(after).collect::<Vec<_>>(), "{strays:?} after {pause} s");
            }
        }
        let sparse: Vec<Vec<i64>> = (0..10).map(|place| vec![place * 5 * MINUTES]).collect();
        assert_eq!(arrivals(&sparse), (0..10).map(|place| place * 5 * MINUTES).collect::<Vec<_>>());
    }

    /// Guarantees: time reaches the newest row of requests that hold many minutes each, without their rows being far apart.
    #[test]
    fn long_requests_are_read_through() {
        let requests: Vec<Vec<i64>> = (0..5).map(|place| (place * 600..(place + 1) * 600).step_by(10).collect()).collect();
        assert_eq!(arrivals(&requests), [590, 1190, 1790, 2390, 2990]);
        assert_eq!(arrivals(&requests[..1]), [590]);
    }

    /// Guarantees: what too few requests say is decided for the time that has been reached: the end of a capture ahead of all before
    /// it does not count unless three requests agree or it had paused as long; what is old at the beginning is before a pause.
    #[test]
    fn few_requests_are_not_believed_much() {
        let end = |seconds: &[i64]| *arrivals(&with(&[(60, seconds)])).last().unwrap();
        assert_eq!(end(&[600]), 59);
        assert_eq!(end(&[600, 601]), 59);
        assert_eq!(end(&[600, 601, 602]), 602);
        assert_eq!(end(&[600, 601, 602, 1000]), 1000);
        assert_eq!(end(&[600, 601, 602, 1200]), 602);
        assert_eq!(arrivals(&[vec![-600], vec![7], vec![8], vec![9]]), [-600, 7, 8, 9]);
        assert_eq!(arrivals(&[vec![7]]), [7]);
        assert_eq!(arrivals(&[vec![7, 8, 400 * DAYS]]), [8]);
        assert_eq!(arrivals(&[vec![7], vec![400 * DAYS]]), [7, 7]);
        assert_eq!(arrivals(&[vec![400 * DAYS], vec![7], vec![8]]), [7, 7, 8]);
        assert!(Times::new(Vec::new()).is_none());
    }
}
