//! The emulated cloud as a state machine, pure given `now`. Whatever has fallen due by `now` happens first,
//! in the order in which it fell due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::access::{Access, AccessKey};
use super::action::{Action, Call, Caller, Service};
use super::clock::later;
use super::fault::{Apply, Fault, Faults, Reply};
use super::instance::{Instance, Machine, Status};
use super::issue::Issuer;
use super::journal::{Entry, Journal};
use super::limit::{Limits, throttled};
use super::metadata;
use super::operations;
use super::role::{Role, split_arn};
use super::signature::{self, Proof};
use super::wire::{ApiError, Format, Rendered, Request};

/// Regions known from the start.
const REGIONS: [&str; 8] = [
    "ap-southeast-1",
    "cn-beijing",
    "cn-hangzhou",
    "cn-hongkong",
    "cn-shanghai",
    "cn-shenzhen",
    "eu-central-1",
    "us-west-1",
];

/// How the server answers a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// With a reply.
    Reply(Rendered),
    /// With a TCP reset.
    Reset,
    /// Not at all, for that long or until the client leaves; then with a TCP reset.
    Hang(Option<Duration>),
}

/// Something that happens by itself once its time has come.
#[derive(Debug)]
enum Effect {
    /// A late call arrives; `seq` is its entry in the journal.
    Arrive { seq: u64, call: Call },
    /// An instance takes a step of its restart.
    Enter { id: String, generation: u64, status: Status },
}

/// Everything the emulator knows.
#[derive(Debug)]
pub(super) struct State {
    pub access: Access,
    pub machines: BTreeMap<String, Machine>,
    pub regions: BTreeSet<String>,
    pub faults: Faults,
    pub limits: Limits,
    pub journal: Journal,
    /// By ARN.
    pub roles: BTreeMap<String, Role>,
    pub issuer: Issuer,
    pub metadata: metadata::Service,
    /// How long `RebootInstance` takes, half of it stopping and half of it starting.
    pub reboot_time: Duration,
    /// Ordered by when it falls due, then by when it was set up.
    due: BTreeMap<(Timestamp, u64), Effect>,
    set_up: u64,
    pub rng: StdRng,
}

impl State {
    pub fn new(access_keys: Vec<AccessKey>, journal_limit: usize, seed: u64) -> Self {
        Self {
            access: Access::new(access_keys),
            machines: BTreeMap::new(),
            regions: REGIONS.map(str::to_owned).into(),
            faults: Faults::default(),
            limits: Limits::default(),
            journal: Journal::new(journal_limit),
            roles: BTreeMap::new(),
            issuer: Issuer::default(),
            metadata: metadata::Service::default(),
            reboot_time: Duration::from_secs(20),
            due: BTreeMap::new(),
            set_up: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Lets everything happen that is due by `now`.
    pub fn settle(&mut self, now: Timestamp) {
        while let Some(first) = self.due.first_entry() {
            let at = first.key().0;
            if at > now {
                return;
            }
            match first.remove() {
                Effect::Arrive { seq, call } => {
                    if operations::perform(self, &call, at).is_ok() && call.action.changes() {
                        self.journal.applied(seq, at);
                    }
                }
                Effect::Enter { id, generation, status } => {
                    let machine = self.machines.get_mut(&id);
                    if let Some(machine) = machine.filter(|machine| machine.generation == generation) {
                        machine.enter(status, at);
                    }
                }
            }
        }
    }

    /// Answers a request and notes it in the journal. The answer goes out after the duration, in real time.
    pub fn handle(&mut self, request: &Request, now: Timestamp) -> (Answer, Duration) {
        self.settle(now);
        let mut entry = self.entry(request, now);
        let mut fault = Fault::default();
        let outcome = self.admit(request, now).and_then(|call| {
            entry.account = call.action.signed().then(|| call.caller.account.clone());
            if self.leaves_hanging(call.action) {
                fault = Fault::hang();
            }
            if let Some((id, picked)) = self.faults.pick(call.action, &call.parameters, &mut self.rng) {
                entry.fault = Some(id);
                fault = picked;
            }
            self.run(call, fault.effect(), &mut entry)
        });
        let outcome = match &fault.reply {
            Reply::Error { status, code } => Err(ApiError::new(*status, code.clone(), "An injected fault.")),
            Reply::Throttled { retry_after_ms } => {
                Err(throttled(service(&entry), retry_after_ms.map(Duration::from_millis)))
            }
            _ => outcome,
        };
        if let Some(id) = fault.request_id {
            entry.request_id = id;
        }
        let answer = answer(fault.reply, &outcome, request, &entry);
        entry.code = outcome.err().map(|error| error.code.into_owned());
        entry.http_status = match &answer {
            Answer::Reply(reply) => Some(reply.status()),
            Answer::Reset | Answer::Hang(_) => None,
        };
        self.journal.push(entry);
        (answer, fault.delay)
    }

    /// Sets an instance up, or changes one that is there: its passwords stay, a restart under way ends.
    pub fn put_instance(&mut self, instance: Instance) {
        self.regions.insert(instance.region_id.clone());
        let machine = self.machines.entry(instance.id.clone()).or_default();
        machine.generation += 1;
        machine.instance = instance;
    }

    /// Has an instance enter a status, which ends a restart under way. False: there is none of that id.
    pub fn set_status(&mut self, id: &str, status: Status, now: Timestamp) -> bool {
        self.interfere(id, |machine| machine.enter(status, now))
    }

    /// Restarts an instance at once, as someone at the console would. False: there is none of that id.
    pub fn restart(&mut self, id: &str, now: Timestamp) -> bool {
        self.interfere(id, |machine| machine.start(now))
    }

    /// Begins a restart that takes its time.
    pub fn begin_reboot(&mut self, id: &str, now: Timestamp) {
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        machine.generation += 1;
        machine.enter(Status::Stopping, now);
        let generation = machine.generation;
        for (after, status) in [(self.reboot_time / 2, Status::Starting), (self.reboot_time, Status::Running)]
        {
            self.schedule(later(now, after), Effect::Enter { id: id.to_owned(), generation, status });
        }
    }

    fn interfere(&mut self, id: &str, act: impl FnOnce(&mut Machine)) -> bool {
        self.machines.get_mut(id).is_some_and(|machine| {
            machine.generation += 1;
            act(machine);
            true
        })
    }

    /// What the journal notes of a request before it is judged.
    fn entry(&mut self, request: &Request, now: Timestamp) -> Entry {
        let parameter = |name: &str| request.parameters.get(name).cloned();
        let (action, role_arn) = self.subject(request);
        let mut entry = Entry {
            seq: self.journal.last() + 1,
            at: now,
            action,
            instance_ids: request.instance_ids(),
            region_id: parameter("RegionId"),
            access_key_id: None,
            account: None,
            signed_at: signature::signed_at(request),
            request_id: self.request_id(),
            http_status: None,
            code: None,
            vnc_password: parameter("VncPassword"),
            force_stop: parameter("ForceStop").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            role_arn,
            role_session_name: parameter("RoleSessionName"),
            external_id: parameter("ExternalId"),
            duration_seconds: parameter("DurationSeconds"),
            metadata_token: metadata::brings_token(request),
            issued_access_key_id: None,
            applied_at: None,
            fault: None,
        };
        let proof = Proof::read(request, service(&entry)).ok();
        entry.access_key_id = proof.map(|proof| proof.access_key_id().to_owned());
        entry
    }

    /// The action and the role that a request names.
    fn subject(&self, request: &Request) -> (String, Option<String>) {
        if !metadata::is_local(&request.path) {
            return (request.action().to_owned(), request.parameters.get("RoleArn").cloned());
        }
        metadata::route(request).map_or_else(
            |_| (String::new(), None),
            |(action, parameters)| {
                (action.as_str().to_owned(), metadata::role_arn(self, action, &parameters))
            },
        )
    }

    fn admit(&mut self, request: &Request, now: Timestamp) -> Result<Call, ApiError> {
        let unsigned =
            |action, parameters| Call { action, parameters, denied: false, caller: Caller::default() };
        if metadata::is_local(&request.path) {
            return metadata::route(request).map(|(action, parameters)| unsigned(action, parameters));
        }
        let known =
            Action::named(request.action()).and_then(|action| Some((action, action.service().version()?)));
        let (action, version) = known.ok_or_else(|| {
            let message = format!("Specified api is not found: {}.", request.action());
            ApiError::new(404, "InvalidAction.NotFound", message)
        })?;
        // An action of one API with the version of the other as well; which code the real ones have is a guess.
        if request.version() != version {
            return Err(ApiError::new(400, "InvalidVersion", "Specified parameter Version is not valid."));
        }
        let parameters = request.parameters.clone();
        if !action.signed() {
            return Ok(unsigned(action, parameters));
        }
        let key = self.access.admit(request, action, now)?;
        Ok(Call { action, parameters, denied: key.denied.contains(&action), caller: Caller::new(key) })
    }

    /// Whether requests of this kind are never answered unless a fault says otherwise.
    fn leaves_hanging(&self, action: Action) -> bool {
        let hangs = self.metadata.settings.as_ref().is_some_and(|settings| settings.token_hangs);
        action == Action::MetadataToken && hangs
    }

    /// Lets a call take effect now, later or never.
    fn run(&mut self, call: Call, effect: Apply, entry: &mut Entry) -> Result<Value, ApiError> {
        match effect {
            Apply::Never => {}
            Apply::Late { after } => {
                self.schedule(later(entry.at, after), Effect::Arrive { seq: entry.seq, call });
            }
            Apply::Now => {
                let region = call.parameters.get("RegionId").map_or("", String::as_str);
                // An unsigned call counts for the account of the role it names.
                let role = entry.role_arn.as_deref().and_then(split_arn);
                let account = entry.account.as_deref().or(role.map(|(account, _)| account));
                self.limits.take(account.unwrap_or_default(), call.action, region, entry.at)?;
                let reply = operations::perform(self, &call, entry.at)?;
                entry.applied_at = call.action.changes().then_some(entry.at);
                let issued = [&reply["AccessKeyId"], &reply["Credentials"]["AccessKeyId"]];
                entry.issued_access_key_id = issued.into_iter().find_map(Value::as_str).map(str::to_owned);
                return Ok(reply);
            }
        }
        Ok(json!({}))
    }

    fn schedule(&mut self, at: Timestamp, effect: Effect) {
        self.set_up += 1;
        self.due.insert((at, self.set_up), effect);
    }

    /// An id in the form of the real ones: an upper-case UUID.
    fn request_id(&mut self) -> String {
        let hex = format!("{:032X}", self.rng.random::<u128>());
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// The service that an entry's action belongs to.
fn service(entry: &Entry) -> Service {
    Action::named(&entry.action).map_or(Service::Ecs, Action::service)
}

fn answer(reply: Reply, outcome: &Result<Value, ApiError>, request: &Request, entry: &Entry) -> Answer {
    let (request_id, product) = (&entry.request_id, service(entry).product());
    let local = metadata::is_local(&request.path);
    let format = if reply == Reply::Xml { Format::Xml } else { request.format() };
    match reply {
        Reply::Reset => Answer::Reset,
        Reply::Hang { for_ms } => Answer::Hang(for_ms.map(Duration::from_millis)),
        Reply::Body { status, kind } => Answer::Reply(Rendered::garbage(status, kind)),
        Reply::Redirect { location } => Answer::Reply(Rendered::redirect(location)),
        Reply::Genuine | Reply::Xml | Reply::Error { .. } | Reply::Throttled { .. } => {
            Answer::Reply(match outcome {
                Ok(value) if local => Rendered::local(value),
                Err(error) if local && request.path.starts_with("/latest/") => Rendered::page(error),
                Err(error) if local => Rendered::code(error),
                Ok(fields) => Rendered::accepted(format, request.action(), request_id, fields.clone()),
                Err(error) => Rendered::refused(format, request.header("host"), product, request_id, error),
            })
        }
    }
}

#[cfg(test)]
mod tests;
