//! What `crash` prints, and whether it is content.

use std::time::Duration;

use anyhow::{Result, ensure};
use tracescale_benches::measure::{Spread, Table};

use super::End;
use super::faults::Fault;
use super::lane::Outcome;
use super::verdict::{Items, Verdict};

/// Most wrong things that are told one by one.
const TOLD: usize = 60;

/// Prints all lanes together.
///
/// # Errors
/// When anything is lost, double or counted wrong.
pub(super) fn print(outcomes: &[Outcome], elapsed: Duration) -> Result<()> {
    rounds(outcomes, elapsed);
    let mut table = Table::new(&["", "sent", "acknowledged", "archived", "lost", "double", "never sent"]);
    for (what, of) in [("spans", (|verdict| verdict.spans) as fn(&Verdict) -> Items), ("metric points", |verdict| verdict.points)] {
        let sum = |field: fn(Items) -> u64| total(outcomes, |outcome| field(of(&outcome.verdict)));
        let counts = [sum(|items| items.archived), sum(|items| items.lost), sum(|items| items.double), sum(|items| items.strange)];
        let [archived, lost, double, strange] = counts;
        table.row(&[&what, &sum(|items| items.sent), &sum(|items| items.acknowledged), &archived, &lost, &double, &strange]);
    }
    println!("{table}");
    windows(outcomes);
    let wrong = outcomes.iter().flat_map(|outcome| outcome.verdict.wrong.iter().chain(&outcome.verdict.findings));
    wrong.take(TOLD).for_each(|wrong| println!("WRONG: {wrong}"));
    ensure!(outcomes.iter().all(|outcome| outcome.verdict.is_good()), "the archive is not what was acknowledged");
    println!("nothing lost, nothing double, no window wrong");
    Ok(())
}

fn rounds(outcomes: &[Outcome], elapsed: Duration) {
    let mut table = Table::new(&["a round's end", "times"]);
    for end in End::ALL {
        table.row(&[&end.name(), &total(outcomes, |outcome| outcome.story.ends.get(&end).copied().unwrap_or(0).into())]);
    }
    for fault in Fault::ALL {
        let times = total(outcomes, |outcome| outcome.story.faults.get(&fault).copied().unwrap_or(0).into());
        table.row(&[&format!("before a start: {}", fault.name()), &times]);
    }
    println!("{table}");
    let recoveries: Vec<f64> = outcomes.iter().flat_map(|outcome| outcome.story.recoveries.iter().copied()).collect();
    println!("{:.0} s; from start to taking requests: {} ms", elapsed.as_secs_f64(), Spread::of(&recoveries));
    let requests = total(outcomes, |outcome| outcome.sent.len() as u64);
    let acknowledged = total(outcomes, |outcome| outcome.sent.iter().filter(|sent| sent.acknowledged).count() as u64);
    let repeated = total(outcomes, |outcome| outcome.sent.iter().filter(|sent| sent.attempts > 1).count() as u64);
    let duplicates: f64 = outcomes.iter().map(|outcome| outcome.story.duplicates).sum();
    println!(
        "{requests} requests, {acknowledged} acknowledged and the others given up; {repeated} went out more than once, and at least \
         {duplicates:.0} times one came that was there already\n"
    );
}

fn windows(outcomes: &[Outcome]) {
    let sum = |of: fn(&Verdict) -> usize| total(outcomes, |outcome| of(&outcome.verdict) as u64);
    println!(
        "windows: {} compared, {} of them corrected by late rows; {} different, {} more that rows came too late for",
        sum(|verdict| verdict.windows.compared),
        sum(|verdict| verdict.windows.corrected),
        sum(|verdict| verdict.windows.different),
        sum(|verdict| verdict.windows.too_late),
    );
    println!(
        "decisions, outcomes and alerts: {}, double {}; points of one series and time: double {}; findings of the audit: {}\n",
        sum(|verdict| verdict.records),
        sum(|verdict| verdict.double_records),
        sum(|verdict| verdict.double_times),
        sum(|verdict| verdict.findings.len()),
    );
}

fn total(outcomes: &[Outcome], of: impl Fn(&Outcome) -> u64) -> u64 {
    outcomes.iter().map(of).sum()
}
