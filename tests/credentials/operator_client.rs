//! The operator's own client against the emulator: what it says of restarts is what the emulator does.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{
    Client, Endpoint, Identity, InstanceStatus, Region, RequestId,
    credentials::{Cache, Environment},
};
use vncpassword_core::rotation::outcome::Class;
use vncpassword_emulator::{
    AccessKey, Action, Clock, DEFAULT_REGION, Emulator, Fault, Instance, Options, Status,
};
use vncpassword_operator::cloud;

/// When the tests play, to the second. The API shows start times to the minute.
fn now() -> Timestamp {
    "2030-01-02T03:04:56Z".parse().unwrap()
}

/// The operator's client with the default access key.
struct Caller {
    client: Client,
    identity: Identity,
}

impl Caller {
    async fn modify(&self, id: &str, password: &str) -> Result<RequestId, ecs::Error> {
        self.client.modify_instance_vnc_passwd(&self.identity, &region(), id, password, now()).await
    }

    async fn reboot(&self, id: &str) -> Result<RequestId, ecs::Error> {
        self.client.reboot_instance(&self.identity, &region(), id, now()).await
    }
}

/// An emulator whose clock stands, and the operator's client.
async fn start(instances: impl IntoIterator<Item = Instance>) -> (Emulator, Caller) {
    let options = Options { clock: Clock::fixed(now()), ..Options::default() };
    let emulator = Emulator::start(options).await.unwrap();
    for instance in instances {
        emulator.cloud().put_instance(instance);
    }
    let credentials = Environment::read(|name| match name {
        "ALIBABA_CLOUD_ACCESS_KEY_ID" => Some(AccessKey::DEFAULT_ID.into()),
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET" => Some(AccessKey::DEFAULT_SECRET.into()),
        _ => None,
    });
    let endpoint = Some(Endpoint::parse(&emulator.url()).unwrap());
    let config = ecs::Config { endpoint, ..ecs::Config::default() };
    let client = Client::new(config, ecs::Clock::new(now)).unwrap();
    let cache = Cache::new(Arc::new(credentials), client.clock().clone());
    (emulator, Caller { client, identity: Identity::new("operator", Arc::new(cache)) })
}

fn region() -> Region {
    Region::parse(DEFAULT_REGION).unwrap()
}

/// The status and the start time that the client sees.
async fn look(caller: &Caller, id: &str) -> (InstanceStatus, Option<Timestamp>) {
    let mut seen =
        caller.client.describe_instances(&caller.identity, &region(), &[id.to_owned()]).await.unwrap();
    let instance = seen.pop().unwrap();
    (instance.status, instance.start_time)
}

#[tokio::test]
async fn a_restart_moves_the_start_time_and_brings_the_password_into_effect() {
    let (emulator, caller) = start([Instance::new("i-1").not_optimized()]).await;
    let cloud = emulator.cloud();
    let console = || cloud.instance("i-1").unwrap().console_password;
    caller.modify("i-1", "Abc123").await.unwrap();
    let before = look(&caller, "i-1").await;
    assert_eq!((before.0, console()), (InstanceStatus::Running, None));

    let request_id = caller.reboot("i-1").await.unwrap();
    let call = cloud.journal().pop().unwrap();
    assert_eq!((call.action.as_str(), call.request_id.as_str()), ("RebootInstance", request_id.as_str()));
    assert_eq!((call.signed_at, call.force_stop), (Some(now()), false));
    assert_eq!(look(&caller, "i-1").await, (InstanceStatus::Stopping, before.1), "accepted, and only begun");

    cloud.advance(cloud.reboot_time());
    let after = "2030-01-02T03:05:00Z".parse().unwrap();
    assert_ne!(before.1, Some(after));
    assert_eq!(look(&caller, "i-1").await, (InstanceStatus::Running, Some(after)));
    assert_eq!(console().as_deref(), Some("Abc123"));
}

#[tokio::test]
async fn what_cannot_be_restarted_is_refused_with_a_code_of_known_class() {
    let stopped = Instance::new("i-stopped").status(Status::Stopped);
    let locked = Instance::new("i-locked").locked("security");
    let (emulator, caller) = start([Instance::new("i-1"), stopped, locked]).await;
    caller.reboot("i-1").await.unwrap();
    let table = [
        ("i-1", "IncorrectInstanceStatus", Class::Waiting),
        ("i-stopped", "IncorrectInstanceStatus", Class::Waiting),
        ("i-locked", "InstanceLockedForSecurity", Class::Denied),
        ("i-none", "InvalidInstanceId.NotFound", Class::NotFound),
    ];
    for (id, expected, class) in table {
        let error = caller.reboot(id).await.unwrap_err();
        assert_eq!(cloud::reply::class(&error), class, "{id}: {error}");
        let ecs::Error::Api { action, code, .. } = error else { panic!("{id}: {error}") };
        assert_eq!((action, code.as_str()), ("RebootInstance", expected), "{id}");
    }
    let calls = emulator.cloud().journal();
    assert_eq!(calls.len(), 1 + table.len(), "one attempt each");
    let started = |id: &str| emulator.cloud().instance(id).unwrap().instance.start_time;
    emulator.cloud().advance(Duration::from_mins(1));
    assert_eq!(started("i-stopped"), started("i-locked"), "nothing has happened to them");
}

/// What a call came to, with all that the operator shows of it: code and id.
fn shown(result: Result<RequestId, ecs::Error>) -> String {
    match result {
        Ok(id) => format!("accepted {id}"),
        Err(ecs::Error::Api { code, request_id, .. }) => {
            format!("{code} {}", request_id.map_or_else(|| "none".to_owned(), |id| id.to_string()))
        }
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn neither_code_nor_request_id_shows_what_was_sent_or_what_the_cloud_does_not_write() {
    let (emulator, caller) = start([Instance::new("i-1")]).await;
    let cloud = emulator.cloud();
    let unreadable = "ModifyInstanceVncPasswd was answered with what the API does not say (HTTP 200): \
                      JSON of another shape";
    let table = [
        (Fault::error(400, "SomethingNew").request_id("A-1"), "SomethingNew A-1"),
        (Fault::error(400, "Wrong.Abc123").request_id("A-1"), "UnrecognizedCode A-1"),
        (Fault::error(400, "wrong.aBC123.x").request_id("A-1-abc123"), "UnrecognizedCode none"),
        (Fault::error(400, "Something New\n").request_id("A 1"), "UnrecognizedCode none"),
        (Fault::error(400, "Forbidden.RAM").request_id("Abc123"), "Forbidden.RAM none"),
        (Fault::error(400, "").request_id("A-1"), "UnrecognizedCode A-1"),
        (Fault::default().request_id("A-1"), "accepted A-1"),
        (Fault::default().request_id("A-1-abc123"), "accepted withheld"),
        (Fault::xml().request_id("Abc123"), "accepted withheld"),
        (Fault::default().request_id("<Abc123>"), unreadable),
    ];
    for (fault, expected) in table {
        cloud.inject(fault.clone().on(Action::ModifyInstanceVncPasswd).times(1));
        assert_eq!(shown(caller.modify("i-1", "Abc123").await), expected, "{fault:?}");
    }
    assert_eq!(cloud.journal().len(), 10, "one attempt each");
    let key = Fault::error(400, format!("No.{}", AccessKey::DEFAULT_ID)).request_id(AccessKey::DEFAULT_ID);
    cloud.inject(key.on(Action::RebootInstance).times(1));
    assert_eq!(shown(caller.reboot("i-1").await), "UnrecognizedCode none");
}
