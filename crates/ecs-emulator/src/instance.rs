//! The instances of the emulated cloud.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::access::AccessKey;

/// The region of an instance that does not name one.
pub const DEFAULT_REGION: &str = "cn-hangzhou";

/// The life cycle of an instance, as `DescribeInstances` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Being created.
    Pending,
    /// On its way to `Running`.
    Starting,
    /// The only status in which a password or a restart is taken.
    #[default]
    Running,
    /// On its way to `Stopped`, or in the first half of a restart.
    Stopping,
    /// Switched off.
    Stopped,
}

impl Status {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
        }
    }
}

/// The settings of an instance. By default: running, I/O optimized, in [`DEFAULT_REGION`], of the account
/// [`AccessKey::DEFAULT_ACCOUNT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Instance {
    /// `i-...`; in a control request the path may give it instead.
    pub id: String,
    /// Its account. Keys of other accounts do not see it.
    pub account: String,
    /// Its region. An unknown region is added.
    pub region_id: String,
    /// Its status.
    pub status: Status,
    /// Whether a new password takes effect immediately, or only after a restart.
    pub io_optimized: bool,
    /// When it was last started; replies show whole minutes.
    pub start_time: Timestamp,
    /// Reasons why it is locked, such as `security`; a locked instance is not restarted.
    pub locks: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            id: String::new(),
            account: AccessKey::DEFAULT_ACCOUNT.to_owned(),
            region_id: DEFAULT_REGION.to_owned(),
            status: Status::default(),
            io_optimized: true,
            // 2025-01-01T00:00Z: early enough for the first restart to be seen.
            start_time: Timestamp::constant(1_735_689_600, 0),
            locks: Vec::new(),
            tags: BTreeMap::new(),
        }
    }
}

impl Instance {
    /// A running, I/O optimized instance in [`DEFAULT_REGION`].
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Gives it to another account.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Puts it into another region.
    #[must_use]
    pub fn region(mut self, region_id: impl Into<String>) -> Self {
        self.region_id = region_id.into();
        self
    }

    /// Gives it another status.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// Makes it take a new password only at a restart.
    #[must_use]
    pub fn not_optimized(mut self) -> Self {
        self.io_optimized = false;
        self
    }

    /// Locks it for a reason, such as `security`.
    #[must_use]
    pub fn locked(mut self, reason: impl Into<String>) -> Self {
        self.locks.push(reason.into());
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }
}

/// An instance and its passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// The instance itself.
    #[serde(flatten)]
    pub instance: Instance,
    /// The console password in effect; `None` until one is set.
    pub console_password: Option<String>,
    /// An accepted password that takes effect at the next restart.
    pub pending_password: Option<String>,
}

/// A change of the console password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsoleChange {
    /// When it came into effect, by the emulator's clock.
    pub at: Timestamp,
    /// The password.
    pub password: String,
}

/// Maximum number of changes in the history of a password.
const CHANGES_KEPT: usize = 1000;

/// An instance, its passwords, and which restart it is in.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub instance: Instance,
    pub console_password: Option<String>,
    pub pending_password: Option<String>,
    /// The history of the console password, oldest first.
    pub changes: VecDeque<ConsoleChange>,
    /// Increased to cancel a restart under way. Steps of an older generation are ignored.
    pub generation: u64,
}

impl Machine {
    /// Accepts a password, in effect now or at the next start.
    pub fn take_password(&mut self, password: String, now: Timestamp) {
        if self.instance.io_optimized {
            self.set_console(password, now);
            self.pending_password = None;
        } else {
            self.pending_password = Some(password);
        }
    }

    /// Enters a status. Coming to `Running` from any other is a start, see [`Machine::start`].
    pub fn enter(&mut self, status: Status, now: Timestamp) {
        if status == Status::Running && self.instance.status != Status::Running {
            self.start(now);
        }
        self.instance.status = status;
    }

    /// Starts: a pending password takes effect, and the start time is now.
    pub fn start(&mut self, now: Timestamp) {
        self.instance.status = Status::Running;
        self.instance.start_time = now;
        if let Some(password) = self.pending_password.take() {
            self.set_console(password, now);
        }
    }

    fn set_console(&mut self, password: String, now: Timestamp) {
        if self.console_password.as_ref() == Some(&password) {
            return;
        }
        if self.changes.len() == CHANGES_KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(ConsoleChange { at: now, password: password.clone() });
        self.console_password = Some(password);
    }

    /// Its representation in the control API.
    pub fn view(&self) -> InstanceView {
        InstanceView {
            instance: self.instance.clone(),
            console_password: self.console_password.clone(),
            pending_password: self.pending_password.clone(),
        }
    }
}
