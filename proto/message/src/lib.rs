//! The Internet message (RFC 5322) and MIME (RFC 2045 to 2049): what a message says of itself, and what we write on it.
//!
//! On its way in a message passes [`repair`], which mends its header section, and [`scan`], which works out its
//! [`digest`]; [`trace`] makes the fields put on top. A submitted one also passes [`header_rules`], and [`submission`] says
//! whether its author is plain and which fields it lacks. [`report`] tells a sender what became of a message. Reading uses
//! [`header`] for parts of a header section and [`decode`] with [`charset`] for text to search in. Nothing here changes a
//! stored octet, and nothing here decides about a message: verdicts are values, and policy's to carry out. Every octet is
//! hostile; every limit has a name.

pub mod charset;
pub mod decode;
pub mod digest;
pub mod header;
pub mod header_rules;
pub mod mime;
pub mod repair;
pub mod report;
pub mod scan;
pub mod submission;
pub mod trace;
