//! Commands to a running server: reload, status, stop.

use crate::config::Loaded;
use crate::output::Output;
use admin::control::{Request, Response};
use anyhow::{Context, anyhow, bail};
use net::{PairFiles, ServerTls, TlsSettings};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Asks the running server; `None` when none runs.
pub fn ask(loaded: &Loaded, request: &Request) -> anyhow::Result<Option<Response>> {
    let socket = loaded.config.control_socket();
    match admin::control::call(&socket, request) {
        Ok(Response::Failed(causes)) => bail!("{}", causes.join("\n")),
        Ok(response) => Ok(Some(response)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("control socket {}", socket.display())),
    }
}

/// Asks the running server; an error when none runs.
pub fn ask_running(loaded: &Loaded, request: &Request) -> anyhow::Result<Response> {
    ask(loaded, request)?.context("no server runs with this configuration")
}

/// `reload`
pub fn reload(loaded: &Loaded, output: &Output) -> anyhow::Result<()> {
    let files = lent_files(loaded)?;
    if let Response::Done(notes) = ask_running(loaded, &Request::Reload { files })?
        && !output.json(&serde_json::json!({ "reloaded": true, "notes": notes }))
    {
        output.say("reloaded");
        notes.iter().for_each(|note| output.say(note));
    }
    Ok(())
}

/// Texts of all files of certificates and keys, checked: who runs this command may read them, the server perhaps not (R14).
pub fn lent_files(loaded: &Loaded) -> anyhow::Result<HashMap<PathBuf, String>> {
    let mut files = HashMap::new();
    for set in &loaded.config.certificates {
        let pairs = set.chains.iter().zip(&set.keys);
        let pairs = pairs.map(|(chain, key)| PairFiles { chain: chain.clone(), key: key.clone() }).collect();
        ServerTls::load(TlsSettings { pairs, tickets: false, alpn: &[] })
            .map_err(|error| anyhow!("set `{}`: {error}", set.name))?;
        for path in set.chains.iter().chain(&set.keys) {
            files.insert(path.clone(), std::fs::read_to_string(path)?);
        }
    }
    // Keys that sign belong to root as well.
    let signing = directory::signing::Signing::open(&loaded.config.directory.dkim, &directory::signing::read_key_file)
        .map_err(|errors| anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    for (entry, _) in signing.all() {
        files.insert(entry.file.clone(), std::fs::read_to_string(&entry.file)?);
    }
    Ok(files)
}

/// `status`
pub fn status(loaded: &Loaded, output: &Output) -> anyhow::Result<()> {
    let Response::Status(status) = ask_running(loaded, &Request::Status)? else { bail!("unexpected answer") };
    if output.json(&status) {
        return Ok(());
    }
    let up = status.up_seconds;
    output.say(format!("pillarbox {} runs as process {} for {}", status.version, status.pid, duration(up)));
    output.say(format!("{} connections", status.connections));
    let rows: Vec<Vec<String>> = status.listeners.into_iter().map(|(name, address)| vec![name, address]).collect();
    output.table(&["listener", "address"], &rows);
    Ok(())
}

/// `stop`
pub fn stop(loaded: &Loaded, output: &Output) -> anyhow::Result<()> {
    ask_running(loaded, &Request::Stop)?;
    if !output.json(&serde_json::json!({ "stopping": true })) {
        output.say("the server is ending");
    }
    Ok(())
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
