//! A first installation, and the main job.

use std::time::Duration;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::json;

use super::{
    cloud::Cloud,
    cluster::{Cluster, apply, kubectl, try_kubectl, until},
    release::{OPERATOR, Release, assert_nothing_is_lost, chart, instance, object, settled, until_settled},
};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_restricted_namespace_takes_the_chart_and_a_schedule_in_a_named_zone_rotates_over_https() {
    let cluster = Cluster::take();
    let cloud = Cloud::start();
    let release = Release::prepare(&cluster, &cloud, "vnc-system", &json!({}));
    let took = release.install(&chart());
    assert!(took < Duration::from_secs(60), "ready after {took:?}");
    cluster.namespace("team-a", "");

    let zone = "Asia/Kathmandu";
    // No whole number of hours from UTC: in another zone nothing would happen within the next minutes.
    let turn = Timestamp::now() + 75.seconds();
    let turn = turn.to_zoned(TimeZone::get(zone).unwrap());
    let schedule = format!("{} {} * * *", turn.minute(), turn.hour());
    cloud.add([instance("console")]);
    apply("team-a", &object("console", &json!({"schedule": schedule, "timeZone": zone})).to_string());
    until_settled("team-a", "console", 1);
    let first = cloud.console(&instance("console")).expect("a password was set");
    assert_nothing_is_lost(&cloud, "team-a", "console");

    until("the turn", Duration::from_secs(90), || settled("team-a", "console", 2));
    let second = cloud.console(&instance("console")).expect("a password was set");
    assert_ne!(first, second);
    assert_nothing_is_lost(&cloud, "team-a", "console");
    assert_eq!(cloud.calls(0).len(), 2, "one call a rotation");

    only_the_rights_of_the_chart(&release);
    let logs = release.logs();
    for word in ["orbidden", first.as_str(), second.as_str()] {
        assert!(!logs.contains(word), "{word:?} is in the logs");
    }
}

/// The Pods run as the chart's ServiceAccount, which may do its work and nothing near it.
fn only_the_rights_of_the_chart(release: &Release) {
    let accounts = release.kubectl(&format!(
        "get pods --selector {OPERATOR} --output jsonpath={{.items[*].spec.serviceAccountName}}"
    ));
    let mut accounts: Vec<&str> = accounts.split_whitespace().collect();
    assert_eq!(accounts.len(), 2, "replicas");
    accounts.dedup();
    let [account] = accounts[..] else { panic!("{accounts:?}: one ServiceAccount") };
    assert_ne!(account, "default");
    let me = format!("system:serviceaccount:{}:{account}", release.namespace);
    let may = |words: &str| try_kubectl(&format!("auth can-i {words} --as {me}")).is_ok();
    for words in ["patch secrets --namespace team-a", "patch vncpasswords/status --namespace team-a"] {
        assert!(may(words), "{words}");
    }
    for words in [
        "delete secrets --namespace team-a",
        "get pods --namespace team-a",
        "create roles --namespace team-a",
    ] {
        assert!(!may(words), "{words}");
    }
    let bound = kubectl(
        "get clusterrolebindings --output jsonpath={range.items[*]}{.roleRef.name}{.subjects}{';'}{end}",
    );
    let bound =
        bound.split(';').filter(|binding| binding.contains(account) && binding.starts_with("cluster-admin"));
    assert_eq!(bound.count(), 0);
}
