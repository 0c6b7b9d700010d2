//! Certificates, keys and certificate authorities that a program is going to use.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

const BASE: &str =
    "[[sources]]\nname = \"textus\"\nsecrets = [\"env:S\"]\n[textus]\naccount = \"acme\"\ntoken = \"env:S\"\n";
/// The first line behind [`BASE`] and a table's header.
const FIRST: usize = 8;

/// Writes a certificate that counts between two years, and its key.
fn pair(dir: &Path, name: &str, from: i32, to: i32) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).expect("written");
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("written");
}

fn with_tls(dir: &Path, cert: &str, key: &str) -> String {
    let dir = dir.display();
    format!("{BASE}[ingest.tls]\ncert = \"{dir}/{cert}\"\nkey = \"{dir}/{key}\"\n")
}

#[test]
fn what_no_listener_can_use_is_told_with_its_line_and_the_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path();
    pair(at, "good", 2020, 2200);
    pair(at, "other", 2020, 2200);
    pair(at, "expired", 2019, 2020);
    pair(at, "future", 2199, 2200);
    std::fs::write(at.join("empty"), "").expect("written");
    std::fs::write(at.join("prose"), "-----BEGIN CERTIFICATE-----\nno\n").expect("written");

    for (cert, key, line, expected) in [
        ("absent", "good.key", FIRST, "absent cannot be read"),
        ("empty", "good.key", FIRST, "empty holds no certificate"),
        ("prose", "good.key", FIRST, "prose cannot be read (it is not PEM)"),
        ("good.crt", "absent", FIRST + 1, "absent holds no private key"),
        ("good.crt", "good.crt", FIRST + 1, "good.crt holds no private key"),
        ("good.crt", "other.key", FIRST + 1, "do not belong together"),
        ("expired.crt", "expired.key", FIRST, "has expired on 2020-01-01"),
        ("future.crt", "future.key", FIRST, "counts only from 2199-01-01"),
    ] {
        let found = problems(&with_tls(at, cert, key), Needs::RUN, &[("S", SECRET)]);
        let [(found_line, text)] = &found[..] else { panic!("{cert}, {key}: {found:?}") };
        assert_eq!(*found_line, line, "{text}");
        assert!(text.contains(expected) && text.contains("; "), "{text}");
    }
    let good = Folder::with(&with_tls(at, "good.crt", "good.key")).load(Needs::RUN, &[("S", SECRET)]);
    assert_eq!(good.expect("it can be used").warnings, []);
    // A command that looks at the store does not serve.
    Folder::with(&with_tls(at, "absent", "absent")).load(Needs::NOTHING, &[("S", SECRET)]).expect("not needed");
    let worker = Needs { ingest: false, ..Needs::RUN };
    Folder::with(&with_tls(at, "absent", "absent")).load(worker, &[("S", SECRET)]).expect("not needed");
}

#[test]
fn a_broker_ca_without_a_certificate_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path();
    pair(at, "good", 2020, 2200);
    std::fs::write(at.join("empty"), "no certificate").expect("written");
    let with_ca = |ca: &str| format!("{BASE}[broker]\nurl = \"env:U\"\nca = \"{}/{ca}\"\n", at.display());
    let variables = [("S", SECRET), ("U", "amqps://u:p@host")];

    for (ca, expected) in [("absent", "absent cannot be read"), ("empty", "empty holds no certificate")] {
        let found = problems(&with_ca(ca), Needs::RUN, &variables);
        let [(line, text)] = &found[..] else { panic!("{ca}: {found:?}") };
        assert_eq!(*line, FIRST + 1, "{text}");
        assert!(text.contains("broker.ca") && text.contains(expected), "{text}");
    }
    Folder::with(&with_ca("good.crt")).load(Needs::RUN, &variables).expect("it can be used");
}
