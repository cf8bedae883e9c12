//! STS against a server of raw bytes.

use super::*;
use crate::{
    credentials::test_support::{
        ID, ROLE, SECRETS, assert_no_secrets, context, session, sts_refusal, sts_reply,
    },
    test_server::{Act, Server, http},
};

fn caller(token: Option<&str>) -> Credentials {
    Credentials::new("LTAI5tCaller".into(), Secret::from(SECRETS[0]), token.map(Secret::from)).unwrap()
}

fn role() -> AssumeRole {
    AssumeRole {
        role_arn: RoleArn::parse(ROLE).unwrap(),
        session_name: session(),
        external_id: Some("uid/default".to_owned()),
        policy: None,
        duration: Duration::from_secs(900),
    }
}

#[tokio::test]
async fn a_role_is_assumed_by_a_signed_call() {
    let server = Server::start([Act::Send(http(200, "", &sts_reply(900)))]).await;
    let sts = context(&server.url()).sts;
    let credentials = sts.assume_role(&caller(Some(SECRETS[1])), &role()).await.unwrap();
    assert_eq!(credentials.access_key_id(), ID);
    assert_eq!(credentials.access_key_secret().expose(), SECRETS[0]);
    assert_eq!(credentials.security_token().map(Secret::expose), Some(SECRETS[1]));
    assert!(credentials.expires_at().is_some());

    let request = &server.requests()[0];
    let lines: Vec<_> = request.lines().collect();
    assert_eq!(
        lines[0],
        "POST /?DurationSeconds=900&ExternalId=uid%2Fdefault&RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2Ftester\
         &RoleSessionName=cluster.default HTTP/1.1"
    );
    for line in ["x-acs-action: AssumeRole", "x-acs-version: 2015-04-01", "content-length: 0"] {
        assert!(lines.contains(&line), "{line} in {request}");
    }
    assert!(request.contains("authorization: ACS3-HMAC-SHA256 Credential=LTAI5tCaller,"), "{request}");
}

#[tokio::test]
async fn unset_parameters_are_not_sent() {
    let server = Server::start([Act::Send(http(200, "", &sts_reply(900)))]).await;
    let role = AssumeRole { external_id: None, policy: Some("{}".to_owned()), ..role() };
    context(&server.url()).sts.assume_role(&caller(None), &role).await.unwrap();
    let request = &server.requests()[0];
    assert!(request.contains("&Policy=%7B%7D&") && !request.contains("ExternalId"), "{request}");
}

#[tokio::test]
async fn the_caller_identity_is_parsed_as_documented() {
    let reply = |account: &str, arn: &str| {
        let body = format!(
            r#"{{"IdentityType":"AssumedRoleUser","RequestId":"A-1","AccountId":{account:?},"PrincipalId":"1:x",
            "RoleId":"2","Arn":{arn:?}}}"#
        );
        Act::Send(http(200, "", &body))
    };
    let arn = "acs:ram::1234567890123456:assumed-role/tester/cluster.default";
    let quoting = format!("acs:ram::1:user/{}", SECRETS[0].to_uppercase());
    let acts = [
        reply("1234567890123456", arn),
        reply("1", "a<b>\n"),
        reply("1", &quoting),
        reply("", arn),
        reply("1\n", arn),
    ];
    let server = Server::start(acts).await;
    let sts = context(&server.url()).sts;
    let ask = || sts.get_caller_identity(&CALLER);
    let identity = ask().await.unwrap();
    assert_eq!((identity.account.as_str(), identity.arn.as_str()), ("1234567890123456", arn));
    assert_eq!(identity.identity_type, "AssumedRoleUser");
    for _ in 0..2 {
        assert_eq!(ask().await.unwrap().arn, WITHHELD);
    }
    for _ in 0..2 {
        let error = ask().await.unwrap_err();
        assert!(matches!(error, Error::UnreadableReply { kind: Unreadable::WrongShape, .. }), "{error}");
    }
}

static CALLER: std::sync::LazyLock<Credentials> = std::sync::LazyLock::new(|| caller(None));

#[tokio::test]
async fn a_refusal_shows_its_code_unless_it_contains_a_secret() {
    let codes = ["EntityNotExist.Role", "Zq7xK2mWp9Lr4t", "x.zq7xk2mwp9lr4t", "No-LTAI5tCaller"];
    let server = Server::start(codes.map(|code| Act::Send(sts_refusal(code)))).await;
    let sts = context(&server.url()).sts;
    let error = sts.assume_role(&CALLER, &role()).await.unwrap_err();
    assert_eq!(assert_no_secrets(&error), "AssumeRole was answered with EntityNotExist.Role (HTTP 400)");
    for _ in 0..3 {
        let error = sts.assume_role(&CALLER, &role()).await.unwrap_err();
        assert_eq!(assert_no_secrets(&error), "AssumeRole was answered with UnrecognizedCode (HTTP 400)");
        assert!(!format!("{error:?}").contains("LTAI5tCaller"));
    }
}

#[tokio::test]
async fn the_clock_skew_is_measured_before_the_expiry_is_checked() {
    // Good for half an hour by a clock that is an hour behind ours: expired, if ours were asked.
    let date = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let date = format!("date: {}\r\n", date.strftime("%a, %d %b %Y %H:%M:%S GMT"));
    let server = Server::start([Act::Send(http(200, &date, &sts_reply(-1800)))]).await;
    let context = context(&server.url());
    assert!(context.sts.assume_role(&CALLER, &role()).await.is_ok());
    let behind = jiff::Timestamp::now().duration_since(context.rpc.clock.now());
    assert!((3590..3610).contains(&behind.as_secs()), "{behind:?}");
}
