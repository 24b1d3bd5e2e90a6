//! A listening socket whose connections have a thread each, all of which end when it is dropped.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for octets of a peer, and for a peer to take ours.
const PEER_MAX: Duration = Duration::from_secs(60);

/// A listening socket.
pub(crate) struct Listener {
    socket: TcpListener,
    ending: Arc<Ending>,
    accepting: Option<JoinHandle<()>>,
}

/// How connections learn that it is over.
pub(crate) struct Ending {
    /// Whether it is over, and the open connections.
    state: Mutex<(bool, BTreeMap<u64, TcpStream>)>,
    over: Condvar,
}

impl Ending {
    /// Pauses, but not longer than the listener lives; whether the listener still lives.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let begun = Instant::now();
        let mut state = lock(&self.state);
        while !state.0 {
            let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else { return true };
            state = self.over.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

/// A lock that a failed assertion in another thread does not close.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener {
    /// Listens, and serves each connection in a thread of its own.
    pub(crate) fn start(
        address: SocketAddrV4,
        serve: impl Fn(TcpStream, &Ending) + Send + Sync + 'static,
    ) -> io::Result<Listener> {
        let socket = TcpListener::bind(address)?;
        let ending = Arc::new(Ending { state: Mutex::new((false, BTreeMap::new())), over: Condvar::new() });
        let (accepted_from, shared, serve) = (socket.try_clone()?, Arc::clone(&ending), Arc::new(serve));
        let accepting = std::thread::spawn(move || {
            let mut serving: Vec<JoinHandle<()>> = Vec::new();
            for (number, stream) in (0..).zip(accepted_from.incoming()) {
                // The socket is shut down when it is over; then accepting fails.
                let Ok(stream) = stream else { break };
                if !enter(&shared, number, &stream) {
                    break;
                }
                let (shared, serve) = (Arc::clone(&shared), Arc::clone(&serve));
                serving.retain(|thread| !thread.is_finished());
                serving.push(std::thread::spawn(move || {
                    serve(stream, &shared);
                    lock(&shared.state).1.remove(&number);
                }));
            }
            for thread in serving {
                // A thread that panicked has printed why.
                let _ = thread.join();
            }
        });
        Ok(Listener { socket, ending, accepting: Some(accepting) })
    }
}

/// Enters a connection among the open ones; whether it may be served.
fn enter(ending: &Ending, number: u64, stream: &TcpStream) -> bool {
    let limits = [stream.set_read_timeout(Some(PEER_MAX)), stream.set_write_timeout(Some(PEER_MAX))];
    let Ok(copy) = stream.try_clone() else { return false };
    let mut state = lock(&ending.state);
    if state.0 || limits.iter().any(Result::is_err) || stream.set_nodelay(true).is_err() {
        return false;
    }
    state.1.insert(number, copy);
    true
}

impl Drop for Listener {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.ending.state);
            state.0 = true;
            for stream in state.1.values() {
                // A peer may have closed it already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.ending.over.notify_all();
        // This wakes the thread that accepts.
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
