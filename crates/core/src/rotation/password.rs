//! The password as a type: what counts as one, and no way to print it.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of a VNC password in characters, fixed by the API.
pub const LENGTH: usize = 6;

/// What a password is made of.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Bytes below this (248) fall on each character equally often, four times. The others would favour the first eight.
const FAIR: usize = 256 - 256 % ALPHABET.len();
/// Random bytes for one try, in which at least six are fair but once in 660 times.
const TRY: usize = LENGTH + 2;

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

    /// Draws a password from random bytes: any that holds upper case, lower case and a digit, each as likely as any
    /// other. There are 33,294,892,800 of them, so a guess at one is worth a little under 35 bits.
    ///
    /// `fill` fills the whole buffer from a generator fit for secrets, independently each time. What falls short of the
    /// rule is thrown away whole and drawn again: mending it would make some passwords likelier than others. This
    /// takes 1.7 calls of `fill` on average; with a generator stuck at one value it would never end.
    ///
    /// # Errors
    /// What `fill` answers, at once.
    pub fn draw<E>(mut fill: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new([0; TRY]);
        loop {
            fill(bytes.as_mut_slice())?;
            let mut password = Self([0; LENGTH]);
            let characters = bytes.iter().copied().filter_map(character);
            for (place, character) in password.0.iter_mut().zip(characters) {
                *place = character;
            }
            let complete = password.0.iter().all(u8::is_ascii_alphanumeric);
            if complete && password.has_all_classes() {
                return Ok(password);
            }
        }
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

/// The character that a random byte stands for; none for those that would make some likelier than others.
fn character(byte: u8) -> Option<u8> {
    let number = usize::from(byte);
    (number < FAIR).then(|| ALPHABET[number % ALPHABET.len()])
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(******)")
    }
}

#[cfg(test)]
mod fairness;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, TryRng, rngs::StdRng};

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

    /// Draws from buffers written down beforehand; tells how many were left over.
    fn draw(buffers: &[[u8; TRY]]) -> (Result<Password, &'static str>, usize) {
        let mut left = buffers.iter();
        let drawn = Password::draw(|bytes| {
            bytes.copy_from_slice(left.next().ok_or("no more")?);
            Ok(())
        });
        (drawn, left.len())
    }

    #[test]
    fn bytes_that_would_favour_some_characters_are_passed_over() {
        // Each character four times, in turn; 248 and beyond stand for none.
        for byte in 0..248 {
            assert_eq!(character(byte), Some(ALPHABET[usize::from(byte) % 62]));
        }
        assert!((248..=255).all(|byte| character(byte).is_none()));
        let (drawn, _) = draw(&[[255, 0, 26, 248, 52, 61, 247, 62]]);
        assert_eq!(drawn.unwrap().expose(), "Aa099A");
    }

    #[test]
    fn what_breaks_the_rule_is_thrown_away_whole() {
        let tries = [
            [0, 26, 52, 0, 26, 255, 255, 255], // five characters
            [0, 26, 0, 26, 0, 26, 52, 52],     // no digit among the first six
            [0, 52, 0, 52, 0, 52, 26, 26],     // no lower case
            [26, 52, 26, 52, 26, 52, 0, 0],    // no upper case
            [52, 26, 0, 53, 27, 1, 2, 2],
            [0; TRY],
        ];
        let (drawn, left) = draw(&tries);
        assert_eq!((drawn.unwrap().expose(), left), ("0aA1bB", 1));
    }

    #[test]
    fn without_random_bytes_there_is_no_password() {
        assert_eq!(draw(&[]).0, Err("no more"));
        assert_eq!(draw(&[[0; TRY]]).0, Err("no more"));
    }

    proptest! {
        #[test]
        fn whatever_is_drawn_keeps_the_strictest_reading_of_the_rule(seed in any::<u64>()) {
            let mut random = StdRng::seed_from_u64(seed);
            let Ok(password) = Password::draw(|bytes| random.try_fill_bytes(bytes));
            prop_assert!(password.has_all_classes());
            prop_assert_eq!(Password::parse(password.expose().as_bytes()), Ok(password));
        }

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
