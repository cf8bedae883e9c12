//! The shapes in which a secret may show up, and the search for them.

use std::fmt::Write;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Secrets to look for, each in all its shapes.
#[derive(Default)]
pub struct Traces(Vec<Trace>);

struct Trace {
    /// What it is, for the failure's message.
    name: String,
    shapes: Vec<String>,
}

impl Traces {
    pub fn add(&mut self, name: impl Into<String>, secret: impl AsRef<[u8]>) {
        let shapes = shapes(secret.as_ref());
        self.0.push(Trace { name: name.into(), shapes });
    }

    /// Says what of it is found in a text, and where.
    pub fn found_in(&self, text: &str) -> Vec<String> {
        let shows = |trace: &Trace| {
            let at = trace.shapes.iter().find_map(|shape| Some((text.find(shape)?, shape)))?;
            Some(format!("{} as {:?} in: {}", trace.name, at.1, around(text, at.0)))
        };
        self.0.iter().filter_map(shows).collect()
    }

    /// Fails where a text holds a trace.
    pub fn assert_none_in(&self, place: &str, text: &str) {
        let found = self.found_in(text);
        assert!(found.is_empty(), "{place} ({} bytes): {found:#?}", text.len());
    }
}

/// The secret itself, percent encoded as little and as much as can be, in hex, as a list of bytes, in base64 at
/// whatever place of a longer text.
fn shapes(secret: &[u8]) -> Vec<String> {
    let hex = |prefix: &str, upper: bool| {
        secret.iter().fold(String::new(), |mut text, byte| {
            let digits = if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
            let _ = write!(text, "{prefix}{digits}");
            text
        })
    };
    let list = format!("{secret:?}");
    let mut shapes = vec![hex("", false), hex("", true), hex("%", false), hex("%", true)];
    shapes.push(list.trim_matches(['[', ']']).to_owned());
    shapes.extend((0..3).map(|offset| base64_inside(secret, offset)));
    if let Ok(text) = std::str::from_utf8(secret) {
        let once = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        shapes.push(utf8_percent_encode(&once, NON_ALPHANUMERIC).to_string());
        shapes.push(once);
        shapes.push(text.trim().to_owned());
    }
    assert!(shapes.iter().all(|shape| shape.len() >= 5), "what is that short is found by chance");
    shapes
}

/// The characters of base64 that come of these bytes alone, whatever stands around them; `offset` bytes of a group
/// of three stand before.
fn base64_inside(bytes: &[u8], offset: usize) -> String {
    let padded = [&[0].repeat(offset), bytes].concat();
    let encoded = base64(&padded);
    encoded[(8 * offset).div_ceil(6)..8 * padded.len() / 6].to_owned()
}

/// Base64 without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|group| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(group.get(i).copied().unwrap_or(0)));
        (0..=group.len()).map(move |i| char::from(DIGITS[bits >> (18 - 6 * i) & 63]))
    });
    digits.collect()
}

fn around(text: &str, at: usize) -> &str {
    let start = text.floor_char_boundary(at.saturating_sub(200));
    &text[start..text.ceil_char_boundary((at + 100).min(text.len()))]
}

#[test]
fn a_secret_is_found_in_every_shape() {
    let mut traces = Traces::default();
    traces.add("it", "Zq7+Kv");
    for text in [
        "VncPassword=Zq7+Kv&x",
        "VncPassword=Zq7%2BKv",
        "VncPassword%3DZq7%252BKv",
        "%5a%71%37%2b%4b%76",
        "%5A%71%37%2B%4B%76",
        "5a71372b4b76",
        "Password([90, 113, 55, 43, 75, 118])",
        "WnE3K0t2",
        // {"password":"Zq7+Kv"}, and with one and two bytes before it.
        "eyJwYXNzd29yZCI6IlpxNytLdiJ9",
        "IHsicGFzc3dvcmQiOiJacTcrS3YifQ",
        "ICB7InBhc3N3b3JkIjoiWnE3K0t2In0",
    ] {
        assert_eq!(traces.found_in(&format!("before {text} after")).len(), 1, "{text}");
    }
    traces.assert_none_in("a text without it", "VncPassword(******) zq7+kv");
}
