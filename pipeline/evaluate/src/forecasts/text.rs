//! The report as text.

use std::fmt::{self, Write as _};

use super::Report;
use super::accuracy::{Accuracy, percent};

// === impl Report ===

impl Report {
    /// Tables for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail; a failure would cut the text.
        match self.write(&mut text) {
            Ok(()) | Err(fmt::Error) => text,
        }
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        self.write_reference(text)?;
        self.write_accuracy(text)?;
        self.write_coverage(text)?;
        if let Some(contest) = &self.contest {
            writeln!(text, "\nM4 hourly, {} series, 48 hours (sMAPE / MASE)", contest.series)?;
            let ((ours, scaled), (seasonal, scaled_seasonal)) = (contest.ours, contest.seasonal);
            write!(text, "  ours {ours:.3} / {scaled:.3}, season before {seasonal:.3} / {scaled_seasonal:.3}")?;
            writeln!(text, ", ours better on {:.0} %", percent(contest.better))?;
        }
        let bars = &self.bars;
        writeln!(text, "\nbars")?;
        writeln!(text, "  better than the best baseline in hindsight: {} of {} (two thirds asked)", bars.better, bars.cases)?;
        writeln!(text, "  more than 1.1 times its error: {} (none asked)", bars.worse)?;
        writeln!(text, "  geometric mean of the ratios: {:.3}", bars.mean_ratio)?;
        writeln!(text, "  upper quantiles within 1.5 points: {} of {} (all asked)", bars.covered, bars.quantiles)?;
        writeln!(text, "  as many if all were right on average, with days drawn from those judged: {:.1}", bars.covered_by_chance)?;
        writeln!(text, "  geometric mean of their widths: {:.3}, of their pinball losses: {:.5}", bars.width, bars.pinball)
    }

    fn write_reference(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "reference scores reproduced (greatest difference of WAPE, of MASE)")?;
        for row in &self.reference {
            let horizon = if row.day { "24 h" } else { "1 h" };
            let (wape, mase) = (percent(row.difference()), percent(row.scaled_difference()));
            writeln!(text, "  {:<16}{:>5} s {horizon:>5}  {wape:>6.2} % {mase:>6.2} %", row.series, row.step)?;
        }
        Ok(())
    }

    fn write_accuracy(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\naccuracy (WAPE %, MASE of ours)")?;
        writeln!(text, "  series             step horizon origins    last     day    week profile |    ours   ratio   MASE")?;
        for row in &self.accuracy {
            write!(text, "  {:<16}{:>5} s {:>5} h {:>7}", row.series, row.step, row.horizon / 3600, row.origins)?;
            for score in &row.baselines {
                write!(text, " {:>7.1}", percent(score.wape))?;
            }
            let verdict = verdict(row);
            writeln!(text, " | {:>7.1} {:>7.3} {:>6.3} {verdict}", percent(row.ours.wape), row.ratio(), row.ours.mase)?;
        }
        Ok(())
    }

    fn write_coverage(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\ncoverage (share not above the quantile in %, mean quantile and pinball loss over mean of what came)")?;
        writeln!(text, "  series             step    lead origins     .90    .95    .99 |    .90    .95    .99 |    .90    .95    .99")?;
        for row in &self.coverage {
            write!(text, "  {:<16}{:>5} s {:>5} h {:>7}  ", row.series, row.step, row.lead / 3600, row.origins)?;
            for share in row.covered {
                write!(text, " {:>6.1}", percent(share))?;
            }
            write!(text, " |")?;
            for width in row.width {
                write!(text, " {width:>6.2}")?;
            }
            write!(text, " |")?;
            for loss in row.pinball {
                write!(text, " {loss:>6.3}")?;
            }
            let off = row.deviations().iter().any(|deviation| deviation.abs() > super::coverage::TOLERANCE);
            let note = match (row.enough, off) {
                (false, _) => " too few origins",
                (true, true) => " off",
                (true, false) => "",
            };
            writeln!(text, "{note}")?;
        }
        Ok(())
    }
}

fn verdict(row: &Accuracy) -> &'static str {
    match row.ratio() {
        ratio if ratio < 1.0 => "better",
        ratio if ratio <= 1.1 => "within 1.1",
        _ => "WORSE",
    }
}
