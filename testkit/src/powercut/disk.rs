//! A disk while a log is played: what is durable, what is on its way, and what the process sees.
//!
//! A file's octets are durable once a sync of that file came back that began after they were written; a name is durable
//! once its folder was synced. All else is pending, each piece on its own.

use super::log::{Log, LogError, Op};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// What the page cache writes at once: pieces of this size, aligned in the file, have a fate each.
pub const PIECE_OCTETS: u64 = 4_096;
/// What a disk writes at once: a torn piece is whole in units of this size.
pub const SECTOR_OCTETS: u64 = 512;

/// What becomes of a pending piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Kept,
    /// It did not.
    Lost,
    /// Those sectors arrived whose bit is set.
    Torn(u8),
}

/// Decides what becomes of what is pending, asked in the order of the operations within each file.
pub trait Fates {
    /// Of a piece of a write, or of a truncation, by file and operation.
    fn octets(&mut self, node: usize, op: usize) -> Fate;
    /// Whether a file at least grew to where a piece that was lost would have ended.
    fn size(&mut self, node: usize, op: usize) -> bool;
    /// Of a change of a name, by folder and operation.
    fn name(&mut self, node: usize, op: usize) -> bool;
}

/// A folder with all that is in it, as values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Paths of all folders and files; folders before what is in them.
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Vec<u8>),
}

impl Tree {
    /// The octets of a file, if it is there.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match self.entries.get(path)? {
            Entry::File(octets) => Some(octets),
            Entry::Folder => None,
        }
    }

    /// All files with their sizes, in order of path.
    pub fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File(octets) => Some((path.as_str(), octets.len())),
            Entry::Folder => None,
        })
    }

    /// Writes everything below `folder`.
    pub fn write_to(&self, folder: &Path) -> std::io::Result<()> {
        for (path, entry) in &self.entries {
            match entry {
                Entry::Folder => std::fs::create_dir(folder.join(path))?,
                Entry::File(octets) => std::fs::write(folder.join(path), octets)?,
            }
        }
        Ok(())
    }
}

/// The disk.
pub struct Disk {
    nodes: Vec<Node>,
    handles: HashMap<u64, usize>,
    /// Syncs under way: of what, and from which operation on nothing is covered.
    syncs: HashMap<u64, (usize, usize)>,
}

enum Node {
    File { durable: Arc<Vec<u8>>, pending: Vec<Edit> },
    Folder { durable: Names, pending: Vec<NameEdit>, seen: Names },
}

type Names = BTreeMap<String, usize>;

struct Edit {
    op: usize,
    what: What,
}

enum What {
    /// Offset and octets.
    Write(u64, Arc<[u8]>),
    Truncate(u64),
    Allocate(u64),
}

/// Removes one name and puts another, both in one folder and both at once.
struct NameEdit {
    op: usize,
    take: Option<String>,
    put: Option<(String, usize)>,
}

/// The node of the recorded folder itself.
const ROOT: usize = 0;

impl Disk {
    /// A disk with an empty folder.
    pub fn empty() -> Disk {
        Disk { nodes: vec![Node::folder(Names::new())], handles: HashMap::new(), syncs: HashMap::new() }
    }

    /// A disk on which everything that is in `folder` now is durable.
    pub fn of_folder(folder: &Path) -> std::io::Result<Disk> {
        let mut disk = Disk::empty();
        disk.load(folder, ROOT)?;
        Ok(disk)
    }

    fn load(&mut self, folder: &Path, into: usize) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let node = self.nodes.len();
            if path.is_dir() {
                self.nodes.push(Node::folder(Names::new()));
                self.load(&path, node)?;
            } else {
                self.nodes.push(Node::File { durable: Arc::new(std::fs::read(&path)?), pending: Vec::new() });
            }
            if let Some(Node::Folder { durable, seen, .. }) = self.nodes.get_mut(into) {
                durable.insert(name.clone(), node);
                seen.insert(name, node);
            }
        }
        Ok(())
    }

    /// Carries out an operation. `number` counts the operations of the log.
    pub fn play(&mut self, number: usize, op: &Op, log: &Log) -> Result<(), LogError> {
        match op {
            Op::Open { handle, create, truncate, path } => self.open(number, *handle, path, *create, *truncate),
            Op::Write { handle, offset, data } => {
                self.edit(number, *handle, What::Write(*offset, log.octets(data).into()))
            }
            Op::Truncate { handle, octets } => self.edit(number, *handle, What::Truncate(*octets)),
            Op::Allocate { handle, octets } => self.edit(number, *handle, What::Allocate(*octets)),
            Op::SyncBegin { handle, token } => {
                let node = self.handle(*handle)?;
                self.syncs.insert(*token, (node, number));
                Ok(())
            }
            Op::SyncEnd { token, .. } => {
                let begun = self.syncs.remove(token).ok_or(LogError::Contradiction("a sync never begun".into()))?;
                self.settle(begun.0, begun.1);
                Ok(())
            }
            Op::Rename { from, to } => self.rename(number, from, to),
            Op::Link { from, to } => {
                let node = self.find(from)?;
                self.rename_edit(number, to, Some(node))
            }
            Op::Unlink { path } => self.rename_edit(number, path, None),
            Op::MakeFolder { path } => {
                let node = self.nodes.len();
                self.nodes.push(Node::folder(Names::new()));
                self.rename_edit(number, path, Some(node))
            }
            Op::Mark { .. } => Ok(()),
        }
    }

    /// The operations of which something is pending, ascending.
    pub fn pending(&self) -> Vec<usize> {
        let of_node = |node: &Node| match node {
            Node::File { pending, .. } => pending.iter().map(|edit| edit.op).collect::<Vec<_>>(),
            Node::Folder { pending, .. } => pending.iter().map(|edit| edit.op).collect(),
        };
        let mut ops: Vec<usize> = self.nodes.iter().flat_map(of_node).collect();
        ops.sort_unstable();
        ops.dedup();
        ops
    }

    /// The last pending operation of a file.
    pub fn last_pending(&self, node: usize) -> Option<usize> {
        match self.nodes.get(node)? {
            Node::File { pending, .. } => pending.last().map(|edit| edit.op),
            Node::Folder { pending, .. } => pending.last().map(|edit| edit.op),
        }
    }

    /// What is found after a power cut now.
    pub fn image(&self, fates: &mut dyn Fates) -> Tree {
        let mut tree = Tree::default();
        self.image_folder(ROOT, "", fates, &mut tree);
        tree
    }

    fn image_folder(&self, folder: usize, path: &str, fates: &mut dyn Fates, tree: &mut Tree) {
        let Some(Node::Folder { durable, pending, .. }) = self.nodes.get(folder) else { return };
        let mut names = durable.clone();
        for edit in pending {
            if fates.name(folder, edit.op) {
                edit.put_into(&mut names);
            }
        }
        for (name, node) in names {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            match &self.nodes[node] {
                Node::File { durable, pending } => {
                    tree.entries.insert(path, Entry::File(image_file(node, durable, pending, fates)));
                }
                Node::Folder { .. } => {
                    tree.entries.insert(path.clone(), Entry::Folder);
                    self.image_folder(node, &path, fates, tree);
                }
            }
        }
    }

    fn open(&mut self, op: usize, handle: u64, path: &str, create: bool, truncate: bool) -> Result<(), LogError> {
        let node = match self.find(path) {
            Ok(node) => node,
            Err(_) if create => {
                let node = self.nodes.len();
                self.nodes.push(Node::File { durable: Arc::default(), pending: Vec::new() });
                self.rename_edit(op, path, Some(node))?;
                node
            }
            Err(error) => return Err(error),
        };
        self.handles.insert(handle, node);
        if truncate { self.edit(op, handle, What::Truncate(0)) } else { Ok(()) }
    }

    fn handle(&self, handle: u64) -> Result<usize, LogError> {
        let node = self.handles.get(&handle).copied();
        node.ok_or_else(|| LogError::Contradiction(format!("handle {handle} was never opened")))
    }

    fn edit(&mut self, op: usize, handle: u64, what: What) -> Result<(), LogError> {
        let node = self.handle(handle)?;
        match &mut self.nodes[node] {
            Node::File { pending, .. } => pending.push(Edit { op, what }),
            Node::Folder { .. } => return Err(LogError::Contradiction("octets written to a folder".into())),
        }
        Ok(())
    }

    /// Makes durable what was issued for a node before an operation.
    fn settle(&mut self, node: usize, before: usize) {
        match &mut self.nodes[node] {
            Node::File { durable, pending } => {
                let durable = Arc::make_mut(durable);
                pending.retain(|edit| {
                    if edit.op < before {
                        edit.what.put_into(durable);
                    }
                    edit.op >= before
                });
            }
            Node::Folder { durable, pending, .. } => pending.retain(|edit| {
                if edit.op < before {
                    edit.put_into(durable);
                }
                edit.op >= before
            }),
        }
    }

    // Names.

    /// The node at a path, as the process sees it.
    fn find(&self, path: &str) -> Result<usize, LogError> {
        let mut node = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Node::Folder { seen, .. } = &self.nodes[node] else { return Err(missing(path)) };
            node = *seen.get(name).ok_or_else(|| missing(path))?;
        }
        Ok(node)
    }

    fn rename(&mut self, op: usize, from: &str, to: &str) -> Result<(), LogError> {
        let node = self.find(from)?;
        let ((from_in, from), (to_in, to)) = (self.parent(from)?, self.parent(to)?);
        if from_in == to_in {
            return self.name_edit(from_in, NameEdit { op, take: Some(from), put: Some((to, node)) });
        }
        // Between two folders the two halves are pending each on its own.
        self.name_edit(to_in, NameEdit { op, take: None, put: Some((to, node)) })?;
        self.name_edit(from_in, NameEdit { op, take: Some(from), put: None })
    }

    /// Gives a path to a node, or takes it away.
    fn rename_edit(&mut self, op: usize, path: &str, node: Option<usize>) -> Result<(), LogError> {
        let (folder, name) = self.parent(path)?;
        let edit = match node {
            Some(node) => NameEdit { op, take: None, put: Some((name, node)) },
            None => NameEdit { op, take: Some(name), put: None },
        };
        self.name_edit(folder, edit)
    }

    fn name_edit(&mut self, folder: usize, edit: NameEdit) -> Result<(), LogError> {
        let Node::Folder { pending, seen, .. } = &mut self.nodes[folder] else {
            return Err(LogError::Contradiction("a name below a file".into()));
        };
        edit.put_into(seen);
        pending.push(edit);
        Ok(())
    }

    fn parent(&self, path: &str) -> Result<(usize, String), LogError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(parent)?, name.to_owned()))
    }
}

fn missing(path: &str) -> LogError {
    LogError::Contradiction(format!("{path:?} is not there"))
}

impl Node {
    fn folder(names: Names) -> Node {
        Node::Folder { durable: names.clone(), pending: Vec::new(), seen: names }
    }
}

impl NameEdit {
    fn put_into(&self, names: &mut Names) {
        if let Some(name) = &self.take {
            names.remove(name);
        }
        if let Some((name, node)) = &self.put {
            names.insert(name.clone(), *node);
        }
    }
}

impl What {
    fn put_into(&self, octets: &mut Vec<u8>) {
        match self {
            What::Write(offset, data) => write(octets, *offset, data),
            What::Truncate(length) => octets.resize(*length as usize, 0),
            What::Allocate(length) => grow(octets, *length),
        }
    }
}

fn image_file(node: usize, durable: &[u8], pending: &[Edit], fates: &mut dyn Fates) -> Vec<u8> {
    let mut octets = durable.to_vec();
    for edit in pending {
        let What::Write(offset, data) = &edit.what else {
            if fates.octets(node, edit.op) == Fate::Kept {
                edit.what.put_into(&mut octets);
            }
            continue;
        };
        for (at, piece) in cut(*offset, data, PIECE_OCTETS) {
            match fates.octets(node, edit.op) {
                Fate::Kept => write(&mut octets, at, piece),
                Fate::Torn(sectors) => {
                    for (at, sector) in cut(at, piece, SECTOR_OCTETS) {
                        if sectors >> (at % PIECE_OCTETS / SECTOR_OCTETS) & 1 == 1 {
                            write(&mut octets, at, sector);
                        }
                    }
                }
                Fate::Lost => {}
            }
            if fates.size(node, edit.op) {
                grow(&mut octets, at + piece.len() as u64);
            }
        }
    }
    octets
}

/// Cuts data where the file has multiples of `unit`.
fn cut(mut offset: u64, mut data: &[u8], unit: u64) -> Vec<(u64, &[u8])> {
    let mut pieces = Vec::new();
    while !data.is_empty() {
        let room = (unit - offset % unit) as usize;
        let (piece, rest) = data.split_at(room.min(data.len()));
        pieces.push((offset, piece));
        offset += piece.len() as u64;
        data = rest;
    }
    pieces
}

fn write(octets: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let end = offset + data.len() as u64;
    grow(octets, end);
    octets[offset as usize..end as usize].copy_from_slice(data);
}

fn grow(octets: &mut Vec<u8>, length: u64) {
    if octets.len() < length as usize {
        octets.resize(length as usize, 0);
    }
}
