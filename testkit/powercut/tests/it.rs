//! Records the workload, cuts the power at many moments in many ways, and checks what is left (R42).
//!
//! `POWERCUT_IMAGES` asks for another number of images than the usual one, `POWERCUT_SEED` for another run;
//! `POWERCUT_KEEP` names an empty folder where the log and the images of findings are left.

use powercut::body::Bodies;
use powercut::check::check;
use powercut::ledger::Ledger;
use powercut::workload::store_folder;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use testkit::powercut::log::{Log, Op, mark_entry};
use testkit::powercut::{Image, Plan, images};

/// Images of an ordinary run.
const IMAGES: usize = 200;
/// Images of the same moment.
const IMAGES_PER_POINT: usize = 2;
/// Findings after which the test stops looking.
const FINDINGS_MAX: usize = 10;

/// How many images are used on and cut again.
const SECOND_RUNS: usize = 3;

/// How many processes are killed and started again.
const KILLS: u64 = 6;

/// Picks files by their path.
type Picks = fn(&str) -> bool;

/// How a process of the workload ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// `kill -9`, when it asks for this sync, counted from 1: in the middle of a commit, written and not yet synced.
    Killed(u64),
    /// It closes the store.
    Closes,
    /// It just leaves.
    Leaves,
}

/// The processes of the long record, one after the other: deeds of each task, and the end.
const PROCESSES: [(u32, End); 3] = [(80, End::Killed(200)), (120, End::Closes), (40, End::Leaves)];

#[test]
fn r42_what_was_acknowledged_survives_every_power_cut() {
    let wanted = number("POWERCUT_IMAGES", IMAGES as u64) as usize;
    let (checked, findings) = findings(record(), None, 0, wanted, keep().as_deref());
    println!("{checked} images checked");
    assert!(findings.is_empty(), "{} of {checked} images, seed {}:\n{}", findings.len(), seed(), findings.join("\n"));
    assert!(checked >= wanted / 2, "only {checked} images");
}

/// After `kill -9` the next process finds in the page cache what never reached the disk. What it shows to anybody must
/// not go away with the power.
#[test]
fn r42_what_a_restart_shows_stays() {
    for step in 0..KILLS {
        let place = tempfile::tempdir().unwrap();
        let (folder, path) = (place.path().join("recorded"), place.path().join("log"));
        std::fs::create_dir(&folder).unwrap();
        run_workload(&folder, &path, seed() + step, 40, End::Killed(30 + step));
        let from = Log::read(&path).unwrap().ops().len();
        run_workload(&folder, &path, seed() + step + 1_000, 1, End::Leaves);
        let log = Log::read(&path).unwrap();
        let (checked, findings) = findings(&log, None, from, IMAGES / KILLS as usize, None);
        println!("{checked} images checked after kill {step}");
        assert!(findings.is_empty(), "{} of {checked} after kill {step}:\n{}", findings.len(), findings.join("\n"));
    }
}

/// A test that finds nothing must be able to find something.
#[test]
fn a_sync_left_out_is_noticed() {
    let kinds: [(&str, Picks); 5] = [
        ("segments", |path| path.ends_with(".seg")),
        ("names of segments", |path| path == "store/segments"),
        ("write-ahead log", |path| path.ends_with("-wal")),
        ("database", |path| path.ends_with(".db")),
        ("names in the store", |path| path == "store"),
    ];
    for (what, picks) in kinds {
        let (checked, findings) = findings(&record().clone().without_syncs(picks), None, 0, IMAGES, None);
        println!("{what}: {} of {checked} images", findings.len());
        assert!(!findings.is_empty(), "nobody misses the sync of the {what}");
    }
}

/// What a power cut left goes on being used, and the power is cut again.
#[test]
fn r42_a_second_power_cut_is_survived_too() {
    let wanted = number("POWERCUT_IMAGES", IMAGES as u64) as usize / 2;
    let plan = Plan { seed: seed() + 1, from: 0, points: SECOND_RUNS, images_per_point: 1 };
    for image in images(record(), None, plan).unwrap() {
        let image = image.unwrap();
        let place = tempfile::tempdir().unwrap();
        let (base, folder, log) = (place.path().join("base"), place.path().join("recorded"), place.path().join("log"));
        for folder in [&base, &folder] {
            std::fs::create_dir(folder).unwrap();
            image.materialise(folder).unwrap();
        }
        // The second record begins with what was said before the first cut.
        let said: Vec<u8> = record().marks().take(image.marks).flat_map(mark_entry).collect();
        std::fs::write(&log, said).unwrap();
        run_workload(&folder, &log, seed() + 7, 15, End::Leaves);
        let log = Log::read(&log).unwrap();
        let (checked, findings) = findings(&log, Some(&base), image.marks, wanted / SECOND_RUNS, None);
        println!("{checked} images checked after {image}");
        assert!(findings.is_empty(), "{} of {checked} after {image}:\n{}", findings.len(), findings.join("\n"));
    }
}

/// Checks images of moments after `from` until there are enough findings. Gives how many were checked.
fn findings(log: &Log, base: Option<&Path>, from: usize, wanted: usize, keep: Option<&Path>) -> (usize, Vec<String>) {
    let points = wanted.div_ceil(IMAGES_PER_POINT);
    let plan = Plan { seed: seed(), from, points, images_per_point: IMAGES_PER_POINT };
    let source = Mutex::new(images(log, base, plan).unwrap());
    let result = Mutex::new((0, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let bodies = Bodies::default();
                loop {
                    let Some(image) = source.lock().unwrap().next() else { return };
                    let image = image.unwrap();
                    let checked = check_image(log, &image, &bodies);
                    let mut result = result.lock().unwrap();
                    result.0 += 1;
                    if let Err(finding) = checked {
                        result.1.push(format!("{image}\n    {finding}"));
                        keep.inspect(|keep| leave(keep, &image));
                    }
                    if result.1.len() >= FINDINGS_MAX {
                        return;
                    }
                }
            });
        }
    });
    result.into_inner().unwrap()
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

/// The record that all tests here look at.
fn record() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let keep = keep();
        let place = keep.as_deref().unwrap_or(folder.path());
        let (folder, log) = (place.join("recorded"), place.join("recorded.log"));
        std::fs::create_dir_all(&folder).unwrap();
        for (step, (deeds, end)) in PROCESSES.into_iter().enumerate() {
            run_workload(&folder, &log, seed() + step as u64 * 1_000, deeds, end);
        }
        let log = Log::read(&log).unwrap();
        describe(&log);
        log
    })
}

fn run_workload(folder: &Path, log: &Path, seed: u64, deeds: u32, end: End) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powercut"));
    command
        .args([folder.as_os_str(), seed.to_string().as_ref(), deeds.to_string().as_ref()])
        .env("LD_PRELOAD", recorder())
        .env("RECORDER_FOLDER", folder)
        .env("RECORDER_LOG", log);
    match end {
        End::Killed(sync) => command.env("RECORDER_KILL_AT_SYNC", sync.to_string()),
        End::Closes => command.arg("close"),
        End::Leaves => &mut command,
    };
    let ended = command.status().unwrap();
    assert_eq!(ended.success(), !matches!(end, End::Killed(_)), "{end:?}, but: {ended}");
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

fn seed() -> u64 {
    number("POWERCUT_SEED", 1)
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

fn keep() -> Option<PathBuf> {
    std::env::var_os("POWERCUT_KEEP").map(PathBuf::from)
}
