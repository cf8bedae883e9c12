//! Environment variables, read through a function, so that tests can replace the environment.

use std::{ffi::OsString, path::PathBuf};

/// The environment, as a function from name to value.
#[derive(Clone, Copy)]
pub struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

/// The value of a variable is not valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not valid UTF-8")]
pub struct NotUtf8(pub &'static str);

impl<'a> Variables<'a> {
    /// Reads through `lookup`: in the program `&|name| std::env::var_os(name)`.
    #[must_use]
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self(lookup)
    }

    /// The value of a variable. As in the official SDKs, an empty one counts as not set.
    pub(crate) fn text(self, name: &'static str) -> Result<Option<String>, NotUtf8> {
        match self.raw(name).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(NotUtf8(name)),
            None => Ok(None),
        }
    }

    /// Whether the value is `true` in any case, as in the official SDKs.
    pub(crate) fn flag(self, name: &str) -> bool {
        self.raw(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The value as a path, which need not be UTF-8.
    pub(crate) fn path(self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    /// The path of a file in the home directory, if `HOME` is set.
    pub(crate) fn at_home(self, file: &str) -> Option<PathBuf> {
        self.path("HOME").map(|home| home.join(file))
    }

    fn raw(self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}
