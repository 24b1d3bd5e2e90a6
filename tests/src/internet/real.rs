//! Real MTAs as hosts of the simulated internet: Postfix, Exim, and the sink of Postfix. Each has configuration, queue and
//! maildir of its own, takes mail for anybody, and ends when dropped.
//!
//! Postfix and Exim start only as root.

use super::Internet;
use super::certificate::Certificate;
use super::daemon::Daemon;
use crate::client::{Message, Raw};
use crate::peer::Peer;
use anyhow::{Context, ensure};
use nix::unistd::User;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest wait for messages.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Longest wait for its greeting, before it is asked again.
const GREETING_MAX: Duration = Duration::from_secs(5);

/// A running MTA.
pub struct RealMta {
    /// Where it listens.
    pub address: SocketAddrV4,
    /// Its configuration, queue, log and maildir.
    pub folder: PathBuf,
    _daemon: Daemon,
}

impl RealMta {
    /// Messages in its maildir, in no order; envelopes are in fields that the MTA added.
    pub fn messages(&self) -> anyhow::Result<Vec<Message>> {
        let folder = self.folder.join("mail/new");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let octets = std::fs::read(entry?.path())?;
            // Lines of a maildir end with LF.
            let octets = String::from_utf8_lossy(&octets).replace('\n', "\r\n").into_bytes();
            Ok(Message { uid: 0, flags: String::new(), octets })
        };
        std::fs::read_dir(folder)?.map(read).collect()
    }

    /// Waits until it has so many messages, and gives them all.
    pub fn wait_for_messages(&self, count: usize) -> anyhow::Result<Vec<Message>> {
        let begun = Instant::now();
        loop {
            let messages = self.messages()?;
            if messages.len() >= count {
                return Ok(messages);
            }
            ensure!(begun.elapsed() < WAIT_MAX, "{} of {count} messages; log:\n{}", messages.len(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it logged.
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read(self.folder.join(name)).unwrap_or_default();
        ["maillog", "mainlog", "paniclog", "printed"]
            .map(|name| String::from_utf8_lossy(&read(name)).into_owned())
            .concat()
    }

    /// A Postfix at a new address of an internet. `more` are further lines of its main.cf; they win over ours.
    pub fn postfix(internet: &Internet, name: &str, certificate: &Certificate, more: &str) -> anyhow::Result<RealMta> {
        let address = internet.address();
        let folder = internet.scratch(&format!("postfix-{address}"));
        let owner = owner("postfix")?;
        for (part, chowned) in [("etc", false), ("spool", false), ("data", true), ("mail", true)] {
            std::fs::create_dir_all(folder.join(part))?;
            if chowned {
                std::os::unix::fs::chown(folder.join(part), Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
            }
        }
        certificate.write(&folder, "mx")?;
        let main = postfix_main(&folder, name, address, internet, &owner);
        let replaced = |line: &&str| {
            let name = |line: &str| line.split('=').next().map(|name| name.trim().to_owned());
            more.lines().any(|other| name(other) == name(line))
        };
        let main: String = main.lines().filter(|line| !replaced(line)).map(|line| format!("{line}\n")).collect();
        std::fs::write(folder.join("etc/main.cf"), format!("{main}{more}"))?;
        std::fs::write(folder.join("etc/master.cf"), postfix_master(address, internet.smtp_port()))?;
        // This makes the queue's folders. The master is started by ourselves, so that it is the process that we end.
        Peer::new("postfix").arg("-c").arg(folder.join("etc")).arg("check").succeed()?;
        let mut command = Command::new("/usr/lib/postfix/sbin/master");
        command.arg("-c").arg(folder.join("etc")).arg("-s");
        RealMta::start(command, folder, SocketAddrV4::new(address, internet.smtp_port()))
    }

    /// Makes a Postfix try at once what waits in its queue.
    pub fn flush(&self) -> anyhow::Result<()> {
        Peer::new("postfix").arg("-c").arg(self.folder.join("etc")).arg("flush").succeed().map(drop)
    }

    /// An Exim at a new address of an internet. With a next hop it keeps nothing and sends everything there.
    pub fn exim(
        internet: &Internet,
        name: &str,
        certificate: &Certificate,
        next_hop: Option<SocketAddrV4>,
    ) -> anyhow::Result<RealMta> {
        let address = internet.address();
        let folder = internet.scratch(&format!("exim-{address}"));
        let owner = owner("Debian-exim")?;
        for part in ["", "spool"] {
            std::fs::create_dir_all(folder.join(part))?;
            std::os::unix::fs::chown(folder.join(part), Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        }
        certificate.write(&folder, "mx")?;
        // Its user may not reach the folder that the package was unpacked in. A copy is not setuid either.
        std::fs::copy(unpacked_exim(), folder.join("exim"))
            .with_context(|| format!("{}; `cargo xtask test` unpacks it", unpacked_exim().display()))?;
        std::fs::set_permissions(folder.join("exim"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        std::fs::write(folder.join("exim.conf"), exim_settings(&folder, name, address, internet, next_hop))?;
        let mut command = Command::new(folder.join("exim"));
        command.arg("-C").arg(folder.join("exim.conf")).arg("-bdf");
        RealMta::start(command, folder, SocketAddrV4::new(address, internet.smtp_port()))
    }

    fn start(mut command: Command, folder: PathBuf, address: SocketAddrV4) -> anyhow::Result<RealMta> {
        let mut daemon = Daemon::start(&mut command, &folder.join("printed"))?;
        daemon.wait_until(|| greets(address))?;
        Ok(RealMta { address, folder, _daemon: daemon })
    }

    /// Gives a message, which ends with CRLF, to this MTA to send: its client side is the peer then.
    pub fn submit(&self, from: &str, to: &[&str], message: &str) -> anyhow::Result<()> {
        let mut raw = Raw::connect_to(self.address)?;
        raw.reply()?;
        let mut lines = vec!["EHLO client.example.org".to_owned(), format!("MAIL FROM:<{from}>")];
        lines.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        let message = message.strip_prefix('.').map_or(message.to_owned(), |rest| format!("..{rest}"));
        lines.extend(["DATA".to_owned(), format!("{}.", message.replace("\r\n.", "\r\n..")), "QUIT".to_owned()]);
        for line in lines {
            let answer = raw.command(&line)?;
            ensure!(answer.starts_with(['2', '3']), "{line}: {answer}");
        }
        Ok(())
    }
}

/// Whether it says something: a port that takes connections may belong to one that is still starting.
fn greets(address: SocketAddrV4) -> bool {
    let greeting = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(GREETING_MAX))?;
        stream.read(&mut [0; 64])
    });
    greeting.is_ok_and(|octets| octets > 0)
}

fn owner(name: &str) -> anyhow::Result<User> {
    ensure!(nix::unistd::geteuid().is_root(), "only root can start a real MTA");
    User::from_name(name)?.with_context(|| format!("there is no user {name}; `cargo xtask test` makes it"))
}

/// The binary of a package that cannot be installed beside Postfix.
fn unpacked_exim() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("peers/exim4-daemon-light/usr/sbin/exim4")
}

/// `inet_interfaces` may name only addresses that the system lists; where Postfix listens is in its master.cf.
fn postfix_main(folder: &Path, name: &str, address: Ipv4Addr, internet: &Internet, owner: &User) -> String {
    format!(
        "compatibility_level = 3.6\nqueue_directory = {folder}/spool\ndata_directory = {folder}/data\n\
         command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
         setgid_group = postdrop\nmaillog_file = {folder}/maillog\nmaillog_file_prefixes = {folder}\nmyhostname = {name}\n\
         mydestination =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nalias_maps =\n\
         alias_database =\nlocal_transport = error:no local mail\nsmtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
         default_transport = virtual\nvirtual_mailbox_domains =\nvirtual_mailbox_base = {folder}\nvirtual_mailbox_maps = static:mail/\n\
         virtual_minimum_uid = 1\nvirtual_uid_maps = static:{uid}\nvirtual_gid_maps = static:{gid}\n\
         smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {folder}/mx-cert.pem\n\
         smtpd_tls_key_file = {folder}/mx-key.pem\nsmtpd_tls_received_header = yes\nsmtpd_tls_loglevel = 1\n\
         smtp_tls_CAfile = {ca}\nsmtp_tls_loglevel = 1\nsmtp_tcp_port = {port}\nsmtp_bind_address = {address}\n\
         smtp_host_lookup = native\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\nnotify_classes =\n\
         bounce_queue_lifetime = 0\nsmtpd_client_connection_rate_limit = 0\n",
        folder = folder.display(),
        uid = owner.uid,
        gid = owner.gid,
        ca = internet.ca_file().display(),
        port = internet.smtp_port(),
    )
}

fn postfix_master(address: Ipv4Addr, port: u16) -> String {
    let mut master = format!("{address}:{port} inet n - n - - smtpd\npostlog unix-dgram n - n - 1 postlogd\n");
    for (name, command) in [
        ("cleanup", "unix n - n - 0 cleanup"),
        ("qmgr", "unix n - n 300 1 qmgr"),
        ("pickup", "unix n - n 60 1 pickup"),
        ("rewrite", "unix - - n - - trivial-rewrite"),
        ("bounce", "unix - - n - 0 bounce"),
        ("defer", "unix - - n - 0 bounce"),
        ("trace", "unix - - n - 0 bounce"),
        ("error", "unix - - n - - error"),
        ("retry", "unix - - n - - error"),
        ("virtual", "unix - n n - - virtual"),
        ("smtp", "unix - - n - - smtp"),
        ("lmtp", "unix - - n - - lmtp"),
        // With a root of its own it reads a resolv.conf of its own, in the folder `spool/etc`.
        ("confined", "unix - - y - - smtp"),
        ("tlsmgr", "unix - - n 1000? 1 tlsmgr"),
        ("proxymap", "unix - - n - - proxymap"),
        ("anvil", "unix - - n - 1 anvil"),
        ("scache", "unix - - n - 1 scache"),
    ] {
        master.push_str(&format!("{name} {command}\n"));
    }
    master
}

fn exim_settings(
    folder: &Path,
    name: &str,
    address: Ipv4Addr,
    internet: &Internet,
    next_hop: Option<SocketAddrV4>,
) -> String {
    let router = next_hop.map_or("  driver = accept\n  transport = maildir\n".to_owned(), |next_hop| {
        let (address, port) = (next_hop.ip(), next_hop.port());
        format!("  driver = manualroute\n  route_list = * {address}::{port}\n  self = send\n  transport = onward\n")
    });
    format!(
        "exim_path = {folder}/exim\ndeliver_drop_privilege = true\nprimary_hostname = {name}\n\
         spool_directory = {folder}/spool\nlog_file_path = {folder}/%slog\npid_file_path = {folder}/pid\n\
         daemon_smtp_ports = {port}\nlocal_interfaces = {address}\ndisable_ipv6\nacl_smtp_rcpt = accept\n\
         acl_smtp_data = accept\ntls_advertise_hosts = *\ntls_certificate = {folder}/mx-cert.pem\n\
         tls_privatekey = {folder}/mx-key.pem\nchunking_advertise_hosts = *\ndsn_advertise_hosts = *\n\
         smtputf8_advertise_hosts = *\nprdr_enable\nhost_lookup =\nrfc1413_hosts =\nnever_users =\nkeep_environment =\n\
         smtp_accept_max = 100\nlog_selector = +tls_sni +tls_peerdn +smtp_protocol_error\n\
         begin routers\neverything:\n{router}begin transports\nmaildir:\n  driver = appendfile\n  directory = {folder}/mail\n  maildir_format\n  \
         create_directory\n  delivery_date_add\n  envelope_to_add\n  return_path_add\n\
         onward:\n  driver = smtp\n  hosts_try_chunking = *\n  tls_verify_certificates = {ca}\n\
         begin retry\n* * F,1h,1s\n",
        folder = folder.display(),
        port = internet.smtp_port(),
        ca = internet.ca_file().display(),
    )
}

/// The sink of Postfix: it takes everything and keeps nothing, or fails as its options say.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddrV4,
    _daemon: Daemon,
}

impl Sink {
    /// Starts one at a new address of an internet, with further options of smtp-sink(1).
    pub fn start(internet: &Internet, options: &[&str]) -> anyhow::Result<Sink> {
        let address = SocketAddrV4::new(internet.address(), internet.smtp_port());
        let mut command = Command::new("smtp-sink");
        if nix::unistd::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        command.args(options).arg(format!("inet:{address}")).arg("100");
        let log = internet.scratch(&format!("sink-{address}"));
        let mut daemon = Daemon::start(&mut command, &log)?;
        daemon.wait_until(|| greets(address))?;
        Ok(Sink { address, _daemon: daemon })
    }
}
