//! What is wrong with a document, in the words of the person who wrote it.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1, when it is known.
    pub line: Option<u64>,
    /// Where in the document: `spec.policy.scaleDown.policies[0].type`. Empty when it concerns the whole file.
    pub path: String,
    /// What is written there.
    pub value: Option<String>,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

// === impl Problem ===

impl fmt::Display for Problem {
    /// One readable block:
    ///
    /// ```text
    /// rules.yaml:12: spec.policy.scaleDown.policies[0].period = "60": a duration needs a unit (ms, s, m, h, d)
    ///   hint: such as 60s
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        match (self.path.is_empty(), &self.value) {
            (false, Some(value)) => write!(f, "{} = {value}: ", self.path)?,
            (false, None) => write!(f, "{}: ", self.path)?,
            (true, Some(value)) => write!(f, "{value}: ")?,
            (true, None) => {}
        }
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}
