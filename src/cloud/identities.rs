//! The identity of each object: the operator's own if allowed, else the keys in a Secret.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use zeroize::Zeroizing;

use crate::{
    cloud::instance_locks::Caller,
    runtime::tables::shrink,
    settings::Ambient,
    store::{
        object::{Key, Object},
        secrets::{self, Body, SecretError},
    },
};
use vncpassword_alicloud::{
    AccountStatus, Clock, Identity, Sts,
    credentials::{AssumedRole, Cache, RoleArn, Secret, SessionName, StaticKeys, external_id},
    sts::AssumeRole,
};
use vncpassword_core::rotation::{
    allowance::Allowance,
    facts::{Access, SecretVersion},
    ownership::Relation,
};

/// The keys of a Secret that `spec.credentialsRef` names.
const ACCESS_KEY_ID: &str = "access-key-id";
const ACCESS_KEY_SECRET: &str = "access-key-secret";
const SECURITY_TOKEN: &str = "security-token";
const ROLE_ARN: &str = "role-arn";

/// All identities that objects act under.
pub(crate) struct Identities {
    operator: Arc<Identity>,
    ambient: Ambient,
    sts: Sts,
    clock: Clock,
    /// The uid of namespace `kube-system`, where the operator may read it.
    cluster: Option<Arc<str>>,
    known: Mutex<HashMap<Key, Known>>,
    /// Allowance for queries of the account of each identity, by name. Each change of the keys needs a new
    /// query.
    queries: Mutex<HashMap<Box<str>, Allowance>>,
}

/// The state of a Secret with credentials.
#[derive(Default)]
struct Known {
    /// What was read, and in which version; without a version there was none.
    read: Option<(Option<SecretVersion>, Held)>,
    /// When the Secret was last seen to change.
    changed: Option<Timestamp>,
}

/// The usable content of a Secret.
enum Held {
    Keys(Keys, Arc<Identity>),
    Nothing(Access),
}

/// The raw values of one Secret.
#[derive(Clone)]
struct Keys {
    access_key_id: Option<Zeroizing<String>>,
    access_key_secret: Option<Zeroizing<String>>,
    security_token: Option<Zeroizing<String>>,
    role_arn: Option<Zeroizing<String>>,
}

impl Identities {
    pub fn new(
        operator: Arc<Identity>,
        ambient: Ambient,
        sts: Sts,
        clock: Clock,
        cluster: Option<Arc<str>>,
    ) -> Self {
        Self { operator, ambient, sts, clock, cluster, known: Mutex::default(), queries: Mutex::default() }
    }

    /// All identities that are known: the operator's own first.
    pub fn all(&self) -> Vec<Arc<Identity>> {
        let known = self.known();
        let held = known.values().filter_map(|known| match &known.read {
            Some((_, Held::Keys(_, identity))) => Some(Arc::clone(identity)),
            _ => None,
        });
        std::iter::once(Arc::clone(&self.operator)).chain(held).collect()
    }

    /// Whether the object has an identity, as far as known without a request. `version`: the version of its
    /// Secret in the watch.
    pub fn access(
        &self,
        object: &Object,
        version: Option<&SecretVersion>,
    ) -> (Access, Option<Arc<Identity>>) {
        let Some(key) = object.credentials() else {
            return if self.ambient.includes(&object.key.namespace) {
                (Access::Granted, Some(Arc::clone(&self.operator)))
            } else {
                (Access::AmbientDenied, None)
            };
        };
        match self.known().get(&key).and_then(|known| known.read.as_ref()) {
            Some((read, held)) if read.as_ref() == version => held.access(),
            _ => (Access::Unread, None),
        }
    }

    /// Reads the Secret with an object's credentials.
    pub async fn read(
        &self,
        client: &Client,
        key: &Key,
    ) -> Result<(Access, Option<Arc<Identity>>), SecretError> {
        let (version, held) = match secrets::fetch(client, key).await? {
            Body::Missing => (None, Held::Nothing(Access::Missing)),
            // Tried again with every change of the Secret, and whenever the object is looked at.
            Body::Forbidden => return Ok((Access::Forbidden, None)),
            Body::Found(body) => {
                let (version, keys) =
                    parse(&body).ok_or_else(|| SecretError::Unreadable { secret: key.clone() })?;
                (Some(version), self.held(key, keys))
            }
        };
        let access = held.access();
        self.known().entry(key.clone()).or_default().read = Some((version, held));
        Ok(access)
    }

    /// Records that a Secret with credentials has changed.
    pub fn changed(&self, key: &Key) {
        self.known().entry(key.clone()).or_default().changed = Some(self.clock.local());
    }

    /// The wall clock was set back by so much, a negative time.
    pub fn set_back(&self, by: SignedDuration) {
        self.queries().values().for_each(|queries| queries.set_back(by));
        for changed in self.known().values_mut().filter_map(|known| known.changed.as_mut()) {
            *changed = changed.saturating_add(by).unwrap_or(*changed);
        }
    }

    /// When the Secret with the object's credentials was last seen to change.
    pub fn changed_at(&self, object: &Object) -> Option<Timestamp> {
        self.known().get(&object.credentials()?).and_then(|known| known.changed)
    }

    /// Drops a Secret that no object names any more.
    pub fn forget(&self, key: &Key) {
        self.known().remove(key);
    }

    /// The relation of the identities of two objects. An object without an identity is in no account.
    pub fn relation(&self, one: &Object, other: &Object) -> Relation {
        match (one.credentials(), other.credentials()) {
            (None, None) if self.has_none(one) || self.has_none(other) => Relation::OtherAccount,
            (one, other) if one == other => Relation::SameIdentity,
            _ if self.apart(one, other) => Relation::OtherAccount,
            _ => Relation::OtherIdentity,
        }
    }

    /// Whether the object has no identity, and may not use the operator's own.
    pub fn has_none(&self, object: &Object) -> bool {
        object.credentials().is_none() && !self.ambient.includes(&object.key.namespace)
    }

    /// Whether two objects are known to act in different accounts.
    fn apart(&self, one: &Object, other: &Object) -> bool {
        self.is_apart(&self.caller(&one.identity_name()), &other.identity_name())
    }

    /// Whether a caller is known to be of another account than the identity of that name.
    pub fn is_apart(&self, caller: &Caller, name: &str) -> bool {
        let account = || caller.account.clone().or_else(|| self.account(&caller.identity));
        *caller.identity != *name
            && account().zip(self.account(name)).is_some_and(|(one, other)| one != other)
    }

    /// The access key id or the role in a Secret with credentials, as it was read last.
    pub fn principal_in(&self, secret: &Key) -> Option<Arc<str>> {
        match &self.known().get(secret)?.read {
            Some((_, Held::Keys(_, identity))) => Some(Arc::clone(identity.principal())),
            _ => None,
        }
    }

    /// The identity of an object as a caller.
    pub fn caller_of(&self, object: &Object) -> Caller {
        self.caller(&object.identity_name())
    }

    /// The identity of that name as a caller.
    pub fn caller(&self, name: &str) -> Caller {
        Caller { identity: name.into(), account: self.account(name) }
    }

    /// The account of the identity of that name, where it is known.
    fn account(&self, name: &str) -> Option<Box<str>> {
        let account = |identity: &Identity| identity.account().map(Into::into);
        match name.split_once('/') {
            None => account(&self.operator),
            Some((namespace, name)) => match &self.known().get(&Key::new(namespace, name))?.read {
                Some((_, Held::Keys(_, identity))) => account(identity),
                _ => None,
            },
        }
    }

    /// Learns the account of an identity if it is not known. Queries it once, and after a failure only with a
    /// pause.
    pub async fn learn_account(&self, identity: &Identity) -> AccountStatus {
        let may_call = || {
            let (mut queries, now) = (self.queries(), self.clock.local());
            let queries = queries.entry(identity.name().into()).or_default();
            let opens = queries.opens(now).is_none();
            if opens {
                queries.spend(now);
            }
            opens
        };
        identity.resolve_account(&self.sts, may_call).await
    }

    /// Drops allowances that are full again. Call it about every minute.
    pub fn prune(&self) {
        let now = self.clock.local();
        let mut queries = self.queries();
        queries.retain(|_, queries| !queries.is_full(now));
        shrink(&mut queries);
    }

    fn queries(&self) -> MutexGuard<'_, HashMap<Box<str>, Allowance>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content that the keys make. Unchanged keys keep their identity and what is known of it.
    fn held(&self, key: &Key, keys: Keys) -> Held {
        if let Some(Known { read: Some((_, Held::Keys(former, identity))), .. }) = self.known().get(key)
            && former.same_as(&keys)
        {
            return Held::Keys(keys, Arc::clone(identity));
        }
        match self.source(key, &keys) {
            Ok(source) => {
                let principal = keys.role_arn.as_ref().or(keys.access_key_id.as_ref());
                let principal = principal.map_or("", |principal| principal.as_str());
                let identity = Identity::new(key.to_string(), source).with_principal(principal);
                Held::Keys(keys, Arc::new(identity))
            }
            Err(access) => Held::Nothing(access),
        }
    }

    /// The source of credentials that the keys make.
    fn source(&self, key: &Key, keys: &Keys) -> Result<Arc<Cache>, Access> {
        let unusable = |problem: String| Access::Unusable(problem.into());
        let own = match (&keys.access_key_id, &keys.access_key_secret) {
            (Some(id), Some(secret)) => {
                let token = keys.security_token.as_ref().map(|token| Secret::from(token.as_str()));
                let keys = StaticKeys::new(id.to_string(), Secret::from(secret.as_str()), token);
                let keys = keys.map_err(|problem| unusable(problem.to_string()))?;
                Some(Arc::new(Cache::new(Arc::new(keys), self.clock.clone())))
            }
            (None, None) if keys.security_token.is_none() && keys.role_arn.is_some() => None,
            (None, None) if keys.security_token.is_none() => {
                let problem =
                    format!("it has no {ACCESS_KEY_ID} and no {ACCESS_KEY_SECRET}, and no {ROLE_ARN} either");
                return Err(unusable(problem));
            }
            (None, _) => return Err(unusable(format!("it has no {ACCESS_KEY_ID}"))),
            (_, None) => return Err(unusable(format!("it has no {ACCESS_KEY_SECRET}"))),
        };
        let (source, role_arn) = match (own, &keys.role_arn) {
            (Some(own), None) => return Ok(own),
            (Some(own), Some(role_arn)) => (own, role_arn),
            (None, Some(role_arn)) if self.ambient.includes(&key.namespace) => {
                (Arc::clone(self.operator.credentials()), role_arn)
            }
            (None, _) => return Err(Access::AmbientDenied),
        };
        let Some(cluster) = &self.cluster else {
            let problem = format!(
                "it has a {ROLE_ARN}, and to assume a role the operator must know its cluster: grant it get on \
                 namespace kube-system and restart it"
            );
            return Err(unusable(problem));
        };
        let role = AssumeRole {
            role_arn: RoleArn::parse(role_arn)
                .map_err(|problem| unusable(format!("its {ROLE_ARN} {problem}")))?,
            session_name: SessionName::of(Some(cluster), &key.namespace),
            external_id: Some(external_id(cluster, &key.namespace)),
            policy: None,
            duration: Sts::DEFAULT_DURATION,
        };
        let role = AssumedRole::new(self.sts.clone(), source, role);
        Ok(Arc::new(Cache::new(Arc::new(role), self.clock.clone())))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn access(&self) -> (Access, Option<Arc<Identity>>) {
        match self {
            Self::Keys(_, identity) => (Access::Granted, Some(Arc::clone(identity))),
            Self::Nothing(access) => (access.clone(), None),
        }
    }
}

impl Keys {
    fn same_as(&self, other: &Self) -> bool {
        self.access_key_id == other.access_key_id
            && self.access_key_secret == other.access_key_secret
            && self.security_token == other.security_token
            && self.role_arn == other.role_arn
    }
}

/// `None`: this is no Secret.
fn parse(body: &[u8]) -> Option<(SecretVersion, Keys)> {
    let (version, data) = secrets::data(body)?;
    let value = |name: &str| -> Option<Option<Zeroizing<String>>> {
        let Some(bytes) = secrets::value(&data, name)? else { return Some(None) };
        // Text that is not UTF-8 is no valid key, and is reported as one that no header can carry.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(Some(Zeroizing::new(text)))
    };
    let keys = Keys {
        access_key_id: value(ACCESS_KEY_ID)?,
        access_key_secret: value(ACCESS_KEY_SECRET)?,
        security_token: value(SECURITY_TOKEN)?,
        role_arn: value(ROLE_ARN)?,
    };
    Some((version, keys))
}
