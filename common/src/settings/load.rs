//! Finds the configuration, reads it, and reports every problem at once.

use std::path::{Path, PathBuf};

use super::declare::Table;
use super::environment::{CONFIG_VARIABLE, Environment};
use super::problem::{Location, Problem, Problems};
use super::source::{Source, line_of};
use super::visit::Visit;
use super::{Settings, check, unknown};

/// Secrets that only workers use.
const WORKER_SECRETS: [&str; 6] = [
    "textus.token",
    "system_of_record.hubspot.token",
    "system_of_record.salesforce.client_id",
    "system_of_record.salesforce.client_secret",
    "system_of_record.salesforce.jwt_key",
    "system_of_record.http.secrets",
];
/// The file that is read, if it exists, when neither `--config` nor the environment names one.
const DEFAULT_FILE: &str = "hookline.toml";

#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// `None` if only the defaults and the environment were read.
    pub file: Option<PathBuf>,
    /// The file as it was read, for [`load_again`].
    pub text: ConfigText,
    /// Settings that work but deserve attention.
    pub warnings: Vec<Problem>,
}

/// The text of a configuration file. It may hold secrets, so `Debug` shows none of it.
#[derive(Clone)]
pub struct ConfigText(String);

impl std::fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigText").finish_non_exhaustive()
    }
}

/// What a program does, and hence which keys it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The program receives webhooks, so it needs at least one source.
    pub ingest: bool,
    /// The program calls APIs, so it needs an account and a token if an enabled handler uses them.
    pub worker: bool,
    pub role: Role,
    /// The program uses the certificates that the configuration names, so they are read and checked.
    pub certificates: bool,
}

/// The program that loads the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Any other command of `hookline`.
    Command,
    /// `hookline run`, which holds everything in one process.
    Run,
    /// `hookline dev`, and the commands that read its data with `--dev`. No secret is read, whatever the file names.
    Dev,
    /// `hookline-ingest`.
    Ingest,
    /// `hookline-worker`.
    Worker,
}

impl Needs {
    /// The needs of commands that read the store or the queues. An `env:` or `file:` secret of ingest or a worker that
    /// such a command cannot read is only a warning, and its source or token is left out of the settings.
    pub const NOTHING: Self = Self { ingest: false, worker: false, role: Role::Command, certificates: false };
    pub const RUN: Self = Self { ingest: true, worker: true, role: Role::Run, certificates: true };
    pub const DEV: Self = Self { ingest: false, worker: false, role: Role::Dev, certificates: false };
    pub const INGEST: Self = Self { ingest: true, worker: false, role: Role::Ingest, certificates: true };
    pub const WORKER: Self = Self { ingest: false, worker: true, role: Role::Worker, certificates: true };

    /// Whether the program works without this secret. One file serves several programs, and each of them can read only
    /// its own secrets.
    pub(super) fn can_spare(self, path: &str) -> bool {
        let webhook_secrets = path.starts_with("sources.") && path.ends_with(".secrets");
        (webhook_secrets && !self.ingest) || (WORKER_SECRETS.contains(&path) && !self.worker)
    }
}

/// Reads the configuration from the file `config` (from `--config`), else from the file that `HOOKLINE_CONFIG` names,
/// else from `./hookline.toml` if it exists, else from the defaults. The variables `HOOKLINE__SECTION__KEY` win over
/// all of these.
///
/// # Errors
/// Returns every problem at once. If the file is not TOML, only that is reported, because nothing else in it can be
/// trusted.
pub fn load(config: Option<&Path>, needs: Needs) -> Result<Loaded, Problems> {
    load_from(config, needs, &Environment::of_this_process())
}

/// Reads what the values of a loaded file refer to (`file:`, `env:`) anew, whatever has become of the file itself.
///
/// # Errors
/// As [`load`].
pub fn load_again(loaded: &Loaded, needs: Needs) -> Result<Loaded, Problems> {
    resolve(loaded.file.clone(), loaded.text.0.clone(), needs, &Environment::of_this_process())
}

pub(super) fn load_from(config: Option<&Path>, needs: Needs, environment: &Environment) -> Result<Loaded, Problems> {
    let file = choose(config, environment).map_err(|problem| Problems::new(vec![problem]))?;
    let text = match &file {
        Some(file) => read(file).map_err(|problem| Problems::new(vec![problem]))?,
        None => String::new(),
    };
    resolve(file, text, needs, environment)
}

/// Parses the text of the file, and resolves its values.
fn resolve(file: Option<PathBuf>, text: String, needs: Needs, environment: &Environment) -> Result<Loaded, Problems> {
    let source = match &file {
        Some(file) => Some(Source::parse(file, &text).map_err(Problems::new)?),
        None => None,
    };

    let mut settings = Settings::defaults();
    let mut visit = Visit::reading(source.as_ref(), environment, needs);
    settings.walk(&mut visit);
    complete(&mut settings);
    check::check(&mut visit, &settings, needs);

    let mut problems = std::mem::take(&mut visit.problems);
    let (unknown_keys, retired_keys) = source.as_ref().map(unknown::in_file).unwrap_or_default();
    let (unknown_variables, retired_variables) = unknown::in_environment(&visit);
    problems.extend(unknown_keys.into_iter().chain(unknown_variables));
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    // Only a spared source comes this far without a secret; in `dev` every source does.
    let spared = settings.sources.iter().filter(|source| source.secrets.is_empty());
    settings.spared_sources = spared.map(|source| source.name.clone()).collect();
    settings.sources.retain(|source| !source.secrets.is_empty());
    let mut warnings = visit.warnings;
    warnings.extend(retired_keys.into_iter().chain(retired_variables));
    warnings.sort();
    warnings.dedup();
    Ok(Loaded { settings, file, text: ConfigText(text), warnings })
}

/// Gives a handler that names no accounts the account of `[textus]`.
fn complete(settings: &mut Settings) {
    let account = &settings.textus.account;
    let handlers = &mut settings.handlers;
    for accounts in [&mut handlers.record_opt_out.accounts, &mut handlers.create_contact.accounts] {
        if accounts.is_empty() && !account.is_empty() {
            accounts.push(account.clone());
        }
    }
}

fn choose(config: Option<&Path>, environment: &Environment) -> Result<Option<PathBuf>, Problem> {
    if let Some(config) = config {
        return Ok(Some(config.to_owned()));
    }
    match environment.get(CONFIG_VARIABLE) {
        Some(Ok("")) | None => Ok(Some(environment.folder.join(DEFAULT_FILE)).filter(|file| file.exists())),
        Some(Ok(file)) => Ok(Some(PathBuf::from(file))),
        Some(Err(_)) => {
            let at = Location::Variable(CONFIG_VARIABLE.to_owned());
            Err(Problem::new(at, "not UTF-8", "name the file with --config"))
        }
    }
}

fn read(file: &Path) -> Result<String, Problem> {
    let at = |line| Location::File { path: file.to_owned(), line };
    let bytes = std::fs::read(file).map_err(|error| {
        let what = format!("cannot be read ({})", error.kind());
        Problem::new(at(None), what, "name a readable file with --config or HOOKLINE_CONFIG")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = line_of(std::str::from_utf8(valid).unwrap_or_default(), valid.len());
        Problem::new(at(Some(line)), "not UTF-8", "save the file as UTF-8")
    })
}
