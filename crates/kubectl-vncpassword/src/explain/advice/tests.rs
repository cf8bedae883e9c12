//! Tests of the advice for each reason.

use serde_json::Value;

use super::*;

/// All of them, from the closed list in the docs' order; one that is missing here is missed by `every_reason`.
pub fn every_reason() -> Vec<Reason> {
    let source = include_str!("../../../../core/src/api/conditions.rs");
    let names = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""))
        .map(|(name, _)| name);
    let names = names.filter(|name| !["True", "False", "Unknown"].contains(name));
    names.map(|name| serde_json::from_value(Value::from(name)).unwrap()).collect()
}

fn object() -> Subject<'static> {
    Subject {
        namespace: Some("team-a"),
        name: "db",
        instance: "i-bp1",
        region: Some("cn-hangzhou"),
        secret: "db",
        key: "password",
        operator: OPERATOR_NAMESPACE,
        ..Subject::default()
    }
}

#[test]
fn every_reason_of_the_api_is_looked_at() {
    let all = every_reason();
    assert_eq!(all.len(), 51, "{all:?}");
    assert_eq!(all.iter().filter(|reason| **reason == Reason::Unrecognized).count(), 1);
}

#[test]
fn each_reason_that_needs_a_person_comes_with_a_command() {
    let fleet = Subject {
        name: "nodes",
        target: Some("vnc"),
        secret: "nodes-i-",
        key: "password",
        operator: OPERATOR_NAMESPACE,
        ..Subject::default()
    };
    for reason in every_reason() {
        for subject in [&object(), &fleet, &Subject { generated: true, reboots: true, ..object() }] {
            let advice = advice(reason, subject);
            assert!(!advice.text.is_empty(), "{reason:?}");
            assert!(advice.text.ends_with(['.', ':']), "{reason:?}: {}", advice.text);
            if advice.actor == Actor::Person {
                assert!(!advice.commands.is_empty(), "{reason:?}");
            }
            if advice.text.ends_with(':') {
                assert!(!advice.commands.is_empty(), "{reason:?}");
            }
        }
    }
}

#[test]
fn one_key_is_written_without_taking_another_away() {
    let written = |key: &'static str| Subject { key, ..object() }.write_secret().pop().unwrap();
    let manager = |command: &str| command.split("--field-manager=").nth(1).map(str::to_owned);
    assert!(manager(&written("a")).is_some_and(|manager| manager.starts_with("vncpassword-a ")));
    assert_ne!(manager(&written("a")), manager(&written("b")));
    let keys = Subject { credentials: Some("keys"), ..object() }.renew().pop().unwrap();
    assert!(manager(&keys).is_some(), "{keys}");
}

/// The table in docs/reference.md says who is to act by the condition beside `Ready`.
#[test]
fn whoever_is_to_act_is_the_one_that_the_reference_names() {
    let reference = include_str!("../../../../../docs/reference.md");
    let mut compared = 0;
    for line in reference.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, beside, _, _, _] = cells[..] else { continue };
        let name = name.trim_matches('`');
        let Some(reason) = every_reason().into_iter().find(|reason| reason.as_str() == name) else {
            continue;
        };
        let actor = advice(reason, &object()).actor;
        match beside {
            "`Stalled`" => assert_eq!(actor, Actor::Person, "{name}"),
            "`Reconciling`" => assert_eq!(actor, Actor::Operator, "{name}"),
            _ => continue,
        }
        compared += 1;
    }
    assert!(compared > 25, "{compared}");
}

#[test]
fn commands_name_the_object_its_namespace_and_its_instance() {
    let table = [
        (
            Reason::SecretNotFound,
            "kubectl -n team-a create secret generic db --from-file=password=/dev/stdin",
        ),
        (Reason::SecretNotWritable, "kubectl -n team-a label secret db vncpassword.dev/writable=true"),
        (Reason::RebootRequired, "aliyun ecs RebootInstance --RegionId cn-hangzhou --InstanceId i-bp1"),
        (Reason::Denied, "vncpassword-operator ram-policy --instance i-bp1"),
        (Reason::Suspended, "kubectl -n team-a patch vncpw db --type merge"),
        (Reason::Conflict, "spec.instanceId=i-bp1"),
    ];
    for (reason, expected) in table {
        let commands = advice(reason, &object()).commands.join("\n");
        assert!(commands.contains(expected), "{reason:?}: {commands}");
    }
}

#[test]
fn no_command_puts_a_password_where_others_can_read_it() {
    for reason in every_reason() {
        for command in advice(reason, &object()).commands {
            assert!(!command.contains("--from-literal"), "{command}");
            assert!(!command.contains("--VncPassword"), "{command}");
        }
    }
}

#[test]
fn what_an_object_names_never_becomes_a_command() {
    let subject = Subject { credentials: Some("a b"), secret: "$(x)", ..object() };
    for reason in every_reason() {
        for command in advice(reason, &subject).commands {
            assert!(!command.replace("'$(x)'", "").contains("$(x)"), "{command}");
        }
    }
}
