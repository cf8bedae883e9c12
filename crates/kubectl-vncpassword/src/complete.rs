//! `__complete`: what may stand next on the command line, in the words of Cobra, which kubectl asks for: a candidate a line, with
//! its description behind a tab, and at the end `:4` (no files) or `:0` (files).

use std::{ffi::OsString, time::Duration};

use clap::{Arg, Args, CommandFactory, FromArgMatches};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::ListParams, api::PartialObjectMeta};

use super::{Cli, ConnectArgs, Connection, Console, Error, connect, error::DONE, read};
use vncpassword_core::api::{ClusterVncPassword, VncPassword};

/// How long the names are waited for where `--request-timeout` says nothing: a person waits at the keyboard.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// What kubectl's script calls.
pub const COMMAND: &str = "__complete";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// These words.
    Words(Vec<String>),
    /// Names of objects, and of fleets where the command takes them.
    Objects {
        fleets: bool,
    },
    Namespaces,
    Contexts,
    Clusters,
    Users,
    Files,
    Nothing,
}

/// Runs the command: `words` stand after `kubectl vncpassword`, the last one begun. It says nothing where it knows nothing.
///
/// # Errors
/// [`Error::Output`].
pub async fn complete(words: &[OsString], console: &mut Console) -> Result<u8, Error> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let wanted = wanted(before, last);
    let directive = if wanted == Wanted::Files { ":0" } else { ":4" };
    let (prefix, value) = split(last);
    let connect = ConnectArgs { places: connect::places(&console.lookup), ..connect_args(before) };
    let mut found = candidates(wanted, &connect).await.unwrap_or_default();
    let said = Said::of(before);
    found.retain(|candidate| candidate.starts_with(value) && !said.besides.contains(&candidate.as_str()));
    let mut lines: Vec<String> = found.into_iter().map(|candidate| format!("{prefix}{candidate}")).collect();
    lines.push(format!("{directive}\n"));
    console.say(&lines.join("\n"))?;
    Ok(DONE)
}

/// The words before that stand for themselves: values of flags are left out.
struct Said<'a> {
    /// The command.
    command: Option<&'a str>,
    /// The flags, and what the command is about.
    besides: Vec<&'a str>,
}

impl<'a> Said<'a> {
    fn of(before: &'a [String]) -> Self {
        let mut cli = Cli::command();
        cli.build();
        let mut said = Self { command: None, besides: Vec::new() };
        let mut words = before.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let command = said.command.and_then(|command| cli.find_subcommand(command)).unwrap_or(&cli);
            if find_flag(command, word).is_some_and(|flag| flag.get_action().takes_values()) {
                words.next();
            }
            if said.command.is_none() && !word.starts_with('-') {
                said.command = Some(word);
            } else {
                said.besides.push(word);
            }
        }
        said
    }
}

/// `--flag=value` is completed behind the sign.
fn split(last: &str) -> (&str, &str) {
    match last.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => (&last[..=flag.len()], value),
        _ => ("", last),
    }
}

/// The flags of kubectl among the words before; what is not understood is passed over.
fn connect_args(before: &[String]) -> ConnectArgs {
    let command =
        ConnectArgs::augment_args(clap::Command::new("kubectl")).ignore_errors(true).no_binary_name(true);
    // Words that belong to the commands would end the reading.
    let known = |flag: &str| find_flag(&command, flag).is_some();
    let mut words = Vec::new();
    let mut rest = before.iter();
    while let Some(word) = rest.next() {
        let flag = word.split_once('=').map_or(word.as_str(), |(flag, _)| flag);
        if known(flag) {
            words.push(word.clone());
            if flag == word {
                words.extend(rest.next().cloned());
            }
        }
    }
    let matches = command.try_get_matches_from(words).ok();
    matches.and_then(|matches| ConnectArgs::from_arg_matches(&matches).ok()).unwrap_or_default()
}

fn find_flag<'a>(command: &'a clap::Command, flag: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| {
        let long = argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
        let short = argument.get_short().is_some_and(|short| flag == format!("-{short}"));
        long || short
    })
}

/// What may stand in the place of the last word.
fn wanted(before: &[String], last: &str) -> Wanted {
    let mut cli = Cli::command();
    cli.build();
    let subcommand = Said::of(before).command.and_then(|word| cli.find_subcommand(word));
    let subcommand = subcommand.filter(|found| !found.is_hide_set());
    let command = subcommand.unwrap_or(&cli);
    let takes = |flag: &str| find_flag(command, flag).filter(|argument| argument.get_action().takes_values());
    let flag = match last.split_once('=') {
        Some((flag, _)) => Some(flag),
        None => before.last().map(String::as_str),
    };
    if let Some(argument) = flag.and_then(takes) {
        return value_of(argument);
    }
    if last.starts_with('-') {
        let flags = command.get_arguments().filter(|argument| !argument.is_hide_set());
        return Wanted::Words(flags.filter_map(|flag| Some(format!("--{}", flag.get_long()?))).collect());
    }
    match subcommand.map(clap::Command::get_name) {
        None => {
            let commands = cli.get_subcommands().filter(|command| !command.is_hide_set());
            Wanted::Words(commands.map(|command| command.get_name().to_owned()).collect())
        }
        Some("status" | "rotate" | "explain") => Wanted::Objects { fleets: true },
        Some("get") => Wanted::Objects { fleets: false },
        Some(_) => Wanted::Nothing,
    }
}

/// What a flag takes.
fn value_of(argument: &Arg) -> Wanted {
    match argument.get_id().as_str() {
        "namespace" => Wanted::Namespaces,
        "context" => Wanted::Contexts,
        "cluster" => Wanted::Clusters,
        "user" => Wanted::Users,
        "kubeconfig" | "filename" | "file" => Wanted::Files,
        _ => {
            let values = argument.get_possible_values();
            Wanted::Words(values.iter().map(|value| value.get_name().to_owned()).collect())
        }
    }
}

async fn candidates(wanted: Wanted, connect: &ConnectArgs) -> Result<Vec<String>, Error> {
    match wanted {
        Wanted::Words(words) => Ok(words),
        Wanted::Nothing | Wanted::Files => Ok(Vec::new()),
        Wanted::Contexts => Ok(connect.kubeconfig()?.contexts.into_iter().map(|named| named.name).collect()),
        Wanted::Clusters => Ok(connect.kubeconfig()?.clusters.into_iter().map(|named| named.name).collect()),
        Wanted::Users => Ok(connect.kubeconfig()?.auth_infos.into_iter().map(|named| named.name).collect()),
        Wanted::Namespaces => {
            let api: Api<Namespace> = Api::all(connection(connect).await?.client);
            Ok(names(&api, connect).await)
        }
        Wanted::Objects { fleets } => {
            let Connection { client, namespace } = connection(connect).await?;
            let objects: Api<VncPassword> = Api::namespaced(client.clone(), &namespace);
            if !fleets {
                return Ok(names(&objects, connect).await);
            }
            let fleets: Api<ClusterVncPassword> = Api::all(client);
            let (mut found, fleets) = futures::join!(names(&objects, connect), names(&fleets, connect));
            found.extend(fleets.into_iter().map(|name| format!("fleet/{name}")));
            Ok(found)
        }
    }
}

fn timeout_of(connect: &ConnectArgs) -> Duration {
    if connect.request_timeout.is_zero() { DEFAULT_TIMEOUT } else { connect.request_timeout }
}

/// The kubeconfig may name a program that gets the credentials, so this is waited for as well.
async fn connection(connect: &ConnectArgs) -> Result<Connection, Error> {
    let connection = tokio::time::timeout(timeout_of(connect), connect.connect()).await;
    connection.unwrap_or_else(|_| Err(Error::Usage("the credentials did not come in time".to_owned())))
}

/// Names alone: the API server leaves everything else away. None where they may not be listed or do not come in time.
async fn names<K>(api: &Api<K>, connect: &ConnectArgs) -> Vec<String>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let parameters = ListParams::default().limit(read::PAGE);
    let listed = tokio::time::timeout(timeout_of(connect), api.list_metadata(&parameters)).await;
    let listed = listed.ok().and_then(Result::ok);
    listed.iter().flatten().map(PartialObjectMeta::name_any).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Wanted {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().unwrap();
        wanted(before, last)
    }

    fn offers(line: &str, word: &str) -> bool {
        matches!(asked(line), Wanted::Words(words) if words.iter().any(|other| other == word))
    }

    #[test]
    fn commands_flags_and_values_are_offered() {
        assert!(offers("", "status") && offers("", "rotate") && !offers("", "__complete"));
        assert!(offers("-n prod ", "status"));
        assert!(offers("status --", "--watch") && offers("status --", "--namespace"));
        assert!(!offers("status --", "--dry-run") && offers("rotate --", "--dry-run"));
        assert!(offers("status -o ", "wide") && offers("status --output=", "json"));
    }

    #[test]
    fn names_are_asked_of_the_api_server() {
        assert_eq!(asked("status db"), Wanted::Objects { fleets: true });
        assert_eq!(asked("rotate db-1 "), Wanted::Objects { fleets: true });
        assert_eq!(asked("get "), Wanted::Objects { fleets: false });
        assert_eq!(asked("get --show "), Wanted::Objects { fleets: false });
        assert_eq!(asked("get -n "), Wanted::Namespaces);
        assert_eq!(asked("-n get rotate "), Wanted::Objects { fleets: true });
        assert_eq!(asked("--context "), Wanted::Contexts);
        assert_eq!(asked("status --kubeconfig "), Wanted::Files);
        assert_eq!(asked("rotate --timeout "), Wanted::Words(vec![]));
    }

    #[test]
    fn only_what_stands_for_itself_is_not_offered_again() {
        for (line, command, besides) in [
            ("get -n db", Some("get"), vec!["-n"]),
            ("-n get status db-1", Some("status"), vec!["-n", "db-1"]),
            ("get get", Some("get"), vec!["get"]),
            ("status db-1 -o wide --watch", Some("status"), vec!["db-1", "-o", "--watch"]),
            ("rotate --timeout=5m db-1 -l", Some("rotate"), vec!["--timeout=5m", "db-1", "-l"]),
            ("--context other", None, vec!["--context"]),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let said = Said::of(&words);
            assert_eq!((said.command, said.besides), (command, besides), "{line}");
        }
    }

    #[test]
    fn the_flags_of_kubectl_are_read_among_others() {
        let words = ["status", "-n", "prod", "--watch", "--context=other", "-o", "wide"].map(str::to_owned);
        let connect = connect_args(&words);
        assert_eq!((connect.namespace.as_deref(), connect.context.as_deref()), (Some("prod"), Some("other")));
    }
}
