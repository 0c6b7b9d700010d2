//! Hookline as one run has it: a configuration with short times, `hookline run`, on RabbitMQ and PostgreSQL a
//! `hookline-worker` beside it, and the stand-in for TextUs.

use std::sync::Mutex;
use std::time::Duration;

use hookline_common::testing::nodes::{PostgresNode, RabbitNode};
use hookline_e2e::{ACCOUNT, AllInOne, HOOKLINE_WORKER, Process, Running, SECOND_ACCOUNT, SECRET, eventually};
use hookline_sandbox::samples::sign;
use hookline_sandbox::{HubSpot, WebhookTarget};
use serde_json::Value;

use crate::crm;
use crate::plan::{Below, Plan};

pub(crate) const TIMEOUT: Duration = Duration::from_millis(400);
/// For how long a worker's claim on a PUT is believed that was killed meanwhile: three time-outs and five seconds.
pub(crate) const LEASE: Duration = Duration::from_millis(3 * 400 + 5_000);
pub(crate) const PAUSED_PROBE: Duration = Duration::from_secs(3);
pub(crate) const OPEN_MAX: Duration = Duration::from_millis(1_500);
/// What [`AllInOne`] configures; the shortest delay of RabbitMQ is longer.
pub(crate) const RETRY_MAX: Duration = Duration::from_millis(500);
pub(crate) const SHORTEST_TIER: Duration = Duration::from_secs(1);
const SECOND_SECRET: &str = "textus-synthetic-secret-that-came-later";
const LEDGER_KEY: &str = "synthetic-ledger-key-of-the-mixed-lane-0123456789";

pub(crate) struct Stage {
    pub(crate) all_in_one: AllInOne,
    pub(crate) crm: Option<HubSpot>,
    below: Below,
    vhost: Option<String>,
    running: Option<Running>,
    second: Option<Process>,
    secret: Mutex<&'static str>,
    /// What processes that have ended wrote.
    written: Vec<String>,
}

impl Stage {
    pub(crate) async fn set(plan: &Plan) -> Self {
        let (more, vhost) = match plan.below {
            Below::OneMachine => (String::new(), None),
            Below::RabbitMqAndPostgres => {
                let node = RabbitNode::shared().await;
                let (vhost, store) = (node.new_vhost().await, PostgresNode::shared().await.database().await);
                let broker = node.url_of(&vhost);
                (format!("[broker]\nurl = \"{broker}\"\n[store]\nurl = \"{store}\"\n"), Some(vhost))
            }
        };
        let mut all_in_one = AllInOne::with(|options| options.marked = plan.is_sandbox, &more).await;
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        for (name, value) in [
            ("TEXTUS__TIMEOUT", millis(TIMEOUT)),
            ("TEXTUS__PAUSED_PROBE", millis(PAUSED_PROBE)),
            // Few probes: who gets them matters.
            ("TEXTUS__BREAKER__OPEN_MIN", "1200ms".to_owned()),
            ("TEXTUS__BREAKER__OPEN_MAX", millis(OPEN_MAX)),
            ("STORE__LEDGER_KEY", LEDGER_KEY.to_owned()),
            ("HANDLERS__LOG_NOTE__NOT_FOUND_GRACE", "1s".to_owned()),
            ("HANDLERS__CREATE_CONTACT__ACCOUNTS", SECOND_ACCOUNT.to_owned()),
        ] {
            all_in_one.set(&format!("HOOKLINE__{name}"), &value);
        }
        let crm = match &plan.crm {
            Some(crm) => Some(crm.start().await),
            None => None,
        };
        for (name, value) in crm.iter().flat_map(crm::settings) {
            all_in_one.set(&format!("HOOKLINE__{name}"), &value);
        }
        let mut stage = Self {
            all_in_one,
            crm,
            below: plan.below,
            vhost,
            running: None,
            second: None,
            secret: Mutex::new(SECRET),
            written: Vec::new(),
        };
        stage.use_accounts(plan.accounts);
        stage
    }

    /// The accounts that opt-outs are PUT to, from the next start on.
    pub(crate) fn use_accounts(&mut self, count: usize) {
        let accounts = [ACCOUNT, SECOND_ACCOUNT][..count].join(", ");
        self.all_in_one.set("HOOKLINE__HANDLERS__RECORD_OPT_OUT__ACCOUNTS", &accounts);
    }

    pub(crate) async fn start(&mut self) {
        self.running = Some(self.all_in_one.run().await);
        self.point_echoes();
        if self.below == Below::RabbitMqAndPostgres {
            let mut command = self.all_in_one.program(HOOKLINE_WORKER, &[]);
            command.env("HOOKLINE__DATA_DIR", self.all_in_one.dir().join("second"));
            let mut second = Process::start(command);
            second.line("hookline.started", |line| line.contains("hookline.started").then_some(())).await;
            self.second = Some(second);
        }
    }

    /// Ends every process: at once, or when it has drained.
    pub(crate) async fn stop(&mut self, is_kill: bool) {
        let processes = self.running.take().map(|running| running.process).into_iter().chain(self.second.take());
        for process in processes {
            let ended = if is_kill {
                process.kill().await
            } else {
                process.terminate();
                process.ended(Duration::from_secs(40)).await
            };
            self.written.extend([ended.stdout, ended.stderr]);
        }
    }

    /// Everything that processes have written.
    pub(crate) fn written(&self) -> Vec<String> {
        let mut written = self.written.clone();
        for process in self.running.iter().map(|running| &running.process).chain(&self.second) {
            written.extend(process.stdout());
            written.extend(process.stderr());
        }
        written
    }

    /// The next secret signs, and the one before counts still.
    pub(crate) async fn rotate_secret(&self) {
        let text = std::fs::read_to_string(self.all_in_one.config()).expect("readable");
        let (one, both) = (format!("[\"{SECRET}\"]"), format!("[\"{SECOND_SECRET}\", \"{SECRET}\"]"));
        std::fs::write(self.all_in_one.config(), text.replace(&one, &both)).expect("written");
        if let Some(running) = &self.running {
            running.process.hang_up();
            eventually("the new secret counts", async || {
                let body = br#"{"action":"mixed.rotated","id":"/integrations/Lp4Xv9/deliveries/rotated"}"#;
                let answer = self.all_in_one.sender.post_signed(body, &sign(SECOND_SECRET, body)).await;
                answer.is_ok_and(|answer| answer.status == 200).then_some(())
            })
            .await;
        }
        *self.secret.lock().expect("no panic under the lock") = SECOND_SECRET;
        self.point_echoes();
    }

    fn point_echoes(&self) {
        if let Some(running) = &self.running {
            let secret = self.secret().to_owned();
            self.all_in_one.sandbox.set_webhook(WebhookTarget { url: running.webhooks.clone(), secret });
        }
    }

    pub(crate) fn secret(&self) -> &'static str {
        *self.secret.lock().expect("no panic under the lock")
    }

    /// The document that a command prints; `None` where it fails.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Option<Value> {
        let ran = self.all_in_one.cli(&[arguments, &["--json"]].concat()).await;
        (ran.code == Some(0)).then(|| serde_json::from_str(&ran.stdout).ok()).flatten()
    }

    /// The rows of a list, all of them.
    pub(crate) async fn rows(&self, list: &[&str], key: &str) -> Vec<Value> {
        self.all_in_one.rows(list, key).await
    }

    /// What lies in `hookline.delay` finds no way back, until the topology is declared again.
    pub(crate) async fn unroute(&self) {
        let Some(vhost) = &self.vhost else { return };
        let unbind = format!(
            "[rabbit_binding:remove(B, <<\"e2e\">>) || B <- rabbit_binding:list_for_source(rabbit_misc:r(<<\"{vhost}\">>, \
             exchange, <<\"hookline.work\">>))], ok."
        );
        RabbitNode::shared().await.ctl(&["eval", &unbind]).await;
    }

    pub(crate) async fn route(&self) {
        if self.vhost.is_some() {
            self.all_in_one.cli(&["topology", "--apply"]).await;
            self.all_in_one.cli(&["unrouted", "redrive"]).await;
        }
    }

    /// Makes room for the next run.
    pub(crate) async fn strike(mut self) {
        self.stop(true).await;
        self.all_in_one.sandbox.stop().await;
        if let Some(crm) = &self.crm {
            crm.stop().await;
        }
        if let Some(vhost) = &self.vhost {
            RabbitNode::shared().await.ctl(&["delete_vhost", vhost]).await;
        }
    }
}
