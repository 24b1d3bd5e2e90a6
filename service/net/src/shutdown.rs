//! The word that the server goes down, said once and heard by every listener and session.

use tokio::sync::watch;

/// The saying end. Dropping it counts as saying it: whoever held it is gone.
#[derive(Debug)]
pub struct ShutdownSwitch(watch::Sender<bool>);

/// The hearing end; cheap to clone, one per listener and session.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl ShutdownSwitch {
    /// A switch that has not been used, and its first listener.
    pub fn new() -> (ShutdownSwitch, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownSwitch(sender), Shutdown(receiver))
    }

    /// Tells everybody. Saying it again changes nothing.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once the shutdown is requested, at once if it was before. Safe to cancel.
    pub async fn requested(&mut self) {
        // An error means that the switch was dropped, which is the same news.
        let _ = self.0.wait_for(|requested| *requested).await;
    }

    /// Whether it was requested already.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_it_and_late_listeners_too() {
        let (switch, mut first) = ShutdownSwitch::new();
        assert!(!first.is_requested());
        switch.request();
        let mut late = first.clone();
        first.requested().await;
        late.requested().await;
        assert!(late.is_requested());
    }

    #[tokio::test]
    async fn a_dropped_switch_is_a_request() {
        let (switch, mut heard) = ShutdownSwitch::new();
        drop(switch);
        heard.requested().await;
        assert!(heard.is_requested());
    }
}
