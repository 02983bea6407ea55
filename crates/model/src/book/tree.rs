//! A tree over all listed partitions: at its leaves up to 64 of them side by side, at every node
//! the best of each column below it.
//!
//! By which rule a node is divided only decides how good it is: a partition may stand anywhere and
//! is found all the same, for the summaries always tell the truth.

use super::class::Classes;
use super::divide::{Rule, divide};
use super::leaf::{Leaf, ROOM, Row};
use super::summary::Summary;

/// How full leaves are made: room is left for what comes.
const FILL: usize = 56;
/// Up to how many partitions a lopsided part of the tree is made anew at once: so that it takes
/// some milliseconds, not a second.
const REMAKE: u32 = 32_768;

/// Number of the node that everything is below.
pub(super) const ROOT: u32 = 0;

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub summary: Summary,
    /// How many there are, busy ones too.
    pub count: u32,
    parent: u32,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Inner { rule: Rule, children: [u32; 2] },
    Leaf(Box<Leaf>),
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    unused: Vec<u32>,
    /// Where each partition stands, by its number: its leaf's node times [`ROOM`], and its place there.
    places: Vec<u32>,
}

impl Tree {
    /// A tree of these, in time that grows little faster than their number.
    pub fn of(rows: &mut [Row], classes: &Classes) -> Self {
        let mut tree = Self { nodes: vec![empty(ROOT)], unused: Vec::new(), places: Vec::new() };
        tree.make(ROOT, rows, classes);
        tree
    }

    /// A node.
    pub fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    /// Every leaf.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.nodes.iter().filter_map(|node| match &node.body {
            Body::Leaf(leaf) if leaf.len() > 0 => Some(&**leaf),
            _ => None,
        })
    }

    /// A partition, by its number.
    pub fn row(&self, number: u32) -> Row {
        let (leaf, at) = self.place(number);
        leaf.row(at)
    }

    /// Where a partition stands.
    pub fn place(&self, number: u32) -> (&Leaf, usize) {
        let (node, at) = self.whereabouts(number);
        match &self.nodes[node as usize].body {
            Body::Leaf(leaf) => (leaf, at),
            Body::Inner { .. } => unreachable!("partitions stand in leaves only"),
        }
    }

    fn whereabouts(&self, number: u32) -> (u32, usize) {
        let place = self.places[number as usize];
        (place / ROOM as u32, place as usize % ROOM)
    }

    fn leaf(&mut self, node: u32) -> &mut Leaf {
        match &mut self.nodes[node as usize].body {
            Body::Leaf(leaf) => leaf,
            Body::Inner { .. } => unreachable!("partitions stand in leaves only"),
        }
    }

    /// Puts in a partition that is not there yet.
    pub fn insert(&mut self, row: &Row, classes: &Classes) {
        let mut at = ROOT;
        while let Body::Inner { rule, children } = &self.node(at).body {
            at = children[usize::from(!rule.is_left(row, classes))];
        }
        let len = self.leaf(at).len();
        if len < ROOM {
            self.leaf(at).set(len, row);
            self.put_place(row.number, at, len);
            self.refresh(at, classes);
            return;
        }
        let mut rows = Vec::with_capacity(len + 1);
        self.take(at, &mut rows);
        rows.push(*row);
        self.make(at, &mut rows, classes);
        self.refresh_above(at);
        self.even_out(at, classes);
    }

    /// Changes a partition where it stands.
    pub fn update(&mut self, row: &Row, classes: &Classes) {
        let (node, at) = self.whereabouts(row.number);
        self.leaf(node).set(at, row);
        self.refresh(node, classes);
    }

    /// Takes out a partition that is there.
    pub fn remove(&mut self, number: u32, classes: &Classes) {
        let (node, at) = self.whereabouts(number);
        let leaf = self.leaf(node);
        let moved = leaf.swap_remove(at);
        let is_empty = leaf.len() == 0;
        if let Some(moved) = moved {
            self.put_place(moved, node, at);
        }
        if is_empty && node != ROOT { self.remove_leaf(node) } else { self.refresh(node, classes) }
    }

    /// An empty leaf goes, and its sibling takes the place of their parent.
    fn remove_leaf(&mut self, node: u32) {
        let parent = self.node(node).parent;
        let Body::Inner { children, .. } = self.node(parent).body else { return };
        let sibling = if children[0] == node { children[1] } else { children[0] };
        let body = std::mem::replace(&mut self.nodes[sibling as usize].body, Body::Leaf(Box::new(Leaf::new())));
        let above = self.node(parent).parent;
        self.nodes[parent as usize] = Node { parent: above, body, ..self.node(sibling).clone() };
        match &self.node(parent).body {
            Body::Inner { children, .. } => {
                for child in *children {
                    self.nodes[child as usize].parent = parent;
                }
            }
            Body::Leaf(leaf) => {
                let numbers: Vec<u32> = leaf.number[..leaf.len()].to_vec();
                for (at, number) in numbers.into_iter().enumerate() {
                    self.put_place(number, parent, at);
                }
            }
        }
        self.unused.extend([node, sibling]);
        self.refresh_above(parent);
    }

    fn put_place(&mut self, number: u32, node: u32, at: usize) {
        if self.places.len() <= number as usize {
            self.places.resize(number as usize + 1, 0);
        }
        self.places[number as usize] = node * ROOM as u32 + at as u32;
    }

    /// After a leaf changed: what is known of it, and of all above it.
    fn refresh(&mut self, node: u32, classes: &Classes) {
        let leaf = self.leaf(node);
        let (summary, count) = (leaf.summary(|class| classes.signature(class)), leaf.len());
        let row = &mut self.nodes[node as usize];
        (row.summary, row.count) = (summary, u32::try_from(count).unwrap_or(u32::MAX));
        self.refresh_above(node);
    }

    fn refresh_above(&mut self, mut node: u32) {
        while node != ROOT {
            node = self.node(node).parent;
            let Body::Inner { children: [left, right], .. } = self.node(node).body else { return };
            let (left, right) = (self.node(left), self.node(right));
            let (summary, count) = (left.summary.and(&right.summary), left.count + right.count);
            let row = &mut self.nodes[node as usize];
            if row.summary == summary && row.count == count {
                return;
            }
            (row.summary, row.count) = (summary, count);
        }
    }

    /// Where inserting made one side much heavier than the other, that part is made anew.
    fn even_out(&mut self, mut node: u32, classes: &Classes) {
        let mut lopsided = None;
        while node != ROOT {
            let child = self.node(node).count;
            node = self.node(node).parent;
            let all = self.node(node).count;
            if all > REMAKE {
                break;
            }
            if child > all / 4 * 3 + 2 * ROOM as u32 {
                lopsided = Some(node);
            }
        }
        let Some(node) = lopsided else { return };
        let mut rows = Vec::with_capacity(self.node(node).count as usize);
        self.take(node, &mut rows);
        self.make(node, &mut rows, classes);
        self.refresh_above(node);
    }

    /// Takes every partition below a node, which is left an empty leaf.
    fn take(&mut self, node: u32, rows: &mut Vec<Row>) {
        let parent = self.node(node).parent;
        match std::mem::replace(&mut self.nodes[node as usize], empty(parent)).body {
            Body::Leaf(leaf) => rows.extend((0..leaf.len()).map(|at| leaf.row(at))),
            Body::Inner { children, .. } => {
                for child in children {
                    self.take(child, rows);
                    self.unused.push(child);
                }
            }
        }
    }

    /// Makes a node, now an empty leaf, of these.
    fn make(&mut self, node: u32, rows: &mut [Row], classes: &Classes) {
        if rows.len() <= ROOM {
            let leaf = self.leaf(node);
            rows.iter().enumerate().for_each(|(at, row)| leaf.set(at, row));
            rows.iter().enumerate().for_each(|(at, row)| self.put_place(row.number, node, at));
            let leaf = self.leaf(node);
            let summary = leaf.summary(|class| classes.signature(class));
            let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            let parent = self.node(node).parent;
            let body = std::mem::replace(&mut self.nodes[node as usize].body, Body::Leaf(Box::new(Leaf::new())));
            self.nodes[node as usize] = Node { summary, count, parent, body };
            return;
        }
        let leaves = rows.len().div_ceil(FILL);
        let (rule, at) = divide(rows, rows.len() * (leaves / 2) / leaves, classes);
        let (left, right) = rows.split_at_mut(at);
        let children = [self.add(node), self.add(node)];
        self.make(children[0], left, classes);
        self.make(children[1], right, classes);
        let (left, right) = (self.node(children[0]), self.node(children[1]));
        let (summary, count) = (left.summary.and(&right.summary), left.count + right.count);
        let parent = self.node(node).parent;
        self.nodes[node as usize] = Node { summary, count, parent, body: Body::Inner { rule, children } };
    }

    fn add(&mut self, parent: u32) -> u32 {
        if let Some(node) = self.unused.pop() {
            self.nodes[node as usize] = empty(parent);
            return node;
        }
        self.nodes.push(empty(parent));
        u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let leaves = self.nodes.iter().filter(|n| matches!(n.body, Body::Leaf(_))).count();
        self.nodes.capacity() * size_of::<Node>() + leaves * size_of::<Leaf>() + self.places.capacity() * 4
    }

    /// What is wrong with it, if anything is: summaries that lie, partitions out of place.
    pub fn fault(&self, classes: &Classes) -> Option<String> {
        let mut below = vec![ROOT];
        while let Some(at) = below.pop() {
            let node = self.node(at);
            let (summary, count) = match &node.body {
                Body::Leaf(leaf) => {
                    let astray = |i: &usize| self.whereabouts(leaf.number[*i]) != (at, *i);
                    if let Some(i) = (0..leaf.len()).find(astray) {
                        return Some(format!("number {} is not where it is said to be", leaf.number[i]));
                    }
                    (leaf.summary(|class| classes.signature(class)), leaf.len() as u32)
                }
                Body::Inner { children, .. } => {
                    below.extend(children);
                    let [left, right] = children.map(|child| self.node(child));
                    if left.parent != at || right.parent != at {
                        return Some(format!("a child of node {at} does not know its parent"));
                    }
                    (left.summary.and(&right.summary), left.count + right.count)
                }
            };
            if node.summary != summary || node.count != count {
                return Some(format!("the summary of node {at} is not what is below it"));
            }
        }
        None
    }
}

fn empty(parent: u32) -> Node {
    Node { summary: Summary::NOTHING, count: 0, parent, body: Body::Leaf(Box::new(Leaf::new())) }
}

#[cfg(test)]
mod tests;
