//! What is found in each state, as tables: every check at every level that it can have.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::*;
use super::{access::*, kinds::*, operator::*};
use crate::doctor::snapshot::*;
use vncpassword_core::api::{CloudRight, GROUP, VERSION, Whoami};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn denied<T>(right: &str) -> Fetched<T> {
    Fetched::Denied(right.to_owned())
}

fn kind_state(schema: Option<SchemaDifference>) -> KindState {
    KindState { served: vec![VERSION.to_owned()], established: true, schema }
}

fn of_kind(definition: Fetched<Option<KindState>>, served: Fetched<bool>) -> Finding {
    kind(&KindSnapshot { plural: "vncpasswords".to_owned(), definition, served })
}

fn names(names: &[&str]) -> std::collections::BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn assert_found(name: &str, finding: &Finding, level: Level, text: &str) {
    assert_eq!(finding.level, level, "{name}: {finding:?}");
    assert!(finding.text.contains(text), "{name}: {finding:?}");
    if matches!(level, Level::Fail | Level::Warn) {
        let hopeless = finding.check == Check::Identity && finding.text.contains("run out shortly");
        assert!(hopeless || !finding.remedy.is_empty(), "{name}: {finding:?}");
    }
}

#[test]
fn kinds_are_there_and_of_this_version_or_not() {
    let difference = SchemaDifference::default;
    let table: Vec<(&str, Fetched<Option<KindState>>, Level, &str)> = vec![
        ("the same", Fetched::Yes(Some(kind_state(Some(difference())))), Level::Ok, "is of this version"),
        (
            "other words",
            Fetched::Yes(Some(kind_state(Some(SchemaDifference { words: true, ..difference() })))),
            Level::Ok,
            "in other words",
        ),
        (
            "older",
            Fetched::Yes(Some(kind_state(Some(SchemaDifference {
                less: names(&["spec.window"]),
                ..difference()
            })))),
            Level::Warn,
            "is older than this program: it does not know spec.window",
        ),
        (
            "newer",
            Fetched::Yes(Some(kind_state(Some(SchemaDifference {
                more: names(&["spec.a"]),
                ..difference()
            })))),
            Level::Warn,
            "is newer than this program, which does not know spec.a",
        ),
        (
            "both",
            Fetched::Yes(Some(kind_state(Some(SchemaDifference {
                more: names(&["spec.a"]),
                less: names(&["spec.b"]),
                ..difference()
            })))),
            Level::Warn,
            "it lacks spec.b, and has spec.a",
        ),
        (
            "other rules",
            Fetched::Yes(Some(kind_state(Some(SchemaDifference {
                other: names(&["spec.c"]),
                ..difference()
            })))),
            Level::Warn,
            "has other rules than this program for spec.c",
        ),
        ("none", Fetched::Yes(None), Level::Fail, "CustomResourceDefinition vncpasswords is not there"),
        (
            "another version",
            Fetched::Yes(Some(KindState { served: vec!["v2".to_owned()], ..kind_state(None) })),
            Level::Fail,
            "is not served in version v1alpha1, but in v2",
        ),
        (
            "not served",
            Fetched::Yes(Some(KindState { served: vec![], ..kind_state(Some(difference())) })),
            Level::Fail,
            "but in none",
        ),
        (
            "not established",
            Fetched::Yes(Some(KindState { established: false, ..kind_state(Some(difference())) })),
            Level::Fail,
            "the API server has not accepted it",
        ),
    ];
    for (name, definition, level, text) in table {
        assert_found(name, &of_kind(definition, Fetched::Yes(true)), level, text);
    }
}

#[test]
fn without_a_right_to_definitions_it_is_asked_what_is_served() {
    let table = [
        (
            Fetched::Yes(true),
            Level::Unknown,
            "is served; whether its schema is of this version is not known: you may not get x",
        ),
        (Fetched::Yes(false), Level::Fail, "vncpasswords v1alpha1 is not served"),
        (Fetched::Failed("broken".to_owned()), Level::Unknown, "whether vncpasswords is there is not known"),
    ];
    for (served, level, text) in table {
        assert_found(text, &of_kind(denied("get x"), served), level, text);
    }
}

fn deployment() -> DeploymentState {
    DeploymentState {
        namespace: "vnc".to_owned(),
        name: "vncpassword-operator".to_owned(),
        wanted: 2,
        ready: 2,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        elects: true,
        lease: None,
        account: "operator".to_owned(),
        watched: vec![],
    }
}

fn pod() -> PodState {
    PodState { namespace: "vnc".to_owned(), name: "pod".to_owned(), ready: true, waiting: None, restarts: 0 }
}

fn of_operator(deployments: Fetched<Vec<DeploymentState>>, pods: Vec<PodState>) -> OperatorSnapshot {
    OperatorSnapshot {
        deployments,
        pods: Fetched::Yes(pods),
        leases: Fetched::Yes(vec![]),
        namespace: None,
        contested: Fetched::Yes(BTreeSet::new()),
    }
}

#[test]
fn the_operator_runs_or_says_why_not() {
    let crashing =
        PodState { ready: false, waiting: Some("CrashLoopBackOff".to_owned()), restarts: 7, ..pod() };
    let table = [
        ("fine", deployment(), vec![pod()], Level::Ok, "2 replicas ready"),
        (
            "scaled down",
            DeploymentState { wanted: 0, ready: 0, ..deployment() },
            vec![],
            Level::Fail,
            "is scaled to 0",
        ),
        (
            "crashing",
            DeploymentState { ready: 0, ..deployment() },
            vec![crashing.clone()],
            Level::Fail,
            "no replica of Deployment vnc/vncpassword-operator is ready: pod (CrashLoopBackOff, started anew 7 times)",
        ),
        (
            "one of two",
            DeploymentState { ready: 1, ..deployment() },
            vec![pod(), crashing],
            Level::Warn,
            "1 of 2 replicas",
        ),
        (
            "another version",
            DeploymentState { version: Some("9.9.9".to_owned()), ..deployment() },
            vec![pod()],
            Level::Warn,
            "runs of version 9.9.9, this plugin is of",
        ),
        (
            "no version",
            DeploymentState { version: None, ..deployment() },
            vec![pod()],
            Level::Ok,
            "2 replicas ready",
        ),
    ];
    for (name, deployment, pods, level, text) in table {
        assert_found(name, &operator(&of_operator(Fetched::Yes(vec![deployment]), pods))[0], level, text);
    }
}

#[test]
fn an_operator_that_is_not_found_fails_only_where_all_was_seen() {
    let nowhere = of_operator(Fetched::Yes(vec![]), vec![]);
    assert_found("nowhere", &operator(&nowhere)[0], Level::Fail, "is in the cluster");
    let not_here = OperatorSnapshot { namespace: Some("vnc".to_owned()), ..nowhere };
    assert_found("not here", &operator(&not_here)[0], Level::Unknown, "is in namespace vnc");
    let hidden = of_operator(denied("list deployments"), vec![]);
    assert_found("hidden", &operator(&hidden)[0], Level::Unknown, "you may not list deployments");
}

#[test]
fn two_operators_are_wrong_only_where_they_watch_the_same() {
    let watching = |namespace: &str, watched: &[&str]| DeploymentState {
        namespace: namespace.to_owned(),
        watched: watched.iter().map(ToString::to_string).collect(),
        ..deployment()
    };
    let leased = |lease: &str| DeploymentState { lease: Some(lease.to_owned()), ..deployment() };
    let apart = DeploymentState { lease: Some("b".to_owned()), ..watching("vnc", &["y"]) };
    let idle = DeploymentState { wanted: 0, ready: 0, ..watching("b", &[]) };
    let table = [
        ("all", watching("vnc", &[]), watching("b", &[]), Level::Fail, "both watch all namespaces"),
        ("all and one", watching("vnc", &[]), watching("b", &["x"]), Level::Fail, "both watch namespace x"),
        ("one of two", watching("vnc", &["x", "y"]), watching("b", &["y", "z"]), Level::Fail, "namespace y:"),
        ("apart", watching("vnc", &["x"]), watching("b", &["y"]), Level::Ok, "there are 2 operators"),
        ("one is scaled down", watching("vnc", &[]), idle, Level::Ok, "there are 2 operators"),
        ("with one leader", deployment(), deployment(), Level::Ok, "there are 2 operators"),
        ("of one namespace", watching("vnc", &["x"]), apart, Level::Fail, "only one of them acts"),
        ("with two Leases", leased("a"), leased("b"), Level::Fail, "both watch all namespaces"),
    ];
    for (name, one, other, level, text) in table {
        let found = operator(&of_operator(Fetched::Yes(vec![one, other]), vec![pod()]));
        assert_found(name, &found[2], level, text);
    }
}

#[test]
fn a_second_operator_shows_by_what_it_does_to_statuses() {
    let with = |found| OperatorSnapshot { contested: found, ..of_operator(Fetched::Yes(vec![]), vec![]) };
    assert_eq!(contested(&with(Fetched::Yes(BTreeSet::new()))), None);
    assert_eq!(contested(&with(Fetched::Denied("list events".to_owned()))), None);
    let found = contested(&with(Fetched::Yes([("team-a".to_owned(), "db".to_owned())].into())));
    assert_found("contested", &found.unwrap(), Level::Fail, "the status of 1 VncPassword: team-a/db");
}

fn all_is_well() -> Snapshot {
    let lease = LeaseState {
        namespace: "vnc".to_owned(),
        name: "vncpassword-operator".to_owned(),
        holder: Some("pod_1".to_owned()),
        renewed: Some("2026-01-02T03:04:03Z".parse().unwrap()),
        seconds: Some(15),
    };
    let kind = |plural: &str| KindSnapshot {
        plural: plural.to_owned(),
        definition: Fetched::Yes(Some(kind_state(Some(SchemaDifference::default())))),
        served: Fetched::Yes(true),
    };
    Snapshot {
        kinds: vec![kind("vncpasswords"), kind("clustervncpasswords")],
        operator: OperatorSnapshot {
            leases: Fetched::Yes(vec![lease]),
            ..of_operator(Fetched::Yes(vec![deployment()]), vec![pod()])
        },
        namespaces: vec![],
        identity: Identity::Reported(Box::new(whoami())),
        rights: vec![],
        ahead: Fetched::Yes(0),
        leftovers: Fetched::Yes(vec![]),
        now: now(),
    }
}

fn whoami() -> Whoami {
    Whoami {
        provider: "oidc".to_owned(),
        arn: "acs:ram::1:role/a".to_owned(),
        expires_in_seconds: Some(3600),
        region: Some("cn-hangzhou".to_owned()),
        ..Whoami::default()
    }
}

#[test]
fn where_all_is_well_nothing_is_wrong_and_something_wrong_is_counted() {
    let mut snapshot = all_is_well();
    let well = findings(&snapshot);
    assert!(well.iter().all(|finding| finding.level == Level::Ok), "{well:#?}");
    assert!(!is_wrong(&well));
    snapshot.ahead = Fetched::Yes(3600);
    assert!(is_wrong(&findings(&snapshot)));
    snapshot.ahead = Fetched::Yes(10);
    assert!(!is_wrong(&findings(&snapshot)), "a warning is not wrong");
}

#[test]
fn one_replica_leads_and_renews_its_lease() {
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = all_is_well();
        change(&mut snapshot);
        leader(&snapshot)
    };
    let lease = |change: &dyn Fn(&mut LeaseState)| {
        with(&|snapshot| {
            if let Fetched::Yes(leases) = &mut snapshot.operator.leases {
                change(&mut leases[0]);
            }
        })
    };
    assert_found("leads", &lease(&|_| ()), Level::Ok, "pod_1 leads");
    let stale = lease(&|lease| lease.renewed = Some("2026-01-02T03:00:05Z".parse().unwrap()));
    assert_found("stale", &stale, Level::Fail, "last renewed it 4m ago: it has run out after 15s");
    assert_found("never", &lease(&|lease| lease.renewed = None), Level::Fail, "has never renewed it");
    assert_found("nobody", &lease(&|lease| lease.holder = None), Level::Fail, "nobody holds the Lease");
    assert_found(
        "given back",
        &lease(&|lease| lease.holder = Some(String::new())),
        Level::Fail,
        "nobody holds the Lease",
    );
    let ahead = lease(&|lease| lease.renewed = Some("2026-01-02T03:05:05Z".parse().unwrap()));
    assert_found("by a clock ahead", &ahead, Level::Ok, "leads");
    let none = |elects: bool, wanted: i32| {
        with(&|snapshot| {
            snapshot.operator.leases = Fetched::Yes(vec![]);
            snapshot.operator.deployments =
                Fetched::Yes(vec![DeploymentState { wanted, elects, ..deployment() }]);
        })
    };
    let elsewhere = lease(&|lease| lease.namespace = "other".to_owned());
    assert_found("of another operator", &elsewhere, Level::Fail, "no replica has taken the Lease");
    let other_name = lease(&|lease| lease.name = "mine".to_owned());
    assert_found("of another release", &other_name, Level::Fail, "no replica has taken the Lease");
    let named = with(&|snapshot| {
        let Fetched::Yes(leases) = &mut snapshot.operator.leases else { return };
        leases[0].name = "mine".to_owned();
        let deployment = DeploymentState { lease: Some("mine".to_owned()), ..deployment() };
        snapshot.operator.deployments = Fetched::Yes(vec![deployment]);
    });
    assert_found("of that name", &named, Level::Ok, "pod_1 leads");
    let outside = with(&|snapshot| snapshot.operator.deployments = Fetched::Yes(vec![]));
    assert_found("outside of the cluster", &outside, Level::Ok, "pod_1 leads");
    assert_found("no Lease", &none(true, 2), Level::Fail, "no replica has taken the Lease");
    assert_found("alone", &none(false, 1), Level::Ok, "runs alone");
    let no_longer = with(&|snapshot| {
        let Fetched::Yes(leases) = &mut snapshot.operator.leases else { return };
        leases[0].holder = None;
        snapshot.operator.deployments =
            Fetched::Yes(vec![DeploymentState { wanted: 1, elects: false, ..deployment() }]);
    });
    assert_found("alone, beside a Lease of before", &no_longer, Level::Ok, "runs alone");
    assert_found("scaled down", &none(true, 0), Level::Unknown, "none has held a Lease");
    let hidden = with(&|snapshot| snapshot.operator.leases = denied("list leases"));
    assert_found("hidden", &hidden, Level::Unknown, "who leads is not known: you may not list leases");
}

#[test]
fn the_operators_identity_is_told_or_why_it_is_not() {
    let snapshot = all_is_well().operator;
    let found = |who: Identity| identity(&who, &snapshot);
    let table = [
        (
            "told",
            Identity::Reported(Box::new(whoami())),
            Level::Ok,
            "the operator is acs:ram::1:role/a (by oidc)",
        ),
        (
            "about to run out",
            Identity::Reported(Box::new(Whoami { expires_in_seconds: Some(60), ..whoami() })),
            Level::Warn,
            "run out shortly",
        ),
        (
            "run out",
            Identity::Reported(Box::new(Whoami { expires_in_seconds: Some(0), ..whoami() })),
            Level::Fail,
            "have run out",
        ),
        (
            "for ever",
            Identity::Reported(Box::new(Whoami { expires_in_seconds: None, ..whoami() })),
            Level::Ok,
            "the operator is",
        ),
        ("no Pod", Identity::NoPod, Level::Unknown, "no Pod of it runs"),
        (
            "no right",
            Identity::Denied("create pods/exec".to_owned()),
            Level::Unknown,
            "you may not create pods/exec",
        ),
        (
            "no identity",
            Identity::Failed("no credentials".to_owned()),
            Level::Fail,
            "no identity that the cloud takes: no credentials",
        ),
        ("exec fails", Identity::Unknown("it timed out".to_owned()), Level::Unknown, "it timed out"),
    ];
    for (name, who, level, text) in table {
        assert_found(name, &found(who)[0], level, text);
    }
    let command = "kubectl -n vnc exec deploy/vncpassword-operator -- vncpassword-operator whoami";
    assert_eq!(found(Identity::Denied("a".to_owned()))[0].remedy, [command]);
    let right = |granted| CloudRight {
        action: "ecs:DescribeInstances".to_owned(),
        granted,
        because: Some("why".to_owned()),
    };
    let rights = vec![right(Some(true)), right(Some(false)), right(None)];
    let found = found(Identity::Reported(Box::new(Whoami { rights, ..whoami() })));
    assert_found("has", &found[1], Level::Ok, "it has ecs:DescribeInstances in cn-hangzhou");
    assert_found("lacks", &found[2], Level::Fail, "it lacks ecs:DescribeInstances in cn-hangzhou: why");
    assert_found(
        "perhaps",
        &found[3],
        Level::Unknown,
        "whether it has ecs:DescribeInstances is not known: why",
    );
}

#[test]
fn rights_that_are_missing_are_named_with_roles_that_have_them() {
    let right = |verb, resource, group| Right { verb, group, resource, subresource: None, namespaced: true };
    let (get, secrets) = (right("get", "vncpasswords", GROUP), right("get", "secrets", ""));
    let asked = |rights| CommandRights { command: "get", namespace: Some("team-a".to_owned()), rights };
    let all = rights(&asked(vec![(get, Fetched::Yes(true)), (secrets, Fetched::Yes(true))]));
    assert_found("all", &all, Level::Ok, "your rights suffice for `get` in namespace team-a");
    let some = rights(&asked(vec![(get, Fetched::Yes(true)), (secrets, Fetched::Yes(false))]));
    assert_found("some", &some, Level::Warn, "for `get` in namespace team-a you lack get on secrets");
    assert_eq!(
        some.remedy,
        [
            "kubectl create role vncpassword-get -n team-a --verb=get --resource=secrets",
            "kubectl create rolebinding vncpassword-get -n team-a --role=vncpassword-get --user=USER",
        ]
    );
    let unknown = rights(&asked(vec![(get, denied("ask"))]));
    assert_found("unknown", &unknown, Level::Unknown, "whether your rights suffice for `get`");
    let list = |resource, group| (right("list", resource, group), Fetched::Yes(false));
    let create = (right("create", "clustervncpasswords", GROUP), Fetched::Yes(false));
    let needed =
        vec![list("clustervncpasswords", GROUP), create, list("nodes", ""), list("vncpasswords", GROUP)];
    let two = rights(&CommandRights { command: "plan", namespace: None, rights: needed });
    assert_eq!(
        two.remedy,
        [
            "kubectl create clusterrole vncpassword-plan --verb=list --resource=nodes,vncpasswords.vncpassword.dev",
            "kubectl create clusterrolebinding vncpassword-plan --clusterrole=vncpassword-plan --user=USER",
            "kubectl create clusterrole vncpassword-plan-2 --verb=list,create --resource=clustervncpasswords.vncpassword.dev",
            "kubectl create clusterrolebinding vncpassword-plan-2 --clusterrole=vncpassword-plan-2 --user=USER",
        ],
        "no verb goes with a resource that it is not for"
    );
}

#[test]
fn clocks_may_be_a_little_apart() {
    let table = [
        (0, Level::Ok, "is that of the API server"),
        (3, Level::Ok, "is that of the API server"),
        (-3, Level::Ok, "is that of the API server"),
        (20, Level::Warn, "is 20s ahead of the API server's: `rotate` would start that much later"),
        (-20, Level::Warn, "is 20s behind the API server's: `rotate` may be taken for long past"),
        (60, Level::Fail, "60s ahead"),
        (-7200, Level::Fail, "120m behind"),
    ];
    for (ahead, level, text) in table {
        assert_found(text, &clock(&Fetched::Yes(ahead)), level, text);
    }
    assert_found("unknown", &clock(&Fetched::Failed("no time".to_owned())), Level::Unknown, "no time");
}

#[test]
fn leftovers_are_told_by_namespace_and_never_swept_unseen() {
    let secret = |namespace: &str, n: usize| Leftover {
        namespace: namespace.to_owned(),
        name: format!("vnc-{n:02}"),
        instance: format!("i-{n}"),
    };
    assert_found("none", &leftovers(&Fetched::Yes(vec![]))[0], Level::Ok, "no Secret is left over");
    assert_found(
        "hidden",
        &leftovers(&denied("list secrets"))[0],
        Level::Unknown,
        "you may not list secrets",
    );
    let mut all: Vec<Leftover> = (0..30).map(|n| secret("a", n)).collect();
    all.push(secret("b", 1));
    let found = leftovers(&Fetched::Yes(all));
    assert_eq!(found.len(), 2);
    assert_found("many", &found[0], Level::Warn, "30 Secrets in namespace a are of instances");
    assert!(found[0].text.contains("vnc-00 (i-0), vnc-01 (i-1), vnc-02 (i-2) and 27 more"));
    assert_eq!(found[0].remedy[1].split_whitespace().count(), 5 + 10, "{:?}", found[0].remedy);
    assert_found("one", &found[1], Level::Warn, "1 Secret in namespace b is of instances");
    assert_eq!(found[1].remedy[1], "kubectl delete secret -n b vnc-01");
}

#[test]
fn a_watched_namespace_that_is_gone_or_forbidden_is_named() {
    let watched = |exists, lacks| WatchedNamespace {
        operator: "vnc/operator".to_owned(),
        name: "b".to_owned(),
        exists,
        lacks,
    };
    let lacks = |names: &[&str]| Fetched::Yes(names.iter().map(ToString::to_string).collect());
    let table = [
        (watched(Fetched::Yes(true), lacks(&[])), Level::Ok, "may read what it watches: b"),
        (watched(denied("get namespaces"), lacks(&[])), Level::Ok, "may read what it watches: b"),
        (
            watched(Fetched::Yes(false), lacks(&["list secrets"])),
            Level::Warn,
            "namespace b of --watch-namespaces is not there",
        ),
        (
            watched(Fetched::Yes(true), lacks(&["list secrets", "watch secrets"])),
            Level::Fail,
            "may not list secrets, watch secrets in namespace b",
        ),
        (
            watched(Fetched::Yes(true), denied("create x")),
            Level::Unknown,
            "is not known: you may not create x",
        ),
    ];
    for (watched, level, text) in table {
        let found = namespaces(&[watched]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_found(text, &found[0], level, text);
    }
    assert_eq!(namespaces(&[]), []);
    let both = [watched(Fetched::Yes(true), lacks(&[])), watched(Fetched::Yes(true), lacks(&[]))];
    assert_eq!(namespaces(&both).len(), 1, "one for all that are served");
}
