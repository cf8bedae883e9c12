//! The part of the INI format that the credentials file uses.

use super::Secret;

/// The sections of a file.
pub(super) struct Ini(Vec<Section>);

/// One section.
pub(super) struct Section {
    name: String,
    values: Vec<(String, Secret)>,
}

/// A line that is neither a section, nor a value, nor a comment. Contains the line number and not the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is neither [section] nor name = value")]
pub(super) struct InvalidLine(usize);

impl Ini {
    /// Parses a whole file. Ignores whitespace around names and values. A comment is a line that begins with
    /// `#` or `;`, or the part of a line from a `#` that follows whitespace. (The SDK for Python cuts values
    /// at any `#`; no access key contains one.)
    pub(super) fn parse(text: &str) -> Result<Self, InvalidLine> {
        let mut sections: Vec<Section> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let invalid = InvalidLine(number);
            if let Some(rest) = line.strip_prefix('[') {
                let name = uncommented(rest).strip_suffix(']').ok_or(invalid)?.trim().to_owned();
                sections.push(Section { name, values: Vec::new() });
                continue;
            }
            let (name, value) = line.split_once('=').ok_or(invalid)?;
            let (name, value) = (name.trim_end().to_ascii_lowercase(), uncommented(value.trim_start()));
            let section = sections.last_mut().filter(|_| !name.is_empty()).ok_or(invalid)?;
            section.values.push((name, Secret::from(value)));
        }
        Ok(Self(sections))
    }

    /// The section of this name; the first if there are several.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.0.iter().find(|section| section.name == name)
    }
}

impl Section {
    /// The value of this name, if it is not empty; the last if there are several.
    pub(super) fn secret(&self, name: &str) -> Option<&Secret> {
        let values = self.values.iter().rev().find(|(known, _)| known == name);
        values.map(|(_, value)| value).filter(|value| !value.expose().is_empty())
    }

    /// The same as text, for values that are no secret.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.secret(name).map(Secret::expose)
    }
}

/// The text without a comment at its end.
fn uncommented(text: &str) -> &str {
    let comment = text.match_indices('#').find(|(at, _)| text[..*at].ends_with([' ', '\t']) || *at == 0);
    comment.map_or(text, |(at, _)| &text[..at]).trim_end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes values as a section, the inverse of [`Ini::parse`].
    fn section(name: &str, values: &[(&str, &str)]) -> String {
        let lines = values.iter().map(|(name, value)| format!("{name} = {value}\n"));
        format!("[{name}]\n{}", lines.collect::<String>())
    }

    #[test]
    fn sections_and_values_are_read() {
        let text = "; a comment\n# another\r\n\n[default] # this one\r\n type=access_key\nACCESS_KEY_ID = LTAI \n\
                    access_key_secret = a=b#c # a key\nempty =\nempty2 = # none\n[ other ]\ntype = sts\ntype = twice\n";
        let ini = Ini::parse(text).unwrap();
        let value = |section: &str, name| ini.section(section).and_then(|section| section.text(name));
        assert_eq!(value("default", "type"), Some("access_key"));
        assert_eq!(value("default", "access_key_id"), Some("LTAI"));
        assert_eq!(value("default", "access_key_secret"), Some("a=b#c"));
        assert_eq!(value("default", "empty"), None);
        assert_eq!(value("default", "empty2"), None);
        assert_eq!(value("other", "type"), Some("twice"));
        assert_eq!(value("third", "type"), None);
    }

    #[test]
    fn another_line_is_named_by_its_number() {
        for (text, line) in [
            ("[default]\nhello", 2),
            ("[default", 1),
            ("type = before any section", 1),
            ("\n[default]\n= x", 3),
            ("{\"json\": 1}", 1),
        ] {
            assert_eq!(Ini::parse(text).err(), Some(InvalidLine(line)), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[\\[\\]=#; \ta-zé\r\n\\PC]{0,60}") {
            let _ = Ini::parse(&text);
        }

        #[test]
        fn what_was_written_is_read(
            name in "[a-z][a-z0-9 ]{0,6}[a-z]", values in proptest::collection::vec(("[a-z_]{1,9}", "[!-~&&[^#]]{1,20}"), 1..5),
        ) {
            let pairs: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let ini = Ini::parse(&section(&name, &pairs)).unwrap();
            for (key, _) in &values {
                let last = values.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
                prop_assert_eq!(ini.section(&name).unwrap().text(key), last);
            }
        }
    }
}
