//! The claims of objects to their instances, and their order (DESIGN.md, R40 to R43).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    runtime::{clock_steps::Step, tables::shrink},
    store::object::{Key, Object},
};
use vncpassword_core::{
    api::{ConditionType, Reason, VncPasswordStatus},
    rotation::{
        outcome::{self, Class},
        ownership::{Basis, Contender},
    },
};

/// How long an object whose call proved nothing waits before it tries to prove its claim again: at first,
/// doubling, and at the longest.
const PROOF_BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// How long after the first contention throttling keeps a hint. A tenant can throttle its own account without
/// end.
const MAX_THROTTLED: Duration = Duration::from_secs(600);

/// What this process knows of an object's claim to its instance. It is never read from a status or a Secret,
/// except for the hint, so nobody can forge it.
#[derive(Default)]
pub(crate) struct Claim {
    /// The access key or role under which the API accepted a call of this object in this leadership term.
    accepted_as: Option<Arc<str>>,
    /// The status named an accepted call when the term began, or the key or role was renewed since one.
    hint: bool,
    /// The API refused the last call for credentials or rights: the key or role that it was made with, empty
    /// where that is not known.
    refused: Option<Arc<str>>,
    contested: Option<Contested>,
    /// When to prove the claim again after calls without an answer.
    prove_at: Option<Instant>,
    unanswered: u32,
    /// The place of its last accepted call among all that this process made; 0: none.
    accepted_order: u64,
    /// What a process before this term may have done for it.
    before: Before,
}

/// Objects of other identities contend for the instance.
struct Contested {
    /// The region that they call in; `None`: they call in several.
    region: Option<Box<str>>,
    since: Instant,
}

/// The leadership term of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    /// Until when a call of a process before this term may still arrive.
    pub settled: Timestamp,
}

/// What a process before this term may have done for an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing: the object is younger than the term, or no call was ever made for it.
    #[default]
    New,
    /// It yielded to another object, was suspended, or had no right. The previous process may still have
    /// started a call that the status does not show. `unsettled`: until when a call may still arrive,
    /// according to the status.
    StoodBack { unsettled: Option<Timestamp> },
    /// It may have made a call just before the end of the previous process.
    Acted,
}

/// How the attempt to prove a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Not made yet: the object could not call, for a reason outside of it.
    Pending,
    /// The call got no reply that says anything about credentials or rights.
    Unanswered,
    /// The cloud answered that the account of the object has used up its calls, or this process knows that it
    /// has.
    Throttled,
    /// The instance was in a state that takes no password: that says nothing of credentials and rights.
    Inconclusive,
    /// The object could not make its call, or the API refused the value.
    Failed,
}

impl Claim {
    /// The claim of an object that the term found.
    pub fn found(object: &Object, now: Timestamp) -> Self {
        Self { hint: has_hint(object), before: Before::of(object, now), ..Self::default() }
    }

    /// The cloud refuses the identity of the object, or it has none: what its status says counts for nothing.
    pub fn disregard_status(&mut self) {
        self.hint = false;
        self.before = Before::New;
    }

    /// The wall clock was stepped.
    pub fn stepped(&mut self, step: &Step) {
        if let Before::StoodBack { unsettled: Some(until) } = &mut self.before {
            *until = step.deadline_after(*until);
        }
    }

    pub fn before(&self) -> Before {
        self.before
    }

    pub fn accepted_order(&self) -> u64 {
        self.accepted_order
    }

    pub fn basis(&self) -> Basis {
        match (&self.accepted_as, self.hint) {
            (Some(_), _) => Basis::Accepted,
            (None, true) => Basis::Hint,
            (None, false) => Basis::None,
        }
    }

    /// The API accepted a call under that key or role; `order`: its place among all accepted calls.
    pub fn accepted(&mut self, principal: Arc<str>, order: u64) {
        let (before, accepted_as) = (self.before, Some(principal));
        *self = Self { accepted_as, accepted_order: order, before, ..Self::default() };
    }

    /// The same of a call under credentials that the object no longer names: that is no claim.
    pub fn accepted_of_former(&mut self, order: u64) {
        self.accepted_order = order;
    }

    /// The API refused a call for credentials or rights: what was accepted before is worth nothing any more.
    pub fn refused(&mut self, principal: Option<Arc<str>>) {
        self.give_up();
        self.refused = Some(principal.unwrap_or_default());
    }

    /// Whether the API refused the last call, made under that key or role.
    pub fn is_refused(&self, principal: &str) -> bool {
        self.refused.as_deref() == Some(principal)
    }

    /// Gives up the claim.
    pub fn give_up(&mut self) {
        self.accepted_as = None;
        self.hint = false;
        self.contested = None;
        self.prove_at = None;
        self.unanswered = 0;
    }

    /// The object's Secret with credentials holds another key or role now. A claim becomes a hint, because
    /// keys are renewed routinely.
    pub fn renewed(&mut self, principal: &str) {
        self.refused = None;
        if self.accepted_as.as_deref().is_some_and(|accepted_as| accepted_as != principal) {
            self.accepted_as = None;
            self.hint = true;
        }
    }

    /// The object names other credentials now.
    pub fn other_credentials(&mut self) {
        self.give_up();
        self.refused = None;
    }

    /// The object's spec has changed: what was refused may be accepted now.
    pub fn spec_changed(&mut self) {
        self.refused = None;
    }

    /// An object of another identity, which calls in that region, contends for the instance. Whether this
    /// object must prove its claim now.
    pub fn contested(&mut self, region: &str, now: Instant) -> bool {
        if self.basis() == Basis::Hint {
            let contested =
                self.contested.get_or_insert_with(|| Contested { region: Some(region.into()), since: now });
            // Two objects of one tenant could otherwise agree on a region where nobody answers.
            contested.region.take_if(|other| **other != *region);
        }
        self.must_prove(now)
    }

    /// Whether those who contend for the instance call in another region, or in several.
    pub fn is_contested_elsewhere(&self, region: Option<&str>) -> bool {
        self.contested.as_ref().is_some_and(|contested| contested.region.as_deref() != region)
    }

    pub fn must_prove(&self, now: Instant) -> bool {
        self.basis() == Basis::Hint
            && self.contested.is_some()
            && self.prove_at.is_none_or(|prove_at| prove_at <= now)
    }

    /// Takes in how an attempt to prove the claim ended, made in that region; when to make the next one.
    /// Where the contender calls in another region, the cloud's silence in this one is no reason to keep it
    /// waiting.
    pub fn proof_ended(&mut self, proof: Proof, region: Option<&str>, now: Instant) -> Option<Duration> {
        let contested = self.contested.as_ref().filter(|_| self.basis() == Basis::Hint)?;
        let same_region = contested.region.is_some() && region == contested.region.as_deref();
        let stands = match proof {
            Proof::Pending => return None,
            Proof::Unanswered => same_region,
            Proof::Throttled => same_region && now < contested.since + MAX_THROTTLED,
            Proof::Inconclusive => true,
            Proof::Failed => false,
        };
        if !stands {
            self.give_up();
            return None;
        }
        let wait = PROOF_BACKOFF.0.saturating_mul(1 << self.unanswered.min(10)).min(PROOF_BACKOFF.1);
        self.prove_at = Some(now + wait);
        self.unanswered += 1;
        Some(wait)
    }
}

impl Before {
    /// What a process may have done just before it ended for an object that the term finds like this.
    fn of(object: &Object, now: Timestamp) -> Self {
        let status = &object.status;
        let unsettled = status.unsettled_until().filter(|until| *until > now);
        let stalled = status.reason(ConditionType::Stalled);
        let suspended = object.spec.as_ref().is_ok_and(|spec| spec.suspend)
            || status.condition(ConditionType::Suspended).is_some();
        let never_called =
            status.conditions.is_empty() && status.request_id.is_none() && status.retry.is_none();
        let no_right = stalled.is_some_and(has_no_right);
        // Nothing is written down before the first call of an object: if it was suspended since, it may have
        // had one.
        if never_called && !suspended || no_right && unsettled.is_none() {
            // A call that was refused for credentials or rights leaves no doubt.
            Self::New
        } else if suspended || no_right || stalled == Some(Reason::Conflict) {
            Self::StoodBack { unsettled }
        } else {
            Self::Acted
        }
    }

    /// Until when another object must expect a call that the process made for this one. `acted`: the process
    /// acted for that other object, so it made none for this one at the same time unless the status says so.
    pub fn until(self, term: Term, acted: bool) -> Option<Timestamp> {
        match self {
            Self::New => None,
            Self::Acted => Some(term.settled),
            Self::StoodBack { .. } if !acted => Some(term.settled),
            Self::StoodBack { unsettled } => unsettled.map(|until| until.min(term.settled)),
        }
    }
}

/// Whether the status names a call that was accepted under the credentials that the object has.
fn has_hint(object: &Object) -> bool {
    let status = &object.status;
    let now = object.spec.as_ref().ok().and_then(|spec| spec.credentials_ref.as_ref());
    status.request_id.is_some()
        && status.reason(ConditionType::Stalled) != Some(Reason::AmbientCredentialsDenied)
        && status.accepted_as.as_deref() == now.map(|secret| secret.name.as_str())
}

/// A contender for an instance.
pub(super) struct Candidate {
    pub contender: Contender,
    pub accepted_order: u64,
    pub key: Key,
    /// The Secret of `spec.credentialsRef`; `None`: the operator's own identity.
    pub credentials: Option<Arc<str>>,
}

impl Candidate {
    pub fn new(object: &Object, claim: &Claim) -> Self {
        let spec = object.spec.as_ref().ok();
        let credentials = spec.and_then(|spec| spec.credentials_ref.as_ref());
        Self {
            contender: contender(object, claim),
            accepted_order: claim.accepted_order,
            key: object.key.clone(),
            credentials: credentials.map(|secret| secret.name.as_str().into()),
        }
    }

    /// Whether the two act under the same identity, as their specs say.
    pub fn shares_credentials(&self, other: &Self) -> bool {
        self.credentials == other.credentials
            && (self.credentials.is_none() || self.key.namespace == other.key.namespace)
    }

    fn same_as(&self, other: &Self) -> bool {
        self.contender == other.contender
            && self.accepted_order == other.accepted_order
            && self.credentials == other.credentials
    }
}

/// The contenders for each instance, the strongest claim first.
#[derive(Default)]
pub(super) struct Candidates(HashMap<Box<str>, Vec<Candidate>>);

impl Candidates {
    /// All contenders for the instance.
    pub fn candidates(&self, instance: &str) -> &[Candidate] {
        self.0.get(instance).map(Vec::as_slice).unwrap_or_default()
    }

    /// Inserts or updates the candidate of an object. Returns whether anything has changed for the others.
    pub fn candidate(&mut self, instance: &str, candidate: Candidate) -> bool {
        // Almost always the only one: a vector's own first growth would take room for four.
        let candidates = match self.0.get_mut(instance) {
            Some(candidates) => candidates,
            None => self.0.entry(instance.into()).or_insert_with(|| Vec::with_capacity(1)),
        };
        if let Some(former) = candidates.iter().position(|other| other.key == candidate.key) {
            if candidates.get(former).is_some_and(|other| other.same_as(&candidate)) {
                return false;
            }
            candidates.remove(former);
        }
        let place = candidates.partition_point(|other| other.contender.beats(&candidate.contender));
        candidates.insert(place, candidate);
        true
    }

    /// Removes the candidate of an object.
    pub fn leave(&mut self, instance: &str, key: &Key) {
        if let Some(candidates) = self.0.get_mut(instance) {
            candidates.retain(|candidate| candidate.key != *key);
            if candidates.is_empty() {
                self.0.remove(instance);
                shrink(&mut self.0);
            }
        }
    }

    /// How many instances are named.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// For how many there is room.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.0.capacity()
    }
}

/// The object as a contender for its instance.
pub(super) fn contender(object: &Object, claim: &Claim) -> Contender {
    let stalled = object.status.reason(ConditionType::Stalled);
    let stopped = match stalled {
        Some(reason) if has_no_right(reason) => true,
        // To stand back for another makes nobody able: otherwise the two would stand back for each other.
        Some(Reason::Conflict) => stood_back_refused(&object.status),
        _ => false,
    };
    let suspended = object.spec.as_ref().is_ok_and(|spec| spec.suspend);
    let disowned = object.deleting || stalled == Some(Reason::AmbientCredentialsDenied);
    Contender {
        basis: if disowned { Basis::None } else { claim.basis() },
        idle: stopped || suspended || object.deleting || claim.refused.is_some(),
        deleting: object.deleting,
        created: object.created,
        uid: Arc::clone(&object.uid),
    }
}

/// Whether the object has no credentials or no right to the instance.
fn has_no_right(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Denied
            | Reason::InstanceNotFound
            | Reason::InvalidCredentials
            | Reason::CredentialsNotFound
            | Reason::AmbientCredentialsDenied
            | Reason::InvalidRegion
    )
}

/// Whether the last call before a conflict was refused in a way that leaves the instance to others.
fn stood_back_refused(status: &VncPasswordStatus) -> bool {
    let code = status.retry.as_ref().and_then(|retry| retry.code.as_deref());
    let class = code.map(|code| outcome::classify_code(code, 0));
    matches!(class, Some(Class::Denied | Class::NotFound | Class::Credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(hint: bool) -> Claim {
        Claim { hint, ..Claim::default() }
    }

    #[test]
    fn a_claim_rests_on_replies_and_goes_with_the_key() {
        let mut claim = claim(false);
        assert_eq!(claim.basis(), Basis::None);
        claim.accepted("LTAI1".into(), 1);
        assert_eq!(claim.basis(), Basis::Accepted);
        claim.renewed("LTAI1");
        assert_eq!(claim.basis(), Basis::Accepted, "the same key");
        claim.renewed("LTAI2");
        assert_eq!(claim.basis(), Basis::Hint, "another key");
        claim.accepted("LTAI2".into(), 2);
        claim.refused(None);
        assert_eq!(claim.basis(), Basis::None);
        claim.accepted("LTAI2".into(), 3);
        claim.other_credentials();
        assert_eq!(claim.basis(), Basis::None);
    }

    #[test]
    fn a_hint_lasts_for_one_call_or_as_long_as_the_cloud_is_silent() {
        let now = Instant::now();
        let table = [
            ("not made yet", Proof::Pending, Basis::Hint, true, None),
            ("silent", Proof::Unanswered, Basis::Hint, false, Some(PROOF_BACKOFF.0)),
            ("refused, or not made", Proof::Failed, Basis::None, false, None),
        ];
        for (name, proof, basis, again, wait) in table {
            let mut claim = claim(true);
            assert!(!claim.must_prove(now), "{name}: nobody contends");
            assert!(claim.contested("cn-hangzhou", now), "{name}");
            assert_eq!(claim.proof_ended(proof, Some("cn-hangzhou"), now), wait, "{name}");
            assert_eq!((claim.basis(), claim.must_prove(now)), (basis, again), "{name}");
            assert_eq!(claim.must_prove(now + PROOF_BACKOFF.0), basis == Basis::Hint, "{name}: later");
        }
        let mut throttled = claim(true);
        throttled.contested("cn-hangzhou", now);
        throttled.proof_ended(Proof::Throttled, Some("cn-hangzhou"), now);
        assert_eq!(throttled.basis(), Basis::Hint, "throttled");
        throttled.contested("cn-hangzhou", now + MAX_THROTTLED);
        throttled.proof_ended(Proof::Throttled, Some("cn-hangzhou"), now + MAX_THROTTLED);
        assert_eq!(throttled.basis(), Basis::None, "throttled for too long");
        let mut several = claim(true);
        several.contested("cn-nowhere", now);
        several.contested("cn-hangzhou", now);
        several.proof_ended(Proof::Unanswered, Some("cn-nowhere"), now);
        assert_eq!(
            several.basis(),
            Basis::None,
            "the silence of a region that one of two contenders does not call"
        );
        let mut elsewhere = claim(true);
        elsewhere.contested("cn-hangzhou", now);
        elsewhere.proof_ended(Proof::Unanswered, Some("cn-nowhere"), now);
        assert_eq!(
            elsewhere.basis(),
            Basis::None,
            "the silence of a region that the contender does not call"
        );
    }

    #[test]
    fn seats_stand_in_the_order_of_claims() {
        let candidate = |name: &str, basis, second| Candidate {
            contender: Contender {
                basis,
                idle: false,
                deleting: false,
                created: jiff::Timestamp::from_second(second).unwrap(),
                uid: name.into(),
            },
            accepted_order: 0,
            key: Key::new("n", name),
            credentials: None,
        };
        let mut candidates = Candidates::default();
        for (name, basis, second) in
            [("young", Basis::None, 3), ("old", Basis::None, 1), ("middle", Basis::None, 2)]
        {
            assert!(candidates.candidate("i-1", candidate(name, basis, second)));
        }
        assert!(!candidates.candidate("i-1", candidate("old", Basis::None, 1)), "nothing has changed");
        let names = |candidates: &Candidates| -> Vec<String> {
            candidates.candidates("i-1").iter().map(|candidate| candidate.key.name.to_string()).collect()
        };
        assert_eq!(names(&candidates), ["old", "middle", "young"]);
        assert!(candidates.candidate("i-1", candidate("young", Basis::Accepted, 3)));
        assert_eq!(names(&candidates), ["young", "old", "middle"]);
        for name in ["young", "old", "middle"] {
            candidates.leave("i-1", &Key::new("n", name));
        }
        assert!(candidates.0.is_empty());
    }
}
