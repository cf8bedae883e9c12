//! The signature against the published vector, and its laws for whatever input.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use proptest::{collection::btree_map, prelude::*};

use super::*;
use crate::credentials::Secret;

/// Everything that goes into a signature, owned.
#[derive(Clone, Debug)]
struct Input {
    action: String,
    version: String,
    host: String,
    parameters: BTreeMap<String, String>,
    id: String,
    secret: String,
    token: Option<String>,
    second: i64,
    nonce: [u8; 16],
}

impl Input {
    fn sign(&self) -> Signed {
        let parameters: Vec<_> = self.parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.sign_parameters(&parameters)
    }

    fn sign_parameters(&self, parameters: &[(&str, &str)]) -> Signed {
        let Self { action, version, host, id, secret, token, second, nonce, .. } = self;
        let token = token.as_deref().map(Secret::from);
        let credentials = Credentials::new(id.clone(), Secret::from(secret.as_str()), token).unwrap();
        let date = Timestamp::from_second(*second).unwrap();
        let request = Request { action, version, host, parameters };
        sign(&request, &credentials, date, Nonce::from(*nonce)).unwrap()
    }
}

fn authorization(signed: &Signed) -> &str {
    signed.headers[header::AUTHORIZATION].to_str().unwrap()
}

fn signature(signed: &Signed) -> &str {
    authorization(signed).rsplit('=').next().unwrap()
}

/// The vector that the API's documentation publishes.
fn published() -> Input {
    Input {
        action: "RunInstances".into(),
        version: "2014-05-26".into(),
        host: "ecs.cn-shanghai.aliyuncs.com".into(),
        parameters: BTreeMap::from([
            ("RegionId".into(), "cn-shanghai".into()),
            ("ImageId".into(), "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd".into()),
        ]),
        id: "YourAccessKeyId".into(),
        secret: "YourAccessKeySecret".into(),
        token: None,
        second: "2023-10-26T10:22:32Z".parse::<Timestamp>().unwrap().as_second(),
        nonce: 0x3156_8532_99f3_13e2_3d16_73dc_12e1_703d_u128.to_be_bytes(),
    }
}

#[test]
fn the_published_test_vector_matches() {
    let signed = published().sign();
    assert_eq!(
        authorization(&signed),
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;\
         x-acs-date;x-acs-signature-nonce;x-acs-version,\
         Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    );
    assert_eq!(signed.headers["x-acs-date"], "2023-10-26T10:22:32Z");
    assert_eq!(signed.headers["x-acs-signature-nonce"], "3156853299f313e23d1673dc12e1703d");
}

#[test]
fn a_security_token_is_sent_and_signed_with_the_id() {
    let signed = Input { token: Some("hush+hush==".into()), ..published() }.sign();
    assert!(authorization(&signed).contains(
        "SignedHeaders=host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;\
         x-acs-security-token;x-acs-signature-nonce;x-acs-version,"
    ));
    assert_eq!(signed.headers["x-acs-security-token"], "hush+hush==");
    assert_eq!(signed.headers["x-acs-accesskey-id"], "YourAccessKeyId");
    let shown = format!("{:?}", signed.headers);
    assert!(!shown.contains("hush") && !shown.contains("YourAccessKeyId"), "{shown}");
}

#[test]
fn the_query_is_sorted_and_encoded_by_rfc_3986() {
    let query = canonical_query(&[("b", "a b*~+/é"), ("a.1", ""), ("a", "-_.%")]);
    assert_eq!(*query, "a=-_.%25&a.1=&b=a%20b%2A~%2B%2F%C3%A9");
}

#[test]
fn values_invalid_in_a_header_are_an_error() {
    let input = published();
    let credentials = Credentials::new("id".into(), Secret::from("secret"), None).unwrap();
    let request = Request { action: "a\nb", version: "", host: "", parameters: &[] };
    assert!(sign(&request, &credentials, Timestamp::UNIX_EPOCH, Nonce::from(input.nonce)).is_err());
}

#[test]
fn dates_have_no_fractions() {
    for (moment, date) in [
        (Timestamp::UNIX_EPOCH, "1970-01-01T00:00:00Z"),
        ("2024-05-01T12:00:00.999999999Z".parse().unwrap(), "2024-05-01T12:00:00Z"),
    ] {
        let credentials = Credentials::new("id".into(), Secret::from("secret"), None).unwrap();
        let request = Request { action: "", version: "", host: "", parameters: &[] };
        let signed = sign(&request, &credentials, moment, Nonce::from([0; 16])).unwrap();
        assert_eq!(signed.headers["x-acs-date"], date);
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    let request = ("[A-Za-z]{1,12}", "[0-9-]{10}", "[a-z.]{1,12}", btree_map(".{1,8}", ".{0,12}", 0..6));
    let credentials = ("[!-~]{1,24}", "[!-~]{1,99}", proptest::option::of("[!-~]{1,40}"));
    let moment = (0..253_402_207_200_i64, any::<[u8; 16]>());
    (request, credentials, moment).prop_map(|(request, credentials, moment)| {
        let (action, version, host, parameters) = request;
        let (id, secret, token) = credentials;
        let (second, nonce) = moment;
        Input { action, version, host, parameters, id, secret, token, second, nonce }
    })
}

/// The same input with one signed part changed, whichever `part` names.
fn changed(input: &Input, part: usize) -> Input {
    let mut other = input.clone();
    match part {
        0 => other.action.push('x'),
        1 => other.version.push('1'),
        2 => other.host.push('x'),
        3 => other.parameters.entry("VncPassword".into()).or_default().push('x'),
        4 => other.secret.push('x'),
        5 => other.token.get_or_insert_default().push('x'),
        6 => other.second += 1,
        7 => other.nonce[15] ^= 1,
        // Without a token the id is not signed but named.
        _ => {
            other.token.get_or_insert_with(|| "token".into());
            other.id.push('x');
        }
    }
    other
}

proptest! {
    #[test]
    fn the_order_of_parameters_does_not_matter(input in inputs(), turn in 0_usize..6) {
        let mut parameters: Vec<_> = input.parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        let straight = input.sign_parameters(&parameters);
        parameters.reverse();
        let middle = turn.min(parameters.len());
        parameters.rotate_left(middle);
        let turned = input.sign_parameters(&parameters);
        prop_assert_eq!(&*straight.query, &*turned.query);
        prop_assert_eq!(straight.headers, turned.headers);
    }

    #[test]
    fn decoding_the_query_returns_the_parameters(input in inputs()) {
        let signed = input.sign();
        let decode = |text| percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let pairs = signed.query.split('&').filter(|pair| !pair.is_empty());
        let decoded: BTreeMap<_, _> =
            pairs.map(|pair| pair.split_once('=').unwrap()).map(|(name, value)| (decode(name), decode(value))).collect();
        prop_assert_eq!(decoded, input.parameters);
    }

    #[test]
    fn the_http_client_does_not_change_the_query(input in inputs()) {
        let signed = input.sign();
        let url = reqwest::Url::parse(&format!("https://example.com/?{}", *signed.query)).unwrap();
        prop_assert_eq!(url.query(), Some(signed.query.as_str()));
    }

    #[test]
    fn every_part_is_signed(input in inputs(), part in 0_usize..9) {
        let (one, other) = (input.sign(), changed(&input, part).sign());
        prop_assert_ne!(signature(&one), signature(&other));
    }

    #[test]
    fn the_token_is_the_only_secret_in_the_headers(input in inputs()) {
        let secret = format!("hush{}", input.secret);
        let signed = Input { secret: secret.clone(), ..input }.sign();
        prop_assert!(signed.headers.values().all(|value| !value.to_str().unwrap().contains(&secret)));
    }
}
