//! The walk over all keys that `keys.rs` declares. The walk reads every key that the environment or the file gives into
//! its field, and notes every key for the catalogue. Without a file or an environment the walk only notes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::declare::Table;
use super::environment::{Environment, variable_for};
use super::kinds::{Kind, Scalar};
use super::problem::{Location, Problem};
use super::source::Source;
use super::value::{Given, elements, has_bare_comma, members, resolve};
use super::{Needs, Role};

/// A table or a key that the walk noted.
pub(super) struct Entry {
    /// The path, such as `ingest.listen` or `sources.0.name`.
    pub(super) path: String,
    pub(super) doc: &'static str,
    pub(super) form: Form,
}

pub(super) enum Form {
    Table,
    /// An array of tables.
    Tables,
    Key(KeyForm),
}

pub(super) struct KeyForm {
    /// The value of the field. `None` if the key is not set.
    pub(super) value: Option<Shown>,
    /// TOML for the annotated example, if the key has no default.
    pub(super) example: Option<String>,
    /// Whether the table is wrong without the key.
    pub(super) is_required: bool,
    pub(super) schema: Json,
}

/// A value as text. A secret is masked in both fields.
pub(super) struct Shown {
    pub(super) toml: String,
    pub(super) plain: String,
}

pub(super) struct Visit<'a, 't> {
    source: Option<&'a Source<'t>>,
    environment: &'a Environment,
    needs: Needs,
    /// Path of the table that is being walked, with a dot at its end. Empty at the root.
    prefix: String,
    /// Walks a repeated table that is absent once, so that its keys are noted.
    with_templates: bool,
    pub(super) entries: Vec<Entry>,
    used_variables: BTreeSet<String>,
    bad: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl<'a, 't> Visit<'a, 't> {
    pub(super) fn reading(source: Option<&'a Source<'t>>, environment: &'a Environment, needs: Needs) -> Self {
        Self {
            source,
            environment,
            needs,
            prefix: String::new(),
            with_templates: false,
            entries: Vec::new(),
            used_variables: BTreeSet::new(),
            bad: BTreeSet::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns a walk that reads nothing and notes everything.
    pub(super) fn noting(nothing: &'a Environment, with_templates: bool) -> Self {
        Self { with_templates, ..Self::reading(None, nothing, Needs::NOTHING) }
    }

    /// Walks over a table and its keys.
    pub(super) fn table<T: Table>(&mut self, name: &str, table: &mut T) {
        let path = self.path(name);
        self.note(path.clone(), T::HELP, Form::Table);
        self.inside(&path, table);
    }

    /// Walks over an array of tables: those in the file, then those that variables with the next indexes add.
    pub(super) fn tables<T: Table>(&mut self, name: &str, field: &mut Vec<T>) {
        let path = self.path(name);
        self.note(path.clone(), T::HELP, Form::Tables);
        let in_file = self.source.and_then(|source| source.find(&path));
        let mut count = in_file.and_then(|(_, value)| value.as_array()).map_or(0, |array| array.len());
        while self.environment.has_prefix(&variable_for(&format!("{path}.{count}."))) {
            count += 1;
        }
        field.extend((0..count).map(|_| T::defaults()));
        for (index, item) in field.iter_mut().enumerate() {
            self.inside(&format!("{path}.{index}"), item);
        }
        if field.is_empty() && self.with_templates {
            self.inside(&format!("{path}.0"), &mut T::defaults());
        }
    }

    /// Whether the key was given, with a right or a wrong value.
    pub(super) fn is_given(&self, path: &str) -> bool {
        self.environment.get(&variable_for(path)).is_some()
            || self.source.is_some_and(|source| source.find(path).is_some())
    }

    /// Whether a problem with this key was found.
    pub(super) fn is_bad(&self, path: &str) -> bool {
        self.bad.contains(path)
    }

    /// Returns the place of a key, or the place of its table if the key is not given.
    pub(super) fn place(&self, path: &str) -> Location {
        let variable = variable_for(path);
        if self.environment.get(&variable).is_some() {
            return Location::Variable(variable);
        }
        let Some(source) = self.source else { return Location::Configuration };
        let mut path = path;
        loop {
            if let Some((location, _)) = source.find(path) {
                return location;
            }
            match path.rsplit_once('.') {
                Some((table, _)) => path = table,
                None => return source.location(0),
            }
        }
    }

    pub(super) fn problem(&mut self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.problem_at(self.place(path), path, what, remedy);
    }

    pub(super) fn warning(&mut self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let at = self.place(path);
        self.warnings.push(Problem::new(at, what, remedy));
    }

    /// Returns the variables that stand for no key of the walk.
    pub(super) fn unused_variables(&self) -> impl Iterator<Item = &'a str> {
        self.environment.keys().filter(|name| !self.used_variables.contains(*name))
    }

    pub(super) fn missing(&mut self, path: &str, remedy: &str) {
        self.problem(path, format!("{path} is missing"), remedy);
    }

    fn problem_at(&mut self, at: Location, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.bad.insert(path.to_owned());
        self.problems.push(Problem::new(at, what, remedy));
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn inside(&mut self, path: &str, table: &mut impl Table) {
        let outer = std::mem::replace(&mut self.prefix, format!("{path}."));
        table.walk(self);
        self.prefix = outer;
    }

    /// Adds an entry. A key goes before the tables inside its own table, wherever `keys.rs` declares it: after their
    /// headers, TOML would read it as one of their keys.
    pub(super) fn note(&mut self, path: String, help: &'static str, form: Form) {
        let table = self.prefix.trim_end_matches('.');
        let is_of_table = |entry: &Entry| match &entry.form {
            Form::Key(_) => entry.path.rsplit_once('.').map_or("", |(table, _)| table) == table,
            Form::Table | Form::Tables => entry.path == table,
        };
        let at = match &form {
            Form::Key(_) => self.entries.iter().rposition(is_of_table).map(|last| last + 1),
            Form::Table | Form::Tables => None,
        };
        self.entries.insert(at.unwrap_or(self.entries.len()), Entry { path, doc: help.trim_start(), form });
    }

    /// Returns the given value of a key and its place. The environment wins over the file.
    fn given(&mut self, path: &str) -> Option<(Location, Given<'a>)> {
        let variable = variable_for(path);
        if let Some(value) = self.environment.get(&variable) {
            self.used_variables.insert(variable.clone());
            return Some((Location::Variable(variable), Given::Variable(value)));
        }
        let source = self.source?;
        source.find(path).map(|(location, value)| (location, Given::File(value)))
    }

    pub(super) fn read_one<K: Kind>(&mut self, path: &str, kind: &K) -> Option<K::Value> {
        let (at, given) = self.given(path)?;
        let scalar = match given {
            Given::Variable(Ok(text)) => Scalar::Untyped(text.into()),
            Given::Variable(Err(_)) => {
                self.problem_at(at, path, format!("{path} is not UTF-8"), format!("write {}", kind.wanted()));
                return None;
            }
            Given::File(value) => Scalar::of(value),
        };
        self.read(path, kind, at, scalar)
    }

    /// Reads a list, or a single value as a list of one. Returns `None` if the key is not given.
    pub(super) fn read_list<K: Kind>(&mut self, path: &str, kind: &K, least: usize) -> Option<Vec<K::Value>> {
        let (at, given) = self.given(path)?;
        if K::SECRET && path.ends_with(".secrets") && has_bare_comma(&given) {
            let remedy = "write [\"…\", \"…\"], also for one secret that has a comma";
            self.problem_at(at, path, format!("{path} has a comma outside of brackets"), remedy);
            return Some(Vec::new());
        }
        let elements = match elements(self.source, at.clone(), given) {
            Ok(elements) => elements,
            Err(what) => {
                self.problem_at(
                    at,
                    path,
                    format!("{path} is {what}"),
                    format!("write [\"…\", \"…\"] with {} each", kind.wanted()),
                );
                return Some(Vec::new());
            }
        };
        if elements.len() < least {
            let remedy = format!("write {}, or leave the key out", kind.wanted());
            self.problem_at(at, path, format!("{path} is empty"), remedy);
        }
        Some(elements.into_iter().filter_map(|(at, scalar)| self.read(path, kind, at, scalar)).collect())
    }

    /// Reads a table whose keys are names of the user's choice. Returns `None` if the table is not given.
    pub(super) fn read_map<N: Kind<Value = String>, K: Kind>(
        &mut self,
        path: &str,
        (name, value): (&N, &K),
    ) -> Option<BTreeMap<String, K::Value>> {
        let (at, given) = self.given(path)?;
        let members = match members(self.source, at.clone(), given) {
            Ok(members) => members,
            Err(what) => {
                let remedy = format!("write {{ \"…\" = \"…\" }} with {} each", value.wanted());
                self.problem_at(at, path, format!("{path} is {what}"), remedy);
                return Some(BTreeMap::new());
            }
        };
        let mut read = BTreeMap::new();
        for (at, key, scalar) in members {
            match name.parse(&Scalar::Text(&key)) {
                Ok(key) => {
                    read.extend(self.read(&format!("{path}.{key}"), value, at, scalar).map(|value| (key, value)));
                }
                Err(wrong) => {
                    let what = format!("{path} has the name {}, {}", Scalar::Text(&key).show(), wrong.what);
                    self.problem_at(at, path, what, wrong.remedy);
                }
            }
        }
        Some(read)
    }

    fn read<K: Kind>(&mut self, path: &str, kind: &K, at: Location, given: Scalar<'_>) -> Option<K::Value> {
        if K::SECRET && self.needs.role == Role::Dev {
            let what = format!("{path} is ignored by `dev`, which has its own");
            self.warnings.push(Problem::new(at, what, "`hookline run` uses it"));
            return None;
        }
        let literal_in_file = K::SECRET && matches!((&given, &at), (Scalar::Text(_), Location::File { .. }));
        let (scalar, origin) = match resolve(given, self.environment) {
            Ok(resolved) => resolved,
            Err((what, remedy)) if self.needs.can_spare(path) => {
                // A half has no use for the other half's secrets, and in a deployment that keeps them apart it has none.
                if !matches!(self.needs.role, Role::Ingest | Role::Worker) {
                    self.warnings.push(Problem::new(at, format!("{path} {what}"), remedy));
                }
                return None;
            }
            Err((what, remedy)) => {
                self.problem_at(at, path, format!("{path} {what}"), remedy);
                return None;
            }
        };
        match kind.parse(&scalar) {
            Ok(value) => {
                if literal_in_file && origin.is_none() {
                    let what = format!("{path} holds the secret itself");
                    let remedy = "write \"env:NAME\" or \"file:PATH\" there, so that the file can be shown around";
                    self.warnings.push(Problem::new(at, what, remedy));
                }
                Some(value)
            }
            Err(wrong) => {
                // The value is not shown: the variable or the file may hold another key's secret by mistake.
                let what = match origin {
                    Some(origin) => format!("{path} ({origin}) is {}", wrong.what),
                    None if K::HIDDEN => format!("{path} is {}", wrong.what),
                    None => format!("{path} is {}, {}", scalar.show(), wrong.what),
                };
                self.problem_at(at, path, what, wrong.remedy);
                None
            }
        }
    }
}

impl Shown {
    pub(super) fn one<K: Kind>(kind: &K, value: &K::Value) -> Self {
        let plain = kind.show(value);
        let toml = if K::QUOTED { quoted(&plain) } else { plain.clone() };
        Self { toml, plain }
    }

    pub(super) fn map<K: Kind>(kind: &K, values: &BTreeMap<String, K::Value>) -> Self {
        let of = |(name, value): (&String, &K::Value)| format!("{} = {}", quoted(name), Self::one(kind, value).toml);
        let toml = if values.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{ {} }}", values.iter().map(of).collect::<Vec<_>>().join(", "))
        };
        Self { plain: toml.clone(), toml }
    }

    pub(super) fn list<K: Kind>(kind: &K, values: &[K::Value]) -> Self {
        let all: Vec<_> = values.iter().map(|value| Self::one(kind, value)).collect();
        let join = |text: fn(&Self) -> &str| all.iter().map(text).collect::<Vec<_>>().join(", ");
        Self { toml: format!("[{}]", join(|shown| &shown.toml)), plain: join(|shown| &shown.plain) }
    }
}

/// Writes a text as TOML.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
