//! The running server: the order of a start, and what goes where.
//!
//! While privileged: read the configuration, load certificates, bind. Then become the server's user, close the file
//! system, start the runtime, open store and directory, accept. Ends on SIGTERM or SIGINT; SIGHUP reloads.

mod listeners;
mod logging;
mod reload;
pub mod sending;

pub use listeners::owner as socket_owner;

use crate::config::{Config, Loaded};
use anyhow::{Context, anyhow, bail};
use directory::Directory;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use net::confine::{self, Enforced, Identity};
use net::{Gate, HashPool, Limits, Listener, ServerTls, ShutdownSwitch};
use nix::sys::signal::SigSet;
use std::io::ErrorKind::PermissionDenied;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::MailStore;
use store::embedded::{EmbeddedStore, Options};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the privileged part of the start leaves behind.
struct Prepared {
    loaded: Loaded,
    listeners: Vec<(listeners::Bound, Listener)>,
    tls: Vec<Arc<ServerTls>>,
    sending: sending::Prepared,
    log: logging::LogFile,
}

/// How sessions may go on after a shutdown was asked for.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Space is measured once in so many looks at the tables.
const SPACE_EVERY_TICKS: u64 = 60;
/// How often changed tables are looked for.
const TABLES_REFRESH: Duration = Duration::from_secs(1);
/// Open files to ask the system for beyond one a connection.
const OPEN_FILES_SPARE: u64 = 1_024;

/// Runs the server until it is told to end. `ready` is called once every listener accepts.
pub fn serve(loaded: Loaded, ready: impl FnOnce()) -> anyhow::Result<()> {
    let prepared = prepare(loaded)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("pillarbox").build()?;
    let outcome = runtime.block_on(run(prepared, ready));
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// Everything that needs privileges, in order; then gives them up.
fn prepare(loaded: Loaded) -> anyhow::Result<Prepared> {
    let config = &loaded.config;
    confine::set_umask();
    let identity = identity(config)?;
    make_storage(&config.storage.folder, identity.as_ref())?;
    let log = logging::start(&config.log, identity.as_ref())?;
    confine::raise_open_files(u64::from(config.limits.connections) + OPEN_FILES_SPARE)?;
    let (listeners, tls) = listeners::bind(config, identity.as_ref())?;
    let sending = sending::prepare(config, identity.as_ref())?;
    if let Some(identity) = &identity {
        confine::become_user(identity).with_context(|| format!("cannot become user `{}`", identity.name))?;
    }
    if config.security.confine {
        close_file_system(&loaded)?;
    }
    Ok(Prepared { loaded, listeners, tls, sending, log })
}

/// Whom to become; `None`: stay who we are.
pub fn identity(config: &Config) -> anyhow::Result<Option<Identity>> {
    if !nix::unistd::getuid().is_root() {
        return Ok(None);
    }
    if config.security.allow_root {
        return Ok(None);
    }
    if config.security.user.is_empty() {
        bail!("started as root, and security.user names nobody to become; name a user, or set security.allow_root");
    }
    Identity::of_user(&config.security.user).map(Some).map_err(|error| {
        anyhow!(
            "{error}\n    make it with: useradd --system --home-dir /var/lib/pillarbox --shell /usr/sbin/nologin {}",
            config.security.user
        )
    })
}

/// The storage folder, for the server's user alone.
fn make_storage(folder: &Path, identity: Option<&Identity>) -> anyhow::Result<()> {
    let new_names = if folder.is_dir() { 1 } else { usize::MAX };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("storage.folder {} cannot be made", folder.display()))?;
    // The store cannot make the folder's own name durable once the file system is closed.
    for above in folder.ancestors().skip(1).take(new_names) {
        let synced = std::fs::File::open(above).and_then(|above| above.sync_all());
        synced.or_else(|error| if error.kind() == PermissionDenied { Ok(()) } else { Err(error) })?;
    }
    if let Some(exposed) = exposed_storage(folder) {
        bail!("{exposed}\n    chmod 700 {}", folder.display());
    }
    if let Some(identity) = identity {
        std::os::unix::fs::chown(folder, Some(identity.user), Some(identity.group))?;
    }
    Ok(())
}

/// What is wrong with the permissions of a storage folder that is there (R14).
pub fn exposed_storage(folder: &Path) -> Option<String> {
    let mode = std::fs::metadata(folder).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| format!("{} has mode {mode:o}: others could read all mail", folder.display()))
}

/// After this the process can read its configuration and write its mail, and nothing else.
fn close_file_system(loaded: &Loaded) -> anyhow::Result<()> {
    let config = &loaded.config;
    let mut readable: Vec<PathBuf> = std::iter::once(&loaded.file)
        .chain(config.directory.files())
        .chain(config.certificates.iter().flat_map(|set| set.chains.iter().chain(&set.keys)))
        .flat_map(|path| folders_of(path))
        .collect();
    readable.extend(config.submission_files().iter().flat_map(|path| folders_of(path)));
    let system = [
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/ssl",
        "/usr/share/ca-certificates",
        "/etc/localtime",
        "/usr/share/zoneinfo",
        "/proc/self",
        "/sys/fs/cgroup",
        "/dev/urandom",
    ];
    readable.extend(system.map(PathBuf::from));
    readable.retain(|path| path.exists());
    readable.sort();
    readable.dedup();
    let mut writable = vec![config.storage.folder.clone()];
    if !config.log.file.as_os_str().is_empty() {
        writable.extend(folders_of(&config.log.file));
    }
    let restriction = confine::restrict_files(&readable, &writable)?;
    match restriction.enforced {
        Enforced::Fully => {}
        Enforced::Partly | Enforced::NotAtAll => {
            tracing::warn!(enforced = ?restriction.enforced, "this kernel cannot close the file system to the server");
        }
    }
    Ok(())
}

/// The folder of a file, and the folder of what it points to: certificates are often symbolic links, and what counts for
/// the kernel is where the file is.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let target = std::fs::canonicalize(path).ok();
    parent(path).into_iter().chain(target.and_then(|target| parent(&target))).collect()
}

async fn run(prepared: Prepared, ready: impl FnOnce()) -> anyhow::Result<()> {
    let Prepared { loaded, listeners, tls, sending, log } = prepared;
    // First of all: whoever ends a server that has just begun still gets an orderly end.
    let signals = Signals::catch()?;
    release_hangup();
    let metrics = PrometheusBuilder::new().install_recorder().map_err(|error| anyhow!("metrics: {error}"))?;
    let config = loaded.config.clone();
    let since = Instant::now();
    let embedded = Arc::new(open_store(&config)?);
    let store: Arc<dyn MailStore> = embedded.clone();
    let directory = Arc::new(open_directory(&config)?);
    tracing::info!(folder = %config.storage.folder.display(), ms = since.elapsed().as_millis() as u64, "store open");
    let (switch, shutdown) = ShutdownSwitch::new();
    let switch = Arc::new(switch);
    let limits = listeners::limits(&config, SHUTDOWN_GRACE)?;
    // Connections of one address are counted for each listener, and all connections together.
    let gate = Gate::new(Limits { per_address_max: usize::MAX, ..limits.clone() });
    let signing = sending.signing.clone();
    let sending = sending::furnish(&config, sending, &store, &directory).await?;
    let reloader = Arc::new(reload::Reloader { loaded, directory: directory.clone(), signing, tls, log, since });
    let mut names: Vec<(String, String)> =
        listeners.iter().map(|(bound, _)| (bound.listener.name.clone(), bound.listener.address.clone())).collect();
    // `*:25` is two sockets and one listener.
    names.dedup();
    let control = control_house(&store, &directory, &sending.queue, &reloader, &switch, &gate, names, since);
    let socket = listen_for_control(&config.control_socket())?;
    let rooms = listeners::Rooms {
        login: Arc::new(login::Login::new(
            directory.clone(),
            HashPool::for_this_machine(),
            Duration::from_secs(config.limits.authentication_delay_seconds),
        )),
        store: store.clone(),
        directory: directory.clone(),
        sending,
        metrics: metrics.clone(),
        config,
    };
    let mut going_down = shutdown.clone();
    let queue = tokio::spawn(rooms.sending.queue.clone().run(async move { going_down.requested().await }));
    let mut going_down = shutdown.clone();
    let tls_reports = rooms.sending.tls_reports.clone();
    let reporting =
        tls_reports.clone().map(|reports| tokio::spawn(reports.run(async move { going_down.requested().await })));
    let history = &rooms.config.history;
    let history = tokio::spawn(sending::forget_history(store.clone(), history.days, history.messages));
    let mut accepting = tokio::task::JoinSet::new();
    for (bound, listener) in listeners {
        listeners::spawn(&mut accepting, &rooms, &bound, listener, &gate.within(limits.clone()), &shutdown)?;
    }
    let control = tokio::spawn(admin::control::serve(socket, control));
    let upkeep = tokio::spawn(upkeep(reloader.clone(), metrics, embedded, gate.clone(), rooms.sending.queue.clone()));
    ready();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "ready");
    let mut outcome = tokio::select! {
        biased;
        () = until_told_to_end(signals, &reloader, shutdown.clone()) => Ok(()),
        // A server that does not listen where it should must not look as if it did.
        Some(ended) = accepting.join_next() => ended.map_err(anyhow::Error::from).and_then(|ended| Ok(ended?)),
    };
    tracing::info!("shutdown");
    switch.request();
    while let Some(ended) = accepting.join_next().await {
        outcome = outcome.and(ended.map_err(anyhow::Error::from).and_then(|ended| Ok(ended?)));
    }
    control.abort();
    upkeep.abort();
    history.abort();
    if let Err(error) = queue.await {
        tracing::error!(%error, "the queue manager met a bug");
    }
    if let (Some(reports), Some(reporting)) = (tls_reports, reporting) {
        if let Err(error) = reporting.await {
            tracing::error!(%error, "the sender of TLS reports met a bug");
        }
        // Couriers had more to tell until a moment ago.
        reports.save().await;
    }
    if let Some(policies) = &rooms.sending.policies {
        policies.save().await;
    }
    store.close().await.map_err(|error| anyhow!("closing the store: {error}"))?;
    outcome
}

/// Opens the mail for a command while no server runs. As root, first becomes the server's user: what the command leaves in
/// the folder must be the server's.
pub fn open_store_alone(config: &Config) -> anyhow::Result<EmbeddedStore> {
    become_owner_of_mail(config)?;
    open_store(config)
}

/// Becomes the user whose mail it is, and makes the folder if need be.
pub fn become_owner_of_mail(config: &Config) -> anyhow::Result<()> {
    confine::set_umask();
    let identity = identity(config)?;
    make_storage(&config.storage.folder, identity.as_ref())?;
    match &identity {
        Some(identity) => {
            confine::become_user(identity).with_context(|| format!("cannot become user `{}`", identity.name))
        }
        None => Ok(()),
    }
}

/// Opens the mail that the configuration names.
pub fn open_store(config: &Config) -> anyhow::Result<EmbeddedStore> {
    let options = Options {
        segment_octets_max: config.storage.segment_size.0,
        reserve_octets: config.storage.reserve.0,
        ..Options::new(config.storage.folder.clone())
    };
    EmbeddedStore::open(options).map_err(|error| anyhow!("{error}"))
}

/// Opens the tables that the configuration names.
pub fn open_directory(config: &Config) -> anyhow::Result<Directory> {
    Directory::open(config.directory_settings()).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("{}", lines.join("\n"))
    })
}

#[expect(clippy::too_many_arguments, reason = "the one place where everything meets")]
fn control_house(
    store: &Arc<dyn MailStore>,
    directory: &Arc<Directory>,
    queue: &Arc<qmgr::QueueManager>,
    reloader: &Arc<reload::Reloader>,
    switch: &Arc<ShutdownSwitch>,
    gate: &Gate,
    listeners: Vec<(String, String)>,
    since: Instant,
) -> Arc<admin::control::House> {
    let (reloader, switch, gate) = (reloader.clone(), switch.clone(), gate.clone());
    let refresher = reloader.clone();
    Arc::new(admin::control::House {
        store: store.clone(),
        directory: directory.clone(),
        queue: queue.clone(),
        reload: Box::new(move |lent| reloader.reload(&lent)),
        refresh: Box::new(move || refresher.refresh_tables_now()),
        stop: Box::new(move || switch.request()),
        listeners,
        connections: Box::new(move || gate.connections() as u64),
        since,
    })
}

/// The control socket: its owner may do everything, others cannot reach it.
fn listen_for_control(path: &Path) -> anyhow::Result<tokio::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let socket = tokio::net::UnixListener::bind(path).with_context(|| format!("control socket {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// Looks for changed tables, keeps the metrics' memory bounded, and tells them what no event tells.
async fn upkeep(
    reloader: Arc<reload::Reloader>,
    metrics: PrometheusHandle,
    store: Arc<EmbeddedStore>,
    gate: Gate,
    queue: Arc<qmgr::QueueManager>,
) {
    let mut ticks = tokio::time::interval(TABLES_REFRESH);
    for tick in 0u64.. {
        ticks.tick().await;
        reloader.refresh_tables();
        metrics.run_upkeep();
        metrics::gauge!("connections_open").set(gate.connections() as f64);
        let counts = queue.counts();
        for (state, count) in [("waiting", counts.waiting), ("held", counts.held), ("active", counts.in_flight)] {
            metrics::gauge!("queue_recipients", "state" => state).set(f64::from(count));
        }
        if tick.is_multiple_of(SPACE_EVERY_TICKS)
            && let Ok(space) = store.space().await
        {
            metrics::gauge!("store_live_octets").set(space.live_octets as f64);
            metrics::gauge!("store_dead_octets").set(space.dead_octets as f64);
            metrics::gauge!("store_index_octets").set(space.index_octets as f64);
            metrics::gauge!("store_free_octets").set(space.free_octets as f64);
        }
    }
}

/// Keeps a SIGHUP until [`release_hangup`], for this thread and all that it starts.
pub fn hold_hangup() {
    // Cannot fail with a set of signals that exist.
    let _ = hangup().thread_block();
}

/// Lets a SIGHUP come that was held, or will come. One thread that takes it is enough.
pub fn release_hangup() {
    let _ = hangup().thread_unblock();
}

fn hangup() -> SigSet {
    [nix::sys::signal::Signal::SIGHUP].into_iter().collect()
}

/// The signals that the server knows.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on the signals are ours to answer.
    fn catch() -> anyhow::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn until_told_to_end(mut signals: Signals, reloader: &reload::Reloader, mut shutdown: net::Shutdown) {
    loop {
        tokio::select! {
            biased;
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            () = shutdown.requested() => return,
            _ = signals.hangup.recv() => {
                if let Err(causes) = reloader.reload(&net::LentFiles::new()) {
                    tracing::error!(causes = causes.join("; "), "reload failed, the old settings stay");
                }
            }
        }
    }
}
