//! STS and accounts, over HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use vncpassword_emulator::{
    AccessKey, Action, Apply, Clock, DEFAULT_REGION, Emulator, Fault, Garbage, Instance, OidcTrust, Options,
    Role,
};

use crate::client::{Reply, Style, call, emulator, http, read};

const ROLE: &str = "acs:ram::2000000000000002:role/demo";
const PROVIDER: &str = "acs:ram::2000000000000002:oidc-provider/ack";
const ASSUME: [(&str, &str); 2] = [("RoleArn", ROLE), ("RoleSessionName", "test")];

/// The key in a reply of STS.
fn key(reply: &Reply) -> AccessKey {
    let fields = &reply.json()["Credentials"];
    let field = |name: &str| fields[name].as_str().unwrap_or_else(|| panic!("{}", reply.body)).to_owned();
    AccessKey::new(field("AccessKeyId"), field("AccessKeySecret")).temporary(field("SecurityToken"), None)
}

async fn assume(emulator: &Emulator, more: &[(&str, &str)]) -> Reply {
    call(emulator, "AssumeRole", &[ASSUME.as_slice(), more].concat(), &Style::sts()).await.unwrap()
}

/// The code of a password set with that key; empty: it was accepted.
async fn modify(emulator: &Emulator, id: &str, key: &AccessKey) -> String {
    let parameters = [("RegionId", DEFAULT_REGION), ("InstanceId", id), ("VncPassword", "Abc123")];
    let style = Style::by(key.clone());
    call(emulator, "ModifyInstanceVncPasswd", &parameters, &style).await.unwrap().code()
}

/// An emulator with an instance of another account, and a role there that trusts the default one.
async fn two_accounts() -> Emulator {
    let emulator = emulator().await;
    emulator.cloud().put_instance(Instance::new("i-there").account("2000000000000002"));
    emulator.cloud().put_instance(Instance::new("i-closed").account("2000000000000002"));
    let role = Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT);
    emulator.cloud().put_role(role.external_id("agreed").only(["i-there"]));
    emulator
}

#[tokio::test]
async fn an_assumed_role_reaches_the_instances_of_its_account() {
    let emulator = two_accounts().await;
    let own = AccessKey::default();
    assert_eq!(modify(&emulator, "i-there", &own).await, "InvalidInstanceId.NotFound");
    assert_eq!(assume(&emulator, &[]).await.code(), "NoPermission");
    assert_eq!(assume(&emulator, &[("ExternalId", "wrong")]).await.code(), "NoPermission");
    let key = key(&assume(&emulator, &[("ExternalId", "agreed"), ("DurationSeconds", "900")]).await);
    assert_eq!(modify(&emulator, "i-there", &key).await, "");
    assert_eq!(modify(&emulator, "i-1", &key).await, "Forbidden.RAM");
    assert_eq!(modify(&emulator, "i-closed", &key).await, "Forbidden.RAM");

    let who =
        call(&emulator, "GetCallerIdentity", &[], &Style { key: key.clone(), ..Style::sts() }).await.unwrap();
    assert_eq!(who.json()["Arn"], "acs:ram::2000000000000002:assumed-role/demo/test");

    let entries = emulator.cloud().journal();
    let assumed = &entries[3];
    assert_eq!((assumed.action.as_str(), assumed.role_arn.as_deref()), ("AssumeRole", Some(ROLE)));
    assert_eq!(assumed.role_session_name.as_deref(), Some("test"));
    assert_eq!(
        (assumed.external_id.as_deref(), assumed.duration_seconds.as_deref()),
        (Some("agreed"), Some("900"))
    );
    assert_eq!(assumed.account.as_deref(), Some(AccessKey::DEFAULT_ACCOUNT));
    assert_eq!(assumed.issued_access_key_id.as_ref(), Some(&key.id));
    assert_eq!(entries[4].account.as_deref(), Some("2000000000000002"));
    assert_eq!(entries[4].access_key_id.as_ref(), Some(&key.id));
}

#[tokio::test]
async fn what_was_given_out_is_known_and_can_be_ended() {
    let clock = Clock::fixed("2030-01-01T00:00:00Z".parse().unwrap());
    let emulator = Emulator::start(Options { clock, ..Options::default() }).await.unwrap();
    let cloud = emulator.cloud();
    cloud.put_instance(Instance::new("i-there").account("2000000000000002"));
    cloud.put_role(Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT));
    let expired = "InvalidSecurityToken.Expired";

    let first = key(&assume(&emulator, &[]).await);
    cloud.advance(Duration::from_secs(3599));
    assert_eq!(modify(&emulator, "i-there", &first).await, "");
    cloud.advance(Duration::from_secs(1));
    assert_eq!(modify(&emulator, "i-there", &first).await, expired);

    let second = key(&assume(&emulator, &[]).await);
    assert_eq!(cloud.expire_issued(), 1);
    assert_eq!(modify(&emulator, "i-there", &second).await, expired);

    cloud.set_sts_lifetime(Some(Duration::ZERO));
    let third = key(&assume(&emulator, &[]).await);
    assert_eq!(modify(&emulator, "i-there", &third).await, expired);

    cloud.set_sts_lifetime(Some(Duration::from_secs(2)));
    let fourth = key(&assume(&emulator, &[]).await);
    assert_eq!(modify(&emulator, "i-there", &fourth).await, "");
    assert!(cloud.revoke_access_key(&fourth.id));
    assert_eq!(modify(&emulator, "i-there", &fourth).await, "InvalidAccessKeyId.NotFound");

    let given_out: Vec<_> = cloud.issued().into_iter().map(|issued| issued.access_key_id).collect();
    assert_eq!(given_out, [first.id, second.id, third.id, fourth.id]);
}

/// Sends the parameters of `AssumeRoleWithOIDC` as the official clients do: all in the query, by GET or POST, or the
/// longer half in a form.
async fn with_oidc(emulator: &Emulator, method: &str, form: bool, token: &str) -> Reply {
    let query = [("Action", "AssumeRoleWithOIDC"), ("Version", "2015-04-01"), ("Format", "JSON")];
    let rest = [ASSUME.as_slice(), &[("OIDCProviderArn", PROVIDER), ("OIDCToken", token)]].concat();
    let encode = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", value.replace('+', "%2B")));
        pairs.collect::<Vec<_>>().join("&")
    };
    let (query, body) = if form {
        (encode(&query), encode(&rest))
    } else {
        (encode(&[query.as_slice(), &rest].concat()), String::new())
    };
    let url = format!("{}/?{query}", emulator.url());
    let mut request = http(Duration::from_secs(1)).request(method.parse().unwrap(), url);
    if form {
        request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
    }
    read(request.send().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_token_of_an_identity_provider_is_taken_in_every_form_that_clients_send() {
    let emulator = two_accounts().await;
    let trust = OidcTrust::new(PROVIDER).token("good+token").expired("old");
    emulator.cloud().put_role(Role::new(ROLE).oidc(trust));
    for (method, form) in [("POST", true), ("POST", false), ("GET", false)] {
        let key = key(&with_oidc(&emulator, method, form, "good+token").await);
        assert_eq!(modify(&emulator, "i-there", &key).await, "", "{method}, form: {form}");
    }
    let old = with_oidc(&emulator, "POST", true, "old").await;
    assert_eq!((old.status, old.code().as_str()), (401, "AuthenticationFail.OIDCToken.Expired"));
    let entry = emulator.cloud().journal().remove(0);
    assert_eq!((entry.action.as_str(), entry.account), ("AssumeRoleWithOIDC", None));
    assert_eq!((entry.role_arn.as_deref(), entry.access_key_id), (Some(ROLE), None));
}

#[tokio::test]
async fn an_action_belongs_to_the_version_of_its_api() {
    let emulator = emulator().await;
    let table = [
        ("DescribeRegions", Style::sts(), "InvalidVersion"),
        ("GetCallerIdentity", Style::default(), "InvalidVersion"),
        ("GetCallerIdentity", Style::sts(), ""),
        ("MetadataToken", Style::sts(), "InvalidAction.NotFound"),
    ];
    for (action, style, expected) in table {
        assert_eq!(call(&emulator, action, &[], &style).await.unwrap().code(), expected, "{action}");
    }
}

#[tokio::test]
async fn the_older_signature_is_read_by_sts_alone() {
    let emulator = emulator().await;
    let table = [
        ("Action=DescribeRegions&Version=2014-05-26", "MissingAccessKeyId"),
        ("Action=GetCallerIdentity&Version=2015-04-01", "MissingTimestamp"),
    ];
    for (query, expected) in table {
        let key = AccessKey::DEFAULT_ID;
        let url = format!("{}/?{query}&Format=JSON&AccessKeyId={key}&Signature=x", emulator.url());
        let reply = http(Duration::from_secs(1)).get(url).send().await.unwrap();
        assert_eq!(read(reply).await.unwrap().code(), expected, "{query}");
    }
}

#[tokio::test]
async fn faults_and_limits_hit_sts_as_they_hit_ecs() {
    let emulator = two_accounts().await;
    let cloud = emulator.cloud();
    cloud.inject(Fault::error(503, "ServiceUnavailable").on(Action::AssumeRole).times(1));
    assert_eq!(assume(&emulator, &[("ExternalId", "agreed")]).await.status, 503);
    cloud.inject(Fault::body(Garbage::Html).on(Action::AssumeRole).times(1));
    assert!(assume(&emulator, &[("ExternalId", "agreed")]).await.body.starts_with("<html>"));
    let entry = cloud.journal().pop().unwrap();
    assert_eq!(
        entry.issued_access_key_id,
        Some(cloud.issued()[0].access_key_id.clone()),
        "given out, not seen"
    );
    cloud.inject(Fault { apply: Some(Apply::Never), ..Fault::reset_before() }.on(Action::GetCallerIdentity));
    assert!(call(&emulator, "GetCallerIdentity", &[], &Style::sts()).await.is_err());
    cloud.set_limit(Action::AssumeRole, Some(1));
    let codes = [assume(&emulator, &[]).await.code(), assume(&emulator, &[]).await.code()];
    assert_eq!(codes, ["NoPermission", "Throttling.User"]);
}

#[tokio::test]
async fn each_account_has_a_limit_of_its_own() {
    let emulator = two_accounts().await;
    let key = key(&assume(&emulator, &[("ExternalId", "agreed")]).await);
    emulator.cloud().set_limit(Action::ModifyInstanceVncPasswd, Some(1));
    let own = AccessKey::default();
    assert_eq!(modify(&emulator, "i-1", &own).await, "");
    assert_eq!(modify(&emulator, "i-1", &own).await, "Throttling");
    assert_eq!(modify(&emulator, "i-there", &key).await, "");
    assert_eq!(modify(&emulator, "i-there", &key).await, "Throttling");
}

#[tokio::test]
async fn roles_and_credentials_have_control_routes() {
    let emulator = two_accounts().await;
    let control = async |method: &str, route: &str, body: Value| {
        let url = format!("{}/_emulator/{route}", emulator.url());
        let request = http(Duration::from_secs(1)).request(method.parse().unwrap(), url);
        let reply = request.body(if body.is_null() { String::new() } else { body.to_string() }).send();
        read(reply.await.unwrap()).await.unwrap().json()
    };
    let other = "acs:ram::1000000000000001:role/other";
    let role = json!({"externalId": "x1", "trusted": ["1"], "maxSessionSeconds": 7200, "denied": ["RebootInstance"],
        "oidc": {"providerArn": PROVIDER, "tokens": ["t"]}, "instances": ["i-1"]});
    assert_eq!(control("PUT", &format!("roles/{other}"), role).await, json!({}));
    assert_eq!(
        control("PUT", "roles", json!([{"arn": ROLE, "trusted": [AccessKey::DEFAULT_ACCOUNT]}])).await,
        json!({})
    );
    let roles = control("GET", "roles", Value::Null).await;
    assert_eq!((&roles[0]["arn"], &roles[1]["arn"]), (&json!(other), &json!(ROLE)));
    assert_eq!((&roles[0]["oidc"]["tokens"], &roles[1]["oidc"]), (&json!(["t"]), &Value::Null));
    assert_eq!(control("DELETE", &format!("roles/{other}"), Value::Null).await, json!({}));
    assert_eq!(emulator.cloud().roles().len(), 1);

    assert_eq!(control("PUT", "issued/lifetime", json!(5000)).await, json!({}));
    assert_eq!(emulator.cloud().sts_lifetime(), Some(Duration::from_secs(5)));
    let key = key(&assume(&emulator, &[]).await);
    let issued = control("GET", "issued", Value::Null).await;
    assert_eq!(
        (&issued[0]["accessKeyId"], &issued[0]["accessKeySecret"]),
        (&json!(key.id), &json!(key.secret))
    );
    assert_eq!(issued[0]["securityToken"], json!(key.security_token));
    assert_eq!(control("POST", "issued/expire", Value::Null).await, json!({"expired": 1}));
    assert_eq!(control("DELETE", "issued/lifetime", Value::Null).await, json!({}));
    assert_eq!(emulator.cloud().sts_lifetime(), None);

    let settings = json!({"roleArn": ROLE, "v1": false, "tokenHangs": false});
    assert_eq!(control("PUT", "metadata", settings.clone()).await, settings);
    assert_eq!(control("GET", "metadata", Value::Null).await, settings);
    assert_eq!(control("DELETE", "metadata", Value::Null).await, Value::Null);
}
