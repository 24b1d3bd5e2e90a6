//! Writes down what a process does to the files below one folder, so that the disks a power cut could leave can be
//! built from it (`docs/design/power-cut.md`). Not a part of the server: a shared object for `LD_PRELOAD`, which stands
//! between a program and libc.
//!
//! `RECORDER_FOLDER` names the folder, `RECORDER_LOG` the file that the record is appended to; without them every call
//! goes straight through. What is written to a file called `RECORDER_MARK` below the folder goes nowhere but into the
//! record, as a mark: so a program can say, in order with everything else, what it has promised. `RECORDER_KILL_AT_SYNC`,
//! a number, ends the process as `kill -9` would when it asks for that sync, the first being 1.
//!
//! **The order of the record is the order of the calls.** One lock is held around each call that alters a file or a
//! name and its entry, so that no thread sees an effect that the record does not show yet. Only a sync is not held under
//! the lock: it has one entry before it begins and one after it came back; what it covers is what was recorded
//! before its beginning, and it counts from its end.
//!
//! This is the one crate of the house with `unsafe` code: it takes the place of C functions, which are called with
//! pointers and registered under their C names, and it makes system calls without libc's wrappers, which would lead back
//! into itself.
//!
//! It sees what goes through libc's functions by name, as the Rust library and SQLite do. What it sees but cannot
//! put down (shared writable mappings other than of SQLite's `-shm`, copies inside the kernel, symbolic links) becomes an
//! entry that makes the reader of the record refuse it.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("the recorder knows the system calls of 64-bit Linux only");

mod journal;

use journal::{Handle, Journal, Kind};
use libc::{c_char, c_int, c_long, c_uint, c_void, iovec, mode_t, off_t, size_t, ssize_t};
use std::ffi::CStr;

// Opening and closing.

// C declares these with `...`; on the platforms named above a variable argument travels as a fixed one would.
#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    unsafe { open_at(folder, path, flags, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    unsafe { open_at(folder, path, flags, mode) }
}

// The forms that compilers put in for calls without a mode.
#[unsafe(no_mangle)]
unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    unsafe { open_at(libc::AT_FDCWD, path, flags, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    unsafe { open_at(libc::AT_FDCWD, path, flags, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    unsafe { open_at(libc::AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    unsafe { creat(path, mode) }
}

unsafe fn open_at(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_openat, folder, path, flags, c_uint::from(mode)) as c_int };
    let Some(journal) = Journal::get() else { return straight() };
    let _order = journal.order();
    if unsafe { CStr::from_ptr(path) }.to_bytes().ends_with(journal::MARK_FILE) {
        let null = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_WRONLY) };
        journal.track_marks(null as c_int);
        return null as c_int;
    }
    let fd = straight();
    if fd >= 0 {
        journal.opened(fd, flags);
    }
    fd
}

#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_close, fd) as c_int };
    let Some((journal, _)) = tracked(fd) else { return straight() };
    let _order = journal.order();
    journal.forget(fd);
    straight()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup(fd: c_int) -> c_int {
    duplicated(fd, || unsafe { libc::syscall(libc::SYS_dup, fd) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup2(fd: c_int, new: c_int) -> c_int {
    match fd == new {
        true => unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFD).min(0) as c_int | fd },
        false => unsafe { dup3(fd, new, 0) },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int {
    duplicated(fd, || unsafe { libc::syscall(libc::SYS_dup3, fd, new, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) };
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicated(fd, straight),
        _ => straight() as c_int,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
    unsafe { fcntl(fd, command, argument) }
}

fn duplicated(fd: c_int, straight: impl FnOnce() -> c_long) -> c_int {
    let Some(journal) = Journal::get() else { return straight() as c_int };
    let _order = journal.order();
    let new = straight() as c_int;
    if new >= 0 {
        journal.track_again(fd, new);
    }
    new
}

fn tracked(fd: c_int) -> Option<(&'static Journal, Handle)> {
    let journal = Journal::get()?;
    Some((journal, journal.handle(fd)?))
}

// Contents.

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, data: *const c_void, octets: size_t) -> ssize_t {
    let parts = [iovec { iov_base: data.cast_mut(), iov_len: octets }];
    written(fd, &parts, None, || unsafe { libc::syscall(libc::SYS_write, fd, data, octets) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, data: *const c_void, octets: size_t, offset: off_t) -> ssize_t {
    let parts = [iovec { iov_base: data.cast_mut(), iov_len: octets }];
    written(fd, &parts, Some(offset), || unsafe { libc::syscall(libc::SYS_pwrite64, fd, data, octets, offset) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, octets: size_t, offset: off_t) -> ssize_t {
    unsafe { pwrite(fd, data, octets, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    let list = unsafe { list_of(parts, count) };
    written(fd, list, None, || unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev(fd: c_int, parts: *const iovec, count: c_int, offset: off_t) -> ssize_t {
    unsafe { pwritev2(fd, parts, count, offset, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, offset: off_t) -> ssize_t {
    unsafe { pwritev2(fd, parts, count, offset, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
    let list = unsafe { list_of(parts, count) };
    let at = (offset != -1).then_some(offset);
    // The kernel takes the offset in two halves; on 64 bits the upper one counts for nothing.
    written(fd, list, at, || unsafe { libc::syscall(libc::SYS_pwritev2, fd, parts, count, offset, 0, flags) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev64v2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
    unsafe { pwritev2(fd, parts, count, offset, flags) }
}

unsafe fn list_of<'a>(parts: *const iovec, count: c_int) -> &'a [iovec] {
    match usize::try_from(count) {
        Ok(count) if count > 0 && !parts.is_null() => unsafe { std::slice::from_raw_parts(parts, count) },
        _ => &[],
    }
}

fn written(fd: c_int, parts: &[iovec], offset: Option<off_t>, straight: impl FnOnce() -> c_long) -> ssize_t {
    let Some((journal, handle)) = tracked(fd) else { return straight() as ssize_t };
    let _order = journal.order();
    let octets = straight();
    if octets > 0 {
        let data = first_octets(parts, octets as usize);
        match offset {
            _ if handle.is_marks() => journal.note(Kind::Mark, &[], &data),
            // Whatever the offset, Linux appends where the file was opened for it.
            Some(offset) if !handle.appends() => journal.note(Kind::Write, &[handle.number(), offset as u64], &data),
            Some(_) => journal.note(Kind::Write, &[handle.number(), end_of(fd) - octets as u64], &data),
            None => journal.note(Kind::Write, &[handle.number(), position_of(fd) - octets as u64], &data),
        }
    }
    octets as ssize_t
}

fn first_octets(parts: &[iovec], mut octets: usize) -> Vec<&[u8]> {
    let mut data = Vec::with_capacity(parts.len());
    for part in parts.iter().filter(|part| part.iov_len > 0) {
        let take = part.iov_len.min(octets);
        if take > 0 {
            data.push(unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), take) });
        }
        octets -= take;
    }
    data
}

fn position_of(fd: c_int) -> u64 {
    unsafe { libc::syscall(libc::SYS_lseek, fd, 0 as c_long, libc::SEEK_CUR) as u64 }
}

fn end_of(fd: c_int) -> u64 {
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    unsafe { libc::fstat(fd, &mut status) };
    status.st_size as u64
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate(fd: c_int, octets: off_t) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_ftruncate, fd, octets) as c_int };
    let Some((journal, handle)) = tracked(fd) else { return straight() };
    let _order = journal.order();
    let result = straight();
    if result == 0 {
        journal.note(Kind::Truncate, &[handle.number(), octets as u64], &[]);
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(fd: c_int, octets: off_t) -> c_int {
    unsafe { ftruncate(fd, octets) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn truncate(path: *const c_char, octets: off_t) -> c_int {
    let fd = unsafe { open(path, libc::O_WRONLY | libc::O_CLOEXEC, 0) };
    if fd < 0 {
        return fd;
    }
    let result = unsafe { ftruncate(fd, octets) };
    unsafe { close(fd) };
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn truncate64(path: *const c_char, octets: off_t) -> c_int {
    unsafe { truncate(path, octets) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: off_t, octets: off_t) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, offset, octets) as c_int };
    let Some((journal, handle)) = tracked(fd) else { return straight() };
    let _order = journal.order();
    let result = straight();
    if result == 0 {
        match mode {
            0 => journal.note(Kind::Allocate, &[handle.number(), (offset + octets) as u64], &[]),
            libc::FALLOC_FL_KEEP_SIZE => {}
            _ => journal.note(Kind::Unseen, &[], &[b"fallocate that empties or moves octets"]),
        }
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, offset: off_t, octets: off_t) -> c_int {
    unsafe { fallocate(fd, mode, offset, octets) }
}

// Unlike the others this one returns its error.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fallocate(fd: c_int, offset: off_t, octets: off_t) -> c_int {
    match unsafe { fallocate(fd, 0, offset, octets) } {
        0 => 0,
        _ => unsafe { *libc::__errno_location() },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_fallocate64(fd: c_int, offset: off_t, octets: off_t) -> c_int {
    unsafe { posix_fallocate(fd, offset, octets) }
}

// Syncs. `sync_file_range` promises nothing after a power cut (its manual says so), nor do we count `sync` and
// `syncfs`: what is not counted makes the images worse, never better.

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    synced(fd, || unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    synced(fd, || unsafe { libc::syscall(libc::SYS_fdatasync, fd) as c_int })
}

fn synced(fd: c_int, straight: impl FnOnce() -> c_int) -> c_int {
    let Some((journal, handle)) = tracked(fd) else { return straight() };
    let token = journal.next_number();
    {
        let _order = journal.order();
        journal.note(Kind::SyncBegin, &[handle.number(), token], &[]);
        if journal.dies_now() {
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }
    let result = straight();
    if result == 0 {
        let _order = journal.order();
        journal.note(Kind::SyncEnd, &[handle.number(), token], &[]);
    }
    result
}

// Names.

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    unsafe { renameat2(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(from_in: c_int, from: *const c_char, to_in: c_int, to: *const c_char) -> c_int {
    unsafe { renameat2(from_in, from, to_in, to, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat2(
    from_in: c_int,
    from: *const c_char,
    to_in: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_renameat2, from_in, from, to_in, to, flags) as c_int };
    let kind = if flags & libc::RENAME_EXCHANGE != 0 { Kind::Unseen } else { Kind::Rename };
    unsafe { renamed(kind, (from_in, from), Some((to_in, to)), straight) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
    unsafe { linkat(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn linkat(
    from_in: c_int,
    from: *const c_char,
    to_in: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_linkat, from_in, from, to_in, to, flags) as c_int };
    unsafe { renamed(Kind::Link, (from_in, from), Some((to_in, to)), straight) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn symlink(target: *const c_char, path: *const c_char) -> c_int {
    unsafe { symlinkat(target, libc::AT_FDCWD, path) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn symlinkat(target: *const c_char, folder: c_int, path: *const c_char) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_symlinkat, target, folder, path) as c_int };
    unsafe { renamed(Kind::Unseen, (folder, path), None, straight) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    unsafe { unlinkat(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_unlinkat, folder, path, flags) as c_int };
    unsafe { renamed(Kind::Unlink, (folder, path), None, straight) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    unsafe { mkdirat(libc::AT_FDCWD, path, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdirat(folder: c_int, path: *const c_char, mode: mode_t) -> c_int {
    let straight = || unsafe { libc::syscall(libc::SYS_mkdirat, folder, path, c_uint::from(mode)) as c_int };
    unsafe { renamed(Kind::MakeFolder, (folder, path), None, straight) }
}

/// Carries out a call that alters names, and puts down the names it gave and took.
unsafe fn renamed(
    kind: Kind,
    from: (c_int, *const c_char),
    to: Option<(c_int, *const c_char)>,
    straight: impl FnOnce() -> c_int,
) -> c_int {
    let Some(journal) = Journal::get() else { return straight() };
    let _order = journal.order();
    // Where the names lie is found out before: afterwards one may be gone.
    let from = journal.place(from.0, unsafe { CStr::from_ptr(from.1) });
    let to = to.map(|(folder, path)| journal.place(folder, unsafe { CStr::from_ptr(path) }));
    let result = straight();
    if result != 0 {
        return result;
    }
    match (from, to) {
        (Some(from), None) => journal.note(kind, &[], &[&from]),
        (Some(from), Some(Some(to))) => journal.note(kind, &[], &[&from, b"\0", &to]),
        (None, Some(None)) | (None, None) => {}
        _ => journal.note(Kind::Unseen, &[], &[b"a name that crosses the border of the recorded folder"]),
    }
    result
}

// What cannot be put down.

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    octets: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    let result = unsafe { libc::syscall(libc::SYS_mmap, address, octets, protection, flags, fd, offset) };
    let writable = protection & libc::PROT_WRITE != 0 && flags & libc::MAP_SHARED != 0;
    if fd >= 0 && writable && result != -1 {
        unseen_unless_shared_memory(fd, b"a shared writable mapping");
    }
    result as *mut c_void
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    address: *mut c_void,
    octets: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    unsafe { mmap(address, octets, protection, flags, fd, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_offset: *mut off_t,
    to: c_int,
    to_offset: *mut off_t,
    octets: size_t,
    flags: c_uint,
) -> ssize_t {
    unseen_unless_shared_memory(to, b"copy_file_range");
    let number = libc::SYS_copy_file_range;
    unsafe { libc::syscall(number, from, from_offset, to, to_offset, octets, flags) as ssize_t }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile(to: c_int, from: c_int, offset: *mut off_t, octets: size_t) -> ssize_t {
    unseen_unless_shared_memory(to, b"sendfile");
    unsafe { libc::syscall(libc::SYS_sendfile, to, from, offset, octets) as ssize_t }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off_t, octets: size_t) -> ssize_t {
    unsafe { sendfile(to, from, offset, octets) }
}

fn unseen_unless_shared_memory(fd: c_int, what: &[u8]) {
    if let Some((journal, handle)) = tracked(fd)
        && !handle.is_shared_memory()
    {
        let _order = journal.order();
        journal.note(Kind::Unseen, &[], &[what]);
    }
}
