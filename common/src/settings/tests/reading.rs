use std::time::Duration;

use super::*;
use crate::secret::Secret;

/// The needs of ingest, without the broker that `hookline-ingest` shares with others.
const INGEST_ALONE: Needs = Needs { ingest: true, worker: false, role: Role::Run, certificates: false };

#[test]
fn an_empty_file_and_no_file_are_the_defaults() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let no_file = load_from(None, Needs::NOTHING, &Environment::of(nowhere.path(), &[])).expect("defaults");

    assert_eq!(settings("", &[]), Settings::defaults());
    assert_eq!(no_file.settings, Settings::defaults());
    assert_eq!(no_file.file, None);
}

#[test]
fn the_argument_wins_over_the_variable_and_the_variable_over_the_default_file() {
    let folder = Folder::with("data_dir = \"default\"");
    let named = folder.write("named.toml", b"data_dir = \"variable\"");
    let argument = folder.write("argument.toml", b"data_dir = \"argument\"");
    let variables = [("HOOKLINE_CONFIG", named.to_str().expect("text"))];
    let by = |config: Option<&Path>, variables: &[(&str, &str)]| {
        let loaded = load_from(config, Needs::NOTHING, &Environment::of(folder.0.path(), variables)).expect("loaded");
        loaded.settings.data_dir
    };

    assert_eq!(by(Some(&argument), &variables), Path::new("argument"));
    assert_eq!(by(None, &variables), Path::new("variable"));
    assert_eq!(by(None, &[]), Path::new("default"));
    assert_eq!(by(None, &[("HOOKLINE_CONFIG", "")]), Path::new("default"));
}

#[test]
fn every_form_of_a_value_is_read() {
    let settings = settings(
        r#"
        shutdown_grace = "1h30m"
        [ingest]
        listen = "[::1]:0"
        max_body_bytes = 65536
        spool_max_bytes = "2GiB"
        on_broker_outage = "reject"
        tls = { cert = "c.pem", key = "k.pem" }
        [textus]
        base_url = "http://127.0.0.1:9000/api/"
        account = "acme"
        opt_out_reserve = 1
        breaker.open_min = "250ms"
        [handlers]
        log_note = { enabled = false, message_lookup = "none", retry = { max_attempts = 7 } }
        create_contact.accounts = ["a.b", "c"]
        [system_of_record.authors]
        "ana.rivera@acme.example" = "005Hp00000abcDEF"
        "Jo Doe" = 41629779
        [system_of_record]
        templates.person = { Company = "{{ name or 'Unknown' }}" }
        "#,
        &[],
    );

    assert_eq!(settings.shutdown_grace, Duration::from_mins(90));
    assert_eq!(settings.ingest.listen, "[::1]:0".parse().unwrap());
    assert_eq!(settings.ingest.max_body_bytes, 65_536);
    assert_eq!(settings.ingest.spool_max_bytes, 2 << 30);
    assert_eq!(settings.ingest.on_broker_outage, OnBrokerOutage::Reject);
    assert_eq!(settings.ingest.tls.files(), Some((Path::new("c.pem"), Path::new("k.pem"))));
    assert_eq!(settings.textus.base_url.as_str(), "http://127.0.0.1:9000/api");
    assert!((settings.textus.opt_out_reserve - 1.0).abs() < f64::EPSILON);
    assert_eq!(settings.textus.breaker.open_min, Duration::from_millis(250));
    assert!(!settings.handlers.log_note.basics.enabled);
    assert_eq!(settings.handlers.log_note.basics.retry.max_attempts, 7);
    assert_eq!(settings.handlers.create_contact.accounts, ["a.b", "c"]);
    assert_eq!(settings.handlers.record_opt_out.accounts, ["acme"], "left out: the account of [textus]");
    assert_eq!(settings.handlers.record_opt_out.keywords, crate::keywords::STOP, "left out: the usual ones");
    let record = &settings.system_of_record;
    let authors: Vec<_> = record.authors.iter().map(|(user, owner)| (user.as_str(), owner.as_str())).collect();
    assert_eq!(authors, [("Jo Doe", "41629779"), ("ana.rivera@acme.example", "005Hp00000abcDEF")]);
    assert_eq!(record.templates.person["Company"], "{{ name or 'Unknown' }}");
}

#[test]
fn a_variable_holds_a_table_of_names() {
    let authors = |text: &str| settings("", &[("HOOKLINE__SYSTEM_OF_RECORD__AUTHORS", text)]).system_of_record.authors;
    assert_eq!(authors(r#"{ "ana@acme.example" = "7", jo = 8 }"#).len(), 2);
    assert_eq!(authors(" ").len(), 0);

    for wrong in ["ana@acme.example=7", "[\"a\"]", "{ \"a\" = 1, \"a\" = 2 }"] {
        let found = problems("", Needs::RUN, &[("HOOKLINE__SYSTEM_OF_RECORD__AUTHORS", wrong)]);
        assert!(found.iter().any(|(_, problem)| problem.contains("authors is not a table in braces")), "{found:?}");
    }
}

#[test]
fn the_environment_wins_over_the_file_for_every_kind_of_key() {
    let settings = settings(
        "data_dir = \"file\"\n[[sources]]\nname = \"first\"\nsecrets = [\"env:NOT_SET\"]\n",
        &[
            ("HOOKLINE__DATA_DIR", "variable"),
            ("HOOKLINE__INGEST__LISTEN", "0.0.0.0:80"),
            ("HOOKLINE__INGEST__MAX_IN_FLIGHT", "8"),
            ("HOOKLINE__HANDLERS__LOG_NOTE__RETRY__INITIAL", "250ms"),
            ("HOOKLINE__HANDLERS__LOG_NOTE__ENABLED", "false"),
            ("HOOKLINE__TEXTUS__BREAKER__OPEN_MIN", "1s"),
            ("HOOKLINE__TEXTUS__OPT_OUT_RESERVE", "0.5"),
            ("HOOKLINE__HANDLERS__CREATE_CONTACT__ACCOUNTS", "a, b"),
            ("HOOKLINE__HANDLERS__RECORD_OPT_OUT__ACCOUNTS", "[\"c\", \"env:ACCOUNT\"]"),
            ("ACCOUNT", "d"),
            ("HOOKLINE__SOURCES__0__SECRETS", "env:ONE, env:TWO"),
            ("ONE", "one\n"),
            ("TWO", "two"),
            ("HOOKLINE__SOURCES__1__NAME", "second"),
            ("HOOKLINE__SOURCES__1__SECRETS", SECRET),
        ],
    );

    assert_eq!(settings.data_dir, Path::new("variable"));
    assert_eq!(settings.ingest.listen, "0.0.0.0:80".parse().unwrap());
    assert_eq!(settings.ingest.max_in_flight, 8);
    assert_eq!(settings.handlers.log_note.basics.retry.initial, Duration::from_millis(250));
    assert!(!settings.handlers.log_note.basics.enabled);
    assert_eq!(settings.textus.breaker.open_min, Duration::from_secs(1));
    assert!((settings.textus.opt_out_reserve - 0.5).abs() < f64::EPSILON);
    assert_eq!(settings.handlers.create_contact.accounts, ["a", "b"]);
    assert_eq!(settings.handlers.record_opt_out.accounts, ["c", "d"]);
    assert_eq!(settings.sources[0].secrets, [Secret::new("one"), Secret::new("two")]);
    assert_eq!(settings.sources[1].name.as_str(), "second");
    assert_eq!(settings.sources[1].secrets, [Secret::new(SECRET)]);
}

#[test]
fn any_value_may_come_from_a_variable_or_a_file() {
    let folder = Folder::with("");
    let secret = folder.write("secret", b"line one\nline two\r\n");
    folder.write(
        "hookline.toml",
        format!(
            "data_dir = \"env:DIR\"\n[ingest]\nmax_in_flight = \"env:N\"\n[handlers.log_note]\nenabled = \"env:ON\"\n\
             [[sources]]\nname = \"textus\"\nsecrets = [\"env:HOOK\", 'file:{}']\n",
            secret.display()
        )
        .as_bytes(),
    );
    let variables = [("DIR", "there"), ("N", "3"), ("ON", "false"), ("HOOK", "a,b")];
    let settings = folder.load(INGEST_ALONE, &variables).expect("loaded").settings;

    assert_eq!(settings.data_dir, Path::new("there"));
    assert_eq!(settings.ingest.max_in_flight, 3);
    assert!(!settings.handlers.log_note.basics.enabled);
    assert_eq!(settings.sources[0].secrets, [Secret::new("a,b"), Secret::new("line one\nline two")]);
}

#[test]
fn a_program_is_not_stopped_by_a_secret_that_another_one_uses() {
    let text = "[textus]\naccount = \"acme\"\ntoken = \"env:TOKEN\"\n[[sources]]\nname = \"textus\"\nsecrets = [\"env:HOOK\"]\n";

    let ingest = Folder::with(text).load(INGEST_ALONE, &[("HOOK", SECRET)]).expect("no token needed");
    assert_eq!(ingest.settings.textus.token, None);
    assert_eq!(ingest.settings.sources.len(), 1);
    assert_eq!(ingest.warnings.len(), 1, "{:?}", ingest.warnings);

    let command = Folder::with(text).load(Needs::NOTHING, &[]).expect("no secret needed");
    assert!(command.settings.sources.is_empty());
    assert_eq!(command.warnings.len(), 2, "{:?}", command.warnings);

    assert_eq!(problems(text, Needs::RUN, &[]).len(), 2);
}

#[test]
fn dev_reads_no_secret_whatever_the_file_names() {
    let folder = Folder::with("");
    let production = folder.write("production", SECRET.as_bytes());
    let text = format!(
        "[broker]\nurl = \"env:BROKER\"\n[store]\nurl = \"postgres://u:{SECRET}@h/db\"\nledger_key = \"env:NOT_SET\"\n\
         [textus]\naccount = \"acme\"\ntoken = 'file:{}'\n[[sources]]\nname = \"textus\"\nsecrets = [\"{SECRET}\"]\n",
        production.display()
    );
    folder.write("hookline.toml", text.as_bytes());

    let loaded = folder.load(Needs::DEV, &[("BROKER", "amqp://u:secret@h")]).expect("no secret needed");

    let settings = &loaded.settings;
    assert_eq!((settings.textus.account.as_str(), &settings.textus.token), ("acme", &None));
    assert!(settings.broker.url.is_empty() && settings.store.url.is_none() && settings.store.ledger_key.is_none());
    assert!(settings.sources.is_empty());
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told.iter().all(|line| line.contains("is ignored by `dev`")), "{told:?}");
}

#[test]
fn a_secret_written_in_the_file_is_warned_about() {
    let text = format!("[[sources]]\nname = \"textus\"\nsecrets = [\"{SECRET}\"]\n");
    let loaded = Folder::with(&text).load(Needs::NOTHING, &[]).expect("loaded");

    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert!(warning.to_string().contains("hookline.toml:3: sources.0.secrets holds the secret itself;"), "{warning}");
    assert!(!format!("{loaded:?}").contains(SECRET));
}

#[test]
fn a_table_that_earlier_versions_had_is_taken_with_a_warning() {
    let loaded = Folder::with("[console]\nlisten = \"127.0.0.1:8081\"\ntoken = \"env:CONSOLE_TOKEN\"\n")
        .load(Needs::NOTHING, &[("HOOKLINE__CONSOLE__LISTEN", "127.0.0.1:0")])
        .expect("the table did nothing, so it stops nothing");

    let [table, variable] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert!(table.to_string().contains("hookline.toml:1: console is not used any more; take it out"), "{table}");
    assert!(variable.to_string().contains("HOOKLINE__CONSOLE__LISTEN is not used any more; unset it"), "{variable}");
}

#[test]
fn the_summary_has_every_key_and_no_secret() {
    let settings = settings(
        &format!(
            "[textus]\ntoken = \"{SECRET}\"\n[store]\nledger_key = \"{SECRET}\"\n\
             [[sources]]\nname = \"textus\"\nsecrets = [\"{SECRET}\", \"{SECRET}2\"]\n"
        ),
        &[],
    );
    let summary = settings.describe();
    let value = |key: &str| summary.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());

    assert_eq!(value("ingest.max_body_bytes"), Some("1MiB"));
    assert_eq!(value("textus.base_url"), Some("https://next.textus.com"));
    assert_eq!(value("textus.token"), Some("***"));
    assert_eq!(value("sources.0.secrets"), Some("***, ***"));
    assert_eq!(value("store.url"), Some("(not set)"));
    assert!(!format!("{summary:?}{settings:?}").contains(SECRET));
}
