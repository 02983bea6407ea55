//! How much one actor may have going on at once. Counted by who it is, not by address: a whole
//! laboratory may sit behind one.

use crate::http::problem::Fault;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use sublet_wire::problem::Kind;

/// Counts what is going on for each of many.
#[derive(Debug)]
pub struct Gate<K: Hash + Eq + Clone> {
    most: u32,
    inside: Arc<Mutex<HashMap<K, u32>>>,
}

/// Held while a request goes on; leaving is dropping it.
#[derive(Debug)]
pub struct Pass<K: Hash + Eq + Clone> {
    key: K,
    inside: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Hash + Eq + Clone> Gate<K> {
    /// Lets `most` in at once for each key.
    pub fn new(most: u32) -> Self {
        Self { most, inside: Arc::default() }
    }

    /// One more for `key`, unless it has too many going on.
    pub fn enter(&self, key: K) -> Result<Pass<K>, Fault> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inside.entry(key.clone()).or_insert(0);
        if *count >= self.most {
            let detail = format!("you have {count} requests going on already, which is the most");
            return Err(Fault::new(Kind::Busy, detail).advise("wait for some of them to be answered"));
        }
        *count += 1;
        Ok(Pass { key, inside: self.inside.clone() })
    }
}

impl<K: Hash + Eq + Clone> Drop for Pass<K> {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has nothing going on is forgotten, so the table is as large as what goes on.
        if let Some(count) = inside.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_has_too_much_going_on_waits_and_others_do_not() {
        let gate = Gate::new(2);
        let (first, _second) = (gate.enter("a").unwrap(), gate.enter("a").unwrap());
        assert_eq!(gate.enter("a").unwrap_err().kind, Kind::Busy);
        assert!(gate.enter("b").is_ok());
        drop(first);
        assert!(gate.enter("a").is_ok());
        assert_eq!(gate.inside.lock().unwrap().len(), 1, "whoever left is forgotten");
    }
}
