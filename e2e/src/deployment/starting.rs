//! The configuration and the limits with which a deployment's processes start.

use tokio::process::Command;

use super::{BROKER_PASSWORD, BROKER_USER, Deployment, LEDGER_KEY};
use crate::all_in_one::{ACCOUNT, SECOND_ACCOUNT, SECRET, TOKEN};

impl Deployment<'_> {
    /// The configuration. Its times are short, so that tests that wait for them end; everything else is as shipped.
    pub(super) fn configuration(&self, more: &str) -> String {
        let retry = |handler: &&str| format!("[handlers.{handler}.retry]\ninitial = \"50ms\"\nmax = \"500ms\"\n");
        let retries: String = crate::HANDLERS.iter().filter(|name| **name != "record_history").map(retry).collect();
        let broker = |address| format!("\"amqp://{BROKER_USER}:{BROKER_PASSWORD}@{address}/{}\"", self.vhost);
        let brokers: Vec<String> = self.brokers.iter().map(broker).collect();
        format!(
            "data_dir = \"{data}\"\n\
             shutdown_grace = \"20s\"\n\
             [ingest]\nlisten = \"127.0.0.1:0\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [broker]\nurl = [{brokers}]\n\
             [store]\n{store}ledger_key = \"{LEDGER_KEY}\"\n\
             [log]\nformat = \"json\"\n\
             [[sources]]\nname = \"textus\"\nkind = \"textus\"\nsecrets = [\"{SECRET}\"]\n\
             [textus]\nbase_url = \"{api}\"\naccount = \"{ACCOUNT}\"\ntoken = \"{TOKEN}\"\n\
             paused_probe = \"1s\"\n\
             {retries}[handlers.create_contact]\naccounts = [\"{SECOND_ACCOUNT}\"]\n{more}",
            data = self.dir.path().join("data").display(),
            brokers = brokers.join(", "),
            store = if self.store.is_empty() { String::new() } else { format!("url = \"{}\"\n", self.store) },
            api = self.api,
        )
    }
}

/// Wraps a command so that it runs under `ulimit -n`.
pub(super) fn limited(command: &Command, files: u32) -> Command {
    let command = command.as_std();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string()]);
    limited.arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    limited
}
