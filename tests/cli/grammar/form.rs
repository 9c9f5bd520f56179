//! The two forms in which a list of keys is written: `key=value,...` and JSON.

use serde_json::{Map, Value, json};

use super::line::Line;

/// A key's value, before it is decided how it is written.
#[derive(Clone)]
pub(super) enum Val {
    Text(String),
    Num(u64),
    Bool(bool),
}

pub(super) type Keys = Vec<(String, Val)>;

pub(super) fn text(key: &str, value: impl Into<String>) -> (String, Val) {
    (key.to_owned(), Val::Text(value.into()))
}
impl Line {
    /// The option's value in one of its two forms.
    pub(super) fn write(&mut self, type_key: &str, kind: &str, keys: Keys) -> String {
        if self.rng.one_in(3) { self.json(type_key, kind, keys) } else { self.keyval(type_key, kind, keys) }
    }

    pub(super) fn keyval(&mut self, type_key: &str, kind: &str, mut keys: Keys) -> String {
        self.rng.shuffle(&mut keys);
        let mut items: Vec<String> = Vec::new();
        for (key, value) in keys {
            items.push(match value {
                Val::Bool(true) if self.rng.one_in(3) && key == "vnet_hdr" => key,
                Val::Bool(false) if self.rng.one_in(3) && key == "vnet_hdr" => format!("no{key}"),
                Val::Bool(on) => format!("{key}={}", if on { "on" } else { "off" }),
                Val::Num(n) => format!("{key}={n}"),
                Val::Text(text) => format!("{key}={}", text.replace(',', ",,")),
            });
        }
        if self.rng.one_in(6) && items.iter().all(|item| item.contains('=')) {
            items.insert(self.rng.below(items.len() + 1), format!("{type_key}={kind}"));
        } else {
            items.insert(0, kind.to_owned());
        }
        items.join(",") + if self.rng.one_in(12) { "," } else { "" }
    }

    pub(super) fn json(&mut self, type_key: &str, kind: &str, mut keys: Keys) -> String {
        keys.push(text(type_key, kind));
        self.rng.shuffle(&mut keys);
        let nested = self.rng.one_in(2);
        let mut object = Map::new();
        for (key, value) in keys {
            let value = match value {
                Val::Bool(on) => json!(on),
                Val::Num(n) => json!(n),
                Val::Text(text) => json!(text),
            };
            // Lists, in either form that QEMU takes.
            if ["hostfwd", "dnssearch"].contains(&key.as_str()) {
                let item = if nested { json!({ "str": value }) } else { value };
                let list = object.entry(key).or_insert_with(|| json!([]));
                list.as_array_mut().unwrap().push(item);
                continue;
            }
            match key.split_once('.') {
                Some((outer, inner)) if nested => {
                    let inside = object.entry(outer).or_insert_with(|| json!({}));
                    inside.as_object_mut().unwrap().insert(inner.to_owned(), value);
                }
                _ => {
                    object.insert(key, value);
                }
            }
        }
        Value::Object(object).to_string()
    }
}
