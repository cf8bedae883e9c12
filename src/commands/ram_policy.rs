//! The RAM policies of `ram-policy`: what the operator needs of the cloud and whom its roles trust, and
//! nothing more.
//!
//! Pure: flags in, JSON out. Whatever could widen a policy, a `*` in a name above all, is refused.
//!
//! Source: the pages "RAM authorization" of ECS and of STS, "Edit the trust policy of a RAM role", "Use
//! external IDs to prevent the confused deputy issue", and for RRSA what `ack-ram-tool rrsa associate-role`
//! writes.

use clap::Args;
use serde_json::{Value, json};

use vncpassword_alicloud::{Action, InvalidRegion, Region};

/// Flags of `ram-policy`. Without any it prints the rights to every instance of the account.
#[derive(Args, Clone, Debug, Default)]
pub struct RamPolicyArgs {
    /// ID of an instance whose password the operator may set, several times or separated by commas; all where
    /// none is named
    #[arg(long = "instance", value_name = "ID", value_delimiter = ',')]
    pub instances: Vec<String>,

    /// Adds the right to restart these instances, for activation Reboot
    #[arg(long)]
    pub allow_reboot: bool,

    /// Region of the instances, such as cn-hangzhou; any where none is named
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,

    /// ID of the account that the instances belong to; any where none is named
    #[arg(long, value_name = "ID")]
    pub account: Option<String>,

    /// Prints the right to assume this role, for Secrets with role-arn; several times or separated by commas
    #[arg(long = "assume-role", value_name = "ARN", value_delimiter = ',', conflicts_with_all = RIGHTS)]
    pub assume_roles: Vec<String>,

    /// Prints the trust policy of the operator's own role: whom RRSA lets assume it
    #[arg(long, conflicts_with_all = RIGHTS, conflicts_with = "assume_roles")]
    pub trust: bool,

    /// With --trust: ARN of the cluster's OIDC identity provider
    #[arg(long, env = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", value_name = "ARN")]
    pub oidc_provider_arn: Option<String>,

    /// With --trust: URL of the issuer of the cluster's tokens
    #[arg(long, value_name = "URL", requires = "trust")]
    pub oidc_issuer: Option<String>,

    /// With --trust: service account that the operator runs as, as NAMESPACE:NAME; vncpassword-operator in
    /// the operator's namespace where none is named
    #[arg(long, value_name = "NAMESPACE:NAME", requires = "trust")]
    pub service_account: Option<String>,

    /// With --trust: namespace of the operator
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "default")]
    pub operator_namespace: String,

    /// Prints the trust policy of a role that this principal assumes for a Secret with role-arn
    #[arg(
        long,
        value_name = "ARN",
        requires = "external_id",
        conflicts_with_all = RIGHTS,
        conflicts_with_all = ["assume_roles", "trust"]
    )]
    pub trust_principal: Option<String>,

    /// With --trust-principal: for which cluster and namespace: the uid of namespace kube-system, and the
    /// Secret's namespace
    #[arg(long, value_name = "CLUSTER/NAMESPACE", requires = "trust_principal")]
    pub external_id: Option<String>,
}

/// The flags that only the policy of rights to instances knows.
const RIGHTS: [&str; 4] = ["instances", "allow_reboot", "region", "account"];

/// The name of the operator's `ServiceAccount`.
const SERVICE_ACCOUNT: &str = "vncpassword-operator";

/// Whom RRSA's tokens are for.
const AUDIENCE: &str = "sts.aliyuncs.com";

/// A flag that cannot be used. The text names it and says what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RamPolicyError {
    /// `--instance`.
    #[error("--instance {0:?}: write the ID of an ECS instance, such as i-bp67acfmxazb4p")]
    Instance(String),
    /// `--region`.
    #[error("--region {0:?}: {1}")]
    Region(String, #[source] InvalidRegion),
    /// `--account`.
    #[error("--account {0:?}: write the number of an account, such as 1234567890123456")]
    Account(String),
    /// `--assume-role`.
    #[error("--assume-role {0:?}: write the ARN of a role, such as acs:ram::1234567890123456:role/console")]
    Role(String),
    /// `--oidc-provider-arn`.
    #[error(
        "--oidc-provider-arn {0:?}: write the ARN of the cluster's OIDC identity provider, such as \
         acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789"
    )]
    Provider(String),
    /// `--oidc-issuer`.
    #[error(
        "--oidc-issuer {0:?}: write the URL of the issuer as the identity provider has it, beginning with https://"
    )]
    Issuer(String),
    /// `--service-account`, or `--operator-namespace`.
    #[error(
        "service account {0:?}: write namespace and name, such as vncpassword-system:vncpassword-operator"
    )]
    ServiceAccount(String),
    /// `--trust-principal`.
    #[error(
        "--trust-principal {0:?}: write the ARN of a role, a user or an account, such as \
         acs:ram::1234567890123456:role/vncpassword-operator"
    )]
    Principal(String),
    /// `--external-id`.
    #[error(
        "--external-id {0:?}: write the uid of namespace kube-system, a slash, and the namespace of the Secret, such as \
         6d7d2c1e-5f3b-4a57-9a5e-0c4b7f1d2e3f/team-a"
    )]
    ExternalId(String),
}

/// The policy that the flags ask for.
///
/// # Errors
/// [`RamPolicyError`] names the flag that cannot be used.
pub fn ram_policy(arguments: &RamPolicyArgs) -> Result<Value, RamPolicyError> {
    let statements = if arguments.trust {
        vec![trust_of_service_account(arguments)?]
    } else if let Some(principal) = &arguments.trust_principal {
        vec![trust_of_principal(principal, arguments.external_id.as_deref().unwrap_or_default())?]
    } else if arguments.assume_roles.is_empty() {
        rights(arguments)?
    } else {
        vec![right_to_assume(&arguments.assume_roles)?]
    };
    Ok(json!({"Version": "1", "Statement": statements}))
}

/// The rights to instances: every call that `vncpassword_alicloud` makes there. `sts:GetCallerIdentity` and
/// `sts:AssumeRoleWithOIDC` need no right (their pages: "No authorization for this operation").
fn rights(arguments: &RamPolicyArgs) -> Result<Vec<Value>, RamPolicyError> {
    let region = match arguments.region.as_deref() {
        None => "*",
        Some(region) => {
            Region::parse(region).map_err(|error| RamPolicyError::Region(region.to_owned(), error))?;
            region
        }
    };
    let account = match arguments.account.as_deref() {
        None => "*",
        Some(account) if is_account(account) => account,
        Some(account) => return Err(RamPolicyError::Account(account.to_owned())),
    };
    let resource = |instance: &str| format!("acs:ecs:{region}:{account}:instance/{instance}");
    if let Some(wrong) = arguments.instances.iter().find(|instance| !is_instance(instance)) {
        return Err(RamPolicyError::Instance(wrong.clone()));
    }
    let mut instances: Vec<String> = arguments.instances.iter().map(|instance| resource(instance)).collect();
    instances.sort_unstable();
    instances.dedup();
    if instances.is_empty() {
        instances.push(resource("*"));
    }
    let mut changes = vec![ecs(Action::ModifyInstanceVncPasswd)];
    changes.extend(arguments.allow_reboot.then(|| ecs(Action::RebootInstance)));
    // On all instances also where some are named. ECS lists both `instance/*` and `instance/{id}` for it,
    // neither as required, and does not say what becomes of a call that names a hundred of which one is not
    // granted. Since December 2025 a call without the right is refused as a whole, and that would blind the
    // other ninety-nine. It only reads.
    let looks = [ecs(Action::DescribeInstances)];
    Ok(vec![allow(&changes, &instances), allow(&looks, &[resource("*")])])
}

/// The right to assume these roles, and no others.
fn right_to_assume(roles: &[String]) -> Result<Value, RamPolicyError> {
    let resource = |role: &String| match parse_arn(role) {
        // The region stands as RAM's own pages write it in policies; a role's ARN has none.
        Some((account, Principal::Role(name))) => Ok(format!("acs:ram:*:{account}:role/{name}")),
        _ => Err(RamPolicyError::Role(role.clone())),
    };
    let mut resources = roles.iter().map(resource).collect::<Result<Vec<_>, _>>()?;
    resources.sort_unstable();
    resources.dedup();
    Ok(allow(&["sts:AssumeRole".to_owned()], &resources))
}

/// Lets the operator's `ServiceAccount` assume its role. The action of a trust policy is `sts:AssumeRole`
/// whichever API is called, `AssumeRoleWithOIDC` here.
fn trust_of_service_account(arguments: &RamPolicyArgs) -> Result<Value, RamPolicyError> {
    let provider = arguments.oidc_provider_arn.clone().unwrap_or_default();
    if !matches!(parse_arn(&provider), Some((_, Principal::OidcProvider))) {
        return Err(RamPolicyError::Provider(provider));
    }
    let issuer = arguments.oidc_issuer.clone().unwrap_or_default();
    if !is_issuer(&issuer) {
        return Err(RamPolicyError::Issuer(issuer));
    }
    let default = || format!("{}:{SERVICE_ACCOUNT}", arguments.operator_namespace);
    let account = arguments.service_account.clone().unwrap_or_else(default);
    let fits = |(namespace, name)| is_label(namespace) && is_subdomain(name);
    if !account.split_once(':').is_some_and(fits) {
        return Err(RamPolicyError::ServiceAccount(account));
    }
    let conditions = json!({
        "oidc:iss": issuer,
        "oidc:aud": AUDIENCE,
        "oidc:sub": format!("system:serviceaccount:{account}"),
    });
    Ok(trust(&json!({"Federated": [provider]}), &conditions))
}

/// Lets a principal assume a tenant's role, in the name of one namespace of one cluster only.
fn trust_of_principal(principal: &str, external_id: &str) -> Result<Value, RamPolicyError> {
    if !matches!(parse_arn(principal), Some((_, Principal::Role(_) | Principal::User | Principal::Account))) {
        return Err(RamPolicyError::Principal(principal.to_owned()));
    }
    let fits = |(cluster, namespace)| is_uid(cluster) && is_label(namespace);
    if !external_id.split_once('/').is_some_and(fits) {
        return Err(RamPolicyError::ExternalId(external_id.to_owned()));
    }
    Ok(trust(&json!({"RAM": [principal]}), &json!({"sts:ExternalId": external_id})))
}

fn ecs(action: Action) -> String {
    format!("ecs:{}", action.as_str())
}

fn allow(actions: &[String], resources: &[String]) -> Value {
    json!({"Effect": "Allow", "Action": actions, "Resource": resources})
}

fn trust(principal: &Value, conditions: &Value) -> Value {
    json!({
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": principal,
        "Condition": {"StringEquals": conditions},
    })
}

/// What an ARN of RAM names.
enum Principal<'a> {
    Account,
    User,
    Role(&'a str),
    OidcProvider,
}

/// Account and what it names of `acs:ram::ACCOUNT:root`, `:user/NAME`, `:role/NAME` or `:oidc-provider/NAME`.
fn parse_arn(arn: &str) -> Option<(&str, Principal<'_>)> {
    let (account, rest) = arn.strip_prefix("acs:ram::")?.split_once(':')?;
    let principal = match rest.split_once('/') {
        None if rest == "root" => Principal::Account,
        Some(("user", name)) if is_name(name, 64) => Principal::User,
        Some(("role", name)) if is_name(name, 64) => Principal::Role(name),
        Some(("oidc-provider", name)) if is_name(name, 128) => Principal::OidcProvider,
        _ => return None,
    };
    is_account(account).then_some((account, principal))
}

fn is_account(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The rule of the CRD.
fn is_instance(text: &str) -> bool {
    let id = text.strip_prefix("i-").unwrap_or_default();
    text.len() <= 64
        && !id.is_empty()
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// A name of RAM.
fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// A DNS label, as the name of a namespace is.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS subdomain, as the name of a `ServiceAccount` is.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_uid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// It is compared as it stands, so nothing is normalised.
fn is_issuer(text: &str) -> bool {
    let host = text.strip_prefix("https://").unwrap_or_default();
    !host.is_empty()
        && !host.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        policy: RamPolicyArgs,
    }

    const PROVIDER: &str = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789";
    const ISSUER: &str = "https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/c0123456789";
    const OPERATOR: &str = "acs:ram::1234567890123456:role/vncpassword-operator";
    const ROLE: &str = "acs:ram::2234567890123456:role/console";
    const EXTERNAL_ID: &str = "6d7d2c1e-5f3b-4a57-9a5e-0c4b7f1d2e3f/team-a";

    fn policy(arguments: &[&str]) -> Result<Value, String> {
        let arguments = [&["ram-policy"], arguments].concat();
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        ram_policy(&cli.policy).map_err(|error| error.to_string())
    }

    fn statements(arguments: &[&str]) -> Value {
        let mut policy = policy(arguments).unwrap();
        assert_eq!(policy["Version"], "1");
        policy["Statement"].take()
    }

    #[test]
    fn the_rights_are_those_that_the_program_uses() {
        let looks = |resource: &str| json!({"Effect": "Allow", "Action": ["ecs:DescribeInstances"], "Resource": [resource]});
        let sets = |actions: &[&str], resources: &[&str]| json!({"Effect": "Allow", "Action": actions, "Resource": resources});
        let (set, reboot) = ("ecs:ModifyInstanceVncPasswd", "ecs:RebootInstance");
        let all = "acs:ecs:*:*:instance/*";
        let here = "acs:ecs:cn-hangzhou:1234567890123456:instance/";
        let (here_all, here_a, here_b) = (format!("{here}*"), format!("{here}i-a"), format!("{here}i-b"));
        let scope = ["--region", "cn-hangzhou", "--account", "1234567890123456"];
        let two = [&scope[..], &["--instance", "i-b", "--instance", "i-a,i-b"]].concat();
        let table: [(&[&str], Value); 5] = [
            (&[], json!([sets(&[set], &[all]), looks(all)])),
            (&["--allow-reboot"], json!([sets(&[set, reboot], &[all]), looks(all)])),
            (&["--instance", "i-a"], json!([sets(&[set], &["acs:ecs:*:*:instance/i-a"]), looks(all)])),
            (&scope, json!([sets(&[set], &[&here_all]), looks(&here_all)])),
            (&two, json!([sets(&[set], &[&here_a, &here_b]), looks(&here_all)])),
        ];
        for (arguments, expected) in table {
            assert_eq!(statements(arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn only_the_roles_that_are_named_may_be_assumed() {
        let other = "acs:ram::3234567890123456:role/vnc.ops";
        let expected = json!([{
            "Effect": "Allow",
            "Action": ["sts:AssumeRole"],
            "Resource": ["acs:ram:*:2234567890123456:role/console", "acs:ram:*:3234567890123456:role/vnc.ops"],
        }]);
        assert_eq!(
            statements(&["--assume-role", other, "--assume-role", ROLE, "--assume-role", ROLE]),
            expected
        );
    }

    #[test]
    fn the_operators_role_trusts_one_service_account() {
        let trust = ["--trust", "--oidc-provider-arn", PROVIDER, "--oidc-issuer", ISSUER];
        let table: [(&[&str], &str); 3] = [
            (&["--operator-namespace", "default"], "default:vncpassword-operator"),
            (&["--operator-namespace", "vnc"], "vnc:vncpassword-operator"),
            (&["--operator-namespace", "vnc", "--service-account", "a:b.c"], "a:b.c"),
        ];
        for (arguments, account) in table {
            let expected = json!([{
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"Federated": [PROVIDER]},
                "Condition": {"StringEquals": {
                    "oidc:iss": ISSUER,
                    "oidc:aud": "sts.aliyuncs.com",
                    "oidc:sub": format!("system:serviceaccount:{account}"),
                }},
            }]);
            assert_eq!(statements(&[&trust[..], arguments].concat()), expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_tenants_role_trusts_the_operator_for_one_namespace() {
        for principal in
            [OPERATOR, "acs:ram::1234567890123456:user/operator", "acs:ram::1234567890123456:root"]
        {
            let expected = json!([{
                "Effect": "Allow",
                "Action": "sts:AssumeRole",
                "Principal": {"RAM": [principal]},
                "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
            }]);
            assert_eq!(statements(&["--trust-principal", principal, "--external-id", EXTERNAL_ID]), expected);
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let trust = |flag, value| {
            let flags = ["--oidc-provider-arn", "--oidc-issuer", "--service-account"];
            let values = [PROVIDER, ISSUER, "a:b"];
            let pairs = flags
                .into_iter()
                .zip(values)
                .map(|(name, good)| [name, if name == flag { value } else { good }]);
            std::iter::once("--trust").chain(pairs.flatten()).collect::<Vec<&str>>()
        };
        let principal = |principal, id| vec!["--trust-principal", principal, "--external-id", id];
        let uid = &EXTERNAL_ID[..36];
        let (no_namespace, no_uid) = (format!("{uid}/"), format!("{uid}-0/team-a"));
        let long = format!("i-{}", "a".repeat(63));
        let table: Vec<(Vec<&str>, &str)> = vec![
            (vec!["--instance", "i-*"], "--instance"),
            (vec!["--instance", "i-"], "--instance"),
            (vec!["--instance", ""], "--instance"),
            (vec!["--instance", "I-A"], "--instance"),
            (vec!["--instance", "i-a/../i-b"], "--instance"),
            (vec!["--instance", &long], "--instance"),
            (vec!["--region", "*"], "--region"),
            (vec!["--region", ""], "--region"),
            (vec!["--region", "cn-hangzhou:1"], "--region"),
            (vec!["--account", "*"], "--account"),
            (vec!["--account", ""], "--account"),
            (vec!["--account", "12a"], "--account"),
            (vec!["--assume-role", "acs:ram::1:role/*"], "--assume-role"),
            (vec!["--assume-role", "acs:ram::*:role/a"], "--assume-role"),
            (vec!["--assume-role", "acs:ram::1:user/a"], "--assume-role"),
            (vec!["--assume-role", "console"], "--assume-role"),
            (trust("--oidc-provider-arn", ""), "--oidc-provider-arn"),
            (trust("--oidc-provider-arn", ROLE), "--oidc-provider-arn"),
            (trust("--oidc-issuer", "http://issuer.example.com"), "--oidc-issuer"),
            (trust("--oidc-issuer", "https://"), "--oidc-issuer"),
            (trust("--oidc-issuer", "https://a b"), "--oidc-issuer"),
            (trust("--service-account", "vncpassword-operator"), "service account"),
            (trust("--service-account", "*:a"), "service account"),
            (trust("--service-account", "a:*"), "service account"),
            (trust("--service-account", "a:b:c"), "service account"),
            (vec!["--trust", "--oidc-provider-arn", PROVIDER], "--oidc-issuer"),
            (principal("*", EXTERNAL_ID), "--trust-principal"),
            (principal("acs:ram::*:root", EXTERNAL_ID), "--trust-principal"),
            (principal(PROVIDER, EXTERNAL_ID), "--trust-principal"),
            (principal(OPERATOR, ""), "--external-id"),
            (principal(OPERATOR, uid), "--external-id"),
            (principal(OPERATOR, &no_namespace), "--external-id"),
            (principal(OPERATOR, &no_uid), "--external-id"),
        ];
        for (arguments, named) in table {
            let error = policy(&arguments).unwrap_err();
            assert!(error.starts_with(named), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn flags_of_different_policies_do_not_mix() {
        let table: [&[&str]; 8] = [
            &["--trust", "--instance", "i-a"],
            &["--trust", "--allow-reboot"],
            &["--trust", "--assume-role", ROLE],
            &["--assume-role", ROLE, "--region", "cn-hangzhou"],
            &["--trust-principal", OPERATOR],
            &["--trust-principal", OPERATOR, "--external-id", EXTERNAL_ID, "--trust"],
            &["--external-id", EXTERNAL_ID],
            &["--oidc-issuer", ISSUER],
        ];
        for arguments in table {
            let error = policy(arguments).unwrap_err();
            assert!(error.starts_with("error: the"), "{arguments:?}: {error}");
        }
        // What the webhook puts into the environment of a Pod does not matter to the other policies.
        assert!(policy(&["--oidc-provider-arn", PROVIDER]).is_ok());
    }
}
