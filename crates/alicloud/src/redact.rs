//! Keeps secrets out of texts of a server: messages (shown in the debug log only), codes and ids.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// How many layers of percent encoding are decoded: a signature encodes the query twice, a proxy may add a
/// layer.
const MAX_ENCODING_LAYERS: usize = 3;

/// This many consecutive characters of a secret count as the secret. A token is longer than a code or an id
/// can be, so only a part of it can be in one.
const MIN_SECRET_PART: usize = 12;

/// Returns the text, or only its length if it contains one of the secrets, ignoring case and percent
/// encoding.
///
/// Redacts the whole text, because the text around a secret may be a part of it.
pub(super) fn redact<'a>(text: &'a str, secrets: &[&str]) -> Cow<'a, str> {
    let mut layer = text.to_ascii_lowercase();
    for _ in 0..=MAX_ENCODING_LAYERS {
        let contains = |secret: &&str| !secret.is_empty() && layer.contains(&secret.to_ascii_lowercase());
        if secrets.iter().any(contains) {
            return Cow::Owned(format!("<{} bytes withheld: they hold a secret>", text.len()));
        }
        layer = percent_decode_str(&layer).decode_utf8_lossy().to_ascii_lowercase();
    }
    Cow::Borrowed(text)
}

/// Whether a code or an id contains one of the secrets, or [`MIN_SECRET_PART`] characters of one, ignoring case.
pub(super) fn contains_secret(text: &str, secrets: &[&str]) -> bool {
    if matches!(redact(text, secrets), Cow::Owned(_)) {
        return true;
    }
    let text = text.to_ascii_lowercase();
    let parts: Vec<&str> = (0..text.len()).filter_map(|at| text.get(at..at + MIN_SECRET_PART)).collect();
    secrets.iter().any(|secret| {
        let secret = secret.to_ascii_lowercase();
        parts.iter().any(|part| secret.contains(part))
    })
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_without_secrets_is_shown() {
        assert_eq!(redact("The instance is stopped.", &["Abc123", ""]), "The instance is stopped.");
    }

    #[test]
    fn text_with_a_secret_is_withheld() {
        for text in
            ["VncPassword=Abc123&x", "abc123", "%41bc123", "%2541bc123", "%252541bc123", "a%2Bb%3D%3D"]
        {
            let redacted = redact(text, &["Abc123", "a+b=="]);
            assert!(redacted.ends_with("bytes withheld: they hold a secret>"), "{text}: {redacted}");
        }
    }

    #[test]
    fn a_secret_is_found_as_a_whole_or_by_a_long_part() {
        let secrets = ["Abc123", "", "token/of+MANY-letters.and=more"];
        for text in
            ["Abc123", "x.aBC123-y", "many-letters", "x-MANY-letters.and", "token/of+MANY-letters.and=more"]
        {
            assert!(contains_secret(text, &secrets), "{text}");
        }
        for text in
            ["", "Abc12", "bc123", "many-letter", "any-letters", "Abc-123", "of.many.letters.and.more", "é"]
        {
            assert!(!contains_secret(text, &secrets), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_secret_survives(
            before in "[^%]{0,9}", secret in "[ -~]{6,40}", after in "[^%]{0,9}", layers in 0..=MAX_ENCODING_LAYERS,
        ) {
            let mut shown = secret.clone();
            for _ in 0..layers {
                shown = utf8_percent_encode(&shown, NON_ALPHANUMERIC).to_string();
            }
            let text = format!("{before}{shown}{after}");
            prop_assert!(redact(&text, &[&secret]).contains("withheld"));
        }
    }
}
