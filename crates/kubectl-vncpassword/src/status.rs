//! `status`: what is in effect, since when, what comes next, and why not.

mod fleet;
mod row;

use clap::Args;
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    runtime::watcher,
};

use super::{
    ConnectArgs, Connection, Console, Doing, Error,
    error::{DONE, FAILED},
    follow::{Heard, follow},
    output::{self, Output, Table},
    read::{self, Named, Scope},
    summary::ObjectSummary,
};
use vncpassword_core::api::{ClusterVncPassword, VncPassword};

/// What is said where there is no fleet.
const NO_FLEET: &str = "No ClusterVncPassword in this cluster.";

/// Flags of `status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Columns: IN EFFECT, whether the Secret's value opens the console, as far as the API can tell; SINCE; NEXT, what comes; WHY, what \
is in the way. A column that has no room on the terminal is left out; in a pipe nothing is.

Examples:
  kubectl vncpassword status                     this namespace
  kubectl vncpassword status -A                  all namespaces
  kubectl vncpassword status db-1 -o wide        one, with its instance and RequestId
  kubectl vncpassword status -l team=db --watch  some, and each change as it comes
  kubectl vncpassword status fleet/nodes         a fleet: progress, counts, newest failures
  kubectl vncpassword status --fleets            all fleets")]
pub struct StatusArgs {
    /// VncPasswords, or fleet/NAME for a ClusterVncPassword. Default: all of the namespace
    #[arg(value_name = "NAME | fleet/NAME")]
    pub names: Vec<Named>,

    /// Only those whose labels fit
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "names")]
    pub selector: Option<String>,

    /// Those of all namespaces
    #[arg(long, short = 'A', conflicts_with = "names")]
    pub all_namespaces: bool,

    /// The fleets (ClusterVncPasswords)
    #[arg(long, conflicts_with_all = ["names", "selector", "all_namespaces"])]
    pub fleets: bool,

    /// Go on, and write each change as it comes
    #[arg(long, short)]
    pub watch: bool,

    /// Form of the answer
    #[arg(
        long,
        short,
        value_name = "table|wide|json|yaml|name",
        default_value = "table",
        hide_possible_values = true
    )]
    pub output: Output,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
pub async fn status(
    arguments: StatusArgs,
    connect: &ConnectArgs,
    console: &mut Console,
) -> Result<u8, Error> {
    if arguments.watch && !arguments.output.is_table() {
        return Err(Error::Usage("--watch writes a table: leave -o away, or take -o wide".to_owned()));
    }
    let connection = connect.connect().await?;
    if !arguments.output.is_table() {
        return whole(&arguments, &connection, console).await;
    }
    if arguments.watch {
        return watch(&arguments, &connection, console).await;
    }
    if arguments.fleets {
        let fleets = read::fleets(&connection).await?;
        return list_fleets(&fleets, console);
    }
    if arguments.names.is_empty() {
        let scope = arguments.scope(&connection);
        let objects = read::all(&connection, &scope).await?;
        if objects.is_empty() {
            console.warn(&nothing(&scope));
            return Ok(DONE);
        }
        return list(&objects, &arguments, console);
    }
    named(arguments, &connection, console).await
}

impl StatusArgs {
    fn scope(&self, connection: &Connection) -> Scope {
        Scope {
            namespace: (!self.all_namespaces).then(|| connection.namespace.clone()),
            selector: self.selector.clone(),
        }
    }

    fn columns(&self) -> row::Columns {
        row::Columns { namespace: self.all_namespaces, wide: self.output == Output::Wide }
    }
}

/// What is said where there is nothing.
fn nothing(scope: &Scope) -> String {
    let place = match &scope.namespace {
        Some(namespace) => format!("in namespace {namespace}; -A looks in all"),
        None => "in this cluster".to_owned(),
    };
    match &scope.selector {
        Some(selector) => format!("No VncPassword with labels {selector} {place}."),
        None => format!("No VncPassword {place}."),
    }
}

// ------------------------------------------------------------------------------------------------------------- tables

fn list(objects: &[ObjectSummary], arguments: &StatusArgs, console: &mut Console) -> Result<u8, Error> {
    let columns = arguments.columns();
    let now = (console.now)();
    let mut table = Table::new(columns.head());
    for object in objects {
        table.marked(columns.cells(object, now), row::mark(object));
    }
    console.say(&table.text_for(console))?;
    // For people only: in a pipe each line is an object.
    if console.width.is_some() && objects.len() > 1 {
        console.warn(&row::summary(objects));
    }
    Ok(DONE)
}

fn list_fleets(fleets: &[ClusterVncPassword], console: &mut Console) -> Result<u8, Error> {
    if fleets.is_empty() {
        console.warn(NO_FLEET);
        return Ok(DONE);
    }
    let now = (console.now)();
    let mut table = Table::new(fleet::head());
    for of in fleets {
        table.row(fleet::cells(of, now));
    }
    console.say(&table.text(console.width))?;
    Ok(DONE)
}

/// Those of these names; one that cannot be had is told, and the others are shown.
async fn named(arguments: StatusArgs, connection: &Connection, console: &mut Console) -> Result<u8, Error> {
    let (objects, fleets) = split(&arguments.names);
    let mut code = DONE;
    let mut found = Vec::new();
    for object in read::by_name(connection, objects).await {
        keep(object, &mut found, &mut code, console);
    }
    if !found.is_empty() {
        list(&found, &arguments, console)?;
    }
    let mut first = found.is_empty();
    for name in fleets {
        let mut found = Vec::new();
        keep(read::fleet(connection, &name).await, &mut found, &mut code, console);
        for of in found {
            let text = fleet::page(&of, (console.now)(), console.width);
            console.say(&if first { text } else { format!("\n{text}") })?;
            first = false;
        }
    }
    Ok(code)
}

fn split(names: &[Named]) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut fleets) = (Vec::new(), Vec::new());
    for named in names {
        match named {
            Named::Object(name) => objects.push(name.clone()),
            Named::Fleet(name) => fleets.push(name.clone()),
        }
    }
    (objects, fleets)
}

fn keep<T>(found: Result<T, Error>, all: &mut Vec<T>, code: &mut u8, console: &mut Console) {
    match found {
        Ok(one) => all.push(one),
        Err(error) => {
            *code = FAILED;
            console.warn(&format!("error: {error}"));
        }
    }
}

// ------------------------------------------------------------------------------------------------------ whole objects

/// The objects as they are, for programs.
async fn whole(arguments: &StatusArgs, connection: &Connection, console: &mut Console) -> Result<u8, Error> {
    let single = arguments.names.len() == 1;
    let (objects_kind, fleets_kind) =
        (ApiResource::erase::<VncPassword>(&()), ApiResource::erase::<ClusterVncPassword>(&()));
    let fleets: Api<DynamicObject> = Api::all_with(connection.client.clone(), &fleets_kind);
    let mut found = Vec::new();
    let mut code = DONE;
    if arguments.fleets {
        let doing = || Doing::ours("list", "clustervncpasswords");
        found = read::pages(&fleets, ListParams::default(), doing).await?;
    } else if arguments.names.is_empty() {
        let scope = arguments.scope(connection);
        let api: Api<DynamicObject> = match &scope.namespace {
            Some(namespace) => Api::namespaced_with(connection.client.clone(), namespace, &objects_kind),
            None => Api::all_with(connection.client.clone(), &objects_kind),
        };
        found = read::pages(&api, scope.parameters(), || scope.doing("list")).await?;
        typed(&mut found, &objects_kind);
    }
    for named in &arguments.names {
        let namespace = &connection.namespace;
        let (api, doing, name) = match named {
            Named::Object(name) => {
                let api = Api::namespaced_with(connection.client.clone(), namespace, &objects_kind);
                (api, Doing::ours("get", "vncpasswords").within(namespace), name)
            }
            Named::Fleet(name) => (fleets.clone(), Doing::ours("get", "clustervncpasswords"), name),
        };
        let object = api.get(name).await.map_err(|error| Error::of(doing.to(name), error));
        keep(object, &mut found, &mut code, console);
    }
    if arguments.fleets {
        typed(&mut found, &fleets_kind);
    }
    if code == DONE || !found.is_empty() {
        console.say(&output::objects(arguments.output, found, single)?)?;
    }
    Ok(code)
}

/// The items of a list do not say what they are.
fn typed(objects: &mut [DynamicObject], kind: &ApiResource) {
    for object in objects {
        object.types.get_or_insert_with(|| kube::core::TypeMeta {
            api_version: kind.api_version.clone(),
            kind: kind.kind.clone(),
        });
    }
}

// -------------------------------------------------------------------------------------------------------------- watch

/// Follows until the program is ended.
async fn watch(arguments: &StatusArgs, connection: &Connection, console: &mut Console) -> Result<u8, Error> {
    match arguments.names.as_slice() {
        [] if arguments.fleets => watch_fleets(watcher::Config::default(), connection, console).await,
        [Named::Fleet(name)] => watch_fleet(name, connection, console).await,
        [] => watch_objects(arguments, &[], connection, console).await,
        names => {
            let (objects, fleets) = split(names);
            if !fleets.is_empty() {
                let text = "--watch follows VncPasswords or one fleet: name the fleet alone";
                return Err(Error::Usage(text.to_owned()));
            }
            watch_objects(arguments, &objects, connection, console).await
        }
    }
}

async fn watch_objects(
    arguments: &StatusArgs,
    names: &[String],
    connection: &Connection,
    console: &mut Console,
) -> Result<u8, Error> {
    let scope = arguments.scope(connection);
    let config = watcher::Config {
        label_selector: scope.selector.clone(),
        // One needs no right to list all.
        field_selector: if let [name] = names { Some(format!("metadata.name={name}")) } else { None },
        ..watcher::Config::default()
    };
    let mut heard =
        std::pin::pin!(follow::<ObjectSummary>(scope.api(connection), config, scope.doing("watch")));
    let mut shown = row::Shown::new(arguments.columns());
    while let Some(heard) = heard.next().await {
        let now = (console.now)();
        match heard? {
            Heard::Is(object) if names.is_empty() || names.contains(&object.name_any()) => {
                shown.is(&object, now);
            }
            Heard::Gone(object) => shown.gone(&object, now),
            Heard::Complete if shown.complete() => {
                for warning in lacking(names, &scope, &shown) {
                    console.warn(&warning);
                }
                if !names.is_empty() && shown.is_empty() {
                    return Ok(FAILED);
                }
            }
            Heard::Is(_) | Heard::Complete => {}
            Heard::Lost(why) => console.warn(&lost(&why)),
        }
        let text = shown.text(console.width);
        if !text.is_empty() {
            console.say(&text)?;
        }
    }
    Ok(DONE)
}

/// What the first list lacks.
fn lacking(names: &[String], scope: &Scope, shown: &row::Shown) -> Vec<String> {
    if names.is_empty() {
        return shown.is_empty().then(|| nothing(scope)).into_iter().collect();
    }
    let namespace = scope.namespace.as_deref().unwrap_or_default();
    let missing = names.iter().filter(|name| !shown.has(namespace, name));
    missing.map(|name| format!("error: {}", Error::NotFound(scope.doing("get").to(name)))).collect()
}

fn lost(why: &str) -> String {
    format!("the watch was lost and is taken up again: {why}")
}

async fn watch_fleets(
    config: watcher::Config,
    connection: &Connection,
    console: &mut Console,
) -> Result<u8, Error> {
    let api: Api<ClusterVncPassword> = Api::all(connection.client.clone());
    let mut all = config.field_selector.is_none();
    let mut heard = std::pin::pin!(follow(api, config, Doing::ours("watch", "clustervncpasswords")));
    let mut before = std::collections::BTreeMap::new();
    while let Some(heard) = heard.next().await {
        match heard? {
            Heard::Is(of) => {
                let line = fleet::line(&of, (console.now)());
                if before.insert(of.name_any(), line.clone()).as_ref() != Some(&line) {
                    console.say(&format!("{line}\n"))?;
                }
            }
            Heard::Gone(of) => {
                before.remove(&of.name_any());
                console.say(&format!("{}: deleted\n", of.name_any()))?;
            }
            Heard::Complete => {
                // Said once.
                if std::mem::take(&mut all) && before.is_empty() {
                    console.warn(NO_FLEET);
                }
            }
            Heard::Lost(why) => console.warn(&lost(&why)),
        }
    }
    Ok(DONE)
}

/// The page of the fleet, then a line for each change.
async fn watch_fleet(name: &str, connection: &Connection, console: &mut Console) -> Result<u8, Error> {
    let of = read::fleet(connection, name).await?;
    let page = fleet::page(&of, (console.now)(), console.width);
    console.say(&format!("{page}\n"))?;
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watch_fleets(config, connection, console).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::summary::tests::object_summary;

    #[test]
    fn a_watch_tells_what_the_first_list_lacks() {
        let scope = Scope { namespace: Some("prod".to_owned()), selector: None };
        let mut shown = row::Shown::new(row::Columns::default());
        let said = |names: &[&str], shown: &row::Shown| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            lacking(&names, &scope, shown)
        };
        assert_eq!(said(&[], &shown), ["No VncPassword in namespace prod; -A looks in all."]);
        let missing = "there is no VncPassword b in namespace prod; see kubectl vncpassword status -A";
        let missing = format!("error: {missing}");
        assert_eq!(said(&["b"], &shown), [missing.as_str()]);
        shown.is(&object_summary("a", &json!({}), &json!({})), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(said(&["a", "b"], &shown), [missing.as_str()], "the other is followed");
        assert!(said(&[], &shown).is_empty() && said(&["a"], &shown).is_empty());
    }
}
