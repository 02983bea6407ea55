//! Reads JSON more strictly than serde does by itself: no key twice, no deep nesting, no NUL, and
//! errors that name the field but give back little of what was sent.

use crate::http::problem::shortened;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

/// How deep arrays and objects may lie in each other.
pub const DEEPEST: usize = 64;

/// How many entries one array or object may have: more than any list that is taken.
const MOST_ENTRIES: usize = 4096;

/// Up to how many keys of one object are compared one by one: it is faster than a table for so few.
const FEW_KEYS: usize = 32;

/// Reads a whole body.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    check(body)?;
    // Where in the body something is wrong is asked only once something is: following it costs as
    // much as reading does.
    serde_json::from_slice(body).or_else(|_| explained(body))
}

/// The same, with an error that names the field.
fn explained<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let told = told(&error.into_inner());
        if path == "." { told } else { format!("{}: {told}", shortened(&path)) }
    })?;
    json.end().map_err(|e| told(&e))?;
    Ok(value)
}

/// Looks the whole body over before any of it is believed.
fn check(body: &[u8]) -> Result<(), String> {
    // serde would also take the fields of an object as a list, in their order in our source.
    if body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        let mut json = serde_json::Deserializer::from_slice(body);
        Sound { depth: 0 }.deserialize(&mut json).map_err(|e| told(&e))?;
        return Err("an object is expected, not a list".into());
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    Sound { depth: 0 }.deserialize(&mut json).and_then(|()| json.end()).map_err(|e| told(&e))
}

/// serde's words, with whatever they quote cut short.
fn told(error: &serde_json::Error) -> String {
    let words = error.to_string();
    // Every second part stands between quotes; a stray quote only changes which are cut.
    let parts = words.split_inclusive(['"', '`']).map(shortened);
    parts.collect::<String>().chars().take(400).collect()
}

/// Accepts any JSON that is sound.
#[derive(Clone, Copy)]
struct Sound {
    depth: usize,
}

impl Sound {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= DEEPEST {
            return Err(E::custom(format_args!("arrays and objects lie deeper than {DEEPEST} in each other")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

fn no_nul<E: Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("a text contains NUL")) } else { Ok(()) }
}

fn few_enough<E: Error>(entries: usize) -> Result<(), E> {
    if entries <= MOST_ENTRIES {
        return Ok(());
    }
    Err(E::custom(format_args!("a list has more than the {MOST_ENTRIES} entries that are taken")))
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        no_nul(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut entries = 0;
        while seq.next_element_seed(inner)?.is_some() {
            entries += 1;
            few_enough(entries)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = Keys::default();
        while let Some(Key(key)) = map.next_key()? {
            no_nul(&key)?;
            map.next_value_seed(inner)?;
            if let Some(twice) = keys.add(key) {
                return Err(A::Error::custom(format_args!("the key {:?} stands there twice", shortened(&twice))));
            }
            few_enough(keys.count)?;
        }
        Ok(())
    }
}

/// A key, as it stands in the body wherever it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.into())))
            }
        }
        d.deserialize_str(Text)
    }
}

/// The keys of one object so far.
#[derive(Default)]
struct Keys<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
    count: usize,
}

impl<'de> Keys<'de> {
    /// One more; given back if it was there already.
    fn add(&mut self, key: Cow<'de, str>) -> Option<Cow<'de, str>> {
        self.count += 1;
        if self.few.contains(&key) {
            return Some(key);
        }
        if self.few.len() < FEW_KEYS {
            self.few.push(key);
            return None;
        }
        self.many.replace(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        name: String,
        #[serde(default)]
        amount: i64,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    #[track_caller]
    fn refused(body: &str, words: &str) {
        let error = read::<Thing>(body.as_bytes()).unwrap_err();
        assert!(error.contains(words), "{words:?} in {error:?}");
        assert!(error.chars().count() <= 500, "{error}");
    }

    #[test]
    fn sound_bodies_are_read() {
        let read = read::<Thing>(br#" {"name":"a \" b","amount":-9223372036854775808,"labels":{"x":"y"}} "#).unwrap();
        assert_eq!((read.name.as_str(), read.amount, read.labels.len()), ("a \" b", i64::MIN, 1));
    }

    #[test]
    fn a_key_that_stands_there_twice_is_found_however_many_there_are_and_however_it_is_spelt() {
        let with = |keys: &[String]| {
            let labels: Vec<String> = keys.iter().map(|key| format!(r#""{key}":"""#)).collect();
            read::<Thing>(format!(r#"{{"name":"a","labels":{{{}}}}}"#, labels.join(",")).as_bytes())
        };
        for count in [1, FEW_KEYS - 1, FEW_KEYS, FEW_KEYS + 1, 200] {
            let mut keys: Vec<String> = (0..count).map(|n| format!("k{n:03}")).collect();
            assert_eq!(with(&keys).unwrap().labels.len(), count);
            for twice in [0, count / 2, count - 1] {
                // The same key with its first letter escaped.
                keys.push(format!("\\u006b{twice:03}"));
                assert!(with(&keys).unwrap_err().contains("stands there twice"), "{count} {twice}");
                keys.pop();
            }
        }
    }

    #[test]
    fn others_are_refused_with_field_and_position() {
        refused("", "EOF");
        refused("{", "EOF");
        refused("null", "invalid type: null");
        refused(r#"["a", 5, {}]"#, "not a list");
        refused(r#"{"name":"a"}x"#, "trailing");
        refused(r#"{"name":"a"}{"name":"b"}"#, "trailing");
        refused(r#"{"name":"a","nme":1}"#, "unknown field `nme`");
        refused(r#"{"name":"a","name":"b"}"#, "\"name\" stands there twice");
        refused(r#"{"name":"a","labels":{"k":"1","k":"2"}}"#, "\"k\" stands there twice");
        refused(r#"{"name":"a","amount":"5"}"#, "amount: invalid type: string \"5\"");
        refused(r#"{"name":"a","amount":9223372036854775808}"#, "amount: invalid value");
        refused(r#"{"name":"a","amount":1e400}"#, "number out of range");
        refused(r#"{"name":"a","amount":1.5}"#, "amount: invalid type: floating point");
        refused(r#"{"name":"a","amount":NaN}"#, "line 1 column");
        refused(r#"{"name":"\ud800"}"#, "hex escape");
        refused("{\"name\":\"\\u0000\"}", "NUL");
        refused("{\"name\":\"\u{1}\"}", "control character");
        refused(&format!("{{\"labels\":{}", "[".repeat(100_000)), "deeper");
        refused(&format!("{{\"labels\":[{}1]", "1,".repeat(5000)), "4096 entries");
        refused(&format!(r#"{{"name":"a","amount":"{}"}}"#, "z".repeat(10_000)), "…");
        refused(&format!(r#"{{"name":"a","{}":1}}"#, "z".repeat(10_000)), "unknown field");
        assert!(read::<Thing>(b"{\"name\":\"\xff\"}").is_err());
    }
}
