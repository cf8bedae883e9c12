//! Parses the claims of JSON Web Tokens. Signatures are not checked: the emulator has no keys of providers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The claims that the emulator uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Claims {
    pub iss: Option<String>,
    pub sub: Option<String>,
    /// When it expires, in seconds since 1970.
    pub exp: Option<i64>,
}

impl Claims {
    /// Parses the claims of a token; `None`: not a JSON Web Token.
    pub fn read(token: &str) -> Option<Self> {
        let [header, claims, _signature] = token.split('.').collect::<Vec<_>>().try_into().ok()?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        serde_json::from_slice::<serde_json::Value>(&decode(header)?).ok()?;
        serde_json::from_slice(&decode(claims)?).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A token with these claims and a signature of nobody.
    pub(crate) fn jwt(claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", encode(r#"{"alg":"RS256"}"#), encode(claims), encode("signature"))
    }

    #[test]
    fn claims_are_read_from_tokens_of_three_parts() {
        let claims = Claims::read(&jwt(r#"{"iss":"i","sub":"s","exp":5,"aud":["a"]}"#)).unwrap();
        assert_eq!(claims, Claims { iss: Some("i".into()), sub: Some("s".into()), exp: Some(5) });
        for token in ["", "a.b", "a.b.c", "a.b.c.d", "e30.e30", "e30.!.x"] {
            assert_eq!(Claims::read(token), None, "{token}");
        }
    }
}
