//! Generated passwords told as tables: what is there, and the steps that `decide` takes.

use std::collections::VecDeque;

use serde_json::json;

use super::*;
use crate::{
    api::{RebootRequest, Rotation},
    rotation::{
        contents::{Change, Record, SecretWrite},
        facts::{Drawn, History},
        refusal::{self, Refusal, RefusedWrite},
    },
};

/// One object, its Secret and what the cloud will say.
struct Play {
    observed: Observed,
    secret: Option<Stored>,
    replies: VecDeque<Reply>,
    /// Why the API server does not take writes of the Secret.
    refusal: Option<Refusal>,
    /// It begins to refuse after so many writes.
    refuse_after: Option<(u32, Refusal)>,
    /// A call whose outcome could not be written.
    kept: Option<Attempt>,
    draws: u32,
    now: Timestamp,
    verdict: Option<Verdict>,
}

#[derive(Clone, Default)]
struct Stored {
    version: u32,
    current: Option<String>,
    next: Option<String>,
    previous: Option<String>,
    record: Option<Record>,
    opened: bool,
    closed: bool,
}

const ID: &str = "i-1";

impl Play {
    /// A new object with `rotation: {}` at an instance known to be I/O optimized, and no Secret.
    fn new() -> Self {
        let mut observed = new();
        change(&mut observed, |spec| spec.rotation = Some(Box::default()));
        observed.secret = None;
        let (replies, now) = (VecDeque::new(), at(0));
        Self {
            observed,
            secret: None,
            replies,
            refusal: None,
            refuse_after: None,
            kept: None,
            draws: 0,
            now,
            verdict: None,
        }
    }

    /// An object that has generated Drawn1 at second 0.
    fn settled() -> Self {
        let mut play = Self::new();
        play.run(0);
        assert_eq!(play.status().ready(), True);
        play
    }

    /// The same, at an instance that is not I/O optimized; it was restarted for it.
    fn needs_restarts() -> Self {
        let mut play = Self::settled();
        edit(&mut play.observed, |status| {
            status.instance.get_or_insert_default().io_optimized = Some(false);
        });
        play
    }

    fn opened(current: Option<&str>) -> Self {
        let mut play = Self::new();
        let current = current.map(ToOwned::to_owned);
        play.secret = Some(Stored { version: 1, current, opened: true, ..Stored::default() });
        play
    }

    fn status(&self) -> &VncPasswordStatus {
        &self.observed.status
    }

    fn stored(&mut self) -> &mut Stored {
        let stored = self.secret.as_mut().unwrap();
        stored.version += 1;
        stored
    }

    fn asked(&mut self, second: i64) {
        self.observed.rotate_at = RotateAt::At(at(second));
    }

    fn reply(mut self, replies: impl IntoIterator<Item = Reply>) -> Self {
        self.replies.extend(replies);
        self
    }

    /// Runs one pass; what it did, step by step.
    fn run(&mut self, second: i64) -> Vec<String> {
        self.now = at(second);
        let mut observed = self.observed.clone();
        observed.secret = self.secret.as_ref().map(|stored| version(stored.version));
        observed.attempt = self.kept.take();
        let mut steps = Vec::new();
        for _ in 0..20 {
            match decide(&observed, at(second)) {
                Decision::ReadCredentials => panic!("they are known"),
                Decision::ReadSecret => {
                    steps.push("read".to_owned());
                    observed.read = Some(self.read());
                }
                Decision::Draw => {
                    self.draws += 1;
                    let password = format!("Drawn{}", self.draws);
                    let password = Password::parse(password.as_bytes()).unwrap();
                    observed.drawn = Some(Drawn { id: format!("id{}", self.draws), password });
                }
                Decision::WriteSecret(write) if let Some(refusal) = self.refusal.clone() => {
                    steps.push("refused".to_owned());
                    let (creates, certain) = (write.replaces.is_none(), refusal.is_certain());
                    self.observed.history.creation_refused = creates && certain;
                    observed.refused = Some(RefusedWrite {
                        refusal,
                        said: None,
                        creates,
                        promotes: refusal::promotes(&write, observed.contents()),
                        retry_after: Duration::from_secs(5),
                    });
                    self.kept.clone_from(&observed.attempt);
                }
                Decision::WriteSecret(write) => {
                    self.observed.history.creation_refused = false;
                    if let Some((writes, refusal)) = self.refuse_after.take() {
                        let left = writes - 1;
                        self.refusal = (left == 0).then(|| refusal.clone());
                        self.refuse_after = (left > 0).then_some((left, refusal));
                    }
                    steps.push(self.write(&write));
                    observed.read = Some(self.read());
                    observed.drawn = None;
                }
                Decision::Send(purpose) => {
                    let (password, value) = observed.to_send(purpose).unwrap();
                    steps.push(format!("send {}", password.expose()));
                    let contents = observed.contents().unwrap();
                    let tries = observed.attempt.as_ref().map_or(1, |attempt| attempt.tries + 1);
                    let record = contents.record_of(ID).filter(|_| purpose == Purpose::Rotate);
                    let rotation = record.map(|record| record.id.clone());
                    let repeats = record.is_some_and(Record::repeats);
                    let reply = self.replies.pop_front().unwrap_or_else(|| accepted("R"));
                    let (version, at) = (contents.version.clone(), at(second));
                    let all_classes = true;
                    observed.attempt = Some(Attempt {
                        purpose,
                        version,
                        value,
                        rotation,
                        repeats,
                        superseded: observed.superseded,
                        io_optimized: observed.io_optimized(),
                        look: observed.look.clone(),
                        all_classes,
                        tries,
                        at,
                        reply,
                    });
                    note_late(&mut observed);
                    self.observed.history.unsettled.clone_from(&observed.history.unsettled);
                }
                Decision::Announce(announcement, verdict) => {
                    steps.push(format!("announce {announcement:?}"));
                    observed.status = Arc::new(verdict.status);
                    observed.announced = Some(announcement);
                }
                Decision::Reboot => {
                    steps.push("reboot".to_owned());
                    observed.rebooted = Some(self.replies.pop_front().unwrap_or_else(|| accepted("R")));
                }
                Decision::Rest(verdict) => {
                    self.rest(&observed, *verdict);
                    return steps;
                }
            }
        }
        panic!("a pass that does not end: {steps:#?}");
    }

    fn rest(&mut self, observed: &Observed, verdict: Verdict) {
        assert!(
            verdict.wake.is_none_or(|wake| wake > self.now),
            "woken at once, for ever: {:#?}",
            verdict.status
        );
        self.observed.status = Arc::new(verdict.status.clone());
        if !verdict.deferred
            && let Some(read) = &observed.read
        {
            self.observed.history.examined = read.version().cloned();
        }
        if verdict.applied_value.is_some() {
            self.observed.history.applied.clone_from(&verdict.applied_value);
        }
        self.verdict = Some(verdict);
    }

    fn read(&self) -> SecretRead {
        let Some(stored) = &self.secret else { return SecretRead::Missing };
        let slot = |value: &Option<String>| match value {
            None => Slot::Absent,
            Some(value) if Password::parse(value.as_bytes()).is_ok() => valid(value),
            Some(_) => Slot::Invalid,
        };
        SecretRead::Found(Box::new(Contents {
            version: version(stored.version),
            current: slot(&stored.current),
            next: slot(&stored.next),
            record: stored.record.clone(),
            closed: stored.closed,
            opened: stored.opened,
        }))
    }

    fn write(&mut self, write: &SecretWrite) -> String {
        let made = self.secret.is_none();
        assert_eq!(write.replaces, self.secret.as_ref().map(|stored| version(stored.version)));
        let stored = self.secret.get_or_insert_default();
        stored.version += 1;
        let mut told = vec![if made { "make" } else { "write" }.to_owned()];
        for (name, slot, change) in [
            ("key", &mut stored.current, &write.current),
            ("next", &mut stored.next, &write.next),
            ("previous", &mut stored.previous, &write.previous),
        ] {
            match change {
                Change::Keep => {}
                Change::Set(password) => {
                    *slot = Some(password.expose().to_owned());
                    told.push(format!("{name}={}", password.expose()));
                }
                Change::Remove => {
                    *slot = None;
                    told.push(format!("-{name}"));
                }
            }
        }
        told.push(format!("{:?}", write.record.state).to_lowercase());
        let before = stored.record.as_ref().and_then(|record| record.unsettled_until);
        if write.record.unsettled_until > before {
            told.push("unsettled".to_owned());
        }
        stored.record = Some(write.record.clone());
        told.join(" ")
    }
}

fn reason(play: &Play) -> Option<Reason> {
    play.status().reason(ConditionType::Stalled).or(play.status().reason(ConditionType::Reconciling))
}

#[test]
fn the_first_password_is_written_before_it_is_sent() {
    let mut play = Play::new();
    let steps = play.run(0);
    let expected = [
        "read",
        "announce FirstPassword",
        "make next=Drawn1 drawn",
        "send Drawn1",
        "write key=Drawn1 -next done",
    ];
    assert_eq!(steps, expected);
    assert_eq!(reasons(play.status()), (True, None, None));
    assert_eq!((play.status().rotations, play.status().request_id.as_deref()), (Some(1), Some("R")));
    assert_eq!(play.run(100), [""; 0], "in sync nothing is read");
}

#[test]
fn a_refused_creation_is_reported_and_retried_without_another_announcement() {
    for younger in [true, false] {
        let mut play = Play::new();
        play.observed.history.untouched = younger;
        play.refusal = Some(Refusal::Quota);
        assert_eq!(play.run(0), ["read", "announce FirstPassword", "refused"]);
        let told = (False, Some(Reason::Generating), Some(Reason::QuotaExceeded));
        let ready = play.status().reason(ConditionType::Ready);
        assert_eq!((play.status().ready(), ready, reason(&play)), told);
        assert_eq!(play.verdict.as_ref().unwrap().wake, Some(at(5)));
        let status = play.status().clone();
        assert_eq!(play.run(5), ["read", "refused"]);
        assert_eq!(*play.status(), status, "nothing is written again");
        play.refusal = None;
        let steps = ["read", "make next=Drawn3 drawn", "send Drawn3", "write key=Drawn3 -next done"];
        assert_eq!(play.run(10), steps);
        assert_eq!(reasons(play.status()), (True, None, None));
    }
}

#[test]
fn after_a_refused_creation_a_new_process_settles_since_the_next_attempt_may_have_succeeded() {
    let mut play = Play::new();
    play.refusal = Some(Refusal::Quota);
    play.run(0);
    play.observed.history = History::default();
    assert_eq!(play.run(100), ["read"]);
    assert_eq!(reason(&play), Some(Reason::Settling));
    // Nor is it lost with the access to the cloud.
    let mut play = Play::new();
    play.refusal = Some(Refusal::Quota);
    play.run(0);
    play.observed.history = History::default();
    play.observed.access = Access::Missing;
    play.run(100);
    play.observed.access = Access::Granted;
    assert_eq!(play.run(200), ["read"]);
    assert_eq!(reason(&play), Some(Reason::Settling));
}

#[test]
fn a_creation_of_unknown_outcome_is_no_refusal() {
    let mut play = Play::new();
    play.observed.history.untouched = false;
    play.refusal = Some(Refusal::Unavailable(503));
    assert_eq!(play.run(0), ["read", "announce FirstPassword", "refused"]);
    assert_eq!(play.status().reason(ConditionType::Reconciling), Some(Reason::SecretWriteFailed));
    assert_eq!(play.run(5), ["read"]);
    assert_eq!(reason(&play), Some(Reason::Settling));
}

#[test]
fn a_rotation_that_may_not_begin_leaves_ready_as_it_was() {
    let mut play = Play::settled();
    play.asked(100);
    play.refusal = Some(Refusal::Webhook("w".to_owned(), 400));
    assert_eq!(play.run(100), ["read", "refused"]);
    assert_eq!(reasons(play.status()), (True, None, Some(Reason::WebhookDenied)));
    play.refusal = None;
    play.run(105);
    assert_eq!(reasons(play.status()), (True, None, None));
    assert_eq!(play.status().rotations, Some(2));
}

#[test]
fn a_promotion_that_is_refused_costs_ready_and_no_second_call() {
    let mut play = Play::settled();
    play.asked(100);
    // The policy comes between the two writes.
    play.refuse_after = Some((1, Refusal::Policy));
    assert_eq!(play.run(100), ["read", "write next=Drawn2 drawn", "send Drawn2", "refused"]);
    let text = &play.status().condition(ConditionType::Stalled).unwrap().message;
    assert!(text.ends_with("the password in effect is in key password.next"), "{text}");
    assert_eq!(reasons(play.status()), (False, None, Some(Reason::PolicyDenied)));
    assert_eq!(play.status().applied, None, "nor does a process after this one take it for that");
    assert_eq!(play.run(105), ["read", "refused"]);
    play.refusal = None;
    assert_eq!(play.run(110), ["read", "write key=Drawn2 -next previous=Drawn1 done"]);
    assert_eq!((reasons(play.status()), play.status().rotations), ((True, None, None), Some(2)));
}

#[test]
fn an_unknown_outcome_that_cannot_be_recorded_is_in_the_status() {
    let mut play = Play::settled().reply([Reply::Unknown]);
    play.asked(100);
    play.refuse_after = Some((1, Refusal::Policy));
    assert_eq!(play.run(100), ["read", "write next=Drawn2 drawn", "send Drawn2", "refused"]);
    assert_eq!(reasons(play.status()).2, Some(Reason::PolicyDenied));
    assert_eq!(play.status().ready(), Unknown);
    assert_eq!(play.status().unsettled_until(), Some(settled_at(at(100), play.observed.settle)));
}

#[test]
fn a_rotation_on_demand_is_done_once() {
    let mut play = Play::settled();
    play.asked(100);
    assert_eq!(play.run(50), [""; 0]);
    assert_eq!(play.verdict.as_ref().unwrap().wake, Some(at(100)));
    let steps = play.run(100);
    let expected =
        ["read", "write next=Drawn2 drawn", "send Drawn2", "write key=Drawn2 -next previous=Drawn1 done"];
    assert_eq!(steps, expected);
    assert_eq!(play.status().last_handled_rotate_at, Some(Time(at(100))));
    assert_eq!(play.run(1000), [""; 0]);
    // Though nothing of it had reached the status.
    edit(&mut play.observed, |status| *status = VncPasswordStatus::default());
    play.observed.look = Some(look(1000, "Running", true, 0));
    assert_eq!(play.run(1000)[1..3], ["write next=Drawn2 drawn", "send Drawn2"]);
    assert_eq!(play.status().last_handled_rotate_at, Some(Time(at(100))));
    assert_eq!(play.status().request_id.as_deref(), Some("R"));
}

#[test]
fn an_interval_falls_due_once_however_long_nobody_looked() {
    let mut play = Play::settled();
    let rotation = Rotation { interval: Some("10m".into()), ..Rotation::default() };
    play.observed.plan = Plan::new(Some(&rotation), None);
    change(&mut play.observed, |spec| spec.rotation = Some(Box::new(rotation)));
    assert_eq!(play.run(1), ["read"], "a new spec: whose Secret it is has to be seen");
    assert_eq!(play.status().next_rotation_time, Some(Time(at(600))));
    assert_eq!(play.run(100_000).len(), 4);
    assert_eq!(play.run(100_001), [""; 0]);
    assert_eq!(play.status().rotations, Some(2));
    assert_eq!(play.status().next_rotation_time, Some(Time(at(100_600))));
}

#[test]
fn a_clock_that_jumps_rotates_once_and_not_again() {
    let mut play = Play::settled();
    let rotation = Rotation { interval: Some("10m".into()), ..Rotation::default() };
    play.observed.plan = Plan::new(Some(&rotation), None);
    change(&mut play.observed, |spec| spec.rotation = Some(Box::new(rotation)));
    let year = 365 * 86_400;
    assert_eq!(play.run(year).len(), 4, "a year ahead");
    play.run(300);
    assert_eq!(play.status().last_rotation_time, Some(Time(at(300))), "and back: that counts as now");
    assert_eq!(play.run(301), [""; 0]);
    assert_eq!(play.run(899), [""; 0]);
    assert_eq!(play.run(900).len(), 4);
}

#[test]
fn after_a_lost_reply_the_same_password_is_sent_and_no_other_is_drawn_before_settle() {
    let mut play = Play::settled().reply([Reply::Unknown]);
    play.asked(100);
    let steps = play.run(100);
    assert_eq!(steps, ["read", "write next=Drawn2 drawn", "send Drawn2", "write drawn unsettled"]);
    assert_eq!(reasons(play.status()), (Unknown, Some(Reason::OutcomeUnknown), None));
    assert_eq!(play.run(101), [""; 0], "backoff");
    assert_eq!(play.run(106), ["read", "send Drawn2", "write key=Drawn2 -next previous=Drawn1 done"]);
    assert_eq!(reasons(play.status()), (True, None, None));
    play.asked(200);
    assert_eq!(play.run(300), ["read"]);
    assert_eq!(reasons(play.status()), (True, Some(Reason::Settling), None));
    assert_eq!(play.run(1070).len(), 4, "16 minutes after the lost call");
}

#[test]
fn what_was_refused_stays_on_its_way() {
    for (code, stalled) in [
        ("IncorrectInstanceStatus", None),
        ("Throttling", None),
        ("Forbidden.RAM", Some(Reason::Denied)),
        ("InvalidInstanceId.NotFound", Some(Reason::InstanceNotFound)),
        ("Strange", Some(Reason::Refused)),
    ] {
        let mut play = Play::settled().reply([refused(code)]);
        play.asked(100);
        assert_eq!(play.run(100)[2..], ["send Drawn2"], "{code}");
        assert_eq!(play.status().ready(), True, "{code}: the old one opens the console");
        assert_eq!(play.status().reason(ConditionType::Stalled), stalled, "{code}");
        play.observed.look = Some(look(800, "Running", true, 0));
        let steps = play.run(800);
        assert_eq!(steps, ["read", "send Drawn2", "write key=Drawn2 -next previous=Drawn1 done"], "{code}");
    }
}

#[test]
fn who_did_not_write_next_answers_for_it_first() {
    let mut play = Play::settled().reply([refused("InternalError")]);
    play.asked(100);
    play.run(100);
    play.observed.writer = "successor".into();
    play.observed.history = History::default();
    let steps = play.run(200);
    let expected =
        ["read", "write drawn unsettled", "send Drawn2", "write key=Drawn2 -next previous=Drawn1 done"];
    assert_eq!(steps, expected);
}

#[test]
fn a_promotion_whose_status_was_lost_is_proven_by_one_call() {
    let mut play = Play::settled();
    let before = Arc::clone(&play.observed.status);
    play.asked(100);
    play.run(100);
    play.observed.status = before;
    play.observed.history = History::default();
    let steps = play.run(130);
    assert_eq!(steps, ["read", "write next=Drawn2 drawn", "send Drawn2", "write key=Drawn2 -next done"]);
    assert_eq!(play.status().rotations, Some(2));
    assert_eq!(
        play.status().last_rotation_time,
        Some(Time(at(100))),
        "the same value once more is no rotation"
    );
    assert_eq!(play.run(131), [""; 0]);
}

/// What there is under `<key>`, whether the Secret is opened and closed, what is done, and why nothing is.
type Situation<'a> = (&'a str, Option<&'a str>, bool, bool, &'a [&'a str], Option<Reason>);

#[test]
fn what_is_in_the_secret_decides_what_begins() {
    let apply = &["read", "write next=Xyz789 drawn", "send Xyz789", "write key=Xyz789 -next done"][..];
    let draw = &["read", "write next=Drawn1 drawn", "send Drawn1", "write key=Drawn1 -next done"][..];
    let read = &["read"][..];
    let table: [Situation; 6] = [
        ("a valid value is adopted", Some("Xyz789"), true, false, apply, None),
        ("an empty one is filled", None, true, false, draw, None),
        ("not opened", Some("Xyz789"), false, false, read, Some(Reason::SecretNotWritable)),
        ("not Opaque", Some("Xyz789"), true, true, read, Some(Reason::SecretNotWritable)),
        ("no password, no record", Some("too long"), true, false, read, Some(Reason::InvalidPassword)),
        ("nor where it is not opened", None, false, false, read, Some(Reason::SecretNotWritable)),
    ];
    for (name, current, opened, closed, steps, stalled) in table {
        let mut play = Play::opened(current);
        (play.stored().opened, play.stored().closed) = (opened, closed);
        assert_eq!(play.run(0), steps, "{name}");
        assert_eq!(play.status().reason(ConditionType::Stalled), stalled, "{name}");
        assert_eq!(play.status().rotations, stalled.is_none().then_some(1), "{name}");
    }
}

#[test]
fn a_users_secret_in_sync_is_not_the_operators_to_write() {
    let mut play = Play::new();
    play.observed = applied();
    play.secret = Some(Stored { version: 1, current: Some("Abc123".into()), ..Stored::default() });
    change(&mut play.observed, |spec| spec.rotation = Some(Box::default()));
    for second in [10, 20] {
        play.run(second);
        assert_eq!(reasons(play.status()), (True, None, Some(Reason::SecretNotWritable)), "at {second}");
    }
}

#[test]
fn what_was_in_effect_before_a_users_value_is_sent_again() {
    let mut play = Play::settled();
    change(&mut play.observed, |spec| spec.rotation = None);
    play.stored().current = Some("Mine42".into());
    assert_eq!(play.run(10), ["read", "send Mine42"]);
    change(&mut play.observed, |spec| spec.rotation = Some(Box::default()));
    play.stored().current = Some("Drawn1".into());
    let steps = play.run(20);
    assert_eq!(steps, ["read", "write next=Drawn1 drawn", "send Drawn1", "write key=Drawn1 -next done"]);
}

#[test]
fn what_was_asked_for_is_not_adopted_but_drawn() {
    let mut play = Play::opened(Some("Xyz789"));
    play.asked(0);
    let steps = play.run(0);
    assert_eq!(
        steps[1..],
        ["write next=Drawn1 drawn", "send Drawn1", "write key=Drawn1 -next previous=Xyz789 done"]
    );
    let mut play = Play::opened(Some("too long"));
    play.asked(0);
    assert_eq!(play.run(0), ["read"], "what no record explains is not overwritten");
}

#[test]
fn an_edit_is_applied_through_next() {
    let mut play = Play::settled();
    play.stored().current = Some("Xyz789".into());
    let steps = play.run(50);
    assert_eq!(steps, ["read", "write next=Xyz789 drawn", "send Xyz789", "write key=Xyz789 -next done"]);
    assert_eq!(play.status().rotations, Some(2));
    // One that is no password waits for the next rotation.
    play.stored().current = Some("Xyz789\n".into());
    assert_eq!(play.run(60), ["read"]);
    assert_eq!(reasons(play.status()), (False, None, Some(Reason::InvalidPassword)));
    play.asked(200);
    assert_eq!(play.run(200)[1..3], ["write next=Drawn3 drawn", "send Drawn3"]);
    assert_eq!(reasons(play.status()), (True, None, None));
}

#[test]
fn an_edit_that_the_api_refuses_is_taken_back_once() {
    let mut play = Play::settled().reply([refused("IncorrectVncPassword.Malformed")]);
    play.stored().current = Some("Xyz789".into());
    let steps = play.run(50);
    assert_eq!(steps, ["read", "write next=Xyz789 drawn", "send Xyz789", "write -next done"]);
    assert_eq!(reasons(play.status()), (False, None, Some(Reason::InvalidPassword)));
    play.observed.history.examined = None;
    assert_eq!(play.run(700), ["read"]);
    // The old value is in effect still.
    play.stored().current = Some("Drawn1".into());
    assert_eq!(
        play.run(701)[2..],
        ["send Drawn1", "write key=Drawn1 -next done"],
        "the record alone says so"
    );
    assert_eq!(reasons(play.status()), (True, None, None));
}

#[test]
fn what_was_drawn_and_is_refused_as_malformed_is_drawn_three_times() {
    let malformed = || refused("IncorrectVncPassword.Malformed");
    let mut play = Play::settled().reply([malformed(), malformed(), malformed()]);
    play.asked(100);
    let steps = play.run(100);
    let sent: Vec<_> = steps.iter().filter(|step| step.starts_with("send")).collect();
    assert_eq!(sent, ["send Drawn2", "send Drawn3", "send Drawn4"]);
    assert_eq!(reasons(play.status()), (True, None, Some(Reason::InvalidPassword)));
    assert_eq!(play.run(10_000), ["read"], "until the Secret or the spec changes");
}

#[test]
fn a_next_that_was_taken_away_is_not_replaced_before_settle() {
    for value in [None, Some("garbage"), Some("Other9")] {
        let mut play = Play::settled().reply([refused("IncorrectInstanceStatus")]);
        play.asked(100);
        play.run(100);
        play.stored().next = value.map(ToOwned::to_owned);
        let steps = play.run(110);
        let removed = if value.is_some() { "write -next drawn unsettled" } else { "write drawn unsettled" };
        assert_eq!(steps, ["read", removed], "{value:?}");
        assert_eq!(reason(&play), Some(Reason::Settling));
        assert_eq!(play.run(1000), ["read"]);
        let steps = play.run(1080);
        assert_eq!(steps[1..3], ["write next=Drawn3 drawn", "send Drawn3"], "{value:?}");
        assert_eq!(play.status().last_handled_rotate_at, Some(Time(at(100))), "the rotation is the same");
    }
}

#[test]
fn a_secret_that_is_gone_is_made_again_once_nothing_can_arrive() {
    // This process has seen what was applied: nothing has been sent since.
    let mut play = Play::settled();
    play.secret = None;
    assert_eq!(play.run(50)[..2], ["read", "announce FirstPassword"]);
    assert_eq!(play.status().ready(), True);
    // Another cannot know.
    let mut play = Play::settled();
    play.secret = None;
    play.observed.history = History::default();
    assert_eq!(play.run(50), ["read"]);
    assert_eq!(reason(&play), Some(Reason::Settling));
    assert_eq!(play.run(60), ["read"]);
    assert_eq!(play.run(50 + 962).len(), 5);
}

#[test]
fn a_value_in_effect_that_the_api_calls_malformed_is_not_sent_again_and_again() {
    let mut play = Play::settled().reply([refused("IncorrectVncPassword.Malformed")]);
    play.observed.enforce_interval = Some(Duration::from_secs(600));
    let steps = play.run(600);
    assert_eq!(steps, ["read", "write next=Drawn1 drawn", "send Drawn1", "write -next done"]);
    assert_eq!(play.run(700), ["read"]);
    assert_eq!(play.status().ready(), True);
}

#[test]
fn enforcing_is_no_rotation() {
    let mut play = Play::settled();
    play.observed.enforce_interval = Some(Duration::from_secs(600));
    let steps = play.run(600);
    assert_eq!(steps, ["read", "write next=Drawn1 drawn", "send Drawn1", "write key=Drawn1 -next done"]);
    let record = play.secret.as_ref().unwrap().record.clone().unwrap();
    assert_eq!((record.id.as_str(), record.drawn_at), ("id1", at(0)));
    assert_eq!(play.status().rotations, Some(1));
    assert_eq!(play.run(601), [""; 0]);
    assert_eq!(play.verdict.unwrap().wake, Some(at(1200)));
}

#[test]
fn a_value_that_waits_for_a_restart_stays_in_next_until_it_is_seen() {
    let mut play = Play::needs_restarts();
    play.asked(100);
    play.observed.look = Some(look(100, "Running", false, -60));
    assert_eq!(play.run(100), ["read", "write next=Drawn2 drawn", "send Drawn2"]);
    assert_eq!(play.status().ready(), True, "the old one opens the console");
    assert_eq!(play.status().reason(ConditionType::RebootRequired), Some(Reason::RebootRequired));
    play.observed.look = Some(look(102, "Running", false, -60));
    assert_eq!(play.run(102), [""; 0]);
    assert_eq!(play.status().accepted.as_ref().unwrap().start_time, Some(Time(at(-3600))));
    play.observed.look = Some(look(400, "Running", false, 5));
    assert_eq!(play.run(400), ["read", "write key=Drawn2 -next previous=Drawn1 done"]);
    assert_eq!(reasons(play.status()), (True, None, None));
    assert_eq!(play.status().accepted, None);
    assert_eq!(play.status().rotations, Some(2));
}

/// An object whose Drawn2 waits for a restart, with the baseline known, at second 102.
fn waiting_for_a_restart(activation: Activation, allowed: bool) -> Play {
    let mut play = Play::needs_restarts();
    change(&mut play.observed, |spec| spec.activation = activation);
    play.observed.allow_reboot = allowed;
    play.asked(100);
    play.observed.look = Some(look(100, "Running", false, -60));
    play.run(100);
    play.observed.look = Some(look(102, "Running", false, -60));
    play
}

#[test]
fn a_restart_is_announced_and_asked_for_once_and_once_more_where_nothing_moved() {
    let mut play = waiting_for_a_restart(Activation::Reboot, true);
    assert_eq!(play.run(102), ["read", "announce Reboot", "reboot"]);
    let request =
        |second, requests| RebootRequest { time: Time(at(second)), rotation: "id2".into(), requests };
    assert_eq!(play.status().reboot_requested_at, Some(Box::new(request(102, 1))));
    assert_eq!(play.status().reason(ConditionType::Reconciling), Some(Reason::RebootRequired));
    play.observed.look = Some(look(1000, "Running", false, -60));
    assert_eq!(play.run(1000), [""; 0]);
    play.observed.look = Some(look(1070, "Running", false, -60));
    assert_eq!(play.run(1070), ["read", "announce Reboot", "reboot"]);
    assert_eq!(play.status().reboot_requested_at, Some(Box::new(request(1070, 2))));
    assert_eq!(play.status().reason(ConditionType::Reconciling), Some(Reason::RebootRequired), "just asked");
    play.observed.look = Some(look(1080, "Stopping", false, -60));
    assert_eq!(play.run(1080), [""; 0]);
    play.observed.look = None;
    assert_eq!(play.run(9000), [""; 0]);
    assert_eq!(play.status().reason(ConditionType::Reconciling), Some(Reason::RebootRequired), "it moves");
    // The same again, where the instance never moves.
    let mut play = waiting_for_a_restart(Activation::Reboot, true);
    play.run(102);
    play.observed.look = Some(look(1070, "Running", false, -60));
    play.run(1070);
    play.observed.look = Some(look(2000, "Running", false, -60));
    assert_eq!(play.run(2000), [""; 0]);
    assert_eq!(
        play.status().reason(ConditionType::Reconciling),
        Some(Reason::RebootRequired),
        "it may still come"
    );
    play.observed.look = Some(look(9000, "Running", false, -60));
    assert_eq!(play.run(9000), [""; 0]);
    assert_eq!(play.status().reason(ConditionType::Reconciling), None);
    let text = &play.status().condition(ConditionType::RebootRequired).unwrap().message;
    assert!(text.contains("two requests"), "{text}");
}

#[test]
fn what_must_not_be_restarted_is_not() {
    let locked = |mut look: Look| {
        if let Found::Seen(seen) = &mut look.found {
            seen.locked = true;
        }
        look
    };
    let fine = || look(102, "Running", false, -60);
    let table = [
        ("by hand", Activation::Manual, true, fine(), "restart it"),
        ("not allowed", Activation::Reboot, false, fine(), "--allow-reboot"),
        ("locked", Activation::Reboot, true, locked(fine()), "the operator restarts it"),
        ("its minute is not over", Activation::Reboot, true, look(102, "Running", false, 1), "restarts it"),
        ("not running", Activation::Reboot, true, look(102, "Stopping", false, -60), "restarts it"),
    ];
    for (name, activation, allowed, look, text) in table {
        let mut play = waiting_for_a_restart(activation, allowed);
        if name == "its minute is not over" {
            edit(&mut play.observed, |status| {
                status.instance.get_or_insert_default().start_time = Some(Time(at(60)));
            });
        }
        play.observed.look = Some(look);
        assert_eq!(play.run(102), [""; 0], "{name}");
        assert_eq!(play.status().reboot_requested_at, None, "{name}");
        let message = &play.status().condition(ConditionType::RebootRequired).unwrap().message;
        assert!(message.contains(text), "{name}: {message}");
    }
}

#[test]
fn an_instance_that_cannot_be_seen_gets_no_generated_password() {
    let mut play = Play::new();
    edit(&mut play.observed, |status| status.instance = None);
    assert_eq!(play.run(0), [""; 0], "the reconcile ends before it has read anything");
    assert_eq!(play.verdict.as_ref().unwrap().look, Some(at(0)));
    for found in [Found::Unseen, Found::Refused] {
        play.observed.look = Some(Look { at: at(0), found });
        assert_eq!(play.run(1), ["read"]);
        assert_eq!(reason(&play), Some(Reason::InstanceUnknown));
        let kept = play.verdict.as_ref().unwrap().look;
        assert_eq!(
            kept,
            Some(at(601)),
            "the look is kept: it wakes the object, which must not ask again at once"
        );
    }
    play.observed.look = Some(look(700, "Running", true, 0));
    assert_eq!(play.run(700)[..2], ["read", "announce FirstPassword"]);
}

#[test]
fn whoever_waits_for_a_late_call_polls_after_that() {
    let mut play = Play::new();
    edit(&mut play.observed, |status| status.instance = None);
    play.observed.history.unsettled = vec![Unsettled { value: None, until: at(100), by_other: true }];
    assert_eq!(play.run(0), ["read"]);
    assert_eq!(reason(&play), Some(Reason::Settling));
    assert_eq!(play.verdict.as_ref().unwrap().look, None);
    assert_eq!(play.run(100), [""; 0]);
    assert_eq!(play.verdict.as_ref().unwrap().look, Some(at(100)));
}

#[test]
fn a_look_without_credentials_says_what_a_call_would() {
    let table = [
        (Reply::NoCredentials, Reason::CredentialsNotFound),
        (Reply::CredentialsFailed("credentials from oidc: broken".into()), Reason::InvalidCredentials),
        (refused("InvalidAccessKeyId.NotFound"), Reason::InvalidCredentials),
    ];
    for (reply, expected) in table {
        let mut play = Play::new();
        edit(&mut play.observed, |status| status.instance = None);
        play.observed.look = Some(Look { at: at(0), found: Found::NoCredentials(reply) });
        assert_eq!(play.run(1), ["read"], "{expected:?}");
        assert_eq!(reasons(play.status()), (False, None, Some(expected)));
        assert_eq!(play.verdict.as_ref().unwrap().look, Some(at(61)), "{expected:?}: again in a minute");
        play.observed.look = Some(look(61, "Running", true, 0));
        assert_eq!(play.run(61)[..2], ["read", "announce FirstPassword"], "{expected:?}");
        assert_eq!(reasons(play.status()), (True, None, None));
    }
}

#[test]
fn a_record_of_another_instance_counts_as_none() {
    let mut play = Play::settled();
    play.stored().record.as_mut().unwrap().instance_id = "i-2".into();
    change(&mut play.observed, |_| ());
    assert_eq!(play.run(10), ["read"]);
    assert_eq!(reason(&play), Some(Reason::SecretNotWritable));
    play.stored().opened = true;
    assert_eq!(play.run(20)[1..3], ["write next=Drawn1 drawn", "send Drawn1"]);
}

#[test]
fn where_rotation_is_taken_away_what_is_on_its_way_is_finished() {
    let mut play = Play::settled().reply([refused("IncorrectInstanceStatus")]);
    play.asked(100);
    play.run(100);
    change(&mut play.observed, |spec| spec.rotation = None);
    assert_eq!(play.run(110), ["read", "send Drawn2", "write key=Drawn2 -next previous=Drawn1 done"]);
    assert_eq!(play.run(120), [""; 0], "in sync as a user's Secret");
    // Where it was lost, the record is closed and `<key>` applied.
    let mut play = Play::settled().reply([refused("IncorrectInstanceStatus")]);
    play.asked(100);
    play.run(100);
    play.stored().next = None;
    change(&mut play.observed, |spec| spec.rotation = None);
    assert_eq!(play.run(110), ["read", "write drawn unsettled", "write done", "send Drawn1"]);
}

#[test]
fn complaints_about_the_schedule_and_the_annotation_stop_nothing() {
    let mut play = Play::new();
    let rotation = Rotation { schedule: Some("0 0 30 2 *".into()), ..Rotation::default() };
    play.observed.plan = Plan::new(Some(&rotation), None);
    assert_eq!(play.run(0).len(), 5, "the first password is drawn");
    assert_eq!(reasons(play.status()), (True, None, Some(Reason::InvalidSchedule)));
    let mut play = Play::settled();
    play.observed.rotate_at = RotateAt::Invalid;
    assert_eq!(play.run(10), [""; 0]);
    assert_eq!(reasons(play.status()), (True, None, Some(Reason::InvalidRotateAt)));
    assert_eq!(play.verdict.as_ref().unwrap().notes.len(), 1);
    play.run(20);
    assert_eq!(play.verdict.unwrap().notes.len(), 0, "told once");
}

#[test]
fn who_takes_over_sends_the_value_in_effect_once_more() {
    let mut play = Play::settled();
    play.observed.owner = Owner::OtherOfSecret("b".into());
    play.run(10);
    assert_eq!(reason(&play), Some(Reason::Conflict));
    play.observed.owner = Owner::This;
    let unsettled = doubt(&play.observed, false, true, at(0), at(20)).unwrap();
    play.observed.history.unsettled.push(unsettled);
    assert_eq!(play.run(20), ["read"]);
    assert_eq!(reason(&play), Some(Reason::Settling));
    assert_eq!(play.run(1000)[1..3], ["write next=Drawn1 drawn", "send Drawn1"]);
    assert_eq!(reasons(play.status()), (True, None, None));
}

#[test]
fn while_the_limiter_is_closed_no_look_is_asked_for() {
    let mut play = Play::needs_restarts();
    play.asked(100);
    play.observed.limiter_opens = Some(at(160));
    assert_eq!(play.run(100), ["read"]);
    assert_eq!(reason(&play), Some(Reason::Throttled));
    let verdict = play.verdict.as_ref().unwrap();
    assert_eq!((verdict.look, verdict.wake), (None, Some(at(160))));
}

#[test]
fn while_another_writer_rewrites_the_secret_nothing_begins_and_what_was_accepted_is_finished() {
    let contested = |mut play: Play, second| {
        play.observed.secret_paused_until = Some(at(second));
        play
    };
    let rewritten = |mut play: Play| {
        *play.stored() =
            Stored { version: 9, current: Some("Rewr1t".to_owned()), opened: true, ..Stored::default() };
        play
    };
    let due = |mut play: Play| {
        play.asked(100);
        play
    };
    let no_secret = |mut play: Play| {
        play.secret = None;
        play
    };
    let table = [
        ("a value put back", rewritten(Play::settled()), False),
        ("a Secret taken away", no_secret(Play::settled()), False),
        ("a rotation that is due", due(Play::settled()), True),
        ("an adoption", Play::opened(Some("Abc123")), False),
    ];
    for (name, play, ready) in table {
        let mut play = contested(play, 160);
        assert_eq!(play.run(100), ["read"], "{name}");
        assert_eq!((reason(&play), play.status().ready()), (Some(Reason::CompetingWriters), ready), "{name}");
        assert!(play.status().condition(ConditionType::Stalled).is_some(), "{name}");
        let verdict = play.verdict.as_ref().unwrap();
        assert_eq!((verdict.wake, verdict.look), (Some(at(160)), None), "{name}");
        let status = play.status().clone();
        play.run(130);
        assert_eq!(*play.status(), status, "{name}: said once");
        let steps = play.run(160);
        assert!(
            steps.iter().any(|step| step.starts_with("send")),
            "{name}: goes on when the wait is over: {steps:?}"
        );
    }
    let mut first = contested(Play::new(), 160);
    assert_eq!((first.run(100), reason(&first)), (vec!["read".to_owned()], Some(Reason::CompetingWriters)));
    // A value that is in effect, and nothing to do: no word of it.
    let mut play = contested(Play::settled(), 160);
    play.run(100);
    assert_eq!((reason(&play), play.status().ready()), (None, True));
    // A reply is recorded, and the promotion of what was accepted is not held up.
    let mut play = contested(Play::settled(), 160);
    play.asked(100);
    play.observed.secret_paused_until = None;
    let steps = play.run(100);
    assert!(steps.last().unwrap().starts_with("write key="), "{steps:?}");
}

/// A call whose record another writer has taken out of the Secret since.
fn lost_attempt(contents: &Contents, value: Fingerprint, reply: Reply) -> Attempt {
    Attempt {
        purpose: Purpose::Rotate,
        version: contents.version.clone(),
        value,
        rotation: Some("gone".to_owned()),
        repeats: false,
        io_optimized: Some(true),
        look: None,
        all_classes: true,
        tries: 1,
        superseded: false,
        at: at(100),
        reply,
    }
}

#[test]
fn a_reply_that_comes_during_the_wait_is_recorded() {
    for (reply, unsettled) in [(accepted("R9"), false), (Reply::Unknown, true)] {
        let mut play = Play::settled();
        let mut observed = play.observed.clone();
        observed.read = Some(play.read());
        observed.secret_paused_until = Some(at(160));
        let SecretRead::Found(contents) = play.read() else { panic!("it is there") };
        let Slot::Valid(_, value) = contents.current else { panic!("it holds a password") };
        // Another writer has rewritten the Secret since: what was sent is not in it any more.
        *play.stored() = Stored { current: Some("Rewr1t".to_owned()), opened: true, ..Stored::default() };
        observed.read = Some(play.read());
        observed.attempt = Some(lost_attempt(&contents, value, reply.clone()));
        let Decision::Rest(verdict) = decide(&observed, at(100)) else { panic!("{reply:?}: it rests") };
        let status = &verdict.status;
        // After an unknown outcome nothing else is set before `--settle` anyway.
        let expected = (!unsettled).then_some(Reason::CompetingWriters);
        assert_eq!(status.reason(ConditionType::Stalled), expected, "{reply:?}");
        assert_eq!(status.unsettled_until().is_some(), unsettled, "{reply:?}");
        assert_eq!(status.request_id.as_deref() == Some("R9"), !unsettled, "{reply:?}");
    }
}

/// Another writer restores the whole Secret during the call, record included: it shows a password as applied that this call
/// has replaced.
#[test]
fn a_secret_that_was_restored_during_the_call_is_not_believed() {
    for (reply, unsettled) in [(accepted("R9"), false), (Reply::Unknown, true)] {
        let play = Play::settled();
        let mut observed = play.observed.clone();
        observed.read = Some(play.read());
        observed.secret_paused_until = Some(at(160));
        let SecretRead::Found(contents) = play.read() else { panic!("it is there") };
        observed.attempt = Some(lost_attempt(&contents, print("Lost99"), reply.clone()));
        let Decision::Rest(verdict) = decide(&observed, at(100)) else {
            assert!(!unsettled, "{reply:?}: the value of the Secret is sent again");
            continue;
        };
        assert_ne!(verdict.status.ready(), True, "{reply:?}");
        assert_eq!(verdict.status.applied, None, "{reply:?}");
    }
}

#[test]
fn a_first_password_that_meets_a_closed_limiter_waits_in_the_secret() {
    let mut play = Play::new();
    play.observed.limiter_opens = Some(at(60));
    assert_eq!(play.run(0), ["read", "announce FirstPassword", "make next=Drawn1 drawn"]);
    assert_eq!(reason(&play), Some(Reason::Throttled));
    play.observed.limiter_opens = None;
    assert_eq!(play.run(60), ["read", "send Drawn1", "write key=Drawn1 -next done"]);
}

#[test]
fn a_next_that_is_gone_while_a_restart_is_waited_for_is_drawn_anew() {
    let mut play = waiting_for_a_restart(Activation::Manual, false);
    play.run(102);
    play.stored().next = None;
    assert_eq!(play.run(110), ["read", "write drawn unsettled"]);
    assert_eq!(reason(&play), Some(Reason::Settling));
    assert_eq!(play.status().accepted, None);
    assert_eq!(
        play.status().reason(ConditionType::RebootRequired),
        None,
        "a restart would lose the password"
    );
    play.observed.look = Some(look(1072, "Running", false, -60));
    assert_eq!(play.run(1072), ["read", "write next=Drawn3 drawn", "send Drawn3"]);
    assert_eq!(play.status().reason(ConditionType::RebootRequired), Some(Reason::RebootRequired));
}

/// The instance starts, DescribeInstances fails once, and then shows that it runs.
#[test]
fn a_look_that_failed_does_not_end_the_wait_for_the_instance() {
    let mut play = Play::needs_restarts().reply([refused("IncorrectInstanceStatus")]);
    play.asked(100);
    play.observed.look = Some(look(100, "Starting", false, -60));
    play.run(100);
    assert_eq!(reason(&play), Some(Reason::IncorrectInstanceStatus));
    // Ready again, but the look before the call is too old, and the next one fails.
    play.observed.look = Some(look(120, "Running", false, 110));
    play.run(300);
    play.observed.look = Some(Look { at: at(300), found: Found::Failed });
    play.run(300);
    assert_eq!(reason(&play), Some(Reason::LookupFailed));
    play.run(302);
    assert!(play.verdict.as_ref().unwrap().look.is_some(), "it is looked at again");
    play.observed.look = Some(look(316, "Running", false, 110));
    let steps = play.run(316);
    assert!(steps.iter().any(|step| step.starts_with("send")), "{steps:?}");
}

/// The instance was restarted while no operator ran, and the value that it brought is sent once more to prove a claim.
#[test]
fn a_proof_of_a_value_that_waits_for_a_restart_keeps_what_tells_the_restart() {
    let table = [
        ("another start time", "Running", 1, Activation::Manual),
        ("another start time, and restarts allowed", "Running", 1, Activation::Reboot),
        ("a stop was seen, within the same minute", "Stopped", -60, Activation::Manual),
    ];
    for (name, was, start, activation) in table {
        let mut play = waiting_for_a_restart(Activation::Manual, false);
        play.run(102);
        play.observed.look = Some(look(110, was, false, -60));
        play.run(110);
        change(&mut play.observed, |spec| spec.activation = activation);
        play.observed.allow_reboot = true;
        play.observed.prove_claim = true;
        play.observed.look = Some(look(200, "Running", false, start));
        assert_eq!(play.run(200), ["read", "write drawn unsettled", "send Drawn2"], "{name}");
        play.observed.prove_claim = false;
        play.observed.look = Some(look(202, "Running", false, start));
        assert_eq!(play.run(202), ["read", "write key=Drawn2 -next previous=Drawn1 done"], "{name}");
        assert_eq!((reasons(play.status()), &play.status().accepted), ((True, None, None), &None), "{name}");
    }
    // Where another object's call may have come in between, the restart may have brought that one's value.
    let mut play = waiting_for_a_restart(Activation::Manual, false);
    play.run(102);
    play.observed.history.unsettled.push(Unsettled { value: None, until: at(150), by_other: true });
    play.observed.prove_claim = true;
    play.observed.look = Some(look(200, "Running", false, 1));
    assert_eq!(play.run(200), ["read", "send Drawn2"]);
    play.observed.prove_claim = false;
    for second in [202, 300] {
        play.observed.look = Some(look(second, "Running", false, 1));
        play.run(second);
        assert!(play.status().accepted.is_some(), "at {second}");
    }
}

/// Another object's call was late when the password was drawn, and could no longer arrive when the API accepted it.
#[test]
fn what_a_restart_brought_counts_from_when_it_was_accepted() {
    let mut play = Play::needs_restarts().reply([refused("IncorrectInstanceStatus")]);
    play.asked(100);
    play.observed.look = Some(look(100, "Running", false, -60));
    play.run(100);
    let value = Some(print("Theirs"));
    play.observed.history.unsettled.push(Unsettled { value, until: at(1000), by_other: true });
    play.observed.look = Some(look(1005, "Running", false, -60));
    assert_eq!(play.run(1005), ["read", "send Drawn2"]);
    play.observed.look = Some(look(1007, "Running", false, -60));
    play.run(1007);
    play.observed.look = Some(look(1100, "Running", false, 18));
    assert_eq!(play.run(1100), ["read", "write key=Drawn2 -next previous=Drawn1 done"]);
    assert_eq!(play.status().applied.as_ref().unwrap().time, Time(at(1005)));
    play.observed.look = Some(look(1200, "Running", false, 18));
    assert_eq!(play.run(1200), [""; 0]);
    assert_eq!((reasons(play.status()), play.status().rotations), ((True, None, None), Some(2)));
}

/// Another writer puts back the whole Secret of before, record included, while Drawn2 waits for a restart: at the next restart
/// the console would have Drawn2, which no Secret holds any more.
#[test]
fn a_secret_that_is_restored_while_another_value_waits_for_a_restart_is_sent_once_more() {
    let again = ["read", "write next=Drawn1 drawn", "send Drawn1"];
    let table = [
        ("not restarted as far as is known", -60, None),
        ("restarted meanwhile: Drawn2 may be in effect", 1, None),
        ("the call is refused at first", -60, Some(refused("IncorrectInstanceStatus"))),
    ];
    for (name, start, reply) in table {
        let mut play = Play::needs_restarts();
        let before = play.secret.clone();
        play.asked(100);
        play.observed.look = Some(look(100, "Running", false, -60));
        play.run(100);
        play.observed.look = Some(look(102, "Running", false, -60));
        play.run(102);
        let version = play.stored().version;
        play.secret = before.map(|before| Stored { version, ..before });
        play.observed.rotate_at = RotateAt::Never;
        play.observed.look = Some(look(110, "Running", false, start));
        let refused = reply.is_some();
        play.replies.extend(reply);
        let steps = play.run(110);
        assert_eq!(steps[..3], again, "{name}");
        let restarts = |play: &Play| {
            play.verdict.as_ref().unwrap().notes.iter().any(|note| note.text.contains("was restarted"))
        };
        assert!(!restarts(&play), "{name}");
        if refused {
            assert_eq!(play.status().ready(), False, "{name}: the instance may be restarting");
            play.observed.look = Some(look(800, "Running", false, 2));
            assert_eq!(play.run(800), ["read", "send Drawn1"], "{name}");
        }
        assert_eq!(play.status().ready(), False, "{name}");
        assert!(play.status().accepted.as_ref().unwrap().unchanged, "{name}");
        assert_eq!(play.status().rotations, Some(1), "{name}");
    }
}

/// A late call of another object had settled before the password was accepted that the restart brought into effect: there is
/// nothing to send once more. Sent from within the same reconcile, it would be taken for what the restart brought.
#[test]
fn a_restart_that_was_seen_is_recorded_before_anything_is_sent_again() {
    for late in [None, Some("Theirs")] {
        let mut play = waiting_for_a_restart(Activation::Manual, false);
        play.run(102);
        let value = late.map(print);
        play.observed.history.unsettled.push(Unsettled { value, until: at(90), by_other: true });
        play.observed.look = Some(look(200, "Running", false, 100));
        assert_eq!(play.run(200), ["read", "write key=Drawn2 -next previous=Drawn1 done"], "{late:?}");
        assert_eq!((play.status().ready(), play.status().accepted.is_some()), (True, false), "{late:?}");
    }
    // The same where the value is sent again from time to time.
    let mut play = waiting_for_a_restart(Activation::Manual, false);
    play.observed.enforce_interval = Some(Duration::from_hours(1));
    play.run(102);
    play.observed.look = Some(look(9000, "Running", false, 8000));
    assert_eq!(play.run(9000), ["read", "write key=Drawn2 -next previous=Drawn1 done"]);
    assert_eq!(play.status().accepted, None);
    play.observed.look = Some(look(20_000, "Running", false, 8000));
    assert_eq!(
        play.run(20_000),
        ["read", "write next=Drawn2 drawn", "send Drawn2", "write key=Drawn2 -next done"]
    );
}

#[test]
fn what_is_only_presumed_to_be_in_effect_waits_for_a_restart_too() {
    let mut play = Play::needs_restarts();
    play.observed.owner = Owner::Other(None);
    play.run(10);
    play.observed.owner = Owner::This;
    play.observed.look = Some(look(20, "Running", false, -60));
    assert_eq!(play.run(20), ["read", "write next=Drawn1 drawn", "send Drawn1"]);
    assert_eq!(play.status().reason(ConditionType::RebootRequired), Some(Reason::RebootRequired));
    assert_eq!(play.status().ready(), False);
}

#[test]
fn a_users_value_in_effect_is_adopted_without_a_restart() {
    let mut play = Play::new();
    play.observed = applied();
    edit(&mut play.observed, |status| {
        status.instance.get_or_insert_default().io_optimized = Some(false);
    });
    play.secret =
        Some(Stored { version: 1, current: Some("Abc123".into()), opened: true, ..Stored::default() });
    change(&mut play.observed, |spec| spec.rotation = Some(Box::default()));
    play.observed.look = Some(look(10, "Running", false, -60));
    let steps = play.run(10);
    assert_eq!(steps, ["read", "write next=Abc123 drawn", "send Abc123", "write key=Abc123 -next done"]);
    assert_eq!(reasons(play.status()), (True, None, None));
    assert_eq!(play.status().rotations, Some(2));
}

#[test]
fn after_a_jump_of_the_clock_a_restart_is_seen_still() {
    let mut play = waiting_for_a_restart(Activation::Manual, false);
    edit(&mut play.observed, |status| status.accepted.as_mut().unwrap().time = Time(at(1_000_000)));
    play.run(200);
    assert_eq!(play.status().accepted.as_ref().unwrap().time, Time(at(200)));
    play.observed.look = Some(look(202, "Running", false, -60));
    play.run(202);
    assert_eq!(play.status().accepted.as_ref().unwrap().start_time, Some(Time(at(-3600))));
}

#[test]
fn a_window_that_cannot_be_read_restarts_nothing_and_is_told() {
    let mut play = waiting_for_a_restart(Activation::Reboot, true);
    let window = crate::api::Window { schedule: "never".into(), duration: "1h".into(), time_zone: None };
    play.observed.plan = Plan::new(None, Some(&window));
    assert_eq!(play.run(102), [""; 0]);
    assert_eq!(reasons(play.status()), (True, None, Some(Reason::InvalidSchedule)));
    let text = &play.status().condition(ConditionType::RebootRequired).unwrap().message;
    assert!(text.contains("mend it"), "{text}");
}

#[test]
fn an_object_that_was_suspended_first_gets_its_first_password_at_once() {
    let mut play = Play::new();
    change(&mut play.observed, |spec| spec.suspend = true);
    assert_eq!(play.run(0), [""; 0]);
    change(&mut play.observed, |spec| spec.suspend = false);
    assert_eq!(play.run(10).len(), 5);
}

#[test]
fn a_secret_that_is_closed_while_a_restart_is_waited_for_is_told_and_stays_told() {
    let mut play = waiting_for_a_restart(Activation::Manual, false);
    play.run(102);
    play.stored().closed = true;
    for second in [110, 120] {
        play.observed.look = Some(look(second, "Running", false, -60));
        play.run(second);
        assert_eq!(reason(&play), Some(Reason::SecretNotWritable), "at {second}");
    }
}

#[test]
fn what_is_sent_again_while_a_restart_is_waited_for_keeps_its_backoff() {
    let mut play = waiting_for_a_restart(Activation::Manual, false).reply([refused("Forbidden.RAM")]);
    // It may have been restarted around the call.
    play.observed.look = Some(look(102, "Running", false, 1));
    let steps = play.run(102);
    assert_eq!(steps, ["read", "write drawn unsettled", "send Drawn2"]);
    assert_eq!(play.status().reason(ConditionType::Stalled), Some(Reason::Denied));
    play.observed.look = Some(look(120, "Running", false, 1));
    play.run(120);
    assert_eq!(
        play.status().reason(ConditionType::Stalled),
        Some(Reason::Denied),
        "it is not tried before its time"
    );
    play.observed.credentials_changed = true;
    assert_eq!(play.run(121), ["read", "send Drawn2"], "but at once with other keys");
    assert_eq!(play.draws, 2);
}

/// The record of a rotation that is done, as anybody may write it who may write the Secret.
fn forged(password: &str) -> Stored {
    let digest = crate::rotation::contents::Digest::of(ID, &Password::parse(password.as_bytes()).unwrap());
    let record =
        json!({"instanceId": ID, "id": "forged", "drawnAt": at(-100), "state": "done", "digest": digest});
    let record = serde_json::from_value(record).unwrap();
    Stored { version: 1, current: Some(password.to_owned()), record: Some(record), ..Stored::default() }
}

#[test]
fn a_record_alone_proves_nothing() {
    let mut play =
        Play::new().reply([refused("InvalidAccessKeyId.NotFound"), refused("InvalidAccessKeyId.NotFound")]);
    play.secret = Some(forged("Abc123"));
    let steps = play.run(0);
    assert_eq!(steps, ["read", "write next=Abc123 drawn", "send Abc123", "send Abc123"]);
    assert_eq!(reasons(play.status()), (False, None, Some(Reason::InvalidCredentials)));
    assert_eq!((&play.status().applied, &play.status().request_id), (&None, &None));
    let steps = play.run(100);
    assert_eq!(steps, ["read", "send Abc123", "write key=Abc123 -next done"]);
    assert_eq!(reasons(play.status()), (True, None, None));
    assert_eq!(play.run(200), [""; 0]);
}

/// A backup brings Secrets and objects back, but no statuses: no instance is restarted for that.
#[test]
fn what_a_restored_status_does_not_name_is_sent_once_and_restarts_nothing() {
    let mut play = Play::settled();
    edit(&mut play.observed, |status| *status = VncPasswordStatus::default());
    play.observed.history = History::default();
    play.observed.allow_reboot = true;
    change(&mut play.observed, |spec| spec.activation = Activation::Reboot);
    play.observed.look = Some(look(50, "Running", false, -60));
    assert_eq!(play.run(50), ["read", "write next=Drawn1 drawn", "send Drawn1"]);
    assert_eq!(reasons(play.status()), (False, None, None));
    assert_eq!(play.status().reason(ConditionType::RebootRequired), Some(Reason::RebootRequired));
    assert!(play.status().accepted.as_ref().unwrap().unchanged);
    for second in [100, 200, 1000] {
        play.observed.look = Some(look(second, "Running", false, -60));
        assert!(play.run(second).iter().all(|step| step == "read"), "no restart");
    }
    play.observed.look = Some(look(2000, "Running", false, 1990));
    play.run(2000);
    assert_eq!(reasons(play.status()), (True, None, None));
    assert_eq!(play.status().rotations, Some(1));
    assert_eq!(play.run(2100), [""; 0]);
}

/// Item by item what another object's call does to a value: DESIGN.md, R43.
#[test]
fn a_value_that_another_objects_late_call_may_replace_is_not_ready_and_is_sent_once_more() {
    let late = |until| Unsettled { value: None, until: at(until), by_other: true };
    // A rotation is under way when the object takes over.
    let mut play = Play::settled().reply([refused("IncorrectInstanceStatus")]);
    play.asked(100);
    play.run(100);
    play.observed.history.unsettled.push(late(1061));
    play.observed.look = Some(look(200, "Running", true, 0));
    let steps = play.run(200);
    assert_eq!(steps, ["read", "send Drawn2", "write key=Drawn2 -next previous=Drawn1 done"]);
    assert_eq!(reasons(play.status()), (Unknown, Some(Reason::Settling), None));
    assert_eq!((play.status().rotations, play.verdict.as_ref().unwrap().wake), (Some(2), Some(at(1061))));
    play.run(300);
    assert_eq!(play.status().ready(), Unknown);
    let steps = play.run(1061);
    assert_eq!(steps[1..], ["write next=Drawn2 drawn", "send Drawn2", "write key=Drawn2 -next done"]);
    assert_eq!(reasons(play.status()), (True, None, None));
    assert_eq!((play.status().rotations, play.run(1100)), (Some(2), vec![]));

    // The value is in effect when the other call is made.
    let mut play = Play::settled();
    play.observed.history.unsettled.push(late(1061));
    play.run(100);
    assert_eq!(reasons(play.status()), (Unknown, Some(Reason::Settling), None));
    assert_eq!(play.run(1061)[2..], ["send Drawn1", "write key=Drawn1 -next done"]);
    assert_eq!(reasons(play.status()), (True, None, None));

    // A late call of the same value does no harm.
    let mut play = Play::settled();
    let value = Some(print("Drawn1"));
    play.observed.history.unsettled.push(Unsettled { value, until: at(1061), by_other: true });
    assert_eq!(play.run(100), [""; 0]);
    assert_eq!(reasons(play.status()), (True, None, None));
}

/// DESIGN.md, R43, where the object is suspended, and where it sends its value meanwhile because its claim is contested.
#[test]
fn a_value_in_doubt_is_not_ready_whatever_else_is_done_with_it() {
    let late = || Unsettled { value: None, until: at(1061), by_other: true };
    let table = [
        ("suspended, while the call may arrive", None, 100, Unknown),
        ("suspended, after it may have arrived", None, 1100, Unknown),
        ("its claim is proven, and accepted", Some(accepted("R")), 100, Unknown),
        ("its claim is to be proven, and the reply is lost", Some(Reply::Unknown), 100, Unknown),
    ];
    for (name, reply, second, ready) in table {
        let mut play = Play::settled();
        play.observed.history.unsettled.push(late());
        match reply {
            None => change(&mut play.observed, |spec| spec.suspend = true),
            Some(reply) => {
                play.observed.prove_claim = true;
                play = play.reply([reply]);
            }
        }
        play.run(second);
        assert_eq!(play.status().ready(), ready, "{name}");
    }
}

/// Otherwise the accepted value would count as never accepted again and again, and would be sent once a second.
#[test]
fn what_was_accepted_after_another_objects_call_waits_for_its_restart() {
    let mut play = Play::needs_restarts();
    play.observed.history.unsettled.push(Unsettled { value: None, until: at(150), by_other: true });
    play.observed.look = Some(look(200, "Running", false, -60));
    assert_eq!(play.run(200)[1..], ["write next=Drawn1 drawn", "send Drawn1"]);
    assert_eq!(play.status().ready(), False);
    for second in [201, 202, 300] {
        play.observed.look = Some(look(second, "Running", false, -60));
        assert!(!play.run(second).contains(&"send Drawn1".to_owned()), "at {second}");
    }
}

#[test]
fn a_generated_value_that_another_object_has_replaced_is_sent_again_first() {
    let mut play = Play::settled();
    play.observed.superseded = true;
    play.observed.limiter_opens = Some(at(160));
    play.run(100);
    assert_eq!(play.status().ready(), False, "until the API has accepted it again");
    play.observed.limiter_opens = None;
    let steps = play.run(160);
    assert_eq!(steps, ["read", "write next=Drawn1 drawn", "send Drawn1", "write key=Drawn1 -next done"]);
    assert_eq!(play.status().rotations, Some(1), "no rotation");
    // It may need a restart: what is in effect is the other's.
    let mut play = Play::needs_restarts();
    play.observed.superseded = true;
    play.observed.look = Some(look(100, "Running", false, -60));
    assert_eq!(play.run(100), ["read", "write next=Drawn1 drawn", "send Drawn1"]);
    assert_eq!(play.status().accepted.as_ref().map(|accepted| accepted.unchanged), Some(false));
}

#[test]
fn a_claim_is_proven_by_the_value_in_effect() {
    let mut play = Play::settled();
    play.observed.prove_claim = true;
    let steps = play.run(100);
    assert_eq!(steps, ["read", "write next=Drawn1 drawn", "send Drawn1", "write key=Drawn1 -next done"]);
    assert_eq!((reasons(play.status()), play.status().rotations), ((True, None, None), Some(1)));
    // Neither a backoff in the status nor a late call puts it off, and no restart follows.
    let mut play = Play::needs_restarts();
    play.observed.prove_claim = true;
    edit(&mut play.observed, |status| {
        let retry = status.retry.get_or_insert_default();
        retry.next_attempt_time = Some(Time(at(400)));
        retry.unsettled_until = Some(Time(at(1000)));
    });
    play.observed.look = Some(look(100, "Running", false, -60));
    assert_eq!(play.run(100)[2..], ["send Drawn1", "write key=Drawn1 -next done"]);
    assert_eq!((play.status().ready(), &play.status().accepted), (True, &None));
}

/// The promotion could not be written, and the credentials were renewed meanwhile: what was known of the instance is void.
#[test]
fn what_a_call_was_made_with_belongs_to_it() {
    let mut play = Play::settled();
    edit(&mut play.observed, |status| status.instance = None);
    play.asked(100);
    play.observed.look = Some(look(99, "Running", true, 0));
    let mut observed = play.observed.clone();
    observed.secret = Some(version(1));
    play.run(100);
    let promoted = play.secret.clone().unwrap();
    // As it was before the promotion.
    let stored = play.stored();
    let record = promoted.record.clone().unwrap();
    let drawn = Password::parse(b"Drawn2").unwrap();
    stored.next = Some("Drawn2".to_owned());
    stored.current = Some("Drawn1".to_owned());
    let next = Some(crate::rotation::contents::Digest::of(ID, &drawn));
    stored.record = Some(Record { state: crate::rotation::contents::State::Drawn, next, ..record.clone() });
    observed.look = None;
    observed.attempt = Some(Attempt {
        purpose: Purpose::Rotate,
        version: version(2),
        value: print("Drawn2"),
        rotation: Some(record.id),
        repeats: false,
        superseded: false,
        io_optimized: Some(true),
        look: Some(look(99, "Running", true, 0)),
        all_classes: true,
        tries: 1,
        at: at(100),
        reply: accepted("R"),
    });
    observed.read = Some(play.read());
    let Decision::WriteSecret(write) = decide(&observed, at(110)) else { panic!("it is promoted") };
    assert_eq!((write.next, write.record.state), (Change::Remove, crate::rotation::contents::State::Done));
}

#[test]
fn an_object_that_is_being_deleted_starts_nothing_more() {
    let mut new = Play::new();
    new.observed.deleting = true;
    assert_eq!(new.run(0), [""; 0]);
    let mut due = Play::settled();
    due.asked(100);
    due.observed.deleting = true;
    assert_eq!(due.run(100), [""; 0]);
    assert_eq!(due.verdict.as_ref().unwrap().wake, None);
    assert_eq!(reasons(due.status()), (True, None, None));
    let mut waiting = Play::settled().reply([refused("IncorrectInstanceStatus")]);
    waiting.asked(100);
    waiting.run(100);
    waiting.observed.deleting = true;
    waiting.observed.look = Some(look(800, "Running", true, 0));
    assert_eq!(waiting.run(800), [""; 0]);
    let mut users = applied();
    users.deleting = true;
    users.secret = Some(version(2));
    assert!(resting(&users, 100).wake.is_none());
}

/// Anybody who may write statuses can make it look so.
#[test]
fn what_only_the_status_of_another_object_says_restarts_no_instance() {
    for until in [50, 1061] {
        let mut play = Play::needs_restarts();
        play.observed.allow_reboot = true;
        change(&mut play.observed, |spec| spec.activation = Activation::Reboot);
        let supposed = Unsettled { value: None, until: at(until), by_other: true };
        play.observed.history.unsettled.push(supposed);
        for second in [100, 1061, 1200, 2000] {
            play.observed.look = Some(look(second, "Running", false, -60));
            assert!(!play.run(second).contains(&"reboot".to_owned()), "{until}: at {second}");
        }
        let accepted = play.status().accepted.as_ref();
        assert_eq!(accepted.map(|accepted| accepted.unchanged), Some(true), "{until}: sent once");
    }
}
