//! QEMU's `key=value,...` lists and their JSON form.
//!
//! Called by the parsers of `-netdev`, `-device`, `-machine` and the like. A list is read in two steps:
//! [`split`] (or [`json`]) takes the text apart, [`Fields::read`] holds the pairs against the option's
//! [`Schema`], which is also what the help is made from. Pure.
//!
//! Grammar, as QEMU's: pairs are separated by commas; `,,` in a value is one literal comma; the first item may
//! be a bare value of the implied key; a bare `flag` later on means `flag=on` and `noflag` means `flag=off`.
//! Stricter than QEMU: a key given twice is an error, unless it is a list. Objects inside a JSON object mean the
//! same as dotted keys: `{"addr":{"type":"unix"}}` is `addr.type=unix`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::error::{CliError, Context, Wrong, quoted};
use super::suggest::did_you_mean;

/// A key that an option takes.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As the user would write it; empty if there is none.
    pub(super) default: &'static str,
    pub(super) text: &'static str,
}

/// What a key's value looks like; the names are QEMU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Str,
    Bool,
    Uint32,
    Uint64,
    /// A number of bytes, or text with a suffix.
    Size,
    /// Text; the key may be given more than once, in JSON as an array.
    List,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Str => "str",
            Kind::Bool => "bool",
            Kind::Uint32 => "uint32",
            Kind::Uint64 => "uint64",
            Kind::Size => "size",
            Kind::List => "list",
        })
    }
}

/// Something that QEMU has and minivmm has not: a key, an option, a type.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) name: &'static str,
    /// A value that asks for what minivmm does anyway, and is therefore taken.
    pub(super) accepts: Option<&'static str>,
    /// What to do instead.
    pub(super) instead: &'static str,
}

/// The keys of one option.
#[derive(Debug)]
pub(super) struct Schema {
    /// As the user would name it: `-netdev tap`.
    pub(super) what: &'static str,
    pub(super) keys: &'static [Key],
    pub(super) absent: &'static [Absent],
    /// What to type to see the keys.
    pub(super) help: &'static str,
}

/// One item of a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: Value,
}

/// The value of a [`Pair`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// No `=`: a flag.
    Bare,
    Json(serde_json::Value),
}

/// Takes a list apart. `implied` is the key of a bare first value.
pub(super) fn split(text: &str, implied: &str) -> Result<Vec<Pair>, Wrong> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (item, tail) = cut_item(rest);
        rest = tail;
        pairs.push(match item.split_once('=') {
            Some(("", _)) => {
                return Err(Wrong::new(format!("{} has no key", quoted(&item)), "write key=value"));
            }
            Some((key, value)) => Pair { key: key.to_owned(), value: Value::Text(value.to_owned()) },
            None if pairs.is_empty() => Pair { key: implied.to_owned(), value: Value::Text(item) },
            None => Pair { key: item, value: Value::Bare },
        });
    }
    Ok(pairs)
}

/// The text up to the first single comma, with double ones made single, and what follows that comma.
fn cut_item(text: &str) -> (String, &str) {
    let mut item = String::new();
    let mut rest = text;
    loop {
        let Some((before, after)) = rest.split_once(',') else {
            item.push_str(rest);
            return (item, "");
        };
        item.push_str(before);
        let Some(tail) = after.strip_prefix(',') else {
            return (item, after);
        };
        item.push(',');
        rest = tail;
    }
}

/// Takes a JSON object apart.
pub(super) fn json(text: &str) -> Result<Vec<Pair>, Wrong> {
    serde_json::from_str::<Object>(text).map(|object| object.0).map_err(|error| {
        Wrong::new(format!("this is not a JSON object: {error}"), "or write it as key=value,key=value")
    })
}

/// A JSON object as it is written: `serde_json::Map` would keep the last of two equal keys without a word, and
/// [`Fields::read`] is to see both.
struct Object(Vec<Pair>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
        let mut pairs = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            flatten(key, value, &mut pairs);
        }
        Ok(Object(pairs))
    }
}

/// Objects become dotted keys.
fn flatten(key: String, value: serde_json::Value, pairs: &mut Vec<Pair>) {
    match value {
        serde_json::Value::Object(inner) if !inner.is_empty() => {
            for (name, value) in inner {
                flatten(format!("{key}.{name}"), value, pairs);
            }
        }
        value => pairs.push(Pair { key, value: Value::Json(value) }),
    }
}

/// Whether the list asks for help instead of saying something.
pub(super) fn asks_for_help(pairs: &[Pair]) -> bool {
    pairs.iter().any(|pair| match &pair.value {
        Value::Bare => is_help(&pair.key),
        _ => false,
    })
}

/// `help` or `?`.
pub(super) fn is_help(text: &str) -> bool {
    text == "help" || text == "?"
}

/// Takes the value of `key` (the one that selects the type) out of the list.
pub(super) fn take(pairs: &mut Vec<Pair>, key: &str) -> Result<Option<String>, Wrong> {
    let Some(at) = pairs.iter().position(|pair| pair.key == key) else {
        return Ok(None);
    };
    let value = match pairs.remove(at).value {
        Value::Text(text) | Value::Json(serde_json::Value::String(text)) => text,
        _ => return Err(Wrong::new(format!("'{key}' is not text"), format!("write {key}=NAME"))),
    };
    if pairs.iter().any(|pair| pair.key == key) {
        return Err(twice(key));
    }
    Ok(Some(value))
}

fn twice(key: &str) -> Wrong {
    Wrong::new(format!("{} is given twice", quoted(key)), "keep one of them")
}

/// The values of one option, each known to its schema and given once (lists: in order).
#[derive(Debug)]
pub(super) struct Fields<'a> {
    context: &'a Context,
    values: Vec<(&'static str, String)>,
}

impl<'a> Fields<'a> {
    /// Holds `pairs` against `schema`.
    pub(super) fn read(context: &'a Context, pairs: Vec<Pair>, schema: &Schema) -> Result<Self, CliError> {
        Self::read_with(context, pairs, schema, &[])
    }

    /// Holds `pairs` against `schema` and the keys that it has in `common` with others.
    pub(super) fn read_with(
        context: &'a Context,
        pairs: Vec<Pair>,
        schema: &Schema,
        common: &'static [Key],
    ) -> Result<Self, CliError> {
        let keys = || common.iter().chain(schema.keys);
        let mut values: Vec<(&'static str, String)> = Vec::new();
        for pair in pairs {
            let pair = long_form(pair, keys());
            if let Some(absent) = schema.absent.iter().find(|absent| absent.name == pair.key) {
                if absent.accepts.is_some_and(|accepted| pair.value.is(accepted)) {
                    continue;
                }
                let problem = format!("{} has no '{}' here", schema.what, absent.name);
                return Err(context.error(Wrong::new(problem, absent.instead)));
            }
            let key = keys()
                .find(|key| key.name == pair.key)
                .ok_or_else(|| context.error(unknown_key(&pair.key, schema, keys())))?;
            if key.kind != Kind::List && values.iter().any(|(name, _)| *name == key.name) {
                return Err(context.error(twice(key.name)));
            }
            for value in items(pair.value, key) {
                let text = plain_text(value, key).map_err(|wrong| context.error(wrong))?;
                values.push((key.name, text));
            }
        }
        Ok(Fields { context, values })
    }

    /// The value of `key`, put through `parser`.
    pub(super) fn get<T>(
        &self,
        key: &str,
        parser: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Result<Option<T>, CliError> {
        let value = self.values.iter().find(|(name, _)| *name == key);
        value.map(|(_, text)| parser(text).map_err(|wrong| self.error(wrong.at(key)))).transpose()
    }

    /// The values of the list `key`, each put through `parser`.
    pub(super) fn all<T>(
        &self,
        key: &str,
        parser: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, CliError> {
        let values = self.values.iter().filter(|(name, _)| *name == key);
        values.map(|(_, text)| parser(text).map_err(|wrong| self.error(wrong.at(key)))).collect()
    }

    /// All but the values of `keys`.
    pub(super) fn without(&self, keys: &[Key]) -> Self {
        let kept = self.values.iter().filter(|(name, _)| keys.iter().all(|key| key.name != *name));
        Fields { context: self.context, values: kept.cloned().collect() }
    }

    /// Which of `keys` are given.
    pub(super) fn given(&self, keys: &[&str]) -> Vec<&'static str> {
        self.values.iter().map(|(name, _)| *name).filter(|name| keys.contains(name)).collect()
    }

    pub(super) fn error(&self, wrong: impl Into<Wrong>) -> CliError {
        self.context.error(wrong)
    }
}

impl Value {
    /// Whether this is `text`, in whichever form.
    fn is(&self, text: &str) -> bool {
        match self {
            Value::Text(own) => own == text,
            Value::Bare => text == "on",
            Value::Json(serde_json::Value::Bool(on)) => text == if *on { "on" } else { "off" },
            Value::Json(serde_json::Value::String(own)) => own == text,
            Value::Json(serde_json::Value::Number(n)) => n.to_string() == text,
            Value::Json(_) => false,
        }
    }
}

/// `flag` and `noflag` written out.
fn long_form(pair: Pair, keys: impl Iterator<Item = &'static Key> + Clone) -> Pair {
    let is_flag = |name: &str| keys.clone().any(|key| key.name == name && key.kind == Kind::Bool);
    let (name, value) = match (&pair.value, pair.key.strip_prefix("no")) {
        (Value::Bare, _) if is_flag(&pair.key) => (pair.key.as_str(), "on"),
        (Value::Bare, Some(name)) if is_flag(name) => (name, "off"),
        _ => return pair,
    };
    Pair { key: name.to_owned(), value: Value::Text(value.to_owned()) }
}

fn unknown_key(key: &str, schema: &Schema, keys: impl Iterator<Item = &'static Key>) -> Wrong {
    let names = keys.map(|key| key.name);
    Wrong::new(
        format!("{} has no {}", schema.what, quoted(key)),
        did_you_mean(key, names, format!("{} lists what it has", schema.help)),
    )
}

/// The items of a JSON array where a list is expected, in either of QEMU's forms: `["a"]` and `[{"str":"a"}]`.
fn items(value: Value, key: &Key) -> Vec<Value> {
    match value {
        Value::Json(serde_json::Value::Array(items)) if key.kind == Kind::List => items
            .into_iter()
            .map(|mut item| match item.get_mut("str") {
                Some(inner) => Value::Json(inner.take()),
                None => Value::Json(item),
            })
            .collect(),
        value => vec![value],
    }
}

/// The value as the text that the same list in `key=value` form would hold.
fn plain_text(value: Value, key: &Key) -> Result<String, Wrong> {
    let name = key.name;
    let wrong_type = |expected: &str, got: &serde_json::Value| {
        Wrong::from(format!("{name}: JSON {expected} expected, not {}", quoted(&got.to_string())))
    };
    match value {
        Value::Text(text) => Ok(text),
        Value::Bare => {
            Err(Wrong::new(format!("'{name}' has no value"), format!("write {name}=<{}>", key.kind)))
        }
        Value::Json(json) => match (key.kind, &json) {
            (Kind::Bool, serde_json::Value::Bool(on)) => Ok(if *on { "on" } else { "off" }.to_owned()),
            (Kind::Bool, other) => Err(wrong_type("true or false", other)),
            (Kind::Uint32 | Kind::Uint64 | Kind::Size, serde_json::Value::Number(n)) => Ok(n.to_string()),
            (_, serde_json::Value::String(text)) => Ok(text.clone()),
            (Kind::Uint32 | Kind::Uint64 | Kind::Size, other) => Err(wrong_type("number", other)),
            (Kind::Str | Kind::List, other) => Err(wrong_type("string", other)),
        },
    }
}
