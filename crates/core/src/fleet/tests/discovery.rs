//! Which instances a fleet has, as tables.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::api::{Doubt, SkipReason};

fn ids<'a>(answer: impl IntoIterator<Item = &'a Box<str>>) -> Vec<&'a str> {
    answer.into_iter().map(AsRef::as_ref).collect()
}

#[test]
fn nodes_become_instances_or_are_named() {
    let answer = Answer::of_nodes([
        ("a", Some("cn-hangzhou.i-a")),
        ("b", Some("alicloud://cn-beijing.i-b")),
        ("twin-2", Some("alicloud://cn-hangzhou.i-t")),
        ("twin-1", Some("cn-hangzhou.i-t")),
        ("new", None),
        ("other", Some("aws:///eu-west-1a/i-0abc")),
        ("odd", Some("cn-hangzhou.")),
    ]);
    assert_eq!(ids(answer.found.keys()), ["i-a", "i-b"]);
    assert_eq!(answer.found["i-b"].as_deref(), Some("cn-beijing"));
    assert_eq!(ids(&answer.held), ["i-t"]);
    let skipped: Vec<_> = answer.skipped.iter().map(|it| (it.node.as_str(), it.reason)).collect();
    let expected = [
        ("new", SkipReason::NoProviderId),
        ("odd", SkipReason::MalformedProviderId),
        ("other", SkipReason::ForeignProviderId),
        ("twin-1", SkipReason::DuplicateProviderId),
        ("twin-2", SkipReason::DuplicateProviderId),
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn what_is_excluded_or_lacks_a_tag_is_left_out() {
    let all = || Answer::of_list(&["i-a", "cn-hangzhou.i-b", "i-c", "i-d", "no"].map(str::to_owned));
    assert_eq!(ids(all().found.keys()), ["i-a", "i-b", "i-c", "i-d"]);
    assert_eq!(ids(all().less(&["i-c".to_owned()]).found.keys()), ["i-a", "i-b", "i-d"]);
    let fits = |id: &str| match id {
        "i-a" => Some(true),
        "i-b" => Some(false),
        _ => None,
    };
    let tagged = all().only(fits);
    assert_eq!(ids(tagged.found.keys()), ["i-a"]);
    assert_eq!(ids(&tagged.held), ["i-c", "i-d"], "what the cloud does not show is not gone");
    let twins = Answer::of_nodes([("a", Some("cn-hangzhou.i-b")), ("b", Some("cn-hangzhou.i-b"))]);
    assert!(twins.only(fits).held.is_empty());
    let tagged = Answer::of_tagged([("cn-hangzhou", "i-a"), ("cn-hangzhou", "x")]);
    assert_eq!(ids(tagged.found.keys()), ["i-a"]);
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("i-{number:03}")).collect()
}

#[test]
fn an_answer_that_would_prune_too_much_is_not_believed_at_once() {
    // How many children there are, which instances are found, and whether that is believed.
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
    for (known, found, believed) in table {
        let name = format!("{known:?} are known, {found:?} found");
        let (known, answer) = (numbered(known), Answer::of_list(&numbered(found)));
        let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
        let selection = select(&answer, now(), &known, None, Duration::from_secs(600), now());
        assert_eq!(selection.degraded, !believed, "{name}");
        assert_eq!(selection.doubt.is_some(), !believed, "{name}");
        let gone = known.iter().filter(|id| !answer.found.contains_key(**id)).count();
        assert_eq!(selection.vanished.len(), if believed { gone } else { 0 }, "{name}");
        let kept = selection.members.values().filter(|wanted| **wanted == Wanted::Kept).count();
        assert_eq!(kept, if believed { 0 } else { gone }, "{name}");
    }
}

#[test]
fn an_answer_that_comes_again_and_again_is_believed() {
    let known = numbered(0..20);
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    let few = Answer::of_list(&numbered(0..3));
    let believed_after = |interval: u64| {
        let mut doubt: Option<Doubt> = None;
        let mut writes = 0;
        for second in (0..).step_by(10) {
            let before = doubt.clone();
            let selection = select(
                &few,
                at(NOW + second),
                &known,
                before.as_ref(),
                Duration::from_secs(interval),
                at(NOW + second),
            );
            writes += u32::from(selection.doubt != doubt);
            doubt = selection.doubt;
            if !selection.degraded {
                assert_eq!(selection.vanished.len(), 17);
                assert!(doubt.is_some(), "it stays believed until all are pruned");
                return (second, writes);
            }
        }
        unreachable!()
    };
    assert_eq!(believed_after(600), (1200, 3), "three times, ten minutes apart");
    assert_eq!(believed_after(60), (600, 3), "ten minutes at least");
    // The same answer, looked at again and again, counts once.
    let later = |before: Option<&Doubt>, second| {
        select(&few, at(NOW), &known, before, Duration::from_secs(60), at(NOW + second)).doubt
    };
    let first = later(None, 0);
    assert_eq!(later(first.as_ref(), 3600), first);
    let doubt = Doubt { since: Time(at(0)), answers: 3, counted_at: Time(at(0)) };
    let all = Answer::of_list(&numbered(0..20));
    let interval = Duration::from_secs(600);
    assert_eq!(
        select(&all, now(), &known, Some(&doubt), interval, now()).doubt,
        None,
        "one good answer ends the doubt"
    );
    let jumped = Doubt { since: Time(at(2 * NOW)), answers: 2, counted_at: Time(at(2 * NOW)) };
    let selection = select(&few, now(), &known, Some(&jumped), interval, now());
    assert_eq!(selection.doubt.unwrap().since, Time(now()), "the clock has jumped back");
}

#[test]
fn without_an_answer_the_children_stay() {
    let known = BTreeSet::from(["i-a", "i-b"]);
    let selection = blind(&known, None);
    assert!(selection.degraded && selection.vanished.is_empty());
    assert_eq!(selection.members.len(), 2);
    let twins = Answer::of_nodes([("a", Some("cn-hangzhou.i-a")), ("b", Some("cn-hangzhou.i-a"))]);
    let selection = select(&twins, now(), &known, None, Duration::from_secs(600), now());
    assert_eq!(selection.members.len(), 1, "the child of twins stays: {selection:?}");
    assert_eq!(ids(&selection.vanished), ["i-b"]);
}
