//! How much service times and arrivals vary, how well that is known, and what sampling hides of it.

/// Windows of the moving mean that is the trend.
const TREND: usize = 10;
/// Most windows in which arrivals are counted.
const WINDOWS_MAX: f64 = 1e6;
/// Share of the largest service times that count as the largest of the rest: one stuck request would be all of the variance.
const WINSORISED: f64 = 0.9995;
/// An scv of service outside of this is taken as a mistake of measurement.
const SCV_RANGE: (f64, f64) = (0.05, 20.0);
/// Sampling probability below which what sampling hides cannot be recovered.
const LEAST_SAMPLING: f64 = 0.05;

/// Mean and central moments of weighted values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Sum of the weights.
    pub count: f64,
    /// Mean.
    pub mean: f64,
    /// Second central moment.
    pub variance: f64,
    /// Third central moment.
    pub third: f64,
    /// Fourth central moment.
    pub fourth: f64,
}

// === impl Moments ===

impl Moments {
    /// Of `(value, weight)` pairs, for example the representatives and counts of a histogram's buckets. `None` without weight.
    #[must_use]
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        let sum = |of: &dyn Fn(f64) -> f64| points.iter().map(|(value, weight)| weight * of(*value)).sum::<f64>();
        let count = sum(&|_| 1.0);
        let mean = sum(&|value| value) / count;
        if !(count > 0.0 && mean.is_finite()) {
            return None;
        }
        let central = |power: i32| sum(&|value| (value - mean).powi(power)) / count;
        Some(Self { count, mean, variance: central(2), third: central(3), fourth: central(4) })
    }

    /// Of service times: the largest 0.05 % count as the largest of the rest. Sorts.
    #[must_use]
    pub fn of_service(points: &mut [(f64, f64)]) -> Option<Self> {
        points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = points.iter().map(|(_, weight)| weight).sum();
        let (mut seen, mut cap) = (0.0, f64::INFINITY);
        for (value, weight) in points.iter_mut() {
            seen += *weight;
            if cap.is_infinite() && seen >= WINSORISED * total {
                cap = *value;
            }
            *value = value.min(cap);
        }
        Self::of(points)
    }

    /// Squared coefficient of variation. `None` for a mean that is not positive.
    #[must_use]
    pub fn scv(&self) -> Option<f64> {
        (self.mean > 0.0).then(|| self.variance / (self.mean * self.mean))
    }

    /// The scv within the range that service times have.
    #[must_use]
    pub fn service_scv(&self) -> Option<f64> {
        self.scv().map(|scv| scv.clamp(SCV_RANGE.0, SCV_RANGE.1))
    }

    /// Standard error of the scv from so many samples, by the delta method. Heavy tails need 10⁴ to 10⁵ samples.
    #[must_use]
    pub fn scv_standard_error(&self) -> Option<f64> {
        Some(self.scv_deviation()? / self.count.sqrt())
    }

    /// The standard error times the root of the number of samples.
    fn scv_deviation(&self) -> Option<f64> {
        let (scv, mean) = (self.scv()?, self.mean);
        let square = self.fourth / mean.powi(4) - scv * scv + 4.0 * scv.powi(3) - 4.0 * scv * self.third / mean.powi(3);
        (square >= 0.0).then(|| square.sqrt())
    }
}

/// The scv of the times between arrivals, which come in order. `None` below three arrivals, and for arrivals all at once.
#[must_use]
pub fn arrival_scv(arrivals: &[f64]) -> Option<f64> {
    if arrivals.len() < 3 {
        return None;
    }
    let gaps: Vec<(f64, f64)> = arrivals.windows(2).map(|pair| (pair[1] - pair[0], 1.0)).collect();
    Moments::of(&gaps)?.scv()
}

/// How many of `times` (in seconds, in order) are in each window of so many seconds that is over and whole. `None` for senseless
/// windows, or more than a million of them.
#[must_use]
pub fn counts(times: &[f64], seconds: f64) -> Option<Vec<f64>> {
    let window = |time: f64| (time / seconds).floor();
    let (first, last) = (window(*times.first()?) + 1.0, window(*times.last()?));
    let length = last - first;
    if !(seconds > 0.0 && (0.0..=WINDOWS_MAX).contains(&length)) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against both ends")]
    let mut counts = vec![0.0; length as usize];
    for time in times {
        let place = window(*time) - first;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against the lower end, and found or not")]
        if let Some(count) = (place >= 0.0).then(|| counts.get_mut(place as usize)).flatten() {
            *count += 1.0;
        }
    }
    Some(counts)
}

/// The index of dispersion of counts in windows of equal length: variance over mean, 1 for Poisson arrivals. The trend (a moving
/// mean of ten windows) is taken off first, because a rate that changes is no burstiness. `None` below twenty windows or without
/// any arrival.
#[must_use]
pub fn dispersion(counts: &[f64]) -> Option<f64> {
    let usable = counts.len().checked_sub(TREND - 1).filter(|usable| *usable > TREND)?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer windows than 2^52")]
    let (usable_windows, trend) = (usable as f64, TREND as f64);
    let (mut squares, mut total) = (0.0, 0.0);
    for (window, middle) in counts.windows(TREND).zip(&counts[TREND / 2..]) {
        let mean = window.iter().sum::<f64>() / trend;
        squares += (middle - mean).powi(2);
        total += middle;
    }
    // A count is part of its own moving mean, which takes a tenth of its variance off.
    let variance = squares / usable_windows / (1.0 - 1.0 / trend);
    (total > 0.0 && variance.is_finite()).then(|| variance / (total / usable_windows))
}

/// The scv of all inter-arrival times, from that of a sample that kept each arrival with `probability`: (C − (1 − p)) / p, not
/// below zero. `None` below p = 0.05, where nothing is left to recover: use 1, or counters.
#[must_use]
pub fn unsampled_scv(observed: f64, probability: f64) -> Option<f64> {
    recovered((observed - (1.0 - probability)) / probability, probability)
}

/// The index of dispersion of all counts, from that of such a sample: 1 + (I − 1) / p, not below zero. `None` below p = 0.05.
#[must_use]
pub fn unsampled_dispersion(observed: f64, probability: f64) -> Option<f64> {
    recovered(1.0 + (observed - 1.0) / probability, probability)
}

fn recovered(value: f64, probability: f64) -> Option<f64> {
    ((LEAST_SAMPLING..=1.0).contains(&probability) && value.is_finite()).then_some(value.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (f64::from(u32::try_from(self.0 >> 32).unwrap()) + 0.5) / 4_294_967_296.0
        }

        /// Inter-arrival times of mean one and scv 4: a mixture of two exponentials with balanced means.
        fn bursty(&mut self) -> f64 {
            let p = 0.5 * (1.0 + (3.0f64 / 5.0).sqrt());
            let rate = if self.uniform() < p { 2.0 * p } else { 2.0 * (1.0 - p) };
            -self.uniform().ln() / rate
        }

        fn poisson(&mut self, mean: f64) -> f64 {
            let (mut count, mut product) = (0.0, self.uniform());
            while product > (-mean).exp() {
                count += 1.0;
                product *= self.uniform();
            }
            count
        }
    }

    /// Exact moments of a lognormal variable of mean one.
    fn lognormal(scv: f64) -> Moments {
        let w = 1.0 + scv;
        let raw = |k: i32| w.powi(k * (k - 1) / 2);
        let third = raw(3) - 3.0 * raw(2) + 2.0;
        let fourth = raw(4) - 4.0 * raw(3) + 6.0 * raw(2) - 3.0;
        Moments { count: 1.0, mean: 1.0, variance: scv, third, fourth }
    }

    /// Guarantees: windows that are not whole at either end do not count, empty ones do, and senseless lengths give none.
    #[test]
    fn whole_windows_are_counted() {
        let times = [0.5, 1.0, 1.2, 1.9, 3.0, 4.5];
        assert_eq!(counts(&times, 1.0), Some(vec![3.0, 0.0, 1.0]));
        assert_eq!(counts(&times[..3], 1.0), Some(Vec::new()));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
            assert_eq!(counts(&times, seconds), None, "{seconds}");
        }
        assert_eq!((counts(&[], 1.0), counts(&[7.5], 1.0)), (None, None));
    }

    /// Guarantees: the standard errors of the reference list: 2.0 for exponential service, .55, 5.3, 22 and 117 for lognormal.
    #[test]
    fn standard_errors_of_the_scv() {
        let exponential = Moments { count: 10_000.0, mean: 1.0, variance: 1.0, third: 2.0, fourth: 9.0 };
        assert!((exponential.scv_standard_error().unwrap() - 0.02).abs() < 1e-9);
        for (scv, error, digits) in [(0.25, 0.55, 0.005), (1.0, 5.3, 0.05), (2.0, 22.0, 0.5), (4.0, 117.0, 0.5)] {
            let actual = lognormal(scv).scv_standard_error().unwrap();
            assert!((actual - error).abs() <= digits, "{scv}: {actual}");
        }
    }

    /// Guarantees: moments of weighted points, and none without weight.
    #[test]
    fn moments_by_hand() {
        let moments = Moments::of(&[(1.0, 3.0), (5.0, 1.0)]).unwrap();
        assert_eq!((moments.count, moments.mean, moments.variance), (4.0, 2.0, 3.0));
        assert!((moments.third - 6.0).abs() < 1e-12 && (moments.fourth - 21.0).abs() < 1e-12);
        assert_eq!((moments.scv(), Moments::of(&[]), Moments::of(&[(1.0, 0.0)])), (Some(0.75), None, None));
    }

    /// Guarantees: one stuck request in ten thousand does not make the variance, and the scv of service stays in its range.
    #[test]
    fn one_stuck_request_does_not_count() {
        let mut points: Vec<(f64, f64)> = (0..9_999).map(|i| (1.0 + f64::from(i % 2), 1.0)).chain([(1e6, 1.0)]).collect();
        assert!(Moments::of(&points).unwrap().scv().unwrap() > 1000.0);
        let moments = Moments::of_service(&mut points).unwrap();
        assert!((moments.scv().unwrap() - 1.0 / 9.0).abs() < 1e-3, "{moments:?}");
        assert_eq!(Moments::of(&[(1.0, 5.0)]).unwrap().service_scv(), Some(0.05));
    }

    /// Guarantees: the scv of arrivals survives sampling: from half and from a tenth of 200,000 arrivals it is recovered to
    /// 5 % and 15 %, and from a hundredth nothing is claimed.
    #[test]
    fn sampled_arrivals_are_recovered() {
        let mut random = Random(3);
        let mut now = 0.0;
        let arrivals: Vec<f64> = (0..200_000)
            .map(|_| {
                now += random.bursty();
                now
            })
            .collect();
        assert!((arrival_scv(&arrivals).unwrap() - 4.0).abs() < 0.15);
        for (probability, tolerance) in [(0.5, 0.2), (0.1, 0.6)] {
            let kept: Vec<f64> = arrivals.iter().copied().filter(|_| random.uniform() < probability).collect();
            let observed = arrival_scv(&kept).unwrap();
            assert!((observed - (4.0 * probability + 1.0 - probability)).abs() < 0.1, "{probability}: {observed}");
            let recovered = unsampled_scv(observed, probability).unwrap();
            assert!((recovered - 4.0).abs() < tolerance, "{probability}: {recovered}");
        }
        assert_eq!((unsampled_scv(1.0, 0.01), arrival_scv(&[1.0, 2.0]), arrival_scv(&[1.0, 1.0, 1.0])), (None, None, None));
    }

    /// Guarantees: Poisson counts have a dispersion of one although their rate doubles, sampling is inverted, and short or
    /// empty series say nothing.
    #[test]
    fn a_trend_is_no_dispersion() {
        let mut random = Random(5);
        let counts: Vec<f64> = (0..4_000).map(|i| random.poisson(20.0 + f64::from(i) / 200.0)).collect();
        assert!((dispersion(&counts).unwrap() - 1.0).abs() < 0.06, "{:?}", dispersion(&counts));
        let doubled: Vec<f64> = counts.iter().map(|count| 2.0 * count).collect();
        assert!((dispersion(&doubled).unwrap() - 2.0).abs() < 0.12);
        assert_eq!((dispersion(&counts[..19]), dispersion(&[0.0; 40])), (None, None));
        assert_eq!((unsampled_dispersion(1.3, 0.1).map(|i| (i * 10.0).round()), unsampled_dispersion(1.3, 0.01)), (Some(40.0), None));
    }
}
