//! The model check: the protocol of one rotation, explored exhaustively against everything that can go wrong at once.
//!
//! `decide` is the program's; the world around it is the model's. [`check`] says what may happen and what must hold,
//! [`runs`] what is explored, [`rules`] what is different where a rule is taken out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calm;
mod check;
mod claims;
mod cloud;
mod contest;
mod pass;
mod person;
mod rules;
mod runs;
mod script;
mod setting;
mod truth;
mod values;
mod watches;
mod world;

use std::{collections::BTreeSet, fmt::Write as _, time::Instant};

use check::{CONVERGES, Check, KNOWN, LED, ONE, READY, RESTARTS};
use rules::Rule;
use runs::{
    FATES, FIRST, GONE, HANDED_BACK, LATE_REPLY, LOST_WRITE, ONE_REBOOT, PAUSED, PEOPLE, POWER, REBOOTS,
    RECREATED, RESTARTED, RESTARTED_USERS, RUNS, SUSPENDED, TAKEN_OVER, TWICE_EDITED, TWO, TWO_FIRST,
    TWO_REBOOT,
};
use setting::{Budget, Setting};
use stateright::{Checker, HasDiscoveries, Model};

/// Explores one run to its end, or until the invariant that is to fail does; tells which did.
fn explore(setting: Setting, to_fail: Option<&'static str>) -> BTreeSet<&'static str> {
    #[allow(clippy::disallowed_methods, reason = "shows how long each run takes")]
    let begun = Instant::now();
    let mut told = format!("{}, without {:?}", setting.name, setting.without);
    let checker = Check::new(setting, to_fail).checker().threads(2);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    write!(told, ": {states} states, {depth} steps deep, {:.1} s", begun.elapsed().as_secs_f32()).unwrap();
    for (name, path) in &found {
        write!(told, "\n  not so: {name}\n  after {:?}", path.clone().into_actions()).unwrap();
    }
    // Shown where the test fails, or with --nocapture.
    #[allow(clippy::print_stdout, reason = "what was explored, and the way to a failure")]
    {
        println!("{told}");
    }
    found.into_keys().collect()
}

#[test]
fn whatever_goes_wrong_the_password_is_known_and_everything_comes_right() {
    for setting in RUNS {
        let name = setting.name;
        assert_eq!(explore(setting, None), BTreeSet::new(), "{name}");
    }
}

/// The rules of DESIGN.md, "The protocol of one rotation": which run misses each, and what fails there.
const TABLE: [(Rule, Setting, &str); 35] = [
    (Rule::FreshRead, HANDED_BACK, KNOWN),
    (Rule::RecordKnowsRotateAt, FATES, ONE),
    (Rule::WriteAhead, LOST_WRITE, KNOWN),
    (Rule::RecordWithValues, LOST_WRITE, ONE),
    (Rule::SecretPrecondition, TWO, KNOWN),
    (Rule::CreateConflicts, TWO_FIRST, KNOWN),
    (Rule::OnlyNextIsSent, TWICE_EDITED, KNOWN),
    (Rule::PromotionInOneWrite, LOST_WRITE, KNOWN),
    (Rule::WaitsForRestart, POWER, KNOWN),
    (Rule::NextIsKept, FATES, KNOWN),
    (Rule::Unsettled, FATES, KNOWN),
    (Rule::MissingWaits, PEOPLE, KNOWN),
    (Rule::NextStands, FATES, KNOWN),
    (Rule::NextBeatsEdit, PEOPLE, KNOWN),
    (Rule::StatusPrecondition, TWO_REBOOT, RESTARTS),
    (Rule::Claim, FATES, KNOWN),
    (Rule::ClaimUnsettles, FATES, KNOWN),
    (Rule::GoneUnsettles, PEOPLE, KNOWN),
    (Rule::MalformedIsRemoved, TWICE_EDITED, CONVERGES),
    (Rule::DatedBeforeRead, PAUSED, KNOWN),
    (Rule::Conflict, TWO, KNOWN),
    (Rule::Digest, PEOPLE, CONVERGES),
    (Rule::Baseline, POWER, KNOWN),
    (Rule::RequestsCount, ONE_REBOOT, RESTARTS),
    (Rule::RebootAfterWrite, ONE_REBOOT, RESTARTS),
    (Rule::Lease, TWO, LED),
    (Rule::CallsOutliveObjects, RECREATED, READY),
    (Rule::OthersCallsCount, SUSPENDED, READY),
    (Rule::LastAcceptedCounts, SUSPENDED, READY),
    (Rule::NotedBeforeWrite, TAKEN_OVER, READY),
    (Rule::DeletionBeatsReply, GONE, CONVERGES),
    (Rule::GoneStillReplaces, LATE_REPLY, READY),
    (Rule::BothMayHaveActed, RESTARTED, READY),
    (Rule::StoodBackMayHaveActed, RESTARTED, READY),
    (Rule::PastCounts, RESTARTED_USERS, READY),
];

#[test]
fn each_rule_is_missed_where_it_is_taken_out() {
    let missed = |(rule, setting, fails): (Rule, Setting, &'static str)| {
        explore(Setting { without: Some(rule), ..setting }, Some(fails)).contains(fails)
    };
    let useless: Vec<_> = TABLE.into_iter().filter(|row| !missed(row.clone())).map(|row| row.0).collect();
    assert_eq!(useless, [], "nothing fails without these");
}

/// No password is lost without it: preconditions, claims and dated signatures keep a pass from doing harm that goes on after
/// the lease has moved. Checking it before each call saves calls.
#[test]
fn a_pass_that_goes_on_without_the_lease_does_no_harm() {
    for setting in [TWO, TWO_FIRST] {
        let budget = Budget { annotations: setting.budget.annotations.min(1), pauses: 0, ..setting.budget };
        let setting = Setting { without: Some(Rule::Lease), budget, ..setting };
        for harm in [KNOWN, ONE, RESTARTS, CONVERGES] {
            assert_eq!(explore(setting.clone(), Some(harm)), BTreeSet::new());
        }
    }
}

#[test]
fn the_runs_differ_by_name() {
    let names: BTreeSet<_> = RUNS.iter().map(|run| run.name).collect();
    assert_eq!(names.len(), RUNS.len());
    assert!([FIRST.name, REBOOTS.name].iter().all(|name| names.contains(name)));
}
