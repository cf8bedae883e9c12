//! The texts of conditions: what happened, to what, and what to do. Stable, without times and counters.

use super::facts::{Observed, SecretRead};
use crate::api::Reason;

/// The message of a reason: what happened, to what, and what to do.
pub(super) fn message(reason: Reason, observed: &Observed, code: Option<&str>) -> String {
    let spec = &observed.spec;
    let instance = &spec.instance_id;
    let (secret, key) = (&spec.secret_ref.name, &spec.secret_ref.key);
    let region = observed.region.as_deref().unwrap_or("unknown");
    let code = code.unwrap_or("none");
    match reason {
        Reason::Applied => {
            format!(
                "instance {instance} accepted the value of key {key} of Secret {secret}, and it is in effect"
            )
        }
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
        Reason::Throttled => format!(
            "the cloud account's limit on calls in region {region} is used up; instance {instance} waits its turn"
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
        Reason::RebootRequired => format!(
            "instance {instance} accepted the value of key {key} of Secret {secret}, and it takes effect when the \
             instance is restarted; restart it"
        ),
        Reason::SecretNotFound => format!("Secret {secret} does not exist in this namespace; create it"),
        Reason::SecretKeyNotFound => {
            format!("Secret {secret} has no key {key}; add it, or name the right one in a new VncPassword")
        }
        Reason::SecretForbidden => {
            format!("the operator may not read Secret {secret}; grant it get on secrets in this namespace")
        }
        Reason::InvalidPassword => format!("{}; {RULE}", refused_value(observed, code)),
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
        Reason::InvalidCredentials => format!(
            "the ECS API or the credential provider did not accept the operator's credentials (code {code}); renew \
             the access key or the token"
        ),
        Reason::CredentialsNotFound => "no credentials are configured: set ALIBABA_CLOUD_ACCESS_KEY_ID and \
                                        ALIBABA_CLOUD_ACCESS_KEY_SECRET for the operator"
            .to_owned(),
        Reason::Refused => format!(
            "the ECS API refused the call for instance {instance} (code {code}); look the code up in the API's \
             error center"
        ),
        Reason::Suspended => "spec.suspend is set: nothing is done until it is removed".to_owned(),
        // Written elsewhere, or by others.
        Reason::InvalidObject | Reason::Unrecognized => String::new(),
    }
}

const RULE: &str = "a VNC password is exactly 6 of A-Z, a-z and 0-9, without the line break that echo adds (use \
                    printf or kubectl create secret --from-literal)";

fn refused_value(observed: &Observed, code: &str) -> String {
    let (secret, key) = (&observed.spec.secret_ref.name, &observed.spec.secret_ref.key);
    match &observed.read {
        Some(SecretRead::Invalid(_)) => {
            format!("the value of key {key} of Secret {secret} is no VNC password")
        }
        _ => format!("the ECS API refused the value of key {key} of Secret {secret} (code {code})"),
    }
}
