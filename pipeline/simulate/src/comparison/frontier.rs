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
/// The same for replica-hours.
const LOGARITHMIC_HOURS_FROM: f64 = 8.0;
/// Room of a letter of a label, and of a line of letters.
const LETTER: f64 = 8.2;
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

/// Where a name, or a point, is.
struct Place {
    left: f64,
    right: f64,
    base: f64,
}

/// The drawing; empty when no policy has a result.
pub(super) fn svg(comparison: &Comparison) -> String {
    let spots: Vec<Spot<'_>> = comparison.policies.iter().enumerate().filter_map(spot).collect();
    if spots.is_empty() {
        return String::new();
    }
    let ideal = comparison.demand_hours();
    let (hours, minutes) = (hours_scale(&spots, ideal), minutes_scale(&spots));
    let mut out = format!("<svg class=\"frontier\" role=\"img\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">");
    out += "<title>Replica-hours and violation minutes of every policy</title>";
    out += &axes(&hours, &minutes);
    out += &format!("<path class=\"frontier-line\" d=\"{}\"/>", frontier(&spots, &hours, &minutes));
    // Names must not cover points either.
    let mut taken: Vec<Place> = spots.iter().map(|spot| Place::around(hours.at(spot.hours), minutes.at(spot.minutes))).collect();
    if let Some(demand) = ideal {
        let x = hours.at(demand);
        out += &rule("ideal", (x, TOP), (x, BOTTOM));
        let text = format!("what demand needs: {}", amount(demand));
        // Below the axis no name is in the way.
        out += &words("caption middle", x.clamp(LEFT + 80.0, RIGHT - 220.0), BOTTOM + 38.0, &text);
    }
    let mut ordered: Vec<&Spot<'_>> = spots.iter().collect();
    ordered.sort_by(|left, right| left.minutes.total_cmp(&right.minutes).then(left.hours.total_cmp(&right.hours)));
    // Points come last, so that no name hides one.
    let mut points = String::new();
    for spot in ordered {
        let (x, y) = (hours.at(spot.hours), minutes.at(spot.minutes));
        let figures = format!("{}: {} replica-hours, {} violation minutes", spot.name, amount(spot.hours), amount(spot.minutes));
        points += &format!(
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
    out + &points + "</svg>"
}

fn spot<'a>((policy, result): (usize, &'a super::PolicyResult)) -> Option<Spot<'a>> {
    let total = result.total();
    let known = total.services > 0 && total.replica_hours.is_finite();
    known.then(|| Spot { policy, name: &result.name, hours: total.replica_hours, minutes: real(total.violation_minutes) })
}

/// From zero, unless all policies are so much alike that zero would hide how they differ.
fn hours_scale(spots: &[Spot<'_>], ideal: Option<f64>) -> Scale {
    let all = || spots.iter().map(|spot| spot.hours).chain(ideal);
    let (most, least) = (all().fold(0.0, f64::max), all().fold(f64::INFINITY, f64::min));
    let (spread, air) = (most - least, 0.12);
    if least > 0.0 && most / least > LOGARITHMIC_HOURS_FROM {
        return Scale { low: least * 0.7, high: most * 1.4, from: LEFT, to: RIGHT, logarithmic: true };
    }
    let (low, high) = if spread > 0.0 && least > 0.5 * most {
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
    let high = if logarithmic { most * 2.5 } else { round_up(most * 1.05, 5.0, true) };
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
    let caption = if hours.logarithmic { "replica-hours (logarithmic)" } else { "replica-hours" };
    out += &words("caption end", RIGHT, BOTTOM + 38.0, caption);
    out += &format!("<path class=\"better\" d=\"M{} {}l-14 14m0-9v9h9\"/>", pixel(LEFT - 60.0), pixel(BOTTOM + 18.0));
    out + &words("caption", LEFT - 54.0, BOTTOM + 22.0, "better")
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

/// A name beside its point: where it covers nothing else, as near as possible.
fn label(spot: &Spot<'_>, x: f64, y: f64, taken: &mut Vec<Place>) -> String {
    let name = shortened(spot.name, 28);
    let width = LETTER * crate::number::real_length(name.chars().count());
    let beside = |line: f64, leftwards: bool| {
        let left = if leftwards { x - 12.0 - width } else { x + 12.0 };
        (Place { left, right: left + width, base: y + 4.0 + line * LINE }, leftwards)
    };
    let places = [0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0].into_iter().flat_map(|line| [beside(line, false), beside(line, true)]);
    let free = |(place, _): &(Place, bool)| place.fits() && !taken.iter().any(|other| other.covers(place));
    // When all places are taken, lying over another name is better than not being there.
    let (place, leftwards) = places.into_iter().find(free).unwrap_or_else(|| beside(0.0, x + 12.0 + width > RIGHT));
    let (class, anchor) = if leftwards { ("name end", place.right) } else { ("name", place.left) };
    let out = words(class, anchor, place.base, &name);
    taken.push(place);
    out
}

// === impl Place ===

impl Place {
    /// The place of a point.
    fn around(x: f64, y: f64) -> Self {
        Self { left: x - 8.0, right: x + 8.0, base: y + 4.0 }
    }

    fn covers(&self, other: &Self) -> bool {
        (self.base - other.base).abs() < LINE - 1.0 && self.left < other.right && other.left < self.right
    }

    fn fits(&self) -> bool {
        self.left > LEFT && self.right < RIGHT && self.base > TOP && self.base < BOTTOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots() -> Vec<Spot<'static>> {
        let spot = |policy, hours, minutes| Spot { policy, name: "policy", hours, minutes };
        vec![spot(0, 10.0, 50.0), spot(1, 20.0, 10.0), spot(2, 30.0, 20.0), spot(3, 40.0, 0.0)]
    }

    /// Guarantees: the frontier leaves out what another policy beats in both.
    #[test]
    fn frontier_is_what_none_beats() {
        let hours = Scale { low: 0.0, high: 100.0, from: 0.0, to: 100.0, logarithmic: false };
        assert_eq!(frontier(&spots(), &hours, &hours), "M10 50H20V10H40V0");
    }

    /// Guarantees: names of points at the same place do not cover each other.
    #[test]
    fn names_keep_apart() {
        let mut taken = Vec::new();
        for spot in spots() {
            label(&spot, 500.0, 200.0, &mut taken);
        }
        let overlap = |place: usize| taken[..place].iter().any(|other: &Place| other.covers(&taken[place]));
        assert!((0..taken.len()).all(|place| !overlap(place)));
    }

    /// Guarantees: like policies are shown from near their fewest hours, very unlike ones by factors, others from zero.
    #[test]
    fn scales() {
        let scale = |hours: &[f64]| {
            let spots: Vec<Spot<'_>> = hours.iter().map(|hours| Spot { policy: 0, name: "", hours: *hours, minutes: 1.0 }).collect();
            hours_scale(&spots, None)
        };
        assert!(scale(&[100.0, 110.0]).low > 90.0);
        assert!(scale(&[10.0, 110.0]).logarithmic);
        assert!(scale(&[30.0, 110.0]).low.abs() < 1e-9 && scale(&[50.0]).low.abs() < 1e-9);
        assert!(minutes_scale(&spots()).at(0.0) > minutes_scale(&spots()).at(1.0));
    }
}
