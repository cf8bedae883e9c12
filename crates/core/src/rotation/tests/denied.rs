//! Objects that lack a right that others lack too (N7 to N9): which wait, and what makes one try.

use super::*;
use crate::rotation::denied::{
    GroupRetry, MissingRight, is_rotate_at_new, missing_right, triggers_immediate_try,
};

/// A value that the API denied, with that code.
fn denied(code: &str) -> Observed {
    let mut observed = new();
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, refused(code), 0);
    next(&mut observed, &verdict);
    observed.read = None;
    observed.history.examined = Some(version(1));
    observed
}

#[test]
fn what_is_denied_is_told_by_the_status() {
    let table = [
        (denied("Forbidden.RAM").status, Some(MissingRight::SetPassword("Forbidden.RAM"))),
        (denied("NoPermission").status, Some(MissingRight::SetPassword("NoPermission"))),
        (denied("InstanceLockedForSecurity").status, None),
        (denied("NoSuchResource").status, None),
        (denied("InvalidAccessKeyId.NotFound").status, None),
        (Arc::new(stalled_with(Reason::InstanceUnknown)), Some(MissingRight::SeeInstance)),
        (Arc::new(VncPasswordStatus::default()), None),
    ];
    for (status, expected) in table {
        assert_eq!(missing_right(&status), expected, "{status:?}");
    }
}

#[test]
fn a_denied_object_is_tried_when_its_group_says_so_and_not_before() {
    let mut observed = denied("Forbidden.RAM");
    for second in [1, 599, 601, 7200] {
        observed.history.group_retry = Some(GroupRetry::Waits);
        let verdict = resting(&observed, second);
        assert_eq!(verdict.status, *observed.status, "after {second} s: nothing is written");
        assert_eq!((verdict.wake, verdict.look), (Some(at(second + 600)), None));
        observed.history.group_retry = Some(GroupRetry::Tries { since: at(second) });
        assert!(matches!(decide(&observed, at(second)), Decision::ReadSecret), "after {second} s");
    }
    // In the limiter's line it stays a member of its group.
    observed.limiter_opens = Some(at(30));
    let verdict = resting(&observed, 1);
    assert_eq!((verdict.status, verdict.wake), ((*observed.status).clone(), Some(at(30))));
}

#[test]
fn a_resend_that_is_denied_waits_for_its_group_too() {
    let mut observed = denied("Forbidden.RAM");
    edit(&mut observed, |status| {
        status.applied = Some(Applied {
            secret_uid: "uid".into(),
            secret_resource_version: "1".into(),
            time: Time(at(-7200)),
            rotation: None,
        });
    });
    observed.enforce_interval = Some(Duration::from_secs(3600));
    observed.history.group_retry = Some(GroupRetry::Waits);
    assert_eq!(resting(&observed, 3000).wake, Some(at(3600)));
    observed.history.group_retry = Some(GroupRetry::Tries { since: at(1) });
    assert!(matches!(decide(&observed, at(1)), Decision::ReadSecret));
}

#[test]
fn an_instance_that_nobody_sees_is_polled_when_its_group_says_so() {
    let mut observed = new();
    edit(&mut observed, |status| {
        *status = stalled_with(Reason::InstanceUnknown);
        status.observed_generation = Some(1);
    });
    std::sync::Arc::make_mut(&mut observed.spec).rotation = Some(Box::default());
    observed.plan = Plan::new(observed.spec.rotation.as_deref(), None);
    observed.secret = None;
    observed.history.group_retry = Some(GroupRetry::Waits);
    observed.read = Some(SecretRead::Missing);
    let verdict = resting(&observed, 10);
    assert_eq!(verdict.status.reason(ConditionType::Stalled), Some(Reason::InstanceUnknown));
    assert_eq!((verdict.wake, verdict.look), (Some(at(610)), None));
    // A poll from before its turn says nothing.
    observed.history.group_retry = Some(GroupRetry::Tries { since: at(20) });
    observed.look = Some(Look { at: at(19), found: Found::Unseen });
    assert_eq!(resting(&observed, 20).look, Some(at(20)));
    observed.look = Some(Look { at: at(20), found: Found::Unseen });
    assert_eq!(resting(&observed, 21).status.reason(ConditionType::Stalled), Some(Reason::InstanceUnknown));
}

#[test]
fn changes_trigger_an_immediate_try() {
    type Change = fn(&mut Observed);
    let table: [(&str, Change, bool); 6] = [
        ("nothing", |_| {}, false),
        ("a new spec", |it| it.generation += 1, true),
        ("another version of the Secret", |it| it.secret = Some(version(2)), true),
        ("other credentials", |it| it.credentials_changed = true, true),
        ("rotate-at", |it| it.history.rotate_at_is_new = true, true),
        ("a process that has read nothing", |it| it.history.examined = None, false),
    ];
    for (name, change, expected) in table {
        let mut observed = denied("Forbidden.RAM");
        change(&mut observed);
        assert_eq!(triggers_immediate_try(&observed), expected, "{name}");
    }
}

#[test]
fn the_annotation_asks_for_one_try() {
    let asked = |second: i64| RotateAt::At(at(second));
    // The annotation, that of the last try, and whether it asks for one. The call failed in second 0.
    let table = [
        ("none", RotateAt::Never, None, false),
        ("new", asked(10), Some(RotateAt::Never), true),
        ("of the last try", asked(10), Some(asked(10)), false),
        ("another, earlier by a clock that is behind", asked(-5), Some(asked(-60)), true),
        ("to come", asked(100), Some(RotateAt::Never), false),
        ("later than the failure that another process saw", asked(10), None, true),
        ("earlier than that", asked(-10), None, false),
        ("no time", RotateAt::Invalid, Some(RotateAt::Never), false),
    ];
    for (name, rotate_at, tried, expected) in table {
        let mut observed = denied("Forbidden.RAM");
        observed.created = at(-1000);
        observed.rotate_at = rotate_at;
        assert_eq!(is_rotate_at_new(&observed, tried, at(20)), expected, "{name}");
    }
}

#[test]
fn the_annotation_ends_the_wait_of_whatever_is_stalled() {
    let table = [("NoSuchResource", true), ("SomethingNew", true), ("InternalError", false)];
    for (code, ends) in table {
        let mut observed = denied(code);
        observed.history.rotate_at_is_new = true;
        let tries = matches!(decide(&observed, at(1)), Decision::ReadSecret);
        assert_eq!(tries, ends, "{code}");
    }
}
