//! What must hold at every moment, checked afterwards: from every version of a Secret, from what opened the console and
//! since when, and from the calls. Only what is certain counts: where two moments cannot be told apart, it is let pass.
//!
//! Three Secrets belong to an instance: that of the object, and those of its rivals, objects that take the instance over
//! and give it back. A password may stand in any of them.
//!
//! One loss is excused (R52): object and Secret are deleted before a call has settled, and the operator is killed before
//! it has settled. Then nobody is left who knows of the call.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use vncpassword_core::rotation::contents::Record;
use vncpassword_emulator::{ConsoleChange, Entry};

use super::{faults::LATEST, history::Version};

/// Longest between the deletion of an object and the last call that is made for it, on a slow machine: a reconcile that has
/// read the Secret waits up to two seconds for a look at the instance.
const LAST_CALL: Duration = Duration::from_secs(3);
/// Longest between the moment at which a call arrives and that at which its password opens a console that needs no restart.
const AT_ONCE: Duration = Duration::from_millis(200);
/// Longest that the operator waits for the reply to a call.
const CALL: Duration = Duration::from_secs(4);
/// Longest between the end of `--settle` and the answer to the call that heals the instance: with backoff.
const HEALED: Duration = Duration::from_secs(10);

/// People deleted an object together with its Secret between these moments.
#[derive(Clone, Copy, Debug)]
pub struct Deletion {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Whether nobody may be left who knows of the call that brought a password: people deleted the object and its Secret before
/// the call had settled, and the operator was killed before it had.
pub fn is_forgotten<'a>(
    password: &str,
    calls: impl IntoIterator<Item = &'a Entry>,
    deletions: &[Deletion],
    kills: &[Timestamp],
    settle: Duration,
) -> bool {
    let brought = calls.into_iter().filter(|call| call.vnc_password.as_deref() == Some(password));
    brought.map(|call| (call.at, call.at + CALL + settle)).any(|(made, settled)| {
        deletions.iter().any(|deletion| made <= deletion.to + LAST_CALL && deletion.from <= settled)
            && kills.iter().any(|kill| (made..=settled).contains(kill))
    })
}

/// How often what opened the console was in no Secret, and that was excused.
#[derive(Debug, Default)]
pub struct Excuses {
    /// A person had just removed it from the Secret.
    pub people: Cell<usize>,
    /// A late call after the deletion of object and Secret.
    pub lost_with_object: Cell<usize>,
}

/// The life of one instance and of its Secrets.
pub struct Life<'a> {
    pub instance: &'a str,
    /// All of the Secrets of rivals: of generated passwords, and of the user's.
    pub rivals: [&'a [Version]; 2],
    pub deletions: &'a [Deletion],
    /// When the operator was killed.
    pub kills: &'a [Timestamp],
    pub settle: Duration,
    pub excuses: &'a Excuses,
    /// What opened the console, oldest first.
    pub console: Vec<ConsoleChange>,
    /// All of the Secret, oldest first.
    pub versions: &'a [Version],
    /// Revisions that the test has written, as a person.
    pub people: &'a BTreeSet<u64>,
    /// Calls of ModifyInstanceVncPasswd.
    pub calls: Vec<Entry>,
}

impl Life<'_> {
    /// Everything that should not have been.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.lost();
        complaints.extend(self.sent_unwritten());
        complaints.extend(self.drawn_for_nothing(self.versions));
        complaints.extend(self.drawn_for_nothing(self.rivals[0]));
        complaints
    }

    /// How often a password that only a rival's Secret offers came to open the console.
    pub fn taken_by_rivals(&self) -> usize {
        let offers = |versions: &[Version], change: &ConsoleChange| {
            versions.iter().any(|version| version.offers(&change.password))
        };
        let taken = |change: &&ConsoleChange| {
            !offers(self.versions, change) && self.rivals.iter().any(|versions| offers(versions, change))
        };
        self.console.iter().filter(taken).count()
    }

    /// The invariant: what opens the console stands in `<key>` or `<key>.next` of a Secret.
    fn lost(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (number, change) in self.console.iter().enumerate() {
            let end = self.console.get(number + 1).map_or(Timestamp::MAX, |next| next.at);
            let password = &change.password;
            let written = self.versions.first().map_or(Timestamp::MAX, |first| first.after);
            if self.only_here(change, change.at, written.min(end)) {
                complaints.push(format!(
                    "{}: {password} opens the console since {}, and there is no Secret before {written}",
                    self.instance, change.at
                ));
            }
            for (index, version) in self.versions.iter().enumerate() {
                let replaced = self.versions.get(index + 1).map_or(Timestamp::MAX, |next| next.after);
                let (from, to) = (change.at.max(version.before), end.min(replaced));
                if !version.offers(password)
                    && self.only_here(change, from, to)
                    && !self.excused(index, change, from, to)
                {
                    complaints.push(format!(
                        "{}: {password} opens the console since {}, and from {from} to {to} the Secret is {version:?}, \
                         before {:?}",
                        self.instance,
                        change.at,
                        index.checked_sub(1).map(|before| &self.versions[before])
                    ));
                }
            }
        }
        complaints
    }

    /// Whether there is certainly a moment between these two at which no rival's Secret offers the password.
    fn only_here(&self, change: &ConsoleChange, from: Timestamp, to: Timestamp) -> bool {
        let mut offered: Vec<(Timestamp, Timestamp)> = Vec::new();
        for versions in self.rivals {
            for (index, version) in versions.iter().enumerate().filter(|(_, it)| it.offers(&change.password))
            {
                let replaced = versions.get(index + 1).map_or(Timestamp::MAX, |next| next.before);
                offered.push((version.after, replaced));
            }
        }
        offered.sort_unstable();
        let covered =
            offered.iter().fold(
                from,
                |covered, (after, replaced)| {
                    if *after <= covered { covered.max(*replaced) } else { covered }
                },
            );
        covered < to
    }

    /// Whether it was a person who took away from the Secret what opened the console then: until the next accepted call
    /// that is nobody's fault. Or whether a late call was lost together with object and Secret.
    fn excused(&self, index: usize, change: &ConsoleChange, from: Timestamp, to: Timestamp) -> bool {
        let with = self.versions[..=index].iter().rposition(|version| version.offers(&change.password));
        let dropped = &self.versions[with.map_or(0, |with| with + 1)];
        let (excuse, excused) = if change.at < dropped.before {
            (&self.excuses.people, dropped.deleted || self.people.contains(&dropped.revision))
        } else {
            let lost = with.is_some() && dropped.deleted && self.lost_with_object(change, from, to);
            (&self.excuses.lost_with_object, lost)
        };
        excuse.set(excuse.get() + usize::from(excused));
        excused
    }

    /// Whether the password waited for a restart when people deleted the object and its Secret. Or whether it came by a
    /// call that was on its way then, and the operator was killed before the call had settled, or has healed that in time:
    /// where it takes a restart, with the next one.
    fn lost_with_object(&self, change: &ConsoleChange, from: Timestamp, to: Timestamp) -> bool {
        let forgotten = is_forgotten(&change.password, &self.calls, self.deletions, self.kills, self.settle);
        let brought = self.calls.iter().filter(|call| call.vnc_password.as_ref() == Some(&change.password));
        let arrived = brought.filter_map(|call| call.applied_at).filter(|at| *at <= change.at).max();
        let arrived = arrived.unwrap_or(change.at);
        let by_restart = arrived + AT_ONCE < change.at;
        self.deletions.iter().any(|deletion| {
            let waited = by_restart && arrived <= deletion.to && deletion.from <= change.at;
            let on_its_way = deletion.from <= arrived && arrived <= deletion.to + LAST_CALL + LATEST;
            let settled = deletion.to + LAST_CALL + self.settle;
            waited || on_its_way && (forgotten || by_restart || from.max(to) <= settled + HEALED)
        })
    }

    /// `.next` is the only value that is ever sent, and it is written first. Of a Secret of the user's it is `<key>`.
    fn sent_unwritten(&self) -> Vec<String> {
        let [generated, users] = self.rivals;
        let written = |call: &&Entry| {
            let mut generated = self.versions.iter().chain(generated);
            generated.any(|version| version.next == call.vnc_password && version.after <= call.at)
                || users
                    .iter()
                    .any(|version| version.current == call.vnc_password && version.after <= call.at)
        };
        let unwritten = self.calls.iter().filter(|call| !written(call));
        unwritten.map(|call| format!("{}: sent, and not in .next before: {call:?}", self.instance)).collect()
    }

    /// One draw a rotation, one rotation a `rotate-at`.
    fn drawn_for_nothing(&self, versions: &[Version]) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut values: BTreeMap<&str, &str> = BTreeMap::new();
        let mut before: Option<&Version> = None;
        for version in versions {
            if version.deleted {
                before = None;
                continue;
            }
            let Some(record) = &version.record else {
                complaints.push(format!("{}: no record: {version:?}", self.instance));
                continue;
            };
            if let Some(next) = &version.next
                && *values.entry(&record.id).or_insert(next) != next.as_str()
            {
                complaints.push(format!("{}: two values in one rotation: {version:?}", self.instance));
            }
            if let Err(why) = self.may_follow(before, version, record) {
                complaints.push(format!("{}: {why}: {version:?} after {before:?}", self.instance));
            }
            before = Some(version);
        }
        complaints
    }

    fn may_follow(
        &self,
        before: Option<&Version>,
        version: &Version,
        record: &Record,
    ) -> Result<(), &'static str> {
        let Some((before, former)) = before.and_then(|before| Some((before, before.record.as_ref()?))) else {
            return if record.draws == 1 { Ok(()) } else { Err("not drawn") };
        };
        if record.rotate_at < former.rotate_at {
            return Err("a rotate-at is forgotten");
        }
        if record.id == former.id {
            let same = record.rotate_at == former.rotate_at;
            return if same { Ok(()) } else { Err("a rotate-at is covered without a rotation") };
        }
        let explained = match record.draws {
            0 => version.next == before.current && self.people.contains(&before.revision),
            1 if before.next.is_some() => false,
            1 => record.rotate_at > former.rotate_at || before.current.is_none(),
            // Nothing is refused as malformed here.
            _ => false,
        };
        if explained { Ok(()) } else { Err("nobody asked for this rotation") }
    }
}
