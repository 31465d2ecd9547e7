//! What a sink is asked to tell the target's own world: one action or one refusal, in a sentence.

use tracescale_core::time::Timestamp;

/// The longest note that Kubernetes takes, in bytes.
pub const NOTE_BYTES: usize = 1024;

/// One thing that happened to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionEvent {
    /// What happened.
    pub kind: ActionKind,
    /// One sentence: what was done and why. Cut to [`NOTE_BYTES`].
    pub note: String,
    /// When it happened.
    pub at: Timestamp,
}

/// What happened to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ActionKind {
    /// Capacity was raised.
    ScaledUp,
    /// Capacity was lowered.
    ScaledDown,
    /// What each replica asks for was changed.
    Resized,
    /// We did not act because another writer holds the capacity.
    Contested,
    /// We could not act.
    ScalingFailed,
}

// === impl ActionEvent ===

impl ActionEvent {
    /// An event; a note that is too long is cut at a character and ends in an ellipsis.
    #[must_use]
    pub fn new(kind: ActionKind, note: impl Into<String>, at: Timestamp) -> Self {
        let mut note = note.into();
        if note.len() > NOTE_BYTES {
            let mut end = NOTE_BYTES - '…'.len_utf8();
            while !note.is_char_boundary(end) {
                end -= 1;
            }
            note.truncate(end);
            note.push('…');
        }
        Self { kind, note, at }
    }
}

// === impl ActionKind ===

impl ActionKind {
    /// The `reason` of a Kubernetes Event.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ScaledUp => "ScaledUp",
            Self::ScaledDown => "ScaledDown",
            Self::Resized => "Resized",
            Self::Contested => "Contested",
            Self::ScalingFailed => "ScalingFailed",
        }
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::Contested | Self::ScalingFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a note never exceeds what Kubernetes takes, and is never cut inside a character.
    #[test]
    fn notes_are_cut_at_a_character() {
        for length in [NOTE_BYTES - 1, NOTE_BYTES, NOTE_BYTES + 1, 3 * NOTE_BYTES] {
            for filler in ["x", "ü", "→"] {
                let text = filler.repeat(length.div_ceil(filler.len()));
                let event = ActionEvent::new(ActionKind::ScaledUp, text.clone(), Timestamp::EPOCH);
                assert!(event.note.len() <= NOTE_BYTES, "{length} bytes of {filler}");
                assert_eq!(event.note == text, text.len() <= NOTE_BYTES);
            }
        }
    }
}
