//! The results of the API actions, as types. Contains only what the program uses; see `wire` for the JSON.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

/// Whether a text has 1 to `longest` characters, all of them ASCII letters, digits, or in `others`.
///
/// Text of a server reaches logs, status and events only in such a form. Other text is never repaired,
/// because the result would look like text of the cloud.
pub(super) fn has_form(text: &str, others: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// Whether a text has the form of codes and ids: 1 to `longest` of `[A-Za-z0-9._-]`.
pub(super) fn has_cloud_form(text: &str, longest: usize) -> bool {
    has_form(text, "._-", longest)
}

/// Replaces text of a server that is not shown because it contains data that was sent.
pub const WITHHELD: &str = "withheld";

/// The id of a call, for the support of the cloud: 1 to 64 of `[A-Za-z0-9._-]`, usually a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// The maximum length in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Parses the id of a reply or of a status. `None` if it is malformed.
    ///
    /// Does not check whether the id contains data that was sent.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        has_cloud_form(value, Self::MAX_LENGTH).then(|| Self(value.to_owned()))
    }

    /// The id of an accepted call whose id contains data that was sent: [`WITHHELD`].
    pub(super) fn withheld() -> Self {
        Self(WITHHELD.to_owned())
    }

    /// The id.
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

/// An instance as returned by `DescribeInstances`. Fields missing in the reply are `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The id, never empty.
    pub instance_id: String,
    /// The region.
    pub region_id: String,
    /// The status.
    pub status: InstanceStatus,
    /// Whether a VNC password takes effect immediately (`true`) or after a restart (`false`).
    pub io_optimized: Option<bool>,
    /// The time of the last start. The API returns no seconds.
    pub start_time: Option<Timestamp>,
    /// The reasons of its locks, for example `financial` or `security`; empty if it is not locked.
    pub locks: Vec<String>,
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

/// The status of an instance.
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
    /// An unknown status: 1 to 32 of `[A-Za-z0-9]`. Empty if the status is missing or malformed.
    Other(String),
}

impl InstanceStatus {
    /// The maximum length in characters.
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

/// A region as returned by `DescribeRegions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// The id, never empty.
    pub region_id: String,
    /// The public ECS host as the API names it, for display. Calls go to an [`Endpoint`](super::Endpoint).
    pub endpoint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_kept_unchanged_or_refused() {
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
    fn a_status_round_trips_through_its_text() {
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
