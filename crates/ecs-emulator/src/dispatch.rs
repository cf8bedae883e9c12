//! Handles calls: authentication, faults, limits, the operation, the journal and the reply. A function of the
//! state and the time: changes that are due happen first.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Service};
use super::call::{Call, Caller};
use super::clock::later;
use super::fault::{Apply, Fault, Reply};
use super::journal::Entry;
use super::limit::throttled;
use super::local;
use super::operations;
use super::role::split_arn;
use super::signature::{self, Proof};
use super::state::{Effect, State};
use super::wire::{ApiError, Format, Rendered, Request};

/// How the server answers a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// A reply.
    Reply(Rendered),
    /// A TCP reset.
    Reset,
    /// None for this time or until the client disconnects, then a TCP reset.
    Hang(Option<Duration>),
}

impl State {
    /// Applies all changes that are due by `now`, in order.
    pub fn settle(&mut self, now: Timestamp) {
        while let Some((at, effect)) = self.next_due(now) {
            match effect {
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

    /// Handles a request and records it in the journal. The server sends the answer after the returned real
    /// time.
    pub fn handle(&mut self, request: &Request, now: Timestamp) -> (Answer, Duration) {
        self.settle(now);
        let mut entry = self.entry(request, now);
        let mut fault = Fault::default();
        let outcome = self.admit(request, now).and_then(|call| {
            entry.account = call.action.signed().then(|| call.caller.account.clone());
            if self.hangs(call.action) {
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

    /// The journal entry of a request before it is handled.
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
            metadata_token: local::has_token(request),
            issued_access_key_id: None,
            applied_at: None,
            fault: None,
        };
        let proof = Proof::read(request, service(&entry)).ok();
        entry.access_key_id = proof.map(|proof| proof.access_key_id().to_owned());
        entry
    }

    /// The action and the role ARN of a request.
    fn subject(&self, request: &Request) -> (String, Option<String>) {
        if !local::is_local(&request.path) {
            return (request.action().to_owned(), request.parameters.get("RoleArn").cloned());
        }
        local::route(request).map_or_else(
            |_| (String::new(), None),
            |(action, parameters)| (action.as_str().to_owned(), local::role_arn(self, action, &parameters)),
        )
    }

    fn admit(&mut self, request: &Request, now: Timestamp) -> Result<Call, ApiError> {
        let unsigned =
            |action, parameters| Call { action, parameters, denied: false, caller: Caller::default() };
        if local::is_local(&request.path) {
            return local::route(request).map(|(action, parameters)| unsigned(action, parameters));
        }
        let known =
            Action::named(request.action()).and_then(|action| Some((action, action.service().version()?)));
        let (action, version) = known.ok_or_else(|| {
            let message = format!("Specified api is not found: {}.", request.action());
            ApiError::new(404, "InvalidAction.NotFound", message)
        })?;
        // Also for an action of one API with the version of the other. The real code is not documented.
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

    /// Whether calls of this action hang, unless a fault matches.
    fn hangs(&self, action: Action) -> bool {
        let token_hangs = self.metadata.settings.as_ref().is_some_and(|settings| settings.token_hangs);
        action == Action::MetadataToken && token_hangs
    }

    /// Performs a call now, later or never.
    fn run(&mut self, call: Call, effect: Apply, entry: &mut Entry) -> Result<Value, ApiError> {
        match effect {
            Apply::Never => {}
            Apply::Late { after } => {
                self.schedule(later(entry.at, after), Effect::Arrive { seq: entry.seq, call });
            }
            Apply::Now => {
                let region = call.parameters.get("RegionId").map_or("", String::as_str);
                // An unsigned call counts for the account of its role.
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
}

/// The service that an entry's action belongs to.
fn service(entry: &Entry) -> Service {
    Action::named(&entry.action).map_or(Service::Ecs, Action::service)
}

fn answer(reply: Reply, outcome: &Result<Value, ApiError>, request: &Request, entry: &Entry) -> Answer {
    let (request_id, product) = (&entry.request_id, service(entry).product());
    let is_local = local::is_local(&request.path);
    let format = if reply == Reply::Xml { Format::Xml } else { request.format() };
    match reply {
        Reply::Reset => Answer::Reset,
        Reply::Hang { for_ms } => Answer::Hang(for_ms.map(Duration::from_millis)),
        Reply::Body { status, kind } => Answer::Reply(Rendered::garbage(status, kind)),
        Reply::Redirect { location } => Answer::Reply(Rendered::redirect(location)),
        Reply::Genuine | Reply::Xml | Reply::Error { .. } | Reply::Throttled { .. } => {
            Answer::Reply(match outcome {
                Ok(value) if is_local => Rendered::local(value),
                Err(error) if is_local && request.path.starts_with("/latest/") => Rendered::page(error),
                Err(error) if is_local => Rendered::code(error),
                Ok(fields) => Rendered::accepted(format, request.action(), request_id, fields.clone()),
                Err(error) => Rendered::refused(format, request.header("host"), product, request_id, error),
            })
        }
    }
}

#[cfg(test)]
mod tests;
