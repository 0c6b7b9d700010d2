//! The evidence, checked by a stranger with the key and without Hookline; and the state that follows from it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hookline_e2e::AllInOne;
use serde_json::Value;

use crate::erasure::{after_two_people, write_to_store};

/// Checks an export with the script that the documentation offers.
fn checked(all_in_one: &AllInOne, export: &[u8], head: Option<&str>) -> Output {
    let file = all_in_one.dir().join("ledger.jsonl");
    std::fs::write(&file, export).expect("written");
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../docs/verify_ledger.py"].iter().collect();
    check(&script, &file, &all_in_one.dir().join("data/ledger.key"), head)
}

fn check(script: &Path, export: &Path, key: &Path, head: Option<&str>) -> Output {
    let mut python = Command::new("python3");
    python.arg(script).arg(export).arg(key);
    if let Some(head) = head {
        python.args(["--head", head]);
    }
    python.output().expect("python3 is installed")
}

fn assert_broken(output: &Output, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.starts_with("broken: "), "{what}: {output:?}");
    assert!(!said.contains("Traceback"), "{what}: {said}");
}

async fn export(all_in_one: &AllInOne) -> (Vec<u8>, String) {
    let ran = all_in_one.cli(&["opt-outs", "export"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let last: Value = serde_json::from_str(ran.stdout.lines().last().expect("an entry")).expect("one object a line");
    (ran.stdout.into_bytes(), last["hash"].as_str().expect("a text").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_the_key_verifies_an_export() {
    let (all_in_one, _, _) = after_two_people().await;
    let (whole, head) = export(&all_in_one).await;
    let verified = all_in_one.json(&["opt-outs", "verify"]).await;
    assert_eq!(verified["head"], head.as_str());

    let output = checked(&all_in_one, &whole, Some(&head));

    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(said, format!("whole: {} entries\nhead:  {head}\n", verified["entries"]));

    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for missing in 0..lines.len() {
        let rest: Vec<&[u8]> = [&lines[..missing], &lines[missing + 1..]].concat();
        assert_broken(&checked(&all_in_one, &rest.concat(), Some(&head)), &format!("entry {} is missing", missing + 1));
    }
    let cut = lines[..lines.len() - 1].concat();
    assert_eq!(checked(&all_in_one, &cut, None).status.code(), Some(0), "nothing inside shows a cut tail");
    assert_broken(&checked(&all_in_one, &[lines[1], lines[0]].concat(), None), "two entries have changed places");
    std::fs::write(all_in_one.dir().join("data/ledger.key"), "0".repeat(64)).expect("written");
    assert_broken(&checked(&all_in_one, &whole, None), "another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_byte_of_an_export_that_is_changed_is_found() {
    let (all_in_one, _, _) = after_two_people().await;
    let (whole, head) = export(&all_in_one).await;
    let line = whole.iter().position(|byte| *byte == b'\n').expect("a line") + 1;

    // The script is called once for all: a process each would take minutes.
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../docs/verify_ledger.py"].iter().collect();
    let each = "import importlib.util, sys\n\
                spec = importlib.util.spec_from_file_location('verify_ledger', sys.argv[1])\n\
                script = importlib.util.module_from_spec(spec)\n\
                spec.loader.exec_module(script)\n\
                whole, key, head = open(sys.argv[2], 'rb').read(), open(sys.argv[3], 'rb').read().strip(), sys.argv[4]\n\
                def found(at, byte):\n    \
                    lines = (whole[:at] + bytes([byte]) + whole[at + 1:]).splitlines(keepends=True)\n    \
                    try:\n        script.check(lines, key, head)\n    \
                    except script.Broken:\n        return True\n\
                missed = [(at, byte) for at in range(int(sys.argv[5])) for byte in \
                (whole[at] ^ 1, whole[at] ^ 32, whole[at] ^ 128, 32, 48) \
                if byte != whole[at] and not found(at, byte)]\n\
                print('missed', missed)\n";
    let file = all_in_one.dir().join("ledger.jsonl");
    std::fs::write(&file, &whole).expect("written");
    let output = Command::new("python3")
        .args(["-c", each])
        .args([&script, &file, &all_in_one.dir().join("data/ledger.key")])
        .args([&head, &line.to_string()])
        .output()
        .expect("python3 is installed");

    assert_eq!(String::from_utf8_lossy(&output.stdout), "missed []\n", "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_changed_is_found_out() {
    let (all_in_one, _, _) = after_two_people().await;
    write_to_store(&all_in_one, &["UPDATE opt_state SET opted_in_ms = 4102444800000"]).await;

    let ran = all_in_one.cli(&["opt-outs", "verify"]).await;

    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("opt_state holds another state"), "{}", ran.stdout);
}
