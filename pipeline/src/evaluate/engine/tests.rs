//! The recorded faults through the engine, where the recordings are at hand.

use std::path::PathBuf;

use super::*;

/// Guarantees: with spans alone, sent as OTLP and cut by the views, the recorded lack of capacity is named in most windows, more of
/// it helps, more of the front door is held back, nobody else is scaled out, and calm traffic leads to no scale-out.
#[test]
fn a_recorded_fault_is_judged_live() {
    let Some(root) = std::env::var_os("TRACESCALE_DATA").map(PathBuf::from) else {
        eprintln!("skipped: set TRACESCALE_DATA to the folder of the recorded data");
        return;
    };
    let recordings = causes::recordings(&root).unwrap();
    assert_eq!(recordings.iter().map(|recording| recording.runs.len()).collect::<Vec<_>>(), [3, 3]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let section = runtime.block_on(section(&recordings[0], false, 1)).unwrap();
    eprintln!("{}", section.text());
}
