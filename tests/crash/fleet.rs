//! Fifty objects that rotate, and the people who keep them at it: they also delete objects and Secrets, and let another
//! object take over an instance, and give it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use tokio::time::sleep;
use vncpassword_core::api::{ConditionStatus, ConditionType, VncPassword, VncPasswordStatus};
use vncpassword_emulator::{Cloud, Instance};

use super::{
    faults::LATEST,
    history::{View, revision},
    invariant::{Deletion, is_forgotten},
    killed::{SETTLE, modifies},
};
use vncpassword_test_support::World;

/// Objects alive at any time.
pub const OBJECTS: u32 = 50;
/// Of these, the first stay from start to end, so that their `rotate-at` falls due: at most once a minute.
const STAY: u32 = 20;
/// Longest that an object is away between its deletion and its creation.
const AWAY: Duration = Duration::from_millis(400);
/// Every so many is not I/O optimized, and every other of these is restarted by the operator.
const NOT_OPTIMIZED: u32 = 5;

const ANOTHER_PASSWORD: &str = "another password opens the console";

/// The objects, and what people did to them.
pub struct Fleet {
    pub world: World,
    secrets: View,
    alive: Vec<Member>,
    /// Every instance that there ever was; the Secret and the object have its name.
    pub instances: Vec<String>,
    /// Revisions of Secrets that people have written.
    pub people: BTreeSet<u64>,
    /// When people deleted an object together with its Secret, by instance.
    pub deletions: BTreeMap<String, Vec<Deletion>>,
    /// How often people deleted an object alone, and how often a rival then took its place.
    pub recreated: u32,
    pub displaced: u32,
    /// When the operator was killed.
    pub kills: Vec<Timestamp>,
    /// Names of instances whose lost password people have replaced at the end.
    pub healed: BTreeSet<String>,
    counter: u32,
}

/// The name of a rival, and of its Secret: it names the same instance as the object `name`.
pub fn rival_of(name: &str, generated: bool) -> String {
    if generated { format!("{name}-generated") } else { format!("{name}-user") }
}

/// One object.
struct Member {
    number: u32,
    name: String,
    rotate_at: Option<Timestamp>,
    /// Another object that names the instance, and whether it was there when this object was created.
    rival: Option<(String, bool)>,
}

impl Member {
    fn optimized(&self) -> bool {
        !self.number.is_multiple_of(NOT_OPTIMIZED)
    }

    fn spec(&self) -> Value {
        let reboot = self.number.is_multiple_of(2 * NOT_OPTIMIZED);
        json!({"instanceId": self.name, "secretRef": {"name": self.name}, "rotation": {},
            "activation": if reboot { "Reboot" } else { "Manual" }})
    }
}

impl Fleet {
    pub async fn new(world: World, secrets: View) -> Self {
        let mut fleet = Self {
            world,
            secrets,
            alive: Vec::new(),
            instances: Vec::new(),
            people: BTreeSet::new(),
            deletions: BTreeMap::new(),
            recreated: 0,
            displaced: 0,
            kills: Vec::new(),
            healed: BTreeSet::new(),
            counter: 0,
        };
        for number in 0..OBJECTS {
            let member = fleet.create(number).await;
            fleet.alive.push(member);
        }
        fleet
    }

    fn cloud(&self) -> &Cloud {
        self.world.cloud()
    }

    async fn create(&mut self, number: u32) -> Member {
        self.counter += 1;
        let name = format!("i-{number}n{}", self.counter);
        let member = Member { number, name: name.clone(), rotate_at: None, rival: None };
        let instance = Instance::new(&name);
        let instance = if member.optimized() { instance } else { instance.not_optimized() };
        self.cloud().put_instance(instance);
        self.instances.push(name);
        self.world.object_with(&member.name, member.spec()).await;
        member
    }

    /// One thing that somebody does to one object.
    pub async fn disturb(&mut self, rng: &mut StdRng) {
        if rng.random_bool(0.5)
            && let Some(index) = self.just_promoted(rng)
        {
            return self.edit(index, Some(password(rng))).await;
        }
        let index = rng.random_range(0..self.alive.len());
        match rng.random_range(0..100) {
            0..15 => self.renew(index).await,
            15..32 => self.rotate(index).await,
            32..42 => self.edit(index, Some(password(rng))).await,
            42..47 => self.edit(index, None).await,
            47..55 => self.recreate(index, AWAY.mul_f64(rng.random_range(0.0..1.0)), false).await,
            55..60 => self.recreate(index, AWAY.mul_f64(rng.random_range(0.0..1.0)), true).await,
            60..78 => self.contend(index, rng.random_bool(0.5)).await,
            78..86 => self.hurry(&self.alive[index].name).await,
            _ => {
                let slow: Vec<&Member> = self.alive.iter().filter(|member| !member.optimized()).collect();
                let name = slow.choose(rng).unwrap().name.clone();
                self.restart(&name);
            }
        }
    }

    /// A password that was just accepted, if there is one: where an earlier call of it was lost and still arrives,
    /// another value now is what it would overwrite.
    fn just_promoted(&self, rng: &mut StdRng) -> Option<usize> {
        let since = self.cloud().now() - Duration::from_millis(500);
        let promoted = |index: &usize| self.secrets.was_promoted_since(&self.alive[*index].name, since);
        (0..self.alive.len()).filter(promoted).collect::<Vec<_>>().choose(rng).copied()
    }

    /// The object goes, and another one comes, for another instance. The Secret stays.
    async fn renew(&mut self, index: usize) {
        let number = self.alive[index].number;
        if number >= STAY && self.alive[index].rival.is_none() {
            self.world.delete(&self.alive[index].name).await;
            self.alive[index] = self.create(number).await;
        }
    }

    /// The object goes, alone or together with its Secret, and comes again after a while. A rival that is there takes
    /// over.
    async fn recreate(&mut self, index: usize, away: Duration, with_secret: bool) {
        let name = self.alive[index].name.clone();
        let from = self.cloud().now();
        self.world.delete(&name).await;
        self.recreated += 1;
        if with_secret {
            match self.world.secrets().delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => panic!("{error}"),
            }
            let deletion = Deletion { from, to: self.cloud().now() };
            self.deletions.entry(name.clone()).or_default().push(deletion);
        }
        sleep(away).await;
        let member = &mut self.alive[index];
        self.world.object_with(&name, member.spec()).await;
        member.rotate_at = None;
        if let Some((_, displaced)) = &mut member.rival {
            *displaced = true;
            self.displaced += 1;
        }
    }

    /// Objects go together with their Secrets, and come again at once, most of them while a lost call for them is still to
    /// arrive. Returns how many these were.
    pub async fn recreate_during_calls(&mut self, rng: &mut StdRng, times: u32) -> u32 {
        let mut during_calls = 0;
        for _ in 0..times {
            let since = self.cloud().now() - LATEST;
            let mut to_come = self.cloud().journal();
            to_come.retain(|call| modifies(call) && call.at > since && call.http_status.is_none());
            to_come.retain(|call| call.applied_at.is_none());
            let expects = |index: &usize| {
                to_come.iter().any(|call| call.instance_ids.contains(&self.alive[*index].name))
            };
            let expecting: Vec<usize> = (0..self.alive.len()).filter(expects).collect();
            during_calls += u32::from(!expecting.is_empty());
            let index = expecting.choose(rng).copied();
            let index = index.unwrap_or_else(|| rng.random_range(0..self.alive.len()));
            self.recreate(index, Duration::ZERO, true).await;
            sleep(AWAY).await;
        }
        during_calls
    }

    /// Another object names the instance, with a password of the user's or a generated one; or it goes again.
    async fn contend(&mut self, index: usize, generated: bool) {
        let name = self.alive[index].name.clone();
        // What a process knew of the rival's calls is lost with the rival unless the object has written it down.
        let reconciled = !self.world.status(&name).await.conditions.is_empty();
        if let Some((rival, displaced)) = self.alive[index].rival.take() {
            if displaced && !reconciled {
                self.alive[index].rival = Some((rival, displaced));
            } else {
                self.world.delete(&rival).await;
            }
            return;
        }
        let rival = rival_of(&name, generated);
        let mut spec = json!({"instanceId": name, "secretRef": {"name": rival}});
        if generated {
            spec["rotation"] = json!({});
        } else {
            // Always the same: a reader of this Secret is not what is tried here.
            let value = format!("Us{index:04}");
            self.world.secret(&rival, value).await;
        }
        self.world.object_with(&rival, spec).await;
        self.alive[index].rival = Some((rival, false));
    }

    /// The rivals go.
    pub async fn give_back(&mut self) {
        for index in 0..self.alive.len() {
            while self.alive[index].rival.is_some() {
                self.contend(index, false).await;
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn rotate(&mut self, index: usize) {
        let member = &mut self.alive[index];
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        if member.rotate_at < Some(now) {
            member.rotate_at = Some(now);
            let annotations = json!({"vncpassword.dev/rotate-at": now.to_string()});
            self.world.change(&member.name, json!({"metadata": {"annotations": annotations}})).await;
        }
    }

    /// Writes `<key>`, or removes it, as `kubectl edit` does.
    async fn edit(&mut self, index: usize, value: Option<String>) {
        let secrets: Api<Secret> = self.world.secrets();
        let name = &self.alive[index].name;
        let Some(secret) = secrets.get_opt(name).await.unwrap() else { return };
        if !secret.data.unwrap_or_default().contains_key("password") {
            return;
        }
        let value = value.map(|value| ByteString(value.into()));
        let edit = json!({"metadata": {"resourceVersion": secret.metadata.resource_version},
            "data": {"password": value}});
        match secrets.patch(name, &PatchParams::default(), &Patch::Merge(edit)).await {
            Ok(secret) => {
                self.people.insert(revision(secret.metadata.resource_version));
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// A change of the spec ends the wait for the next attempt, which is not scaled down with the rest.
    async fn hurry(&self, name: &str) {
        let minutes = 60 + Timestamp::now().subsec_nanosecond() % 1000;
        self.world.change(name, json!({"spec": {"enforceInterval": format!("{minutes}m")}})).await;
    }

    /// Restarts an instance. The minute of its start time is another each time, as if restarts lay that far apart.
    fn restart(&self, name: &str) {
        let cloud = self.cloud();
        let before = cloud.instance(name).unwrap().instance;
        if cloud.restart(name) {
            let start_time = before.start_time + Duration::from_secs(60);
            cloud.put_instance(Instance {
                start_time,
                status: vncpassword_emulator::Status::Running,
                ..before
            });
        }
    }

    /// What is still amiss. `hurry`: nobody waits for long any more; those that have failed often try again at once, and
    /// instances that wait for a restart get one.
    pub async fn look(&mut self, hurry: bool) -> Vec<String> {
        let objects = self.world.objects().list(&ListParams::default()).await.unwrap().items;
        let secrets = self.world.secrets().list(&ListParams::default()).await.unwrap().items;
        let mut amiss = Vec::new();
        assert_eq!(objects.len(), self.alive.len());
        let mut lost = Vec::new();
        for (index, member) in self.alive.iter().enumerate() {
            let name = &member.name;
            let of = |other: &Option<String>| other.as_ref() == Some(name);
            let object = objects.iter().find(|object| of(&object.metadata.name)).unwrap();
            let secret = secrets.iter().find(|secret| of(&secret.metadata.name));
            let status = object.status.clone().unwrap_or_default();
            if hurry && status.retry.as_ref().is_some_and(|retry| retry.attempts > Some(1)) {
                self.hurry(name).await;
            }
            if hurry && status.accepted.as_ref().is_some_and(|accepted| accepted.start_time.is_some()) {
                self.restart(name);
            }
            if let Err(wrong) = self.agrees(member, object, &status, secret) {
                let console = self.cloud().instance(name).unwrap().console_password;
                if hurry && wrong == [ANOTHER_PASSWORD] && self.is_forgotten(name, console.as_deref()) {
                    lost.push(index);
                }
                amiss.push(format!(
                    "{name}: {} (console {console:?}): {secret:?} {status:#?}",
                    wrong.join(", ")
                ));
            }
        }
        // R52: object and Secret were deleted during a lost call, and the operator was killed. People see that the console does not open, and rotate.
        for index in lost {
            self.healed.insert(self.alive[index].name.clone());
            self.rotate(index).await;
        }
        amiss
    }

    /// Whether the operator may not know of the call that brought what opens the console.
    fn is_forgotten(&self, name: &str, console: Option<&str>) -> bool {
        let mut calls = self.cloud().journal();
        calls.retain(|call| modifies(call) && call.instance_ids.iter().any(|id| id == name));
        let deletions = self.deletions.get(name).map(Vec::as_slice).unwrap_or_default();
        console.is_some_and(|console| is_forgotten(console, &calls, deletions, &self.kills, SETTLE))
    }

    fn agrees(
        &self,
        member: &Member,
        object: &VncPassword,
        status: &VncPasswordStatus,
        secret: Option<&Secret>,
    ) -> Result<(), Vec<&'static str>> {
        let data = secret.and_then(|secret| secret.data.clone()).unwrap_or_default();
        let current = data.get("password").map(|value| String::from_utf8(value.0.clone()).unwrap());
        let console = self.cloud().instance(&member.name).unwrap().console_password;
        let unrest = [ConditionType::Reconciling, ConditionType::Stalled, ConditionType::RebootRequired];
        let table = [
            ("not Ready", status.ready() == ConditionStatus::True),
            ("not at rest", unrest.into_iter().all(|type_| status.condition(type_).is_none())),
            ("not up to date", status.observed_generation == object.metadata.generation),
            ("nothing generated", current.is_some()),
            (ANOTHER_PASSWORD, current == console),
            ("still under way", !data.contains_key("password.next")),
            ("no rotation counted", status.rotations >= Some(1)),
            (
                "rotate-at not handled",
                status.last_handled_rotate_at.as_ref().map(|time| time.0) == member.rotate_at
                    || member.rotate_at.is_none(),
            ),
        ];
        let wrong: Vec<&str> = table.iter().filter(|(_, right)| !right).map(|(what, _)| *what).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Six characters, with all that passwords ought to hold.
fn password(rng: &mut StdRng) -> String {
    format!("Ed{:04}", rng.random_range(0..10_000))
}
