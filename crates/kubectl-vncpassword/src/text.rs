//! Sentences for people: paragraphs with the commands that go with them, lines of a given width, lengths of time. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::{Error, ages, output};

/// Width of lines in a pipe.
pub const USUAL_WIDTH: usize = 100;

/// Forms of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
}

/// Any report in a form for programs; `None`: it is wanted as text.
pub fn structured(report: &impl Serialize, form: Form) -> Result<Option<String>, Error> {
    let form = match form {
        Form::Text => return Ok(None),
        Form::Json => output::Output::Json,
        Form::Yaml => output::Output::Yaml,
    };
    let value = serde_json::to_value(report)
        .map_err(|error| Error::Failed(format!("the answer cannot be written: {error}")))?;
    output::value_in(form, &value).map(Some)
}

/// Paragraphs in that form, for a terminal of that width or for a pipe.
pub fn written(paragraphs: &[Paragraph], form: Form, width: Option<usize>) -> Result<String, Error> {
    let text = structured(&paragraphs, form)?;
    Ok(text.unwrap_or_else(|| render(paragraphs, width.unwrap_or(USUAL_WIDTH))))
}

/// What is so, or what to do, and the commands that go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Paragraph {
    /// What it is about.
    pub about: Topic,
    /// One or more sentences.
    pub text: String,
    /// Commands to copy, one a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// What a paragraph is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Topic {
    /// What the object is for.
    Object,
    /// How it stands.
    State,
    /// What else holds besides.
    Condition,
    /// What failed, and when it is tried again.
    Retry,
    /// What the Secret holds.
    Secret,
    /// Who else names the instance.
    Owner,
    /// When it rotates next, and what it waits for.
    Schedule,
    /// Members of a fleet that failed, Nodes that are skipped.
    Members,
    /// What happened lately.
    Events,
    /// What to do.
    Remedy,
}

impl Paragraph {
    /// Without commands.
    pub fn new(about: Topic, text: impl Into<String>) -> Self {
        Self { about, text: text.into(), commands: Vec::new() }
    }

    /// With these commands.
    pub fn with(self, commands: Vec<String>) -> Self {
        Self { commands, ..self }
    }
}

/// Paragraphs as text, with a line between them. Commands stand on lines of their own, however long: they are to be
/// copied.
pub fn render(paragraphs: &[Paragraph], width: usize) -> String {
    let blocks: Vec<String> = paragraphs.iter().map(|paragraph| block(paragraph, width)).collect();
    blocks.join("\n")
}

fn block(paragraph: &Paragraph, width: usize) -> String {
    // Lines that the text itself breaks stay broken.
    let mut block: String = paragraph.text.lines().map(|line| wrap(line, width, "")).collect();
    for command in &paragraph.commands {
        let _ = writeln!(block, "  {command}");
    }
    block
}

/// One or more lines of at most that width, where words allow it; those after the first begin with `indent`.
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        if length == 0 {
            lines.push_str(word);
            length = letters;
        } else if length + 1 + letters <= width {
            lines.push(' ');
            lines.push_str(word);
            length += 1 + letters;
        } else {
            lines.push('\n');
            lines.push_str(indent);
            lines.push_str(word);
            length = indent.chars().count() + letters;
        }
    }
    lines.push('\n');
    lines
}

/// How long ago, or in how long: `3m ago`, `in 2h`, `now`.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let length = ages::span(seconds.saturating_abs());
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {length}"),
        _ => format!("{length} ago"),
    }
}

/// A time as the status shows it, and how far away that is: `2026-01-02T03:04:05Z (in 2h)`.
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", at.strftime("%FT%TZ"), relative(at, now))
}

/// A number and what is counted: `1 instance`, `2 instances`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A sentence: the text with a capital letter before it and a full stop behind it.
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    // What begins with a name keeps it as it is: spec.rotation, vncpassword.dev/rotate-at.
    let name = text
        .split_whitespace()
        .next()
        .is_some_and(|word| word.trim_end_matches(['.', ':', ',']).contains(['.', '/', '=']));
    let begin = if name { first.to_string() } else { first.to_uppercase().to_string() };
    let end = if text.ends_with(['.', '!', '?', ':']) { "" } else { "." };
    format!("{begin}{}{end}", letters.as_str())
}

/// A word for a shell, in quotes where it needs them: what comes from an object must not become a command of its own.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Text from elsewhere, such as a message of the API server, without what would move a terminal's cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let at = |text: &str| moment(text.parse().unwrap(), now);
        assert_eq!(at("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05Z (now)");
        assert_eq!(at("2026-01-02T03:06:05Z"), "2026-01-02T03:06:05Z (in 2m)");
        assert_eq!(at("2026-01-01T03:04:05Z"), "2026-01-01T03:04:05Z (24h ago)");
    }

    #[test]
    fn lines_break_between_words_and_commands_do_not() {
        let paragraph = Paragraph::new(Topic::Remedy, "one two three four")
            .with(vec!["kubectl get vncpw --all-namespaces".to_owned()]);
        let text = "one two\nthree\nfour\n  kubectl get vncpw --all-namespaces\n";
        assert_eq!(render(std::slice::from_ref(&paragraph), 8), text);
        assert_eq!(
            render(&[Paragraph::new(Topic::State, "a"), Paragraph::new(Topic::State, "b")], 80),
            "a\n\nb\n"
        );
        assert_eq!(wrap("a b", 1, "  "), "a\n  b\n");
    }

    #[test]
    fn sentences_begin_and_end_as_sentences_do() {
        assert_eq!(sentence("the Secret is gone"), "The Secret is gone.");
        assert_eq!(sentence("spec.suspend is set: nothing is done"), "spec.suspend is set: nothing is done.");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn a_word_of_an_object_stays_one_word_of_the_shell() {
        assert_eq!(quoted("db-console"), "db-console");
        assert_eq!(quoted("a; rm -rf /"), "'a; rm -rf /'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(printable("a\u{1b}[31mb"), "a [31mb");
    }
}
