use super::*;
use crate::book::tests::plain::row;

/// A tree of so many rows, whose speeds rise with their numbers.
fn tree(count: u32) -> (Tree, Vec<Row>, Classes) {
    let mut classes = Classes::default();
    let mut rows: Vec<Row> = (0..count).map(|n| Row { speed: n * 10, ..row(n, &mut classes) }).collect();
    let tree = Tree::of(&mut rows.clone(), &classes);
    rows.sort_by_key(|row| row.number);
    (tree, rows, classes)
}

fn leaves(tree: &Tree) -> Vec<usize> {
    tree.leaves().map(Leaf::len).collect()
}

#[test]
fn leaves_are_filled_but_not_to_the_brim() {
    assert!(leaves(&tree(0).0).is_empty());
    assert_eq!(leaves(&tree(64).0), [64], "what has room in one stays in one");
    let (whole, rows, classes) = tree(10 * FILL as u32);
    assert_eq!(whole.fault(&classes), None);
    assert_eq!(leaves(&whole).len(), 10);
    assert!(leaves(&whole).iter().all(|len| *len == FILL), "{:?}", leaves(&whole));
    assert_eq!((whole.node(ROOT).count, whole.nodes.len()), (560, 19));
    assert!(rows.iter().all(|row| whole.row(row.number) == *row));
    let (odd, _, classes) = tree(65);
    assert_eq!(odd.fault(&classes), None);
    assert_eq!(leaves(&odd), [32, 33]);
}

#[test]
fn a_full_leaf_is_divided_and_no_other() {
    let (mut tree, rows, classes) = tree(2 * ROOM as u32);
    let before = leaves(&tree).len();
    for n in 0..ROOM as u32 {
        let new = Row { number: 1000 + n, speed: 5, ..rows[0] };
        tree.insert(&new, &classes);
        assert_eq!(tree.fault(&classes), None);
        assert_eq!(tree.row(new.number), new);
    }
    assert!(leaves(&tree).len() > before && leaves(&tree).iter().all(|len| *len <= ROOM));
    assert_eq!(tree.node(ROOT).count, 3 * ROOM as u32);
}

#[test]
fn an_empty_leaf_goes_and_its_node_is_used_again() {
    let (mut tree, rows, classes) = tree(300);
    let nodes = tree.nodes.len();
    for row in &rows {
        tree.remove(row.number, &classes);
        assert_eq!(tree.fault(&classes), None);
        assert!(leaves(&tree).iter().all(|len| *len > 0));
        assert_eq!(tree.nodes.len() - tree.unused.len(), 2 * leaves(&tree).len().max(1) - 1, "a tree of two at each");
    }
    assert_eq!((tree.node(ROOT).count, tree.unused.len()), (0, nodes - 1));
    rows.iter().for_each(|row| tree.insert(row, &classes));
    assert_eq!((tree.fault(&classes), tree.nodes.len()), (None, nodes.max(tree.nodes.len())));
    assert!(tree.nodes.len() <= 2 * nodes, "nodes are used again: {} of {nodes}", tree.nodes.len());
}

#[test]
fn what_grows_on_one_side_is_evened_out() {
    let (mut tree, rows, classes) = tree(200);
    // Faster and faster: each comes to the very right.
    for n in 0..4000u32 {
        tree.insert(&Row { number: 1000 + n, speed: 5000 + n * 10, ..rows[0] }, &classes);
    }
    assert_eq!(tree.fault(&classes), None);
    let mut deepest = 0;
    let mut below = vec![(ROOT, 1)];
    while let Some((at, depth)) = below.pop() {
        deepest = deepest.max(depth);
        if let Body::Inner { children, .. } = tree.node(at).body {
            below.extend(children.map(|child| (child, depth + 1)));
            let counts = children.map(|child| tree.node(child).count);
            let (all, most) = (counts[0] + counts[1], counts[0].max(counts[1]));
            assert!(most <= all / 4 * 3 + 3 * ROOM as u32, "{counts:?}");
        }
    }
    assert!(deepest <= 22, "{deepest} for some hundred leaves");
    // Where nothing is lopsided, nothing is made anew: what stands stays where it is.
    let (mut even, rows, classes) = self::tree(2000);
    let places = even.places.clone();
    for n in 0..200u32 {
        even.insert(&Row { number: 3000 + n, speed: n * 100, ..rows[0] }, &classes);
    }
    let moved = (0..2000).filter(|n| even.places[*n] != places[*n]).count();
    assert!(moved < 2000 / 3, "{moved} moved");
}

#[test]
fn its_bytes_are_its_nodes_its_leaves_and_the_places() {
    let (tree, ..) = tree(1000);
    let leaves = leaves(&tree).len();
    assert_eq!(leaves, 18);
    let expected =
        [(tree.nodes.capacity(), size_of::<Node>()), (leaves, size_of::<Leaf>()), (tree.places.capacity(), 4)];
    assert_eq!(tree.bytes(), expected.map(|(n, each)| n * each).iter().sum::<usize>());
    assert!((100_000..220_000).contains(&tree.bytes()), "{} for a thousand", tree.bytes());
}

#[test]
fn what_is_wrong_is_noticed() {
    let (good, _, classes) = tree(200);
    assert_eq!(good.fault(&classes), None);
    let spoilt = |edit: &dyn Fn(&mut Tree)| {
        let mut tree = good.clone();
        edit(&mut tree);
        tree.fault(&classes).unwrap_or_default()
    };
    assert_eq!(spoilt(&|t| t.places.swap(0, 1)).split_once(' ').unwrap().0, "number");
    let leaf = good.nodes.iter().position(|n| matches!(n.body, Body::Leaf(_))).unwrap();
    assert!(spoilt(&|t| t.nodes[leaf].summary.speed += 1).contains("the summary of node"));
    assert!(spoilt(&|t| t.nodes[leaf].count += 1).contains("the summary of node"));
    assert!(spoilt(&|t| t.nodes[0].count += 1).contains("the summary of node 0"));
    assert!(spoilt(&|t| t.nodes[0].summary.speed += 1).contains("the summary of node 0"));
    for child in 1..=2 {
        assert!(spoilt(&|t| t.nodes[child].parent = 7).contains("does not know its parent"));
    }
}

#[test]
fn a_side_is_heavy_beyond_three_quarters_and_two_leaves() {
    let (tree, _, classes) = tree(2000);
    let Body::Inner { children: [child, _], .. } = tree.node(ROOT).body else { panic!() };
    // Whether all below the root is made anew: then what is known of it is true again.
    let is_remade = |count: u32, all: u32| {
        let mut tree = tree.clone();
        (tree.nodes[child as usize].count, tree.nodes[ROOT as usize].count) = (count, all);
        tree.even_out(child, &classes);
        tree.fault(&classes).is_none()
    };
    assert!(!is_remade(878, 1000) && is_remade(879, 1000), "1000 / 4 * 3 + 128");
    assert!(!is_remade(1000, 1999) && !is_remade(0, 1000));
    assert!(is_remade(30_000, REMAKE) && !is_remade(30_000, REMAKE + 1), "not too many at once");
}
