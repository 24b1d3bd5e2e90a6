//! The record itself: which descriptors are watched, where names lie, and how an entry is written.
//!
//! An entry is its length in octets (32 bits, without itself), its kind (8 bits), the numbers of that kind (64 bits
//! each), all little-endian, and a tail of octets that reaches to the end.

use libc::{c_int, c_long};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Last part of the path of what is a mark and not a file.
pub const MARK_FILE: &[u8] = b"/RECORDER_MARK";

/// Descriptors from here on are not watched; opening one below the folder makes the record unusable.
const DESCRIPTORS_MAX: usize = 65_536;

/// What an entry tells. The numbers that follow the kind are named here, then the tail.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Kind {
    /// Handle, flags of the call; path.
    Open = 1,
    /// Handle, offset; data.
    Write = 2,
    /// Handle, length.
    Truncate = 3,
    /// Handle, length that the file has at least.
    Allocate = 4,
    /// Handle, token.
    SyncBegin = 5,
    /// Handle, token.
    SyncEnd = 6,
    /// Old path, a zero octet, new path.
    Rename = 7,
    /// Existing path, a zero octet, new path.
    Link = 8,
    /// Path of a file or an empty folder.
    Unlink = 9,
    /// Path.
    MakeFolder = 10,
    /// What was marked.
    Mark = 11,
    /// What it was that cannot be put down.
    Unseen = 12,
}

/// What is known of a watched descriptor, in one word: a number that no other opening has, and three marks.
#[derive(Clone, Copy)]
pub struct Handle(u64);

const APPENDS: u64 = 1 << 63;
const MARKS: u64 = 1 << 62;
const SHARED_MEMORY: u64 = 1 << 61;

impl Handle {
    /// Its number in the record.
    pub fn number(self) -> u64 {
        self.0 & !(APPENDS | MARKS | SHARED_MEMORY)
    }

    /// Whether it was opened with `O_APPEND`.
    pub fn appends(self) -> bool {
        self.0 & APPENDS != 0
    }

    /// Whether what is written there are marks.
    pub fn is_marks(self) -> bool {
        self.0 & MARKS != 0
    }

    /// Whether this is SQLite's `-shm`, which is made anew after a crash.
    pub fn is_shared_memory(self) -> bool {
        self.0 & SHARED_MEMORY != 0
    }
}

/// The record being written.
pub struct Journal {
    log: c_int,
    folder: Vec<u8>,
    order: Mutex<()>,
    next: AtomicU64,
    /// How many syncs are still to be asked for until the process is to end; 0 for never.
    syncs_left: AtomicU64,
}

static JOURNAL: OnceLock<Option<Journal>> = OnceLock::new();
static HANDLES: [AtomicU64; DESCRIPTORS_MAX] = [const { AtomicU64::new(0) }; DESCRIPTORS_MAX];

impl Journal {
    /// The process's record, if it has one.
    pub fn get() -> Option<&'static Journal> {
        JOURNAL.get_or_init(Journal::begin).as_ref()
    }

    fn begin() -> Option<Journal> {
        let variable = |name: &CStr| {
            let value = unsafe { libc::getenv(name.as_ptr()) };
            (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
        };
        let (folder, log) = (variable(c"RECORDER_FOLDER")?, variable(c"RECORDER_LOG")?);
        let open = |path: &CStr, flags: c_int| {
            let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600) } as c_int;
            if fd < 0 { give_up("cannot open RECORDER_FOLDER or RECORDER_LOG") } else { fd }
        };
        let place = open(folder, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
        let log = open(log, libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC);
        let folder = path_of(place).unwrap_or_else(|| give_up("RECORDER_FOLDER has no path"));
        close(place);
        // Several processes may write to one record; the process's number keeps their handles apart.
        let first = u64::from(std::process::id()) << 32 | 1;
        let syncs = variable(c"RECORDER_KILL_AT_SYNC").and_then(|number| number.to_str().ok()?.parse().ok());
        let syncs_left = AtomicU64::new(syncs.unwrap_or(0));
        Some(Journal { log, folder, order: Mutex::new(()), next: AtomicU64::new(first), syncs_left })
    }

    /// Held around a call and its entry.
    pub fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that was not given out before.
    pub fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a sync; whether it is the one at which the process is to end. The caller holds [`order`](Self::order).
    pub fn dies_now(&self) -> bool {
        let left = self.syncs_left.load(Ordering::Relaxed);
        self.syncs_left.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 1
    }

    /// The handle of a watched descriptor.
    pub fn handle(&self, fd: c_int) -> Option<Handle> {
        let word = slot(fd)?.load(Ordering::Acquire);
        (word != 0).then_some(Handle(word))
    }

    /// Watches a descriptor, if it lies below the folder, and puts its opening down.
    pub fn opened(&self, fd: c_int, flags: c_int) {
        let path = path_of(fd);
        let Some(path) = path.as_deref().and_then(|path| self.below(path)) else { return };
        if path.ends_with(b" (deleted)") {
            self.note(Kind::Unseen, &[], &[b"a file without a name"]);
        }
        let Some(slot) = slot(fd) else {
            return self.note(Kind::Unseen, &[], &[b"a descriptor beyond those watched"]);
        };
        let number = self.next_number();
        let appends = if flags & libc::O_APPEND != 0 { APPENDS } else { 0 };
        let shared_memory = if path.ends_with(b"-shm") { SHARED_MEMORY } else { 0 };
        slot.store(number | appends | shared_memory, Ordering::Release);
        self.note(Kind::Open, &[number, flags as u64], &[path]);
    }

    /// Watches a descriptor to which marks are written.
    pub fn track_marks(&self, fd: c_int) {
        if let Some(slot) = slot(fd) {
            slot.store(self.next_number() | MARKS, Ordering::Release);
        }
    }

    /// `new` is from now on what `fd` is.
    pub fn track_again(&self, fd: c_int, new: c_int) {
        if let (Some(fd), Some(new)) = (slot(fd), slot(new)) {
            new.store(fd.load(Ordering::Acquire), Ordering::Release);
        }
    }

    /// Watches a descriptor no more.
    pub fn forget(&self, fd: c_int) {
        if let Some(slot) = slot(fd) {
            slot.store(0, Ordering::Release);
        }
    }

    /// Where a name lies, relative to the folder; `None` if it lies elsewhere. Its last part need not exist.
    pub fn place(&self, folder: c_int, path: &CStr) -> Option<Vec<u8>> {
        let mut path = path.to_bytes();
        while let [rest @ .., b'/'] = path {
            path = rest;
        }
        let (parent, name) = match path.iter().rposition(|octet| *octet == b'/') {
            Some(0) => (&b"/"[..], &path[1..]),
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        let parent = std::ffi::CString::new(parent).ok()?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let fd = unsafe { libc::syscall(libc::SYS_openat, folder, parent.as_ptr(), flags) } as c_int;
        if fd < 0 {
            return None;
        }
        let parent = path_of(fd);
        close(fd);
        let absolute = [parent?.as_slice(), b"/", name].concat();
        self.below(&absolute).map(<[u8]>::to_vec)
    }

    fn below<'a>(&self, absolute: &'a [u8]) -> Option<&'a [u8]> {
        match absolute.strip_prefix(self.folder.as_slice())? {
            [] => Some(&[]),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }

    /// Appends an entry. The caller holds [`order`](Self::order).
    pub fn note(&self, kind: Kind, numbers: &[u64], tail: &[&[u8]]) {
        let octets = 1 + numbers.len() * 8 + tail.iter().map(|part| part.len()).sum::<usize>();
        let mut entry = Vec::with_capacity(4 + octets);
        entry.extend_from_slice(&(octets as u32).to_le_bytes());
        entry.push(kind as u8);
        numbers.iter().for_each(|number| entry.extend_from_slice(&number.to_le_bytes()));
        tail.iter().for_each(|part| entry.extend_from_slice(part));
        // In one piece, so that entries of several processes do not mix.
        let written = unsafe { libc::syscall(libc::SYS_write, self.log, entry.as_ptr(), entry.len()) };
        if written != entry.len() as c_long {
            give_up("the log cannot be written");
        }
    }
}

fn slot(fd: c_int) -> Option<&'static AtomicU64> {
    HANDLES.get(usize::try_from(fd).ok()?)
}

/// The canonical path of an open file.
fn path_of(fd: c_int) -> Option<Vec<u8>> {
    let link = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).ok()?;
    let mut path = vec![0u8; libc::PATH_MAX as usize];
    let octets = unsafe { libc::readlink(link.as_ptr(), path.as_mut_ptr().cast(), path.len()) };
    path.truncate(usize::try_from(octets).ok()?);
    Some(path)
}

fn close(fd: c_int) {
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// A record with a gap is worse than none.
fn give_up(cause: &str) -> ! {
    let text = format!("recorder: {cause}\n");
    unsafe {
        libc::syscall(libc::SYS_write, 2, text.as_ptr(), text.len());
        libc::abort()
    }
}
