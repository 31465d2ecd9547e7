//! A small neural network on the inputs of the ridge and the time of day and week, trained while it is used.
//!
//! One hidden layer, squared error bounded as Huber's, Adam (Kingma and Ba, 2015); each new row is learnt together with some rows
//! drawn from the last thousand. The draw is from a seed of its own: the same observations give the same network.

use super::ridge::INPUTS;

/// Inputs: those of the ridge, and two waves each of day and week.
pub(super) const ROW: usize = INPUTS + 8;
/// Neurons of the hidden layer.
const HIDDEN: usize = 12;
/// Rows that are kept to be learnt again.
const KEPT: usize = 1024;
/// Rows that are learnt with each new one.
const BATCH: u32 = 8;
/// Rows before the network is asked.
const ROWS_MIN: usize = 400;
/// Adam: size of a step, and memory of means and squares.
const RATE: f64 = 0.003;
const MEAN_MEMORY: f64 = 0.9;
const SQUARE_MEMORY: f64 = 0.999;
/// Share by which weights shrink with each step.
const DECAY: f64 = 1e-4;
/// Errors beyond this many usual deviations weigh no more.
const HUBER: f64 = 2.0;
/// All parameters: hidden weights and offsets, output weights and offset.
const PARAMETERS: usize = HIDDEN * (ROW + 1) + HIDDEN + 1;

/// A row of inputs.
pub(super) type Row = [f64; ROW];

/// A network for one lead.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Network {
    parameters: Vec<f64>,
    means: Vec<f64>,
    squares: Vec<f64>,
    steps: i32,
    rows: Vec<(Row, f64)>,
    next: usize,
    /// Mean square of the inputs and of the target: rows are divided by the roots.
    scale: f64,
    seed: u64,
}

// === impl Network ===

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        let mut network = Self {
            parameters: vec![0.0; PARAMETERS],
            means: vec![0.0; PARAMETERS],
            squares: vec![0.0; PARAMETERS],
            steps: 0,
            rows: Vec::new(),
            next: 0,
            scale: 0.0,
            seed: seed.wrapping_mul(2).wrapping_add(1),
        };
        // Small weights into the hidden layer, none out of it: at first the network says what the ridge's base says.
        for place in 0..HIDDEN * (ROW + 1) {
            network.parameters[place] = 0.3 * (network.draw() - 0.5);
        }
        network
    }

    /// Inputs of a row: those of the ridge with waves of a position within day and week, both 0 to 1.
    pub(super) fn row(inputs: &[f32; INPUTS], day: f64, week: f64) -> Row {
        std::array::from_fn(|place| match inputs.get(place) {
            Some(input) => f64::from(*input),
            None => wave(place - INPUTS, day, week),
        })
    }

    /// Learns a row, and some older ones again.
    pub(super) fn learn(&mut self, row: Row, target: f64) {
        let weight = (1.0 / (1.0 + self.known())).max(0.002);
        self.scale += weight * (target * target - self.scale);
        if self.rows.len() < KEPT {
            self.rows.push((row, target));
        } else {
            self.rows[self.next] = (row, target);
        }
        self.next = (self.next + 1) % KEPT;
        let mut gradient = vec![0.0; PARAMETERS];
        self.descend(&row, target, &mut gradient);
        for _ in 1..BATCH {
            let place = self.pick();
            let (row, target) = self.rows[place];
            self.descend(&row, target, &mut gradient);
        }
        self.step(&gradient);
    }

    /// The target expected for a row. `None` before enough was learnt.
    pub(super) fn predict(&self, row: &Row) -> Option<f64> {
        let unit = self.scale.sqrt();
        (self.rows.len() >= ROWS_MIN && unit > 0.0).then(|| unit * self.run(row, unit).1)
    }

    /// Activations of the hidden layer, and the output, in units of the target.
    fn run(&self, row: &Row, unit: f64) -> ([f64; HIDDEN], f64) {
        let hidden = std::array::from_fn(|neuron| {
            let weights = &self.parameters[neuron * (ROW + 1)..(neuron + 1) * (ROW + 1)];
            let sum: f64 = row.iter().zip(weights).enumerate().map(|(place, (input, weight))| scaled(*input, place, unit) * weight).sum();
            (sum + weights[ROW]).tanh()
        });
        let out = &self.parameters[HIDDEN * (ROW + 1)..];
        (hidden, hidden.iter().zip(out).map(|(active, weight)| active * weight).sum::<f64>() + out[HIDDEN])
    }

    /// Adds the gradient of one row.
    fn descend(&self, row: &Row, target: f64, gradient: &mut [f64]) {
        let unit = self.scale.sqrt();
        if unit <= 0.0 {
            return;
        }
        let (hidden, output) = self.run(row, unit);
        let error = (output - target / unit).clamp(-HUBER, HUBER);
        let first_out = HIDDEN * (ROW + 1);
        for (neuron, active) in hidden.iter().enumerate() {
            gradient[first_out + neuron] += error * active;
            let back = error * self.parameters[first_out + neuron] * (1.0 - active * active);
            let first = neuron * (ROW + 1);
            for (place, input) in row.iter().enumerate() {
                gradient[first + place] += back * scaled(*input, place, unit);
            }
            gradient[first + ROW] += back;
        }
        gradient[first_out + HIDDEN] += error;
    }

    fn step(&mut self, gradient: &[f64]) {
        self.steps = self.steps.saturating_add(1);
        let (mean_full, square_full) = (1.0 - MEAN_MEMORY.powi(self.steps), 1.0 - SQUARE_MEMORY.powi(self.steps));
        for (place, slope) in gradient.iter().enumerate() {
            let slope = slope / f64::from(BATCH);
            self.means[place] = MEAN_MEMORY * self.means[place] + (1.0 - MEAN_MEMORY) * slope;
            self.squares[place] = SQUARE_MEMORY * self.squares[place] + (1.0 - SQUARE_MEMORY) * slope * slope;
            let change = RATE * (self.means[place] / mean_full) / ((self.squares[place] / square_full).sqrt() + 1e-8);
            self.parameters[place] -= change + DECAY * self.parameters[place];
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "at most a thousand rows")]
    fn known(&self) -> f64 {
        self.rows.len() as f64
    }

    /// A number from 0 to 1.
    fn draw(&mut self) -> f64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.seed >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below the number of rows")]
    fn pick(&mut self) -> usize {
        let place = (self.draw() * self.known()) as usize;
        place.min(self.rows.len().saturating_sub(1))
    }
}

/// An input in units of the target, bounded; waves as they are.
fn scaled(input: f64, place: usize, unit: f64) -> f64 {
    if place < INPUTS { (input / unit).clamp(-5.0, 5.0) } else { input }
}

/// Waves of once and twice a day and a week.
fn wave(place: usize, day: f64, week: f64) -> f64 {
    let turn = std::f64::consts::TAU;
    match place {
        0 => (turn * day).sin(),
        1 => (turn * day).cos(),
        2 => (2.0 * turn * day).sin(),
        3 => (2.0 * turn * day).cos(),
        4 => (turn * week).sin(),
        5 => (turn * week).cos(),
        6 => (2.0 * turn * week).sin(),
        _ => (2.0 * turn * week).cos(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a product of two inputs, which no linear model knows, is learnt; and twice the same way.
    #[test]
    fn learns_a_product() {
        let train = || {
            let (mut network, mut other) = (Network::new(1), Network::new(2));
            for _ in 0..6000 {
                let mut inputs = [0.0; INPUTS];
                let (a, b) = (2.0 * other.draw() - 1.0, 2.0 * other.draw() - 1.0);
                (inputs[0], inputs[1]) = (super::super::ring::narrow(a), super::super::ring::narrow(b));
                network.learn(Network::row(&inputs, 0.0, 0.0), a * b);
            }
            network
        };
        let network = train();
        let mut probe = [0.0; INPUTS];
        (probe[0], probe[1]) = (0.8, 0.8);
        let high = network.predict(&Network::row(&probe, 0.0, 0.0)).unwrap();
        probe[1] = -0.8;
        let low = network.predict(&Network::row(&probe, 0.0, 0.0)).unwrap();
        assert!((high - 0.64).abs() < 0.25 && (low + 0.64).abs() < 0.25, "{high} {low}");
        assert_eq!(network, train());
    }
}
