//! What holds the rooms of the code apart, and the papers true to the code. Reads files, needs no cluster.
//!
//! After a change of flags: `UPDATE=1 cargo test --test architecture` writes the tables in README.md and docs/identity.md anew.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may end it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, CommandFactory};
use kube::CustomResourceExt;
use vncpassword_core::api::VncPassword;
use vncpassword_emulator as emulator;
use vncpassword_operator::{commands::RamPolicyArgs, settings::RunArgs};

#[test]
fn each_room_knows_only_the_rooms_below_it() {
    // From the bottom to the top: the room, and the rooms of the operator that it may use. `commands` is above them all.
    let rooms: &[(&str, &[&str])] = &[
        ("runtime", &[]),
        ("settings", &["runtime"]),
        ("store", &["runtime"]),
        ("cloud", &["runtime", "settings", "store"]),
        ("events", &["runtime", "store"]),
        ("context", &["runtime", "settings", "store", "cloud", "events"]),
        ("snapshot", &["runtime", "store", "context"]),
        ("reconcile", &["runtime", "store", "cloud", "context"]),
        ("watches", &["runtime", "store", "cloud", "context"]),
    ];
    for (room, known) in rooms {
        let path = format!("src/{room}");
        let path = if root().join(&path).is_dir() { path } else { path + ".rs" };
        let mut used = rooms_used_in(&path);
        used.retain(|other, _| other != room && !known.contains(&other.as_str()));
        assert!(used.is_empty(), "{room} may use {known:?}, and also uses {used:?}");
    }
}

#[test]
fn the_rooms_that_code_uses_are_found() {
    let source = "use crate::{\n    api::{self, Reason},\n    ecs::Region,\n    settings,\n};\nfn f() { crate::cloud::g() }\nuse crate::store;";
    let rooms: Vec<_> = rooms_used(source).into_iter().collect();
    assert_eq!(rooms, ["api", "cloud", "ecs", "settings", "store"]);
}

#[test]
fn only_the_programs_read_the_environment() {
    let words = ["std::env", "env::var", "env::var_os", "env::vars", "env::args"];
    for package in packages() {
        let mut found = found_in(&format!("{package}src"), &words);
        found.retain(|place| !place.starts_with(&format!("{package}src/main.rs:")));
        assert_eq!(found, NOTHING);
    }
}

#[test]
fn make_test_runs_every_test_program() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let listed =
        makefile.lines().find_map(|line| line.strip_prefix("TESTS := ")).expect("no TESTS in Makefile");
    let listed: BTreeSet<String> =
        listed.split(' ').map(ToOwned::to_owned).chain(["e2e".to_owned()]).collect();
    let mut programs = BTreeSet::new();
    for package in packages() {
        let Ok(entries) = fs::read_dir(root().join(format!("{package}tests"))) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.join("main.rs").is_file() || path.extension().is_some_and(|extension| extension == "rs") {
                programs.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(listed, programs);
}

#[test]
fn every_file_opens_with_what_lives_there() {
    for root in ["src", "crates", "tests", "benches"] {
        for file in rust_files(root) {
            let first = fs::read_to_string(&file).unwrap().lines().next().unwrap_or_default().to_owned();
            assert!(first.starts_with("//! "), "{} opens with {first:?}", relative(&file));
        }
    }
}

#[test]
fn the_search_sees_code_and_nothing_else() {
    let source = r#"
//! async in a comment
use std::time::Instant; // async beside code
const URL: &str = "http://tokio";
fn operand() -> Instant { Instant::now() }
#[cfg(test)]
mod tests;
#[cfg(test)]
mod more {
    async fn one() {
        kube();
    }
}
async fn two() {}
"#;
    let code: Vec<usize> = code_lines(source).map(|(number, _)| number).collect();
    assert_eq!(code, [1, 3, 4, 5, 14]);
    let lines = |word| -> Vec<usize> {
        code_lines(source).filter(|(_, line)| holds_word(line, word)).map(|(number, _)| number).collect()
    };
    assert_eq!(lines("async"), [14]);
    assert_eq!(lines("Instant"), [3, 5]);
    assert_eq!(lines("::now"), [5]);
    assert_eq!(lines("tokio"), [4]);
    assert_eq!(lines("kube"), [] as [usize; 0]);
    assert_eq!(lines("rand"), [] as [usize; 0], "not as a part of another word");
}

#[test]
fn readme_lists_the_flags() {
    lists_the_flags("README.md", &RunArgs::augment_args(clap::Command::new("run")));
}

#[test]
fn the_paper_on_identity_lists_the_flags_of_ram_policy() {
    lists_the_flags("docs/identity.md", &RamPolicyArgs::augment_args(clap::Command::new("ram-policy")));
}

#[test]
fn the_emulators_paper_names_its_flags() {
    let paper = fs::read_to_string(root().join("docs/emulator.md")).unwrap();
    let command = emulator::cli::Args::command();
    let mut flags = 0;
    for argument in arguments(&command) {
        let (flag, environment) = (argument.get_long().unwrap(), environment(argument).unwrap());
        let row = format!("| `--{flag}` (`{environment}`)");
        assert!(paper.contains(&row), "docs/emulator.md has no row {row:?}");
        if let Some(default) = defaults(argument) {
            assert!(paper.contains(&format!("`{default}`")), "docs/emulator.md does not name {default:?}");
        }
        flags += 1;
    }
    assert_eq!(paper.matches("\n| `--").count(), flags, "docs/emulator.md names a flag that is none");
}

#[test]
fn the_reference_names_every_condition_and_no_other() {
    let crd = serde_json::to_value(VncPassword::crd()).unwrap();
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/conditions/items/\
                  properties/type/enum";
    let types = crd.pointer(schema).and_then(|types| types.as_array()).expect("no types of conditions");
    let types: BTreeSet<String> = types.iter().map(|type_| type_.as_str().unwrap().to_owned()).collect();
    let named = table("Conditions").into_iter().map(|row| word(&row[0])).filter(|word| !word.is_empty());
    assert_eq!(named.collect::<BTreeSet<_>>(), types);
}

#[test]
fn the_reference_names_every_reason_once_and_no_other() {
    let mut reasons = reasons();
    // Stands for what a newer version wrote: this one never says it.
    assert!(reasons.remove("Unrecognized"));
    let rows = table("Reasons");
    let named: BTreeSet<String> = rows.iter().map(|row| word(&row[0])).collect();
    assert_eq!(named, reasons);
    assert_eq!(rows.len(), named.len(), "a reason stands there twice");
}

#[test]
fn the_reference_puts_each_reason_beside_a_condition() {
    let types: BTreeSet<String> = table("Conditions").iter().map(|row| word(&row[0])).collect();
    for row in table("Reasons") {
        let beside = word(&row[1]);
        // The reasons that all is well have Ready to themselves, and on Ready they all stand.
        let well = ["Applied", "NothingSelected"].contains(&word(&row[0]).as_str());
        assert_eq!(beside.is_empty(), well, "{row:?}");
        assert!(types.contains(&beside) && beside != "Ready", "{row:?}");
    }
}

#[test]
fn the_core_brings_no_runtime_and_no_network() {
    let brought = dependencies_of("vncpassword-core", "normal,build,dev");
    for unwanted in ["hyper", "kube", "kube-client", "kube-runtime", "mio", "reqwest", "tokio", "tower"] {
        assert!(!brought.contains(unwanted), "vncpassword-core or its tests bring {unwanted}");
    }
    assert!(brought.contains("kube-core"), "{brought:?}");
}

#[test]
fn the_packages_below_the_operator_do_not_use_it() {
    let own = ["ecs-emulator", "kubectl-vncpassword", "test-support", "vncpassword-operator"];
    for package in
        ["vncpassword-core", "vncpassword-alicloud", "vncpassword-kube-client", "kubectl-vncpassword"]
    {
        let brought = dependencies_of(package, "normal");
        let found: Vec<_> = own.iter().filter(|name| **name != package && brought.contains(**name)).collect();
        assert!(found.is_empty(), "{package} uses {found:?}");
    }
}

/// The packages that this one brings by dependencies of these kinds.
fn dependencies_of(package: &str, kinds: &str) -> BTreeSet<String> {
    let arguments =
        ["tree", "--locked", "--offline", "--prefix", "none", "--package", package, "--edges", kinds];
    let output = Command::new(env!("CARGO")).current_dir(root()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect()
}

#[test]
fn there_is_one_provider_of_tls_and_of_cryptography() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let packages = || lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let count = |name: &str| packages().filter(|package| *package == name).count();
    for wanted in ["ring", "rustls"] {
        assert_eq!(count(wanted), 1, "{wanted} in Cargo.lock");
    }
    for unwanted in [
        "aws-lc-fips-sys",
        "aws-lc-rs",
        "aws-lc-sys",
        "boring",
        "boring-sys",
        "mbedtls",
        "native-tls",
        "openssl",
        "openssl-sys",
        "wolfssl",
    ] {
        assert_eq!(count(unwanted), 0, "{unwanted} in Cargo.lock: find out whose feature brings it in");
    }
}

// ------------------------------------------------------------------------------------------------------ source files

const NOTHING: Vec<String> = Vec::new();

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directories of the packages that are shipped or stand for the cloud, each with a slash at the end.
fn packages() -> Vec<String> {
    let crates = fs::read_dir(root().join("crates")).unwrap();
    let crates = crates.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let crates = crates.filter(|name| name != "test-support").map(|name| format!("crates/{name}/"));
    std::iter::once(String::new()).chain(crates).collect()
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

/// All Rust files under a directory of the repository, or that file itself.
fn rust_files(under: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if root().join(under).is_file() {
        return vec![root().join(under)];
    }
    let mut directories = vec![root().join(under)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{under} holds no Rust file");
    files
}

/// The modules of the crate that this code uses, each with a file that uses it; tests are left out.
fn rooms_used_in(under: &str) -> BTreeMap<String, String> {
    let mut used = BTreeMap::new();
    for (file, source) in code_under(under) {
        for room in rooms_used(&source) {
            used.insert(room, relative(&file));
        }
    }
    used
}

/// The same of one piece of code: `crate::room`, or `crate::{room, ...}`.
fn rooms_used(source: &str) -> BTreeSet<String> {
    let word =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut rooms = BTreeSet::new();
    for (at, path) in source.match_indices("crate::") {
        let rest = &source[at + path.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            rooms.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => item = true,
                _ if item && c.is_alphanumeric() => {
                    rooms.insert(word(&list[at..]));
                    item = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

/// Where any of these words stands in the code under a directory; tests and comments are left out.
fn found_in(under: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, source) in sources_under(under) {
        for (number, line) in code_lines(&source) {
            for word in words.iter().filter(|word| holds_word(line, word)) {
                found.push(format!("{}:{number}: {word}: {}", relative(&file), line.trim()));
            }
        }
    }
    found
}

/// The files under a directory that are not tests, with their text.
fn sources_under(under: &str) -> Vec<(PathBuf, String)> {
    let files = rust_files(under);
    let tests: BTreeSet<PathBuf> = files.iter().flat_map(|file| test_modules(file)).collect();
    let files = files.into_iter().filter(|file| !tests.contains(file));
    files.map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

/// The same, with code alone.
fn code_under(under: &str) -> Vec<(PathBuf, String)> {
    let code = |source: &str| code_lines(source).map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    sources_under(under).into_iter().map(|(file, source)| (file, code(&source))).collect()
}

/// The files that a file declares under `#[cfg(test)]`.
fn test_modules(file: &Path) -> Vec<PathBuf> {
    let source = fs::read_to_string(file).unwrap();
    let directory = match file.file_name().unwrap().to_str().unwrap() {
        "lib.rs" | "main.rs" | "mod.rs" => file.parent().unwrap().to_owned(),
        _ => file.with_extension(""),
    };
    let pairs = source.lines().zip(source.lines().skip(1));
    let declared = pairs.filter(|(first, _)| *first == "#[cfg(test)]");
    let names = declared.filter_map(|(_, second)| second.strip_prefix("mod ")?.strip_suffix(';'));
    names.map(|name| directory.join(name).with_extension("rs")).collect()
}

/// Lines of code with their numbers: no comments, and nothing under `#[cfg(test)]`. It relies on rustfmt, which puts
/// the end of an item under its beginning.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut skipped = None;
    let mut code = Vec::new();
    for (number, line) in (1..).zip(source.lines()) {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim_start();
        if text == "#[cfg(test)]" {
            skipped = Some(indent);
        } else if let Some(outer) = skipped {
            if indent == outer && (text.ends_with('}') || text.ends_with(';')) {
                skipped = None;
            }
        } else if !text.starts_with("//") {
            code.push((number, line.split_once(" // ").map_or(line, |(line, _)| line)));
        }
    }
    code.into_iter()
}

/// Whether the word stands in the line, not as a part of a longer one.
fn holds_word(line: &str, word: &str) -> bool {
    let part = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (first, last) = (part(word.chars().next()), part(word.chars().next_back()));
    line.match_indices(word).any(|(at, _)| {
        let before = part(line[..at].chars().next_back());
        let behind = part(line[at + word.len()..].chars().next());
        !(first && before || last && behind)
    })
}

/// The words that `Reason` can be in a status, as the code spells them.
fn reasons() -> BTreeSet<String> {
    let source = fs::read_to_string(root().join("crates/core/src/api/conditions.rs")).unwrap();
    let (_, body) = source.split_once("impl Reason {").expect("no impl of Reason");
    let (body, _) = body.split_once("\n}\n").expect("no end of Reason");
    let rows = body.lines().filter_map(|line| line.trim().strip_prefix("Self::"));
    let words = rows.map(|row| row.split_once(" => \"").unwrap().1.trim_end_matches("\","));
    let words: BTreeSet<String> = words.map(ToOwned::to_owned).collect();
    assert!(words.contains("Applied"), "{words:?}");
    words
}

// ------------------------------------------------------------------------------------------------------------- papers

/// The cells of the first table under a heading of docs/reference.md, without its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let reference = fs::read_to_string(root().join("docs/reference.md")).unwrap();
    let lines = reference.lines().skip_while(|line| *line != format!("## {heading}"));
    let rows = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows = rows.skip(2).map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().into()));
    let rows: Vec<Vec<String>> = rows.map(Iterator::collect).collect();
    assert!(!rows.is_empty(), "docs/reference.md has no table under {heading}");
    rows
}

/// The word in a cell, without the marks of code.
fn word(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// Holds the table between the marks in a paper to the flags of the command, or writes it anew.
fn lists_the_flags(paper: &str, command: &clap::Command) {
    let path = root().join(paper);
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- flags:begin -->\n", "<!-- flags:end -->");
    let (before, rest) = text.split_once(begin).expect("the paper has no <!-- flags:begin -->");
    let (table, after) = rest.split_once(end).expect("the paper has no <!-- flags:end -->");
    let wanted = flags(command);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    let advice = "run UPDATE=1 cargo test --test architecture";
    assert_eq!(table, wanted, "the flags in {paper} are not those of the program; {advice}");
}

/// The flags of a command as a table.
fn flags(command: &clap::Command) -> String {
    let head = ["| flag | environment | default | meaning |".to_owned(), "|---|---|---|---|".to_owned()];
    let rows = arguments(command).map(|argument| {
        let code = |text: Option<String>| text.map_or_else(|| "none".to_owned(), |text| format!("`{text}`"));
        let long = argument.get_long().unwrap();
        let values = argument.get_possible_values();
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
        let flag = match argument.get_value_names() {
            Some(_) if argument.get_action().takes_values() && !values.is_empty() => {
                format!("`--{long}` {}", values.join(" or "))
            }
            Some([name, ..]) if argument.get_action().takes_values() => format!("`--{long} {name}`"),
            _ => format!("`--{long}`"),
        };
        let cells = [
            flag,
            code(environment(argument)),
            code(defaults(argument)),
            argument.get_help().map(ToString::to_string).expect("a flag without help"),
        ];
        format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
    });
    head.into_iter().chain(rows).map(|line| line + "\n").collect()
}

fn arguments(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
}

fn environment(argument: &clap::Arg) -> Option<String> {
    argument.get_env().map(|name| name.to_str().unwrap().to_owned())
}

fn defaults(argument: &clap::Arg) -> Option<String> {
    if !argument.get_action().takes_values() {
        return Some("off".to_owned());
    }
    let values = argument.get_default_values();
    let values: Vec<&str> = values.iter().map(|value| value.to_str().unwrap()).collect();
    (!values.is_empty()).then(|| values.join(","))
}
