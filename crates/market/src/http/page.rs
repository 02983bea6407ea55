//! Lists, a page at a time. A cursor says after which thing to go on; what it looks like inside
//! is nobody's business.

use crate::http::problem::{Fault, shortened};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use sublet_wire::api::Page;
use utoipa::IntoParams;

/// The most on one page.
pub const MOST: usize = 200;
/// On a page if nobody says how many.
const USUAL: usize = 100;

/// Which page.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// From the page before; the first page if absent.
    pub cursor: Option<String>,
    /// How many at most: 1 to 200, 100 if absent.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
}

impl PageQuery {
    /// How many are asked for.
    pub fn limit(&self) -> Result<usize, Fault> {
        match self.limit.unwrap_or(USUAL) {
            asked @ 1..=MOST => Ok(asked),
            asked => Err(Fault::invalid(format!("limit: {asked} is not from 1 to {MOST}"))),
        }
    }

    /// After which key to go on.
    pub fn after(&self) -> Result<Option<String>, Fault> {
        self.cursor.as_deref().map(open).transpose()
    }
}

/// A cursor that goes on after this key.
pub fn seal(key: &str) -> String {
    BASE64URL_NOPAD.encode(key.as_bytes())
}

fn open(cursor: &str) -> Result<String, Fault> {
    let bytes = (cursor.len() <= 200).then(|| BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()).flatten();
    bytes
        .and_then(|b| String::from_utf8(b).ok())
        .filter(|key| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()))
        .ok_or_else(|| {
            Fault::invalid(format!("cursor: {:?} is none of ours", shortened(cursor)))
                .advise("take it from `next` of the page before, as it is")
        })
}

/// One page of things that come in the order of their keys, rising or falling; `view` is asked
/// only for those on it.
pub fn page<T, V>(
    all: impl Iterator<Item = T>,
    key: impl Fn(&T) -> String,
    view: impl Fn(T) -> V,
    query: &PageQuery,
) -> Result<Page<V>, Fault> {
    let (limit, after) = (query.limit()?, query.after()?);
    let mut rest = all.skip_while(|item| after.as_ref().is_some_and(|a| key(item) != *a)).peekable();
    if after.is_some() && rest.next().is_none() {
        // What the cursor named is gone meanwhile.
        return Err(Fault::invalid("cursor: what it pointed at is gone").advise("begin again without a cursor"));
    }
    let mut items = Vec::new();
    let mut last = None;
    while items.len() < limit
        && let Some(item) = rest.next()
    {
        last = Some(key(&item));
        items.push(view(item));
    }
    let next = if rest.peek().is_some() { last.as_deref().map(seal) } else { None };
    Ok(Page { items, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cursor: Option<String>, limit: usize) -> Page<u32> {
        let query = PageQuery { cursor, limit: Some(limit) };
        page([1u32, 2, 3, 5, 8].into_iter(), |n| n.to_string(), |n| n, &query).unwrap()
    }

    #[test]
    fn pages_together_are_the_list() {
        for limit in 1..=6 {
            let mut seen = Vec::new();
            let mut cursor = None;
            loop {
                let page = read(cursor, limit);
                assert!(!page.items.is_empty() && page.items.len() <= limit);
                seen.extend(page.items);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, [1, 2, 3, 5, 8]);
        }
    }

    #[test]
    fn other_cursors_and_limits_are_refused() {
        for cursor in ["", "%", "a b", "AAAA", &"A".repeat(300)] {
            let query = PageQuery { cursor: Some(cursor.into()), limit: None };
            assert!(page([1u32].into_iter(), |n| n.to_string(), |n| n, &query).is_err(), "{cursor:?}");
        }
        for limit in [0, 201, usize::MAX] {
            assert!(PageQuery { cursor: None, limit: Some(limit) }.limit().is_err());
        }
    }
}
