//! One pass: what the controller does around `decide`, one request at a time.

use std::sync::Arc;

use vncpassword_core::{
    api::VncPasswordStatus,
    rotation::{
        Decision, Verdict,
        contents::{Change, SecretWrite},
        decide,
        facts::{Drawn, History, Observed},
        rotate_at::RotateAt,
    },
};

use super::{
    check::Check,
    claims,
    contest::{self, Permission},
    rules::Rule,
    values::{FIRST_OF_A_PERSON, Kept, Value, at, fingerprint, number, password, second, valued},
    world::{
        Calling, Heard, Look, Memory, Object, Pass, Proof, Replying, Said, Secret, View, Why, World, named,
        numbered,
    },
};

/// Conflicts in a row after which a pass gives up for a while.
const MOST_CONFLICTS: u8 = 5;

/// Whether the reply to a write comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Comes,
    Lost,
    /// Of a write of the Secret: something else happens first.
    Late,
}

/// Begins a pass.
pub fn start(check: &Check, world: &mut World, r: usize, o: usize) -> Option<()> {
    let now = world.now;
    let replica = &mut world.replicas[r];
    let object = Arc::clone(replica.memories[o].object.as_ref()?);
    let view = View::of(check, replica, o, &object, now);
    let free = contest::is_free(replica);
    let memory = &mut replica.memories[o];
    (memory.woken, memory.busy, memory.wake) = (false, false, None);
    let attempt = memory.unrecorded.take();
    let mut pass = Box::new(Pass {
        object,
        secret: memory.secret,
        read: None,
        signed: now,
        drawn: None,
        announced: None,
        rebooted: None,
        // What was accepted and is not written yet is nobody else's to change until it is.
        turn: attempt.is_some() && free && !check.setting.alone(),
        proof: view.prove_claim.then_some(Proof::Failed),
        attempt,
        looked: false,
        conflicts: 0,
        cleared: true,
        calling: None,
        replying: None,
        view,
    });
    if memory.inherited {
        pass.view.calls.clear();
        let observed = observed(check, world, (r, o), &pass);
        claims::doubt(&mut world.replicas[r], o, &observed, pass.object.uid, now);
        pass.view.calls = View::of(check, &world.replicas[r], o, &pass.object, now).calls;
    }
    let replica = &mut world.replicas[r];
    replica.memories[o].pass = Some(pass);
    claims::contend(check, replica, o, now);
    Some(())
}

/// Decides, and does what was decided; `None`: there is nothing of the kind to do.
pub fn step(check: &Check, world: &mut World, (r, o): (usize, usize), reply: Reply) -> Option<()> {
    let pass = world.replicas[r].memories[o].pass.take();
    let mut pass = pass.filter(|pass| pass.calling.is_none() && pass.replying.is_none())?;
    let decision = loop {
        let observed = check.shown(observed(check, world, (r, o), &pass));
        match decide(&observed, at(world.now)) {
            Decision::Draw => {
                world.drawn += 1;
                assert!(world.drawn < FIRST_OF_A_PERSON - 1);
                pass.drawn = Some(world.drawn);
            }
            decision => break decision,
        }
    };
    let possible = match reply {
        Reply::Comes => true,
        Reply::Lost => {
            matches!(decision, Decision::WriteSecret(_) | Decision::Announce(..) | Decision::Rest(_))
        }
        Reply::Late => matches!(decision, Decision::WriteSecret(_)),
    };
    if !possible {
        return None;
    }
    let mut run = Run { check, world, r, o, reply, pass, failed: false };
    let goes_on = match decision {
        Decision::ReadCredentials => unreachable!("they are known"),
        Decision::ReadSecret => {
            run.read();
            true
        }
        Decision::Draw => unreachable!("drawn above"),
        Decision::WriteSecret(write) => run.acts(|run| run.write_secret(&write)),
        Decision::Send(purpose) => run.acts(|run| run.goes_out(Calling::Modify(Why::of(purpose)))),
        Decision::Reboot => run.acts(|run| run.goes_out(Calling::Reboot)),
        Decision::Announce(said, verdict) => run.acts(|run| run.announce(Said::of(said), *verdict)),
        Decision::Rest(verdict) => run.rest(*verdict)?,
    };
    if !goes_on {
        run.ends();
    }
    let mut pass = run.pass;
    pass.cleared = world.leader == r;
    if goes_on {
        world.replicas[r].memories[o].pass = Some(pass);
    }
    Some(())
}

/// The reply to a write of the Secret comes.
pub fn returns(check: &Check, world: &mut World, (r, o): (usize, usize)) -> Option<()> {
    let mut pass = world.replicas[r].memories[o].pass.take()?;
    let Replying { secret, deleted } = pass.replying.take()?;
    let memory = &mut world.replicas[r].memories[o];
    if deleted && !check.without(Rule::DeletionBeatsReply) {
        pass.read = Some(world.places[o].secret.clone());
        (pass.signed, pass.drawn) = (world.now, None);
    } else {
        let newer = memory.secret.is_some_and(|known| known.0 == secret.uid && known.1 > secret.version);
        if !newer {
            memory.secret = Some(secret.version());
            memory.watched = if deleted { memory.watched } else { memory.secret };
        }
        pass.read = Some(Some(secret));
    }
    memory.pass = Some(pass);
    Some(())
}

/// What `decide` is told.
fn observed(check: &Check, world: &World, (r, o): (usize, usize), pass: &Pass) -> Observed {
    let replica = &world.replicas[r];
    let optimized = check.setting.optimized;
    let (object, view) = (&pass.object, &pass.view);
    let template = &check.templates[o];
    let mut spec = Arc::clone(&template.spec);
    if object.suspended {
        Arc::make_mut(&mut spec).suspend = true;
    }
    Observed {
        generation: object.generation.into(),
        created: at(object.created),
        spec,
        status: Arc::new((*object.status).clone()),
        rotate_at: object.rotate_at.map_or(RotateAt::Never, |time| RotateAt::At(at(time))),
        owner: view.owner(),
        superseded: view.superseded,
        prove_claim: view.prove_claim,
        secret: pass.secret.map(named),
        read: pass.secret_read(),
        history: History {
            applied: view.applied.map(|(version, value)| (named(version), fingerprint(value))),
            examined: view.examined.map(named),
            untouched: view.untouched,
            creation_refused: false,
            running_refusals: None,
            unsettled: view.unsettled(object.uid),
            rotate_at_is_new: false,
            group_retry: None,
        },
        look: replica.memories[o].look.as_ref().map(|look| look.shown(optimized)),
        drawn: pass.drawn.map(|drawn| Drawn { id: format!("r{drawn}"), password: password(drawn) }),
        announced: pass.announced.map(Said::announcement),
        rebooted: pass.rebooted.map(super::world::Heard::reply),
        attempt: pass.attempt.as_ref().map(|attempt| attempt.attempt(optimized)),
        writer: format!("w{}", replica.writer).into(),
        ..template.clone()
    }
}

struct Run<'a> {
    check: &'a Check,
    world: &'a mut World,
    r: usize,
    o: usize,
    reply: Reply,
    pass: Box<Pass>,
    /// The pass ends with a failure on the Kubernetes side.
    failed: bool,
}

impl Run<'_> {
    fn memory(&mut self) -> &mut Memory {
        &mut self.world.replicas[self.r].memories[self.o]
    }

    /// Lets `change` at what is remembered of the object, if it is still the same one.
    fn remember(&mut self, change: impl FnOnce(&mut Memory)) {
        let memory = &mut self.world.replicas[self.r].memories[self.o];
        if memory.is_of(&self.pass.object) {
            change(memory);
        }
    }

    fn read(&mut self) {
        self.pass.signed = self.world.now;
        let stale = self.check.without(Rule::FreshRead).then(|| self.memory().stale.clone());
        let standing = self.world.places[self.o].secret.clone();
        self.pass.read = Some(stale.flatten().map_or(standing, Some));
    }

    /// Acts at the instance or at the Secret, where the object may.
    fn acts(&mut self, act: impl FnOnce(&mut Self) -> bool) -> bool {
        let replica = &self.world.replicas[self.r];
        match contest::may_act(self.check, replica, self.o, &mut self.pass, self.world.now) {
            Permission::Granted => act(self),
            Permission::Changed => true,
            Permission::Busy => {
                let attempt = self.pass.attempt.take();
                self.pass.proof = self.pass.proof.map(|_| Proof::Pending);
                self.remember(|memory| (memory.unrecorded, memory.busy) = (attempt, true));
                false
            }
        }
    }

    fn holds_lease(&self) -> bool {
        self.world.leader == self.r || self.check.without(Rule::Lease)
    }

    /// The pass ends here, and another one follows.
    fn fail(&mut self) -> bool {
        let attempt = self.pass.attempt.take();
        self.failed = true;
        self.remember(|memory| (memory.unrecorded, memory.woken) = (attempt, true));
        false
    }

    /// Takes in how the attempt to prove the object's claim has ended.
    fn ends(&mut self) {
        let Some(proof) = self.pass.proof else { return };
        let proof = if self.failed && proof == Proof::Failed { Proof::Pending } else { proof };
        let now = self.world.now;
        let mut changed = false;
        self.remember(|memory| changed = claims::proof_ended(&mut memory.claim, proof, now));
        if changed {
            contest::wake_others(&mut self.world.replicas[self.r], self.o);
        }
    }

    fn write_secret(&mut self, write: &SecretWrite) -> bool {
        if !self.holds_lease() && !self.pass.cleared {
            return self.fail();
        }
        let write = self.check.before_write(self.world, &mut self.pass, write, self.reply);
        let Some(write) = write else { return self.fail() };
        let drawn = self.pass.drawn.take();
        let Some(secret) = self.apply(&write) else { return self.conflicts(&write, drawn) };
        if let (Some(drawn), Change::Set(next)) = (drawn, &write.next)
            && number(next) == drawn
        {
            self.world.seen.begun += 1;
        }
        match self.reply {
            Reply::Lost => return self.fail(),
            Reply::Late => {
                self.pass.replying = Some(Replying { secret, deleted: false });
                return true;
            }
            Reply::Comes => {}
        }
        let memory = self.memory();
        memory.secret = Some(secret.version());
        memory.watched = memory.secret;
        memory.stale = memory.stale.is_some().then(|| Arc::clone(&secret));
        self.pass.read = Some(Some(secret));
        true
    }

    /// Somebody else has written the Secret.
    fn conflicts(&mut self, write: &SecretWrite, drawn: Option<u8>) -> bool {
        self.pass.conflicts += 1;
        if self.check.without(Rule::Conflict) {
            let read = self.pass.read.clone().flatten();
            self.pass.read = Some(Some(Arc::new(written(read.as_deref(), write, 0))));
            return true;
        }
        self.pass.drawn = drawn;
        if self.pass.conflicts > MOST_CONFLICTS {
            return self.fail();
        }
        self.read();
        true
    }

    /// Writes the Secret; `None`: it is in another version, or there already.
    fn apply(&mut self, write: &SecretWrite) -> Option<Arc<Secret>> {
        let (check, world) = (self.check, &mut *self.world);
        let standing = world.places[self.o].secret.as_deref();
        let fits = match &write.replaces {
            None => standing.is_none() || check.without(Rule::CreateConflicts),
            Some(version) => standing.is_some_and(|standing| {
                standing.version() == numbered(version) || check.without(Rule::SecretPrecondition)
            }),
        };
        if !fits {
            return None;
        }
        let mut secret = written(standing, write, world.uids + 1);
        if standing.is_none() {
            world.uids += 1;
            secret.acts = world.seen.acts;
        }
        if check.without(Rule::RecordWithValues) && self.reply == Reply::Lost && write.next != Change::Keep {
            secret.record = standing.and_then(|standing| standing.record.clone());
        }
        let secret = Arc::new(secret);
        world.places[self.o].secret = Some(Arc::clone(&secret));
        Some(secret)
    }

    fn goes_out(&mut self, calling: Calling) -> bool {
        if !self.holds_lease() {
            return self.fail();
        }
        self.world.seen.intruded |= self.world.leader != self.r;
        self.pass.calling = Some(calling);
        true
    }

    fn announce(&mut self, said: Said, verdict: Verdict) -> bool {
        if !self.holds_lease() && !self.pass.cleared {
            return self.fail();
        }
        if self.check.without(Rule::RebootAfterWrite) && said == Said::Reboot && self.pass.rebooted.is_none()
        {
            self.pass.calling = Some(Calling::Reboot);
            return true;
        }
        match self.write_status(verdict.status) {
            Written::Gone => false,
            Written::Conflict => self.refresh(),
            Written::Done(_) if self.reply == Reply::Lost => self.fail(),
            Written::Done(object) => {
                self.remember(|memory| memory.object = Some(Arc::clone(&object)));
                self.pass.object = object;
                self.pass.announced = Some(said);
                true
            }
        }
    }

    fn rest(&mut self, verdict: Verdict) -> Option<bool> {
        let now = self.world.now;
        if verdict.deferred && verdict.look.is_some_and(|due| due <= at(now)) && !self.pass.looked {
            self.pass.looked = true;
            look(self.world, self.r, self.o);
            return (self.reply == Reply::Comes).then_some(true);
        }
        if self.check.setting.alone() {
            self.world.replicas[self.r].calls.retain(|call| call.until > now);
        }
        self.remember(|memory| {
            memory.look_due = verdict.look.map(second);
            if verdict.look.is_none() {
                memory.look = None;
            }
        });
        if verdict.status != *self.pass.object.status {
            match self.write_status(verdict.status) {
                Written::Gone => return Some(false),
                Written::Conflict => return Some(self.refresh()),
                Written::Done(_) if self.reply == Reply::Lost => return Some(self.fail()),
                Written::Done(object) => self.remember(|memory| memory.object = Some(object)),
            }
        } else if self.reply == Reply::Lost {
            return None;
        }
        if self.check.without(Rule::NotedBeforeWrite)
            && let Some(called) = self.pass.attempt.clone().filter(|called| called.heard == Heard::Nothing)
        {
            contest::note(self.check, self.world, (self.r, self.o), &mut self.pass, &called);
        }
        let read = self.pass.read.clone().filter(|_| !verdict.deferred);
        self.remember(|memory| {
            if let Some(read) = read {
                memory.examined = read.map(|secret| secret.version());
            }
            if let Some((version, print)) = &verdict.applied_value {
                memory.applied = Some((numbered(version), valued(print)));
            }
            memory.wake = verdict.wake.map(second);
        });
        Some(false)
    }

    /// Writes the status, in the version that this pass knows only.
    fn write_status(&mut self, status: VncPasswordStatus) -> Written {
        let place = &mut self.world.places[self.o];
        let Some(object) = place.object.as_ref().filter(|object| object.uid == self.pass.object.uid) else {
            return Written::Gone;
        };
        if object.version != self.pass.object.version && !self.check.without(Rule::StatusPrecondition) {
            return Written::Conflict;
        }
        let mut object = (**object).clone();
        object.version += 1;
        object.status = Kept::new(status);
        let object = Arc::new(object);
        place.object = Some(Arc::clone(&object));
        Written::Done(object)
    }

    /// Somebody has changed the object since: decides again on what it is now.
    fn refresh(&mut self) -> bool {
        self.pass.conflicts += 1;
        if self.pass.conflicts > MOST_CONFLICTS {
            return self.fail();
        }
        let fresh = self.world.places[self.o].object.clone();
        let Some(fresh) = fresh.filter(|fresh| fresh.uid == self.pass.object.uid) else { return false };
        let of = Arc::clone(&self.pass.object);
        let changed = fresh.generation != of.generation;
        if changed || fresh.rotate_at != of.rotate_at {
            self.remember(|memory| memory.woken = true);
        }
        self.remember(|memory| memory.object = Some(Arc::clone(&fresh)));
        if changed && self.pass.attempt.is_none() {
            return false;
        }
        // Spec and annotation stay as they were observed.
        let (generation, suspended, rotate_at) = (of.generation, of.suspended, of.rotate_at);
        self.pass.object = Arc::new(Object { generation, suspended, rotate_at, ..(*fresh).clone() });
        true
    }
}

/// How a write of the status ended.
enum Written {
    Done(Arc<Object>),
    Conflict,
    Gone,
}

/// Looks at the instance.
pub fn look(world: &mut World, r: usize, o: usize) {
    let cloud = &world.cloud;
    let look = Look { at: world.now, running: cloud.running, started: cloud.started };
    world.replicas[r].memories[o].look = Some(look);
}

/// The Secret after a write.
pub fn written(standing: Option<&Secret>, write: &SecretWrite, uid: u8) -> Secret {
    let mut secret = standing.cloned().unwrap_or(Secret {
        uid,
        version: 0,
        current: Value::Absent,
        next: Value::Absent,
        previous: Value::Absent,
        record: None,
        acts: 0,
    });
    secret.version += 1;
    let SecretWrite { current, next, previous, record, .. } = write;
    let places = [(&mut secret.current, current), (&mut secret.next, next), (&mut secret.previous, previous)];
    for (value, change) in places {
        match change {
            Change::Keep => {}
            Change::Set(password) => *value = Value::Is(number(password)),
            Change::Remove => *value = Value::Absent,
        }
    }
    secret.record = Some(Kept::new(record.clone()));
    secret
}
