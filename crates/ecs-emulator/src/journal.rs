//! The journal: all calls that reached the emulator, with their results.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use super::fault::FaultId;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts from 1 without gaps.
    pub seq: u64,
    /// When it arrived, by the emulator's clock.
    pub at: Timestamp,
    /// The action as it was sent, whether known or not.
    pub action: String,
    /// The instances it named.
    pub instance_ids: Vec<String>,
    /// The region it named.
    pub region_id: Option<String>,
    /// The access key ID of its signature.
    pub access_key_id: Option<String>,
    /// The account of the key, if the signature is valid.
    pub account: Option<String>,
    /// The date it was signed with.
    pub signed_at: Option<Timestamp>,
    /// The id that its reply carries.
    pub request_id: String,
    /// HTTP status of the reply; `None`: the client got no reply.
    pub http_status: Option<u16>,
    /// The `Code` of the error, also if the client did not receive it. `None`: it was accepted, or a fault
    /// prevented the call.
    pub code: Option<String>,
    /// The password it carried.
    pub vnc_password: Option<String>,
    /// Whether it asked for `ForceStop`.
    pub force_stop: bool,
    /// The ARN of its role, also for routes that name the role in another way.
    pub role_arn: Option<String>,
    /// The name it gave to the session.
    pub role_session_name: Option<String>,
    /// The external id it brought.
    pub external_id: Option<String>,
    /// The requested lifetime in seconds, as sent.
    pub duration_seconds: Option<String>,
    /// Whether it had a token of the metadata service, valid or not (hardened mode).
    pub metadata_token: bool,
    /// The ID of the access key that it was issued, also if the client did not receive it.
    pub issued_access_key_id: Option<String>,
    /// When it changed an instance, by the emulator's clock. For a delayed call: set when it arrives.
    pub applied_at: Option<Timestamp>,
    /// The fault that matched it.
    pub fault: Option<FaultId>,
}

impl Entry {
    /// Whether the call has taken effect.
    #[must_use]
    pub fn applied(&self) -> bool {
        self.applied_at.is_some()
    }
}

/// The newest entries, up to a limit.
#[derive(Debug)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    last: u64,
    limit: usize,
}

impl Journal {
    pub fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), last: 0, limit: limit.max(1) }
    }

    /// The number of the newest entry.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Adds an entry and numbers it.
    pub fn push(&mut self, entry: Entry) -> u64 {
        if self.entries.len() == self.limit {
            self.entries.pop_front();
        }
        self.last += 1;
        self.entries.push_back(Entry { seq: self.last, ..entry });
        self.last
    }

    /// Records that a delayed call arrived and was accepted.
    pub fn applied(&mut self, seq: u64, at: Timestamp) {
        let behind = usize::try_from(self.last.saturating_sub(seq)).unwrap_or(usize::MAX);
        let index = self.entries.len().checked_sub(behind.saturating_add(1));
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.applied_at = Some(at);
        }
    }

    /// The entries after number `seq`, oldest first.
    pub fn since(&self, seq: u64) -> Vec<Entry> {
        let start = self.entries.partition_point(|entry| entry.seq <= seq);
        self.entries.range(start..).cloned().collect()
    }
}
