//! What every protocol machine looks like from outside.
//!
//! A machine takes the peer's octets, answers to its own questions, and the time; it gives steps. It never touches a
//! socket, a disk or a clock, so a dialogue in a text file exercises exactly what runs in production. One driver
//! (`net::drive`) carries the steps of every protocol.

use std::net::SocketAddr;
use std::time::Duration;

/// A point on the driver's monotonic clock, counted from an arbitrary origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// The moment `delay` later; saturates instead of overflowing.
    pub fn after(self, delay: Duration) -> Moment {
        Moment(self.0.saturating_add(delay))
    }
}

/// What a machine wants done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<Q> {
    /// Send these octets to the peer; ask for the next step when the transport has taken them.
    Write(Vec<u8>),
    /// Octets of the message being received, decoded: append them to the body being staged.
    Body(Vec<u8>),
    /// Answer this question through [`Machine::answer`] before asking for the next step.
    Ask(Q),
    /// Nothing to do until octets or a notice arrive, or `deadline` passes.
    Wait {
        /// When the wait ends at the latest; the machine is then asked for its next step with the new time.
        deadline: Moment,
        /// Whether a notice from the change feed also ends the wait.
        notices: bool,
    },
    /// Everything written so far is sent; now start TLS as the accepting side. Octets that the peer sent
    /// before the handshake must be thrown away by the driver and have been by the machine (V3).
    StartTls,
    /// The dialogue is over: flush and close the connection.
    Close,
}

/// Facts about the TLS layer of a connection, for trace fields and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// Protocol version as printed in trace fields, such as `TLSv1.3`.
    pub version: &'static str,
    /// Cipher suite by its RFC name, such as `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// Strength of the cipher in bits.
    pub bits: u16,
    /// Name that the client asked for (SNI), in lower case.
    pub server_name: Option<String>,
}

/// Where a connection comes from and where it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    /// The peer's address; `None` on a UNIX socket.
    pub peer: Option<SocketAddr>,
    /// Our own address of the connection; `None` on a UNIX socket.
    pub local: Option<SocketAddr>,
    /// Present when the connection began inside TLS.
    pub tls: Option<TlsFacts>,
}

/// A protocol session without input or output.
///
/// The driver's duties: call [`next`](Machine::next) until it gives `Wait`; then deliver octets, a notice, or simply
/// the later time, and call `next` again. Octets are delivered only after a `Wait`.
pub trait Machine {
    /// What the machine asks of the world.
    type Question;
    /// What the world answers.
    type Answer;

    /// The next step at time `now`.
    fn next(&mut self, now: Moment) -> Step<Self::Question>;
    /// Octets from the peer. How they are split over calls must not change the dialogue.
    fn receive(&mut self, octets: &[u8]);
    /// The answer to the last `Step::Ask`.
    fn answer(&mut self, answer: Self::Answer);
    /// Something changed in what the session watches.
    fn notice(&mut self);
    /// The peer closed its side, or the connection broke.
    fn end_of_input(&mut self);
    /// The handshake asked for by `Step::StartTls` is done.
    fn tls_started(&mut self, facts: TlsFacts);
    /// The server is going down: finish the command in hand, say goodbye in the protocol's way, close.
    fn shutdown(&mut self);
}
