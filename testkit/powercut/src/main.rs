//! The workload as a program, to be run under the recorder: `powercut FOLDER SEED DEEDS [close]`.
//!
//! The log named by `RECORDER_LOG` tells it what runs before it said.

use powercut::ledger::Ledger;
use powercut::workload::{Run, run};
use testkit::powercut::log::Log;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, seed, deeds, end @ ..] = arguments.as_slice() else {
        return Err("usage: powercut FOLDER SEED DEEDS [close]".into());
    };
    let plan = Run {
        folder: folder.into(),
        seed: seed.parse().map_err(|_| "SEED is a number")?,
        deeds: deeds.parse().map_err(|_| "DEEDS is a number")?,
        close: end.first().is_some_and(|end| end == "close"),
    };
    let before = match std::env::var_os("RECORDER_LOG").map(std::path::PathBuf::from) {
        Some(log) if log.exists() => {
            let log = Log::read(&log).map_err(|error| error.to_string())?;
            Ledger::of(log.marks())?
        }
        _ => Ledger::default(),
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(run(plan, before))
}
