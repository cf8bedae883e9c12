//! What could be found out, and what could not: a right that is missing is no failure, and is said.

use super::{Error, text::printable};

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched<T> {
    /// This.
    Yes(T),
    /// The caller has no right to see it: what the right is, such as `get on secrets`.
    Denied(String),
    /// It could not be asked: why.
    Failed(String),
}

impl<T> Fetched<T> {
    /// An answer; `right` is what it takes.
    pub fn of(answer: Result<T, Error>, right: &str) -> Self {
        match answer {
            Ok(value) => Self::Yes(value),
            Err(Error::Forbidden { .. }) => Self::Denied(right.to_owned()),
            Err(error) => Self::Failed(printable(&error.to_string())),
        }
    }

    /// The value, where there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Yes(value) => Some(value),
            Self::Denied(_) | Self::Failed(_) => None,
        }
    }

    /// Why there is none.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Yes(_) => None,
            Self::Denied(right) => Some(format!("you may not {right}")),
            Self::Failed(problem) => Some(problem.clone()),
        }
    }

    /// Something made of the value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Fetched<U> {
        match self {
            Self::Yes(value) => Fetched::Yes(make(value)),
            Self::Denied(right) => Fetched::Denied(right),
            Self::Failed(problem) => Fetched::Failed(problem),
        }
    }
}
