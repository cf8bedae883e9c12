//! Tests of discovery results and of the selection of members.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::api::{SkipReason, UnconfirmedDiscovery};

fn ids<'a>(ids: impl IntoIterator<Item = &'a Box<str>>) -> Vec<&'a str> {
    ids.into_iter().map(AsRef::as_ref).collect()
}

#[test]
fn nodes_without_an_instance_are_skipped() {
    let result = DiscoveryResult::from_nodes([
        ("a", Some("cn-hangzhou.i-a")),
        ("b", Some("alicloud://cn-beijing.i-b")),
        ("duplicate-2", Some("alicloud://cn-hangzhou.i-t")),
        ("duplicate-1", Some("cn-hangzhou.i-t")),
        ("new", None),
        ("other", Some("aws:///eu-west-1a/i-0abc")),
        ("odd", Some("cn-hangzhou.")),
    ]);
    assert_eq!(ids(result.found.keys()), ["i-a", "i-b"]);
    assert_eq!(result.found["i-b"].as_deref(), Some("cn-beijing"));
    assert_eq!(ids(&result.uncertain), ["i-t"]);
    let skipped: Vec<_> = result.skipped.iter().map(|it| (it.node.as_str(), it.reason)).collect();
    let expected = [
        ("duplicate-1", SkipReason::DuplicateProviderId),
        ("duplicate-2", SkipReason::DuplicateProviderId),
        ("new", SkipReason::NoProviderId),
        ("odd", SkipReason::MalformedProviderId),
        ("other", SkipReason::ForeignProviderId),
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn excluded_instances_and_instances_without_required_tags_are_left_out() {
    let all =
        || DiscoveryResult::from_list(&["i-a", "cn-hangzhou.i-b", "i-c", "i-d", "no"].map(str::to_owned));
    assert_eq!(ids(all().found.keys()), ["i-a", "i-b", "i-c", "i-d"]);
    assert_eq!(ids(all().exclude(&["i-c".to_owned()]).found.keys()), ["i-a", "i-b", "i-d"]);
    let matches = |id: &str| match id {
        "i-a" => Some(true),
        "i-b" => Some(false),
        _ => None,
    };
    let tagged = all().require_tags(matches);
    assert_eq!(ids(tagged.found.keys()), ["i-a"]);
    assert_eq!(
        ids(&tagged.uncertain),
        ["i-c", "i-d"],
        "an instance that the cloud does not show is uncertain"
    );
    let duplicates =
        DiscoveryResult::from_nodes([("a", Some("cn-hangzhou.i-b")), ("b", Some("cn-hangzhou.i-b"))]);
    assert!(duplicates.require_tags(matches).uncertain.is_empty());
    let tagged = DiscoveryResult::from_tags([("cn-hangzhou", "i-a"), ("cn-hangzhou", "x")]);
    assert_eq!(ids(tagged.found.keys()), ["i-a"]);
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("i-{number:03}")).collect()
}

#[test]
fn a_result_that_would_prune_too_much_needs_confirmation() {
    // Instances with member objects, instances found, and whether the result is accepted without
    // confirmation.
    let table = [
        (0..0, 0..0, true),
        (0..0, 0..100, true),
        (0..100, 0..100, true),
        (0..100, 0..50, true),
        (0..100, 0..49, false),
        (0..100, 60..200, false),
        (0..100, 0..0, false),
        (0..10, 0..5, true),
        (0..10, 0..4, false),
        (0..9, 0..1, true),
        (0..9, 0..0, false),
        (0..1, 0..0, false),
        (0..1, 1..2, true),
    ];
    for (existing, found, accepted) in table {
        let name = format!("{existing:?} exist, {found:?} found");
        let (existing, result) = (numbered(existing), DiscoveryResult::from_list(&numbered(found)));
        let existing: BTreeSet<&str> = existing.iter().map(String::as_str).collect();
        let selection = select(&result, now(), &existing, None, Duration::from_secs(600), now());
        assert_eq!(selection.degraded, !accepted, "{name}");
        assert_eq!(selection.doubt.is_some(), !accepted, "{name}");
        let gone = existing.iter().filter(|id| !result.found.contains_key(**id)).count();
        assert_eq!(selection.to_prune.len(), if accepted { gone } else { 0 }, "{name}");
        let retained =
            selection.members.values().filter(|membership| **membership == Membership::Retained).count();
        assert_eq!(retained, if accepted { 0 } else { gone }, "{name}");
    }
}

#[test]
fn a_repeated_result_is_confirmed() {
    let existing = numbered(0..20);
    let existing: BTreeSet<&str> = existing.iter().map(String::as_str).collect();
    let few = DiscoveryResult::from_list(&numbered(0..3));
    let confirmed_after = |interval: u64| {
        let mut doubt: Option<UnconfirmedDiscovery> = None;
        let mut writes = 0;
        for second in (0..).step_by(10) {
            let before = doubt.clone();
            let selection = select(
                &few,
                at(NOW + second),
                &existing,
                before.as_ref(),
                Duration::from_secs(interval),
                at(NOW + second),
            );
            writes += u32::from(selection.doubt != doubt);
            doubt = selection.doubt;
            if !selection.degraded {
                assert_eq!(selection.to_prune.len(), 17);
                assert!(doubt.is_some(), "it stays confirmed until all are pruned");
                return (second, writes);
            }
        }
        unreachable!()
    };
    assert_eq!(confirmed_after(600), (1200, 3), "three times, ten minutes apart");
    assert_eq!(confirmed_after(60), (600, 3), "ten minutes at least");
    // The same result counts once.
    let later = |before: Option<&UnconfirmedDiscovery>, second| {
        select(&few, at(NOW), &existing, before, Duration::from_secs(60), at(NOW + second)).doubt
    };
    let first = later(None, 0);
    assert_eq!(later(first.as_ref(), 3600), first);
    let doubt = UnconfirmedDiscovery { since: Time(at(0)), answers: 3, counted_at: Time(at(0)) };
    let all = DiscoveryResult::from_list(&numbered(0..20));
    let interval = Duration::from_secs(600);
    assert_eq!(
        select(&all, now(), &existing, Some(&doubt), interval, now()).doubt,
        None,
        "a good result removes the unconfirmed one"
    );
    let future = UnconfirmedDiscovery { since: Time(at(2 * NOW)), answers: 2, counted_at: Time(at(2 * NOW)) };
    let selection = select(&few, now(), &existing, Some(&future), interval, now());
    assert_eq!(selection.doubt.unwrap().since, Time(now()), "the clock was set back");
}

#[test]
fn member_objects_stay_without_a_result() {
    let existing = BTreeSet::from(["i-a", "i-b"]);
    let selection = retain_members(&existing, None);
    assert!(selection.degraded && selection.to_prune.is_empty());
    assert_eq!(selection.members.len(), 2);
    let duplicates =
        DiscoveryResult::from_nodes([("a", Some("cn-hangzhou.i-a")), ("b", Some("cn-hangzhou.i-a"))]);
    let selection = select(&duplicates, now(), &existing, None, Duration::from_secs(600), now());
    assert_eq!(selection.members.len(), 1, "an uncertain instance stays: {selection:?}");
    assert_eq!(ids(&selection.to_prune), ["i-b"]);
}
