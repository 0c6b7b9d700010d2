//! Secrets as command-line arguments; naming a variable or a file is better than writing the secret itself.

use std::path::Path;

use hookline_common::secret::Secret;

use crate::open::wrong_usage;

/// Resolves a flag's value: the text itself, `env:NAME` or `file:PATH`.
///
/// # Errors
/// Wrong usage if the secret is missing or empty.
pub fn given(flag: &str, text: &str) -> anyhow::Result<Secret> {
    let secret = if let Some(name) = text.strip_prefix("env:") {
        variable(name).ok_or_else(|| wrong_usage(format!("{flag}: the variable {name} is not set")))?
    } else if let Some(path) = text.strip_prefix("file:") {
        return in_file(Path::new(path));
    } else {
        Secret::new(text)
    };
    if secret.expose().is_empty() { Err(wrong_usage(format!("{flag} is empty"))) } else { Ok(secret) }
}

#[expect(clippy::disallowed_methods, reason = "the user names the variable on the command line; it is not a setting")]
fn variable(name: &str) -> Option<Secret> {
    std::env::var(name).ok().map(Secret::new)
}

/// Reads a file without its trailing line breaks.
pub(crate) fn in_file(path: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong_usage(format!("cannot read the secret in {}: {error}", path.display())))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong_usage(format!("{} is empty: it should hold a secret", path.display()))),
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::WrongUsage;

    #[test]
    fn a_secret_is_a_text_or_a_file_without_its_last_line_end() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "textus-abc\n").expect("written");

        let from_file = given("--secret", &format!("file:{}", file.path().display())).expect("readable");

        assert_eq!(from_file.expose(), "textus-abc");
        assert_eq!(given("--secret", "textus-abc").expect("a text").expose(), "textus-abc");
    }

    #[test]
    fn a_secret_that_is_not_there_is_wrong_usage() {
        for text in ["", "file:/nonexistent/secret", "env:HOOKLINE_NO_SUCH_VARIABLE"] {
            let error = given("--secret", text).expect_err(text);
            assert!(error.is::<WrongUsage>(), "{text}");
        }
    }
}
