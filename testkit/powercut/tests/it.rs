//! Records the workload, cuts the power at many moments in many ways, and checks what is left (R42).
//!
//! `POWERCUT_IMAGES` asks for another number of images than the usual one, `POWERCUT_SEED` for another run;
//! `POWERCUT_KEEP` names a folder where log and images of findings are left.

use powercut::body::Bodies;
use powercut::check::check;
use powercut::ledger::Ledger;
use powercut::workload::store_folder;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::powercut::log::{Log, Op};
use testkit::powercut::{Image, Plan, images};

/// Images of an ordinary run.
const IMAGES: usize = 200;
/// Images of the same moment.
const IMAGES_PER_POINT: usize = 2;
/// Deeds of each task in each of the three processes.
const DEEDS: u32 = 40;
/// Findings after which the test stops looking.
const FINDINGS_MAX: usize = 10;

#[test]
fn r42_what_was_acknowledged_survives_every_power_cut() {
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let seed = number("POWERCUT_SEED", 1);
    let wanted = number("POWERCUT_IMAGES", IMAGES as u64) as usize;
    let folder = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("POWERCUT_KEEP").map(PathBuf::from);
    let place = keep.as_deref().unwrap_or(folder.path());
    let log = record(place, seed);
    describe(&log);
    let plan = Plan { seed, points: wanted.div_ceil(IMAGES_PER_POINT), images_per_point: IMAGES_PER_POINT };
    let source = Mutex::new(images(&log, Some(Path::new("/tmp/pcbase")), plan).unwrap());
    let (checked, findings) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let bodies = Bodies::default();
                loop {
                    let next = source.lock().unwrap().next();
                    let Some(image) = next else { return };
                    let image = image.unwrap();
                    if let Err(finding) = check_image(&log, &image, &bodies) {
                        if let Some(keep) = &keep {
                            leave(keep, &image);
                        }
                        findings.lock().unwrap().push(format!("{image}\n    {finding}"));
                    }
                    checked.fetch_add(1, Ordering::Relaxed);
                    if findings.lock().unwrap().len() >= FINDINGS_MAX {
                        return;
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().unwrap();
    let checked = checked.into_inner();
    println!("{checked} images checked");
    assert!(findings.is_empty(), "{} of {checked} images, seed {seed}:\n{}", findings.len(), findings.join("\n"));
    assert!(checked >= wanted / 2, "only {checked} images");
}

/// Three processes, one after the other: the first kills itself, the second closes properly, the third just leaves.
fn record(place: &Path, seed: u64) -> Log {
    let (folder, log) = (place.join("recorded"), place.join("recorded.log"));
    std::fs::create_dir_all(folder.join("store")).unwrap();
    let killed = run_workload(&folder, &log, seed, &["130"]);
    assert!(!killed.success(), "the first process was to die");
    for (step, end) in [&["close"][..], &[]].into_iter().enumerate() {
        let ended = run_workload(&folder, &log, seed + 1_000 + step as u64, end);
        assert!(ended.success(), "the workload failed: {ended}");
    }
    Log::read(&log).unwrap()
}

fn run_workload(folder: &Path, log: &Path, seed: u64, end: &[&str]) -> std::process::ExitStatus {
    Command::new(env!("CARGO_BIN_EXE_powercut"))
        .args([folder.as_os_str(), seed.to_string().as_ref(), DEEDS.to_string().as_ref()])
        .args(end)
        .env("LD_PRELOAD", recorder())
        .env("RECORDER_FOLDER", folder)
        .env("RECORDER_LOG", log)
        .status()
        .unwrap()
}

/// Cargo builds it beside this test, as one of its dependencies.
fn recorder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let found = test.ancestors().map(|folder| folder.join("librecorder.so")).find(|path| path.exists());
    found.expect("the recorder's shared object is built with this test")
}

fn describe(log: &Log) {
    let count = |what: fn(&Op) -> bool| log.ops().iter().filter(|op| what(op)).count();
    println!(
        "{} operations: {} writes, {} syncs, {} removals, {} marks",
        log.ops().len(),
        count(|op| matches!(op, Op::Write { .. })),
        count(|op| matches!(op, Op::SyncEnd { .. })),
        count(|op| matches!(op, Op::Unlink { .. })),
        count(|op| matches!(op, Op::Mark { .. })),
    );
}

fn check_image(log: &Log, image: &Image, bodies: &Bodies) -> Result<(), String> {
    // Where there is memory to write to, the disk need not be bothered.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    image.materialise(folder.path()).unwrap();
    let ledger = Ledger::of(log.marks().take(image.marks))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(check(&store_folder(folder.path()), &ledger, bodies))
}

fn leave(keep: &Path, image: &Image) {
    let folder = keep.join(format!("image-{}-{:?}", image.point, image.damage).replace(['(', ')'], "-"));
    if std::fs::create_dir_all(&folder).is_ok() {
        image.materialise(&folder).unwrap();
    }
}
