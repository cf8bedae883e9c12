//! `doctor`: whether everything is there that the passwords need, each finding with its remedy. What is read is in
//! `gather`, what comes of it is pure: `schema`, `findings`.

mod findings;
mod gather;
mod rights;
mod schema;
mod snapshot;
mod whoami;

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use super::{
    ConnectArgs, Console, Error,
    error::{DONE, FAILED},
    text::{Form, USUAL_WIDTH, structured, wrap},
};
use findings::{Finding, Level, findings, is_wrong};

/// Flags of `doctor`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Ends with 1 where something is wrong (FAIL). What is worth a look (warn), and
what cannot be told for want of a right (unknown), does not count.

Examples:
  kubectl vncpassword doctor                                  everything
  kubectl vncpassword doctor --operator-namespace vnc         where only that namespace may be seen
  kubectl vncpassword doctor -o json | jq '.findings[]'       for a program")]
pub struct DoctorArgs {
    /// Form of the answer
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    pub output: Form,

    /// Namespace of the operator. Default: where it is found
    #[arg(long, value_name = "NAMESPACE")]
    pub operator_namespace: Option<String>,
}

/// All that is told.
#[derive(Serialize)]
struct Report {
    /// Whether something is wrong.
    wrong: bool,
    findings: Vec<Finding>,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
pub async fn doctor(
    arguments: DoctorArgs,
    connect: &ConnectArgs,
    console: &mut Console,
) -> Result<u8, Error> {
    let DoctorArgs { output, operator_namespace } = arguments;
    let connection = connect.connect().await?;
    let snapshot = gather::snapshot(&connection, operator_namespace.as_deref(), console.now).await?;
    let findings = findings(&snapshot);
    let report = Report { wrong: is_wrong(&findings), findings };
    let text = match structured(&report, output)? {
        Some(text) => text,
        None => text(&report, console.width.unwrap_or(USUAL_WIDTH), console.colored()),
    };
    console.say(&text)?;
    Ok(if report.wrong { FAILED } else { DONE })
}

/// Width of the columns before the sentence.
const MARGIN: usize = 19;

/// A line or more a finding, and its remedy below. Colours say nothing that the words do not.
fn text(report: &Report, width: usize, colored: bool) -> String {
    let mut text = String::new();
    for Finding { check, level, text: sentence, remedy } in &report.findings {
        let word = level.as_str();
        let padded = format!("{word:<7}");
        let shown = if colored { format!("{}{padded}\u{1b}[0m", colour(*level)) } else { padded };
        let indent = " ".repeat(MARGIN);
        let body = wrap(sentence, width.saturating_sub(MARGIN).max(20), "");
        let body: Vec<&str> = body.lines().collect();
        let _ = writeln!(text, "{shown}  {:<9} {}", check.as_str(), body.join(&format!("\n{indent}")));
        for command in remedy {
            let _ = writeln!(text, "{indent}$ {command}");
        }
    }
    let hidden = report.findings.iter().any(|finding| finding.level == Level::Unknown);
    text.push_str(match (report.wrong, hidden) {
        (true, _) => "\nSomething is wrong.\n",
        (false, true) => "\nNothing is wrong, as far as it can be told.\n",
        (false, false) => "\nNothing is wrong.\n",
    });
    text
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Ok => "\u{1b}[32m",
        Level::Warn => "\u{1b}[33m",
        Level::Fail => "\u{1b}[31m",
        Level::Unknown => "\u{1b}[36m",
    }
}

#[cfg(test)]
mod tests {
    use super::{findings::Check, *};

    fn report() -> Report {
        let finding = |check, level, text: &str, remedy: &[&str]| Finding {
            check,
            level,
            text: text.to_owned(),
            remedy: remedy.iter().map(ToString::to_string).collect(),
        };
        let findings = vec![
            finding(Check::Kinds, Level::Ok, "vncpasswords v1alpha1 is of this version", &[]),
            finding(Check::Leftovers, Level::Fail, "one two three four five", &["kubectl get secrets"]),
        ];
        Report { wrong: true, findings }
    }

    #[test]
    fn each_finding_is_a_line_and_its_remedy_stands_below() {
        let expected = "\
ok       kinds     vncpasswords v1alpha1 is
                   of this version
FAIL     leftovers one two three four five
                   $ kubectl get secrets

Something is wrong.
";
        assert_eq!(text(&report(), 44, false), expected);
    }

    #[test]
    fn colours_add_nothing_to_the_words() {
        let colored = text(&report(), 80, true);
        assert!(colored.contains("\u{1b}[31mFAIL   \u{1b}[0m"));
        let mut plain = colored;
        for code in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, text(&report(), 80, false));
    }
}
