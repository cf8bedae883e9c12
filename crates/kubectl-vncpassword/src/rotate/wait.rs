//! Waiting for what was asked: watches feed the round, and its lines are written.

use std::{collections::BTreeSet, pin::Pin, time::Duration};

use futures::{Stream, StreamExt, stream::SelectAll};
use kube::{Api, ResourceExt, runtime::watcher};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    Stamped,
    choose::{Target, label},
    session::{Line, Session},
};
use crate::{
    Connection, Console, Doing, Error, ages,
    error::{DONE, FAILED},
    follow::{Heard, follow},
    progress::LastLine,
    server_time::ServerClock,
    summary::ObjectSummary,
};
use vncpassword_core::api::{ClusterVncPassword, FLEET};

/// Up to so many are followed by a watch each, which needs rights on these alone; more share one.
const WATCHES: usize = 4;
/// How often time is looked at.
const TICK: Duration = Duration::from_millis(500);
/// An operator that is well has done something by then.
const SILENCE: Duration = Duration::from_secs(20);
/// How long the lines of a fleet's last passwords are waited for once it is through.
const TRAILING: Duration = Duration::from_secs(2);

enum Event {
    Object(Result<Heard<ObjectSummary>, Error>),
    Fleet(Result<Heard<ClusterVncPassword>, Error>),
    Child(Result<Heard<ObjectSummary>, Error>),
}

type Events = SelectAll<Pin<Box<dyn Stream<Item = Event> + Send>>>;

/// Follows until all are through, or the time is up.
pub async fn wait(
    stamped: Stamped,
    home: Option<&str>,
    patience: Duration,
    clock: ServerClock,
    connection: &Connection,
    console: &mut Console,
) -> Result<u8, Error> {
    let Stamped { asked, refused } = stamped;
    let targets: Vec<&Target> = asked.iter().map(|asked| &asked.target).collect();
    let events = events(&targets, connection);
    let session = Session::new(asked, home, clock.now());
    let mut waiting = Waiting { session, clock, last_line: LastLine::default(), lost: false, console };
    let until = (!patience.is_zero()).then(|| Instant::now() + patience);
    let exit_code = waiting.follow(events, until).await;
    waiting.last_line.clear(waiting.console);
    let in_time = exit_code?;
    let Waiting { session, console, .. } = waiting;
    console.warn(&session.summary(clock.now()));
    if !in_time {
        return Err(Error::TimedOut(format!(
            "the time was up after {}: {}; what is under way goes on, follow it with kubectl vncpassword status --watch",
            ages::span(i64::try_from(patience.as_secs()).unwrap_or(i64::MAX)),
            session.unfinished()
        )));
    }
    Ok(if session.failed() + refused > 0 { FAILED } else { DONE })
}

fn events(targets: &[&Target], connection: &Connection) -> Events {
    let mut events = Events::new();
    let objects: Vec<&ObjectSummary> = targets
        .iter()
        .filter_map(|target| if let Target::Object(object) = target { Some(&**object) } else { None })
        .collect();
    if objects.len() <= WATCHES {
        for object in objects {
            let config = watcher::Config::default().fields(&format!("metadata.name={}", object.name_any()));
            let namespace = object.namespace().unwrap_or_default();
            let doing = Doing::ours("watch", "vncpasswords").within(&namespace).to(&object.name_any());
            let api = Api::namespaced(connection.client.clone(), &namespace);
            events.push(follow(api, config, doing).map(Event::Object).boxed());
        }
    } else {
        let namespaces: BTreeSet<String> = objects.iter().filter_map(|object| object.namespace()).collect();
        let (api, doing) = match namespaces.first() {
            Some(one) if namespaces.len() == 1 => {
                let doing = Doing::ours("watch", "vncpasswords").within(one);
                (Api::namespaced(connection.client.clone(), one), doing)
            }
            _ => (Api::all(connection.client.clone()), Doing::ours("watch", "vncpasswords")),
        };
        events.push(follow(api, watcher::Config::default(), doing).map(Event::Object).boxed());
    }
    for target in targets {
        if let Target::Fleet(fleet) = target {
            follow_fleet(fleet, connection, &mut events);
        }
    }
    events
}

/// The fleet, and its VncPasswords, whose RequestIds it does not know.
fn follow_fleet(fleet: &ClusterVncPassword, connection: &Connection, events: &mut Events) {
    let name = fleet.name_any();
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let doing = Doing::ours("watch", "clustervncpasswords").to(&name);
    events.push(follow(Api::all(connection.client.clone()), config, doing).map(Event::Fleet).boxed());
    let namespace = &fleet.spec.target_namespace;
    let config = watcher::Config::default().labels(&format!("{FLEET}={name}"));
    let doing = Doing::ours("watch", "vncpasswords").within(namespace);
    let api = Api::namespaced(connection.client.clone(), namespace);
    events.push(follow(api, config, doing).map(Event::Child).boxed());
}

struct Waiting<'a> {
    session: Session,
    clock: ServerClock,
    last_line: LastLine,
    /// The watch is lost, and that was told.
    lost: bool,
    console: &'a mut Console,
}

impl Waiting<'_> {
    /// Whether all came to their end in time.
    async fn follow(&mut self, mut events: Events, until: Option<Instant>) -> Result<bool, Error> {
        let begun = Instant::now();
        let mut silent = true;
        let mut over_since = None;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.hear(event)?,
                    None => return Ok(self.session.over()),
                },
                _ = ticks.tick() => {
                    let lines = self.session.tick(self.clock.now());
                    self.write(lines)?;
                    let line = self.session.line(self.clock.now());
                    self.last_line.show(&line, self.console);
                    silent &= !self.session.moved();
                    if silent && begun.elapsed() >= SILENCE {
                        silent = false;
                        let text = "nothing has happened yet: is the operator running? See kubectl vncpassword doctor";
                        self.write(vec![Line::Progress(text.to_owned())])?;
                    }
                }
                () = sleep_until(until.unwrap_or(begun)), if until.is_some() => return Ok(false),
            }
            if self.session.over() {
                let since = *over_since.get_or_insert_with(Instant::now);
                if self.session.unreported_members() == 0 || since.elapsed() >= TRAILING {
                    return Ok(true);
                }
            } else {
                over_since = None;
            }
        }
    }

    fn hear(&mut self, event: Event) -> Result<(), Error> {
        let now = self.clock.now();
        let line = match event {
            Event::Object(heard) => self.take(heard?, |session, heard| match heard {
                Heard::Is(object) => session.object(object, now),
                Heard::Gone(object) => session.gone(&label(&object, None)),
                Heard::Complete | Heard::Lost(_) => None,
            }),
            Event::Fleet(heard) => self.take(heard?, |session, heard| match heard {
                Heard::Is(fleet) => session.fleet(fleet, now),
                Heard::Gone(fleet) => session.gone(&Target::Fleet(fleet).key()),
                Heard::Complete | Heard::Lost(_) => None,
            }),
            Event::Child(Ok(heard)) => self.take(heard, |session, heard| match heard {
                Heard::Is(object) => session.child(&object),
                Heard::Gone(_) | Heard::Complete | Heard::Lost(_) => None,
            }),
            // The fleet itself tells how far it is.
            Event::Child(Err(error)) => {
                Some(Line::Progress(format!("no RequestIds are shown of the fleet: {error}")))
            }
        };
        self.write(line.into_iter().collect())
    }

    /// Tells of a lost watch once, and leaves the rest to the round.
    fn take<K>(
        &mut self,
        heard: Heard<K>,
        then: impl FnOnce(&mut Session, Heard<K>) -> Option<Line>,
    ) -> Option<Line> {
        match heard {
            Heard::Lost(why) => {
                let reported = std::mem::replace(&mut self.lost, true);
                (!reported)
                    .then(|| Line::Progress(format!("the watch was lost and is taken up again: {why}")))
            }
            Heard::Complete => {
                self.lost = false;
                None
            }
            heard => then(&mut self.session, heard),
        }
    }

    fn write(&mut self, lines: Vec<Line>) -> Result<(), Error> {
        if !lines.is_empty() {
            self.last_line.clear(self.console);
        }
        for line in lines {
            match line {
                Line::Finished(text) => self.console.say(&(text + "\n"))?,
                Line::Progress(text) => self.console.warn(&text),
            }
        }
        Ok(())
    }
}
