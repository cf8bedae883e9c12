//! Keeps secrets out of the debug log, the only place where a server's words may show up.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Signatures encode a query twice, a proxy may add a layer.
const LAYERS_OF_ENCODING: usize = 3;

/// The text, or, if it holds any of the secrets in whatever case or percent encoding, its length only.
///
/// All or nothing: what stands around a secret may be a part of it.
pub(super) fn mask<'a>(text: &'a str, secrets: &[&str]) -> Cow<'a, str> {
    let mut layer = text.to_ascii_lowercase();
    for _ in 0..=LAYERS_OF_ENCODING {
        let shows = |secret: &&str| !secret.is_empty() && layer.contains(&secret.to_ascii_lowercase());
        if secrets.iter().any(shows) {
            return Cow::Owned(format!("<{} bytes withheld: they hold a secret>", text.len()));
        }
        layer = percent_decode_str(&layer).decode_utf8_lossy().to_ascii_lowercase();
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_without_secrets_is_shown() {
        assert_eq!(mask("The instance is stopped.", &["Abc123", ""]), "The instance is stopped.");
    }

    #[test]
    fn text_with_a_secret_is_withheld() {
        for text in
            ["VncPassword=Abc123&x", "abc123", "%41bc123", "%2541bc123", "%252541bc123", "a%2Bb%3D%3D"]
        {
            let masked = mask(text, &["Abc123", "a+b=="]);
            assert!(masked.ends_with("bytes withheld: they hold a secret>"), "{text}: {masked}");
        }
    }

    proptest! {
        #[test]
        fn no_secret_survives(
            before in "[^%]{0,9}", secret in "[ -~]{6,40}", after in "[^%]{0,9}", layers in 0..=LAYERS_OF_ENCODING,
        ) {
            let mut shown = secret.clone();
            for _ in 0..layers {
                shown = utf8_percent_encode(&shown, NON_ALPHANUMERIC).to_string();
            }
            let text = format!("{before}{shown}{after}");
            prop_assert!(mask(&text, &[&secret]).contains("withheld"));
        }
    }
}
