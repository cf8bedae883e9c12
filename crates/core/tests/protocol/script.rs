//! Histories too long to be found by exploring, told step by step: each was lost once.

use stateright::Model;

use super::{
    check::{
        self, Check,
        Happens::{
            self, Arrives, Boot, Call, Crash, Look, Pass, RotateAt, SeesObject, SeesSecret, Step, Stop, Tick,
        },
    },
    pass::Reply,
    runs::POWER,
    setting::{Budget, Fate, Setting},
    truth,
    world::World,
};

struct Script {
    check: Check,
    world: World,
}

impl Script {
    fn of(setting: Setting) -> Self {
        let check = Check::new(setting, None);
        let world = check.init_states().remove(0);
        Self { check, world }
    }

    fn happens(&mut self, happens: Happens) {
        assert!(self.check.happens(&mut self.world, happens).is_some(), "{happens:?} in {:#?}", self.world);
        assert!(truth::known(&self.check, &self.world), "after {happens:?}: {:#?}", self.world);
    }

    fn all(&mut self, happens: &[Happens]) {
        for happens in happens {
            self.happens(*happens);
        }
    }

    /// Everything of the one replica that is due now, until a call is to go out.
    fn runs(&mut self) {
        loop {
            let memory = &self.world.replicas[0].memories[0];
            let next = match &memory.pass {
                Some(pass) if pass.calling.is_some() => return,
                Some(_) => Step(0, 0, Reply::Comes),
                None if check::sees_secret(&self.world, 0, 0) => SeesSecret(0, 0),
                None if check::sees_object(&self.world, 0, 0) => SeesObject(0, 0),
                None if check::due(&self.world, 0, 0) => Pass(0, 0),
                None if memory.look_due.is_some_and(|due| due <= self.world.now) => Look(0, 0),
                None => return,
            };
            self.happens(next);
        }
    }

    fn tick(&mut self) {
        self.happens(Tick);
        self.runs();
    }

    fn calls(&self) -> bool {
        self.world.replicas[0].memories[0].pass.as_ref().is_some_and(|pass| pass.calling.is_some())
    }
}

/// A restart around the call: what was accepted is sent again, that call is late, and its process ends. Another one sees
/// the next restart, and promotes: the record has to say that no other password may be drawn yet.
#[test]
fn what_is_sent_again_may_arrive_late() {
    let budget = Budget { stops: 3, fates: 1, crashes: 1, annotations: 2, pauses: 9, ..POWER.budget };
    let mut script = Script::of(Setting { name: "script", moments: 9, valid: 2, budget, ..POWER });
    script.happens(RotateAt);
    script.runs();
    script.all(&[Stop, Boot, Call(0, 0, None)]);
    script.runs();
    script.tick();
    script.all(&[Call(0, 0, Some(Fate::Late)), Crash(0), Stop]);
    script.runs();
    script.all(&[RotateAt, Boot]);
    script.tick();
    script.tick();
    if script.calls() {
        script.happens(Call(0, 0, None));
    }
    script.happens(Arrives(0));
    script.runs();
    script.tick();
    script.all(&[Stop, Boot]);
    script.runs();
    script.tick();
}
