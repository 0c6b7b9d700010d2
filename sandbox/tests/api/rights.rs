//! Calls that the token may not make, and resources that it may not see, are answered 403.

use hookline_sandbox::{Direction, Rights, SandboxOptions};
use reqwest::Method;
use serde_json::json;

use crate::helpers::{ACCOUNT, Api, answer};

const SECOND: &str = "harbor_second";
const PHONE: &str = "+12025550147";

fn two_accounts(options: &mut SandboxOptions) {
    options.accounts = vec![ACCOUNT.to_owned(), SECOND.to_owned()];
}

fn set_rights(api: &Api, account: &str, rights: Rights) {
    api.sandbox.configure(|options| {
        options.rights.insert(account.to_owned(), rights);
    });
}

async fn put(api: &Api, account: &str) -> u16 {
    answer(api.request(Method::PUT, &format!("/{account}/opt_outs/2025550147"))).await.0
}

#[tokio::test]
async fn accounts_have_rights_of_their_own() {
    let api = Api::with(two_accounts).await;
    let no_writes = Rights { reads: true, writes: false };
    set_rights(&api, SECOND, no_writes);

    assert_eq!((put(&api, ACCOUNT).await, put(&api, SECOND).await), (201, 403));
    let body = json!({ "name": "Tobin Varnholt" });
    assert_eq!(answer(api.post(&format!("/{SECOND}/contacts"), &body)).await.0, 403);
    assert_eq!(api.get(&format!("/{SECOND}/contact_phones?q=0000000000")).await.0, 200);
    assert_eq!(api.sandbox.effects().len(), 1);

    let no_reads = Rights { reads: false, writes: true };
    set_rights(&api, SECOND, no_reads);
    assert_eq!(put(&api, SECOND).await, 201);
    assert_eq!(api.get(&format!("/{SECOND}/contact_phones?q=0000000000")).await.0, 403);
    assert_eq!(api.get(&format!("/{ACCOUNT}/contact_phones?q=0000000000")).await.0, 200);
    assert!(api.sandbox.violations().is_empty(), "whoever asks cannot know");
}

#[tokio::test]
async fn what_belongs_to_an_account_out_of_sight_is_403() {
    let api = Api::with(two_accounts).await;
    let seen = api.sandbox.add_message(ACCOUNT, PHONE, Direction::In, "here");
    let unseen = api.sandbox.add_message("harbor_elsewhere", PHONE, Direction::In, "there");
    let contact = api.sandbox.add_contact("harbor_elsewhere", "Kofi Tazewell", PHONE);

    assert_eq!(api.get(&seen.message).await.0, 200);
    for path in [&unseen.message, &unseen.conversation, &contact, &contact.replace("/contacts/", "/messages/")] {
        assert_eq!(api.get(path).await.0, 403, "{path}");
    }

    let no_reads = Rights { reads: false, writes: true };
    set_rights(&api, ACCOUNT, no_reads);
    assert_eq!(api.get(&seen.message).await.0, 403);
    assert_eq!(api.get("/messages/nobodys").await.0, 404);
}
