//! Passwords that the operator draws: they leave it for the Secret and for the cloud, and for nowhere else.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_cloud_answers_no_generated_password_leaves_and_no_digest_of_one() {
    let world = World::new().await;
    world.cloud().set_access_keys(vec![key()]);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let cases = faults(&format!("http://{}/", elsewhere.local_addr().unwrap()));
    let edited = password("edited");
    for case in &cases {
        world.cloud().put_instance(case.instance.clone());
        if let Some(fault) = case.fault.clone() {
            world.cloud().inject(fault.instance(&case.instance.id).times(1));
        }
        let Instance { id, region_id, .. } = &case.instance;
        let secret = json!({"name": case.name});
        let spec = json!({"instanceId": id, "regionId": region_id, "secretRef": secret, "rotation": {}});
        world.object_with(&case.name, spec).await;
    }
    let program = Program::start(&world, &shared_kubeconfig(), "text").await;
    until_all_went_wrong(&world, &cases).await;
    world.cloud().clear_faults();
    world.until_ready("reset-before").await;
    world.until_ready("latency").await;
    // An edit, a second rotation, and what is no password: all go through the Secret as well.
    let change = |name: &'static str, value: &str| {
        let data = json!({"stringData": {"password": value}});
        let secrets = world.secrets();
        async move {
            let merge = kube::api::Patch::Merge(data);
            secrets.patch(name, &kube::api::PatchParams::default(), &merge).await.unwrap();
        }
    };
    change("latency", &edited).await;
    world.until_console("i-latency", &edited).await;
    change("redirect", &format!("{edited}\n")).await;
    world.until_stalled("redirect", Reason::InvalidPassword).await;
    program.settled(&world).await;

    let mut traces = secrets(["edited".to_owned()]);
    let mut sent = 0;
    for call in world.cloud().journal() {
        if let Some(password) = call.vnc_password {
            sent += 1;
            traces.add(format!("a password of {:?}", call.instance_ids), password);
        }
    }
    let mut digests = 0;
    for case in &cases {
        let Ok(secret) = world.secrets().get(&case.name).await else { continue };
        for (key, value) in secret.data.unwrap_or_default() {
            if key != "password.rotation" {
                traces.add(format!("{key} of {}", case.name), value.0);
                continue;
            }
            let record: Value = serde_json::from_slice(&value.0).unwrap();
            for digest in ["digest", "next", "refused"].iter().filter_map(|field| record[field].as_str()) {
                digests += 1;
                traces.add(format!("a digest of {}", case.name), digest);
            }
        }
    }
    assert!(sent > cases.len() / 2 && digests > cases.len() / 2, "{sent} calls, {digests} digests");
    let log = nothing_leaves(&world, program, &traces).await;
    for sign in ["TRACE", "kube_client::client", "DEBUG"] {
        assert!(log.contains(sign), "the log has no {sign}");
    }
}
