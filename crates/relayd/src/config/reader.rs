//! Reads tables key by key: what is missing, of the wrong type or unknown becomes a mistake with its place.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    mistake::{Mistakes, nearest},
    units::{BitRate, Size, Time},
};

/// A table being read. [`close`](Self::close) tells of the keys that nobody asked for.
pub(crate) struct Table<'a, 't> {
    path: String,
    key_span: Range<usize>,
    entries: BTreeMap<&'a str, Entry<'a>>,
    known: Vec<&'static str>,
    pub(crate) mistakes: &'a mut Mistakes<'t>,
}

/// A key with its value and where both stand.
#[derive(Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) key_span: Range<usize>,
    pub(crate) span: Range<usize>,
    pub(crate) value: &'a DeValue<'a>,
}

impl<'a, 't> Table<'a, 't> {
    /// The whole file.
    pub(crate) fn root(table: &'a DeTable<'a>, mistakes: &'a mut Mistakes<'t>) -> Self {
        Self { path: String::new(), key_span: 0..0, entries: entries(table), known: Vec::new(), mistakes }
    }

    /// The value of `key`, or `None` if there is none or it is wrong (which is noted).
    pub(crate) fn get<T: FromValue>(&mut self, key: &'static str) -> Option<Found<T>> {
        let entry = self.entry(key)?;
        match T::from_value(entry.value) {
            Ok(value) => Some(Found { value, span: entry.span }),
            Err(wrong) => {
                self.wrong(key, &entry.span, &wrong.0);
                None
            }
        }
    }

    /// The value of `key`, or `default`.
    pub(crate) fn get_or<T: FromValue>(&mut self, key: &'static str, default: T) -> T {
        self.get(key).map_or(default, |found| found.value)
    }

    /// The value of `key`; a mistake if there is none.
    pub(crate) fn required<T: FromValue>(&mut self, key: &'static str, example: &str) -> Option<Found<T>> {
        if !self.entries.contains_key(key) {
            let message = format!("{} needs {key} = {example}", self.title());
            self.known.push(key);
            self.mistakes.add(&self.key_span, message);
            return None;
        }
        self.get(key)
    }

    /// The entry of `key`, unread.
    pub(crate) fn entry(&mut self, key: &'static str) -> Option<Entry<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.get(key).cloned()
    }

    /// The table at `key`.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<Table<'_, 't>>
    where
        'a: 'a,
    {
        let entry = self.entry(key)?;
        self.open(key, &entry)
    }

    /// `entry` as a table.
    pub(crate) fn open<'s>(&'s mut self, key: &str, entry: &Entry<'a>) -> Option<Table<'s, 't>> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let Some(table) = entry.value.as_table() else {
            let message = format!("{path} = {} is not a table: write [{path}]", self.mistakes.seen(&entry.span));
            self.mistakes.add(&entry.span, message);
            return None;
        };
        Some(Table {
            path,
            key_span: entry.key_span.clone(),
            entries: entries(table),
            known: Vec::new(),
            mistakes: self.mistakes,
        })
    }

    /// The tables of the list at `key`, at most `max`, each read by `read`.
    pub(crate) fn tables<T>(
        &mut self,
        key: &'static str,
        max: usize,
        read: impl Fn(Table<'_, 't>) -> Option<T>,
    ) -> Vec<T> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let Some(array) = entry.value.as_array() else {
            self.wrong(key, &entry.span, "is no list: write tables in square brackets, [{ … }, { … }]");
            return Vec::new();
        };
        if array.len() > max {
            self.wrong(key, &entry.span, &format!("has {} entries: at most {max}", array.len()));
        }
        let mut found = Vec::new();
        for item in array.iter().take(max) {
            let entry = Entry { key_span: item.span(), span: item.span(), value: item.get_ref() };
            found.extend(self.open(key, &entry).and_then(&read));
        }
        found
    }

    /// Every entry, in the order of the file, for a table whose keys are names.
    pub(crate) fn names(&mut self) -> Vec<(&'a str, Entry<'a>)> {
        let mut entries: Vec<_> = std::mem::take(&mut self.entries).into_iter().collect();
        entries.sort_by_key(|(_, entry)| entry.key_span.start);
        entries
    }

    /// Notes that the value of `key` is wrong: `wrong` goes on from the value.
    pub(crate) fn wrong(&mut self, key: &str, span: &Range<usize>, wrong: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        let message = format!("{}{dot}{key} = {} {wrong}", self.path, self.mistakes.seen(span));
        self.mistakes.add(span, message);
    }

    /// Where its key stands.
    pub(crate) fn key_span(&self) -> Range<usize> {
        self.key_span.clone()
    }

    /// Notes the keys that nobody asked for.
    pub(crate) fn close(self) {
        let title = self.title();
        for (key, entry) in &self.entries {
            if self.known.contains(key) {
                continue;
            }
            let advice = match nearest(key, self.known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            self.mistakes.add(&entry.key_span, format!("unknown key {key:?} in {title}: {advice}"));
        }
    }

    fn title(&self) -> String {
        if self.path.is_empty() { "the file".into() } else { format!("[{}]", self.path) }
    }
}

fn entries<'a>(table: &'a DeTable<'a>) -> BTreeMap<&'a str, Entry<'a>> {
    let entry = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
        let key: &'a Spanned<std::borrow::Cow<'a, str>> = key;
        (key.get_ref().as_ref(), Entry { key_span: key.span(), span: value.span(), value: value.get_ref() })
    };
    table.iter().map(entry).collect()
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// Why a value can't be read: goes on from the value seen ("has no unit: …").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) String);

impl Wrong {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    fn not(what: &str, value: &DeValue<'_>) -> Self {
        Self(format!("is {}: write {what}", kind(value)))
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a bare number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// What can be read from one value.
pub(crate) trait FromValue: Sized {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong>;
}

impl FromValue for String {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value.as_str().map(str::to_owned).ok_or_else(|| Wrong::not("a string in quotes", value))
    }
}

impl FromValue for bool {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value.as_bool().ok_or_else(|| Wrong::not("true or false", value))
    }
}

impl FromValue for u16 {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let integer = value.as_integer().ok_or_else(|| Wrong::not("a whole number without quotes", value))?;
        let number = Self::from_str_radix(integer.as_str(), integer.radix());
        number.map_err(|_| Wrong::new("is out of range: write a whole number up to 65535"))
    }
}

impl FromValue for Time {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::String(text) => Self::parse(text),
            DeValue::Integer(number) => {
                Err(Wrong::new(format!("has no unit: write \"{number}s\", or another of ms, s, m, h, d, in quotes")))
            }
            other => Err(Wrong::not("a duration with its unit in quotes, such as \"5s\"", other)),
        }
    }
}

impl FromValue for Size {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::String(text) => Self::parse(text),
            DeValue::Integer(number) => Err(Wrong::new(format!(
                "has no unit: write \"{number}MiB\", or another of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB, in quotes"
            ))),
            other => Err(Wrong::not("a size with its unit in quotes, such as \"64MiB\"", other)),
        }
    }
}

impl FromValue for BitRate {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::String(text) => Self::parse(text),
            DeValue::Integer(number) => {
                Err(Wrong::new(format!("has no unit: write \"{number}k\", or another of k, M, G, in quotes")))
            }
            other => Err(Wrong::not("bits per second with their unit in quotes, such as \"2M\"", other)),
        }
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let Some(array) = value.as_array() else {
            return Err(Wrong::not("a list in square brackets", value));
        };
        array.iter().map(|item| T::from_value(item.get_ref())).collect()
    }
}

/// Reads one of a few words.
pub(crate) fn one_of<T: Copy>(value: &DeValue<'_>, words: &[(&'static str, T)]) -> Result<T, Wrong> {
    let names = || words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let Some(text) = value.as_str() else {
        return Err(Wrong::not(&format!("one of {}", names()), value));
    };
    if let Some((_, word)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*word);
    }
    Err(Wrong::new(match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("is unknown: did you mean {near:?}?"),
        None => format!("is unknown: write one of {}", names()),
    }))
}
