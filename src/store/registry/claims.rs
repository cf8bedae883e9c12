//! Which object owns an instance, and what this process knows of the claims of the others (DESIGN.md, R40 to
//! R43).

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;

use super::{
    MAX_IDENTITY_CHECKS, Registry,
    contest::{Before, Candidate, Claim, Term, contender},
    tables::Entry,
};
use crate::store::object::{Key, Object};
use vncpassword_core::{
    api::VncPasswordStatus,
    rotation::{
        facts::Owner,
        ownership::{Basis, Relation},
    },
};

impl Registry {
    /// The API accepted a call of this object under that access key or role. `object`: its version at the
    /// call. If it names other credentials now, those have no claim, but its value is still the last one.
    pub fn accepted(&self, object: &Object, principal: Arc<str>) {
        let mut tables = self.tables();
        tables.accepted += 1;
        let order = tables.accepted;
        let known = tables.remember(object, |newest, memory| {
            if newest.credentials() == object.credentials() {
                memory.claim.accepted(principal, order);
            } else {
                memory.claim.accepted_of_former(order);
            }
        });
        if known.is_none() {
            // The object was deleted while its call was under way.
            tables.keep_last_call(object, order);
        }
    }

    /// An object of another identity, which calls in that region, contends for the instance of this one. If
    /// this one rests on a hint, it is enqueued to prove its claim. The time of the other hints begins now as
    /// well: else each of them would keep the contender waiting for its own.
    pub fn contested(&self, object: &Object, region: &str) {
        let now = Instant::now();
        let mut tables = self.tables();
        let Some((_, candidates, own)) = tables.candidates_of(object) else { return };
        let hints = candidates
            .iter()
            .filter(|candidate| candidate.contender.basis == Basis::Hint && candidate.key != own.key);
        let hints: Vec<Key> = hints.map(|candidate| candidate.key.clone()).collect();
        for other in hints {
            if let Some(entry) = tables.entries.get_mut(&other) {
                entry.memory.claim.contested(region, now);
            }
        }
        let entry = tables.entries.get_mut(&object.key).filter(|entry| entry.object.uid == object.uid);
        if entry.is_some_and(|entry| entry.memory.claim.contested(region, now)) {
            tables.affected.push(object.key.clone());
        }
    }

    /// Whether the API refused a call at the instance that this object names, made in the same region under
    /// that key or role.
    pub fn is_refused(&self, object: &Object, principal: &str) -> bool {
        let tables = self.tables();
        let Some((_, candidates, _)) = tables.candidates_of(object) else { return false };
        let entries = candidates.iter().filter_map(|candidate| tables.entries.get(&candidate.key));
        let mut alike = entries.filter(|entry| region(&entry.object) == region(object));
        !principal.is_empty() && alike.any(|entry| entry.memory.claim.is_refused(principal))
    }

    /// Whether an object must send its value to prove its claim.
    pub fn must_prove(&self, object: &Object) -> bool {
        let tables = self.tables();
        let entry = tables.entries.get(&object.key).filter(|entry| entry.object.uid == object.uid);
        entry.is_some_and(|entry| entry.memory.claim.must_prove(Instant::now()))
    }

    /// A call for this object without a reply, which may still arrive.
    pub fn doubt_of(&self, object: &Object) -> Option<(Timestamp, bool)> {
        let tables = self.tables();
        tables.entries.get(&object.key).filter(|entry| entry.object.uid == object.uid)?.memory.doubt
    }

    /// Whether an object like this, created now, would find its instance taken. `relation`: the relation of
    /// two identities.
    pub fn is_taken(
        &self,
        id: &str,
        object: &Object,
        relation: impl Fn(&Object, &Object) -> Relation,
    ) -> bool {
        let tables = self.tables();
        let own = contender(object, &Claim::default());
        tables.candidates.candidates(id).iter().any(|candidate| {
            let other = tables.entries.get(&candidate.key).map(Entry::newest);
            other.is_some_and(|other| candidate.contender.keeps_out(&own, relation(&other, object)))
        })
    }

    /// The object that blocks this one from its instance, and the basis of its claim.
    pub fn blocking_owner(
        &self,
        object: &Object,
        relation: impl Fn(&Object, &Object) -> Relation,
    ) -> Option<(Arc<Object>, Basis)> {
        let tables = self.tables();
        let candidate = tables.blocking_owner(object, relation)?;
        Some((tables.entries.get(&candidate.key)?.newest(), candidate.contender.basis))
    }

    /// Whether the API has accepted another object's call for the instance, in this leadership term, since it
    /// last accepted one of this object.
    pub fn superseded(&self, object: &Object, relation: impl Fn(&Object, &Object) -> Relation) -> bool {
        let tables = self.tables();
        let Some((instance, candidates, own)) = tables.candidates_of(object) else { return false };
        if tables.last_call_of_deleted.get(instance).is_some_and(|order| *order > own.accepted_order) {
            return true;
        }
        candidates.iter().filter(|candidate| candidate.accepted_order > own.accepted_order).any(|candidate| {
            let other = tables.entries.get(&candidate.key).map(Entry::newest);
            other.is_some_and(|other| relation(&other, object) != Relation::OtherAccount)
        })
    }

    /// Whether the API has accepted a call of another object at the same instance, in this leadership term
    /// or, as its status says, before.
    pub fn others_called(&self, object: &Object, relation: impl Fn(&Object, &Object) -> Relation) -> bool {
        let tables = self.tables();
        let Some((instance, candidates, own)) = tables.candidates_of(object) else { return false };
        let others = candidates.iter().filter(|candidate| candidate.key != own.key);
        let mut accepted = others
            .filter(|candidate| candidate.accepted_order > 0 || candidate.contender.basis == Basis::Hint);
        tables.last_call_of_deleted.contains_key(instance)
            || accepted.any(|candidate| {
                let other = tables.entries.get(&candidate.key).map(Entry::newest);
                other.is_some_and(|other| relation(&other, object) != Relation::OtherAccount)
            })
    }

    /// Until when a call that a process before this term made for another object may arrive at the same
    /// instance, or may have arrived, and the objects of other identities that this rests on.
    pub fn others_before(
        &self,
        object: &Object,
        term: Term,
        now: Timestamp,
        relation: impl Fn(&Object, &Object) -> Relation,
    ) -> (Option<Timestamp>, Vec<Arc<Object>>) {
        let tables = self.tables();
        let (mut latest, mut others) = (None, Vec::new());
        let Some((_, candidates, own)) = tables.candidates_of(object) else { return (latest, others) };
        let claim =
            |candidate: &Candidate| tables.entries.get(&candidate.key).map(|entry| &entry.memory.claim);
        let acted = claim(own).is_some_and(|claim| claim.before() == Before::Acted);
        let applied = object.status.applied.as_ref().map(|applied| applied.time.0);
        for candidate in candidates.iter().filter(|candidate| candidate.key != own.key) {
            let Some(entry) = tables.entries.get(&candidate.key) else { continue };
            let other = entry.newest();
            let before = entry.memory.claim.before().until(term, acted);
            // Where neither has had a call accepted in this term, the statuses tell whose was the last.
            let hints = own.accepted_order == 0 && candidate.contender.basis == Basis::Hint;
            let later = applied.filter(|_| hints).and_then(|applied| {
                let last = accepted_last(&other.status)?;
                (last > applied).then(|| last.min(now))
            });
            let Some(until) = before.max(later) else { continue };
            match relation(&other, object) {
                Relation::OtherAccount => continue,
                Relation::OtherIdentity => others.push(other),
                Relation::SameIdentity => {}
            }
            latest = latest.max(Some(until));
            if latest >= Some(term.settled) && others.len() >= MAX_IDENTITY_CHECKS {
                break;
            }
        }
        (latest, others)
    }

    /// Ignores the status of an object: the cloud refuses its identity, or it has none.
    pub fn disregard_status(&self, object: &Object) {
        self.remember(object, |memory| memory.claim.disregard_status());
    }

    /// The API refused the identity of this object: all others of that identity in the same region have no
    /// claim either. In another region the refusal may only mean that the instance is not there; but a region
    /// in which nobody contends for it has no call of its own to hope for, or each of many hints would cost
    /// one.
    pub fn refused(&self, object: &Object, principal: Option<Arc<str>>) {
        let same: Vec<Key> = {
            let tables = self.tables();
            let candidates = tables.candidates_of(object);
            let same = candidates.into_iter().flat_map(|(_, candidates, own)| {
                candidates
                    .iter()
                    .filter(move |candidate| candidate.key != own.key && candidate.shares_credentials(own))
            });
            let hints = same.filter(|candidate| candidate.contender.basis == Basis::Hint);
            let alike = hints.filter(|candidate| {
                let entry = tables.entries.get(&candidate.key);
                entry.is_some_and(|entry| {
                    let theirs = region(&entry.object);
                    theirs == region(object) || entry.memory.claim.is_contested_elsewhere(theirs)
                })
            });
            alike.map(|candidate| candidate.key.clone()).collect()
        };
        self.remember(object, |memory| memory.claim.refused(principal));
        for other in same.iter().filter_map(|key| self.newest(key)) {
            self.remember(&other, |memory| memory.claim.give_up());
        }
    }

    /// Whether another object acts at the same instance under the same identity.
    pub fn has_peer(&self, object: &Object) -> bool {
        let tables = self.tables();
        let Some((_, candidates, own)) = tables.candidates_of(object) else { return false };
        candidates.iter().any(|candidate| candidate.key != own.key && candidate.shares_credentials(own))
    }

    /// The owner of the instance that this object names, and of the key that it generates into. `relation`:
    /// the relation of two identities.
    pub fn owner(&self, object: &Object, relation: impl Fn(&Object, &Object) -> Relation) -> Owner {
        let mut tables = self.tables();
        if let Some(candidate) = tables.blocking_owner(object, relation) {
            let near = candidate.key.namespace == object.key.namespace;
            return Owner::Other(near.then(|| candidate.key.name.to_string()));
        }
        match tables.generator(object).filter(|key| *key != object.key) {
            Some(key) => Owner::OtherOfSecret(key.name.to_string()),
            None => Owner::This,
        }
    }
}

/// The region in the spec.
fn region(object: &Object) -> Option<&str> {
    object.spec.as_ref().ok()?.region_id.as_deref()
}

/// When the API last accepted a call, according to a status.
fn accepted_last(status: &VncPasswordStatus) -> Option<Timestamp> {
    let applied = status.applied.as_ref().map(|applied| applied.time.0);
    applied.max(status.last_rotation_time.as_ref().map(|time| time.0))
}
