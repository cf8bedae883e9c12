//! Asks the operator who it is, by running its `whoami` in its Pod. Thin: what it says is read by a function of its own.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::AttachParams, client::UpgradeConnectionError};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::snapshot::{Identity, PodState};
use vncpassword_core::api::Whoami;

/// How long it may take: it asks the cloud, and perhaps a metadata service that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const LONGEST: u64 = 64 * 1024;
/// The container of the chart.
const CONTAINER: &str = "operator";
/// What it takes to run a command in a Pod: an API server asks for one or the other, or both.
const RIGHT: &str = "get and create pods/exec";

/// Runs it in that Pod.
pub async fn ask(client: &Client, pod: &PodState) -> Identity {
    match tokio::time::timeout(PATIENCE, run(client, pod)).await {
        Ok(Ok((out, err))) => read(&out, &err),
        Ok(Err(error)) => refused(&error),
        Err(_) => Identity::Unknown(format!("Pod {} did not answer in time", pod.name)),
    }
}

async fn run(client: &Client, pod: &PodState) -> Result<(String, String), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let attach = AttachParams::default().container(CONTAINER).stdin(false).stdout(true).stderr(true);
    let command = ["vncpassword-operator", "whoami", "-o", "json"];
    let mut process = pods.exec(&pod.name, command, &attach).await?;
    let (out, err) = (process.stdout(), process.stderr());
    Ok(futures::join!(all(out), all(err)))
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What was said until it broke off is read as well: it is unreadable or it is not.
        stream.take(LONGEST).read_to_end(&mut bytes).await.ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// From what it has written to its two streams. It also ends with 1 where a right is missing, and says so in its answer.
pub fn read(out: &str, err: &str) -> Identity {
    let complaint = || err.lines().map(str::trim).rfind(|line| !line.is_empty());
    if out.trim().is_empty() {
        return match complaint() {
            // Its own last words.
            Some(line) if line.starts_with("vncpassword-operator:") => {
                Identity::Failed(line.trim_start_matches("vncpassword-operator:").trim().to_owned())
            }
            Some(line) => Identity::Unknown(line.to_owned()),
            None => Identity::Unknown("whoami said nothing".to_owned()),
        };
    }
    match serde_json::from_str::<Whoami>(out) {
        Ok(whoami) => Identity::Reported(Box::new(whoami)),
        Err(error) => Identity::Unknown(format!("what whoami said cannot be read: {error}")),
    }
}

/// From an error of the connection.
pub fn refused(error: &kube::Error) -> Identity {
    match error {
        kube::Error::Api(status) if status.code == 403 => Identity::Denied(RIGHT.to_owned()),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code))
            if code.as_u16() == 403 =>
        {
            Identity::Denied(RIGHT.to_owned())
        }
        error => Identity::Unknown(format!("its Pod cannot be asked: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use futures::SinkExt;
    use serde_json::json;
    use tokio_tungstenite::tungstenite::{
        Message,
        handshake::server::{Request, Response},
    };

    use super::*;
    use vncpassword_core::api::CloudRight;

    /// As the operator writes it.
    fn answer() -> Whoami {
        Whoami {
            provider: "oidc".to_owned(),
            account: "1000000000000001".to_owned(),
            arn: "acs:ram::1000000000000001:assumed-role/console/cluster.vnc".to_owned(),
            identity_type: "AssumedRoleUser".to_owned(),
            expires_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            expires_in_seconds: Some(3540),
            region: Some("cn-hangzhou".to_owned()),
            rights: vec![CloudRight {
                action: "ecs:DescribeInstances".to_owned(),
                granted: Some(false),
                because: Some("denied".to_owned()),
            }],
        }
    }

    #[test]
    fn what_the_operator_writes_is_what_is_read() {
        let out = serde_json::to_string_pretty(&answer()).unwrap();
        let Identity::Reported(whoami) = read(&out, "warning: something\n") else { panic!("{out}") };
        let right = CloudRight {
            action: "ecs:DescribeInstances".to_owned(),
            granted: Some(false),
            because: Some("denied".to_owned()),
        };
        assert_eq!((whoami.provider.as_str(), whoami.expires_in_seconds), ("oidc", Some(3540)));
        assert_eq!(whoami.rights, [right]);
    }

    #[test]
    fn an_older_or_newer_operator_may_say_less_or_more() {
        let out = json!({"provider": "environment", "arn": "acs:ram::1:user/a", "more": 1}).to_string();
        assert!(matches!(read(&out, ""), Identity::Reported(_)));
    }

    /// Stands for an API server that runs what it is asked to, and says this: a stream's number and its bytes.
    async fn said(frames: Vec<(u8, String)>) -> Identity {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            #[allow(clippy::result_large_err, reason = "the signature is that of the crate")]
            let accept = |request: &Request, mut reply: Response| {
                asked = request.uri().to_string();
                let protocol = http::HeaderValue::from_static("v5.channel.k8s.io");
                reply.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, protocol);
                Ok(reply)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, accept).await.unwrap();
            for (channel, text) in frames {
                let frame = [&[channel], text.as_bytes()].concat();
                socket.send(Message::Binary(frame.into())).await.unwrap();
            }
            socket.close(None).await.ok();
            asked
        });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let pod =
            PodState { namespace: "vnc".to_owned(), name: "operator-0".to_owned(), ..PodState::default() };
        let identity = ask(&client, &pod).await;
        let asked = server.await.unwrap();
        assert!(asked.starts_with("/api/v1/namespaces/vnc/pods/operator-0/exec?"), "{asked}");
        for word in
            ["command=vncpassword-operator&command=whoami&command=-o&command=json", "container=operator"]
        {
            assert!(asked.contains(word), "{word}: {asked}");
        }
        identity
    }

    #[tokio::test]
    async fn the_answer_comes_through_the_api_server() {
        let (out, err, status) = (1, 2, 3);
        let answer = serde_json::to_string_pretty(&answer()).unwrap();
        let (begin, end) = answer.split_at(40);
        let exit_code = json!({"metadata": {}, "status": "Success"}).to_string();
        let frames = vec![
            (out, begin.to_owned()),
            (err, "INFO x\n".to_owned()),
            (out, end.to_owned()),
            (status, exit_code),
        ];
        assert!(matches!(said(frames).await, Identity::Reported(whoami) if whoami.provider == "oidc"));
        let failed = json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode"}).to_string();
        let frames = vec![(err, "vncpassword-operator: no credentials\n".to_owned()), (status, failed)];
        assert_eq!(said(frames).await, Identity::Failed("no credentials".to_owned()));
    }

    #[test]
    fn what_went_wrong_is_told_apart() {
        let failed = read("", "2026-01-02 INFO x\nvncpassword-operator: no credentials are configured\n");
        assert_eq!(failed, Identity::Failed("no credentials are configured".to_owned()));
        let missing = read("", "exec: \"vncpassword-operator\": executable file not found in $PATH");
        assert!(matches!(missing, Identity::Unknown(why) if why.contains("not found")));
        assert!(matches!(read("", ""), Identity::Unknown(_)));
        assert!(matches!(read("{", ""), Identity::Unknown(why) if why.contains("cannot be read")));
    }

    #[test]
    fn a_right_that_is_missing_is_no_failure() {
        let code = http::StatusCode::FORBIDDEN;
        let forbidden = kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code));
        assert_eq!(refused(&forbidden), Identity::Denied("get and create pods/exec".to_owned()));
        let broken = kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(
            http::StatusCode::BAD_GATEWAY,
        ));
        assert!(matches!(refused(&broken), Identity::Unknown(_)));
    }
}
