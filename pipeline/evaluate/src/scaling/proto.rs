use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tracescale_core::time::Timestamp;
use tracescale_simulate::policy::{Policy, Telemetry};
use tracescale_simulate::score::Demand;
use tracescale_simulate::random::{Purpose, Stream};

use super::workload::Workload;

pub const F: usize = 9;
#[derive(Clone, Debug)]
pub struct Options { pub knob: f64, pub price: bool, pub mask: [bool; F], pub stabilization: f64, pub local: bool, pub days: f64 }

pub struct Proto {
    o: Options,
    caps: Vec<f64>,
    y: Vec<f64>, // 15 s means
    lv: Vec<f64>, // 30 s means
    next: Timestamp,
    h: usize, // ticks of 15 s
    feats: VecDeque<[f64; F]>,
    base: VecDeque<f64>,
    scale: VecDeque<f64>,
    z: VecDeque<f64>,
    sorted: Vec<f64>,
    xtx: [[f64; F]; F],
    xty: [f64; F],
    beta: [f64; F],
    recs: VecDeque<(Timestamp, u32)>,
    now_base: f64,
    now_scale: f64,
}
fn ln(x: f64) -> f64 { x.max(1.0).ln() }
const DAY: usize = 5760;
impl Proto {
    pub fn new(o: Options, caps: Vec<f64>, load: &Workload, from: Timestamp, startup_p90: f64, seed: u64) -> Self {
        let h = ((startup_p90 + 25.0) / 15.0).ceil().max(2.0) as usize;
        let mut p = Self { o, caps, y: vec![], lv: vec![], next: from, h, feats: VecDeque::new(), base: VecDeque::new(), scale: VecDeque::new(), z: VecDeque::new(), sorted: vec![], xtx: [[0.0; F]; F], xty: [0.0; F], beta: [0.0; F], recs: VecDeque::new(), now_base: 0.0, now_scale: 1.0 };
        let mut at = load.history_from.max(from - Duration::from_secs(15 * 86400));
        let m = Duration::from_secs(15);
        let mut s = Stream::new(seed + 77, 0, Purpose::Load);
        while at < from { let r = load.rates.at(at + m / 2); p.push((r + s.normal() * (r / 15.0).sqrt()).max(0.0)); at = at + m; }
        p
    }
    fn mean(&self, t: usize, n: usize) -> f64 { let a = t + 1 - n.min(t + 1); self.y[a..=t].iter().sum::<f64>() / (t + 1 - a) as f64 }
    fn push(&mut self, rate: f64) {
        self.y.push(rate);
        let t = self.y.len() - 1;
        self.lv.push(self.mean(t, 2));
        if t >= self.h && self.feats.len() >= self.h {
            let i = self.feats.len() - self.h;
            // origin j = t - h
            let j = t - self.h;
            let peak = self.lv[j + 2..=t].iter().fold(0.0_f64, |a, b| a.max(*b));
            let target = ln(peak) - ln(self.lv[j]);
            let f = self.feats[i];
            let w = 1.0;
            for a in 0..F { self.xty[a] += w * f[a] * target; for b in 0..F { self.xtx[a][b] += w * f[a] * f[b]; } }
            self.z.push_back((ln(peak) - self.base[i]) / self.scale[i]);
            let n = (self.o.days * DAY as f64) as usize;
            if self.z.len() > n { self.z.pop_front(); }
        }
        if t % (DAY / 4) == 0 { self.fit(); }
        if t % 240 == 0 { self.sorted = self.z.iter().copied().step_by(4).collect(); self.sorted.sort_by(f64::total_cmp); }
        let mut f = [0.0; F];
        let l = ln(self.lv[t]);
        f[0] = 1.0;
        if t > 300 {
            f[1] = l - ln(self.mean(t - 2, 2));
            f[2] = l - ln(self.mean(t - 4, 4));
            f[3] = l - ln(self.mean(t - 12, 8));
            f[4] = l - ln(self.mean(t, 60));
            f[5] = l - ln(self.mean(t, 240));
        }
        for (k, back) in [(6, DAY), (7, 7 * DAY)] {
            if t > back + 20 {
                let c = t - back;
                let at = self.mean((c + 4).min(t), 9);
                let mut most = 0.0_f64;
                let step = (self.h / 4).max(1);
                let mut q = c + step;
                for _ in 0..4 { if q + 4 <= t { most = most.max(self.mean(q + 4, 9)); } q += step; }
                if most > 0.0 { f[k] = (ln(most) - ln(at)).clamp(-1.5, 1.5); }
            }
        }
        if t > 2 * DAY + 20 {
            // mean of two days
            f[8] = f[6];
            let c = t - 2 * DAY; 
            let at = self.mean(c + 4, 9); let q = c + self.h;
            let to = self.mean(q + 4, 9);
            f[8] = (ln(to) - ln(at)).clamp(-1.5, 1.5);
        }
        for a in 0..F { if !self.o.mask[a] { f[a] = 0.0; } }
        let g: f64 = (0..F).map(|a| f[a] * self.beta[a]).sum();
        let b = l + g.clamp(-0.5, 1.0);
        let sc = if self.o.local && t > 300 {
            let mut s = 0.0;
            for i in 0..60 { let a = t - 4 * i; s += (ln(self.lv[a]) - ln(self.lv[a - 4])).abs(); }
            s / 60.0 + 0.003 + 0.15 / self.lv[t].max(1.0).sqrt()
        } else { 1.0 };
        self.feats.push_back(f); self.base.push_back(b); self.scale.push_back(sc);
        if self.feats.len() > self.h + 1 { self.feats.pop_front(); self.base.pop_front(); self.scale.pop_front(); }
        self.now_base = b; self.now_scale = sc;
    }
    fn fit(&mut self) {
        let mut m = self.xtx; let mut v = self.xty;
        let n = m[0][0].max(1.0);
        for a in 0..F { m[a][a] += 1e-4 * n + 1e-6; }
        // gauss
        for a in 0..F { let p = m[a][a]; for b in a + 1..F { let r = m[b][a] / p; for c in a..F { m[b][c] -= r * m[a][c]; } v[b] -= r * v[a]; } }
        for a in (0..F).rev() { let mut s = v[a]; for b in a + 1..F { s -= m[a][b] * self.beta[b]; } self.beta[a] = s / m[a][a]; }
        // forget: half-life ~ 7 days
        for a in 0..F { self.xty[a] *= 0.98; for b in 0..F { self.xtx[a][b] *= 0.98; } }
    }
    fn cap_index(&self, rate: f64) -> u32 { (self.caps.partition_point(|c| *c < rate) + 1).min(100) as u32 }
    fn want(&self) -> u32 {
        let n = self.sorted.len();
        if n < 30 { return self.cap_index(1.3 * self.now_base.exp()); }
        if !self.o.price {
            let k = ((n as f64 * self.o.knob).ceil() as usize).clamp(1, n) - 1;
            return self.cap_index((self.now_base + self.sorted[k] * self.now_scale).exp());
        }
        let lo = self.cap_index((self.now_base + self.sorted[n / 2] * self.now_scale).exp());
        let mut best = (f64::INFINITY, lo);
        for r in lo..=100 {
            let z = (self.caps[r as usize - 1].ln() - self.now_base) / self.now_scale;
            let over = n - self.sorted.partition_point(|x| *x <= z);
            let p = (over as f64 + 0.2) / n as f64;
            let cost = f64::from(r) + self.o.knob * p;
            if cost < best.0 { best = (cost, r); }
            if over == 0 { break; }
        }
        best.1
    }
}
impl Policy for Proto {
    fn name(&self) -> String { "proto".into() }
    fn interval(&self) -> Duration { Duration::from_secs(15) }
    fn tick(&mut self, now: Timestamp, seen: &Telemetry) -> Option<u32> {
        let m = Duration::from_secs(15);
        let vis = now - Duration::from_secs(10);
        let mut guard = 0;
        while self.next + m <= vis && guard < 20 {
            let r = seen.over(self.next, self.next + m).map(|x| x.arrival_rate).unwrap_or(0.0);
            self.push(r);
            self.next = self.next + m;
            guard += 1;
        }
        let short = seen.over(vis - Duration::from_secs(15), vis)?;
        let want = self.want().max(if short.backlog > 1.0 { self.cap_index(self.lv[self.lv.len() - 1] + short.backlog / 60.0) } else { 1 }).clamp(1, 100);
        let since = now - Duration::from_secs_f64(self.o.stabilization);
        while self.recs.front().is_some_and(|r| r.0 <= since) { self.recs.pop_front(); }
        self.recs.push_back((now, want));
        let cur = seen.desired();
        let most = self.recs.iter().map(|r| r.1).max().unwrap_or(want);
        let to = if want > cur { want } else { most.min(cur) };
        (to != cur).then_some(to)
    }
}
