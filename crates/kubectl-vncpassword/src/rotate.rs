//! `rotate`: asks for new passwords now, and waits for them.

mod choose;
mod session;
mod step;
mod wait;

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    time::Duration,
};

use clap::{ArgGroup, Args};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use self::choose::Target;
use super::{
    ConnectArgs, Connection, Console, Error,
    connect::duration,
    error::{DONE, FAILED},
    output::Table,
    read::{AT_ONCE, Named},
    server_time::ServerClock,
    summary::ObjectSummary,
};
use vncpassword_core::api::{ClusterVncPassword, ROTATE_AT};

/// So many are rotated without a question.
const UNASKED: usize = 20;
/// Who wrote the annotation, in `managedFields`.
const MANAGER: &str = "kubectl-vncpassword";

/// Flags of `rotate`.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(
    group = ArgGroup::new("which").required(true).args(["names", "selector", "all"]),
    after_help = "\
Asks by the annotation vncpassword.dev/rotate-at, at most once a minute for one object; a request that comes sooner waits. A password \
of your own Secret is sent once more. What is suspended waits until it is not. A VncPassword of a fleet that is named or selected \
rotates by itself, outside of the fleet's waves; --all asks the fleet in its place.

With --wait a line is written for each that is through, with the RequestId of the call, and for each that waits for something. Exit \
code: 0 all have new passwords, 1 some failed, 3 the time was up; what is under way then goes on.

Examples:
  kubectl vncpassword rotate db-1 --wait
  kubectl vncpassword rotate -l team=db --dry-run
  kubectl vncpassword rotate --all --wait --timeout 30m --yes
  kubectl vncpassword rotate fleet/nodes --wait --yes"
)]
pub struct RotateArgs {
    /// VncPasswords, or fleet/NAME for all of a ClusterVncPassword, in its waves
    #[arg(value_name = "NAME | fleet/NAME")]
    pub names: Vec<Named>,

    /// Those whose labels fit
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub selector: Option<String>,

    /// All of the namespace
    #[arg(long)]
    pub all: bool,

    /// With --all or -l: of all namespaces
    #[arg(long, short = 'A', conflicts_with = "names")]
    pub all_namespaces: bool,

    /// Wait until they are in effect
    #[arg(long)]
    pub wait: bool,

    /// How long to wait, such as 30m; 0: for ever
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub timeout: Duration,

    /// Only say what would be rotated
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask, however many there are
    #[arg(long, short)]
    pub yes: bool,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
pub async fn rotate(
    arguments: RotateArgs,
    connect: &ConnectArgs,
    console: &mut Console,
) -> Result<u8, Error> {
    let connection = connect.connect().await?;
    let chosen = choose::choose(&arguments, &connection).await?;
    if chosen.targets.is_empty() {
        let place = if arguments.all_namespaces { "" } else { " in this namespace; -A looks in all" };
        console.warn(&format!("There is nothing to rotate{place}."));
        return Ok(DONE);
    }
    if arguments.dry_run {
        return say_what_would_be(&chosen, console);
    }
    for warning in &chosen.warnings {
        console.warn(warning);
    }
    confirm(&chosen, &arguments, console)?;
    let home = chosen.home.as_deref();
    let clock = ServerClock::read(&connection.client, console.now).await;
    let stamped = stamp(chosen.targets, clock.now(), &connection, console).await;
    if stamped.asked.is_empty() {
        return Ok(FAILED);
    }
    if arguments.wait {
        return wait::wait(stamped, home, arguments.timeout, clock, &connection, console).await;
    }
    let line = |asked: &Asked| format!("{}: asked\n", asked.target.label(home));
    let text: String = stamped.asked.iter().map(line).collect();
    console.say(&text)?;
    Ok(if stamped.refused > 0 { FAILED } else { DONE })
}

fn say_what_would_be(chosen: &choose::Chosen, console: &mut Console) -> Result<u8, Error> {
    let now = (console.now)();
    let mut table = Table::new(choose::head());
    for target in &chosen.targets {
        table.row(target.cells(chosen.home.as_deref(), now));
    }
    console.say(&table.text(console.width))?;
    for warning in &chosen.warnings {
        console.warn(warning);
    }
    console.warn(&format!("{} would be rotated; nothing was changed.", passwords(chosen.passwords())));
    Ok(DONE)
}

fn passwords(count: usize) -> String {
    if count == 1 { "1 password".to_owned() } else { format!("{count} passwords") }
}

/// Many at once are asked about: each console opens with another password afterwards.
fn confirm(chosen: &choose::Chosen, arguments: &RotateArgs, console: &mut Console) -> Result<(), Error> {
    let count = chosen.passwords();
    if arguments.yes || count <= UNASKED {
        return Ok(());
    }
    if !console.asks {
        return Err(Error::Usage(format!(
            "{} would be rotated: more than {UNASKED} need --yes where nobody can be asked; --dry-run lists them",
            passwords(count)
        )));
    }
    write!(console.err, "Rotate {}? [y/N] ", passwords(count))
        .and_then(|()| console.err.flush())
        .map_err(Error::Output)?;
    let mut answer = String::new();
    console.input.read_line(&mut answer).map_err(Error::Output)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::Failed("nothing was rotated: it was not confirmed".to_owned())),
    }
}

// -------------------------------------------------------------------------------------------------------------- stamp

/// One that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which, as it was when it was asked.
    pub target: Target,
    /// The value of the annotation.
    pub at: Timestamp,
}

/// What came of asking.
#[derive(Debug, Default)]
pub struct Stamped {
    /// Those that were asked.
    pub asked: Vec<Asked>,
    /// How many the API server refused.
    pub refused: usize,
}

/// Writes the annotation of all; what is refused is told at once.
async fn stamp(
    targets: Vec<Target>,
    now: Timestamp,
    connection: &Connection,
    console: &mut Console,
) -> Stamped {
    let writes = targets.into_iter().map(|target| async move {
        let at = target.stamp(now);
        let written = match &target {
            Target::Object(object) => {
                let written = write(&seen_api(connection, object), object.as_ref(), at).await;
                written.map(|object| Target::Object(Box::new(object)))
            }
            Target::Fleet(fleet) => {
                let api: Api<ClusterVncPassword> = Api::all(connection.client.clone());
                let written = write(&api, fleet.as_ref(), at).await;
                written.map(|fleet| Target::Fleet(Box::new(fleet)))
            }
        };
        let doing = target.doing("patch");
        written.map(|target| Asked { target, at }).map_err(|error| Error::of(doing, error))
    });
    let mut results = stream::iter(writes).buffered(AT_ONCE);
    let mut stamped = Stamped::default();
    // One right that is missing is missing for all: told once, and counted.
    let mut reported: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(result) = results.next().await {
        match result {
            Ok(asked) => stamped.asked.push(asked),
            Err(error) => {
                stamped.refused += 1;
                let class = match &error {
                    Error::Forbidden { doing, .. } => format!("{} {:?}", doing.resource, doing.namespace),
                    other => other.to_string(),
                };
                let count = reported.entry(class).or_default();
                *count += 1;
                if *count == 1 {
                    console.warn(&format!("error: {error}"));
                }
            }
        }
    }
    let more: usize = reported.values().map(|count| count - 1).sum();
    if more > 0 {
        console.warn(&format!("error: and the same for {more} more"));
    }
    stamped
}

fn seen_api(connection: &Connection, object: &ObjectSummary) -> Api<ObjectSummary> {
    Api::namespaced(connection.client.clone(), &object.namespace().unwrap_or_default())
}

/// Naming the uid keeps it from an object that has taken the name since.
async fn write<K>(api: &Api<K>, object: &K, at: Timestamp) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({"metadata": {
        "uid": object.meta().uid,
        "annotations": {ROTATE_AT: at.strftime("%FT%TZ").to_string()},
    }});
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&object.name_any(), &parameters, &Patch::Merge(patch)).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::{Cli, Command};

    fn parse(line: &str) -> Result<super::RotateArgs, String> {
        let words = format!("kubectl-vncpassword rotate {line}");
        match Cli::try_parse_from(words.split_whitespace()).map_err(|error| error.to_string())?.command {
            Command::Rotate(arguments) => Ok(arguments),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn which_ones_must_be_said_in_one_way() {
        assert!(parse("db-1 db-2 fleet/nodes").is_ok_and(|arguments| arguments.names.len() == 3));
        assert!(parse("--all -A").is_ok());
        assert!(parse("-l team=db").is_ok());
        for wrong in ["", "db-1 --all", "--all -l a=b", "db-1 -A", "pod/x", "db-1 --timeout soon"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
