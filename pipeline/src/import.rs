//! `tracescale import`: what other autoscalers were told, as documents of ours that recommend.

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use tracescale_documents::foreign::{self, Import};

use crate::cli::ImportArgs;
use crate::{check, console};

/// Runs the command.
///
/// # Errors
/// When a file cannot be read or written.
pub fn main(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let (mut imports, mut problems): (Vec<Import>, Vec<_>) = (Vec::new(), Vec::new());
    for path in &args.files {
        let origin = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("file {origin}"))?;
        match foreign::read(&origin, &text) {
            Ok(import) => imports.push(import),
            Err(wrong) => problems.extend(wrong),
        }
    }
    if !problems.is_empty() {
        return check::refuse(&problems, args.json);
    }
    for import in &imports {
        let notes = import.imported.iter().flat_map(|imported| imported.notes.iter().map(move |note| (&imported.origin.file, note)));
        let others = import.others.iter().map(|note| (None, note));
        for (file, note) in notes.map(|(file, note)| (Some(file), note)).chain(others) {
            tell(&file.map_or_else(|| note.to_string(), |file| format!("{file}: {note}")));
        }
    }
    let documents = foreign::together(imports.iter().flat_map(|import| &import.imported));
    match &args.out {
        Some(path) => fs::write(path, documents).with_context(|| format!("file {}", path.display()))?,
        None => console::print_line(documents.trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of each field: beside the documents, not in them.
fn tell(text: &str) {
    // Nobody may be there to hear it.
    let _ = writeln!(io::stderr(), "{text}");
}
