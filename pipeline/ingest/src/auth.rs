//! Bearer tokens, compared in time that does not depend on where they differ.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The accepted tokens; none means that everybody may send.
#[derive(Clone)]
pub(crate) struct Tokens(Vec<Box<[u8]>>);

// === impl Tokens ===

impl Tokens {
    pub(crate) fn new(tokens: &[String]) -> Self {
        Self(tokens.iter().map(|token| token.trim().as_bytes().into()).collect())
    }

    /// Whether the headers carry an accepted token (or none is asked for). Every token is compared, whichever matches.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let presented = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())).unwrap_or_default();
        self.0.iter().fold(false, |found, token| found | equal(token, presented))
    }
}

/// The credentials of `Bearer <credentials>`; the scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, credentials) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| credentials.trim_ascii())
}

/// Equality whose duration depends on the lengths alone.
fn equal(expected: &[u8], presented: &[u8]) -> bool {
    if expected.len() != presented.len() {
        return false;
    }
    let difference = expected.iter().zip(presented).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(tokens: &[&str], header: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        Tokens::new(&tokens.iter().map(ToString::to_string).collect::<Vec<_>>()).allow(&headers)
    }

    /// Guarantees: exactly the configured tokens pass, under any spelling of the scheme; without tokens everybody does.
    #[test]
    fn only_configured_tokens_pass() {
        assert!(allowed(&[], None));
        assert!(allowed(&["a", "secret"], Some("Bearer secret")));
        assert!(allowed(&["secret"], Some("bearer  secret")));
        assert!(!allowed(&["secret"], None));
        for wrong in ["secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secret2", "Bearer Secret", "Basic secret"] {
            assert!(!allowed(&["secret"], Some(wrong)), "{wrong}");
        }
    }
}
