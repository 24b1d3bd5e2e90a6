//! Giving up what a running server does not need: the root user, wide file permissions, the rest of the file system.
//!
//! To be called in this order, after binding and loading keys, before the runtime and its threads exist (R204):
//! [`set_umask`], [`raise_open_files`], [`become_user`], [`restrict_files`].

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, User, getgid, getgrouplist, getuid, setgid, setgroups, setuid};
use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The user that the server runs as (R38).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its number.
    pub user: u32,
    /// Number of its first group.
    pub group: u32,
}

/// How far the file system was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// What the kernel enforces.
    pub enforced: Enforced,
    /// Paths that were to stay open and do not exist, so that they are closed now.
    pub missing: Vec<PathBuf>,
}

/// What the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforced {
    /// Everything asked for.
    Fully,
    /// As much as this kernel's version of Landlock knows.
    Partly,
    /// Nothing: the kernel has no Landlock, or it is switched off.
    NotAtAll,
}

/// Why confinement failed. The server must not go on then.
#[derive(Debug)]
pub enum ConfineError {
    /// There is no such user.
    NoSuchUser(String),
    /// The user is root, or has root's group first.
    IsRoot(String),
    /// We are neither root nor the user.
    NotRoot(String),
    /// A system call failed.
    System(&'static str, Errno),
    /// After everything, root could be had again.
    RootRegained,
    /// Landlock refused the rules.
    Rules(String),
}

/// New files are for their owner alone, whatever the code that makes them forgets (V51).
pub fn set_umask() {
    umask(Mode::from_bits_truncate(0o077));
}

/// Raises the limit of open files towards `wanted`, as far as the system lets us; gives the limit that then holds.
/// Each connection takes one, each mailbox at work some more.
pub fn raise_open_files(wanted: u64) -> Result<u64, ConfineError> {
    let failed = |errno| ConfineError::System("getrlimit", errno);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    // Only root may raise the hard limit; others get as far as it goes.
    let raised = wanted > hard && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok();
    let reachable = wanted.min(hard);
    if !raised && reachable > soft {
        setrlimit(Resource::RLIMIT_NOFILE, reachable, hard)
            .map_err(|errno| ConfineError::System("setrlimit", errno))?;
    }
    Ok(getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?.0)
}

impl Identity {
    /// Looks a user up in the system's register.
    pub fn of_user(name: &str) -> Result<Identity, ConfineError> {
        let user = User::from_name(name)
            .map_err(|errno| ConfineError::System("getpwnam", errno))?
            .ok_or_else(|| ConfineError::NoSuchUser(name.to_owned()))?;
        Ok(Identity { name: user.name, user: user.uid.as_raw(), group: user.gid.as_raw() })
    }
}

/// Gives up root for `identity`, with the groups that the system's register gives it, and proves that root cannot be
/// had again (R38). Does nothing where the process runs as that user already.
pub fn become_user(identity: &Identity) -> Result<(), ConfineError> {
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    if user.is_root() || group.as_raw() == 0 {
        return Err(ConfineError::IsRoot(identity.name.clone()));
    }
    if getuid() == user && getgid() == group {
        return Ok(());
    }
    if !getuid().is_root() {
        return Err(ConfineError::NotRoot(identity.name.clone()));
    }
    let name = CString::new(identity.name.as_str()).map_err(|_| ConfineError::NoSuchUser(identity.name.clone()))?;
    let groups = getgrouplist(&name, group).map_err(|errno| ConfineError::System("getgrouplist", errno))?;
    // The user last: without root the groups could not be changed any more.
    setgroups(&groups).map_err(|errno| ConfineError::System("setgroups", errno))?;
    setgid(group).map_err(|errno| ConfineError::System("setgid", errno))?;
    setuid(user).map_err(|errno| ConfineError::System("setuid", errno))?;
    if setuid(Uid::from_raw(0)).is_ok() || setgid(Gid::from_raw(0)).is_ok() {
        return Err(ConfineError::RootRegained);
    }
    Ok(())
}

/// Closes the file system but for `readable` paths, which may be read, and `writable` ones, where everything may be
/// done; folders include all below. Holds for this thread and all threads and processes that it starts later; open
/// files and sockets stay usable. Also forbids gaining privileges by running other programs.
///
/// A kernel without Landlock is not an error but is told in the result, for the log and `doctor`.
pub fn restrict_files(readable: &[PathBuf], writable: &[PathBuf]) -> Result<Restriction, ConfineError> {
    let rules = |error: landlock::RulesetError| ConfineError::Rules(error.to_string());
    let everything = AccessFs::from_all(LANDLOCK_VERSION);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything)
        .map_err(rules)?
        .create()
        .map_err(rules)?;
    let mut missing = Vec::new();
    let read_only = AccessFs::ReadFile | AccessFs::ReadDir;
    let wanted = readable.iter().map(|path| (path, read_only)).chain(writable.iter().map(|path| (path, everything)));
    for (path, access) in wanted {
        match PathFd::new(path) {
            Ok(opened) => ruleset = ruleset.add_rule(PathBeneath::new(opened, fitting(path, access))).map_err(rules)?,
            Err(_) => missing.push(path.clone()),
        }
    }
    let status = ruleset.restrict_self().map_err(rules)?;
    let enforced = match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::NotAtAll,
    };
    Ok(Restriction { enforced, missing })
}

/// What of `access` a path can have: a file has no folder rights.
fn fitting(path: &Path, access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK_VERSION) }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.enforced {
            Enforced::Fully => "file access is confined",
            Enforced::Partly => "file access is confined as far as this kernel can; a newer one closes more",
            Enforced::NotAtAll => "file access is not confined: the kernel has no Landlock, or `lsm=` leaves it out",
        })?;
        for path in &self.missing {
            write!(f, "; {} does not exist and stays closed", path.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfineError::NoSuchUser(name) => {
                write!(f, "there is no user {name}; make one, such as: useradd -r {name}")
            }
            ConfineError::IsRoot(name) => {
                write!(f, "the server must not run as {name}, who is root or in root's group")
            }
            ConfineError::NotRoot(name) => write!(f, "cannot become {name}: start as root, or as {name}"),
            ConfineError::System(call, errno) => write!(f, "giving up privileges failed: {call}: {}", errno.desc()),
            ConfineError::RootRegained => f.write_str("root could be had again after it was given up"),
            ConfineError::Rules(cause) => write!(f, "file access cannot be confined: {cause}"),
        }
    }
}

impl std::error::Error for ConfineError {}

/// Linux 6.10. Newer versions add the connecting to UNIX sockets, which neighbours such as clamd need.
const LANDLOCK_VERSION: ABI = ABI::V5;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    /// R204: what is not listed is closed. The restriction holds for the thread that asks for it, so a thread of its
    /// own keeps the other tests free.
    #[test]
    fn only_listed_paths_stay_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["state", "config", "other"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), name).unwrap();
        }
        let (readable, writable) = ([path("config"), path("absent")], [path("state")]);
        let confined = std::thread::spawn({
            let (state, config, other) = (path("state"), path("config"), path("other"));
            move || {
                let restriction = restrict_files(&readable, &writable).unwrap();
                let wrote = fs::write(state.join("new"), "x").is_ok() && fs::remove_file(state.join("file")).is_ok();
                let read = fs::read(config.join("file")).is_ok();
                let refused = [fs::write(config.join("file"), "x").is_err(), fs::read(other.join("file")).is_err()];
                (restriction, wrote && read, refused)
            }
        });
        let (restriction, allowed, refused) = confined.join().unwrap();
        assert!(allowed);
        assert_eq!(restriction.missing, [path("absent")]);
        assert!(restriction.to_string().contains("absent does not exist"));
        if restriction.enforced != Enforced::NotAtAll {
            assert_eq!(refused, [true, true]);
        }
    }

    #[test]
    fn root_is_refused_and_strangers_are_named() {
        assert!(matches!(become_user(&Identity::of_user("root").unwrap()), Err(ConfineError::IsRoot(_))));
        let error = Identity::of_user("no-such-user-here").unwrap_err();
        assert!(error.to_string().contains("no user no-such-user-here"), "{error}");
    }

    /// R38. Privileges belong to the whole process, so a child gives them up; without root it is refused instead.
    #[test]
    fn root_is_given_up_for_good() {
        if std::env::var_os(CHILD).is_some() {
            let nobody = Identity::of_user("nobody").unwrap();
            match become_user(&nobody) {
                Ok(()) => assert_eq!((getuid().as_raw(), getgid().as_raw()), (nobody.user, nobody.group)),
                Err(ConfineError::NotRoot(name)) => assert!(!getuid().is_root() && name == "nobody"),
                Err(other) => panic!("{other}"),
            }
            become_user(&nobody).ok();
            set_umask();
            assert_eq!(umask(Mode::empty()), Mode::from_bits_truncate(0o077));
            return;
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "confine::tests::root_is_given_up_for_good"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    }

    #[test]
    fn the_limit_of_open_files_never_falls() {
        let (before, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(raise_open_files(1).unwrap() >= before.min(1));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, before);
    }

    const CHILD: &str = "NET_TEST_GIVES_UP_ROOT";
}
