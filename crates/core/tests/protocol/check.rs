//! The model as the checker explores it: what may happen next, and what must hold of every state.

use std::{sync::Arc, time::Duration};

use stateright::{Model, Property};
use vncpassword_core::{
    api::{Activation, SecretRef, VncPasswordSpec},
    rotation::{
        facts::{Access, History, Observed, Owner},
        rotate_at::RotateAt,
        schedule::Plan,
    },
};

use super::{
    calm, claims, cloud, contest,
    pass::{self, Reply},
    person,
    rules::Rule,
    setting::{Act, Fate, Kind, Setting, TICK},
    truth,
    values::at,
    watches,
    world::{Cloud, Memory, Object, Place, Replica, Witness, World},
};

/// A password is lost.
pub const KNOWN: &str = "the password that opens the console is in the Secret";
pub const ONE: &str = "a rotation draws one password";
pub const RESTARTS: &str = "no restart that a rotation did not ask for";
pub const LED: &str = "who begins a call holds the lease";
/// Somebody who reads `Ready` would use a password that does not open the console.
pub const READY: &str = "Ready is not True for a value that another object's call has replaced";
pub const CONVERGES: &str = "it converges when faults stop";

type Holds = fn(&Check, &World) -> bool;

/// What must hold of every state.
const INVARIANTS: [(&str, Holds); 6] = [
    (KNOWN, truth::known),
    (ONE, |_, world| world.seen.begun <= world.seen.asked + world.seen.acts),
    (RESTARTS, |_, world| !world.seen.unasked_restart),
    (LED, |_, world| !world.seen.intruded),
    (READY, truth::ready_is_true),
    (CONVERGES, |check, world| !check.at_rest(world) || calm::down(check, &mut world.clone())),
];

/// One run of the checker.
pub struct Check {
    pub setting: Setting,
    /// What every decision about each object is told alike.
    pub templates: Vec<Observed>,
    /// The one invariant that is looked at; `None`: all.
    only: Option<&'static str>,
    /// The last moment.
    end: i32,
    beginning: World,
}

/// What happens next. The first number is a replica's, the second an object's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    /// A pass begins.
    Pass(usize, usize),
    /// A pass decides and acts.
    Step(usize, usize, Reply),
    /// The reply to a write of the Secret comes.
    Returns(usize, usize),
    /// A call goes out.
    Call(usize, usize, Option<Fate>),
    /// The instance is looked at.
    Look(usize, usize),
    /// A watch catches up.
    SeesSecret(usize, usize),
    SeesObject(usize, usize),
    Crash(usize),
    LeaseMoves,
    Arrives(usize),
    /// A person changes that object or its Secret.
    Person(usize, Act),
    RotateAt,
    Stop,
    Boot,
    Tick,
}

impl Check {
    pub fn new(setting: Setting, only: Option<&'static str>) -> Self {
        let templates = setting.objects.iter().map(|kind| template(&setting, *kind)).collect();
        let mut check = Self { templates, only, end: 0, beginning: empty(&setting), setting };
        for writer in 1..=check.setting.replicas {
            check.beginning.writers = u8::try_from(writer).unwrap();
            let replica = process(&check, &check.beginning, check.beginning.writers);
            check.beginning.replicas.push(replica);
        }
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
        for replica in &mut check.beginning.replicas {
            replica.calls.clear();
        }
        if check.without(Rule::FreshRead) {
            for replica in &mut check.beginning.replicas {
                replica.memories[0].stale.clone_from(&check.beginning.places[0].secret);
            }
        }
        check
    }

    /// Whether nothing happens by itself any more.
    fn at_rest(&self, world: &World) -> bool {
        let mut all = everywhere(world);
        world.now == self.end && all.all(|(r, o)| rests(world, r, o, self.setting.coarse))
    }
}

/// Each process with each object.
fn everywhere(world: &World) -> impl Iterator<Item = (usize, usize)> + use<> {
    let objects = world.places.len();
    (0..world.replicas.len()).flat_map(move |r| (0..objects).map(move |o| (r, o)))
}

/// Whether a process does nothing about an object before time passes. `deaf`: whatever its watches have not seen yet.
pub fn rests(world: &World, r: usize, o: usize, deaf: bool) -> bool {
    let memory = &world.replicas[r].memories[o];
    memory.pass.is_none()
        && !memory.busy
        && !(world.leader == r && due(world, r, o))
        && (deaf || !sees_secret(world, r, o) && !sees_object(world, r, o))
}

/// Whether a pass is to begin.
pub fn due(world: &World, r: usize, o: usize) -> bool {
    let replica = &world.replicas[r];
    let memory = &replica.memories[o];
    memory.object.is_some()
        && (memory.woken
            || memory.busy && contest::is_free(replica)
            || memory.wake.is_some_and(|wake| wake <= world.now))
}

/// Whether there is something to do before time passes, unless a process is paused.
fn busy(world: &World) -> bool {
    let passes = |replica: &Replica| replica.memories.iter().any(|memory| memory.pass.is_some());
    (0..world.places.len()).any(|o| due(world, world.leader, o)) || world.replicas.iter().any(passes)
}

pub fn sees_secret(world: &World, r: usize, o: usize) -> bool {
    world.replicas[r].memories[o].watched != world.places[o].version()
}

pub fn sees_object(world: &World, r: usize, o: usize) -> bool {
    let version = |object: &Arc<Object>| (object.uid, object.version);
    let known = world.replicas[r].memories[o].object.as_ref();
    known.map(version) != world.places[o].object.as_ref().map(version)
}

impl Model for Check {
    type State = World;
    type Action = Happens;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning.clone()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Happens>) {
        let left = world.left;
        for (r, o) in everywhere(world) {
            self.actions_of(world, r, o, actions);
        }
        if left.crashes > 0 && claims::is_recorded(world, world.leader) {
            actions.push(Happens::Crash(world.leader));
        }
        if left.moves > 0 {
            actions.push(Happens::LeaseMoves);
        }
        actions.extend((0..world.cloud.late.len()).map(Happens::Arrives));
        if left.acts > 0 {
            for (o, acts) in self.setting.acts.iter().enumerate() {
                actions.extend(acts.iter().map(|act| Happens::Person(o, *act)));
            }
        }
        let memory = &world.replicas[world.leader].memories[0];
        let asks = !self.setting.coarse || !due(world, world.leader, 0) && memory.pass.is_none();
        let asked = world.places[0].object.as_ref().is_none_or(|object| object.rotate_at == Some(world.now));
        if left.annotations > 0 && asks && !asked {
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
    /// What a process may do about an object, and what it may be told.
    fn actions_of(&self, world: &World, r: usize, o: usize, actions: &mut Vec<Happens>) {
        let left = world.left;
        let memory = &world.replicas[r].memories[o];
        match &memory.pass {
            Some(pass) if pass.calling.is_some() => {
                actions.push(Happens::Call(r, o, None));
                if left.fates > 0 {
                    actions.extend(self.setting.fates.iter().map(|fate| Happens::Call(r, o, Some(*fate))));
                }
            }
            Some(pass) if pass.replying.is_some() => actions.push(Happens::Returns(r, o)),
            Some(_) => {
                actions.push(Happens::Step(r, o, Reply::Comes));
                if left.lost_writes > 0 {
                    actions.push(Happens::Step(r, o, Reply::Lost));
                }
                if left.slow_writes > 0 {
                    actions.push(Happens::Step(r, o, Reply::Late));
                }
            }
            None => {
                if world.leader == r && due(world, r, o) {
                    actions.push(Happens::Pass(r, o));
                }
                if memory.look_due.is_some_and(|due| due <= world.now) {
                    actions.push(Happens::Look(r, o));
                }
            }
        }
        // How far behind a standby is, is settled before the leader goes on.
        let watches = if self.setting.coarse {
            world.leader == r && memory.pass.is_none()
        } else {
            world.leader == r || world.replicas[world.leader].memories[o].pass.is_none()
        };
        if watches && sees_secret(world, r, o) {
            actions.push(Happens::SeesSecret(r, o));
        }
        if watches && sees_object(world, r, o) {
            actions.push(Happens::SeesObject(r, o));
        }
    }

    pub fn happens(&self, world: &mut World, happens: Happens) -> Option<()> {
        match happens {
            Happens::Pass(r, o) => pass::start(self, world, r, o)?,
            Happens::Step(r, o, reply) => {
                pass::step(self, world, (r, o), reply)?;
                world.left.lost_writes -= u8::from(reply == Reply::Lost);
                world.left.slow_writes -= u8::from(reply == Reply::Late);
            }
            Happens::Returns(r, o) => pass::returns(self, world, (r, o))?,
            Happens::Call(r, o, fate) => {
                cloud::call(self, world, r, o, fate)?;
                world.left.fates -= u8::from(fate.is_some());
            }
            Happens::Look(r, o) => {
                pass::look(world, r, o);
                let memory = &mut world.replicas[r].memories[o];
                memory.look_due = None;
                memory.woken = true;
            }
            Happens::SeesSecret(r, o) => watches::secret(world, r, o),
            Happens::SeesObject(r, o) => watches::object(self, world, r, o),
            Happens::Crash(r) => {
                world.left.crashes -= 1;
                world.writers += 1;
                world.replicas[r] = process(self, world, world.writers);
            }
            Happens::LeaseMoves => {
                world.left.moves -= 1;
                world.leader = 1 - world.leader;
                for memory in &mut world.replicas[world.leader].memories {
                    memory.woken = true;
                    (memory.look, memory.look_due) = (None, None);
                }
            }
            Happens::Arrives(index) => cloud::arrive(self, world, index)?,
            Happens::Person(o, act) => {
                person::acts(&self.setting, world, o, act)?;
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

/// A process that begins: it lists everything.
fn process(check: &Check, world: &World, writer: u8) -> Replica {
    let (alone, stale) = (check.setting.alone(), check.without(Rule::FreshRead));
    let listed = |place: &Place| Memory {
        // What a former process did for the only object, its record and its status tell.
        inherited: !alone,
        claim: place
            .object
            .as_ref()
            .filter(|_| !alone)
            .map(|object| claims::found(check, object, world.now))
            .unwrap_or_default(),
        secret: place.version(),
        watched: place.version(),
        object: place.object.clone(),
        stale: place.secret.clone().filter(|_| stale),
        woken: place.object.is_some(),
        ..Memory::empty()
    };
    let memories = world.places.iter().map(listed).collect();
    let term_start = Some(world.now).filter(|_| !alone);
    Replica { writer, memories, calls: Vec::new(), departed: 0, term_start }
}

/// Objects that were just created, no Secrets but those of a person, and an instance.
fn empty(setting: &Setting) -> World {
    let cloud = Cloud { console: None, by: 0, pending: None, running: true, started: -600, late: Vec::new() };
    let mut world = World {
        now: 0,
        cloud,
        places: vec![Place { object: None, secret: None }; setting.objects.len()],
        leader: 0,
        replicas: Vec::new(),
        left: setting.budget,
        drawn: 0,
        writers: 0,
        uids: 0,
        seen: Witness::default(),
    };
    for (o, kind) in setting.objects.iter().enumerate() {
        person::create(*kind, &mut world, o, if o == 0 { -1000 } else { -900 });
        if *kind == Kind::Users {
            person::writes(&mut world, o);
        }
    }
    world
}

fn template(setting: &Setting, kind: Kind) -> Observed {
    let rotation = (kind == Kind::Generated).then(Box::default);
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
        superseded: false,
        deleting: false,
        prove_claim: false,
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
        paced: false,
        secret_paused_until: None,
        in_line: false,
        in_fleet: false,
        reboot_opens: None,
        drawn: None,
        announced: None,
        rebooted: None,
        refused: None,
        attempt: None,
        writer: "".into(),
        allow_reboot: setting.reboots,
        settle: Duration::from_secs(setting.settle().unsigned_abs().into()),
        jitter: 0.0,
    }
}
