//! What must hold at every moment, checked afterwards: from every version of a Secret, from what opened the console and
//! since when, and from the calls. Only what is certain counts: where two moments cannot be told apart, it is let pass.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use vncpassword::{
    emulator::{ConsoleChange, Entry},
    rotation::contents::Record,
};

use super::history::Version;

/// The life of one instance and of its Secret.
pub struct Life<'a> {
    pub instance: &'a str,
    /// What opened the console, oldest first.
    pub console: Vec<ConsoleChange>,
    /// All of the Secret, oldest first.
    pub versions: &'a [Version],
    /// Revisions that the test has written, as a person.
    pub people: &'a BTreeSet<u64>,
    /// Calls of ModifyInstanceVncPasswd.
    pub calls: Vec<&'a Entry>,
}

impl Life<'_> {
    /// Everything that should not have been.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.lost();
        complaints.extend(self.sent_unwritten());
        complaints.extend(self.drawn_for_nothing());
        complaints
    }

    /// The invariant: what opens the console stands in `<key>` or `<key>.next`.
    fn lost(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (number, change) in self.console.iter().enumerate() {
            let end = self.console.get(number + 1).map_or(Timestamp::MAX, |next| next.at);
            let password = &change.password;
            let written = self.versions.first().map_or(Timestamp::MAX, |first| first.after);
            if change.at < written.min(end) {
                complaints.push(format!(
                    "{}: {password} opens the console since {}, and there is no Secret before {written}",
                    self.instance, change.at
                ));
            }
            for (index, version) in self.versions.iter().enumerate() {
                let replaced = self.versions.get(index + 1).map_or(Timestamp::MAX, |next| next.after);
                let (from, to) = (change.at.max(version.before), end.min(replaced));
                if from < to && !version.offers(password) && !self.excused(index, change) {
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

    /// Whether it was a person who took away from the Secret what opened the console then: until the next accepted call
    /// that is nobody's fault.
    fn excused(&self, index: usize, change: &ConsoleChange) -> bool {
        let without = self.versions[..=index].iter().rposition(|version| version.offers(&change.password));
        let dropped = &self.versions[without.map_or(0, |with| with + 1)];
        self.people.contains(&dropped.revision) && change.at < dropped.before
    }

    /// `.next` is the only value that is ever sent, and it is written first.
    fn sent_unwritten(&self) -> Vec<String> {
        let written = |call: &&&Entry| {
            self.versions.iter().any(|version| version.next == call.vnc_password && version.after <= call.at)
        };
        let unwritten = self.calls.iter().filter(|call| !written(call));
        unwritten.map(|call| format!("{}: sent, and not in .next before: {call:?}", self.instance)).collect()
    }

    /// One draw a rotation, one rotation a `rotate-at`.
    fn drawn_for_nothing(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut values: BTreeMap<&str, &str> = BTreeMap::new();
        let mut before: Option<&Version> = None;
        for version in self.versions {
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
