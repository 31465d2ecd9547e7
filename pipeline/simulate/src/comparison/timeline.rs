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
        let most = ready.iter().map(|points| highest(points)).fold(highest(&demand), f64::max);
        let scale = axis(REPLICAS, 4.0, true, most);
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
        out +=
            &format!("<path class=\"load\" data-name=\"requests/s\"{} d=\"{}\"/>", reading(&load_scale), area(&load, &time, &load_scale));
        out += &format!("<path class=\"demand\" data-name=\"demand\"{} d=\"{}\"/>", reading(&scale), area(&demand, &time, &scale));
        for (policy, (line, points)) in self.lines.iter().zip(&ready).enumerate() {
            let (style, name, steps) = (line_style(policy), escaped(line.name), path(points, &time, &scale));
            out += &format!("<path {style} data-policy=\"{policy}\" data-name=\"{name}\"{} d=\"{steps}\"/>", reading(&scale));
        }
        out += &words("caption", LEFT, STRIPS - 9.0, "minutes in which the promise was broken");
        for (policy, line) in self.lines.iter().enumerate() {
            out += &self.strip(policy, line, &time);
        }
        out += "<line class=\"cursor\" x1=\"0\" y1=\"20\" x2=\"0\"";
        out + &format!(" y2=\"{}\" visibility=\"hidden\"/></svg>", pixel(bottom))
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
    out + &words("label", RIGHT + 8.0, bottom + 16.0, "UTC")
}
