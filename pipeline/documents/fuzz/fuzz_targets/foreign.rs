//! No text makes the reader of foreign documents panic or hang, and what it writes is always read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match tracescale_documents::foreign::read("fuzz.yaml", text) {
        Ok(import) => {
            assert!(!import.imported.is_empty());
            for imported in &import.imported {
                let documents = tracescale_documents::parse("written.yaml", &imported.documents).expect("what is written is read");
                for (_, rule) in &documents.rules {
                    assert_eq!(rule.mode.as_str(), "recommend");
                }
                for note in &imported.notes {
                    assert!(!note.to_string().is_empty());
                }
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(!problem.to_string().is_empty());
            }
        }
    }
});
