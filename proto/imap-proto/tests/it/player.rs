//! A client of the tests: sends octets to a session, carries its steps, and keeps what it says.

use crate::world::World;
use imap_proto::Session;
use mail::{Machine, Moment, Step};
use std::time::Duration;

/// More steps than any test needs before a session waits.
const STEPS_MAX: usize = 2_000_000;

pub struct Player {
    pub session: Session,
    pub closed: bool,
    body: Vec<u8>,
    now: Moment,
}

impl Player {
    /// A session that has greeted.
    pub fn connect(world: &mut World) -> Player {
        let now = Moment(Duration::from_secs(1_000));
        let mut player = Player { session: world.session(), closed: false, body: Vec::new(), now };
        assert!(player.drive(world).starts_with(b"* OK "));
        player
    }

    /// A session that is logged in.
    pub fn log_in(world: &mut World) -> Player {
        let mut player = Player::connect(world);
        assert!(player.say(world, "l LOGIN brian@example.net hunter2").starts_with("l OK "));
        player
    }

    /// Sends octets; gives what comes until the session waits for more.
    pub fn send(&mut self, world: &mut World, octets: &[u8]) -> Vec<u8> {
        if self.closed {
            return Vec::new();
        }
        self.session.receive(octets);
        self.drive(world)
    }

    /// Sends a line.
    pub fn say(&mut self, world: &mut World, line: &str) -> String {
        String::from_utf8_lossy(&self.send(world, format!("{line}\r\n").as_bytes())).into_owned()
    }

    /// The connection breaks.
    pub fn hang_up(&mut self, world: &mut World) {
        self.session.end_of_input();
        self.drive(world);
        assert!(self.closed, "a session outlives its connection");
    }

    pub fn drive(&mut self, world: &mut World) -> Vec<u8> {
        let mut output = Vec::new();
        for _ in 0..STEPS_MAX {
            match self.session.next(self.now) {
                Step::Write(octets) => {
                    assert!(!octets.is_empty(), "nothing to write was written");
                    output.extend(octets);
                }
                Step::Body(octets) => self.body.extend(octets),
                Step::Ask(question) => {
                    let answer = world.answer(question, &mut self.body);
                    self.session.answer(answer);
                }
                Step::Wait { .. } => return output,
                Step::StartTls => {
                    self.closed = true;
                    return output;
                }
                Step::Close => {
                    self.closed = true;
                    return output;
                }
            }
        }
        panic!("the session never waits");
    }
}
