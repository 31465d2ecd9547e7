//! Names of targets and rules: short, lower case, typeable, and safe in file names, labels and decision ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name in bytes: the limit that Kubernetes sets for the names of its objects.
pub const MAX_NAME: usize = 253;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The text has more than [`MAX_NAME`] bytes.
    #[error("a name has at most {MAX_NAME} characters, this one has {0}")]
    TooLong(usize),
    /// A character that is not allowed.
    #[error("{0:?} is not allowed in a name")]
    Character(char),
    /// The first or the last character is not a letter or digit.
    #[error("a name starts and ends with a letter or a digit")]
    Edge,
}

/// The name of a scaling target, unique among all documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetName(String);

/// The name of a scaling rule, unique among all documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(String);

/// Checks the form of a name: lower-case letters, digits, `-` and `.`, a letter or digit at both ends.
///
/// # Errors
/// When the text is not of that form.
pub fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong(text.len()));
    }
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))) {
        return Err(NameError::Character(bad));
    }
    if text.starts_with(['-', '.']) || text.ends_with(['-', '.']) {
        return Err(NameError::Edge);
    }
    Ok(())
}

/// The nearest name to any text: lower case, everything else that is not allowed becomes `-`. `None` when nothing is left.
#[must_use]
pub fn sanitize(text: &str) -> Option<String> {
    let mapped: String = text
        .chars()
        .take(MAX_NAME)
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' { c } else { '-' })
        .collect();
    let trimmed = mapped.trim_matches(['-', '.']);
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

macro_rules! name {
    ($type:ident) => {
        impl $type {
            /// A checked name.
            ///
            /// # Errors
            /// When the text is not a name; see [`check`].
            pub fn try_new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::try_new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
    };
}

// === impl TargetName ===

name!(TargetName);

impl TargetName {
    /// The name of the target that a service gets when no document describes one; no two services share it.
    ///
    /// `namespace.service`, or the service alone, where that is a name. Otherwise, and where it could be divided into another
    /// namespace and service, the nearest name with a hash of both at its end.
    #[must_use]
    pub fn of_service(namespace: Option<&str>, service: &str) -> Self {
        let text = namespace.map_or_else(|| service.to_owned(), |namespace| format!("{namespace}.{service}"));
        // The first dot divides: `a.b` is service `b` of namespace `a` and nothing else.
        let is_plain = !namespace.unwrap_or(service).contains('.');
        if is_plain && check(&text).is_ok() {
            return Self(text);
        }
        let hash = format!("-{:08x}", hash([namespace.unwrap_or_default(), "\0", service].concat().as_bytes()));
        let mut nearest = sanitize(&text).unwrap_or_else(|| "service".to_owned());
        nearest.truncate(MAX_NAME - hash.len());
        Self(nearest.trim_end_matches(['-', '.']).to_owned() + &hash)
    }
}

/// FNV-1a: the same on every machine and in every version, so that a name survives both.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

// === impl RuleName ===

name!(RuleName);

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what is not a name is refused with the cause, and sanitising any text gives a name or nothing.
    #[test]
    fn names_are_checked() {
        assert!(TargetName::try_new("shop.checkout-2").is_ok());
        assert_eq!(TargetName::try_new(""), Err(NameError::Empty));
        assert_eq!(TargetName::try_new("Check"), Err(NameError::Character('C')));
        assert_eq!(TargetName::try_new("-a"), Err(NameError::Edge));
        assert_eq!(TargetName::try_new("a".repeat(254)), Err(NameError::TooLong(254)));
        assert_eq!(sanitize("Order Service/v2_").as_deref(), Some("order-service-v2"));
        assert_eq!(sanitize("___"), None);
        assert!(check(&sanitize(&"é".repeat(300)).unwrap_or_else(|| "x".into())).is_ok());
    }

    /// Guarantees: what is a name stays as it is, and no two services get one name, however alike theirs look.
    #[test]
    fn services_do_not_share_a_name() {
        let name = |namespace, service: &str| TargetName::of_service(namespace, service).to_string();
        assert_eq!((name(Some("shop"), "checkout"), name(None, "cart-2")), ("shop.checkout".to_owned(), "cart-2".to_owned()));
        assert_eq!((name(None, "a b"), name(Some("shop"), "a.b")), ("a-b-c1825f04".to_owned(), "shop.a.b".to_owned()));
        let long = "x".repeat(300);
        let services = [
            (None, "a b"),
            (None, "a/b"),
            (None, "a-b"),
            (None, "A-b"),
            (None, "a-b-"),
            (Some("a"), "b"),
            (None, "a.b"),
            (Some("a"), "b.c"),
            (Some("a.b"), "c"),
            (None, "a.b.c"),
            (None, "___"),
            (None, "日本"),
            (Some("_"), "_"),
            (None, long.as_str()),
            (None, &long[1..]),
        ];
        let names: std::collections::BTreeSet<_> = services.iter().map(|(namespace, service)| name(*namespace, service)).collect();
        assert_eq!(names.len(), services.len(), "{names:?}");
        assert!(names.iter().all(|name| check(name).is_ok()), "{names:?}");
    }
}
