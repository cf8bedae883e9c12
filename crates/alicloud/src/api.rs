//! What the API's actions answer, as types. Only what the operator uses; see `wire` for the JSON.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

/// Whether a text has 1 to `longest` characters, all of them ASCII letters, digits, or in `others`.
///
/// A server's text that reaches a log, a status or an event has such a form, or is not shown. It is never
/// repaired: a repaired text looks like the cloud's and is not.
pub(super) fn has_form(text: &str, others: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// Whether a text has the form of the cloud's codes and ids: 1 to `longest` of `[A-Za-z0-9._-]`.
pub(super) fn has_cloud_form(text: &str, longest: usize) -> bool {
    has_form(text, "._-", longest)
}

/// Stands in place of a server's text that is not shown, because it contains what was sent.
pub const WITHHELD: &str = "withheld";

/// Names one call to the cloud's support: 1 to 64 of `[A-Za-z0-9._-]`, usually a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// Longest id in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Takes the id of a reply, or one that was kept in a status. `None` if it does not have that form.
    ///
    /// Does not know what was sent: an id of a reply is also checked for that.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        has_cloud_form(value, Self::MAX_LENGTH).then(|| Self(value.to_owned()))
    }

    /// The id of a call that was accepted, where the id in the reply contains what was sent: [`WITHHELD`].
    pub(super) fn withheld() -> Self {
        Self(WITHHELD.to_owned())
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An instance as `DescribeInstances` shows it. Whatever the reply leaves out is `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id, never empty.
    pub instance_id: String,
    /// The region that it is in.
    pub region_id: String,
    /// What it is doing.
    pub status: InstanceStatus,
    /// Whether a VNC password takes effect at once (`true`) or at the next restart.
    pub io_optimized: Option<bool>,
    /// When it was started last, to the minute: the API shows no seconds.
    pub start_time: Option<Timestamp>,
    /// Why it is locked, for example `financial` or `security`; empty if it is not.
    pub locks: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What an instance is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InstanceStatus {
    /// It is being created.
    Pending,
    /// It is booting.
    Starting,
    /// It is up.
    Running,
    /// It is shutting down.
    Stopping,
    /// It is down.
    Stopped,
    /// A status that the API did not have when this was written: 1 to 32 of `[A-Za-z0-9]`. Empty: none, or
    /// one that does not have that form.
    Other(String),
}

impl InstanceStatus {
    /// Longest status in characters.
    pub const MAX_LENGTH: usize = 32;

    /// The status as the API writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::Other(status) => status,
        }
    }
}

impl From<&str> for InstanceStatus {
    fn from(status: &str) -> Self {
        match status {
            "Pending" => Self::Pending,
            "Starting" => Self::Starting,
            "Running" => Self::Running,
            "Stopping" => Self::Stopping,
            "Stopped" => Self::Stopped,
            other if has_form(other, "", Self::MAX_LENGTH) => Self::Other(other.to_owned()),
            _ => Self::Other(String::new()),
        }
    }
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A region as `DescribeRegions` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// Its id, never empty. From the reply as it is: parse it as a [`Region`](super::Region) before calling there.
    pub region_id: String,
    /// Its public ECS host as the API names it. For people to read: calls go where
    /// [`Endpoint`](super::Endpoint) says.
    pub endpoint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_as_it_is_or_not_at_all() {
        let longest = "a".repeat(RequestId::MAX_LENGTH);
        for id in ["473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E", "a.b_c-D9", "7", WITHHELD, &longest] {
            assert_eq!(RequestId::parse(id).unwrap().to_string(), id);
        }
        let overlong = "a".repeat(RequestId::MAX_LENGTH + 1);
        for id in ["", " ", "a b", "a\n", "<a>", "é", "a:b", &overlong] {
            assert_eq!(RequestId::parse(id), None, "{id:?}");
        }
    }

    #[test]
    fn a_status_survives_its_text() {
        for status in ["Pending", "Starting", "Running", "Stopping", "Stopped", "Hibernated", ""] {
            assert_eq!(InstanceStatus::from(status).as_str(), status);
        }
        assert_eq!(InstanceStatus::from("Running"), InstanceStatus::Running);
        let overlong = "x".repeat(InstanceStatus::MAX_LENGTH + 1);
        for status in ["a\nb", "a b", "Läuft", &overlong] {
            assert_eq!(InstanceStatus::from(status), InstanceStatus::Other(String::new()), "{status:?}");
        }
    }
}
