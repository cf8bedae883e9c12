//! One pass: what the controller does around `decide`, one request at a time.

use std::sync::Arc;

use vncpassword::{
    api::VncPasswordStatus,
    rotation::{
        Decision, Verdict,
        contents::{Change, SecretWrite},
        decide,
        facts::{Drawn, Found, History, Observed, Unsettled},
        rotate_at::RotateAt,
    },
};

use super::{
    check::Check,
    rules::Rule,
    values::{FIRST_OF_A_PERSON, Kept, Value, at, fingerprint, number, password, second},
    world::{Called, Calling, Look, Object, Pass, Replica, Said, Secret, World, named, numbered},
};

/// Conflicts in a row after which a pass gives up for a while.
const MOST_CONFLICTS: u8 = 5;

/// Whether the reply to a write comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Comes,
    Lost,
}

/// Begins a pass.
pub fn start(world: &mut World, r: usize) {
    let now = world.now;
    let replica = &mut world.replicas[r];
    replica.woken = false;
    replica.wake = None;
    replica.pass = Some(Box::new(Pass {
        object: Arc::clone(&replica.object),
        secret: replica.secret,
        read: None,
        signed: now,
        drawn: None,
        announced: None,
        rebooted: None,
        attempt: replica.unrecorded.take(),
        looked: false,
        conflicts: 0,
        cleared: true,
        calling: None,
    }));
}

/// Decides, and does what was decided; `None`: there is nothing of the kind to do.
pub fn step(check: &Check, world: &mut World, r: usize, reply: Reply) -> Option<()> {
    let mut pass = world.replicas[r].pass.take().filter(|pass| pass.calling.is_none())?;
    let decision = loop {
        let observed = check.shown(observed(check, world, r, &pass));
        match decide(&observed, at(world.now)) {
            Decision::Draw => {
                world.drawn += 1;
                assert!(world.drawn < FIRST_OF_A_PERSON);
                pass.drawn = Some(world.drawn);
            }
            decision => break decision,
        }
    };
    let writes = matches!(decision, Decision::WriteSecret(_) | Decision::Announce(..) | Decision::Rest(_));
    if reply == Reply::Lost && !writes {
        return None;
    }
    let mut run = Run { check, world, r, reply, pass };
    let goes_on = match decision {
        Decision::ReadCredentials => unreachable!("they are known"),
        Decision::ReadSecret => {
            run.read();
            true
        }
        Decision::Draw => unreachable!("drawn above"),
        Decision::WriteSecret(write) => run.write_secret(&write),
        Decision::Send(_) => run.goes_out(Calling::Modify),
        Decision::Reboot => run.goes_out(Calling::Reboot),
        Decision::Announce(announcement, verdict) => run.announce(Said::of(announcement), *verdict),
        Decision::Rest(verdict) => run.rest(*verdict)?,
    };
    let mut pass = run.pass;
    pass.cleared = world.leader == r;
    if goes_on {
        world.replicas[r].pass = Some(pass);
    }
    Some(())
}

/// What `decide` is told.
fn observed(check: &Check, world: &World, r: usize, pass: &Pass) -> Observed {
    let replica = &world.replicas[r];
    let look = replica.look.as_ref().map(|look| vncpassword::rotation::facts::Look {
        at: at(look.at),
        found: Found::Seen(look.seen(check.setting.optimized)),
    });
    let unsettled = replica.unsettled.iter().filter(|(_, until)| *until > world.now);
    let unsettled =
        unsettled.map(|(value, until)| Unsettled { value: Some(fingerprint(*value)), until: at(*until) });
    Observed {
        status: Arc::new((*pass.object.status).clone()),
        rotate_at: pass.object.rotate_at.map_or(RotateAt::Never, |time| RotateAt::At(at(time))),
        secret: pass.secret.map(named),
        read: pass.secret_read(),
        history: History {
            applied: None,
            examined: replica.examined.map(named),
            untouched: false,
            unsettled: unsettled.collect(),
        },
        look,
        drawn: pass.drawn.map(|drawn| Drawn { id: format!("r{drawn}"), password: password(drawn) }),
        announced: pass.announced.map(Said::announcement),
        rebooted: pass.rebooted.map(super::world::Heard::reply),
        attempt: pass.attempt.as_ref().map(Called::attempt),
        writer: format!("w{}", replica.writer).into(),
        ..check.template.clone()
    }
}

struct Run<'a> {
    check: &'a Check,
    world: &'a mut World,
    r: usize,
    reply: Reply,
    pass: Box<Pass>,
}

impl Run<'_> {
    fn replica(&mut self) -> &mut Replica {
        &mut self.world.replicas[self.r]
    }

    fn read(&mut self) {
        self.pass.signed = self.world.now;
        let stale = self.check.without(Rule::FreshRead).then(|| self.world.replicas[self.r].stale.clone());
        self.pass.read = Some(stale.flatten().map_or_else(|| self.world.secret.clone(), Some));
    }

    fn may_act(&self) -> bool {
        self.world.leader == self.r || self.check.without(Rule::Lease)
    }

    /// The pass ends here, and another one follows.
    fn fail(&mut self) -> bool {
        let attempt = self.pass.attempt.take();
        let replica = self.replica();
        replica.unrecorded = attempt;
        replica.woken = true;
        false
    }

    fn write_secret(&mut self, write: &SecretWrite) -> bool {
        if !self.may_act() && !self.pass.cleared {
            return self.fail();
        }
        let write = self.check.before_write(self.world, &mut self.pass, write, self.reply);
        let Some(write) = write else { return self.fail() };
        let drawn = self.pass.drawn.take();
        let Some(secret) = self.apply(&write) else {
            self.pass.drawn = drawn;
            self.pass.conflicts += 1;
            if self.check.without(Rule::Conflict) {
                let read = self.pass.read.clone().flatten();
                self.pass.read = Some(Some(Arc::new(written(read.as_deref(), &write, 0))));
                self.pass.drawn = None;
                return true;
            }
            if self.pass.conflicts > MOST_CONFLICTS {
                return self.fail();
            }
            self.read();
            return true;
        };
        if let (Some(drawn), Change::Set(next)) = (drawn, &write.next)
            && number(next) == drawn
        {
            self.world.seen.begun += 1;
        }
        if self.reply == Reply::Lost {
            return self.fail();
        }
        let replica = self.replica();
        replica.secret = Some(secret.version());
        replica.stale = replica.stale.is_some().then(|| Arc::clone(&secret));
        self.pass.read = Some(Some(secret));
        true
    }

    /// Writes the Secret; `None`: it is in another version, or there already.
    fn apply(&mut self, write: &SecretWrite) -> Option<Arc<Secret>> {
        let (check, world) = (self.check, &mut *self.world);
        let standing = world.secret.as_deref();
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
        world.secret = Some(Arc::clone(&secret));
        Some(secret)
    }

    fn goes_out(&mut self, calling: Calling) -> bool {
        if !self.may_act() {
            return self.fail();
        }
        self.world.seen.intruded |= self.world.leader != self.r;
        self.pass.calling = Some(calling);
        true
    }

    fn announce(&mut self, said: Said, verdict: Verdict) -> bool {
        if !self.may_act() && !self.pass.cleared {
            return self.fail();
        }
        if self.check.without(Rule::RebootAfterWrite) && said == Said::Reboot && self.pass.rebooted.is_none()
        {
            self.pass.calling = Some(Calling::Reboot);
            return true;
        }
        match self.write_status(verdict.status) {
            None => self.refresh(),
            Some(_) if self.reply == Reply::Lost => self.fail(),
            Some(object) => {
                self.replica().object = Arc::clone(&object);
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
            look(self.world, self.r);
            return (self.reply == Reply::Comes).then_some(true);
        }
        let replica = self.replica();
        if let Some(unsettled) = verdict.unsettled {
            let value = self.pass.attempt.as_ref().map_or(0, |attempt| attempt.value);
            let replica = self.replica();
            replica.unsettled.retain(|(former, until)| *former != value && *until > now);
            replica.unsettled.push((value, second(unsettled.until)));
            replica.unsettled.sort_unstable();
        } else {
            replica.unsettled.retain(|(_, until)| *until > now);
        }
        let replica = self.replica();
        replica.look_due = verdict.look.map(second);
        if verdict.look.is_none() {
            replica.look = None;
        }
        if verdict.status != *self.pass.object.status {
            match self.write_status(verdict.status) {
                None => return Some(self.refresh()),
                Some(_) if self.reply == Reply::Lost => return Some(self.fail()),
                Some(object) => self.replica().object = object,
            }
        } else if self.reply == Reply::Lost {
            return None;
        }
        if let Some(read) = &self.pass.read
            && !verdict.deferred
        {
            self.world.replicas[self.r].examined = read.as_ref().map(|secret| secret.version());
        }
        self.replica().wake = verdict.wake.map(second);
        Some(false)
    }

    /// Writes the status, in the version that this pass knows only.
    fn write_status(&mut self, status: VncPasswordStatus) -> Option<Arc<Object>> {
        let object = &self.world.object;
        if object.version != self.pass.object.version && !self.check.without(Rule::StatusPrecondition) {
            return None;
        }
        let (version, rotate_at) = (object.version + 1, object.rotate_at);
        self.world.object = Arc::new(Object { version, rotate_at, status: Kept::new(status) });
        Some(Arc::clone(&self.world.object))
    }

    fn refresh(&mut self) -> bool {
        self.pass.conflicts += 1;
        if self.pass.conflicts > MOST_CONFLICTS {
            return self.fail();
        }
        let fresh = Arc::clone(&self.world.object);
        // `rotate_at` stays as it was observed.
        let rotate_at = self.pass.object.rotate_at;
        if rotate_at != fresh.rotate_at {
            self.replica().woken = true;
        }
        self.replica().object = Arc::clone(&fresh);
        self.pass.object = Arc::new(Object { rotate_at, ..(*fresh).clone() });
        true
    }
}

/// Looks at the instance.
pub fn look(world: &mut World, r: usize) {
    let cloud = &world.cloud;
    let look = Look { at: world.now, running: cloud.running, started: cloud.started };
    world.replicas[r].look = Some(look);
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
