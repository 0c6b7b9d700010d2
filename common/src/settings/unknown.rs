//! Finds unknown keys and variables, and proposes the known key that is most like each.

use toml::de::{DeTable, DeValue};

use super::catalogue::{CATALOGUE, entry, is_index};
use super::environment::variable_for;
use super::problem::{Location, Problem};
use super::source::Source;
use super::visit::{Entry, Form, Visit};

/// Similarity, from 0 to 1, from which a key of the same table is proposed before keys of other tables.
const ALIKE: f64 = 0.6;

/// A table that earlier versions knew and wrote into their example file. Its keys never did anything, so a file that
/// still has the table is taken with a warning.
const RETIRED: &str = "console";

/// Reports unknown keys, and tables that are given as something else. The second list holds warnings.
pub(super) fn in_file(source: &Source<'_>) -> (Vec<Problem>, Vec<Problem>) {
    let mut problems = Vec::new();
    in_table(source, source.root(), "", &mut problems);
    let retired = source.root().iter().filter(|(key, _)| key.get_ref() == RETIRED);
    let warnings = retired.map(|(key, _)| retired_at(source.location(key.span().start), RETIRED, "take it out"));
    (problems, warnings.collect())
}

fn retired_at(at: Location, name: &str, remedy: &str) -> Problem {
    Problem::new(at, format!("{name} is not used any more"), remedy)
}

fn in_table(source: &Source<'_>, table: &DeTable<'_>, prefix: &str, problems: &mut Vec<Problem>) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        let at = source.location(key.span().start);
        match (entry(&path).map(|entry| &entry.form), value.get_ref()) {
            // A quoted key with a dot in it looks like a path, but is a single key.
            (Some(_), _) if key.get_ref().contains('.') => problems.push(unknown(at, &path)),
            (Some(Form::Key(_)), _) => {}
            (Some(Form::Table), DeValue::Table(table)) => in_table(source, table, &format!("{path}."), problems),
            (Some(Form::Table), _) => {
                problems.push(Problem::new(
                    at,
                    format!("{path} is not a table"),
                    format!("write [{path}] above its keys"),
                ));
            }
            (Some(Form::Tables), DeValue::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    match item.get_ref().as_table() {
                        Some(table) => in_table(source, table, &format!("{path}.{index}."), problems),
                        None => problems.push(not_tables(source.location(item.span().start), &path)),
                    }
                }
            }
            (Some(Form::Tables), _) => problems.push(not_tables(at, &path)),
            (None, _) if path == RETIRED => {}
            (None, _) => problems.push(unknown(at, &path)),
        }
    }
}

fn not_tables(at: Location, path: &str) -> Problem {
    Problem::new(at, format!("{path} is not a list of tables"), format!("write [[{path}]] above the keys of each"))
}

fn unknown(at: Location, path: &str) -> Problem {
    let remedy = format!("did you mean {}? Correct it or take it out", nearest(path).path);
    Problem::new(at, format!("unknown key {}", path.escape_debug()), remedy)
}

/// Returns the known key that is most like `path`. Most typing errors are in the last part, so a similar key of the
/// same table comes first. Next comes a key of the same name in another table, since a table header may be missing.
fn nearest(path: &str) -> &'static Entry {
    let (table, name) = split(path);
    let alike = |entry: &Entry| strsim::normalized_damerau_levenshtein(split(&entry.path).1, name);
    let sibling = best(CATALOGUE.iter().filter(|entry| split(&entry.path).0 == table), alike);
    if let Some((sibling, score)) = sibling
        && score >= ALIKE
    {
        return sibling;
    }
    let whole = |entry: &Entry| alike(entry) + strsim::normalized_damerau_levenshtein(&entry.path, path);
    best(CATALOGUE.iter(), whole).map_or(&CATALOGUE[0], |(entry, _)| entry)
}

fn best(entries: impl Iterator<Item = &'static Entry>, score: impl Fn(&Entry) -> f64) -> Option<(&'static Entry, f64)> {
    entries.map(|entry| (entry, score(entry))).max_by(|a, b| a.1.total_cmp(&b.1))
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// Reports variables that have the prefix but stand for no key. The second list holds warnings.
pub(super) fn in_environment(visit: &Visit<'_, '_>) -> (Vec<Problem>, Vec<Problem>) {
    let of_retired = format!("{}{}__", super::environment::PREFIX, RETIRED.to_uppercase());
    let (retired, unknown): (Vec<_>, Vec<_>) =
        visit.unused_variables().partition(|name| name.to_uppercase().starts_with(&of_retired));
    let warn = |name: &str| retired_at(Location::Variable(name.to_owned()), name, "unset it");
    (unknown.into_iter().map(unknown_variable).collect(), retired.into_iter().map(warn).collect())
}

fn unknown_variable(name: &str) -> Problem {
    let at = Location::Variable(name.to_owned());
    let what = format!("unknown variable {name}");
    let path = name.trim_start_matches(super::environment::PREFIX).to_lowercase().replace("__", ".");
    // The name is right, so the index is wrong: the walk reads indexes without a gap.
    let numbered = path.split('.').any(is_index);
    if numbered && entry(&path).is_some_and(|entry| matches!(entry.form, Form::Key(_))) && variable_for(&path) == name {
        return Problem::new(at, what, "number them on from 0 without a gap, after those in the file");
    }
    let keys = CATALOGUE.iter().filter(|entry| matches!(entry.form, Form::Key(_)));
    let alike =
        |entry: &Entry| strsim::normalized_damerau_levenshtein(&variable_for(&entry.path), &name.to_uppercase());
    let meant = best(keys, alike).map_or_else(String::new, |(entry, _)| variable_for(&entry.path));
    Problem::new(at, what, format!("did you mean {meant}? Correct it or unset it"))
}
