//! What the API's actions answer, as types. Only what the operator uses; see `wire` for the JSON.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

/// Drops every character that is neither an ASCII letter or digit nor in `others`, and all beyond `longest`.
///
/// Words of the server that reach a status or an event go through here.
pub(super) fn sanitised(text: &str, others: &str, longest: usize) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || others.contains(*c)).take(longest).collect()
}

/// Names one call to the cloud's support: a UUID, cut down to at most 64 of `[A-Za-z0-9-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// Longest id in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Takes the id of a reply, or one that was kept in a status. `None` if nothing of it can be used.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let id = sanitised(value, "-", Self::MAX_LENGTH);
        (!id.is_empty()).then_some(Self(id))
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
    /// A status that the API did not have when this was written, or none: at most 32 of `[A-Za-z0-9]`.
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
            other => Self::Other(sanitised(other, "", Self::MAX_LENGTH)),
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
    fn the_servers_words_are_cut_down_to_what_can_be_shown() {
        let id = "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E";
        assert_eq!(RequestId::parse(id).unwrap().to_string(), id);
        assert_eq!(RequestId::parse("a b\n<c>").unwrap().as_str(), "abc");
        assert_eq!(RequestId::parse("é \n"), None);
        assert_eq!(RequestId::parse(&"a".repeat(99)).unwrap().as_str().len(), RequestId::MAX_LENGTH);
    }

    #[test]
    fn a_status_survives_its_text() {
        for status in ["Pending", "Starting", "Running", "Stopping", "Stopped", "Hibernated", ""] {
            assert_eq!(InstanceStatus::from(status).as_str(), status);
        }
        assert_eq!(InstanceStatus::from("Running"), InstanceStatus::Running);
        assert_eq!(InstanceStatus::from("a\nb"), InstanceStatus::Other("ab".into()));
        assert_eq!(InstanceStatus::from(&*"x".repeat(99)).as_str().len(), InstanceStatus::MAX_LENGTH);
    }
}
