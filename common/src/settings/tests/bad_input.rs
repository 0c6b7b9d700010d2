use super::*;

/// A valid configuration for `run`, to which each test adds one mistake.
const GOOD: &str = "[textus]
account = \"acme\"
token = \"env:TOKEN\"
[[sources]]
name = \"textus\"
secrets = [\"env:HOOK\"]
";
const VARIABLES: [(&str, &str); 2] = [("TOKEN", SECRET), ("HOOK", SECRET)];

/// The text below `GOOD`, from line 7 on; the line of the only problem; its message.
#[rustfmt::skip]
const MISTAKES: &[(&str, usize, &str)] = &[
    ("[ingest]\nlisten_on = 1", 8, "unknown key ingest.listen_on; did you mean ingest.listen?"),
    ("[ingset]\nlisten = \"127.0.0.1:1\"", 7, "unknown key ingset; did you mean ingest?"),
    ("[log]\nretention = \"7d\"", 8, "unknown key log.retention; did you mean store.retention?"),
    ("[handlers.log_notes]", 7, "unknown key handlers.log_notes; did you mean handlers.log_note?"),
    ("[log]\n\"a\\nb\" = 1", 8, "unknown key log.a\\nb;"),
    ("[ingest]\nlisten = \"localhost\"", 8, "ingest.listen is \"localhost\", not an address; write an IP address and a port such as"),
    ("[ingest]\nmax_body_bytes = \"1MB\"", 8, "ingest.max_body_bytes is \"1MB\", not a size in bytes; write a size from \"1KiB\" to \"8MiB\""),
    ("[ingest]\nmax_body_bytes = \"9MiB\"", 8, "ingest.max_body_bytes is \"9MiB\", outside 1KiB to 8MiB;"),
    ("[ingest]\nmax_body_bytes = 99999999999999999999", 8, "outside 1KiB to 8MiB;"),
    ("[ingest]\nmax_buffered_bytes = \"1MiB\"", 8, "ingest.max_buffered_bytes is below twice ingest.max_body_bytes, so"),
    ("[ingest]\nrequest_timeout = 10", 8, "ingest.request_timeout is 10, not a duration; write a duration of at least \"1ms\""),
    ("[ingest]\nrequest_timeout = \"10 sec\"", 8, "is \"10 sec\", not a duration;"),
    ("[ingest]\non_broker_outage = \"drop\"", 8, "is \"drop\", not one of the allowed values; write \"spool\" or \"reject\""),
    ("[ingest]\ntls = { cert = \"a\" }", 8, "ingest.tls.key is missing; add it, or take ingest.tls.cert out"),
    ("[admin]\nlisten = \"127.0.0.1:8080\"", 8, "admin.listen is ingest.listen too; give each its own port"),
    ("[store]\nledger_key = \"\"", 8, "store.ledger_key is empty; set it"),
    ("[store]\nledger_key = 5", 8, "store.ledger_key is not a text; write \"env:NAME\" or \"file:PATH\""),
    ("[store]\nretention = \"12h\"", 8, "store.retention is \"12h\", outside 1d to 3650d; write a duration of at least \"1d\""),
    ("[broker]\nurl = \"http://user:s3cret-0f-the-h00k@host\"", 8, "broker.url is not an amqp:// or amqps:// URL; write an address such as"),
    ("[broker]\nurl = \"amqp://user:s3cret-0f-the-h00k@\"", 8, "broker.url is not an amqp:// or amqps:// URL; write"),
    ("[broker]\nurl = \"amqp://user:s3cret-0f-the-h00k@host?heartbeat=60\"", 8, "broker.url is a URL with a query; take out what begins with ?"),
    ("[broker]\nurl = \"amqp://user:s3cret-0f-the-h00k@host/\"", 8, "broker.url is a URL with an empty virtual host; take the last / out"),
    ("[broker]\nurl = \"amqp://user:s3cret-0f-the-h00k@host/a/b\"", 8, "broker.url is a URL whose virtual host has a / in its name; write %2F"),
    ("[broker]\nurl = \"amqp://user:s3cret-0f-the-h00k@[::1]\"", 8, "broker.url is a URL with an IPv6 address; write a host name"),
    ("[broker]\nurl = \"amqp://guest:s3cret-0f-the-h00k@rabbit.example\"", 8, "broker.url is a URL of the user guest, whom RabbitMQ takes from its own machine only; make a user"),
    ("[broker]\nurl = \"amqps://rabbit.example\"", 8, "broker.url is a URL of the user guest"),
    ("[broker]\nurl = [\"amqp://localhost\",\n\"amqp://guest@10.0.0.1\"]", 9, "broker.url is a URL of the user guest"),
    ("[broker]\nurl = \"amqp://localhost\"\n[handlers.record_history]\nenabled = false", 10, "record_history is switched off, and the queues are in RabbitMQ"),
    ("[handlers.log_note]\nconcurrency = 0", 8, "concurrency is 0, outside 1 to 1000; write a whole number from 1 to 1000"),
    ("[handlers.log_note]\nconcurrency = \"8\"", 8, "concurrency is \"8\", not a whole number; write a whole number from 1 to 1000, without quotes"),
    ("[handlers.log_note]\nenabled = \"yes\"", 8, "is \"yes\", not true or false; write true or false, without quotes"),
    ("[handlers.log_note]\nmessage_lookup = [\"auto\"]", 8, "is a list, not one of the allowed values; write \"auto\" or"),
    ("[handlers.log_note]\nretry.multiplier = 0.5", 8, "multiplier is 0.5, outside 1.0 to 1000.0;"),
    ("[handlers.log_note]\nretry.multiplier = nan", 8, "outside 1.0 to 1000.0;"),
    ("[handlers.log_note.retry]\ninitial = \"7h\"", 8, "handlers.log_note.retry.max is below handlers.log_note.retry.initial; raise"),
    ("[handlers.record_opt_out.retry]\nmax_attempts = 5", 8, "is 5, but an opt-out is limited by age only; take it out"),
    ("[handlers.record_opt_out]\naccounts = []", 8, "handlers.record_opt_out.accounts is empty; write"),
    ("[handlers.record_opt_out]\nkeywords = [\"\"]", 8, "handlers.record_opt_out.keywords is \"\", empty; write a word or a few"),
    ("[handlers.record_opt_out]\nkeywords = [\"?!\"]", 8, "keywords is \"?!\", not a keyword; write a word or a few, 1 to 64"),
    ("[handlers.record_opt_out]\nkeywords = [\"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmno\"]", 8, "longer than 64 characters; write"),
    ("[handlers.record_opt_out]\nkeywords = [\"STOP\", \" stop.\"]", 8, "names \"stop.\" twice; name each once"),
    ("[handlers.record_opt_out]\nkeywords = [\"STOP\", \"Yes\"]", 8, "has \"Yes\", which asks for texts again; take it out"),
    ("[handlers.create_contact]\naccounts = [\"a\", \"a\"]", 8, "names \"a\" twice; name each account once"),
    ("[handlers.create_contact]\naccounts = [\n  \"a\",\n  \"b/c\",\n]", 10, "is \"b/c\", not an account's name; write"),
    ("[system_of_record]\nkind = \"hubspot\"", 7, "system_of_record.hubspot.token is missing, and the system of record needs it; add token = "),
    ("[system_of_record]\nkind = \"http\"\n[system_of_record.http]\nsecrets = \"whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4\"", 9, "system_of_record.http.url is missing, and the system of record needs it; add url = "),
    ("[system_of_record.http]\nsecrets = [\"env:HOOK\"]", 8, "system_of_record.http.secrets (from env:HOOK) is a secret without \"whsec_\" at its beginning; make one: echo whsec_"),
    ("[system_of_record.http]\nsecrets = \"whsec_s3cret-0f-the-h00k\"", 8, "is a secret whose part behind \"whsec_\" is not base64; make one"),
    ("[system_of_record.http]\nsecrets = \"whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnc=\"", 8, "is a secret with a key of 23 bytes, and 24 is the least; make one"),
    ("[system_of_record]\nkind = \"http\"\n[system_of_record.http]\nsecrets = \"whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4\"\nurl = \"https://[::ffff:10.0.0.1]/\"", 11, "http.url has a private address, which could lead"),
    ("[system_of_record]\ntime_zone = \"CST6\"", 8, "is \"CST6\", not a time zone; write the IANA name"),
    ("[system_of_record.templates]\nnote = \"{% for m in messages %}\\n{{ m.txt }}{% endfor %}\"", 8, "undefined value: `m.txt` (line 2, column 4 of the template); look at that place"),
    ("[system_of_record.hubspot]\nkey_property = \"Thread Key\"", 8, "is \"Thread Key\", not a property's name; write the internal name"),
    ("[system_of_record]\nkind = \"sap\"", 8, "is \"sap\", not one of the allowed values; write \"builtin\" or \"salesforce\" or \"hubspot\" or \"http\""),
    ("[system_of_record]\nkind = \"salesforce\"\n[system_of_record.salesforce]\nclient_id = \"env:HOOK\"\nclient_secret = \"env:HOOK\"", 9, "salesforce.base_url is missing, and the system of record needs it; add base_url = "),
    ("[system_of_record]\nkind = \"salesforce\"\n[system_of_record.salesforce]\nclient_id = \"env:HOOK\"\nbase_url = \"https://acme.my.salesforce.com\"", 9, "salesforce.client_secret is missing, and the system of record needs it; add client_secret = \"env:SALESFORCE_CLIENT_SECRET\" below [system_of_record.salesforce], or jwt_key and username"),
    ("[system_of_record.salesforce]\njwt_key = \"env:HOOK\"", 8, "salesforce.jwt_key (from env:HOOK) is not a private key in PEM; write \"file:PATH\""),
    ("[system_of_record.salesforce]\nopted_out_field = \"SMS Opted Out\"", 8, "is \"SMS Opted Out\", not a field's name; write the API name of a field"),
    ("[system_of_record.salesforce]\nobjects = [\"Account\"]", 8, "is \"Account\", not one of the allowed values; write \"Contact\" or \"Lead\""),
    ("[system_of_record.templates]\nperson = { Company = \"{{ nmae }}\" }", 8, "person.Company is \"{{ nmae }}\", not a template of a person's field: undefined value: `nmae` (line 1, column 4 of the template); look at that place"),
    ("[system_of_record.templates.person]\n\"First Name\" = \"{{ first_name }}\"", 8, "person has the name \"First Name\", not a field's name; write the name of a field"),
    ("[system_of_record]\nprefer = [\"owner\", \"newest\", \"owner\"]", 8, "system_of_record.prefer names a rule twice; name each rule once"),
    ("[system_of_record]\nauthors = \"ana@acme.example\"", 8, "authors is not a table; write { \"…\" = \"…\" } with the id of an owner"),
    ("[system_of_record.authors]\n\"ana@acme.example\" = \"005 1\"", 8, "is \"005 1\", not an owner's id; write the id of an owner"),
    ("[system_of_record.authors]\n\"ana@acme.example\" = [1]", 8, "is a list, not a text; write the id of an owner"),
    ("[[sources]]\nname = \"textus\"\nsecrets = \"env:HOOK\"", 8, "is \"textus\", which sources.0 is called already; give"),
    ("[[sources]]\nname = \"a.b\"\nsecrets = \"env:HOOK\"", 8, "is \"a.b\", not a source's name; write 1 to 64 characters"),
    ("[[sources]]\nsecrets = \"env:HOOK\"", 7, "sources.1.name is missing; add name = \"textus\""),
    ("[[sources]]\nname = \"b\"", 7, "sources.1.secrets is missing; add secrets = "),
    ("[[sources]]\nname = \"b\"\nsecrets = []", 9, "sources.1.secrets is empty;"),
    ("[[sources]]\nname = \"b\"\nsecrets = [\n\"env:HOOK\",\n\"\"]", 11, "sources.1.secrets is empty; set it"),
    ("[[sources]]\nname = \"b\"\nsecrets = \"env:OTHER\"", 9, "sources.1.secrets is env:OTHER, and the environment variable OTHER is not set; set OTHER"),
    ("[[sources]]\nname = \"b\"\nsecrets = \"file:/no/such\"", 9, "is file:/no/such, which cannot be read (entity not found); put"),
    ("[log]\nformat = \"env:\"", 8, "log.format has no variable's name after env:; write \"env:NAME\""),
    ("[log]\nformat = \"env:HOOK\"", 8, "log.format (from env:HOOK) is not one of the allowed values; write \"text\" or \"json\""),
    ("[textus.breaker]\nopen_min = \"1h\"\nopen_max = \"1m\"", 9, "textus.breaker.open_max is below textus.breaker.open_min; raise"),
];

#[test]
fn each_mistake_is_reported_on_its_line_with_its_remedy() {
    assert!(Folder::with(GOOD).load(Needs::RUN, &VARIABLES).is_ok());

    for (mistake, line, says) in MISTAKES {
        let found = problems(&format!("{GOOD}{mistake}\n"), Needs::RUN, &VARIABLES);

        let [(found_line, problem)] = found.as_slice() else { panic!("{mistake}: {found:#?}") };
        assert_eq!(found_line, line, "{mistake}: {problem}");
        assert!(problem.contains(&format!("hookline.toml:{line}: ")) && problem.contains(says), "{mistake}: {problem}");
        assert!(!problem.contains(SECRET), "{mistake}");
    }
}

#[test]
fn a_system_of_record_that_nothing_writes_to_is_warned_about() {
    let table = "[system_of_record.hubspot]\ntoken = \"env:HOOK\"\n";
    let warnings = |text: &str| {
        let given = Folder::with(&format!("{GOOD}{text}")).load(Needs::RUN, &VARIABLES);
        given.expect("a good configuration").warnings
    };

    let [warning] = &warnings(table)[..] else { panic!("one warning") };
    assert!(warning.to_string().contains("nothing is written to hubspot; write kind = \"hubspot\""), "{warning}");
    for kind in ["hubspot", "builtin"] {
        assert_eq!(warnings(&format!("[system_of_record]\nkind = \"{kind}\"\n{table}")), []);
    }
    let [warning] = &warnings("[system_of_record]\nauthors = { ana = \"7\" }\n")[..] else { panic!("one warning") };
    assert!(warning.to_string().contains("notes of this system of record have no owners; take it out"), "{warning}");
}

#[test]
fn what_stands_around_a_secret_is_told_and_the_secret_is_not() {
    for (value, says) in [
        ("\u{feff}s3cret-0f-the-h00k", "a secret with a byte order mark around it; take them out"),
        ("s3cret-0f-the-h00k\n\n", "a secret with line breaks around it"),
        ("\ns3cret-0f-the-h00k", "a secret with line breaks around it"),
        (" s3cret-0f-the-h00k", "a secret with blanks around it"),
        ("s3cret-0f-the-h00k\t", "a secret with blanks around it"),
        ("\"s3cret-0f-the-h00k\"", "a secret with quotes around it"),
        ("'s3cret-0f-the-h00k'", "a secret with quotes around it"),
    ] {
        for variable in ["HOOK", "TOKEN"] {
            let variables = VARIABLES.map(|(name, good)| (name, if name == variable { value } else { good }));
            let found = problems(GOOD, Needs::RUN, &variables);

            let [(_, problem)] = found.as_slice() else { panic!("{value:?}: {found:#?}") };
            assert!(problem.contains(says) && !problem.contains("s3cret"), "{problem}");
        }
    }
    let token = [("TOKEN", "s3cret-0f-the-h00k\u{e9}"), ("HOOK", SECRET)];
    let found = problems(GOOD, Needs::RUN, &token);
    let [(3, problem)] = found.as_slice() else { panic!("{found:#?}") };
    assert!(problem.contains("a token with characters that a header cannot hold; copy it again"), "{problem}");
}

#[test]
fn a_secret_in_a_variable_that_has_a_comma_is_not_taken_for_two() {
    let text = GOOD.replace("secrets = [\"env:HOOK\"]\n", "");
    for secrets in ["s3cret-0f-the-h00k,x", "env:HOOK,s3cret-0f-the-h00k"] {
        let variables = [("TOKEN", SECRET), ("HOOK", SECRET), ("HOOKLINE__SOURCES__0__SECRETS", secrets)];
        let found = problems(&text, Needs::RUN, &variables);

        let [(_, problem)] = found.as_slice() else { panic!("{found:#?}") };
        assert!(
            problem.contains("has a comma outside of brackets; write [") && !problem.contains("s3cret"),
            "{problem}"
        );
    }
}

#[test]
fn a_mistake_in_textus_is_reported_on_its_line_with_its_remedy() {
    for (key, says) in [
        ("base_url = \"http://textus.example\"", "plain http, which would show the token to the network; use https"),
        ("base_url = \"https://u:s3cret-0f-the-h00k@textus.example\"", "a URL with credentials; take them out"),
        ("base_url = \"https://textus.example?key=s3cret-0f-the-h00k\"", "a URL with a query or fragment; write only"),
        ("base_url = \"textus.example\"", "textus.base_url is not a URL; write a URL such as"),
        ("base_url = \"ftp://textus.example\"", "textus.base_url is not a URL of an API; write"),
        (
            "webhook_url = \"http://hooks.example/webhooks/textus\"",
            "plain http, which would show messages and numbers to the network;",
        ),
        (
            "webhook_url = \"https://u:s3cret-0f-the-h00k@hooks.example/webhooks/textus\"",
            "textus.webhook_url is a URL with credentials;",
        ),
        (
            "webhook_url = \"https://hooks.example/webhooks/textus?k=s3cret-0f-the-h00k\"",
            "a URL with a query or fragment;",
        ),
        ("webhook_url = \"hooks.example\"", "textus.webhook_url is not a URL; write a URL such as"),
        (
            "webhook_url = \"https://hooks.example/webhooks/other\"",
            "textus.webhook_url ends in no source's path; let it end in /webhooks/textus",
        ),
        ("webhook_url = \"https://hooks.example/textus\"", "ends in no source's path;"),
        ("primary_account = \"a/b\"", "textus.primary_account is \"a/b\", not an account's name;"),
        ("webhook_check_every = \"hourly\"", "textus.webhook_check_every is \"hourly\", not a duration;"),
        ("timeout = \"0s\"", "textus.timeout is \"0s\", outside 1ms to 3650d; write"),
        ("opt_out_reserve = 1.1", "textus.opt_out_reserve is 1.1, outside 0.0 to 1.0; write a number from 0.0 to 1.0"),
        ("tokn = \"s3cret-0f-the-h00k\"", "unknown key textus.tokn; did you mean textus.token?"),
        ("max_response_bytes = -1", "textus.max_response_bytes is -1, not a size in bytes; write"),
    ] {
        let text = GOOD.replacen("[textus]\n", &format!("[textus]\n{key}\n"), 1);
        let found = problems(&text, Needs::RUN, &VARIABLES);

        let [(line, problem)] = found.as_slice() else { panic!("{key}: {found:#?}") };
        assert_eq!(*line, 2, "{problem}");
        assert!(problem.contains(says) && !problem.contains(SECRET), "{problem}");
    }
    for account in ["", " ", "a/b", "..", "a?b", "a#b", "a b"] {
        let text = GOOD.replacen("\"acme\"", &format!("{account:?}"), 1);
        let found = problems(&text, Needs::RUN, &VARIABLES);
        assert!(matches!(found.as_slice(), [(2, problem)] if problem.contains("textus.account is ")), "{found:?}");
    }
}

#[test]
fn a_table_where_none_belongs_and_the_other_way_round_is_a_problem() {
    for (text, says) in [
        ("ingest = 5", "hookline.toml:1: ingest is not a table; write [ingest] above its keys"),
        ("[sources]\nname = \"a\"", "hookline.toml:1: sources is not a list of tables; write [[sources]]"),
        ("sources = [5]", "hookline.toml:1: sources is not a list of tables; write [[sources]]"),
        ("[data_dir]\na = 1", "hookline.toml:1: data_dir is a table, not a path; write a path"),
        ("\"ingest.listen\" = \"127.0.0.1:1\"", "hookline.toml:1: unknown key ingest.listen; did you mean"),
    ] {
        let found = problems(text, Needs::NOTHING, &[]);
        assert!(found.iter().any(|(_, problem)| problem.contains(says)), "{text}: {found:#?}");
    }
}

#[test]
fn everything_is_reported_at_once_in_the_order_of_the_file() {
    let text = "data_dri = \"x\"\n[ingest]\nlisten = 5\n[handlers.record_opt_out.retry]\nmax_attempts = 3\n\
                [[sources]]\nname = \"textus\"\nsecrets = [\"env:HOOK\"]\n[broker]\nurl = \"http://x\"\n";
    let variables = [("HOOKLINE__LOG__FORMAT", "xml"), ("HOOKLINE__LOG__FORMT", "json")];
    let found = problems(text, Needs::RUN, &variables);

    let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 1, 1, 3, 5, 8, 10, 0, 0], "{found:#?}");
    for (index, says) in [
        (
            0,
            "textus.account is missing, and the handler record_opt_out needs it; add account = \"acme\" below [textus]",
        ),
        (1, "textus.token is missing"),
        (2, "unknown key data_dri; did you mean data_dir?"),
        (7, "HOOKLINE__LOG__FORMAT (environment): log.format is \"xml\", not one of the allowed values"),
        (
            8,
            "HOOKLINE__LOG__FORMT (environment): unknown variable HOOKLINE__LOG__FORMT; did you mean HOOKLINE__LOG__FORMAT?",
        ),
    ] {
        assert!(found[index].1.contains(says), "{says}: {found:#?}");
    }
    let shown = Folder::with(text).load(Needs::RUN, &variables).expect_err("bad").to_string();
    assert_eq!(shown.lines().count(), found.len());
}

#[test]
fn what_is_left_out_is_reported_also_where_there_is_no_file() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let environment = Environment::of(nowhere.path(), &[]);
    let found = load_from(None, Needs::RUN, &environment).expect_err("nothing is set").to_string();

    assert_eq!(found.lines().count(), 3, "{found}");
    assert!(found.lines().all(|line| line.starts_with("configuration: ")), "{found}");
    assert!(found.contains("there is no source, so no webhook could be accepted; add [[sources]]"), "{found}");

    let found = load_from(None, Needs::INGEST, &environment).expect_err("no broker").to_string();
    assert!(found.contains("broker.url is missing, and hookline-ingest needs RabbitMQ; set it, or use"), "{found}");
    let found = load_from(None, Needs::WORKER, &environment).expect_err("no broker").to_string();
    assert!(found.contains("broker.url is missing, and hookline-worker needs RabbitMQ; set it, or use"), "{found}");
    assert!(!found.contains("store.url"), "one worker may keep its store in SQLite: {found}");
}

#[test]
fn brokers_are_named_by_one_url_or_several() {
    for url in [
        "\"amqp://hookline:s3cret-0f-the-h00k@rabbit.example:5671/my%2Fhost\"",
        "[\"amqps://hookline:x@a.example\", \"amqp://guest:guest@127.0.0.1:5673/hookline\", \"amqp://localhost\"]",
    ] {
        let loaded = Folder::with(&format!("{GOOD}[broker]\nurl = {url}\n")).load(Needs::INGEST, &VARIABLES);
        assert!(loaded.is_ok(), "{url}: {loaded:?}");
    }
}

#[test]
fn handlers_that_call_nobody_need_no_token() {
    let text = "handlers.record_opt_out.enabled = false\nhandlers.create_contact.enabled = false\n\
                [[sources]]\nname = \"textus\"\nsecrets = [\"env:HOOK\"]\n";

    assert_eq!(problems(text, Needs::RUN, &VARIABLES).len(), 2);
    let text = format!("handlers.log_note.message_lookup = \"none\"\n{text}");
    assert!(Folder::with(&text).load(Needs::RUN, &VARIABLES).is_ok());
}

#[test]
fn a_variable_that_stands_for_no_key_is_a_problem_and_never_shows_a_secret() {
    for (name, value, says) in [
        ("HOOKLINE__INGEST__LISTENS", SECRET, "did you mean HOOKLINE__INGEST__LISTEN?"),
        ("HOOKLINE__ingest__listen", SECRET, "did you mean HOOKLINE__INGEST__LISTEN?"),
        ("HOOKLINE__SOURCES__7__SECRETS", SECRET, "number them on from 0 without a gap"),
        ("HOOKLINE__TEXTUS__BASE_URL", SECRET, "textus.base_url is not a URL; write"),
        ("HOOKLINE__STORE__LEDGER_KEY", "", "store.ledger_key is empty; set it"),
        ("HOOKLINE__BROKER__URL", "[\"s3cret-0f-the-h00k\"", "broker.url is not a list in brackets; write"),
        ("HOOKLINE__BROKER__URL", SECRET, "broker.url is not an amqp:// or amqps:// URL; write"),
        ("HOOKLINE__INGEST__MAX_IN_FLIGHT", "many", "ingest.max_in_flight is \"many\", not a whole number; write"),
    ] {
        let found = Folder::with("").load(Needs::NOTHING, &[(name, value)]).expect_err(name);
        let shown = found.to_string();

        assert!(shown.contains(&format!("{name} (environment): ")) && shown.contains(says), "{shown}");
        assert!(!shown.contains(SECRET) && !format!("{found:?}").contains(SECRET), "{name}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_reported_by_its_name() {
    let folder = Folder::with("a = 1\nb = s3cret-0f-the-h00k\n[c\n");
    let found = folder.load(Needs::RUN, &[]).expect_err("no TOML").to_string();
    assert!(found.contains("hookline.toml:2: not TOML: ") && found.contains("hookline.toml:3: not TOML: "), "{found}");
    assert!(!found.contains(SECRET), "{found}");

    folder.write("hookline.toml", b"# \xc3\xa9\na = \"\xff\"\n");
    let found = folder.load(Needs::RUN, &[]).expect_err("no text").to_string();
    assert!(found.contains("hookline.toml:2: not UTF-8; save the file as UTF-8"), "{found}");

    for name in ["missing.toml", ""] {
        let file = folder.path(name);
        let found = super::super::load(Some(&file), Needs::NOTHING).expect_err("no file").to_string();
        assert!(found.starts_with(&format!("{}: cannot be read (", file.display())), "{found}");
    }
}
