//! A service over time: load, demand and replicas, and below them when each policy broke the promise.

use tracescale_core::time::{Timestamp, nanos};

use super::format::{amount, escaped, shortened};
use super::plot::{area, fill_class, line_style, path, pixel, rule, words};
use super::scale::{Scale, TimeScale, round_up};
use super::steps::{Point, thin};

/// Size of the drawing; it grows and shrinks with the page.
const WIDTH: f64 = 1080.0;
const LEFT: f64 = 108.0;
const RIGHT: f64 = 1010.0;
/// Top and bottom of the load.
const LOAD: (f64, f64) = (20.0, 84.0);
/// Top and bottom of the replicas.
const REPLICAS: (f64, f64) = (112.0, 312.0);
/// Top of the first strip.
const STRIPS: f64 = 342.0;
/// Height of a strip, and its distance to the next.
const STRIP: f64 = 12.0;
const STRIP_STEP: f64 = 17.0;
/// Columns of a strip; within one the worst minute counts.
const COLUMNS: i64 = 750;
/// Lines higher than this many times the demand, or the middle one of the lines, are cut off.
const RUNAWAY: f64 = 4.0;
/// Lines with more points are drawn thin.
const RESTLESS: usize = 700;
/// Length of a minute.
const MINUTE: i64 = 60_000_000_000;

/// What is drawn. Lines and strips belong to policies, by position.
pub(super) struct Timeline<'a> {
    /// Beginning.
    pub from: Timestamp,
    /// End.
    pub until: Timestamp,
    /// Requests per second.
    pub load: Vec<Point>,
    /// Fewest replicas that keep the promise.
    pub demand: Vec<Point>,
    /// The policies.
    pub lines: Vec<Line<'a>>,
    /// Services that can break a promise in the same minute; a strip is as high as the share that did.
    pub services: f64,
}

/// What a policy did.
pub(super) struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// Replicas that could serve.
    pub ready: Vec<Point>,
    /// Minutes in which services broke their promise, and how many did, in order.
    pub violations: Vec<(Timestamp, f64)>,
    /// Violation minutes altogether.
    pub minutes: f64,
}

// === impl Timeline ===

impl Timeline<'_> {
    /// The drawing.
    pub(super) fn svg(&self) -> String {
        let time = TimeScale { from: self.from, until: self.until, left: LEFT, right: RIGHT };
        let bottom = STRIPS + STRIP_STEP * crate::number::real_length(self.lines.len());
        let load = thin(&self.load, self.from, self.until);
        let demand = thin(&self.demand, self.from, self.until);
        let ready: Vec<Vec<Point>> = self.lines.iter().map(|line| thin(&line.ready, self.from, self.until)).collect();
        let load_scale = axis(LOAD, 2.0, false, highest(&load));
        let peaks: Vec<f64> = ready.iter().map(|points| highest(points)).collect();
        let scale = axis(REPLICAS, 4.0, true, worth_showing(highest(&demand), &peaks));
        let height = bottom + 24.0;
        let mut out = format!(
            "<svg class=\"timeline\" role=\"img\" viewBox=\"0 0 {WIDTH} {}\" data-left=\"{LEFT}\" data-right=\"{RIGHT}\" data-from=\"{}\" data-until=\"{}\">",
            pixel(height),
            self.from.as_nanos() / 1_000_000,
            self.until.as_nanos() / 1_000_000,
        );
        out += "<title>Load, replicas and violations over time</title>";
        out += &time_axis(&time, bottom);
        out += &value_axis(&load_scale, 2.0, false, "requests per second");
        out += &value_axis(&scale, 4.0, true, "ready replicas; grey: what demand needs");
        out += &words("caption end", RIGHT, scale.to - 6.0, &self.cut(&scale, &peaks));
        out +=
            &format!("<path class=\"load\" data-name=\"requests/s\"{} d=\"{}\"/>", reading(&load_scale), area(&load, &time, &load_scale));
        out += &format!("<path class=\"demand\" data-name=\"demand\"{} d=\"{}\"/>", reading(&scale), area(&demand, &time, &scale));
        out += &self.ready_lines(&ready, &time, &scale);
        let several = if self.services > 1.0 { "; higher: by more services at once" } else { "" };
        out += &words("caption", LEFT, STRIPS - 9.0, &format!("minutes in which the promise was broken{several}"));
        for (policy, line) in self.lines.iter().enumerate() {
            out += &self.strip(policy, line, &time);
        }
        out += "<line class=\"cursor\" x1=\"0\" y1=\"20\" x2=\"0\"";
        out + &format!(" y2=\"{}\" visibility=\"hidden\"/></svg>", pixel(bottom))
    }

    /// The lines, restless ones first and thinner, so that they do not cover the calm ones.
    fn ready_lines(&self, ready: &[Vec<Point>], time: &TimeScale, scale: &Scale) -> String {
        let mut order: Vec<usize> = (0..ready.len()).collect();
        order.sort_by_key(|policy| std::cmp::Reverse(ready[*policy].len()));
        let line = |policy: usize| {
            let (style, name) = (line_style(policy), escaped(self.lines[policy].name));
            let restless = if ready[policy].len() > RESTLESS { " stroke-width=\"1\"" } else { " stroke-width=\"1.9\"" };
            let steps = path(&ready[policy], time, scale);
            format!("<path {style}{restless} data-policy=\"{policy}\" data-name=\"{name}\"{} d=\"{steps}\"/>", reading(scale))
        };
        order.into_iter().map(line).collect()
    }

    /// Names the lines that are cut off, with their peaks.
    fn cut(&self, scale: &Scale, peaks: &[f64]) -> String {
        let above = self.lines.iter().zip(peaks).filter(|(_, peak)| **peak > scale.high);
        let peaks: Vec<String> = above.map(|(line, peak)| format!("{} up to {}", shortened(line.name, 16), amount(*peak))).collect();
        if peaks.is_empty() { String::new() } else { shortened(&format!("cut off: {}", peaks.join(", ")), 80) }
    }

    /// A bar per stretch of broken promises, between the policy's name and its sum.
    fn strip(&self, policy: usize, line: &Line<'_>, time: &TimeScale) -> String {
        let top = STRIPS + STRIP_STEP * crate::number::real_length(policy);
        let base = top + STRIP;
        let bars: String = self
            .bars(line)
            .map(|(start, end, share)| {
                let (left, right) = (time.at(start), time.at(end));
                // Thinner bars would vanish.
                let width = (right - left).max(1.5).min((RIGHT - left).max(1.5));
                let height = (STRIP * share).max(3.0);
                format!("M{} {}h{}v-{}h-{}Z", pixel(left), pixel(base), pixel(width), pixel(height), pixel(width))
            })
            .collect();
        let mut out =
            format!("<rect class=\"strip\" x=\"{LEFT}\" y=\"{}\" width=\"{}\" height=\"{STRIP}\"/>", pixel(top), pixel(RIGHT - LEFT));
        out += &words("label end", LEFT - 8.0, base - 2.0, &shortened(line.name, 16));
        out += &words("label", RIGHT + 8.0, base - 2.0, &format!("{} min", amount(line.minutes)));
        out + &format!("<path class=\"{}\" data-policy=\"{policy}\" d=\"{bars}\"/>", fill_class(policy))
    }

    /// Stretches of the same height: begin, end and height from 0 to 1.
    fn bars(&self, line: &Line<'_>) -> impl Iterator<Item = (Timestamp, Timestamp, f64)> {
        // A column is at least a minute, so that neighbouring minutes become one bar.
        let width = (nanos(self.until.since(self.from)) / COLUMNS).max(MINUTE);
        let services = self.services.max(1.0);
        let mut bars: Vec<(i64, i64, f64)> = Vec::new();
        for (time, count) in line.violations.iter().filter(|violation| violation.0 < self.until) {
            let column = nanos(time.since(self.from)) / width;
            let share = (count / services).clamp(0.0, 1.0);
            match bars.last_mut() {
                Some(last) if last.1 == column + 1 && last.0 == column => last.2 = last.2.max(share),
                Some(last) if last.1 > column => {}
                Some(last) if last.1 == column && (last.2 - share).abs() < 0.02 => last.1 = column + 1,
                _ => bars.push((column, column + 1, share)),
            }
        }
        let from = self.from.as_nanos();
        let at = move |column: i64| Timestamp::from_nanos(from.saturating_add(column.saturating_mul(width)));
        bars.into_iter().map(move |(start, end, share)| (at(start), at(end), share))
    }
}

/// The highest value that must be seen: one policy that runs away must not flatten all the others.
fn worth_showing(demand: f64, peaks: &[f64]) -> f64 {
    let mut ordered = peaks.to_vec();
    ordered.sort_by(f64::total_cmp);
    let highest = ordered.last().copied().unwrap_or(0.0).max(demand);
    let middle = ordered.get(ordered.len().saturating_sub(1) / 2).copied().unwrap_or(0.0).max(demand);
    if middle > 0.0 { highest.min(RUNAWAY * middle) } else { highest }
}

fn highest(points: &[Point]) -> f64 {
    points.iter().map(|point| point.1).fold(0.0, f64::max)
}

fn axis((top, bottom): (f64, f64), ticks: f64, whole: bool, highest: f64) -> Scale {
    Scale { low: 0.0, high: round_up(highest, ticks, whole), from: bottom, to: top, logarithmic: false }
}

/// What a script needs to read values from a path.
fn reading(scale: &Scale) -> String {
    format!(" data-zero=\"{}\" data-top=\"{}\" data-high=\"{}\"", pixel(scale.from), pixel(scale.to), scale.high)
}

fn value_axis(scale: &Scale, count: f64, whole: bool, caption: &str) -> String {
    let mut out = words("caption", LEFT, scale.to - 6.0, caption);
    for value in scale.ticks(count, whole) {
        let y = scale.at(value);
        out += &rule(if value > 0.0 { "grid" } else { "axis" }, (LEFT, y), (RIGHT, y));
        out += &words("label end", LEFT - 8.0, y + 4.0, &amount(value));
    }
    out
}

/// Ticks below everything, with lines through all parts.
fn time_axis(time: &TimeScale, bottom: f64) -> String {
    let mut out = String::new();
    for tick in time.ticks() {
        let (x, strong) = (time.at(tick.at), if tick.midnight { " strong" } else { "" });
        out += &rule(&format!("grid{strong}"), (x, LOAD.0), (x, bottom));
        out += &words(&format!("label middle{strong}"), x, bottom + 16.0, &tick.label);
    }
    out + &words("label end", WIDTH - 4.0, bottom + 16.0, "UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_secs(60 * minute)
    }

    fn timeline(violations: &[(Timestamp, f64)], peak: f64) -> Timeline<'static> {
        let line = |name, peak| Line { name, ready: vec![(at(0), peak)], violations: violations.to_vec(), minutes: 1.0 };
        let lines = vec![line("calm", 10.0), line("wild", peak), line("other", 11.0)];
        Timeline { from: at(0), until: at(1440), load: Vec::new(), demand: vec![(at(0), 9.0)], lines, services: 2.0 }
    }

    /// Guarantees: neighbouring minutes become one bar as high as the share of services, and a single minute can be seen.
    #[test]
    fn strips() {
        let timeline = timeline(&[(at(10), 2.0), (at(11), 2.0), (at(13), 1.0), (at(2000), 2.0)], 12.0);
        let bars: Vec<_> = timeline.bars(&timeline.lines[0]).collect();
        let columns = |start: i64, end: i64| (Timestamp::from_millis(115_200 * start), Timestamp::from_millis(115_200 * end));
        // Columns of 750 of a day are 115.2 s long.
        assert_eq!(bars, [(columns(5, 6).0, columns(5, 6).1, 1.0), (columns(6, 7).0, columns(6, 7).1, 0.5)]);
        assert!(timeline.svg().contains("h1.5v-12h-1.5Z"), "thin bars are widened");
    }

    /// Guarantees: a policy that runs away is cut off, and the plot says so.
    #[test]
    fn runaways() {
        let scale = |timeline: &Timeline<'_>| timeline.svg().contains("cut off: wild up to 4000");
        assert!(scale(&timeline(&[], 4000.0)) && !scale(&timeline(&[], 40.0)));
        assert!((worth_showing(9.0, &[10.0, 4000.0, 11.0]) - 44.0).abs() < 1e-9);
        assert!((worth_showing(0.0, &[0.0, 7.0]) - 7.0).abs() < 1e-9 && worth_showing(0.0, &[]).abs() < 1e-9);
    }
}
