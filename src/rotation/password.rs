//! The password as a type: what counts as one, and no way to print it.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of a VNC password in characters, fixed by the API.
pub const LENGTH: usize = 6;

/// A VNC password: exactly six of `[A-Za-z0-9]`.
///
/// It has no `Display` and no `Serialize`, its `Debug` shows stars, and its memory is overwritten on drop.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Password([u8; LENGTH]);

/// A value is no VNC password. It does not say what was found: that would tell about the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a VNC password is exactly 6 of A-Z, a-z and 0-9, without a line break")]
pub struct InvalidPassword;

impl Password {
    /// Takes the bytes as they stand in the Secret; nothing is trimmed.
    ///
    /// # Errors
    /// The value is not exactly six of `[A-Za-z0-9]`.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidPassword> {
        if !value.iter().all(u8::is_ascii_alphanumeric) {
            return Err(InvalidPassword);
        }
        <[u8; LENGTH]>::try_from(value).map(Self).map_err(|_| InvalidPassword)
    }

    /// Whether upper case, lower case and digits all occur. One of the API's pages asks for it, others do not,
    /// so a user's password that lacks a class is sent all the same, with a warning.
    #[must_use]
    pub fn has_all_classes(&self) -> bool {
        self.0.iter().any(u8::is_ascii_uppercase)
            && self.0.iter().any(u8::is_ascii_lowercase)
            && self.0.iter().any(u8::is_ascii_digit)
    }

    /// The characters themselves: for the signed request and for the fingerprint, and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        // Only ASCII letters and digits can be in here, see `parse`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(******)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_judged_by_the_rule_of_the_api() {
        let table: &[(&[u8], bool)] = &[
            (b"Abc123", true),
            (b"aaaaaa", true),
            (b"", false),
            (b"Abc123\n", false),
            (b"Abc12\n", false),
            (b"Abc123\r\n", false),
            (b"Abc12", false),
            (b"Abc1234", false),
            (b"Abc12!", false),
            (b" Abc12", false),
            ("\u{c4}bc12".as_bytes(), false),
            (&[0xff; 6], false),
        ];
        for (value, valid) in table {
            assert_eq!(Password::parse(value).is_ok(), *valid, "{value:?}");
        }
    }

    #[test]
    fn debug_shows_stars() {
        let password = Password::parse(b"Abc123").unwrap();
        assert_eq!(format!("{password:?}"), "Password(******)");
    }

    #[test]
    fn classes_are_counted() {
        for (value, all) in [("Abc123", true), ("abc123", false), ("ABC123", false), ("Abcdef", false)] {
            assert_eq!(Password::parse(value.as_bytes()).unwrap().has_all_classes(), all, "{value}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_pattern_matches_is_a_password(value in "[A-Za-z0-9]{6}") {
            let password = Password::parse(value.as_bytes()).unwrap();
            prop_assert_eq!(password.expose(), value);
        }

        #[test]
        fn whatever_is_accepted_matches_the_pattern(value in proptest::collection::vec(any::<u8>(), 0..9)) {
            let valid = value.len() == LENGTH && value.iter().all(u8::is_ascii_alphanumeric);
            prop_assert_eq!(Password::parse(&value).is_ok(), valid);
        }
    }
}
