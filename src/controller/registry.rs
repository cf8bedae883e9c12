//! The objects, found by name, by instance and by Secret, and what this process remembers of each.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::{
    identities::Identities,
    object::{Key, Object},
};
use crate::{
    api::{ConditionType, Reason, VncPasswordStatus},
    rotation::{
        facts::{Attempt, Fingerprint, History, Owner, SecretVersion},
        outcome::{self, Class, Reply},
        owner::{Bond, Claim},
    },
};

/// What this process remembers of one object. It goes with the object.
#[derive(Default)]
pub(super) struct Memory {
    /// The newest version that a write returned, until the watch has caught up.
    pub written: Option<Arc<Object>>,
    /// The applied version and its value.
    pub applied: Option<(SecretVersion, Fingerprint)>,
    /// The version that was read last.
    pub examined: Option<SecretVersion>,
    /// A call whose outcome could not be written yet, and the generation of the object that it was made for.
    pub unrecorded: Option<Box<(i64, Attempt)>>,
    /// The object was in the first list: a former process may have acted on it. Cleared by the first pass.
    pub inherited: bool,
    /// It was not, and this process has made no call for it.
    pub untouched: bool,
    /// Passes in a row that failed on the Kubernetes side.
    pub failures: u32,
}

struct Entry {
    object: Arc<Object>,
    memory: Box<Memory>,
}

#[derive(Default)]
struct Tables {
    entries: HashMap<Key, Entry>,
    by_instance: HashMap<Box<str>, Vec<Key>>,
    by_secret: HashMap<Key, Vec<Key>>,
    by_credentials: HashMap<Key, Vec<Key>>,
    /// By the fleets' uids.
    by_fleet: HashMap<Arc<str>, HashSet<Key>>,
}

/// All objects that the watches know.
#[derive(Default)]
pub(super) struct Registry(Mutex<Tables>);

/// What a change in the registry asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Objects to pass over.
    pub wake: Vec<Key>,
    /// An object is gone, or another has taken its name.
    pub gone: Option<Gone>,
    /// A Secret with credentials that nobody names any more.
    pub released: Option<Key>,
    /// The object acts under another identity than before: the former one's name, and the instance.
    pub former: Option<(String, String)>,
    /// Fleets that it concerns.
    pub fleets: Concerned,
}

/// Which fleets a change concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Concerned {
    /// None.
    #[default]
    None,
    /// The one of that name and uid, if there is one.
    One(Arc<str>, Arc<str>),
    /// Any: an object that is no fleet's may stand in the way of one.
    Any,
}

impl Concerned {
    fn of(former: Option<&Object>, object: Option<&Object>) -> Self {
        let fleet = |object: &Object| {
            object.membership.as_ref().map(|member| (Arc::clone(&member.fleet), Arc::clone(&member.uid)))
        };
        match (former.map(fleet), object.map(fleet)) {
            (Some(Some(one)), Some(Some(other))) if one == other => Self::One(one.0, one.1),
            (Some(Some(one)), None) | (None, Some(Some(one))) => Self::One(one.0, one.1),
            (Some(None), Some(None)) if former.map(|f| f.generation) == object.map(|o| o.generation) => {
                Self::None
            }
            (None, None) => Self::None,
            _ => Self::Any,
        }
    }
}

/// An object that is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub instance_id: String,
    /// The name of the identity that it acted under.
    pub identity: String,
    /// Until when a call of it may still arrive.
    pub unsettled_until: Option<Timestamp>,
    /// Nobody else names the instance.
    pub unclaimed: bool,
}

impl Registry {
    /// Takes in an object from the watch; `inherited`: from the first list.
    pub fn apply(&self, object: Object, inherited: bool) -> Change {
        let mut tables = self.tables();
        let key = object.key.clone();
        let mut change = Change::default();
        let mut echo = false;
        // Whom the object stood in the way of before this change.
        let former = tables.entries.get(&key).map(|entry| Arc::clone(&entry.object));
        let mut rivals = former.as_ref().map(|former| tables.rivals(former)).unwrap_or_default();
        if let Some(entry) = tables.entries.get_mut(&key) {
            if entry.object.uid == object.uid {
                // Our own write coming back, or something older than it, brings nothing new.
                echo = entry.memory.written.as_ref().is_some_and(|written| written.is_at_least(&object));
                if entry.memory.written.as_ref().is_some_and(|written| object.is_at_least(written)) {
                    entry.memory.written = None;
                }
            } else {
                change.gone = tables.remove(&key);
            }
        }
        if !inherited {
            change.fleets = Concerned::of(former.as_deref(), Some(&object));
        }
        let object = tables.insert(object, inherited);
        if let Some(former) = former {
            change.released = tables.released(&former);
            if let Ok(spec) = &former.spec
                && former.credentials() != object.credentials()
            {
                change.former = Some((Identities::name(&former).into_owned(), spec.instance_id.clone()));
            }
        }
        rivals.extend(tables.rivals(&object));
        rivals.sort_unstable();
        rivals.dedup();
        if !rivals.is_empty() || !echo {
            change.wake.push(key);
            change.wake.extend(rivals);
        }
        // The name may have passed to an object of another instance: the old one has heirs.
        if let Some(gone) = &change.gone
            && let Some(heirs) = tables.by_instance.get(gone.instance_id.as_str())
        {
            change
                .wake
                .extend(heirs.iter().filter(|heir| !change.wake.contains(heir)).cloned().collect::<Vec<_>>());
        }
        change
    }

    /// Another process acted for all objects until now.
    pub fn inherit(&self) {
        for entry in self.tables().entries.values_mut() {
            *entry.memory = Memory { inherited: true, ..Memory::default() };
        }
    }

    /// An object was deleted.
    pub fn delete(&self, key: &Key, uid: &str) -> Change {
        let mut tables = self.tables();
        if tables.entries.get(key).is_none_or(|entry| &*entry.object.uid != uid) {
            return Change::default();
        }
        let heirs = tables.entries.get(key).map(|entry| Arc::clone(&entry.object));
        let wake = heirs.as_ref().map(|object| tables.rivals(object)).unwrap_or_default();
        let gone = tables.remove(key);
        let fleets = Concerned::of(heirs.as_deref(), None);
        let released = heirs.and_then(|object| tables.released(&object));
        Change { wake, gone, released, former: None, fleets }
    }

    /// Keys in that namespace (all for `None`): what a relist must find again or delete.
    pub fn keys(&self, namespace: Option<&str>) -> Vec<(Key, Arc<str>)> {
        let tables = self.tables();
        let entries = tables.entries.iter();
        entries
            .filter(|(key, _)| namespace.is_none_or(|namespace| *key.namespace == *namespace))
            .map(|(key, entry)| (key.clone(), Arc::clone(&entry.object.uid)))
            .collect()
    }

    /// The newest version of an object: the watch's, or what a write returned since.
    pub fn newest(&self, key: &Key) -> Option<Arc<Object>> {
        self.tables().entries.get(key).map(Entry::newest)
    }

    /// The newest versions of all objects.
    pub fn all(&self) -> Vec<Arc<Object>> {
        self.tables().entries.values().map(Entry::newest).collect()
    }

    /// Lets `change` at what is remembered of an object, if it is still the same one.
    pub fn remember<T>(&self, object: &Object, change: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        let mut tables = self.tables();
        let entry = tables.entries.get_mut(&object.key).filter(|entry| entry.object.uid == object.uid)?;
        Some(change(&mut entry.memory))
    }

    /// The objects that say that they belong to the fleet with that uid.
    pub fn members(&self, fleet: &str) -> Vec<Arc<Object>> {
        let tables = self.tables();
        let keys = tables.by_fleet.get(fleet).into_iter().flatten();
        keys.filter_map(|key| tables.entries.get(key)).map(Entry::newest).collect()
    }

    /// Whether an object of that kind, created now, would find its instance taken. `bond` tells what is known of two
    /// identities.
    pub fn is_taken(&self, id: &str, object: &Object, bond: impl Fn(&Object, &Object) -> Bond) -> bool {
        let tables = self.tables();
        let Some(keys) = tables.by_instance.get(id) else { return false };
        let own = claim(object);
        keys.iter()
            .filter_map(|key| tables.entries.get(key))
            .any(|other| other.claim().keeps_out(&own, bond(&other.newest(), object)))
    }

    /// The objects that name a Secret.
    pub fn readers(&self, secret: &Key) -> Vec<Key> {
        self.tables().by_secret.get(secret).cloned().unwrap_or_default()
    }

    /// The objects that call with the credentials in a Secret.
    pub fn borrowers(&self, secret: &Key) -> Vec<Key> {
        self.tables().by_credentials.get(secret).cloned().unwrap_or_default()
    }

    /// Whether any object calls with the credentials in a Secret.
    pub fn is_borrowed(&self, secret: &Key) -> bool {
        self.tables().by_credentials.contains_key(secret)
    }

    /// Who keeps this object from its instance.
    pub fn keeper(&self, object: &Object, bond: impl Fn(&Object, &Object) -> Bond) -> Option<Arc<Object>> {
        let tables = self.tables();
        let claimants = tables.claimants(object).iter();
        let key = tables.strongest(claimants, object, |other| bond(other, object))?;
        tables.entries.get(key).map(Entry::newest)
    }

    /// Whether an object of another identity was accepted at the same instance when this one could not act: it can act
    /// and does not stand back for this one, or it does so now and was accepted later than this one. Either may look first
    /// when this one comes back.
    pub fn displaced(&self, object: &Object, bond: impl Fn(&Object, &Object) -> Bond) -> bool {
        let tables = self.tables();
        let applied = object.status.applied.as_ref().map(|applied| &applied.time);
        let others = tables.claimants(object).iter().filter(|key| **key != object.key);
        let mut others = others.filter_map(|key| tables.entries.get(key));
        others.any(|entry| {
            let (claim, other) = (entry.claim(), entry.newest());
            let stands_back = other.status.reason(ConditionType::Stalled) == Some(Reason::Conflict);
            let later = applied.is_some() && other.status.last_rotation_time.as_ref() > applied;
            claim.accepted
                && !claim.idle
                && (!stands_back || later)
                && bond(&other, object) == Bond::OtherIdentity
        })
    }

    /// Whether another object acts at the same instance under the same identity.
    pub fn has_peer(&self, object: &Object) -> bool {
        let tables = self.tables();
        let others = tables.claimants(object).iter().filter(|key| **key != object.key);
        let mut others = others.filter_map(|key| tables.entries.get(key));
        others.any(|entry| entry.object.credentials() == object.credentials())
    }

    /// The objects that name an instance.
    pub fn claimants(&self, instance_id: &str) -> Vec<Key> {
        self.tables().by_instance.get(instance_id).cloned().unwrap_or_default()
    }

    /// Others whose fate hangs on this object: they name the same instance, or generate into the same key.
    pub fn rivals(&self, object: &Object) -> Vec<Key> {
        self.tables().rivals(object)
    }

    /// Who owns the instance that this object names, and the key that it generates into. `bond` tells what is known of
    /// the identities of two objects.
    pub fn owner(&self, object: &Object, bond: impl Fn(&Object, &Object) -> Bond) -> Owner {
        let tables = self.tables();
        let bond = |other: &Object| bond(other, object);
        if let Some(key) = tables.strongest(tables.claimants(object).iter(), object, bond) {
            let near = key.namespace == object.key.namespace;
            return Owner::Other(near.then(|| key.name.to_string()));
        }
        match tables.strongest(tables.generators(object), object, |_| Bond::SameIdentity) {
            Some(key) => Owner::OtherOfSecret(key.name.to_string()),
            None => Owner::This,
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// What decisions are told of it.
    pub fn history(&self) -> History {
        History {
            applied: self.applied.clone(),
            examined: self.examined.clone(),
            untouched: self.untouched,
            unsettled: Vec::new(),
        }
    }
}

impl Entry {
    fn newest(&self) -> Arc<Object> {
        let written = self.memory.written.as_ref();
        Arc::clone(written.filter(|written| written.is_at_least(&self.object)).unwrap_or(&self.object))
    }
}

impl Entry {
    /// What the object's claim rests on, be it in the status or still to be written.
    fn claim(&self) -> Claim {
        let unrecorded = self.memory.unrecorded.as_deref();
        let accepted = unrecorded.is_some_and(|(_, attempt)| matches!(attempt.reply, Reply::Accepted { .. }));
        let claim = claim(&self.newest());
        Claim { accepted: claim.accepted || accepted, ..claim }
    }
}

impl Tables {
    /// The objects that name the same instance, this one among them.
    fn claimants(&self, object: &Object) -> &[Key] {
        let instance = object.spec.as_ref().ok().map(|spec| spec.instance_id.as_str());
        instance.and_then(|instance| self.by_instance.get(instance)).map(Vec::as_slice).unwrap_or_default()
    }

    fn rivals(&self, object: &Object) -> Vec<Key> {
        let claimants = self.claimants(object);
        let rivals = claimants.iter().chain(self.generators(object)).filter(|key| **key != object.key);
        rivals.collect::<HashSet<_>>().into_iter().cloned().collect()
    }

    /// The objects that generate into the same key of the same Secret as this one does.
    fn generators<'a>(&'a self, object: &Object) -> impl Iterator<Item = &'a Key> + use<'a> {
        let spec = object.spec.as_ref().ok().filter(|spec| spec.rotation.is_some());
        let wanted = spec.map(|spec| spec.secret_ref.clone());
        let readers =
            object.secret().filter(|_| wanted.is_some()).and_then(|secret| self.by_secret.get(&secret));
        let readers = readers.map(Vec::as_slice).unwrap_or_default().iter();
        readers.filter(move |key| {
            let other = self.entries.get(*key).and_then(|entry| entry.object.spec.as_ref().ok());
            other.is_some_and(|spec| spec.rotation.is_some() && Some(&spec.secret_ref) == wanted.as_ref())
        })
    }

    /// The one with the strongest claim of those that keep this object out.
    fn strongest<'a>(
        &self,
        keys: impl Iterator<Item = &'a Key>,
        object: &Object,
        bond: impl Fn(&Object) -> Bond,
    ) -> Option<&'a Key> {
        let mut keys = keys.filter(|key| **key != object.key).peekable();
        keys.peek()?;
        let own = self.entries.get(&object.key)?.claim();
        let claims = keys.filter_map(|key| {
            let other = self.entries.get(key)?;
            let rival = other.claim();
            rival.keeps_out(&own, bond(&other.newest())).then_some((key, rival))
        });
        claims.reduce(|best, next| if next.1.beats(&best.1) { next } else { best }).map(|(key, _)| key)
    }

    fn insert(&mut self, object: Object, inherited: bool) -> Arc<Object> {
        let key = object.key.clone();
        let memory = match self.entries.remove(&key) {
            Some(Entry { object: old, memory }) => {
                self.unindex(&old);
                memory
            }
            None => Box::new(Memory { inherited, untouched: !inherited, ..Memory::default() }),
        };
        if let Ok(spec) = &object.spec {
            index(&mut self.by_instance, spec.instance_id.as_str().into(), key.clone());
        }
        if let Some(secret) = object.secret() {
            index(&mut self.by_secret, secret, key.clone());
        }
        if let Some(secret) = object.credentials() {
            index(&mut self.by_credentials, secret, key.clone());
        }
        if let Some(member) = &object.membership {
            self.by_fleet.entry(Arc::clone(&member.uid)).or_default().insert(key.clone());
        }
        let object = Arc::new(object);
        self.entries.insert(key, Entry { object: Arc::clone(&object), memory });
        object
    }

    fn unindex(&mut self, object: &Object) {
        if let Some(secret) = object.secret() {
            forget(&mut self.by_secret, &secret, &object.key);
        }
        if let Some(secret) = object.credentials() {
            forget(&mut self.by_credentials, &secret, &object.key);
        }
        if let Some(member) = &object.membership
            && let Some(keys) = self.by_fleet.get_mut(&member.uid)
        {
            keys.remove(&object.key);
            if keys.is_empty() {
                self.by_fleet.remove(&member.uid);
            }
        }
        if let Ok(spec) = &object.spec {
            forget(&mut self.by_instance, spec.instance_id.as_str(), &object.key);
        }
    }

    /// The Secret with the credentials that this object named, where nobody names it now.
    fn released(&self, former: &Object) -> Option<Key> {
        former.credentials().filter(|secret| !self.by_credentials.contains_key(secret))
    }

    fn remove(&mut self, key: &Key) -> Option<Gone> {
        let entry = self.entries.remove(key)?;
        self.unindex(&entry.object);
        let newest = entry.newest();
        let spec = newest.spec.as_ref().ok()?;
        Some(Gone {
            unsettled_until: newest
                .status
                .retry
                .as_ref()
                .and_then(|retry| Some(retry.unsettled_until.as_ref()?.0)),
            unclaimed: !self.by_instance.contains_key(spec.instance_id.as_str()),
            instance_id: spec.instance_id.clone(),
            identity: Identities::name(&newest).into_owned(),
        })
    }
}

/// Almost always the only one: a vector's own first growth would take room for four.
fn index<K: std::hash::Hash + Eq>(table: &mut HashMap<K, Vec<Key>>, at: K, key: Key) {
    table.entry(at).or_insert_with(|| Vec::with_capacity(1)).push(key);
}

fn forget<K, Q>(table: &mut HashMap<K, Vec<Key>>, at: &Q, key: &Key)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(keys) = table.get_mut(at) {
        keys.retain(|other| other != key);
        if keys.is_empty() {
            table.remove(at);
        }
    }
}

fn claim(object: &Object) -> Claim {
    let refused = match object.status.reason(ConditionType::Stalled) {
        Some(
            Reason::Denied
            | Reason::InstanceNotFound
            | Reason::InvalidCredentials
            | Reason::CredentialsNotFound
            | Reason::AmbientCredentialsDenied
            | Reason::InvalidRegion,
        ) => true,
        // To stand back for another makes nobody able: else the two would stand back for each other.
        Some(Reason::Conflict) => stood_back_refused(&object.status),
        _ => false,
    };
    let idle = refused || object.spec.as_ref().is_ok_and(|spec| spec.suspend);
    // What was accepted under an identity that the object does not or may not use any more gives it no right.
    let now = object.spec.as_ref().ok().and_then(|spec| spec.credentials_ref.as_ref());
    let disowned = object.status.reason(ConditionType::Stalled) == Some(Reason::AmbientCredentialsDenied)
        || object.status.accepted_as.as_deref() != now.map(|secret| secret.name.as_str());
    Claim {
        accepted: object.status.request_id.is_some() && !disowned,
        idle,
        created: object.created,
        uid: object.uid.to_string(),
    }
}

/// Whether the last call before a conflict was refused in a way that left the instance to others.
fn stood_back_refused(status: &VncPasswordStatus) -> bool {
    let code = status.retry.as_ref().and_then(|retry| retry.code.as_deref());
    let class = code.map(|code| outcome::classify_code(code, 0));
    matches!(class, Some(Class::Denied | Class::NotFound | Class::Credentials))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::{
        controller::object::Incoming,
        rotation::{
            Password,
            facts::{FingerprintKey, Purpose, SecretVersion},
        },
    };

    fn object(name: &str, second: i64, credentials: &str) -> Object {
        let created = Timestamp::from_second(second).unwrap();
        let incoming: Incoming = serde_json::from_value(json!({
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

    fn accepted() -> Attempt {
        let password = Password::parse(b"Abc123").unwrap();
        Attempt {
            purpose: Purpose::Deliver,
            version: SecretVersion { uid: "u".into(), resource_version: "1".into() },
            value: FingerprintKey::new(&[0; 64]).fingerprint(&password),
            rotation: None,
            all_classes: true,
            tries: 1,
            at: Timestamp::UNIX_EPOCH,
            reply: Reply::Accepted { request_id: "R".to_owned() },
        }
    }

    #[test]
    fn what_was_accepted_and_could_not_be_written_yet_keeps_strangers_out() {
        let registry = Registry::default();
        let (one, other) = (object("one", 2, "a"), object("other", 1, "b"));
        registry.apply(one.clone(), false);
        registry.apply(other.clone(), false);
        let owner = || registry.owner(&other, |_, _| Bond::OtherIdentity);
        assert_eq!(owner(), Owner::This, "nobody has shown a right yet");
        registry.remember(&one, |memory| memory.unrecorded = Some(Box::new((1, accepted()))));
        assert_eq!(owner(), Owner::Other(Some("one".to_owned())));
        assert_eq!(registry.owner(&one, |_, _| Bond::OtherIdentity), Owner::This);
        registry.remember(&one, |memory| memory.unrecorded = None);
        assert_eq!(owner(), Owner::This);
    }

    #[test]
    fn what_was_accepted_under_another_identity_keeps_no_stranger_out() {
        let table = [
            ("the same Secret", Some("a"), Some("a"), true),
            ("the operator's own still", None, None, true),
            ("another Secret", Some("a"), Some("b"), false),
            ("the operator's own before", Some("a"), None, false),
            ("the operator's own now", None, Some("a"), false),
        ];
        for (name, now, accepted_as, keeps_out) in table {
            let registry = Registry::default();
            let (mut one, other) = (object("one", 2, "a"), object("other", 1, "x"));
            if now.is_none() {
                Arc::make_mut(one.spec.as_mut().unwrap()).credentials_ref = None;
            }
            registry.apply(with_status(one, json!({"requestId": "R", "acceptedAs": accepted_as})), false);
            registry.apply(other.clone(), false);
            let owner = registry.owner(&other, |_, _| Bond::OtherIdentity);
            assert_eq!(owner != Owner::This, keeps_out, "{name}");
        }
    }

    #[test]
    fn who_was_accepted_meanwhile_has_displaced_the_others() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let conflict = json!([{"type": "Stalled", "status": "True", "reason": "Conflict", "message": "",
            "lastTransitionTime": at(0)}]);
        let accepted = json!({"requestId": "R", "acceptedAs": "b", "lastRotationTime": at(20)});
        let stands_back = |last| {
            json!({"requestId": "R", "acceptedAs": "b", "lastRotationTime": at(last),
            "conditions": conflict})
        };
        let (later, earlier, at_once) = (stands_back(20), stands_back(5), stands_back(10));
        let table = [
            ("accepted", &accepted, Bond::OtherIdentity, false, true),
            ("never accepted", &json!({}), Bond::OtherIdentity, false, false),
            ("it was, then stood back", &later, Bond::OtherIdentity, false, true),
            ("it has stood back since", &earlier, Bond::OtherIdentity, false, false),
            ("in the same second", &at_once, Bond::OtherIdentity, false, false),
            ("suspended", &accepted, Bond::OtherIdentity, true, false),
            ("the same identity waits its turn", &accepted, Bond::SameIdentity, false, false),
            ("another account's instance", &accepted, Bond::OtherAccount, false, false),
        ];
        for (name, status, bond, suspend, expected) in table {
            let registry = Registry::default();
            let (one, mut other) = (object("one", 1, "a"), object("other", 2, "b"));
            let applied = json!({"secretUid": "u", "secretResourceVersion": "1", "time": at(10)});
            let one = with_status(one, json!({"requestId": "R", "acceptedAs": "a", "applied": applied}));
            Arc::make_mut(other.spec.as_mut().unwrap()).suspend = suspend;
            registry.apply(one.clone(), false);
            registry.apply(with_status(other, status.clone()), false);
            assert_eq!(registry.displaced(&one, |_, _| bond), expected, "{name}");
        }
    }

    #[test]
    fn a_secret_with_credentials_is_released_by_the_last_who_names_it() {
        let registry = Registry::default();
        let (one, other) = (object("one", 1, "keys"), object("other", 2, "keys"));
        let keys = one.credentials().unwrap();
        registry.apply(one.clone(), false);
        registry.apply(other.clone(), false);
        assert_eq!(registry.borrowers(&keys).len(), 2);
        assert_eq!(registry.delete(&one.key, &one.uid).released, None);
        assert_eq!(registry.apply(object("other", 2, "new"), false).released, Some(keys.clone()));
        assert!(!registry.is_borrowed(&keys));
    }
}
