//! What promises cost: a point per policy, capacity against violations.

use super::Comparison;
use super::format::{amount, escaped, shortened};
use super::plot::{fill_class, pixel, rule, words};
use super::scale::{Scale, round_up};
use crate::number::real;

/// Size of the drawing and of the plot in it.
const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 108.0;
const RIGHT: f64 = 1010.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 326.0;
/// Violations this many times as many as the fewest squeeze a plot of equal differences.
const LOGARITHMIC_FROM: f64 = 30.0;
/// Room of a letter of a label, and of a line of letters.
const LETTER: f64 = 7.2;
const LINE: f64 = 16.0;
/// Shapes, so that policies can be told apart without colour; each around the origin, about ten pixels high.
const SHAPES: [&str; 5] =
    ["M-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0Z", "M-5.5-5.5h11v11h-11Z", "M0-7l7 12.5h-14Z", "M0-8l7 8-7 8-7-8Z", "M0 7l7-12.5h-14Z"];

/// A policy in the plot.
struct Spot<'a> {
    policy: usize,
    name: &'a str,
    hours: f64,
    minutes: f64,
}

/// The drawing; empty when no policy has a result.
pub(super) fn svg(comparison: &Comparison) -> String {
    let spots: Vec<Spot<'_>> = comparison.policies.iter().enumerate().filter_map(spot).collect();
    if spots.is_empty() {
        return String::new();
    }
    let (hours, minutes) = (hours_scale(&spots), minutes_scale(&spots));
    let mut out = format!("<svg class=\"frontier\" role=\"img\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">");
    out += "<title>Replica-hours and violation minutes of every policy</title>";
    out += &axes(&hours, &minutes);
    out += &format!("<path class=\"frontier-line\" d=\"{}\"/>", frontier(&spots, &hours, &minutes));
    let mut taken: Vec<(f64, f64, f64)> = Vec::new();
    let mut ordered: Vec<&Spot<'_>> = spots.iter().collect();
    ordered.sort_by(|left, right| left.minutes.total_cmp(&right.minutes).then(left.hours.total_cmp(&right.hours)));
    for spot in ordered {
        let (x, y) = (hours.at(spot.hours), minutes.at(spot.minutes));
        let figures = format!("{}: {} replica-hours, {} violation minutes", spot.name, amount(spot.hours), amount(spot.minutes));
        out += &format!(
            "<path class=\"{}\" data-policy=\"{}\" transform=\"translate({} {})\" d=\"{}\"><title>{}</title></path>",
            fill_class(spot.policy),
            spot.policy,
            pixel(x),
            pixel(y),
            SHAPES[spot.policy % SHAPES.len()],
            escaped(&figures)
        );
        out += &label(spot, x, y, &mut taken);
    }
    out + "</svg>"
}

fn spot<'a>((policy, result): (usize, &'a super::PolicyResult)) -> Option<Spot<'a>> {
    let total = result.total();
    let known = total.services > 0 && total.replica_hours.is_finite();
    known.then(|| Spot { policy, name: &result.name, hours: total.replica_hours, minutes: real(total.violation_minutes) })
}

/// From zero, unless all policies are so much alike that zero would hide how they differ.
fn hours_scale(spots: &[Spot<'_>]) -> Scale {
    let most = spots.iter().map(|spot| spot.hours).fold(0.0, f64::max);
    let least = spots.iter().map(|spot| spot.hours).fold(f64::INFINITY, f64::min);
    let (spread, air) = (most - least, 0.12);
    let (low, high) = if spots.len() > 1 && spread > 0.0 && least > 0.5 * most {
        ((least - air * 2.0 * spread).max(0.0), most + air * 2.0 * spread)
    } else {
        (0.0, round_up(most * (1.0 + air), 8.0, false))
    };
    Scale { low, high, from: LEFT, to: RIGHT, logarithmic: false }
}

/// From zero; by factors when the most is very much more than the fewest.
fn minutes_scale(spots: &[Spot<'_>]) -> Scale {
    let most = spots.iter().map(|spot| spot.minutes).fold(0.0, f64::max);
    let fewest = spots.iter().map(|spot| spot.minutes).filter(|minutes| *minutes > 0.0).fold(f64::INFINITY, f64::min);
    let logarithmic = most / fewest > LOGARITHMIC_FROM;
    let high = if logarithmic { most * 1.5 } else { round_up(most * 1.05, 5.0, true) };
    Scale { low: 0.0, high, from: BOTTOM, to: TOP, logarithmic }
}

fn axes(hours: &Scale, minutes: &Scale) -> String {
    let mut out = String::new();
    for value in minutes.ticks(5.0, true) {
        let y = minutes.at(value);
        out += &rule(if value > 0.0 { "grid" } else { "axis" }, (LEFT, y), (RIGHT, y));
        out += &words("label end", LEFT - 8.0, y + 4.0, &amount(value));
    }
    for value in hours.ticks(8.0, false) {
        let x = hours.at(value);
        out += &rule("grid", (x, TOP), (x, BOTTOM));
        out += &words("label middle", x, BOTTOM + 18.0, &amount(value));
    }
    let caption = if minutes.logarithmic { "violation minutes (logarithmic)" } else { "violation minutes" };
    out += &words("caption", LEFT, TOP - 9.0, caption);
    out += &words("caption end", RIGHT, BOTTOM + 38.0, "replica-hours");
    out += &format!("<path class=\"better\" d=\"M{} {}l-14 14m0-9v9h9\"/>", pixel(LEFT + 28.0), pixel(BOTTOM - 26.0));
    out + &words("caption", LEFT + 32.0, BOTTOM - 24.0, "better")
}

/// The policies that no other beats in both, from the cheapest on, as a step line.
fn frontier(spots: &[Spot<'_>], hours: &Scale, minutes: &Scale) -> String {
    let mut ordered: Vec<&Spot<'_>> = spots.iter().collect();
    ordered.sort_by(|left, right| left.hours.total_cmp(&right.hours).then(left.minutes.total_cmp(&right.minutes)));
    let (mut out, mut fewest) = (String::new(), f64::INFINITY);
    for spot in ordered {
        if spot.minutes < fewest {
            let (x, y) = (pixel(hours.at(spot.hours)), pixel(minutes.at(spot.minutes)));
            out += &if out.is_empty() { format!("M{x} {y}") } else { format!("H{x}V{y}") };
            fewest = spot.minutes;
        }
    }
    out
}

/// A name beside its point, moved up until it covers no other.
fn label(spot: &Spot<'_>, x: f64, y: f64, taken: &mut Vec<(f64, f64, f64)>) -> String {
    let name = shortened(spot.name, 28);
    let width = LETTER * crate::number::real_length(name.chars().count());
    let leftwards = x + 12.0 + width > RIGHT;
    let (start, end) = if leftwards { (x - 12.0 - width, x - 12.0) } else { (x + 12.0, x + 12.0 + width) };
    let mut place = y + 4.0;
    let covered = |place: f64, other: &(f64, f64, f64)| (other.2 - place).abs() < LINE && other.0 < end && start < other.1;
    while place > TOP + LINE && taken.iter().any(|other| covered(place, other)) {
        place -= LINE;
    }
    taken.push((start, end, place));
    let (class, anchor) = if leftwards { ("name end", end) } else { ("name", start) };
    words(class, anchor, place, &name)
}
