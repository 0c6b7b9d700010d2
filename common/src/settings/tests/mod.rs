//! Tests of the loader as its callers see it: what takes precedence, what is reported, and what is never shown.

mod bad_input;
mod certificates;
mod files;
mod reading;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::environment::Environment;
use super::load::load_from;
use super::*;

const SECRET: &str = "s3cret-0f-the-h00k";

/// A folder with a `hookline.toml` in it.
struct Folder(TempDir);

impl Folder {
    fn with(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        folder.write("hookline.toml", text.as_bytes());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn load(&self, needs: Needs, variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
        load_from(None, needs, &Environment::of(self.0.path(), variables))
    }
}

fn settings(text: &str, variables: &[(&str, &str)]) -> Settings {
    Folder::with(text).load(Needs::NOTHING, variables).expect("a good configuration").settings
}

/// The line and the text of each problem; the line is 0 outside the file.
fn problems(text: &str, needs: Needs, variables: &[(&str, &str)]) -> Vec<(usize, String)> {
    let folder = Folder::with(text);
    let found = folder.load(needs, variables).expect_err(text);
    let line = |problem: &Problem| match &problem.location {
        Location::File { line, .. } => line.unwrap_or(0),
        Location::Variable(_) | Location::Configuration => 0,
    };
    found.iter().map(|problem| (line(problem), problem.to_string())).collect()
}
