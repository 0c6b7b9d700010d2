//! The templates that fill fields of a person who is created in the system of record
//! (<https://docs.rs/minijinja/latest/minijinja/syntax/index.html>). docs/notes.md lists what a template can show.

use std::collections::BTreeMap;

use minijinja::AutoEscape;
use serde::Serialize;

use crate::template::{self, TemplateError, template_error};

/// What is known of a person who is to be created. These are the names that a template can show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PersonText {
    /// The whole name as TextUs has it.
    pub name: Option<String>,
    /// The name without its last word; none where the name is one word.
    pub first_name: Option<String>,
    /// The last word of the name.
    pub last_name: Option<String>,
    /// The first of `phones`.
    pub phone: Option<String>,
    /// In E.164.
    pub phones: Vec<String>,
    /// The TextUs contact, without `/contacts/`.
    pub contact_id: Option<String>,
}

impl PersonText {
    #[must_use]
    pub fn new(name: Option<&str>, phones: Vec<String>, contact_id: Option<&str>) -> Self {
        let name = name.map(str::trim).filter(|name| !name.is_empty());
        let words = name.map(|name| name.rsplit_once(char::is_whitespace).map_or((None, name), |(f, l)| (Some(f), l)));
        Self {
            name: name.map(str::to_owned),
            first_name: words.and_then(|(first, _)| first).map(|first| first.trim_end().to_owned()),
            last_name: words.map(|(_, last)| last.to_owned()),
            phone: phones.first().cloned(),
            phones,
            contact_id: contact_id.map(|id| id.strip_prefix("/contacts/").unwrap_or(id).to_owned()),
        }
    }
}

/// Returns the fields that the templates fill, by their names. A field whose text is blank is left out.
///
/// # Errors
/// Says which field's template fails, and why.
pub fn fields(
    templates: &BTreeMap<String, String>,
    person: &PersonText,
) -> Result<BTreeMap<String, String>, (String, TemplateError)> {
    let mut fields = BTreeMap::new();
    for (field, template) in templates {
        let text = render(template, person).map_err(|error| (field.clone(), error))?;
        let text = text.trim();
        if !text.is_empty() {
            fields.insert(field.clone(), text.to_owned());
        }
    }
    Ok(fields)
}

/// Checks the template of one field: its syntax, and that it can show a person with everything and one with a number only.
///
/// # Errors
/// Says what is wrong, with line and column.
pub fn check(template: &str) -> Result<(), TemplateError> {
    let phones = vec!["+14155550123".to_owned(), "+442079460123".to_owned()];
    render(template, &PersonText::new(Some("Sam Doe"), phones.clone(), Some("/contacts/AbC123")))?;
    render(template, &PersonText::new(None, phones, None)).map(drop)
}

fn render(template: &str, person: &PersonText) -> Result<String, TemplateError> {
    let mut environment = template::environment();
    // A field of a CRM is plain text.
    environment.set_auto_escape_callback(|_name| AutoEscape::None);
    environment.render_str(template, person).map_err(|error| template_error(template, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: Option<&str>) -> PersonText {
        PersonText::new(name, vec!["+14155550123".to_owned()], Some("/contacts/AbC123"))
    }

    fn templates(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        given.iter().map(|(field, template)| ((*field).to_owned(), (*template).to_owned())).collect()
    }

    #[test]
    fn a_name_has_a_last_word() {
        for (name, first, last) in [
            (Some("Sam Doe"), Some("Sam"), Some("Doe")),
            (Some(" Ana  María   Rivera "), Some("Ana  María"), Some("Rivera")),
            (Some("Prince"), None, Some("Prince")),
            (Some("  "), None, None),
            (None, None, None),
        ] {
            let person = person(name);
            assert_eq!((person.first_name.as_deref(), person.last_name.as_deref()), (first, last), "{name:?}");
        }
    }

    #[test]
    fn blank_fields_are_left_out() {
        let templates = templates(&[
            ("Company", "{{ name or 'Unknown' }}"),
            ("FirstName", "{{ first_name }}"),
            ("LeadSource", "TextUs"),
            ("Note__c", "{{ phones | join(', ') }} {{ contact_id }}"),
        ]);
        let expected = [("Company", "Unknown"), ("LeadSource", "TextUs"), ("Note__c", "+14155550123 AbC123")];
        let expected = expected.map(|(field, text)| (field.to_owned(), text.to_owned()));
        assert_eq!(fields(&templates, &person(None)).unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn text_is_not_escaped() {
        let templates = templates(&[("lastname", "{{ name }}")]);
        assert_eq!(fields(&templates, &person(Some("O'Neil & <Sons>"))).unwrap()["lastname"], "O'Neil & <Sons>");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (template, expected) in [
            ("{{ name ", "line 1, column"),
            ("a\n{{ name | shout }}", "line 2, column"),
            ("{{ nick_name }}", "`nick_name`"),
        ] {
            let error = check(template).unwrap_err().to_string();
            assert!(error.contains(expected), "{template}: {error}");
        }
        check("{{ first_name or last_name or phone }}").unwrap();
    }
}
