//! What each reason means for a person: why, what happens by itself, and what to do, with the commands. A reason that is
//! new fails to compile here.

use crate::text::quoted;
use vncpassword_core::api::{ROTATE_AT, Reason, WRITABLE};

/// Where the operator is by the chart's papers.
pub const OPERATOR_NAMESPACE: &str = "vncpassword-system";

/// Whom it is about, as far as commands need it.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    /// Of a fleet: absent.
    pub namespace: Option<&'a str>,
    /// Name of the object.
    pub name: &'a str,
    /// Its instance; of a fleet: empty.
    pub instance: &'a str,
    /// Where calls go, where that is known.
    pub region: Option<&'a str>,
    /// Its Secret, or those of a fleet.
    pub secret: &'a str,
    /// The key in it.
    pub key: &'a str,
    /// The operator draws the passwords.
    pub generated: bool,
    /// `spec.activation` is `Reboot`.
    pub reboots: bool,
    /// The Secret of `spec.credentialsRef`.
    pub credentials: Option<&'a str>,
    /// Of a fleet: `spec.targetNamespace`.
    pub target: Option<&'a str>,
    /// The API's code of the last failure.
    pub code: Option<&'a str>,
    /// The RequestId of the last failure.
    pub request: Option<&'a str>,
    /// The status of the instance as last seen.
    pub status: Option<&'a str>,
    /// The namespace of the operator.
    pub operator: &'a str,
}

/// Who is to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Nobody: all is well, or as somebody wished.
    Nobody,
    /// The operator, by itself.
    Operator,
    /// A person.
    Person,
}

/// What a reason comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Who is to act.
    pub actor: Actor,
    /// One or more sentences, beyond what the condition's message says.
    pub text: String,
    /// Commands that find out more, or put it right.
    pub commands: Vec<String>,
}

fn nobody(text: impl Into<String>, commands: Vec<String>) -> Advice {
    Advice { actor: Actor::Nobody, text: text.into(), commands }
}

fn itself(text: impl Into<String>, commands: Vec<String>) -> Advice {
    Advice { actor: Actor::Operator, text: text.into(), commands }
}

fn person(text: impl Into<String>, commands: Vec<String>) -> Advice {
    Advice { actor: Actor::Person, text: text.into(), commands }
}

impl Subject<'_> {
    /// `kubectl`, with the namespace where there is one.
    fn kubectl(&self, rest: &str) -> String {
        match self.namespace {
            Some(namespace) => format!("kubectl -n {} {rest}", quoted(namespace)),
            None => format!("kubectl {rest}"),
        }
    }

    fn kind(&self) -> &'static str {
        if self.namespace.is_some() { "vncpw" } else { "cvncpw" }
    }

    /// The object as kubectl names it.
    fn object(&self) -> String {
        format!("{} {}", self.kind(), quoted(self.name))
    }

    /// Where the Secret is.
    fn home(&self) -> String {
        quoted(self.namespace.or(self.target).unwrap_or("default"))
    }

    fn edit(&self) -> String {
        self.kubectl(&format!("edit {}", self.object()))
    }

    fn rotate(&self) -> String {
        match self.namespace {
            Some(namespace) => {
                format!("kubectl vncpassword rotate {} -n {} --wait", quoted(self.name), quoted(namespace))
            }
            None => format!("kubectl vncpassword rotate fleet/{} --wait", quoted(self.name)),
        }
    }

    fn logs(&self) -> String {
        format!(
            "kubectl -n {} logs -l app.kubernetes.io/name=vncpassword-operator --prefix --tail=-1 | grep {}",
            quoted(self.operator),
            quoted(if self.instance.is_empty() { self.name } else { self.instance })
        )
    }

    fn whoami(&self) -> String {
        format!(
            "kubectl -n {} exec deploy/vncpassword-operator -- vncpassword-operator whoami",
            quoted(self.operator)
        )
    }

    fn in_region(&self) -> String {
        self.region.map(|region| format!(" --RegionId {}", quoted(region))).unwrap_or_default()
    }

    /// A call of the cloud's own tool about the instance.
    fn aliyun(&self, action: &str) -> String {
        format!("aliyun ecs {action}{} --InstanceId {}", self.in_region(), quoted(self.instance))
    }

    fn look(&self) -> String {
        format!("aliyun ecs DescribeInstances{} --InstanceIds '[\"{}\"]'", self.in_region(), self.instance)
    }

    fn policy(&self) -> String {
        let reboot = if self.reboots { " --allow-reboot" } else { "" };
        let instance = if self.instance.is_empty() {
            String::new()
        } else {
            format!(" --instance {}", quoted(self.instance))
        };
        format!("vncpassword-operator ram-policy{instance}{reboot}")
    }

    /// Writes the Secret's value from standard input: it shows up in no history and no list of processes.
    fn write_secret(&self) -> Vec<String> {
        let write = format!(
            "create secret generic {} --from-file={}=/dev/stdin --dry-run=client -o yaml",
            quoted(self.secret),
            quoted(self.key)
        );
        vec![
            "read -rs pw    # six of A-Z, a-z, 0-9".to_owned(),
            format!(
                "printf %s \"$pw\" | {} | {}",
                self.kubectl(&write),
                // A manager for each key: what one has applied before, and applies no more, the API server removes.
                self.kubectl(&format!(
                    "apply --server-side --force-conflicts --field-manager={} -f -",
                    quoted(&format!("vncpassword-{}", self.key))
                ))
            ),
        ]
    }

    fn grant(&self, verbs: &str) -> Vec<String> {
        let home = self.home();
        vec![
            format!("kubectl -n {home} create role vncpassword-secrets --verb={verbs} --resource=secrets"),
            format!(
                "kubectl -n {home} create rolebinding vncpassword-secrets --role=vncpassword-secrets \
                 --serviceaccount={}:vncpassword-operator",
                quoted(self.operator)
            ),
        ]
    }

    fn settings(&self, value: &str) -> String {
        format!(
            "helm upgrade vncpassword-operator charts/vncpassword-operator -n {} --reset-then-reuse-values --set {value}",
            quoted(self.operator)
        )
    }

    /// The Secrets or environment that the identity comes from.
    fn renew(&self) -> Vec<String> {
        let Some(name) = self.credentials else {
            return vec![
                self.whoami(),
                format!(
                    "kubectl -n {} rollout restart deployment/vncpassword-operator",
                    quoted(self.operator)
                ),
            ];
        };
        vec![
            "read -r id; read -rs key    # the access key's ID and secret".to_owned(),
            format!(
                "printf 'access-key-id=%s\\naccess-key-secret=%s\\n' \"$id\" \"$key\" | kubectl -n {home} create secret \
                 generic {name} --from-env-file=/dev/stdin --dry-run=client -o yaml | kubectl -n {home} apply \
                 --server-side --force-conflicts --field-manager=vncpassword-keys -f -",
                home = self.home(),
                name = quoted(name)
            ),
        ]
    }
}

/// What a reason comes to.
#[allow(clippy::too_many_lines, reason = "one row a reason")]
pub fn advice(reason: Reason, subject: &Subject) -> Advice {
    let Subject { secret, key, generated, .. } = *subject;
    match reason {
        Reason::Applied => nobody("Nothing is to be done.", vec![]),
        Reason::Settling => itself(
            "Nothing is to be done: it goes on by itself when --settle (16 minutes by default) has passed since the call.",
            vec![],
        ),
        Reason::Generating => itself(
            "This takes a second or two. Where it stays so, the operator does not run or cannot write the Secret.",
            vec!["kubectl vncpassword doctor".to_owned()],
        ),
        Reason::LookupFailed => itself(
            "It is tried again after 15 s, growing to 5 min. Where it stays so, see whether the operator reaches the cloud.",
            vec![subject.whoami(), subject.logs()],
        ),
        Reason::IncorrectInstanceStatus | Reason::InstanceNotReady => itself(
            match subject.status {
                Some("Stopped") => {
                    "The instance is stopped. The password is sent when it runs: start it, or leave it at that.".to_owned()
                }
                Some(status) => format!(
                    "The instance was last seen as {status}. The password is sent when that changes; nothing is to be done."
                ),
                None => "The password is sent when the instance's status changes; nothing is to be done.".to_owned(),
            },
            match subject.status {
                Some("Stopped") => vec![subject.look(), subject.aliyun("StartInstance")],
                _ => vec![subject.look()],
            },
        ),
        Reason::InstanceUnsupported => person(
            "The cloud refuses the password although the instance is Running. Confidential instances and some GPU and bare \
             metal instance types have no VNC. See in the first command's answer which type it is. If it has no VNC, delete \
             the object (in a fleet: add the instance to spec.exclude). Otherwise nothing is to be done: the password is \
             tried every hour, and as soon as the instance is in another state.",
            vec![subject.look(), subject.kubectl(&format!("delete {}", subject.object()))],
        ),
        Reason::Throttled => itself(
            "Calls are let through in turn, shared out by namespace, as many a minute as the cloud's limit of this account \
             and region (or --ecs-rate) allows. Nothing is to be done. Where it lasts, others use the limit up as well: \
             vncpassword_operator_cloud_calls_total in the operator's metrics tells how many calls are its own.",
            vec![],
        ),
        Reason::ChangedTooOften => itself(
            "The operator makes a few calls a minute for one VncPassword at most, so the newest value waits up to half a \
             minute. See in managedFields what keeps changing the VncPassword or the Secrets that it names.",
            vec![],
        ),
        Reason::OutcomeUnknown => itself(
            format!(
                "The same password is sent again until the cloud answers; no other one is set meanwhile. Until then the console \
                 may open with {}. Where it stays so, see whether the operator reaches the cloud.",
                if generated {
                    format!("the value of {key} or of {key}.next")
                } else {
                    "the value in the Secret, or with the one before".to_owned()
                }
            ),
            vec![subject.logs()],
        ),
        Reason::Unreachable => itself(
            "Nothing was sent, so the password in effect is what it was. Where it stays so, see to the NetworkPolicy, the proxy, \
             DNS and --endpoint-network.",
            vec![subject.whoami(), subject.logs()],
        ),
        Reason::SignatureRejected => itself(
            "The operator learns the time from the cloud's replies and signs afresh. Where it stays so, the clock of its node is \
             far off.",
            vec!["kubectl vncpassword doctor".to_owned(), subject.logs()],
        ),
        Reason::RebootRequired => person(
            if subject.reboots {
                "The instance is not I/O optimized. The operator restarts it where spec.activation is Reboot, --allow-reboot is \
                 set and spec.window is open; to restart it yourself:"
            } else {
                "The instance is not I/O optimized, so a new password waits for its restart. Restart it when it suits, or let \
                 the operator do it (it needs --allow-reboot):"
            },
            if subject.reboots {
                vec![subject.aliyun("RebootInstance")]
            } else {
                vec![
                    subject.aliyun("RebootInstance"),
                    subject.kubectl(&format!(
                        "patch {} --type merge -p '{{\"spec\":{{\"activation\":\"Reboot\"}}}}'",
                        subject.object()
                    )),
                ]
            },
        ),
        Reason::SecretNotFound => {
            let mut commands = subject.write_secret();
            commands.push(subject.kubectl(&format!(
                "patch {} --type merge -p '{{\"spec\":{{\"rotation\":{{}}}}}}'",
                subject.object()
            )));
            person(
                "The object heals by itself when the Secret is there. Write it, or let the operator draw the password (the last \
                 command):",
                commands,
            )
        }
        Reason::SecretKeyNotFound => {
            let mut commands =
                vec![subject.kubectl(&format!("get secret {} -o json | jq '.data | keys'", quoted(secret)))];
            commands.extend(subject.write_secret());
            person(
                "See which keys there are (the first command). Add the key, or create a VncPassword that names the right one: \
                 spec.secretRef is immutable.",
                commands,
            )
        }
        Reason::SecretForbidden => person(
            "The chart grants the operator what it needs; in a namespace that it was not installed for, grant it there:",
            subject.grant(if generated { "get,create,patch" } else { "get" }),
        ),
        Reason::QuotaExceeded => person(
            "The operator tries again by itself, within a minute. Raise the quota, or delete what the namespace does not need:",
            vec![format!("kubectl -n {} describe resourcequota", subject.home())],
        ),
        Reason::PolicyDenied => person(
            "The operator tries again by itself, within a minute. The message names the policy. Change it, or exempt the \
             operator's service account in its matchConditions:",
            vec!["kubectl get validatingadmissionpolicies,validatingadmissionpolicybindings".to_owned()],
        ),
        Reason::WebhookDenied => person(
            "The operator tries again by itself, within a minute. What the webhook said is in its own log: the operator does \
             not show it, because it can quote the Secret. Change its rules, or exempt the operator's service account:",
            vec!["kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations".to_owned()],
        ),
        Reason::WebhookFailed => itself(
            "An admission webhook is asked about each write of a Secret, and does not answer. The operator tries again \
             within a minute. If it stays, look after the webhook that the message names:",
            vec!["kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations".to_owned()],
        ),
        Reason::SecretTooLarge => person(
            format!("A Secret holds 1 MiB at most. See what else is in it, and take out what need not be beside {key}:"),
            vec![format!(
                "kubectl -n {} get secret {} -o json | jq '.data | map_values(length)'",
                subject.home(),
                quoted(secret)
            )],
        ),
        Reason::NamespaceTerminating => person(
            "No object can be created in a namespace that is being deleted. If the namespace stays for long, see what holds it:",
            vec![format!("kubectl get namespace {} -o jsonpath='{{.status.conditions}}'", subject.home())],
        ),
        Reason::SecretWriteFailed => itself(
            "The API server answered the write of the Secret with an error of its own. The operator tries again within a \
             minute. If it stays, look at the API server:",
            vec!["kubectl get --raw '/readyz?verbose'".to_owned()],
        ),
        Reason::SecretWriteRefused => person(
            "The API server refuses the write for a reason that the operator does not know. The operator tries again by \
             itself, within a minute. The API server's audit log shows the reason; so may a write of your own:",
            vec![format!(
                "kubectl -n {} label secret {} vncpassword.dev/try=1 --dry-run=server",
                subject.home(),
                quoted(secret)
            )],
        ),
        Reason::SecretNotWritable => person(
            format!(
                "The operator writes only to Secrets that it made for this instance, so that it overwrites nobody's. If the \
                 Secret may be the operator's, say so by a label; a value of {key} that is a valid password is then taken over."
            ),
            vec![
                format!("kubectl -n {} get secret {} --show-labels", subject.home(), quoted(secret)),
                format!("kubectl -n {} label secret {} {WRITABLE}=true", subject.home(), quoted(secret)),
            ],
        ),
        Reason::CompetingWriters => person(
            "Each time the operator writes this Secret, somebody else changes it back, so it waits 1 min, doubling to 30 min, \
             before it tries again. See in managedFields who that is. Where an ExternalSecret or a GitOps tool keeps the \
             Secret, let it: remove spec.rotation, and its value is applied. Otherwise keep it off this Secret.",
            vec![format!(
                "kubectl -n {} get secret {} --show-managed-fields -o jsonpath='{{.metadata.managedFields[*].manager}}'",
                subject.home(),
                quoted(secret)
            )],
        ),
        Reason::InvalidPassword if generated => person(
            format!(
                "A value of {key} that somebody wrote is no password, or the cloud refused what was drawn. The next rotation \
                 overwrites it:"
            ),
            vec![subject.rotate()],
        ),
        Reason::InvalidPassword => {
            person("Write one of exactly six letters and digits, without a line break:", subject.write_secret())
        }
        Reason::InvalidSchedule => person(
            "Mend spec.rotation or spec.window as the message says. The password in effect stays.",
            vec![subject.edit()],
        ),
        Reason::InvalidRotateAt => person(
            "Take the annotation away, or ask anew:",
            vec![
                subject.kubectl(&format!("annotate {} {ROTATE_AT}-", subject.object())),
                subject.rotate(),
            ],
        ),
        Reason::InstanceUnknown => person(
            "Without the right to see an instance the cloud answers as if there were none. See whether it is there, whether \
             the operator's identity may see it, and in which region it is:",
            vec![subject.look(), subject.whoami(), subject.policy()],
        ),
        Reason::InvalidRegion => person(
            "Name the region in the object, or give the operator one for all that name none:",
            vec![
                subject.kubectl(&format!(
                    "patch {} --type merge -p '{{\"spec\":{{\"regionId\":\"cn-hangzhou\"}}}}'",
                    subject.object()
                )),
                subject.settings("region=cn-hangzhou"),
            ],
        ),
        Reason::InvalidObject => person(
            "The CustomResourceDefinitions in the cluster are not those of this operator, or they are newer than the object. \
             Apply the operator's, then mend the object:",
            vec![
                "kubectl vncpassword doctor".to_owned(),
                "kubectl apply --server-side --force-conflicts -f crds/".to_owned(),
                subject.edit(),
            ],
        ),
        Reason::Conflict => person(
            "One instance has one password, so one object keeps it. This one takes over when the other is gone. Look at all \
             that name the instance, and delete those that are too many:",
            vec![
                format!(
                    "kubectl get vncpw -A --field-selector spec.instanceId={} -o wide",
                    if subject.instance.is_empty() { "INSTANCE" } else { subject.instance }
                ),
                subject.kubectl(&format!("delete {}", subject.object())),
            ],
        ),
        Reason::InstanceNotFound => person(
            "See whether the instance exists, and in which region. spec.regionId may be mended; for another instance create \
             another object: spec.instanceId is immutable.",
            vec![subject.look(), subject.edit()],
        ),
        Reason::Denied if subject.code == Some("InstanceLockedForSecurity") => person(
            "The cloud has locked the instance for security reasons. See which lock it is, and have it lifted in the cloud's \
             console.",
            vec![subject.look()],
        ),
        Reason::Denied => person(
            "The identity lacks the right to set this instance's password. See who it is, and attach the policy that the last \
             command prints:",
            vec![subject.whoami(), subject.policy()],
        ),
        Reason::InvalidCredentials => person(
            match subject.credentials {
                Some(name) => format!(
                    "Renew the access key in Secret {name}; it is used at once. Where the key is right, the message names what \
                     else is not: a role, a token."
                ),
                None => "See who the operator is, and renew its key, token or role. A file or a Secret of the chart is read \
                         again by itself or at the next start:"
                    .to_owned(),
            },
            subject.renew(),
        ),
        Reason::CredentialsNotFound => person(
            match subject.credentials {
                Some(name) => format!("Create Secret {name} with an access key; it is used at once."),
                None => "Give the operator an identity (docs/identity.md): a role by RRSA, or an access key in a Secret.".to_owned(),
            },
            match subject.credentials {
                Some(_) => subject.renew(),
                None => vec![subject.settings("credentials.existingSecret=SECRET"), subject.whoami()],
            },
        ),
        Reason::AmbientCredentialsDenied => person(
            "Whoever may use the operator's identity can set the password of every instance that it reaches, so namespaces \
             are let in by name. Give this one an access key of its own in spec.credentialsRef, or let it in:",
            vec![subject.edit(), subject.settings("'ambientCredentialsNamespaces={NAMESPACES}'")],
        ),
        Reason::Refused => person(
            format!(
                "The operator does not know this code{}. Look it up in the API's error center{}.",
                subject.code.map(|code| format!(" ({code})")).unwrap_or_default(),
                subject
                    .request
                    .map(|request| format!(", or give RequestId {request} to the cloud's support"))
                    .unwrap_or_default()
            ),
            vec![subject.logs()],
        ),
        Reason::Suspended => nobody(
            "Somebody has suspended it. What was in effect stays in effect. To let it go on:",
            vec![subject.kubectl(&format!(
                "patch {} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'",
                subject.object()
            ))],
        ),
        Reason::NothingSelected => person(
            "It starts by itself when an instance is found. See whether the selector is what you mean:",
            vec![
                subject.kubectl(&format!("get {} -o jsonpath='{{.spec}}'", subject.object())),
                "kubectl get nodes -o custom-columns=NAME:.metadata.name,INSTANCE:.spec.providerID,LABELS:.metadata.labels".to_owned(),
            ],
        ),
        Reason::RollingOut => itself(
            "Nothing is to be done; it goes on in waves of spec.rollout.maxConcurrent. To follow it:",
            vec![format!("kubectl vncpassword status fleet/{} --watch", quoted(subject.name))],
        ),
        Reason::WaitingForWindow => itself(
            "Nothing is to be done: it goes on when spec.window opens. What is asked for by hand does not wait for it:",
            vec![subject.rotate()],
        ),
        Reason::WaitingForInstances => itself(
            "Instances that are stopped, or VncPasswords that somebody has suspended, rotate when that changes. These they are:",
            vec![members(subject, "Reconciling or Suspended", r#".type == "Reconciling" or .type == "Suspended""#)],
        ),
        Reason::RolloutHalted => person(
            "No more are started. It goes on by itself when what failed has recovered, when the spec changes, or when it is \
             asked anew (the last command). Look at what failed first:",
            vec![members(subject, "Stalled", r#".type == "Stalled""#), subject.rotate()],
        ),
        Reason::MembersFailed => person(
            "Each heals as its own reason says; `kubectl vncpassword explain` tells of each what to do. These they are:",
            vec![members(subject, "Stalled", r#".type == "Stalled""#)],
        ),
        Reason::DiscoveryDegraded => itself(
            "Nothing is pruned until the same answer has come three times in a row, over ten minutes at least. See whether \
             the selector, the tags and the right to see instances are what they were:",
            vec![
                subject.kubectl(&format!("get {} -o jsonpath='{{.spec}}'", subject.object())),
                subject.whoami(),
            ],
        ),
        Reason::DiscoveryFailed => person(
            "What is known stays, and it is asked again every spec.rediscoverInterval. The message names what is missing; see \
             who the operator is, and what it says:",
            vec![subject.whoami(), subject.logs()],
        ),
        Reason::NamespaceNotFound => person(
            "It goes on by itself when the namespace is there:",
            vec![format!("kubectl create namespace {}", quoted(subject.target.unwrap_or("NAMESPACE")))],
        ),
        Reason::MemberRefused => person(
            "The message is the API server's. Look for a quota, an admission webhook or policy, or a right that the operator \
             lacks:",
            vec![
                format!("kubectl -n {} get resourcequota", subject.home()),
                "kubectl get validatingadmissionpolicies,validatingwebhookconfigurations,mutatingwebhookconfigurations"
                    .to_owned(),
                format!(
                    "kubectl auth can-i create vncpasswords -n {} --as=system:serviceaccount:{}:vncpassword-operator",
                    subject.home(),
                    quoted(subject.operator)
                ),
            ],
        ),
        Reason::Unrecognized => person(
            "A newer operator has written a reason that this plugin does not know. Install the plugin of the operator's \
             version; meanwhile the message tells what it is:",
            vec![subject.kubectl(&format!("describe {}", subject.object()))],
        ),
    }
}

/// The `VncPasswords` of a fleet with a condition, by kubectl and jq.
fn members(subject: &Subject, what: &str, condition: &str) -> String {
    format!(
        "kubectl -n {} get vncpw -l vncpassword.dev/fleet={} -o json | jq -r '.items[] | . as $o | .status.conditions[]? | \
         select({condition}) | \"\\($o.metadata.name) \\(.reason): \\(.message)\"'    # {what}",
        subject.home(),
        quoted(subject.name)
    )
}

#[cfg(test)]
pub(super) mod tests;
