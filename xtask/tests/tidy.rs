//! The house stays as ARCHITECTURE draws it.

#[test]
fn the_house_is_tidy() {
    let faults = xtask::tidy::check(&xtask::root());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
