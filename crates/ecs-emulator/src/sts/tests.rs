//! What STS refuses, and what the credentials it gives out are worth.

use super::super::access::AccessKey;
use super::super::action::Action;
use super::super::role::OidcTrust;
use super::super::token::tests::jwt;
use super::*;

const ROLE: &str = "acs:ram::2000000000000002:role/demo";
const PROVIDER: &str = "acs:ram::2000000000000002:oidc-provider/ack";

fn now() -> Timestamp {
    "2026-01-01T00:00:00.7Z".parse().unwrap()
}

fn state(role: Role) -> State {
    let mut state = State::new(vec![AccessKey::default()], 100, 1);
    state.roles.insert(role.arn.clone(), role);
    state
}

/// A call with a role and a session, changed by `parameters`; an empty value takes one away.
fn call(action: Action, key: &AccessKey, parameters: &[(&str, &str)]) -> Call {
    let mut all = Parameters::from([
        ("RoleArn".to_owned(), ROLE.to_owned()),
        ("RoleSessionName".to_owned(), "test".to_owned()),
    ]);
    all.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all.retain(|_, value| !value.is_empty());
    Call { action, parameters: all, denied: key.denied.contains(&action), caller: Caller::new(key) }
}

fn code<T>(outcome: Result<T, ApiError>) -> String {
    outcome.err().map(|error| format!("{} {}", error.status, error.code)).unwrap_or_default()
}

#[test]
fn each_refusal_of_assume_role_has_its_code() {
    let own = AccessKey::default();
    let root = AccessKey::default().principal("root");
    let stranger = AccessKey::default().account("3000000000000003");
    let denied = AccessKey::default().denied(Action::AssumeRole);
    let id = ("ExternalId", "team/a:1");
    let long = "x".repeat(65);
    let longer = "x".repeat(1225);
    let table = [
        (&own, vec![id], ""),
        (&own, vec![id, ("DurationSeconds", "900"), ("Policy", "{}")], ""),
        (&own, vec![id, ("DurationSeconds", "7200")], ""),
        (&own, vec![id, ("RoleSessionName", &long[1..])], ""),
        (&own, vec![id, ("RoleArn", "")], "400 MissingParameter.RoleArn"),
        (&own, vec![id, ("RoleArn", "demo")], "400 InvalidParameter.RoleArn"),
        (&own, vec![id, ("RoleArn", "acs:ram::1:role/demo")], "404 EntityNotExist.Role"),
        (&own, vec![id, ("RoleSessionName", "")], "400 InvalidParameter.RoleSessionName"),
        (&own, vec![id, ("RoleSessionName", "x")], "400 InvalidParameter.RoleSessionName"),
        (&own, vec![id, ("RoleSessionName", &long)], "400 InvalidParameter.RoleSessionName"),
        (&own, vec![id, ("RoleSessionName", "a b")], "400 InvalidParameter.RoleSessionName"),
        (&own, vec![id, ("DurationSeconds", "899")], "400 InvalidParameter.DurationSeconds"),
        (&own, vec![id, ("DurationSeconds", "7201")], "400 InvalidParameter.DurationSeconds"),
        (&own, vec![id, ("DurationSeconds", "1h")], "400 InvalidParameter.DurationSeconds"),
        (&own, vec![("ExternalId", "x")], "400 InvalidParameter.ExternalId"),
        (&own, vec![("ExternalId", "a b")], "400 InvalidParameter.ExternalId"),
        (&own, vec![("ExternalId", &longer)], "400 InvalidParameter.ExternalId"),
        (&own, vec![], "403 NoPermission"),
        (&own, vec![("ExternalId", "other")], "403 NoPermission"),
        (&stranger, vec![id], "403 NoPermission"),
        (&root, vec![id], "403 NoPermission"),
        (&denied, vec![id], "403 NoPermission"),
    ];
    let role = Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT);
    let mut state = state(role.external_id("team/a:1").max_session_seconds(7200));
    for (key, parameters, expected) in table {
        let call = call(Action::AssumeRole, key, &parameters);
        assert_eq!(code(assume_role(&mut state, &call, now())), expected, "{call:?}");
    }
    assert_eq!(state.issuer.issued.len(), 4, "one for each call that was not refused");
}

#[test]
fn each_refusal_of_assume_role_with_oidc_has_its_code() {
    let provider = ("OIDCProviderArn", PROVIDER);
    let good = jwt(r#"{"iss":"https://i","sub":"system:serviceaccount:a:b","exp":1900000000}"#);
    let other = jwt(r#"{"sub":"system:serviceaccount:a:c","exp":1900000000}"#);
    let old = jwt(r#"{"sub":"system:serviceaccount:a:b","exp":1000}"#);
    let token = ("OIDCToken", good.as_str());
    let no_permission = "401 AuthenticationFail.NoPermission";
    let elsewhere = "acs:ram::2000000000000002:role/elsewhere";
    let table = [
        (vec![provider, token], ""),
        (vec![provider, token, ("RoleArn", elsewhere)], no_permission),
        (vec![provider, token, ("RoleArn", "acs:ram::1:role/demo")], "404 EntityNotExist.Role"),
        (vec![provider, token, ("RoleSessionName", "x")], "400 InvalidParameter.RoleSessionName"),
        (vec![provider, token, ("DurationSeconds", "3601")], "400 InvalidParameter.DurationSeconds"),
        (vec![token], no_permission),
        (vec![token, ("OIDCProviderArn", "acs:ram::2:oidc-provider/none")], no_permission),
        (vec![provider], "401 AuthenticationFail.OIDCToken.Invalid"),
        (vec![provider, ("OIDCToken", "nonsense")], "401 AuthenticationFail.OIDCToken.Invalid"),
        (vec![provider, ("OIDCToken", &old)], "401 AuthenticationFail.OIDCToken.Expired"),
        (vec![provider, ("OIDCToken", &other)], no_permission),
    ];
    let trust = OidcTrust::new(PROVIDER).subject("system:serviceaccount:a:b");
    let mut state = state(Role::new(ROLE).oidc(trust));
    state.roles.insert(elsewhere.to_owned(), Role::new(elsewhere));
    for (parameters, expected) in table {
        let call = call(Action::AssumeRoleWithOidc, &AccessKey::default(), &parameters);
        let outcome = assume_role_with_oidc(&mut state, &call.parameters, now());
        assert_eq!(code(outcome), expected, "{parameters:?}");
    }
}

#[test]
fn credentials_are_good_for_what_the_role_is_and_for_as_long_as_the_reply_says() {
    let role = Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT).denied(Action::RebootInstance);
    let mut state = state(role.only(["i-1"]));
    let caller = AccessKey::default();
    let reply = assume_role(&mut state, &call(Action::AssumeRole, &caller, &[]), now()).unwrap();
    assert_eq!(reply["AssumedRoleUser"]["Arn"], format!("{ROLE}/test"));
    let key = state.access.keys.last().unwrap().clone();
    let issued = state.issuer.issued.last().unwrap();
    assert_eq!(reply["Credentials"], issued.fields());
    assert_eq!(reply["Credentials"]["Expiration"], "2026-01-01T01:00:00Z");
    assert_eq!(key.expires_at.unwrap().to_string(), "2026-01-01T01:00:00Z");
    assert!(key.id.starts_with("STS.") && key.id == issued.access_key_id);
    assert_eq!(key.security_token.as_ref(), Some(&issued.security_token));
    assert_eq!((key.account.as_str(), key.secret.len()), ("2000000000000002", 44));
    assert!(key.denied.contains(&Action::RebootInstance));
    assert_eq!(key.instances, Some(["i-1".to_owned()].into()));

    let who = get_caller_identity(&Caller::new(&key));
    assert_eq!(who["Arn"], "acs:ram::2000000000000002:assumed-role/demo/test");
    assert_eq!(who["IdentityType"], "AssumedRoleUser");
    assert_eq!(who["PrincipalId"], reply["AssumedRoleUser"]["AssumedRoleId"]);
    assert_eq!(who["PrincipalId"], format!("{}:test", who["RoleId"].as_str().unwrap()));
}

#[test]
fn a_caller_is_told_what_it_is() {
    let user = get_caller_identity(&Caller::new(&AccessKey::default()));
    let root = get_caller_identity(&Caller::new(&AccessKey::default().principal("root")));
    let account = AccessKey::DEFAULT_ACCOUNT;
    assert_eq!(user["Arn"], format!("acs:ram::{account}:user/emulator"));
    assert_eq!((&user["IdentityType"], &user["AccountId"]), (&json!("RAMUser"), &json!(account)));
    assert_eq!(user["UserId"].as_str().unwrap().len(), 18);
    assert_eq!((&root["IdentityType"], &root["UserId"]), (&json!("Account"), &json!(account)));
}

#[test]
fn a_set_life_holds_instead_of_the_one_asked_for_and_all_can_be_ended() {
    let mut state = state(Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT));
    let call = call(Action::AssumeRole, &AccessKey::default(), &[]);
    let mut life = |lifetime| {
        state.issuer.lifetime = lifetime;
        assume_role(&mut state, &call, now()).unwrap()["Credentials"]["Expiration"].clone()
    };
    assert_eq!(life(Some(Duration::ZERO)), "2026-01-01T00:00:00Z");
    assert_eq!(life(Some(Duration::from_secs(5))), "2026-01-01T00:00:05Z");
    assert_eq!(life(None), "2026-01-01T01:00:00Z");
    assert_eq!(state.expire_issued(now()), 2);
    assert_eq!(state.expire_issued(now()), 0);
    let ends = state.access.keys.iter().filter_map(|key| key.expires_at);
    assert!(ends.into_iter().all(|end| end <= now()));
}
