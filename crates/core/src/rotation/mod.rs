//! The pure core: what a password is, what a reply means, what to do next. No async, no I/O, no clock.
//!
//! Read [`decide()`] first; [`facts`] is what it is told, [`Verdict`] how a pass ends. [`crate::fleet`] sets the pace of many.

pub mod allowance;
pub mod backoff;
pub mod competition;
pub mod contents;
mod decide;
pub mod denied;
pub mod facts;
mod generated;
mod hold;
mod message;
pub mod outcome;
pub mod ownership;
mod password;
pub mod refusal;
mod reply;
mod restart;
pub mod rotate_at;
mod running_refusals;
pub mod schedule;
mod users;
pub(crate) mod verdict;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use decide::{decide, doubt};
pub use password::{InvalidPassword, Password};
pub use verdict::{Decision, Note, Verdict, invalid_object, settled_at};
