//! The model as the checker explores it: what may happen next, and what must hold of every state.

use std::{sync::Arc, time::Duration};

use stateright::{Model, Property};
use vncpassword::{
    api::{Activation, SecretRef, VncPasswordSpec, VncPasswordStatus},
    rotation::{
        facts::{Access, History, Observed, Owner},
        rotate_at::RotateAt,
        schedule::Plan,
    },
};

use super::{
    calm, cloud,
    pass::{self, Reply},
    person,
    rules::Rule,
    setting::{Act, Fate, Setting, TICK},
    values::{Kept, at},
    world::{Cloud, Object, Replica, Witness, World},
};

/// A password is lost.
pub const KNOWN: &str = "the password that opens the console is in the Secret";
pub const ONE: &str = "a rotation draws one password";
pub const RESTARTS: &str = "no restart that a rotation did not ask for";
pub const LED: &str = "who begins a call holds the lease";
pub const CONVERGES: &str = "it converges when faults stop";

type Holds = fn(&Check, &World) -> bool;

/// What must hold of every state.
const INVARIANTS: [(&str, Holds); 5] = [
    (KNOWN, |_, world| world.known()),
    (ONE, |_, world| world.seen.begun <= world.seen.asked + world.seen.acts),
    (RESTARTS, |_, world| !world.seen.unasked_restart),
    (LED, |_, world| !world.seen.intruded),
    (CONVERGES, |check, world| !check.at_rest(world) || calm::down(check, &mut world.clone())),
];

/// One run of the checker.
pub struct Check {
    pub setting: Setting,
    /// What every decision is told alike.
    pub template: Observed,
    /// The one invariant that is looked at; `None`: all.
    only: Option<&'static str>,
    /// The last moment.
    end: i32,
    beginning: World,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    /// A pass begins.
    Pass(usize),
    /// A pass decides and acts.
    Step(usize, Reply),
    /// A call goes out.
    Call(usize, Option<Fate>),
    /// The instance is looked at.
    Look(usize),
    /// A watch catches up.
    SeesSecret(usize),
    SeesObject(usize),
    Crash(usize),
    LeaseMoves,
    Arrives(usize),
    Person(Act),
    RotateAt,
    Stop,
    Boot,
    Tick,
}

impl Check {
    pub fn new(setting: Setting, only: Option<&'static str>) -> Self {
        let template = template(&setting);
        let mut check = Self { template, only, end: 0, beginning: empty(&setting), setting };
        if !check.setting.new {
            let without = check.setting.without.take();
            let mut world = check.beginning.clone();
            assert!(calm::down(&check, &mut world), "the first rotation ends: {world:#?}");
            check.beginning = world;
            check.setting.without = without;
        }
        // What a person does comes later than a minute after the first rotation.
        check.beginning.now = (check.beginning.now.div_euclid(TICK) + 2) * TICK;
        check.end = check.beginning.now + (check.setting.moments - 1) * TICK;
        check.beginning.left = check.setting.budget;
        check.beginning.seen.requests.clear();
        if check.without(Rule::FreshRead) {
            for replica in &mut check.beginning.replicas {
                replica.stale.clone_from(&check.beginning.secret);
            }
        }
        check
    }

    /// Whether nothing happens by itself any more.
    fn at_rest(&self, world: &World) -> bool {
        let waits = |r: usize| {
            let replica = &world.replicas[r];
            replica.pass.is_none()
                && !(world.leader == r && due(world, r))
                && (self.setting.coarse || !sees_secret(world, r) && !sees_object(world, r))
        };
        world.now == self.end && (0..world.replicas.len()).all(waits)
    }
}

/// Whether a pass is to begin.
pub fn due(world: &World, r: usize) -> bool {
    let replica = &world.replicas[r];
    replica.woken || replica.wake.is_some_and(|wake| wake <= world.now)
}

/// Whether there is something to do before time passes, unless a process is paused.
fn busy(world: &World) -> bool {
    due(world, world.leader) || world.replicas.iter().any(|replica| replica.pass.is_some())
}

pub fn sees_secret(world: &World, r: usize) -> bool {
    world.replicas[r].secret != world.secret.as_ref().map(|secret| secret.version())
}

pub fn sees_object(world: &World, r: usize) -> bool {
    world.replicas[r].object.version != world.object.version
}

impl Model for Check {
    type State = World;
    type Action = Happens;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning.clone()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Happens>) {
        let left = world.left;
        for (r, replica) in world.replicas.iter().enumerate() {
            match &replica.pass {
                Some(pass) if pass.calling.is_some() => {
                    actions.push(Happens::Call(r, None));
                    if left.fates > 0 {
                        actions.extend(self.setting.fates.iter().map(|fate| Happens::Call(r, Some(*fate))));
                    }
                }
                Some(_) => {
                    actions.push(Happens::Step(r, Reply::Comes));
                    if left.lost_writes > 0 {
                        actions.push(Happens::Step(r, Reply::Lost));
                    }
                }
                None => {
                    if world.leader == r && due(world, r) {
                        actions.push(Happens::Pass(r));
                    }
                    if replica.look_due.is_some_and(|due| due <= world.now) {
                        actions.push(Happens::Look(r));
                    }
                }
            }
            // How far behind a standby is, is settled before the leader goes on.
            let watches = if self.setting.coarse {
                world.leader == r && replica.pass.is_none()
            } else {
                world.leader == r || world.replicas[world.leader].pass.is_none()
            };
            if watches && sees_secret(world, r) {
                actions.push(Happens::SeesSecret(r));
            }
            if watches && sees_object(world, r) {
                actions.push(Happens::SeesObject(r));
            }
            if left.crashes > 0 && world.leader == r {
                actions.push(Happens::Crash(r));
            }
        }
        if left.moves > 0 {
            actions.push(Happens::LeaseMoves);
        }
        actions.extend((0..world.cloud.late.len()).map(Happens::Arrives));
        if left.acts > 0 {
            actions.extend(self.setting.acts.iter().map(|act| Happens::Person(*act)));
        }
        let asks =
            !self.setting.coarse || !due(world, world.leader) && world.replicas[world.leader].pass.is_none();
        if left.annotations > 0 && asks && world.object.rotate_at != Some(world.now) {
            actions.push(Happens::RotateAt);
        }
        if !world.cloud.running {
            actions.push(Happens::Boot);
        } else if left.stops > 0 {
            actions.push(Happens::Stop);
        }
        if world.now < self.end && (left.pauses > 0 || !busy(world)) {
            actions.push(Happens::Tick);
        }
    }

    fn next_state(&self, world: &World, happens: Happens) -> Option<World> {
        let mut world = world.clone();
        self.happens(&mut world, happens).map(|()| world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let all = INVARIANTS.into_iter();
        let named = all.filter(|(name, _)| self.only.is_none_or(|only| only == *name));
        named.map(|(name, holds)| Property::always(name, holds)).collect()
    }
}

impl Check {
    pub fn happens(&self, world: &mut World, happens: Happens) -> Option<()> {
        match happens {
            Happens::Pass(r) => pass::start(world, r),
            Happens::Step(r, reply) => {
                pass::step(self, world, r, reply)?;
                world.left.lost_writes -= u8::from(reply == Reply::Lost);
            }
            Happens::Call(r, fate) => {
                cloud::call(self, world, r, fate)?;
                world.left.fates -= u8::from(fate.is_some());
            }
            Happens::Look(r) => {
                pass::look(world, r);
                let replica = &mut world.replicas[r];
                replica.look_due = None;
                replica.woken = true;
            }
            Happens::SeesSecret(r) => {
                let replica = &mut world.replicas[r];
                replica.secret = world.secret.as_ref().map(|secret| secret.version());
                replica.stale = replica.stale.is_some().then(|| world.secret.clone()).flatten();
                replica.woken = true;
            }
            Happens::SeesObject(r) => {
                let replica = &mut world.replicas[r];
                replica.object = Arc::clone(&world.object);
                replica.woken = true;
            }
            Happens::Crash(r) => {
                world.left.crashes -= 1;
                world.writers += 1;
                let stale = self.without(Rule::FreshRead);
                world.replicas[r] = process(world, world.writers, stale);
            }
            Happens::LeaseMoves => {
                world.left.moves -= 1;
                world.leader = 1 - world.leader;
                let replica = &mut world.replicas[world.leader];
                replica.woken = true;
                replica.look = None;
                replica.look_due = None;
            }
            Happens::Arrives(index) => cloud::arrive(self, world, index)?,
            Happens::Person(act) => {
                person::acts(world, act)?;
                world.left.acts -= 1;
            }
            Happens::RotateAt => {
                world.left.annotations -= 1;
                person::asks(world);
            }
            Happens::Stop => {
                world.left.stops -= 1;
                world.cloud.running = false;
            }
            Happens::Boot => cloud::boot(world),
            Happens::Tick => {
                world.left.pauses -= u8::from(busy(world));
                pass_time(self, world, world.now + TICK);
            }
        }
        Some(())
    }
}

/// Lets time pass: calls whose signature is too old by then arrive no more.
pub fn pass_time(check: &Check, world: &mut World, now: i32) {
    world.now = now;
    world.cloud.late.retain(|late| late.signed + check.setting.valid() >= now);
}

fn process(world: &World, writer: u8, stale: bool) -> Replica {
    Replica {
        writer,
        secret: world.secret.as_ref().map(|secret| secret.version()),
        object: Arc::clone(&world.object),
        stale: world.secret.clone().filter(|_| stale),
        examined: None,
        unsettled: Vec::new(),
        look: None,
        look_due: None,
        wake: None,
        woken: true,
        unrecorded: None,
        pass: None,
    }
}

/// An object that was just made, no Secret, and an instance.
fn empty(setting: &Setting) -> World {
    let object = Object { version: 1, rotate_at: None, status: Kept::new(VncPasswordStatus::default()) };
    let mut world = World {
        now: 0,
        cloud: Cloud { console: None, pending: None, running: true, started: -600, late: Vec::new() },
        secret: None,
        object: Arc::new(object),
        leader: 0,
        replicas: Vec::new(),
        left: setting.budget,
        drawn: 0,
        writers: 0,
        uids: 0,
        seen: Witness { asked: 1, ..Witness::default() },
    };
    for writer in 1..=setting.replicas {
        world.writers = u8::try_from(writer).unwrap();
        let replica = process(&world, world.writers, false);
        world.replicas.push(replica);
    }
    world
}

fn template(setting: &Setting) -> Observed {
    let rotation = Some(Box::default());
    let activation = if setting.reboots { Activation::Reboot } else { Activation::Manual };
    let enforce_interval = setting.enforced.then(|| Duration::from_secs(600));
    Observed {
        generation: 1,
        created: at(-1000),
        region: Some("cn-hangzhou".into()),
        enforce_interval,
        plan: Plan::new(rotation.as_deref(), None),
        rotate_at: RotateAt::Never,
        spread: 0.0,
        owner: Owner::This,
        displaced: false,
        access: Access::Granted,
        credentials_changed: false,
        spec: Arc::new(VncPasswordSpec {
            instance_id: "i-1".into(),
            region_id: None,
            secret_ref: SecretRef { name: "s".into(), key: "password".into() },
            rotation,
            window: None,
            activation,
            credentials_ref: None,
            enforce_interval: None,
            suspend: false,
        }),
        status: Arc::default(),
        secret: None,
        read: None,
        history: History::default(),
        look: None,
        limiter_opens: None,
        in_line: false,
        in_fleet: false,
        reboot_opens: None,
        drawn: None,
        announced: None,
        rebooted: None,
        attempt: None,
        writer: "".into(),
        allow_reboot: setting.reboots,
        settle: Duration::from_secs(setting.settle().unsigned_abs().into()),
        jitter: 0.0,
    }
}
