//! Reads environment variables through a function: nothing in this room asks the process for them.

use std::{ffi::OsString, path::PathBuf};

/// The variables of the environment, as a function from name to value.
#[derive(Clone, Copy)]
pub struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

/// A variable's value is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not valid UTF-8")]
pub struct NotUtf8(pub &'static str);

impl<'a> Variables<'a> {
    /// In the program `&|name| std::env::var_os(name)`, in a test anything.
    #[must_use]
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self(lookup)
    }

    /// A value; as in the official SDKs an empty one counts as not set.
    pub(crate) fn text(self, name: &'static str) -> Result<Option<String>, NotUtf8> {
        match self.raw(name).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(NotUtf8(name)),
            None => Ok(None),
        }
    }

    /// Whether it says `true`, in whatever case, as the official SDKs read it.
    pub(crate) fn flag(self, name: &str) -> bool {
        self.raw(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The path of a file, which need not be text.
    pub(crate) fn path(self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    /// A file in the home directory, where there is one.
    pub(crate) fn at_home(self, file: &str) -> Option<PathBuf> {
        self.path("HOME").map(|home| home.join(file))
    }

    fn raw(self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}
