//! The file system: in memory, as large as the machine has memory to spare, gone with the machine.
//! No links, no owners. A file that was removed is there for as long as it is open.

use crate::world::World;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Files grow by so much.
const BLOCK_BYTES: usize = 4096;
/// Most files and folders: each takes memory, though it be empty.
const MOST_NODES: usize = 65_536;
/// Longest name of a file or folder.
const MOST_NAME_BYTES: usize = 255;
/// Deepest path.
const MOST_DEPTH: usize = 64;
/// What a file or folder takes that has nothing in it, at most.
const NODE_BYTES: usize = 512;

/// Why something can't be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No such file or folder.
    NotFound,
    /// A folder is needed.
    NotFolder,
    /// It is a folder.
    IsFolder,
    /// It is there already.
    Exists,
    /// A folder that has something in it.
    NotEmpty,
    /// No memory left for files.
    NoRoom,
    /// A name too long, or a path too deep.
    TooLong,
    /// A path that leads out of where it begins.
    Outside,
    /// Nothing that can be done.
    Invalid,
}

/// A file.
#[derive(Default)]
pub struct File {
    blocks: RefCell<Vec<Box<[u8; BLOCK_BYTES]>>>,
    bytes: Cell<usize>,
    /// Of the last change, microseconds since 1970.
    pub changed: Cell<u64>,
    /// Tells files apart.
    pub number: u64,
    _lives: Rc<()>,
}

/// A folder.
#[derive(Default)]
pub struct Folder {
    entries: RefCell<BTreeMap<Vec<u8>, Node>>,
    /// Of the last change, microseconds since 1970.
    pub changed: Cell<u64>,
    /// Tells folders apart.
    pub number: u64,
    _lives: Rc<()>,
}

/// A file or a folder.
#[derive(Clone)]
pub enum Node {
    /// A file.
    File(Rc<File>),
    /// A folder.
    Folder(Rc<Folder>),
}

/// The file system.
#[derive(Default)]
pub struct Files {
    /// The folder that everything is in.
    pub root: Rc<Folder>,
    made: u64,
    /// Held by each file and folder that lives.
    lives: Rc<()>,
}

impl Node {
    /// Bytes of a file.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.bytes(),
            Self::Folder(_) => 0,
        }
    }

    /// Tells files and folders apart.
    pub fn number(&self) -> u64 {
        match self {
            Self::File(file) => file.number,
            Self::Folder(folder) => folder.number,
        }
    }

    /// Time of the last change, microseconds since 1970.
    pub fn changed(&self) -> &Cell<u64> {
        match self {
            Self::File(file) => &file.changed,
            Self::Folder(folder) => &folder.changed,
        }
    }

    /// The file that it is.
    pub fn file(self) -> Result<Rc<File>, Trouble> {
        match self {
            Self::File(file) => Ok(file),
            Self::Folder(_) => Err(Trouble::IsFolder),
        }
    }

    /// The folder that it is.
    pub fn folder(self) -> Result<Rc<Folder>, Trouble> {
        match self {
            Self::File(_) => Err(Trouble::NotFolder),
            Self::Folder(folder) => Ok(folder),
        }
    }
}

impl File {
    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes.get() as u64
    }

    /// Reads what is there, returns how much.
    pub fn read(&self, at: u64, into: &mut [u8]) -> usize {
        let blocks = self.blocks.borrow();
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.bytes.get());
        let count = into.len().min(self.bytes.get() - from);
        let mut done = 0;
        while done < count {
            let (block, within) = ((from + done) / BLOCK_BYTES, (from + done) % BLOCK_BYTES);
            let now = (count - done).min(BLOCK_BYTES - within);
            into[done..done + now].copy_from_slice(&blocks[block][within..within + now]);
            done += now;
        }
        count
    }

    /// Writes all of it, or nothing.
    pub fn write(&self, at: u64, bytes: &[u8], world: &World) -> Result<(), Trouble> {
        let from = usize::try_from(at).map_err(|_| Trouble::NoRoom)?;
        let end = from.checked_add(bytes.len()).ok_or(Trouble::NoRoom)?;
        if end > self.bytes.get() {
            self.resize(end as u64, world)?;
        }
        let mut blocks = self.blocks.borrow_mut();
        let mut done = 0;
        while done < bytes.len() {
            let (block, within) = ((from + done) / BLOCK_BYTES, (from + done) % BLOCK_BYTES);
            let now = (bytes.len() - done).min(BLOCK_BYTES - within);
            blocks[block][within..within + now].copy_from_slice(&bytes[done..done + now]);
            done += now;
        }
        self.changed.set(world.wall_micros());
        Ok(())
    }

    /// Makes it longer, with zeros, or shorter.
    pub fn resize(&self, bytes: u64, world: &World) -> Result<(), Trouble> {
        let bytes = usize::try_from(bytes).map_err(|_| Trouble::NoRoom)?;
        let mut blocks = self.blocks.borrow_mut();
        let wanted = bytes.div_ceil(BLOCK_BYTES);
        let more = wanted.saturating_sub(blocks.len());
        // The list of blocks may be copied when it grows.
        if more > 0 && !world.has_room(more.saturating_mul(BLOCK_BYTES + 32).saturating_add(16 * blocks.len())) {
            return Err(Trouble::NoRoom);
        }
        blocks.try_reserve(more).map_err(|_| Trouble::NoRoom)?;
        blocks.truncate(wanted);
        if bytes < self.bytes.get() && bytes % BLOCK_BYTES != 0 {
            // What is cut off must not come back when it grows again.
            if let Some(last) = blocks.last_mut() {
                last[bytes % BLOCK_BYTES..].fill(0);
            }
        }
        for _ in 0..more {
            blocks.push(Box::new([0; BLOCK_BYTES]));
        }
        self.bytes.set(bytes);
        self.changed.set(world.wall_micros());
        Ok(())
    }

    /// All of it, in one piece.
    pub fn whole(&self, world: &World) -> Result<Vec<u8>, Trouble> {
        let mut whole = Vec::new();
        if !world.has_room(self.bytes.get()) || whole.try_reserve_exact(self.bytes.get()).is_err() {
            return Err(Trouble::NoRoom);
        }
        whole.resize(self.bytes.get(), 0);
        self.read(0, &mut whole);
        Ok(whole)
    }
}

impl Folder {
    /// What has this name.
    pub fn get(&self, name: &[u8]) -> Option<Node> {
        self.entries.borrow().get(name).cloned()
    }

    /// Entries from a place on, in order of their names; at most so many.
    pub fn list(&self, from: usize, most: usize) -> Vec<(Vec<u8>, Node)> {
        let entries = self.entries.borrow();
        entries.iter().skip(from).take(most).map(|(name, node)| (name.clone(), node.clone())).collect()
    }

    fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }
}

/// Where a path leads: the folder that has it, and its name there; the folder itself if it ends there.
pub enum Place {
    /// The folder from which it began, or one that `..` leads to.
    Itself(Rc<Folder>),
    /// A name in a folder, whether there is such a thing or not.
    In(Rc<Folder>, Vec<u8>),
}

impl Place {
    /// What is there.
    pub fn node(&self) -> Result<Node, Trouble> {
        match self {
            Self::Itself(folder) => Ok(Node::Folder(Rc::clone(folder))),
            Self::In(folder, name) => folder.get(name).ok_or(Trouble::NotFound),
        }
    }

    /// Folder and name of what can be made or taken away.
    fn entry(&self) -> Result<(&Rc<Folder>, &[u8]), Trouble> {
        match self {
            Self::Itself(_) => Err(Trouble::Invalid),
            Self::In(folder, name) => Ok((folder, name)),
        }
    }
}

/// Follows a path from a folder.
pub fn follow(from: &Rc<Folder>, path: &[u8]) -> Result<Place, Trouble> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop().ok_or(Trouble::Outside)?),
            name if name.len() > MOST_NAME_BYTES || names.len() == MOST_DEPTH => return Err(Trouble::TooLong),
            name if name.contains(&0) => return Err(Trouble::Invalid),
            name => names.push(name),
        }
    }
    let Some((last, before)) = names.split_last() else { return Ok(Place::Itself(Rc::clone(from))) };
    let mut folder = Rc::clone(from);
    for name in before {
        folder = folder.get(name).ok_or(Trouble::NotFound)?.folder()?;
    }
    Ok(Place::In(folder, last.to_vec()))
}

impl Files {
    /// Makes an empty file; whether there is one already is the caller's to ask.
    pub fn make_file(&mut self, place: &Place, world: &World) -> Result<Rc<File>, Trouble> {
        let number = self.number(place, world)?;
        let changed = Cell::new(world.wall_micros());
        let file = Rc::new(File { number, changed, _lives: Rc::clone(&self.lives), ..File::default() });
        self.enter(place, Node::File(Rc::clone(&file)), world).map(|()| file)
    }

    /// Makes an empty folder.
    pub fn make_folder(&mut self, place: &Place, world: &World) -> Result<(), Trouble> {
        let number = self.number(place, world)?;
        let changed = Cell::new(world.wall_micros());
        let folder = Folder { number, changed, _lives: Rc::clone(&self.lives), ..Folder::default() };
        self.enter(place, Node::Folder(Rc::new(folder)), world)
    }

    fn number(&mut self, place: &Place, world: &World) -> Result<u64, Trouble> {
        if place.node().is_ok() {
            return Err(Trouble::Exists);
        }
        if !world.has_room(NODE_BYTES) || Rc::strong_count(&self.lives) > MOST_NODES {
            return Err(Trouble::NoRoom);
        }
        self.made += 1;
        Ok(self.made)
    }

    fn enter(&mut self, place: &Place, node: Node, world: &World) -> Result<(), Trouble> {
        let (folder, name) = place.entry()?;
        folder.entries.borrow_mut().insert(name.to_vec(), node);
        folder.changed.set(world.wall_micros());
        Ok(())
    }

    /// Takes a file away.
    pub fn remove_file(&mut self, place: &Place, world: &World) -> Result<(), Trouble> {
        place.node()?.file()?;
        self.remove(place, world)
    }

    /// Takes a folder away that has nothing in it.
    pub fn remove_folder(&mut self, place: &Place, world: &World) -> Result<(), Trouble> {
        if !place.node()?.folder()?.is_empty() {
            return Err(Trouble::NotEmpty);
        }
        self.remove(place, world)
    }

    fn remove(&mut self, place: &Place, world: &World) -> Result<(), Trouble> {
        let (folder, name) = place.entry()?;
        folder.entries.borrow_mut().remove(name);
        folder.changed.set(world.wall_micros());
        Ok(())
    }

    /// Gives something another name; a file that has it goes, if `over`.
    pub fn rename(&mut self, from: &Place, to: &Place, over: bool, world: &World) -> Result<(), Trouble> {
        let node = from.node()?;
        match (to.node(), &node) {
            (Ok(there), _) if there.number() == node.number() => return Ok(()),
            (Ok(Node::File(_)), Node::File(_)) if over => {}
            (Ok(_), _) => return Err(Trouble::Exists),
            (Err(_), _) => {}
        }
        let (target, _) = to.entry()?;
        if let Node::Folder(folder) = &node
            && is_below(target, folder)
        {
            return Err(Trouble::Invalid);
        }
        self.remove(from, world)?;
        self.enter(to, node, world)
    }
}

/// Whether a folder is another or somewhere in it.
fn is_below(folder: &Rc<Folder>, above: &Rc<Folder>) -> bool {
    let within = |node: &Node| matches!(node, Node::Folder(inside) if is_below(folder, inside));
    Rc::ptr_eq(folder, above) || above.entries.borrow().values().any(within)
}
