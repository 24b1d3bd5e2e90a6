//! The administrator's side of a running server: the control socket and the metrics page.
//!
//! Files are the truth and are edited by commands directly; the control socket is only for what the running process alone
//! can do or know: reload, status, usage.

pub mod control;
pub mod metrics_page;
pub mod queue_desk;
