//! No text makes the reader of documents panic, hang or give something invalid.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match tracescale_documents::parse("fuzz.yaml", text) {
        Ok(documents) => {
            for (_, rule) in &documents.rules {
                let spec = rule.policy.spec();
                assert!(spec.min <= spec.max && !rule.sql.is_empty());
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
