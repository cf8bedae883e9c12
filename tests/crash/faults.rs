//! Bad weather: what the emulator does to calls, drawn anew for each life of the operator.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use vncpassword_core::api::Reason;
use vncpassword_emulator::{Action, Apply, Cloud, Entry, Fault, Garbage, Reply};
use vncpassword_test_support::{World, observe::instance_of};

/// Latest that a call arrives after it was made.
pub const LATEST: Duration = Duration::from_secs(2);

/// Replaces the faults in force.
pub fn change(cloud: &Cloud, rng: &mut StdRng) {
    cloud.clear_faults();
    let late = |rng: &mut StdRng| Apply::Late { after: LATEST.mul_f64(rng.random_range(0.05..1.0)) };
    let error = |status, code: &str| Reply::Error { status, code: code.to_owned() };
    let hang = || Reply::Hang { for_ms: None };
    // How often, whether the call takes effect, what the client gets.
    let table = [
        (0.08, Apply::Never, Reply::Reset),
        (0.08, Apply::Now, Reply::Reset),
        (0.08, late(rng), Reply::Reset),
        (0.10, late(rng), hang()),
        (0.03, Apply::Now, hang()),
        (0.02, Apply::Never, hang()),
        (0.04, late(rng), error(500, "InternalError")),
        (0.03, Apply::Now, error(503, "ServiceUnavailable")),
        (0.03, Apply::Never, error(500, "InternalError")),
        (0.03, Apply::Now, Reply::Body { status: 502, kind: Garbage::Html }),
    ];
    for (probability, apply, reply) in table {
        let fault = Fault { apply: Some(apply), reply, ..Fault::default() };
        cloud.inject(fault.on(Action::ModifyInstanceVncPasswd).probability(probability));
    }
    for action in [Action::DescribeInstances, Action::RebootInstance] {
        cloud.inject(Fault::reset_before().on(action).probability(0.1));
        cloud.inject(Fault::reset_after().on(action).probability(0.1));
    }
    // The others are answered, only slowly, so that a kill finds calls in flight.
    for share in [0.3, 0.5, 1.0] {
        let delay = Duration::from_millis(rng.random_range(0..500));
        cloud.inject(Fault::latency(delay).on(Action::ModifyInstanceVncPasswd).probability(share));
    }
}

/// Half of the calls are lost and arrive late: those faults replace the ones in force.
pub fn lose_late(cloud: &Cloud) {
    cloud.clear_faults();
    let late = Fault::late(LATEST.mul_f64(0.75), Reply::Reset);
    cloud.inject(late.on(Action::ModifyInstanceVncPasswd).probability(0.5));
}

/// Waits until `--settle` is over for a call that is lost now, which is later than for all that were lost before: an object of
/// its own sends another value once more then. Returns the calls since number `seq` that this object did not cause.
pub async fn stirred_until_settled(world: &World, seq: u64) -> Vec<Entry> {
    const CONTROL: &str = "control";
    let instance = instance_of(world, CONTROL);
    let lost = Fault::reset_before().on(Action::ModifyInstanceVncPasswd).instance(&instance).times(1);
    world.cloud().inject(lost);
    world.secret(CONTROL, "Abc123").await;
    world.object(CONTROL).await;
    world.until_reconciling(CONTROL, Reason::OutcomeUnknown).await;
    world.secret(CONTROL, "Xyz789").await;
    world.until_ready(CONTROL).await;
    assert_eq!(world.calls(&instance).len(), 3, "lost, sent, and sent once more");
    world.delete(CONTROL).await;
    let mut stirred = world.cloud().journal_since(seq);
    stirred.retain(|call| call.instance_ids != [instance.as_str()]);
    stirred
}
