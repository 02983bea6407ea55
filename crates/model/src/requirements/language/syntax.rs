//! The grammar: from text to clauses, each part with its place. Meaning comes later.
//!
//! ```text
//! text    = { clause }                        clauses stand apart by white space
//! clause  = [ "!" ] trait | property op value
//! property= name [ "." key ]                  label.rack, label."top rack"
//! op      = "=" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "notin" | "not in"
//! value   = "[" word { "," word } "]" | word
//! word    = bare | "\"" … "\""                in quotes, \ keeps the next character
//! ```

use std::borrow::Cow;
use std::ops::Range;
use winnow::combinator::{alt, cut_err, opt, preceded, terminated};
use winnow::error::{AddContext, ModalError, ParserError};
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{any, one_of, take_while};

type Input<'t> = LocatingSlice<&'t str>;
type Parsed<T> = Result<T, Expected>;

/// What was expected where.
#[derive(Debug)]
pub struct Expected {
    /// In bytes from the beginning.
    pub at: usize,
    /// In words.
    pub what: &'static str,
    certain: bool,
}

/// Something with its place in the text, in bytes.
#[derive(Debug, Clone)]
pub struct Spot<T> {
    pub is: T,
    pub at: Range<usize>,
}

/// The name of a label.
pub type Key<'t> = Spot<Cow<'t, str>>;

/// One clause as it was written.
#[derive(Debug)]
pub struct Clause<'t> {
    pub name: Spot<&'t str>,
    /// What stands behind the first dot.
    pub key: Option<Key<'t>>,
    pub said: Said<'t>,
    pub at: Range<usize>,
}

/// What a clause says of its name.
#[derive(Debug)]
pub enum Said<'t> {
    /// Nothing but its name: must it be there, or must it not?
    Trait(bool),
    /// How it compares with a value.
    Compared(Spot<Op>, Spot<Value<'t>>),
}

/// How a property is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Is,
    IsNot,
    Less,
    AtMost,
    More,
    AtLeast,
    In,
    NotIn,
}

/// What a property is compared with.
#[derive(Debug, Clone)]
pub enum Value<'t> {
    Word(Word<'t>),
    Set(Vec<Spot<Word<'t>>>),
}

/// A word; in quotes it means itself and nothing else.
#[derive(Debug, Clone)]
pub struct Word<'t> {
    pub text: Cow<'t, str>,
    pub quoted: bool,
}

/// All clauses of a text.
pub fn clauses(text: &str) -> Parsed<Vec<Clause<'_>>> {
    let mut input = LocatingSlice::new(text);
    let mut all = Vec::new();
    space(&mut input)?;
    while !input.is_empty() {
        all.push(clause(&mut input)?);
        apart(&mut input)?;
    }
    Ok(all)
}

fn clause<'t>(input: &mut Input<'t>) -> Parsed<Clause<'t>> {
    let start = input.current_token_start();
    let not = opt('!').parse_next(input)?;
    let word = take_while(1.., is_name).context("a property such as cpu>=4, or a trait such as avx2");
    let whole = spot(word, input)?;
    let (name, key) = parts(whole, input)?;
    let said = match opt(preceded(space, operator)).parse_next(input)? {
        None => Said::Trait(not.is_none()),
        Some(op) if not.is_some() => {
            return Err(Expected { at: op.at.start, what: "nothing behind a trait with !", certain: true });
        }
        Some(op) => {
            space(input)?;
            Said::Compared(op, value(input)?)
        }
    };
    Ok(Clause { name, key, said, at: start..input.previous_token_end() })
}

/// The name, and what stands behind its first dot: perhaps in quotes.
fn parts<'t>(whole: Spot<&'t str>, input: &mut Input<'t>) -> Parsed<(Spot<&'t str>, Option<Key<'t>>)> {
    let Some((name, key)) = whole.is.split_once('.') else { return Ok((whole, None)) };
    let dot = whole.at.start + name.len();
    let key = match key {
        "" => {
            let quoted = cut_err(quoted.context("the label's name behind the dot, such as label.rack"));
            spot(quoted.map(Cow::Owned), input)?
        }
        key => Spot { is: Cow::Borrowed(key), at: dot + 1..whole.at.end },
    };
    Ok((Spot { is: name, at: whole.at.start..dot }, Some(key)))
}

fn operator(input: &mut Input<'_>) -> Parsed<Spot<Op>> {
    let word = |word| terminated(word, winnow::combinator::not(one_of(is_name)));
    let not_in = (word("not"), take_while(1.., char::is_whitespace), word("in"));
    let signs = alt((
        "!=".value(Op::IsNot),
        "<=".value(Op::AtMost),
        ">=".value(Op::AtLeast),
        "==".value(Op::Is),
        "=".value(Op::Is),
        "<".value(Op::Less),
        ">".value(Op::More),
    ));
    let words = alt((word("in").value(Op::In), word("notin").value(Op::NotIn), not_in.value(Op::NotIn)));
    spot(alt((signs, words)), input)
}

fn value<'t>(input: &mut Input<'t>) -> Parsed<Spot<Value<'t>>> {
    let one = word.map(Value::Word).context("a value, or a set such as [a,b]");
    spot(alt((set, one)), input)
}

fn set<'t>(input: &mut Input<'t>) -> Parsed<Value<'t>> {
    ('[', space).parse_next(input)?;
    let mut words: Vec<_> = opt(member).parse_next(input)?.into_iter().collect();
    // Behind a comma there is another word, for sure.
    while !words.is_empty() && opt((',', space)).parse_next(input)?.is_some() {
        words.push(cut_err(member.context("a word")).parse_next(input)?);
    }
    cut_err(']'.context("a comma and another word, or ]")).parse_next(input)?;
    Ok(Value::Set(words))
}

fn member<'t>(input: &mut Input<'t>) -> Parsed<Spot<Word<'t>>> {
    let member = spot(word, input)?;
    space(input)?;
    Ok(member)
}

fn word<'t>(input: &mut Input<'t>) -> Parsed<Word<'t>> {
    let bare = take_while(1.., is_bare).map(|text| Word { text: Cow::Borrowed(text), quoted: false });
    alt((quoted.map(|text| Word { text: Cow::Owned(text), quoted: true }), bare)).parse_next(input)
}

fn quoted(input: &mut Input<'_>) -> Parsed<String> {
    '"'.parse_next(input)?;
    let mut text = String::new();
    loop {
        let inside = |c: char| c != '"' && c != '\\' && !c.is_control();
        text.push_str(take_while(0.., inside).parse_next(input)?);
        let end = alt(('"'.value(None), preceded('\\', any.verify(|c: &char| !c.is_control())).map(Some)));
        match cut_err(end.context("the closing quote")).parse_next(input)? {
            Some(kept) => text.push(kept),
            None => return Ok(text),
        }
    }
}

/// White space between two clauses, or the end.
fn apart(input: &mut Input<'_>) -> Parsed<()> {
    let before = input.current_token_start();
    space(input)?;
    if input.is_empty() || input.current_token_start() > before {
        return Ok(());
    }
    Err(Expected { at: before, what: "a space before the next clause", certain: true })
}

fn space(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn spot<'t, T>(mut parser: impl Parser<Input<'t>, T, Expected>, input: &mut Input<'t>) -> Parsed<Spot<T>> {
    let (is, at) = parser.by_ref().with_span().parse_next(input)?;
    Ok(Spot { is, at })
}

fn is_name(c: char) -> bool {
    !c.is_whitespace() && !"=<>![](),;\"".contains(c)
}

/// What a word may be made of without quotes.
pub fn is_bare(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"=<>![](),;\"\\".contains(c)
}

impl<'t> ParserError<Input<'t>> for Expected {
    type Inner = Self;

    fn from_input(input: &Input<'t>) -> Self {
        Self { at: input.current_token_start(), what: "", certain: false }
    }

    /// The alternative that came further knows better.
    fn or(self, other: Self) -> Self {
        if self.at > other.at { self } else { other }
    }

    fn is_backtrack(&self) -> bool {
        !self.certain
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

impl<'t> AddContext<Input<'t>> for Expected {
    /// The innermost words stand.
    fn add_context(self, _: &Input<'t>, _: &<Input<'t> as Stream>::Checkpoint, what: &'static str) -> Self {
        if self.what.is_empty() { Self { what, ..self } } else { self }
    }
}

impl ModalError for Expected {
    fn cut(self) -> Self {
        Self { certain: true, ..self }
    }
    fn backtrack(self) -> Self {
        Self { certain: false, ..self }
    }
}
