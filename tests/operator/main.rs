//! The operator on a real kube-apiserver, against the emulator in place of the cloud.

mod canary;
mod conflict;
mod crd;
mod delivery;
mod knobs;
mod process;
mod replies;
mod restart;
mod scale;
mod secrets;
mod settle;
mod support;
mod waiting;
