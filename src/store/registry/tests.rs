//! Who is found by which name, who owns an instance, and who is woken.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::store::object::IncomingObject;
use vncpassword_core::rotation::{
    contents::Contents,
    facts::{Owner, SecretVersion},
    ownership::{Basis, Relation},
};

fn object(name: &str, second: i64, credentials: &str) -> Object {
    let created = Timestamp::from_second(second).unwrap();
    let incoming: IncomingObject = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "generation": 1,
            "creationTimestamp": created},
        "spec": {"instanceId": "i-1", "secretRef": {"name": name}, "credentialsRef": {"name": credentials}},
    }))
    .unwrap();
    Object::from(incoming)
}

fn with_status(object: Object, status: serde_json::Value) -> Object {
    Object { status: Arc::new(serde_json::from_value(status).unwrap()), ..object }
}

fn conflict() -> serde_json::Value {
    json!([{"type": "Stalled", "status": "True", "reason": "Conflict", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

/// Two objects at one instance, the other one older; the status of each, and whether the term has found them.
fn two(one: serde_json::Value, other: serde_json::Value, found: bool) -> (Registry, Object, Object) {
    let registry = Registry::default();
    let one = with_status(object("one", 2, "a"), one);
    let other = with_status(object("other", 1, "b"), other);
    registry.apply(one.clone(), found);
    registry.apply(other.clone(), found);
    (registry, one, other)
}

#[test]
fn a_status_keeps_nobody_out_unless_the_term_found_it() {
    let hint = json!({"requestId": "R", "acceptedAs": "a"});
    let table = [
        ("found by the term", hint.clone(), true, true),
        ("written since", hint, false, false),
        ("of other credentials", json!({"requestId": "R", "acceptedAs": "x"}), true, false),
        ("of the operator's own identity", json!({"requestId": "R"}), true, false),
        ("nothing accepted", json!({"acceptedAs": "a"}), true, false),
    ];
    for (name, status, found, keeps_out) in table {
        let (registry, _, other) = two(status, json!({}), found);
        let owner = registry.owner(&other, |_, _| Relation::OtherIdentity);
        assert_eq!(owner != Owner::This, keeps_out, "{name}");
    }
}

#[test]
fn an_accepted_call_keeps_others_out_until_the_key_is_another() {
    let (registry, one, other) = two(json!({}), json!({}), false);
    let owner = || registry.owner(&other, |_, _| Relation::OtherIdentity);
    assert_eq!(owner(), Owner::This, "nobody has shown a right yet");
    registry.accepted(&one, "LTAI1".into());
    assert_eq!(owner(), Owner::Other(Some("one".to_owned())));
    assert_eq!(registry.owner(&one, |_, _| Relation::OtherIdentity), Owner::This);
    let keys = one.credentials().unwrap();
    registry.credentials_renewed(&keys, "LTAI1");
    assert_eq!(registry.blocking_owner(&other, |_, _| Relation::OtherIdentity).unwrap().1, Basis::Accepted);
    registry.credentials_renewed(&keys, "LTAI2");
    assert_eq!(registry.blocking_owner(&other, |_, _| Relation::OtherIdentity).unwrap().1, Basis::Hint);
    registry.remember(&one, |memory| memory.claim.refused(None));
    assert_eq!(owner(), Owner::This, "the new key has no right");
}

#[test]
fn a_hint_is_proven_when_another_identity_contends() {
    let (registry, one, other) = two(json!({"requestId": "R", "acceptedAs": "a"}), json!({}), true);
    registry.take_affected();
    assert!(!registry.must_prove(&one), "nobody contends");
    let (blocking_owner, basis) = registry.blocking_owner(&other, |_, _| Relation::OtherIdentity).unwrap();
    assert_eq!((&blocking_owner.key, basis), (&one.key, Basis::Hint));
    registry.contested(&blocking_owner, "cn-hangzhou");
    assert!(registry.must_prove(&one));
    assert_eq!(registry.take_affected(), std::slice::from_ref(&one.key));
    registry.remember(&one, |memory| {
        memory.claim.proof_ended(Proof::Failed, Some("cn-hangzhou"), Instant::now());
    });
    assert_eq!(registry.owner(&other, |_, _| Relation::OtherIdentity), Owner::This);
    assert_eq!(registry.take_affected(), [other.key.clone(), one.key.clone()], "the next one may try");
}

#[test]
fn an_object_that_is_being_deleted_gives_up_its_claim() {
    let (registry, one, other) = two(json!({}), json!({}), false);
    registry.accepted(&one, "LTAI1".into());
    registry.take_affected();
    registry.apply(Object { deleting: true, resource_version: "2".into(), ..one }, false);
    assert_eq!(registry.owner(&other, |_, _| Relation::SameIdentity), Owner::This);
    assert!(registry.take_affected().contains(&other.key));
}

#[test]
fn the_last_accepted_call_is_in_effect() {
    let (registry, one, other) = two(json!({}), json!({}), false);
    let superseded = |object: &Object| registry.superseded(object, |_, _| Relation::SameIdentity);
    assert!(!superseded(&one) && !superseded(&other));
    registry.accepted(&one, "LTAI1".into());
    assert_eq!((superseded(&one), superseded(&other)), (false, true));
    registry.accepted(&other, "LTAI2".into());
    assert_eq!((superseded(&one), superseded(&other)), (true, false));
    assert!(!registry.superseded(&one, |_, _| Relation::OtherAccount), "another account's instance");
    registry.delete(&other.key, &other.uid);
    assert!(superseded(&one), "also when the other one is gone");
    registry.accepted(&one, "LTAI1".into());
    assert!(!superseded(&one));
}

#[test]
fn a_process_before_the_term_may_have_called_for_others() {
    let soon = Timestamp::now().checked_add(jiff::SignedDuration::from_mins(5)).unwrap();
    let soon = Timestamp::from_second(soon.as_second()).unwrap();
    let at = |second| Timestamp::from_second(second).unwrap();
    let term = Term { settled: soon.checked_add(jiff::SignedDuration::from_mins(11)).unwrap() };
    let applied = json!({"secretUid": "u", "secretResourceVersion": "1", "time": at(10)});
    let denied = |until: Value| {
        json!({"retry": {"unsettledUntil": until}, "conditions": [{"type": "Stalled", "status": "True",
            "reason": "CredentialsNotFound", "message": "", "lastTransitionTime": at(0)}]})
    };
    let stood_back = |until: Value| json!({"conditions": conflict(), "retry": {"unsettledUntil": until}});
    let last = |time: Value| json!({"requestId": "R", "acceptedAs": "b", "conditions": conflict(), "lastRotationTime": time});
    let called = json!({"requestId": "R", "acceptedAs": "b"});
    let (new, own) = (json!({}), json!({"requestId": "R", "acceptedAs": "a", "applied": applied}));
    let now = Timestamp::now();
    let table = [
        ("another, for a new object", &new, called.clone(), Some(term.settled)),
        ("another that stood back, for a new object", &new, stood_back(Value::Null), Some(term.settled)),
        ("nobody", &new, json!({}), None),
        ("refused for its rights", &new, denied(Value::Null), None),
        ("refused, and settled since", &new, denied(json!(at(10))), None),
        ("both", &own, called, Some(term.settled)),
        ("another that stood back", &own, stood_back(Value::Null), None),
        ("another that stood back with a late call", &own, stood_back(json!(soon)), Some(soon)),
        ("with a forged time", &own, stood_back(json!("9999-01-02T03:04:05Z")), Some(term.settled)),
        ("another that lost its credentials", &own, denied(json!(soon)), Some(soon)),
        ("another whose call was accepted later", &own, last(json!(at(20))), Some(at(20))),
        ("another whose call was accepted earlier", &own, last(json!(at(5))), None),
        ("with a forged time of acceptance", &own, last(json!("9999-01-02T03:04:05Z")), Some(now)),
    ];
    for (name, own, other, expected) in table {
        let (registry, one, _) = two(own.clone(), other, true);
        let (until, others) = registry.others_before(&one, term, now, |_, _| Relation::OtherIdentity);
        assert_eq!((until, others.len()), (expected, usize::from(expected.is_some())), "{name}");
        let (until, _) = registry.others_before(&one, term, now, |_, _| Relation::OtherAccount);
        assert_eq!(until, None, "{name}: another account");
        for other in others {
            registry.disregard_status(&other);
        }
        let (until, _) = registry.others_before(&one, term, now, |_, _| Relation::OtherIdentity);
        assert_eq!(until, None, "{name}: the cloud refuses its identity");
    }
}

/// Nothing is written down before the first call of an object. It can have been suspended while no process led.
#[test]
fn a_process_before_the_term_may_have_made_the_first_call_of_an_object_that_is_suspended_since() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let term = Term { settled: at(2000) };
    let own = json!({"requestId": "R", "acceptedAs": "a"});
    let stood_back = json!({"conditions": conflict()});
    let table = [
        ("for a new object", json!({}), true, true, Some(term.settled)),
        ("for one that stood back", stood_back.clone(), true, true, Some(term.settled)),
        ("it acted for this one", own, true, true, None),
        ("not suspended: it would be called for first now", json!({}), false, true, None),
        ("younger than the term", stood_back, true, false, None),
    ];
    for (name, own, suspended, found, expected) in table {
        let registry = Registry::default();
        let one = with_status(object("one", 2, "a"), own);
        let mut other = object("other", 1, "a");
        Arc::make_mut(other.spec.as_mut().unwrap()).suspend = suspended;
        registry.apply(one.clone(), true);
        registry.apply(other, found);
        let (until, _) = registry.others_before(&one, term, at(1000), |_, _| Relation::SameIdentity);
        assert_eq!(until, expected, "{name}");
    }
}

#[test]
fn a_clock_that_is_set_forward_does_not_end_the_wait_that_a_status_names() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    // The clock goes from 100 to 1100.
    let step = Step { by: jiff::SignedDuration::from_secs(1000), now: at(1100), settled: at(2061) };
    let table = [
        ("none", None, None, None),
        ("over before the step", Some(at(90)), None, None),
        ("it would be over by the step", Some(at(200)), None, Some((at(1200), false))),
        ("after the step", Some(at(1500)), None, Some((at(2061), false))),
        ("a time that cannot be", Some(at(1_000_000)), None, Some((at(2061), false))),
        ("a doubt in memory", None, Some((at(200), true)), Some((at(1200), true))),
        ("both", Some(at(300)), Some((at(200), true)), Some((at(1300), true))),
    ];
    for (name, until, doubt, expected) in table {
        let registry = Registry::default();
        let one = with_status(object("one", 1, "a"), json!({"retry": {"unsettledUntil": until}}));
        registry.apply(one.clone(), false);
        registry.remember(&one, |memory| memory.doubt = doubt);
        registry.stepped(&step);
        assert_eq!(registry.doubt_of(&one), expected, "{name}");
    }
}

#[test]
fn a_refusal_ends_the_hints_of_all_objects_of_that_identity() {
    let registry = Registry::default();
    let hint = json!({"requestId": "R", "acceptedAs": "a"});
    let forged: Vec<Object> = (0..40)
        .map(|number| with_status(object(&number.to_string(), 1, "a"), hint.clone()))
        .inspect(|object| drop(registry.apply(object.clone(), true)))
        .collect();
    let other = object("other", 2, "b");
    registry.apply(other.clone(), true);
    let owner = || registry.owner(&other, |_, _| Relation::OtherIdentity);
    assert_ne!(owner(), Owner::This);
    registry.refused(&forged[0], None);
    assert_eq!(owner(), Owner::This, "one call, not forty");
}

#[test]
fn a_call_that_is_accepted_after_its_object_was_deleted_counts() {
    let (registry, one, other) = two(json!({}), json!({}), false);
    registry.accepted(&other, "LTAI2".into());
    registry.delete(&one.key, &one.uid);
    registry.take_affected();
    registry.accepted(&one, "LTAI1".into());
    assert!(registry.superseded(&other, |_, _| Relation::SameIdentity));
    assert!(registry.take_affected().contains(&other.key));
}

#[test]
fn a_call_that_is_accepted_after_its_object_names_other_credentials_is_no_claim_of_those() {
    let (registry, one, other) = two(json!({}), json!({}), false);
    registry.accepted(&other, "LTAI2".into());
    let mut changed = object("one", 2, "b");
    changed.generation = 2;
    registry.apply(changed.clone(), false);
    registry.accepted(&one, "LTAI1".into());
    let basis = registry.remember(&changed, |memory| memory.claim.basis());
    assert_eq!(basis, Some(Basis::None));
    assert!(
        registry.superseded(&other, |_, _| Relation::SameIdentity),
        "the value is in effect all the same"
    );
    assert!(!registry.superseded(&changed, |_, _| Relation::SameIdentity));
    registry.accepted(&changed, "LTAI2".into());
    assert_eq!(registry.remember(&changed, |memory| memory.claim.basis()), Some(Basis::Accepted));
}

/// An object that generates into the Secret `shared`.
fn generator(name: &str, second: i64, instance: &str) -> Object {
    let mut object = object(name, second, "a");
    let spec = Arc::make_mut(object.spec.as_mut().unwrap());
    spec.instance_id = instance.into();
    spec.secret_ref.name = "shared".into();
    spec.rotation = Some(Box::default());
    object
}

/// Thousands of objects that name one instance, or that generate into one key: nobody is woken before all are listed, and
/// afterwards a change wakes the crowd once a tick.
#[test]
fn wake_ups_of_a_crowd_do_not_grow_with_its_square() {
    type Member = fn(&str) -> Object;
    const OBJECTS: usize = 3000;
    let table: [(&str, Member); 2] = [
        ("at one instance", |name| object(name, 1, "a")),
        ("at one key of a Secret", |name| generator(name, 1, &format!("i-{name}"))),
    ];
    for (name, member) in table {
        let registry = Registry::default();
        for number in 0..OBJECTS {
            registry.apply(member(&number.to_string()), true);
        }
        assert_eq!(registry.take_affected().len(), OBJECTS, "{name}: each one for itself");
        let mut affected = 0;
        for number in 0..OBJECTS {
            registry.accepted(&member(&number.to_string()), "LTAI1".into());
            affected += registry.take_affected().len();
        }
        assert_eq!(affected, 0, "{name}");
        assert_eq!(registry.take_affected_each_tick(Timestamp::now()).len(), OBJECTS, "{name}");
        assert_eq!(registry.take_affected_each_tick(Timestamp::now()), [], "{name}");
        for number in 0..OBJECTS {
            let object = member(&number.to_string());
            registry.delete(&object.key, &object.uid);
            affected += registry.take_affected().len();
        }
        assert!(affected < 20 * OBJECTS, "{name}: {affected}");
    }
}

#[test]
fn one_of_those_that_generate_into_a_key_owns_it() {
    let registry = Registry::default();
    let (old, young) = (generator("old", 1, "i-1"), generator("young", 2, "i-2"));
    registry.apply(old.clone(), false);
    registry.apply(young.clone(), false);
    let owner = |object: &Object| registry.owner(object, |_, _| Relation::SameIdentity);
    assert_eq!((owner(&old), owner(&young)), (Owner::This, Owner::OtherOfSecret("old".to_owned())));
    registry.accepted(&young, "LTAI1".into());
    assert_eq!((owner(&old), owner(&young)), (Owner::OtherOfSecret("young".to_owned()), Owner::This));
    registry.delete(&young.key, &young.uid);
    assert_eq!(owner(&old), Owner::This);
}

#[test]
fn a_secret_with_credentials_is_released_by_the_last_who_names_it() {
    let registry = Registry::default();
    let (one, other) = (object("one", 1, "keys"), object("other", 2, "keys"));
    let keys = one.credentials().unwrap();
    registry.apply(one.clone(), false);
    registry.apply(other.clone(), false);
    assert_eq!(registry.credential_users(&keys).len(), 2);
    assert_eq!(registry.delete(&one.key, &one.uid).released, None);
    assert_eq!(registry.apply(object("other", 2, "new"), false).released, Some(keys.clone()));
    assert!(!registry.has_credential_users(&keys));
}

#[test]
fn two_objects_of_one_tenant_cannot_agree_on_a_region_where_nobody_answers() {
    let (registry, one, other) = two(json!({"requestId": "R", "acceptedAs": "a"}), json!({}), true);
    let (blocking_owner, _) = registry.blocking_owner(&other, |_, _| Relation::OtherIdentity).unwrap();
    registry.contested(&blocking_owner, "cn-nowhere");
    registry.contested(&blocking_owner, "cn-hangzhou");
    registry.remember(&one, |memory| {
        memory.claim.proof_ended(Proof::Unanswered, Some("cn-nowhere"), Instant::now());
    });
    assert_eq!(registry.owner(&other, |_, _| Relation::OtherIdentity), Owner::This);
}

#[test]
fn a_refusal_counts_for_each_object_with_the_key_in_that_region() {
    let registry = Registry::default();
    let in_region = |name: &str, region: &str| {
        let mut object = object(name, 1, name);
        Arc::make_mut(object.spec.as_mut().unwrap()).region_id = Some(region.into());
        registry.apply(object.clone(), false);
        object
    };
    let (refused, same, elsewhere) = (in_region("a", "cn-a"), in_region("b", "cn-a"), in_region("c", "cn-b"));
    registry.refused(&refused, Some("LTAI1".into()));
    let table = [(&same, "LTAI1", true), (&same, "LTAI2", false), (&elsewhere, "LTAI1", false)];
    for (object, principal, expected) in table {
        assert_eq!(registry.is_refused(object, principal), expected, "{} {principal}", object.key.name);
    }
    registry.refused(&refused, None);
    assert!(!registry.is_refused(&same, ""), "a key that is not known is nobody's");
}

#[test]
fn a_refusal_in_another_region_ends_no_hint() {
    let registry = Registry::default();
    let hint = json!({"requestId": "R", "acceptedAs": "a"});
    let owner = with_status(object("owner", 1, "a"), hint);
    let mut mistaken = object("mistaken", 2, "a");
    Arc::make_mut(mistaken.spec.as_mut().unwrap()).region_id = Some("cn-b".into());
    let competition = object("rival", 3, "b");
    for object in [&owner, &mistaken, &competition] {
        registry.apply(object.clone(), true);
    }
    registry.refused(&mistaken, None);
    assert_ne!(registry.owner(&competition, |_, _| Relation::OtherIdentity), Owner::This);
}

/// A tenant with one key without a right can write hints for as many regions as it likes.
#[test]
fn one_refusal_ends_the_hints_of_a_key_in_all_regions_where_nobody_contends() {
    let registry = Registry::default();
    let hint = json!({"requestId": "R", "acceptedAs": "a"});
    let in_region = |name: &str, second, keys: &str, region: &str| {
        let mut object = object(name, second, keys);
        Arc::make_mut(object.spec.as_mut().unwrap()).region_id = Some(region.into());
        object
    };
    let forged: Vec<Object> = (1..=3)
        .map(|number| {
            let region = format!("cn-{number}");
            with_status(in_region(&format!("t{number}"), number, "a", &region), hint.clone())
        })
        .collect();
    let here = with_status(in_region("here", 4, "a", "cn-here"), hint);
    let victim = in_region("victim", 5, "b", "cn-here");
    for object in forged.iter().chain([&here, &victim]) {
        registry.apply(object.clone(), true);
    }
    let (blocking_owner, _) = registry.blocking_owner(&victim, |_, _| Relation::OtherIdentity).unwrap();
    assert_eq!(blocking_owner.key, forged[0].key);
    registry.contested(&blocking_owner, "cn-here");
    registry.refused(&blocking_owner, Some("LTAI1".into()));
    let (blocking_owner, _) = registry.blocking_owner(&victim, |_, _| Relation::OtherIdentity).unwrap();
    assert_eq!(blocking_owner.key, here.key, "that region may be the right one");
    registry.refused(&blocking_owner, Some("LTAI1".into()));
    assert_eq!(registry.owner(&victim, |_, _| Relation::OtherIdentity), Owner::This);
}

/// The one that leads has made a call of unknown outcome, and the object is deleted. A process that stands by knows of it
/// from the status alone.
#[test]
fn a_process_that_stands_by_notes_the_call_of_a_deleted_object() {
    let (soon, later) =
        (Timestamp::now() + Duration::from_secs(60), Timestamp::now() + Duration::from_secs(90));
    let status = json!({"requestId": "R", "retry": {"unsettledUntil": soon}});
    let (registry, one, _) = two(status, json!({}), true);
    let gone = registry.delete(&one.key, &one.uid).gone.unwrap();
    let soon = Timestamp::from_second(soon.as_second()).unwrap();
    assert_eq!(gone.unsettled_until(None, later).map(Timestamp::as_second), Some(soon.as_second()));
    assert_eq!(gone.unsettled_until(Some(Term { settled: later }), later), Some(later));
    let forged = json!({"requestId": "R", "retry": {"unsettledUntil": "9999-12-30T00:00:00Z"}});
    let (registry, one, _) = two(forged, json!({}), true);
    let gone = registry.delete(&one.key, &one.uid).gone.unwrap();
    assert_eq!(gone.unsettled_until(None, later), Some(later), "no call takes longer");
}

#[test]
fn an_object_that_is_made_anew_gets_no_more_calls() {
    let registry = Registry::default();
    let one = object("one", 1, "a");
    registry.apply(one.clone(), false);
    let now = Timestamp::now();
    let calls_of_deleted = registry.calls(&one.key);
    (0..20).for_each(|_| calls_of_deleted.actions.spend(now));
    registry.delete(&one.key, &one.uid);
    registry.take_affected_each_tick(Timestamp::now());
    // A call that ends only now counts for the next object of that name.
    registry.calls(&one.key).actions.spend(now);
    assert!(registry.recent_calls(&one.key).unwrap().actions.opens(now).is_some());
    registry.apply(one.clone(), false);
    assert!(registry.recent_calls(&one.key).unwrap().actions.opens(now).is_some());
    // What counts for nothing any more is not kept.
    registry.delete(&one.key, &one.uid);
    registry.apply(one.clone(), false);
    let later = now + std::time::Duration::from_secs(3600);
    drop(calls_of_deleted);
    registry.remember(&one, |memory| memory.recover(later));
    assert_eq!(registry.remember(&one, |memory| memory.calls.is_some()), Some(false));
    assert!(registry.tables().calls_of_deleted.is_empty());
}

/// A Secret with this value and no record, as it was read.
fn read(current: &str, version: &str) -> Contents {
    let password = vncpassword_core::rotation::Password::parse(current.as_bytes()).unwrap();
    let print = vncpassword_core::rotation::facts::FingerprintKey::new(&[7; 64]).fingerprint(&password);
    let resource_version = version.into();
    Contents {
        version: SecretVersion { uid: "uid".into(), resource_version },
        current: vncpassword_core::rotation::contents::Slot::Valid(password, print),
        next: vncpassword_core::rotation::contents::Slot::Absent,
        record: None,
        closed: false,
        opened: true,
    }
}

#[test]
fn only_what_others_wrote_into_the_secret_counts() {
    let (mut memory, now) = (Memory::default(), Timestamp::now());
    let starts = |memory: &mut Memory, current, version| memory.read(Some(&read(current, version)), now);
    // What stands there at first, labels that change, own writes, and what may be an own write.
    for version in ["1", "2", "3", "4", "5", "6"] {
        assert!(!starts(&mut memory, "Abc123", version), "labels");
    }
    for current in ["Own111", "Own222", "Own333", "Own444", "Own555"] {
        memory.wrote(Some(&read(current, "7")), now);
        assert!(!starts(&mut memory, current, "7"), "own writes");
        memory.wrote(None, now);
        assert!(!starts(&mut memory, "Lost11", "8"), "a write without a reply");
    }
    assert!(memory.secret_competition.is_none());
    for (current, expected) in [("Rew111", false), ("Rew222", false), ("Rew333", false), ("Rew444", true)] {
        assert_eq!(starts(&mut memory, current, "9"), expected, "{current}");
    }
    // A Secret that is taken away counts as well.
    let mut memory = Memory::default();
    let taken = |memory: &mut Memory| {
        memory.wrote(Some(&read("Own111", "1")), now);
        memory.read(None, now)
    };
    let taken = [taken(&mut memory), taken(&mut memory), taken(&mut memory), taken(&mut memory)];
    assert_eq!(taken, [false, false, false, true]);
}

#[test]
fn only_what_others_wrote_into_the_status_counts() {
    let now = Timestamp::now();
    let said = |text: &str| with_status(object("one", 1, "a"), json!({"requestId": text}));
    let mut memory = Memory::default();
    for text in ["first", "first"] {
        assert!(!memory.saw_status(&said(text), None, now), "what stood there at first");
    }
    for text in ["own", "own again", "and again"] {
        memory.wrote_status(&said(text), None, now);
        assert!(!memory.saw_status(&said(text), None, now), "own writes");
    }
    assert!(!memory.saw_status(&said("theirs"), None, now));
    memory.wrote_status(&said("own"), None, now);
    assert!(memory.saw_status(&said("theirs"), None, now));
    // A new object that has a status already.
    let mut new = Memory { never_called: true, ..Memory::default() };
    assert!(!new.saw_status(&object("one", 1, "a"), None, now) && new.status_competition.is_none());
    let mut new = Memory { never_called: true, ..Memory::default() };
    assert!(!new.saw_status(&said("theirs"), None, now) && new.status_competition.is_some());
    // A write without a reply.
    let mut lost = Memory { never_called: true, ..Memory::default() };
    let mut object = said("before");
    lost.lost_status_write(&object);
    assert!(!lost.saw_status(&object, None, now), "the watch is behind");
    object.resource_version = "2".into();
    object = with_status(object, json!({"requestId": "own"}));
    assert!(!lost.saw_status(&object, None, now) && lost.status_competition.is_none());
    let waits = |memory: &Memory| memory.status_competition.as_ref().unwrap().waits_until(now).is_some();
    assert!(waits(&memory));
    // A person changes the spec: that is reported now.
    let mut edited = said("theirs");
    edited.generation += 1;
    assert!(!memory.saw_status(&edited, None, now) && !waits(&memory));
    // Another version of the Secret asks for a status as well, each time.
    let mut asked = Memory::default();
    for version in ["1", "2", "3", "4"] {
        let secret = SecretVersion { uid: "s".into(), resource_version: version.into() };
        assert!(!asked.saw_status(&said(version), Some(&secret), now) && asked.status_competition.is_none());
    }
}
