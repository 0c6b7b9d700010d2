//! How `keys.rs` declares a table of `hookline.toml`, and the forms that a field of such a table can have.

use std::collections::BTreeMap;

use serde_json::json;

use super::kinds::{Kind, Scalar, Wrong};
use super::schema::or_reference;
use super::visit::{Form, KeyForm, Shown, Visit, quoted};

/// A struct whose fields are the keys of one table.
pub(super) trait Table {
    const HELP: &'static str;

    fn defaults() -> Self;

    /// Reads and notes every key of the table.
    fn walk(&mut self, v: &mut Visit<'_, '_>);
}

/// Declares structs whose fields are keys: `field: Type = form,`, where the form is one of the functions below. The
/// comments on a struct and on its fields are the help of the table and of its keys, in the example and in the schema.
macro_rules! settings {
    ($(
        $(#[doc = $table_help:literal])+
        pub struct $Table:ident {
            $( $(#[doc = $help:literal])* $field:ident: $Type:ty = $form:expr, )+
        }
    )+) => {$(
        $(#[doc = $table_help])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Table {
            $( $(#[doc = $help])* pub $field: $Type, )+
        }

        impl Table for $Table {
            const HELP: &'static str = concat!($($table_help),+);

            fn defaults() -> Self {
                Self { $( $field: Declared::<$Type>::default_value(&$form), )+ }
            }

            fn walk(&mut self, v: &mut Visit<'_, '_>) {
                $( Declared::<$Type>::visit(&$form, v, stringify!($field), concat!($($help),*), &mut self.$field); )+
            }
        }
    )+};
}
pub(super) use settings;

/// A form of a field of type `T`.
pub(super) trait Declared<T> {
    fn default_value(&self) -> T;

    /// Reads what is given for the field, and notes it for the catalogue.
    fn visit(&self, v: &mut Visit<'_, '_>, name: &str, help: &'static str, field: &mut T);
}

pub(super) struct Key<K> {
    kind: K,
    default: Scalar<'static>,
    is_required: bool,
}

/// A key with a default, which is written as in TOML: `"10s"`, `1024`, `true`.
pub(super) fn key<K: Kind>(kind: K, default: impl Into<Scalar<'static>>) -> Key<K> {
    Key { kind, default: default.into(), is_required: false }
}

/// A required key. If it is missing, the problem proposes `example`.
pub(super) fn required<K: Kind>(kind: K, example: &'static str) -> Key<K> {
    Key { kind, default: example.into(), is_required: true }
}

impl<K: Kind> Declared<K::Value> for Key<K> {
    fn default_value(&self) -> K::Value {
        legal(self.kind.parse(&self.default))
    }

    fn visit(&self, v: &mut Visit<'_, '_>, name: &str, help: &'static str, field: &mut K::Value) {
        let path = v.path(name);
        if let Some(value) = v.read_one(&path, &self.kind) {
            *field = value;
        }
        let value = Shown::one(&self.kind, field);
        if self.is_required && !v.is_given(&path) {
            v.missing(&path, &format!("add {name} = {}", value.toml));
        }
        let schema = self.kind.schema();
        let form = KeyForm { value: Some(value), example: None, is_required: self.is_required, schema };
        v.note(path, help, Form::Key(form));
    }
}

pub(super) struct Optional<K> {
    kind: K,
    example: &'static str,
}

/// A key that may be left out and has no default: an `Option`, or a text that is empty if the key is left out.
pub(super) fn optional<K: Kind>(kind: K, example: &'static str) -> Optional<K> {
    Optional { kind, example }
}

impl<K: Kind> Declared<Option<K::Value>> for Optional<K> {
    fn default_value(&self) -> Option<K::Value> {
        None
    }

    fn visit(&self, v: &mut Visit<'_, '_>, name: &str, help: &'static str, field: &mut Option<K::Value>) {
        let path = v.path(name);
        if let Some(value) = v.read_one(&path, &self.kind) {
            *field = Some(value);
        }
        let value = field.as_ref().map(|value| Shown::one(&self.kind, value));
        let (example, schema) = (Some(quoted(self.example)), self.kind.schema());
        v.note(path, help, Form::Key(KeyForm { value, example, is_required: false, schema }));
    }
}

impl<K: Kind<Value = String>> Declared<String> for Optional<K> {
    fn default_value(&self) -> String {
        String::new()
    }

    fn visit(&self, v: &mut Visit<'_, '_>, name: &str, help: &'static str, field: &mut String) {
        let mut value = Some(std::mem::take(field)).filter(|text| !text.is_empty());
        Declared::<Option<String>>::visit(self, v, name, help, &mut value);
        *field = value.unwrap_or_default();
    }
}

pub(super) struct List<K> {
    kind: K,
    default: &'static [&'static str],
    example: Option<&'static str>,
    is_required: bool,
}

/// A list with a default. An empty list is legal, and does not mean the same as leaving the key out.
pub(super) fn list<K: Kind>(kind: K, default: &'static [&'static str]) -> List<K> {
    List { kind, default, example: None, is_required: false }
}

/// A list that may be left out, but not be empty.
pub(super) fn optional_list<K: Kind>(kind: K, example: &'static str) -> List<K> {
    List { kind, default: &[], example: Some(example), is_required: false }
}

/// A required list, which must not be empty.
pub(super) fn required_list<K: Kind>(kind: K, example: &'static str) -> List<K> {
    List { is_required: true, ..optional_list(kind, example) }
}

impl<K: Kind> Declared<Vec<K::Value>> for List<K> {
    fn default_value(&self) -> Vec<K::Value> {
        self.default.iter().map(|text| legal(self.kind.parse(&Scalar::Text(text)))).collect()
    }

    fn visit(&self, v: &mut Visit<'_, '_>, name: &str, help: &'static str, field: &mut Vec<K::Value>) {
        let path = v.path(name);
        let least = usize::from(self.example.is_some());
        if let Some(values) = v.read_list(&path, &self.kind, least) {
            *field = values;
        }
        let example = self.example.map(|example| format!("[{}]", quoted(example)));
        if self.is_required && !v.is_given(&path) {
            v.missing(&path, &format!("add {name} = {}", example.as_deref().unwrap_or("[]")));
        }
        let value = (!field.is_empty() || least == 0).then(|| Shown::list(&self.kind, field));
        let (one, element) = (self.kind.schema(), or_reference(self.kind.schema()));
        let schema = json!({ "anyOf": [one, { "type": "array", "minItems": least, "items": element }] });
        v.note(path, help, Form::Key(KeyForm { value, example, is_required: self.is_required, schema }));
    }
}

pub(super) struct Map<N, K> {
    name: N,
    value: K,
}

/// A table whose keys are names of the user's choice. The default is an empty table.
pub(super) fn map<N: Kind<Value = String>, K: Kind>(name: N, value: K) -> Map<N, K> {
    Map { name, value }
}

impl<N: Kind<Value = String>, K: Kind> Declared<BTreeMap<String, K::Value>> for Map<N, K> {
    fn default_value(&self) -> BTreeMap<String, K::Value> {
        BTreeMap::new()
    }

    fn visit(&self, v: &mut Visit<'_, '_>, name: &str, help: &'static str, field: &mut BTreeMap<String, K::Value>) {
        let path = v.path(name);
        if let Some(values) = v.read_map(&path, (&self.name, &self.value)) {
            *field = values;
        }
        let value = Some(Shown::map(&self.value, field));
        let element = or_reference(self.value.schema());
        let schema = json!({ "type": "object", "propertyNames": self.name.schema(), "additionalProperties": element });
        v.note(path, help, Form::Key(KeyForm { value, example: None, is_required: false, schema }));
    }
}

pub(super) struct Nested;

/// A table in the table; its help stands on its own struct.
pub(super) fn table() -> Nested {
    Nested
}

impl<T: Table> Declared<T> for Nested {
    fn default_value(&self) -> T {
        T::defaults()
    }

    fn visit(&self, v: &mut Visit<'_, '_>, name: &str, _help: &'static str, field: &mut T) {
        v.table(name, field);
    }
}

pub(super) struct Repeated;

/// An array of tables, `[[name]]`; its help stands on the struct of its items.
pub(super) fn tables() -> Repeated {
    Repeated
}

impl<T: Table> Declared<Vec<T>> for Repeated {
    fn default_value(&self) -> Vec<T> {
        Vec::new()
    }

    fn visit(&self, v: &mut Visit<'_, '_>, name: &str, _help: &'static str, field: &mut Vec<T>) {
        v.tables(name, field);
    }
}

pub(super) struct Flat<T>(T);

/// The keys of another struct, which stand in this table; `defaults` holds the values of keys that are left out.
pub(super) fn keys_of<T: Table + Clone>(defaults: T) -> Flat<T> {
    Flat(defaults)
}

impl<T: Table + Clone> Declared<T> for Flat<T> {
    fn default_value(&self) -> T {
        self.0.clone()
    }

    fn visit(&self, v: &mut Visit<'_, '_>, _name: &str, _help: &'static str, field: &mut T) {
        field.walk(v);
    }
}

pub(super) struct NoKey;

/// A field that loading fills in; nobody can set it.
pub(super) fn no_key() -> NoKey {
    NoKey
}

impl<T: Default> Declared<T> for NoKey {
    fn default_value(&self) -> T {
        T::default()
    }

    fn visit(&self, _v: &mut Visit<'_, '_>, _name: &str, _help: &'static str, _field: &mut T) {}
}

/// Returns a default, or panics if it is wrong. The tests read every default.
fn legal<T>(value: Result<T, Wrong>) -> T {
    value.unwrap_or_else(|wrong| panic!("a default in keys.rs is {}; {}", wrong.what, wrong.remedy))
}
