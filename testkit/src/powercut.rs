//! The disks that a power cut could leave, built from a record of what a process wrote and synced.
//!
//! The crate `recorder` makes the record; [`log`] reads it; [`disk`] plays it, and knows at each moment what is durable
//! and what is on its way; [`images`] cuts the power and gives the folders that could be found afterwards. The model is
//! described in `docs/design/power-cut.md`: it is meaner than any one file system, never kinder. Nothing here knows what
//! the files mean.

pub mod dice;
pub mod disk;
pub mod log;

use dice::Dice;
use disk::{Disk, Fate, Fates, Tree};
use log::{Log, LogError, Op};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// A folder as it could be found after the power cut.
#[derive(Debug)]
pub struct Image {
    /// The operations before this one of the log were carried out, as far as the process could see.
    pub point: usize,
    /// What became of those that were not durable.
    pub damage: Damage,
    /// How many of the log's marks came before.
    pub marks: usize,
    /// The files.
    pub tree: Tree,
}

impl Image {
    /// Writes the image into a folder, which must be empty.
    pub fn materialise(&self, folder: &Path) -> std::io::Result<()> {
        self.tree.write_to(folder)
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power cut before operation {}, {:?}, {} marks", self.point, self.damage, self.marks)
    }
}

/// What became of all that was on its way to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Nothing arrived.
    Lost,
    /// Everything arrived.
    Kept,
    /// Each piece and each name arrived or not, or was torn.
    Random(u64),
    /// What was issued before an operation arrived, nothing after it; that operation's own pieces were torn.
    Prefix(u64),
    /// What was issued after an operation arrived, nothing before it.
    Suffix(u64),
    /// Each file arrived whole or not at all, and so did each folder's names.
    ByFile(u64),
    /// Names and sizes arrived, octets did not.
    Zeros,
    /// Octets arrived, names did not.
    Nameless,
    /// Everything but the last operation of each file, which was torn.
    TornTail(u64),
    /// Names arrived; nothing of the octets did, sizes neither.
    NamesOnly,
}

impl Damage {
    /// Every kind of damage once.
    fn kinds(dice: &mut Dice) -> Vec<Damage> {
        vec![
            Damage::Lost,
            Damage::Kept,
            Damage::Random(dice.roll()),
            Damage::Random(dice.roll()),
            Damage::Prefix(dice.roll()),
            Damage::Suffix(dice.roll()),
            Damage::ByFile(dice.roll()),
            Damage::ByFile(dice.roll()),
            Damage::Zeros,
            Damage::Nameless,
            Damage::TornTail(dice.roll()),
            Damage::NamesOnly,
        ]
    }
}

/// At how many moments to cut, and how often each.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// From which everything random follows.
    pub seed: u64,
    /// No moment before this operation.
    pub from: usize,
    /// How many moments.
    pub points: usize,
    /// How many images of each moment, at most: fewer where they would be the same.
    pub images_per_point: usize,
}

/// All images of a plan. `base` is what the folder held, durably, before the log began; `None` if it was empty.
pub fn images<'a>(log: &'a Log, base: Option<&Path>, plan: Plan) -> Result<Images<'a>, LogError> {
    let disk = match base {
        Some(folder) => Disk::of_folder(folder).map_err(|error| LogError::Unreadable(error.to_string()))?,
        None => Disk::empty(),
    };
    let mut dice = Dice::new(plan.seed);
    let points = points(log, plan, &mut dice);
    Ok(Images { log, disk, played: 0, marks: 0, points: points.into_iter(), plan, dice, ready: Vec::new() })
}

/// The image of one moment and one damage, to look at a finding again.
pub fn image(log: &Log, base: Option<&Path>, point: usize, damage: Damage) -> Result<Image, LogError> {
    let mut images = images(log, base, Plan { seed: 0, from: 0, points: 0, images_per_point: 0 })?;
    images.play(point)?;
    Ok(images.cut(point, damage))
}

/// Moments worth a power cut: around every sync, after every mark and every change of a name, and some at random.
fn points(log: &Log, plan: Plan, dice: &mut Dice) -> BTreeSet<usize> {
    let (from, wanted) = (plan.from.min(log.ops().len()), plan.points);
    let mut worthy = Vec::new();
    for (number, op) in log.ops().iter().enumerate() {
        match op {
            // Just before a sync comes back, most is on its way; just after, what it covered must be there.
            Op::SyncEnd { .. } => worthy.extend([number, number + 1]),
            Op::Mark { .. } | Op::Rename { .. } | Op::Link { .. } | Op::Unlink { .. } | Op::MakeFolder { .. } => {
                worthy.push(number + 1);
            }
            Op::Open { create: true, .. } => worthy.push(number + 1),
            _ => {}
        }
    }
    worthy.push(log.ops().len());
    worthy.retain(|point| *point >= from);
    worthy.dedup();
    if worthy.len() <= wanted {
        return worthy.into_iter().collect();
    }
    // One out of each of so many equal parts of the run; every eighth anywhere.
    let mut chosen = BTreeSet::new();
    for part in 0..wanted {
        let (first, end) = (part * worthy.len() / wanted, (part + 1) * worthy.len() / wanted);
        chosen.insert(match part % 8 {
            7 => from + dice.below(log.ops().len() + 1 - from),
            _ => worthy[first + dice.below(end - first)],
        });
    }
    chosen
}

/// Gives the images in the order of the log.
pub struct Images<'a> {
    log: &'a Log,
    disk: Disk,
    played: usize,
    marks: usize,
    points: std::collections::btree_set::IntoIter<usize>,
    plan: Plan,
    dice: Dice,
    ready: Vec<Image>,
}

impl Iterator for Images<'_> {
    type Item = Result<Image, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(image) = self.ready.pop() {
                return Some(Ok(image));
            }
            let point = self.points.next()?;
            if let Err(error) = self.play(point) {
                self.points = BTreeSet::new().into_iter();
                return Some(Err(error));
            }
            let mut kinds = Damage::kinds(&mut self.dice);
            self.dice.shuffle(&mut kinds);
            for damage in kinds {
                let image = self.cut(point, damage);
                if self.ready.iter().all(|known| known.tree != image.tree) {
                    self.ready.push(image);
                }
                if self.ready.len() >= self.plan.images_per_point {
                    break;
                }
            }
        }
    }
}

impl Images<'_> {
    fn play(&mut self, point: usize) -> Result<(), LogError> {
        while self.played < point.min(self.log.ops().len()) {
            let op = &self.log.ops()[self.played];
            self.marks += usize::from(matches!(op, Op::Mark { .. }));
            self.disk.play(self.played, op, self.log)?;
            self.played += 1;
        }
        Ok(())
    }

    fn cut(&self, point: usize, damage: Damage) -> Image {
        let tree = match damage {
            Damage::Lost => self.disk.image(&mut Same { octets: Fate::Lost, sizes: false, names: false }),
            Damage::Kept => self.disk.image(&mut Same { octets: Fate::Kept, sizes: true, names: true }),
            Damage::Zeros => self.disk.image(&mut Same { octets: Fate::Lost, sizes: true, names: true }),
            Damage::Nameless => self.disk.image(&mut Same { octets: Fate::Kept, sizes: true, names: false }),
            Damage::NamesOnly => self.disk.image(&mut Same { octets: Fate::Lost, sizes: false, names: true }),
            Damage::Random(seed) => self.disk.image(&mut Random(Dice::new(seed))),
            Damage::ByFile(seed) => self.disk.image(&mut ByFile(seed)),
            Damage::Prefix(seed) => self.disk.image(&mut self.split(seed, true)),
            Damage::Suffix(seed) => self.disk.image(&mut self.split(seed, false)),
            Damage::TornTail(seed) => self.disk.image(&mut TornTail { dice: Dice::new(seed), disk: &self.disk }),
        };
        Image { point, damage, marks: self.marks, tree }
    }

    fn split(&self, seed: u64, before: bool) -> Split {
        let mut dice = Dice::new(seed);
        let pending = self.disk.pending();
        let at = if pending.is_empty() { 0 } else { pending[dice.below(pending.len())] };
        Split { at, before, dice }
    }
}

/// One fate for all.
struct Same {
    octets: Fate,
    sizes: bool,
    names: bool,
}

impl Fates for Same {
    fn octets(&mut self, _: usize, _: usize) -> Fate {
        self.octets
    }
    fn size(&mut self, _: usize, _: usize) -> bool {
        self.sizes
    }
    fn name(&mut self, _: usize, _: usize) -> bool {
        self.names
    }
}

struct Random(Dice);

impl Fates for Random {
    fn octets(&mut self, _: usize, _: usize) -> Fate {
        match self.0.below(4) {
            0 | 1 => Fate::Kept,
            2 => Fate::Lost,
            _ => Fate::Torn(self.0.roll() as u8),
        }
    }
    fn size(&mut self, _: usize, _: usize) -> bool {
        self.0.below(2) == 0
    }
    fn name(&mut self, _: usize, _: usize) -> bool {
        self.0.below(2) == 0
    }
}

struct ByFile(u64);

impl ByFile {
    fn keeps(&self, node: usize) -> bool {
        Dice::new(self.0 ^ (node as u64) << 20).below(2) == 0
    }
}

impl Fates for ByFile {
    fn octets(&mut self, node: usize, _: usize) -> Fate {
        if self.keeps(node) { Fate::Kept } else { Fate::Lost }
    }
    fn size(&mut self, node: usize, _: usize) -> bool {
        self.keeps(node)
    }
    fn name(&mut self, node: usize, _: usize) -> bool {
        self.keeps(node)
    }
}

/// Keeps what lies on one side of an operation.
struct Split {
    at: usize,
    before: bool,
    dice: Dice,
}

impl Fates for Split {
    fn octets(&mut self, node: usize, op: usize) -> Fate {
        match op == self.at {
            true => Fate::Torn(self.dice.roll() as u8),
            false if self.name(node, op) => Fate::Kept,
            false => Fate::Lost,
        }
    }
    fn size(&mut self, node: usize, op: usize) -> bool {
        self.name(node, op)
    }
    fn name(&mut self, _: usize, op: usize) -> bool {
        op == self.at || (op < self.at) == self.before
    }
}

struct TornTail<'a> {
    dice: Dice,
    disk: &'a Disk,
}

impl Fates for TornTail<'_> {
    fn octets(&mut self, node: usize, op: usize) -> Fate {
        if self.disk.last_pending(node) == Some(op) { Fate::Torn(self.dice.roll() as u8) } else { Fate::Kept }
    }
    fn size(&mut self, _: usize, _: usize) -> bool {
        self.dice.below(2) == 0
    }
    fn name(&mut self, _: usize, _: usize) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::log::tests::Record;
    use super::*;

    const PLAN: Plan = Plan { seed: 1, from: 0, points: 1_000, images_per_point: 50 };

    fn all(log: &Log) -> Vec<Image> {
        images(log, None, PLAN).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_is_synced_is_in_every_later_image_and_nothing_else_is_certain() {
        let log = Record::new()
            .open(1, "", false)
            .open(2, "a", true)
            .write(2, 0, &[7; 10_000])
            .sync(2, 100)
            .sync(1, 101)
            .mark("one")
            .write(2, 10_000, &[8; 10_000])
            .mark("two")
            .log();
        let images = all(&log);
        let certain = |image: &Image| image.tree.file("a").is_some_and(|a| a.starts_with(&[7; 10_000]));
        assert!(images.iter().filter(|image| image.marks >= 1).all(certain));
        assert!(images.iter().any(|image| image.marks == 0 && image.tree.file("a").is_none()));
        let sizes: BTreeSet<usize> =
            images.iter().filter(|image| image.marks == 2).map(|image| image.tree.file("a").unwrap().len()).collect();
        assert!(sizes.contains(&10_000) && sizes.contains(&20_000), "{sizes:?}");
        let zeros = |image: &Image| image.tree.file("a").is_some_and(|a| a.ends_with(&[0; 10_000]));
        assert!(images.iter().any(zeros), "a size may survive without its octets");
        let torn = |image: &Image| {
            let tail = image.tree.file("a").and_then(|a| a.get(12_288..16_384)).unwrap_or(&[]);
            tail.contains(&8) && tail.contains(&0)
        };
        assert!(images.iter().any(torn), "a sector may be half there");
    }

    #[test]
    fn a_synced_file_without_a_synced_name_may_be_missing() {
        let log = Record::new().open(2, "a", true).write(2, 0, b"x").sync(2, 100).mark("one").log();
        let images: Vec<Image> = all(&log).into_iter().filter(|image| image.marks == 1).collect();
        assert!(images.iter().any(|image| image.tree.file("a").is_none()));
        assert!(images.iter().all(|image| image.tree.file("a").is_none_or(|a| a == b"x")));
    }

    #[test]
    fn an_unlinked_name_may_come_back_until_its_folder_is_synced() {
        let record = Record::new().folder("d").open(1, "d", false).open(3, "", false).sync(3, 99).open(2, "d/a", true);
        let record = record.write(2, 0, b"x").sync(2, 100).sync(1, 101).unlink("d/a").mark("one");
        let log = record.sync(1, 102).mark("two").log();
        let there = |image: &&Image| image.tree.file("d/a").is_some();
        let images = all(&log);
        assert!(images.iter().filter(|image| image.marks == 1).any(|image| there(&image)));
        assert!(!images.iter().filter(|image| image.marks == 2).any(|image| there(&image)));
    }

    #[test]
    fn a_write_that_began_after_the_sync_is_not_covered_by_it() {
        let log = Record::new()
            .open(1, "", false)
            .open(2, "a", true)
            .sync(1, 99)
            .write(2, 0, b"x")
            .sync_begin(2, 100)
            .write(2, 1, b"y")
            .sync_end(2, 100)
            .mark("one")
            .log();
        let images: Vec<Image> = all(&log).into_iter().filter(|image| image.marks == 1).collect();
        assert!(images.iter().any(|image| image.tree.file("a") == Some(b"x")));
        assert!(images.iter().any(|image| image.tree.file("a") == Some(b"xy")));
        assert!(images.iter().all(|image| image.tree.file("a").is_some_and(|a| a.starts_with(b"x"))));
    }

    #[test]
    fn an_image_is_made_again_from_its_point_and_damage() {
        let log = Record::new().open(1, "", false).open(2, "a", true).sync(1, 9).write(2, 0, &[1; 50_000]).log();
        for found in all(&log) {
            assert_eq!(image(&log, None, found.point, found.damage).unwrap().tree, found.tree);
        }
    }

    #[test]
    fn what_the_recorder_could_not_see_is_refused() {
        let mut octets = vec![2, 0, 0, 0, 12];
        octets.extend_from_slice(b"m");
        assert!(matches!(Log::parse(octets), Err(LogError::Unseen(_))));
    }
}
