//! The two servers that send: Postfix by itself, and pillarbox, each with a fresh queue, no DNS and equal limits.

use super::DEAD;
use crate::bench::subject::{PASSWORD, launch, pss_mib, wait_for_greeting};
use crate::run::Afterwards;
use anyhow::{Context, ensure};
use peers::server::binary;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Connections to one destination, the default of both.
pub const CONNECTIONS_PER_DESTINATION: u16 = 20;
/// Connections in all, the default of both.
const CONNECTIONS: u16 = 100;
/// Where Postfix takes mail.
const POSTFIX: u16 = 4_026;
/// Where pillarbox does.
const PILLARBOX: u16 = 4_025;

/// A server that takes mail from loopback and sends it on.
pub trait Sending {
    /// Its name in results.
    fn name(&self) -> &'static str;
    /// Where it takes mail.
    fn port(&self) -> u16;
    /// Runs the command that lists so many waiting messages; gives the time it took.
    fn list(&self, count: u64) -> anyhow::Result<Duration>;
    /// Itself, if it is ours: more is measured of it.
    fn pillarbox(&mut self) -> Option<&mut Pillarbox> {
        None
    }
}

/// Runs a command and fails if it fails; gives its time.
fn timed(command: &mut Command) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let took = begun.elapsed();
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(took)
}

/// Lines of a transport table, which both read alike: destinations to addresses of the sink.
pub fn transports(routes: &[(String, String)]) -> String {
    routes.iter().map(|(domain, hop)| format!("{domain} smtp:{hop}\n")).collect()
}

/// Postfix without anything that local delivery or filters would need. Takes root.
pub struct Postfix {
    folder: PathBuf,
    stop: Option<Afterwards>,
}

impl Postfix {
    /// Makes it in a folder and starts it.
    pub fn start(folder: &Path, transports: &str) -> anyhow::Result<Postfix> {
        let configuration = folder.join("etc");
        for name in ["etc", "spool", "data", "log"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(configuration.join("transport"), transports)?;
        fs::write(configuration.join("main.cf"), main_cf(folder))?;
        fs::write(configuration.join("master.cf"), master_cf())?;
        timed(Command::new("chown").arg("postfix").arg(folder.join("data")))?;
        let etc = configuration.display().to_string();
        let stop = Afterwards::run(Path::new("postfix"), &["-c", &etc, "stop"])?;
        let postfix = Postfix { folder: folder.to_owned(), stop: Some(stop) };
        // Its standard error goes to daemons that outlive the command: nobody may wait for its end.
        let mut start = Command::new("postfix");
        start.args(["-c", &etc, "start"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = start.status().context("postfix cannot be run")?;
        ensure!(status.success(), "postfix start failed; see {}", folder.join("log").display());
        wait_for_greeting(POSTFIX, || Ok(()))?;
        Ok(postfix)
    }
}

/// Defaults wherever there is one that sends and needs no DNS; its files are flushed before each 250.
fn main_cf(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "compatibility_level = 3.6\nqueue_directory = {folder}/spool\ndata_directory = {folder}/data\n\
         maillog_file = {folder}/log/postfix.log\nmaillog_file_prefixes = {folder}/log\n\
         inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmyhostname = mx.example.net\nmydomain = example.net\n\
         myorigin = example.net\nmydestination =\nalias_maps =\nalias_database =\nlocal_recipient_maps =\n\
         mynetworks = 127.0.0.0/8\nsmtpd_peername_lookup = no\nsmtpd_client_connection_count_limit = 0\n\
         smtp_dns_support_level = disabled\nbiff = no\n\
         default_destination_concurrency_limit = {CONNECTIONS_PER_DESTINATION}\ndefault_process_limit = {CONNECTIONS}\n\
         transport_maps = texthash:{folder}/etc/transport\n"
    )
}

fn master_cf() -> String {
    format!(
        "127.0.0.1:{POSTFIX} inet n - n - - smtpd\n\
         pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\nrewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\nverify unix - - n - 1 verify\n\
         flush unix n - n 1000? 0 flush\nproxymap unix - - n - - proxymap\nproxywrite unix - - n - 1 proxymap\n\
         smtp unix - - n - - smtp\nshowq unix n - n - - showq\nerror unix - - n - - error\n\
         retry unix - - n - - error\ndiscard unix - - n - - discard\nanvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\npostlog unix-dgram n - n - 1 postlogd\n"
    )
}

impl Sending for Postfix {
    fn name(&self) -> &'static str {
        "reference"
    }
    fn port(&self) -> u16 {
        POSTFIX
    }
    fn list(&self, _: u64) -> anyhow::Result<Duration> {
        timed(Command::new("postqueue").arg("-c").arg(self.folder.join("etc")).arg("-p"))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // First it ends, then its queue goes.
        drop(self.stop.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Our own.
pub struct Pillarbox {
    folder: PathBuf,
    child: Child,
}

/// Times of a start.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Milliseconds to the first greeting.
    pub greeting_ms: f64,
    /// Milliseconds until the whole queue was in memory.
    pub loaded_ms: f64,
}

impl Pillarbox {
    /// Makes a configuration in a folder and starts it.
    pub fn start(folder: &Path, transports: &str) -> anyhow::Result<Pillarbox> {
        let mut init = Command::new(binary());
        init.args(["init", "example.net", "--account", "brian@example.net", "-p", PASSWORD, "--folder"]);
        timed(init.arg(folder).arg("--storage").arg(folder.join("mail")))?;
        fs::write(folder.join("transport"), transports)?;
        fs::write(
            folder.join("pillarbox.toml"),
            format!(
                "host_name = \"mx.example.net\"\n[storage]\nfolder = \"mail\"\n[security]\nallow_root = true\n\
                 [limits]\nconnections_per_address = 5000\n[policy]\ntrusted_networks = [\"127.0.0.0/8\"]\n\
                 [queue]\nconnections = {CONNECTIONS}\nconnections_per_destination = {CONNECTIONS_PER_DESTINATION}\n\
                 [outbound]\ndane = false\nmta_sts = false\ntls_reports = false\n\
                 [dns]\nservers = [\"127.0.0.1:9\"]\nmode = \"plain\"\n[log]\nfile = \"{}\"\n\
                 [[listener]]\nname = \"mx\"\nprotocol = \"mx\"\naddress = \"127.0.0.1:{PILLARBOX}\"\ntls = \"none\"\n",
                folder.join("log").display()
            ),
        )?;
        let (child, _) = launch(folder, PILLARBOX)?;
        Ok(Pillarbox { folder: folder.to_owned(), child })
    }

    /// PSS.
    pub fn memory_mib(&self) -> anyhow::Result<f64> {
        pss_mib(self.child.id())
    }

    /// Runs one of its commands; gives the time it took.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Duration> {
        timed(Command::new(binary()).arg("--config").arg(self.folder.join("pillarbox.toml")).args(arguments))
    }

    /// `kill -9`, and up again.
    pub fn restart(&mut self) -> anyhow::Result<Start> {
        self.child.kill()?;
        self.child.wait()?;
        let log = self.folder.join("log");
        let before = fs::read(&log)?.len();
        let begun = Instant::now();
        let (child, greeting_ms) = launch(&self.folder, PILLARBOX)?;
        self.child = child;
        while !String::from_utf8_lossy(fs::read(&log)?.get(before..).unwrap_or_default()).contains("queue loaded") {
            ensure!(begun.elapsed() < Duration::from_secs(60), "the queue is not loaded; see {}", log.display());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Start { greeting_ms, loaded_ms: begun.elapsed().as_secs_f64() * 1e3 })
    }

    /// Fails unless mail is conserved.
    pub fn audit(&self) -> anyhow::Result<Duration> {
        self.command(&["queue", "audit"])
    }

    /// How much waits for the destination that is down.
    pub fn waiting(&self) -> anyhow::Result<u64> {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.folder.join("pillarbox.toml")).args(["--json", "queue", "audit"]);
        let facts: serde_json::Value = serde_json::from_slice(&command.output()?.stdout).context(DEAD)?;
        facts["waiting"].as_u64().context("waiting")
    }
}

impl Sending for Pillarbox {
    fn name(&self) -> &'static str {
        "pillarbox"
    }
    fn port(&self) -> u16 {
        PILLARBOX
    }
    fn list(&self, count: u64) -> anyhow::Result<Duration> {
        self.command(&["queue", "list", "--limit", &count.to_string()])
    }
    fn pillarbox(&mut self) -> Option<&mut Pillarbox> {
        Some(self)
    }
}

impl Drop for Pillarbox {
    fn drop(&mut self) {
        // A failure leaves a process or files behind; the figures are printed all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
