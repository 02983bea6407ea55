//! The check that every other test of the engine leans on: what is kept beside the rows and says
//! something else than they do is noticed.

mod questions;

use super::State;
use super::heard::Heard;
use super::index::Index;
use crate::engine::change::Change;
use crate::engine::tests::world::*;
use sublet_model::book::Book;
use sublet_model::units::Seconds;

fn state() -> State {
    let (mut world, mut agent) = World::lending();
    world.running(&mut agent);
    world.engine.state().clone()
}

#[test]
fn what_says_the_same_as_the_rows_is_consistent_and_a_start_waits_for_every_host_with_leases() {
    let known = state();
    assert!(known.is_consistent());
    let mut read = State::new(known.tables().clone());
    assert!(!read.is_consistent(), "nobody listens for the host, which has a lease");
    assert_eq!(read.unheard().count(), 0);
    let _ = read.apply(&Change::Started { at: START });
    assert!(read.is_consistent());
    assert_eq!(read.unheard().collect::<Vec<_>>(), [id(HOST)]);
    assert_eq!(known.unheard().count(), 0);
}

#[test]
fn an_index_a_book_or_a_list_of_who_was_heard_that_says_something_else_is_noticed() {
    let broken: [fn(&mut State); 4] = [
        |state| state.index = Index::default(),
        |state| state.book = Book::default(),
        |state| state.heard = Heard::default(),
        |state| state.live.values_mut().for_each(|live| live.heard_at = live.heard_at.after(Seconds(1))),
    ];
    for (n, break_it) in broken.into_iter().enumerate() {
        let mut state = state();
        break_it(&mut state);
        assert!(!state.is_consistent(), "number {n}");
    }
}
