//! The texts of conditions: what happened, to what, and what to do. Stable, without times and counters.

use jiff::Timestamp;

use super::{
    contents::Slot,
    facts::{Access, Observed},
    refusal::{Refusal, RefusedWrite},
    restart,
};
use crate::api::{Activation, ROTATE_AT, Reason, VncPasswordStatus, WRITABLE};

/// The message of a reason: what happened, to what, and what to do.
#[allow(clippy::too_many_lines, reason = "one text a reason")]
pub(super) fn message(reason: Reason, observed: &Observed, code: Option<&str>) -> String {
    let spec = &observed.spec;
    let instance = &spec.instance_id;
    let (secret, key) = (&spec.secret_ref.name, &spec.secret_ref.key);
    let region = observed.region.as_deref().unwrap_or("unknown");
    let code = code.unwrap_or("none");
    let credentials = credentials_secret(observed);
    match reason {
        Reason::Applied => {
            format!(
                "instance {instance} accepted the value of key {key} of Secret {secret}, and it is in effect"
            )
        }
        Reason::Settling if observed.generated() => format!(
            "a call for instance {instance} may still arrive; no other password is set until then, and if another \
             VncPassword made the call, the password is sent once more"
        ),
        Reason::Settling if observed.history.unsettled.iter().any(|unsettled| unsettled.by_other) => format!(
            "a call of another VncPassword may still replace the value of key {key} of Secret {secret} at instance \
             {instance}; the value is sent once more when that can no longer happen"
        ),
        Reason::Settling => format!(
            "the value of key {key} of Secret {secret} is in effect at instance {instance}; it is sent once more \
             when no late call of another value can arrive any more"
        ),
        Reason::LookupFailed => format!(
            "instance {instance} is looked up before its first password, but DescribeInstances does not answer in \
             region {region}; it is tried again"
        ),
        Reason::IncorrectInstanceStatus | Reason::InstanceNotReady => format!(
            "instance {instance} is in a state in which it takes no password; it is sent as soon as that changes"
        ),
        Reason::InstanceUnsupported => format!(
            "the ECS API has refused the password ten times, over at least an hour, although instance {instance} is Running \
             (code {code}); confidential instances and some GPU and bare metal instance types have no VNC: {}",
            if observed.in_fleet {
                "add the instance to spec.exclude of its fleet"
            } else {
                "delete this VncPassword"
            }
        ),
        Reason::Throttled => format!(
            "the cloud account's limit on calls in region {region} is used up; instance {instance} waits its turn"
        ),
        Reason::ChangedTooOften => format!(
            "this VncPassword, its status or a Secret that it names changes so often that instance {instance} gets the \
             newest value only every 30 seconds; find out what keeps changing them"
        ),
        Reason::OutcomeUnknown => format!(
            "no readable reply came for instance {instance}: the password may or may not be in effect; the same \
             one is sent again"
        ),
        Reason::Unreachable => format!(
            "the ECS API in region {region} cannot be reached, nothing was sent for instance {instance}; check \
             network policy, proxy, DNS, --endpoint-network and the region; it is tried again"
        ),
        Reason::SignatureRejected => format!(
            "the ECS API refused the signature of a call for instance {instance} (code {code}); it is signed \
             afresh; check the operator's clock if this stays"
        ),
        Reason::Generating => {
            format!("the first password of instance {instance} is drawn and written to Secret {secret}")
        }
        Reason::SecretNotFound => format!("Secret {secret} does not exist in this namespace; create it"),
        Reason::SecretKeyNotFound => {
            format!("Secret {secret} has no key {key}; add it, or name the right one in a new VncPassword")
        }
        Reason::SecretForbidden if observed.access == Access::Forbidden => format!(
            "the operator may not read Secret {} of spec.credentialsRef; grant it get on secrets in this namespace",
            credentials.unwrap_or_default()
        ),
        Reason::SecretForbidden if observed.generated() => format!(
            "the operator may not read or write Secret {secret}; grant it get, create and patch on secrets in this \
             namespace"
        ),
        Reason::SecretForbidden => {
            format!("the operator may not read Secret {secret}; grant it get on secrets in this namespace")
        }
        Reason::SecretNotWritable if observed.contents().is_some_and(|contents| contents.closed) => format!(
            "Secret {secret} is immutable or not of type Opaque, so no password can be generated into it; name another \
             Secret in a new VncPassword, or delete this one"
        ),
        Reason::SecretNotWritable => format!(
            "Secret {secret} was not made by the operator for instance {instance}; label it {WRITABLE}=true to let the \
             operator write to it, or name another Secret in a new VncPassword"
        ),
        Reason::CompetingWriters => format!(
            "another writer keeps changing key {key} of Secret {secret}, or the keys beside it, after the operator writes \
             them; the operator waits longer each time. Keep the other writer (such as an ExternalSecret) off this Secret, \
             or remove spec.rotation so that its value is applied"
        ),
        Reason::InvalidPassword => format!("{}; {RULE}", refused_value(observed, code)),
        Reason::InvalidRotateAt => format!(
            "annotation {ROTATE_AT} is no time, so nothing is rotated for it; write one as in RFC 3339, such as \
             2026-01-02T03:04:05Z"
        ),
        Reason::InstanceUnknown => format!(
            "DescribeInstances does not show instance {instance} in region {region}, so whether it takes a password at \
             once is not known and none is drawn; grant ecs:DescribeInstances on it to the operator's identity, and \
             check spec.instanceId and spec.regionId"
        ),
        Reason::InvalidRegion => {
            "no valid region is known: set spec.regionId to a region ID such as cn-hangzhou, \
                                  or start the operator with --region"
                .to_owned()
        }
        Reason::Conflict => "another VncPassword owns this instance; delete one of the two".to_owned(),
        Reason::InstanceNotFound => format!(
            "the ECS API does not know instance {instance} in region {region} (code {code}); check spec.instanceId \
             and spec.regionId"
        ),
        Reason::Denied => format!(
            "the ECS API denied the call for instance {instance} (code {code}); grant ecs:ModifyInstanceVncPasswd \
             on it to the operator's identity, or unlock the instance"
        ),
        Reason::AmbientCredentialsDenied => ambient_denied(observed),
        Reason::InvalidCredentials => match (&observed.access, credentials) {
            (Access::Unusable(problem), Some(name)) => {
                format!("Secret {name} of spec.credentialsRef cannot be used: {problem}")
            }
            (_, Some(name)) => format!(
                "the cloud did not accept the credentials in Secret {name} (code {code}); renew them in the Secret"
            ),
            (_, None) => format!(
                "the cloud did not accept the operator's credentials (code {code}); renew the access key or the token"
            ),
        },
        Reason::CredentialsNotFound if let Some(name) = credentials => {
            format!("Secret {name} of spec.credentialsRef does not exist in this namespace; create it")
        }
        Reason::CredentialsNotFound => "no credentials are configured: set ALIBABA_CLOUD_ACCESS_KEY_ID and \
                                        ALIBABA_CLOUD_ACCESS_KEY_SECRET for the operator"
            .to_owned(),
        Reason::Refused => format!(
            "the ECS API refused the call for instance {instance} (code {code}); look the code up in the API's \
             error center"
        ),
        Reason::Suspended => "spec.suspend is set: nothing is done until it is removed".to_owned(),
        // Written elsewhere, by others, or of a fleet alone.
        Reason::RebootRequired
        | Reason::InvalidObject
        | Reason::InvalidSchedule
        | Reason::QuotaExceeded
        | Reason::PolicyDenied
        | Reason::WebhookDenied
        | Reason::WebhookFailed
        | Reason::SecretTooLarge
        | Reason::NamespaceTerminating
        | Reason::SecretWriteFailed
        | Reason::SecretWriteRefused
        | Reason::Unrecognized
        | Reason::NothingSelected
        | Reason::RollingOut
        | Reason::WaitingForWindow
        | Reason::WaitingForInstances
        | Reason::RolloutHalted
        | Reason::MembersFailed
        | Reason::DiscoveryDegraded
        | Reason::DiscoveryFailed
        | Reason::NamespaceNotFound
        | Reason::MemberRefused => String::new(),
    }
}

/// The text of a write that the API server did not take.
pub(super) fn not_written(observed: &Observed, refused: &RefusedWrite) -> String {
    let (secret, key) = (&observed.spec.secret_ref.name, &observed.spec.secret_ref.key);
    let what = match &refused.refusal {
        Refusal::Forbidden => {
            format!(
                "the operator may not write Secret {secret}; grant it get, create and patch on secrets in this namespace"
            )
        }
        Refusal::Quota => {
            format!(
                "a quota of this namespace does not let the operator write Secret {secret}; raise the quota"
            )
        }
        Refusal::Policy => format!(
            "an admission policy does not let the operator write Secret {secret}; change the policy, or exempt the operator"
        ),
        Refusal::Webhook(name, status) => format!(
            "admission webhook {name} does not let the operator write Secret {secret} (status {status}); change its rules, or \
             exempt the operator"
        ),
        Refusal::TooLarge => format!(
            "Secret {secret} is too large to take the passwords; remove other keys from it, or name another Secret in a new \
             VncPassword"
        ),
        Refusal::Terminating => {
            format!("this namespace is being deleted, so Secret {secret} cannot be created")
        }
        Refusal::WebhookFailed(name) => format!(
            "admission webhook {name}, which is asked about Secret {secret}, cannot be called or does not answer in time; the \
             write is tried again"
        ),
        Refusal::Unavailable(status) => {
            format!(
                "the API server did not write Secret {secret} (status {status}); the write is tried again"
            )
        }
        Refusal::Other(status) => format!(
            "the API server refuses to write Secret {secret} (status {status}); the audit log of the API server shows why"
        ),
    };
    let found = if refused.promotes {
        format!("; the password in effect is in key {key}.next")
    } else {
        String::new()
    };
    let said = refused.said.as_ref().map(|said| format!(". The API server says: {said}")).unwrap_or_default();
    format!("{what}{found}{said}")
}

fn credentials_secret(observed: &Observed) -> Option<&str> {
    observed.spec.credentials_ref.as_ref().map(|secret| secret.name.as_str())
}

fn ambient_denied(observed: &Observed) -> String {
    let denied = "this namespace may not use the operator's own identity";
    let add = "have the namespace added to the operator's --ambient-credentials-namespaces";
    match credentials_secret(observed) {
        Some(name) => format!(
            "Secret {name} of spec.credentialsRef holds no access key, so its role would be assumed by the operator, and \
             {denied}; add access-key-id and access-key-secret to the Secret, or {add}"
        ),
        None => format!("{denied}; name a Secret with an access key in spec.credentialsRef, or {add}"),
    }
}

/// What is said when the source of credentials fails.
pub(super) fn provider_failed(observed: &Observed, problem: &str) -> String {
    match credentials_secret(observed) {
        Some(name) => {
            format!("no credentials can be had with Secret {name} of spec.credentialsRef: {problem}")
        }
        None => format!("no credentials can be had for the operator: {problem}"),
    }
}

const RULE: &str = "a VNC password is exactly 6 of A-Z, a-z and 0-9, without the line break that echo adds (use \
                    printf or kubectl create secret --from-literal)";

fn refused_value(observed: &Observed, code: &str) -> String {
    let (secret, key) = (&observed.spec.secret_ref.name, &observed.spec.secret_ref.key);
    let instance = &observed.spec.instance_id;
    match observed.contents() {
        Some(contents) if contents.current == Slot::Invalid => {
            format!("the value of key {key} of Secret {secret} is no VNC password")
        }
        Some(contents) if contents.under_way(instance).is_some() => {
            format!("the ECS API refused the passwords generated for instance {instance} (code {code})")
        }
        Some(contents) if contents.holds_a_refused_value(instance) => {
            format!("the ECS API refused the value of key {key} of Secret {secret}")
        }
        _ => format!("the ECS API refused the value of key {key} of Secret {secret} (code {code})"),
    }
}

/// What a password that waits for a restart needs.
pub(super) fn reboot_required(observed: &Observed, status: &VncPasswordStatus, now: Timestamp) -> String {
    let spec = &observed.spec;
    let (instance, secret) = (&spec.instance_id, &spec.secret_ref.name);
    let key = format!("{}{}", spec.secret_ref.key, if observed.generated() { ".next" } else { "" });
    let taken = format!(
        "instance {instance} accepted the value of key {key} of Secret {secret}, and it takes effect when the instance is \
         restarted"
    );
    let then = match spec.activation {
        Activation::Manual => "restart it",
        Activation::Reboot if !observed.allow_reboot => {
            "spec.activation is Reboot, but the operator runs without --allow-reboot: restart it yourself"
        }
        Activation::Reboot if status.accepted.as_ref().is_some_and(|accepted| accepted.unchanged) => {
            "it may be in effect already, so the operator does not restart it for that: restart it yourself"
        }
        Activation::Reboot if observed.plan.is_err() => {
            "spec.rotation or spec.window cannot be read: mend it, or restart it yourself"
        }
        Activation::Reboot if !restart::will_reboot(observed, status, now) => {
            "two requests to restart it moved nothing: restart it yourself"
        }
        Activation::Reboot if spec.window.is_some() => "the operator restarts it in spec.window",
        Activation::Reboot => "the operator restarts it",
    };
    format!("{taken}; {then}")
}
