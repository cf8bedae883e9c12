//! The metadata service and the credentials URI, over HTTP.

use std::time::Duration;

use vncpassword_emulator::{AccessKey, Action, DEFAULT_REGION, Emulator, Fault, Garbage, Metadata, Role};

use crate::client::{Reply, Style, call, emulator, http, read};

const ROLE: &str = "acs:ram::1000000000000001:role/demo";
const TOKEN: &str = "/latest/api/token";
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";

async fn send(
    emulator: &Emulator,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> reqwest::Result<Reply> {
    let url = format!("{}{path}", emulator.url());
    let mut request = http(Duration::from_secs(1)).request(method.parse().unwrap(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request.send().await?).await
}

async fn get(emulator: &Emulator, path: &str, token: Option<&str>) -> Reply {
    let header = token.map(|token| ("X-aliyun-ecs-metadata-token", token));
    send(emulator, "GET", path, header.as_slice()).await.unwrap()
}

async fn put_token(emulator: &Emulator, seconds: &str) -> reqwest::Result<Reply> {
    send(emulator, "PUT", TOKEN, &[("X-aliyun-ecs-metadata-token-ttl-seconds", seconds)]).await
}

/// Whether credentials open what they should.
async fn are_good(emulator: &Emulator, reply: &Reply) -> bool {
    let fields = reply.json();
    let field = |name: &str| fields[name].as_str().unwrap().to_owned();
    let key = AccessKey::new(field("AccessKeyId"), field("AccessKeySecret"));
    let key = key.temporary(field("SecurityToken"), None);
    let parameters = [("RegionId", DEFAULT_REGION), ("InstanceIds", "[\"i-1\"]")];
    let reply = call(emulator, "DescribeInstances", &parameters, &Style::by(key)).await.unwrap();
    reply.status == 200 && reply.json()["TotalCount"] == 1
}

#[tokio::test]
async fn without_settings_there_is_no_metadata_service() {
    let emulator = emulator().await;
    emulator.cloud().put_role(Role::new(ROLE));
    assert_eq!(put_token(&emulator, "60").await.unwrap().status, 404);
    for path in [ROLES, &format!("{ROLES}demo"), "/latest/meta-data/instance-id"] {
        assert_eq!(get(&emulator, path, None).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_instance_finds_its_role_and_its_credentials() {
    let emulator = emulator().await;
    emulator.cloud().put_role(Role::new(ROLE));
    emulator.cloud().set_metadata(Some(Metadata::of_role(ROLE).hardened()));
    assert_eq!(put_token(&emulator, "0").await.unwrap().status, 400);
    let token = put_token(&emulator, "21600").await.unwrap().body;
    assert_eq!(get(&emulator, ROLES, Some(&token)).await.body, "demo");
    let path = format!("{ROLES}demo");
    let reply = get(&emulator, &path, Some(&token)).await;
    assert_eq!(reply.json()["Code"], "Success");
    assert!(reply.json()["LastUpdated"].is_string(), "{}", reply.body);
    assert!(are_good(&emulator, &reply).await);
    assert_eq!(get(&emulator, &path, Some(&token)).await.body, reply.body);
    assert_eq!(get(&emulator, &format!("{ROLES}other"), Some(&token)).await.status, 404);

    for token in [None, Some("wrong")] {
        assert_eq!(get(&emulator, ROLES, token).await.status, 403, "{token:?}");
    }
    emulator.cloud().set_metadata(Some(Metadata::of_role(ROLE)));
    assert_eq!(get(&emulator, ROLES, None).await.body, "demo");
    assert_eq!(get(&emulator, ROLES, Some("wrong")).await.status, 403, "a wrong token is not taken for none");

    let entries = emulator.cloud().journal();
    let credentials = entries.iter().find(|entry| entry.action == "MetadataCredentials").unwrap();
    assert!(credentials.metadata_token);
    assert_eq!(credentials.role_arn.as_deref(), Some(ROLE));
    assert_eq!(credentials.issued_access_key_id, Some(emulator.cloud().issued()[0].access_key_id.clone()));
    let v1 = entries.iter().filter(|entry| entry.action == "MetadataRole" && !entry.metadata_token);
    assert_eq!(v1.map(|entry| entry.http_status).collect::<Vec<_>>(), [Some(403), Some(200)]);
}

#[tokio::test]
async fn a_token_can_be_out_of_reach() {
    let emulator = emulator().await;
    emulator.cloud().put_role(Role::new(ROLE));
    emulator.cloud().set_metadata(Some(Metadata::of_role(ROLE).token_hangs()));
    assert!(put_token(&emulator, "60").await.unwrap_err().is_timeout());
    assert_eq!(get(&emulator, ROLES, None).await.body, "demo");
}

#[tokio::test]
async fn a_credentials_uri_gives_out_new_ones_each_time() {
    let emulator = emulator().await;
    emulator.cloud().put_role(Role::new(ROLE));
    let [first, second] =
        [get(&emulator, "/credentials/demo", None).await, get(&emulator, "/credentials/demo", None).await];
    assert_ne!(first.json()["AccessKeyId"], second.json()["AccessKeyId"]);
    assert!(are_good(&emulator, &first).await && are_good(&emulator, &second).await);
    let missing = get(&emulator, "/credentials/none", None).await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "EntityNotExist.Role"));
}

#[tokio::test]
async fn faults_hit_these_routes_too() {
    let emulator = emulator().await;
    let cloud = emulator.cloud();
    cloud.put_role(Role::new(ROLE));
    cloud.set_metadata(Some(Metadata::of_role(ROLE)));
    cloud.inject(Fault::hang().on(Action::MetadataToken).times(1));
    assert!(put_token(&emulator, "60").await.unwrap_err().is_timeout());
    cloud.inject(Fault::error(500, "InternalError").on(Action::MetadataRole).times(1));
    let reply = get(&emulator, ROLES, None).await;
    assert_eq!((reply.status, reply.body.starts_with("<html>")), (500, true));
    cloud.inject(Fault::error(200, "InternalError").on(Action::MetadataCredentials).times(1));
    let reply = get(&emulator, &format!("{ROLES}demo"), None).await;
    assert_eq!((reply.status, reply.code().as_str()), (200, "InternalError"));
    cloud.inject(Fault::body(Garbage::Truncated).on(Action::CredentialsUri).times(1));
    assert!(!get(&emulator, "/credentials/demo", None).await.body.ends_with('}'));
    cloud.set_limit(Action::CredentialsUri, Some(0));
    assert_eq!(get(&emulator, "/credentials/demo", None).await.code(), "Throttling");
}
