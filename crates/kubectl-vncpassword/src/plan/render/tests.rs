//! Tests of the text of a plan.

use super::*;
use vncpassword_core::api::{SkipReason, SkippedNode};

fn planned(id: &str, fate: Fate) -> Planned {
    Planned {
        instance: id.to_owned(),
        region: Some("cn-hangzhou".to_owned()),
        name: format!("nodes-{id}"),
        secret: format!("nodes-{id}"),
        fate,
    }
}

fn report() -> Report {
    let instances = vec![
        planned("i-a", Fate::New),
        planned("i-b", Fate::Elsewhere("team-a/db".to_owned())),
        planned("i-c", Fate::Contended("all".to_owned())),
    ];
    let rollout = Rollout {
        first: 2,
        all: 2,
        wave: 1,
        waves: 2,
        waves_of_all: 2,
        seconds: Some(120),
        seconds_of_all: Some(120),
        ends: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        overruns: None,
        restarts: false,
    };
    Report {
        forecast: Forecast {
            fleet: "nodes".to_owned(),
            target_namespace: "vnc".to_owned(),
            exists: false,
            instances: Some(instances),
            at_most: false,
            skipped_nodes: vec![SkippedNode { node: "n1".to_owned(), reason: SkipReason::NoProviderId }],
            pruned: vec![],
            doubted: false,
            excluded: vec!["i-x".to_owned()],
            untagged: vec![],
            unseen: vec![],
            unknown: vec![],
            obstacles: vec![],
            rollout: Some(rollout),
        },
        verdict: Verdict::Takes,
        rate: Some(1.0),
    }
}

#[test]
fn a_plan_reads_from_what_to_how_long() {
    let expected = "\
ClusterVncPassword nodes, which does not exist yet, selects 3 instances: 2 new, 1 left to others.
  Its VncPasswords and Secrets are in namespace vnc.

INSTANCE   REGION        VNCPASSWORD   WHAT BECOMES OF IT
i-a        cn-hangzhou   nodes-i-a     new
i-b        cn-hangzhou   nodes-i-b     left to team-a/db
i-c        cn-hangzhou   nodes-i-c     new, unless fleet all is first

1 instance left out by spec.exclude: i-x.
1 Node stands for no instance:
- n1 has no providerID yet: the cloud controller manager has not been there
First passwords: 2 instances, in 2 waves, at most 1 at once, about 2m. They begin as soon as the
  fleet is applied, whatever spec.window says, and end at about 2026-01-02T03:04:05Z.
That is at 1/min, one call for each instance, with no other use of the account's limit.
The API server would take it (dry run). Nothing was changed.
";
    assert_eq!(text(&report(), false, None, 100), expected);
}

#[test]
fn what_is_not_known_is_said_and_nothing_made_up() {
    let mut report = report();
    report.forecast.instances = None;
    report.forecast.rollout = None;
    report.forecast.unknown = vec!["which instances carry the tags: you have no credentials".to_owned()];
    report.verdict = Verdict::NotAsked("you may not create clustervncpasswords".to_owned());
    let text = text(&report, false, None, 1000);
    assert!(text.contains("which instances it would take is not known"));
    assert!(text.contains("Not known: which instances carry the tags: you have no credentials."));
    assert!(text.contains("is not known: you may not create clustervncpasswords."));
    assert!(!text.contains("waves"));
}

#[test]
fn a_long_list_is_cut_unless_all_is_asked_for() {
    let mut report = report();
    report.forecast.instances = Some((0..30).map(|n| planned(&format!("i-{n}"), Fate::New)).collect());
    let short = text(&report, false, None, 100);
    assert!(short.contains("and 10 more; -o wide shows all") && !short.contains("i-25"), "{short}");
    let whole = text(&report, true, None, 100);
    assert!(!whole.contains("more") && whole.contains("i-29"), "{whole}");
}

#[test]
fn only_what_would_be_the_fleets_is_named() {
    let names = names(&report().forecast);
    assert_eq!(names, "vncpassword.vncpassword.dev/nodes-i-a\nvncpassword.vncpassword.dev/nodes-i-c\n");
}
