//! A driver that carries a session's steps in a test.

use crate::world::World;
use mail::{Machine, Moment, Step, TlsFacts};
use smtp_proto::Session;

/// Largest step that a session may hand out, in octets.
pub const STEP_OCTETS_MAX: usize = 64 * 1024;

/// A session on the line with a world behind it.
pub struct Line {
    pub session: Session,
    pub world: World,
    pub now: Moment,
    pub closed: bool,
    text: Vec<u8>,
    output: Vec<u8>,
}

impl Line {
    /// Connected and greeted.
    pub fn to(world: World) -> Line {
        let session = world.session();
        let now = Moment::default();
        let mut line = Line { session, world, now, closed: false, text: Vec::new(), output: Vec::new() };
        line.run();
        line.output.clear();
        line
    }

    /// Sends octets; what came back.
    pub fn send(&mut self, octets: &[u8]) -> String {
        if !self.closed {
            self.session.receive(octets);
            self.run();
        }
        String::from_utf8(std::mem::take(&mut self.output)).expect("replies are UTF-8")
    }

    /// The client hangs up; what came back.
    pub fn hang_up(&mut self) -> String {
        self.session.end_of_input();
        self.run();
        String::from_utf8(std::mem::take(&mut self.output)).expect("replies are UTF-8")
    }

    /// Carries steps until the session waits. A handshake succeeds at once.
    pub fn run(&mut self) {
        loop {
            match self.session.next(self.now) {
                Step::Write(octets) => {
                    assert!(!octets.is_empty() && octets.len() <= STEP_OCTETS_MAX);
                    self.output.extend(octets);
                }
                Step::Body(octets) => {
                    assert!(!octets.is_empty() && octets.len() <= STEP_OCTETS_MAX && self.world.is_staging());
                    self.text.extend(octets);
                }
                Step::Ask(question) => {
                    let answer = self.world.answer(question, &mut self.text);
                    self.session.answer(answer);
                }
                Step::StartTls => self.session.tls_started(TlsFacts {
                    version: "TLSv1.3",
                    cipher: "TLS_AES_128_GCM_SHA256".into(),
                    bits: 128,
                    server_name: None,
                }),
                Step::Wait { deadline, .. } => {
                    assert!(deadline > self.now);
                    return;
                }
                Step::Close => {
                    assert!(!self.world.is_staging(), "closed with a staged body");
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// How much the session holds, as the length of its printed form: some five characters an octet.
    pub fn weight(&self) -> usize {
        format!("{:?}", self.session).len()
    }
}
