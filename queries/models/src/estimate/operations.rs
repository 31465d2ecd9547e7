//! What the operations of a service cost in CPU, followed over half a day: `cpu = idle + Σ cost · rate`, over windows of five minutes.
//!
//! ```text
//! minutes: cpu, rate of each operation ─▶ windows of five ─▶ the busiest as columns, the rest as one ─▶ alike ones lumped ─▶ costs
//! ```
//!
//! Why five minutes: counters come once in up to a minute, and what they grew by is spread evenly over that time, so a third of the CPU
//! of a minute may be told with its neighbours; where operations differ by chance alone their costs would come out too alike by as much.
//! Of five minutes it is a fifteenth. Why windows and no running sums: which operations are busiest changes, and with them the columns.

use std::collections::{BTreeMap, VecDeque};

use super::demand::{ClassDemands, DemandError, class_demands, number};

/// Operations of a window that are kept by name; the rest counts as one.
pub const NAMED_MAX: usize = 12;
/// Operations that may have a cost of their own, those with the most requests. Fewer than are kept, so that the rank of a moment does
/// not decide in which windows one is known.
const CLASSES_MAX: usize = 8;
/// Windows in which an operation must have been asked for to have a cost of its own: half an hour.
const LEAST_SEEN: usize = 6;
/// Minutes of a window.
const MINUTES: usize = 5;
/// Seconds between minutes above which they are not of one window.
const GAP: f64 = 90.0;
/// Seconds for which windows count: long enough for the mix of night and day to differ, short enough to forget an earlier version.
const KEEP: f64 = 12.0 * 3600.0;
/// Share of the differences in CPU that requests must explain.
const LEAST_EXPLAINED: f64 = 0.5;
/// How far a cost may be off (half of its 95 % interval), as a part of it or of the mean cost, whichever is larger: a condition says how
/// alike rates are, not how much chance there is in them.
const MOST_ERROR: f64 = 0.5;
/// Half of a 95 % interval in standard errors.
const NORMAL_95: f64 = 1.96;

/// CPU and requests of a stretch of time, per second.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage<K> {
    /// Its end, in seconds on any clock.
    pub end: f64,
    /// Cores in use.
    pub cpu: f64,
    /// Requests of each operation that is known by name.
    pub rates: BTreeMap<K, f64>,
    /// Requests of all others.
    pub others: f64,
}

/// CPU-seconds that a request needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// The estimate, at least 0.
    pub seconds: f64,
    /// Half of its 95 % interval.
    pub error: f64,
    /// It is the mean of several operations, which cannot be told apart or are too small each.
    pub is_shared: bool,
}

/// What the operations of a service cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs<K> {
    /// Cores in use without any request.
    pub idle: f64,
    named: BTreeMap<K, Cost>,
    others: Option<Cost>,
}

/// A service whose operations are being learned; 12 operations in each of 144 windows at most.
#[derive(Clone, Debug)]
pub struct Operations<K> {
    /// Minutes that are passed over before a first window, so that not all services conclude in the same minute.
    offset: usize,
    passed_over: usize,
    last: Option<f64>,
    minutes: Vec<Usage<K>>,
    windows: VecDeque<Usage<K>>,
    solved: Solved<K>,
}

/// What the windows say.
#[derive(Clone, Debug, PartialEq)]
pub struct Solved<K> {
    /// The costs, or why they are not known.
    pub costs: Result<Costs<K>, DemandError>,
    /// How badly the operations can be told apart.
    pub condition: Option<f64>,
    /// Share of the variance of the CPU between windows that requests explain.
    pub explained: Option<f64>,
}

/// Requests by class, window by window, and the operations that each class consists of (`None`: those without a name).
struct Classes<K> {
    columns: Vec<Vec<f64>>,
    members: Vec<Vec<Option<K>>>,
}

/// Takes out all but the busiest operations, as many as are kept by name: the requests of those taken out, `None` where there were
/// none. A service may have thousands of names, such as paths with an id in them.
pub fn take_small<K: Ord>(rates: &mut BTreeMap<K, f64>) -> Option<f64> {
    let small = rates.len().checked_sub(NAMED_MAX).filter(|small| *small > 0)?;
    let mut ascending: Vec<(K, f64)> = std::mem::take(rates).into_iter().collect();
    ascending.sort_by(|a, b| a.1.total_cmp(&b.1));
    rates.extend(ascending.split_off(small));
    Some(ascending.iter().map(|(_, rate)| rate).sum())
}

// === impl Usage ===

impl<K: Ord + Clone> Usage<K> {
    /// Keeps the busiest by name, as many as are kept.
    fn bounded(mut self) -> Self {
        self.others += take_small(&mut self.rates).unwrap_or_default();
        self
    }

    /// The mean of several.
    fn mean(parts: Vec<Self>) -> Option<Self> {
        let count = number(parts.len());
        let mut parts = parts.into_iter();
        let mut sum = parts.next()?;
        for part in parts {
            sum.end = part.end;
            sum.cpu += part.cpu;
            sum.others += part.others;
            part.rates.into_iter().for_each(|(name, rate)| *sum.rates.entry(name).or_default() += rate);
        }
        sum.cpu /= count;
        sum.others /= count;
        sum.rates.values_mut().for_each(|rate| *rate /= count);
        Some(sum.bounded())
    }

    fn is_valid(&self) -> bool {
        let is_rate = |rate: &f64| rate.is_finite() && *rate >= 0.0;
        self.end.is_finite() && is_rate(&self.cpu) && is_rate(&self.others) && self.rates.values().all(is_rate)
    }
}

// === impl Costs ===

impl<K: Ord> Costs<K> {
    /// The cost of an operation; `None` when nothing like it was seen.
    #[must_use]
    pub fn of(&self, operation: &K) -> Option<Cost> {
        self.named.get(operation).copied().or(self.others)
    }

    /// The cost of those that have none of their own, on average.
    #[must_use]
    pub fn others(&self) -> Option<Cost> {
        self.others
    }
}

// === impl Operations ===

impl<K: Ord + Clone> Operations<K> {
    /// Nothing is known yet. Passes over `offset` minutes, up to four, before each window that does not follow another: concluding
    /// takes most of the time, and should not fall into one minute for all services.
    #[must_use]
    pub fn new(offset: usize) -> Self {
        let (minutes, windows, solved) = (Vec::new(), VecDeque::new(), Solved::not_yet(0));
        Self { offset: offset % MINUTES, passed_over: 0, last: None, minutes, windows, solved }
    }

    /// Learns from a minute. One that does not follow the last one begins another window.
    pub fn learn(&mut self, minute: Usage<K>) {
        if !minute.is_valid() {
            return;
        }
        let end = minute.end;
        if self.last.replace(end).is_some_and(|last| !(0.0..=GAP).contains(&(end - last))) {
            self.minutes.clear();
            self.passed_over = 0;
        }
        if self.passed_over < self.offset {
            self.passed_over += 1;
            return;
        }
        self.minutes.push(minute.bounded());
        if self.minutes.len() < MINUTES {
            return;
        }
        // After the clock stepped back windows are in the future, and do not count any more.
        self.windows.retain(|window| (0.0..KEEP).contains(&(end - window.end)));
        self.windows.extend(Usage::mean(std::mem::take(&mut self.minutes)));
        self.solved = solve(&self.windows);
    }

    /// Windows that are known.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// What they say.
    #[must_use]
    pub fn solved(&self) -> &Solved<K> {
        &self.solved
    }
}

// === impl Solved ===

impl<K> Solved<K> {
    fn not_yet(windows: usize) -> Self {
        Self { costs: Err(DemandError::FewWindows(windows)), condition: None, explained: None }
    }
}

/// The costs by the finest classes that can be told apart, and whose costs are known: the most alike are lumped until they can.
fn solve<K: Ord + Clone>(windows: &VecDeque<Usage<K>>) -> Solved<K> {
    let cpu: Vec<f64> = windows.iter().map(|window| window.cpu).collect();
    let mut classes = Classes::of(windows);
    loop {
        match class_demands(&classes.rows(windows.len()), &cpu) {
            Ok(found) if !classes.are_known(&found) && classes.lump() => {}
            Ok(found) => return classes.solved(found),
            Err(DemandError::Alike(_)) if classes.lump() => {}
            Err(error) => {
                let condition = if let DemandError::Alike(condition) = error { Some(condition) } else { None };
                return Solved { costs: Err(error), condition, explained: None };
            }
        }
    }
}

// === impl Classes ===

impl<K: Ord + Clone> Classes<K> {
    fn of(windows: &VecDeque<Usage<K>>) -> Self {
        let mut rates: BTreeMap<&K, Vec<f64>> = BTreeMap::new();
        for (place, window) in windows.iter().enumerate() {
            for (name, rate) in &window.rates {
                rates.entry(name).or_insert_with(|| vec![0.0; windows.len()])[place] = *rate;
            }
        }
        let seen = |rates: &[f64]| rates.iter().filter(|rate| **rate > 0.0).count();
        let (mut often, seldom): (Vec<_>, Vec<_>) = rates.into_iter().partition(|(_, rates)| seen(rates) >= LEAST_SEEN);
        let total = |rates: &[f64]| rates.iter().sum::<f64>();
        often.sort_by(|a, b| total(&b.1).total_cmp(&total(&a.1)));
        let small = often.split_off(often.len().min(CLASSES_MAX));
        let mut rest: Vec<f64> = windows.iter().map(|window| window.others).collect();
        for (_, rates) in small.into_iter().chain(seldom) {
            add(&mut rest, &rates);
        }
        let (mut members, mut columns): (Vec<_>, Vec<_>) = often.into_iter().map(|(name, rates)| (vec![Some(name.clone())], rates)).unzip();
        if rest.iter().any(|rate| *rate > 0.0) {
            columns.push(rest);
            members.push(vec![None]);
        }
        Self { columns, members }
    }

    fn rows(&self, windows: usize) -> Vec<Vec<f64>> {
        (0..windows).map(|window| self.columns.iter().filter_map(|column| column.get(window).copied()).collect()).collect()
    }

    /// Whether each cost is known well enough to have it alone.
    fn are_known(&self, found: &ClassDemands) -> bool {
        let totals: Vec<f64> = self.columns.iter().map(|column| column.iter().sum()).collect();
        let mean = totals.iter().zip(&found.demands).map(|(total, cost)| total * cost).sum::<f64>() / totals.iter().sum::<f64>();
        found.errors.iter().zip(&found.demands).all(|(error, cost)| NORMAL_95 * error <= MOST_ERROR * cost.max(mean))
    }

    /// Makes one class of the two whose rates rise and fall together most. False when there are no two.
    fn lump(&mut self) -> bool {
        let pairs = (0..self.columns.len()).flat_map(|second| (0..second).map(move |first| (first, second)));
        let alike = |(first, second): &(usize, usize)| cosine(&self.columns[*first], &self.columns[*second]);
        let Some((first, second)) = pairs.max_by(|a, b| alike(a).total_cmp(&alike(b))) else { return false };
        let (column, members) = (self.columns.remove(second), self.members.remove(second));
        add(&mut self.columns[first], &column);
        self.members[first].extend(members);
        true
    }

    fn solved(self, found: ClassDemands) -> Solved<K> {
        let ClassDemands { idle, demands, errors, explained, condition } = found;
        let share = explained.unwrap_or_default();
        if share < LEAST_EXPLAINED {
            return Solved { costs: Err(DemandError::Unexplained(share)), condition: Some(condition), explained };
        }
        let mut costs = Costs { idle, named: BTreeMap::new(), others: None };
        for ((members, seconds), error) in self.members.into_iter().zip(demands).zip(errors) {
            let is_shared = members.len() > 1 || members.contains(&None);
            let cost = Cost { seconds, error: NORMAL_95 * error, is_shared };
            for member in members {
                match member {
                    Some(name) => drop(costs.named.insert(name, cost)),
                    None => costs.others = Some(cost),
                }
            }
        }
        Solved { costs: Ok(costs), condition: Some(condition), explained }
    }
}

fn add(sums: &mut [f64], rates: &[f64]) {
    sums.iter_mut().zip(rates).for_each(|(sum, rate)| *sum += rate);
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU-seconds of each operation, and cores that are used without any.
    const TRUTH: [(&str, f64); 3] = [("cheap", 0.002), ("dear", 0.05), ("twin", 0.01)];
    const IDLE: f64 = 0.3;

    /// A minute with these rates, of which every operation costs what it does in truth.
    fn minute(number: u32, rates: &[f64], noise: f64) -> Usage<&'static str> {
        let rates: BTreeMap<&str, f64> = TRUTH.iter().zip(rates).map(|((name, _), rate)| (*name, *rate)).collect();
        let used = TRUTH.iter().map(|(name, cost)| cost * rates.get(name).unwrap_or(&0.0)).sum::<f64>();
        Usage { end: 60.0 * f64::from(number), cpu: IDLE + used + noise, rates, others: 0.0 }
    }

    /// So many windows by a function of the minute.
    fn learned(windows: u32, usage: impl Fn(u32) -> Usage<&'static str>) -> Operations<&'static str> {
        let mut operations = Operations::new(0);
        (1..=5 * windows).for_each(|number| operations.learn(usage(number)));
        operations
    }

    fn wave(number: u32, period: f64) -> f64 {
        (f64::from(number) / period).sin()
    }

    /// Guarantees: 30 windows of five minutes whose mix varies tell what each operation and doing nothing cost; 29 do not.
    #[test]
    fn costs_of_a_mix() {
        let usage = |number| {
            let rates = [100.0 + 60.0 * wave(number, 40.0), 5.0 + 3.0 * wave(number, 23.0), 20.0 + 9.0 * wave(number, 11.0)];
            minute(number, &rates, 0.004 * wave(number, 0.3))
        };
        let known = learned(29, usage);
        assert_eq!((known.windows(), &known.solved().costs), (29, &Err(DemandError::FewWindows(29))));
        let known = learned(30, usage);
        let costs = known.solved().costs.as_ref().unwrap();
        for (name, truth) in TRUTH {
            let cost = costs.of(&name).unwrap();
            assert!((cost.seconds / truth - 1.0).abs() < 0.02 && cost.error < 0.1 * truth && !cost.is_shared, "{name}: {cost:?}");
        }
        assert!((costs.idle - IDLE).abs() < 0.01 && known.solved().explained.is_some_and(|share| share > 0.99), "{known:?}");
        assert!(costs.of(&"new").is_none() && costs.others().is_none());
    }

    /// Guarantees: the busiest keep their names, of equal ones the last by name; what is taken out is told, also of a great many.
    #[test]
    fn small_operations_are_taken_out() {
        let mut few: BTreeMap<u32, f64> = (0..12).map(|name| (name, f64::from(name))).collect();
        assert_eq!((take_small(&mut few), few.len()), (None, 12));
        let mut many: BTreeMap<u32, f64> = (0..200_000).map(|name| (name, if name % 20_000 == 7 { 5.0 } else { 0.5 })).collect();
        let taken = take_small(&mut many).unwrap();
        let busy = (0..10).map(|place| 20_000 * place + 7);
        assert_eq!(many.keys().copied().collect::<Vec<_>>(), busy.chain([199_998, 199_999]).collect::<Vec<_>>());
        assert!((taken - 0.5 * 199_988.0).abs() < 1e-6, "{taken}");
    }

    /// Guarantees: with an offset windows begin so many minutes later, also after a gap.
    #[test]
    fn windows_may_begin_later() {
        for (offset, expected) in [(0, [5, 10, 25, 30]), (3, [8, 13, 28, 33]), (8, [8, 13, 28, 33])] {
            let mut operations = Operations::new(offset);
            let mut concluded = Vec::new();
            for number in (1..=15).chain(21..=34) {
                let before = operations.windows();
                operations.learn(minute(number, &[1.0, 1.0, 1.0], 0.0));
                concluded.extend((operations.windows() > before).then_some(number));
            }
            assert_eq!(concluded.iter().copied().filter(|number| *number != 15).collect::<Vec<_>>(), expected, "{offset}");
        }
    }

    /// Guarantees: of two operations in lockstep only the mean is known, and the third has a cost of its own; under another unit of
    /// time nothing changes; a steady load says nothing.
    #[test]
    fn operations_in_lockstep_are_lumped() {
        let usage = |scale: f64| {
            move |number| {
                let both = 30.0 + 15.0 * wave(number, 40.0);
                let rates = [3.0 * both, 5.0 + 3.0 * wave(number, 23.0), both].map(|rate| rate * scale);
                let mut minute = minute(number, &rates, 0.0);
                minute.cpu = IDLE + (minute.cpu - IDLE) / scale;
                minute
            }
        };
        let known = learned(40, usage(1.0));
        let costs = known.solved().costs.as_ref().unwrap();
        let [cheap, dear, twin] = ["cheap", "dear", "twin"].map(|name| costs.of(&name).unwrap());
        assert!(cheap == twin && cheap.is_shared && (cheap.seconds / 0.004 - 1.0).abs() < 1e-6, "{cheap:?}");
        assert!(!dear.is_shared && (dear.seconds / 0.05 - 1.0).abs() < 1e-6, "{dear:?}");
        let hours = learned(40, usage(3600.0));
        let ratio = hours.solved().condition.unwrap() / known.solved().condition.unwrap();
        assert!((ratio - 1.0).abs() < 1e-9, "{ratio}");
        let steady = learned(40, |number| minute(number, &[100.0 + 0.1 * wave(number, 40.0), 5.0, 20.0], 0.0));
        assert!(
            matches!(steady.solved().costs, Err(DemandError::Alike(_)))
                && steady.solved().condition.is_some_and(|condition| condition > 30.0)
        );
    }

    /// Guarantees: operations that differ by chance alone have no cost of their own, though the condition would allow it; what both
    /// cost on average is known.
    #[test]
    fn chance_does_not_tell_operations_apart() {
        let noise = |number: u32, factor: u32| f64::from(number.wrapping_mul(factor) >> 20) / 4096.0 - 0.5;
        let usage = |number: u32| {
            let load = 20.0 + 10.0 * wave(number, 60.0);
            let rates = [0.9 * load, 0.0, 0.1 * load * (1.0 + 1.9 * noise(number, 2_654_435_761))];
            let used = 0.01 * (rates[0] + rates[2]) * (1.0 + 0.6 * noise(number, 2_246_822_519));
            Usage { cpu: IDLE + used, ..minute(number, &rates, 0.0) }
        };
        let known = learned(40, usage);
        let windows: Vec<Vec<f64>> = known.windows.iter().map(|window| vec![window.rates["cheap"], window.rates["twin"]]).collect();
        let alone = class_demands(&windows, &known.windows.iter().map(|window| window.cpu).collect::<Vec<_>>()).unwrap();
        assert!(alone.condition < 30.0 && 1.96 * alone.errors[1] > 0.5 * 0.01, "{alone:?}");
        let cost = known.solved().costs.as_ref().unwrap().of(&"twin").unwrap();
        assert!(cost.is_shared && (cost.seconds / 0.01 - 1.0).abs() < 0.05, "{known:?}");
    }

    /// Guarantees: CPU that does not follow the requests has no costs, and says how little they explain.
    #[test]
    fn other_work_is_not_explained() {
        let known = learned(60, |number| minute(number, &[50.0 + 10.0 * wave(number, 40.0), 0.0, 0.0], 2.0 * wave(number, 17.0) + 2.0));
        assert!(matches!(known.solved().costs, Err(DemandError::Unexplained(share)) if share < 0.5), "{:?}", known.solved());
    }

    /// Guarantees: names and windows are bounded, what is beyond them costs what the rest does, and a gap begins another window.
    #[test]
    fn what_is_kept_is_bounded() {
        let mut operations = Operations::new(0);
        for number in 1..=5 * 200u32 {
            let name = |place: u32| format!("operation {}", (place + number / 50) % 40);
            let rates: BTreeMap<String, f64> =
                (0..20).map(|place| (name(place), 1.0 + f64::from(place) * (1.1 + wave(number, 30.0)))).collect();
            let cpu = 0.1 + 0.01 * rates.values().sum::<f64>();
            operations.learn(Usage { end: 60.0 * f64::from(number), cpu, rates, others: 0.0 });
        }
        assert_eq!((operations.windows(), operations.minutes.len()), (144, 0));
        assert!(operations.windows.iter().all(|window| window.rates.len() == NAMED_MAX));
        let costs = operations.solved().costs.as_ref().unwrap();
        assert!(costs.named.len() <= CLASSES_MAX && costs.of(&"unheard".to_owned()) == costs.others(), "{costs:?}");
        assert!((costs.others().unwrap().seconds / 0.01 - 1.0).abs() < 0.01, "{costs:?}");
        let minute = |end| Usage { end, cpu: 0.1, rates: BTreeMap::from([("a".to_owned(), 1.0)]), others: 0.0 };
        [0.0, 60.0, 120.0, 300.0].into_iter().for_each(|after| operations.learn(minute(100_000.0 + after)));
        assert_eq!((operations.windows(), operations.minutes.len()), (144, 1));
        (1..5).for_each(|after| operations.learn(minute(50_000.0 + 60.0 * f64::from(after))));
        operations.learn(Usage { cpu: f64::NAN, ..minute(50_300.0) });
        assert_eq!(operations.minutes.len(), 4);
        operations.learn(minute(50_300.0));
        assert!(operations.windows() < 144, "windows of the future are gone");
    }
}
