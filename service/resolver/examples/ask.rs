//! Asks for a name and prints what was found: `ask NAME TYPE --server A:P [--trusted] [--validating] [--plain]
//! [--anchor FILE] [--probe]`.
//!
//! Without `--server`, those of the system are asked. `--trusted` believes the servers' AD bit; those on loopback are
//! believed anyway. `--anchor` is a file with DNSKEY lines to start from in place of the root's keys.

use dns::{Found, Lookup, Name, RecordType};
use resolver::{Mode, Resolver, Settings};
use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "ask NAME TYPE [--server A:P]… [--trusted] [--validating | --plain] [--anchor FILE] [--probe]";

struct Request {
    name: Name,
    kind: RecordType,
    settings: Settings,
    is_probe: bool,
}

fn parse() -> Result<Request, Box<dyn Error>> {
    let mut settings = Settings::default();
    let (mut words, mut is_trusted, mut is_probe) = (Vec::new(), false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--server" => settings.servers.push(arguments.next().ok_or(USAGE)?.parse()?),
            "--anchor" => settings.trust_anchors = Some(std::fs::read_to_string(arguments.next().ok_or(USAGE)?)?),
            "--trusted" => is_trusted = true,
            "--validating" => settings.mode = Mode::Validating,
            "--plain" => settings.mode = Mode::Plain,
            "--probe" => is_probe = true,
            _ => words.push(argument),
        }
    }
    if is_trusted {
        settings.trusted = settings.servers.iter().map(|server| server.ip()).collect();
    }
    let [name, kind] = words.as_slice() else { return Err(USAGE.into()) };
    Ok(Request { name: Name::parse(name)?, kind: kind.parse()?, settings, is_probe })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let request = parse()?;
    let resolver = Resolver::new(request.settings)?;
    if request.is_probe {
        println!("{}", resolver.probe(&request.name).await);
    }
    let Found { records, name_exists, security, canonical, ttl } =
        resolver.look_up(&request.name, request.kind).await?;
    println!("{canonical} {} {security:?}, name exists: {name_exists}, {} s", request.kind, ttl.as_secs());
    for record in records {
        println!("  {record:?}");
    }
    Ok(())
}
