//! `check --connect` with Salesforce as the system of record: an administrator reads what is missing, and nothing is
//! changed.

use hookline_e2e::AllInOne;
use hookline_sandbox::salesforce::{
    PRIVATE_KEY, Salesforce, SalesforceEndpoint, SalesforceObject as Object, SalesforceOptions,
};

use crate::chain::systems::install;

#[tokio::test(flavor = "multi_thread")]
async fn the_check_says_what_an_org_lacks_and_is_content_with_the_package() {
    let options = SalesforceOptions::default();
    let (id, secret) = (options.client_id.clone(), options.client_secret.clone());
    let crm = Salesforce::start(options).await.expect("the stand-in starts");
    let mut all_in_one = AllInOne::start().await;
    for (key, value) in [
        ("KIND", "salesforce"),
        ("SALESFORCE__BASE_URL", &crm.base_url()),
        ("SALESFORCE__CLIENT_ID", &id),
        ("SALESFORCE__CLIENT_SECRET", &secret),
    ] {
        all_in_one.set(&format!("HOOKLINE__SYSTEM_OF_RECORD__{key}"), value);
    }

    let bare = all_in_one.cli(&["check", "--connect"]).await;
    assert_eq!(bare.code, Some(1), "{bare:?}");
    for expected in [
        "ok           Salesforce token",
        "failed       Salesforce fields: Task has no field TextUs_Thread_Key__c",
        "failed       Salesforce fields: Contact has no field TextUs_Contact_Id__c",
        "failed       Salesforce fields: Lead has no field SMS_Opted_Out__c",
        "deploy deploy/salesforce/",
    ] {
        assert!(bare.stdout.contains(expected), "{expected}: {}", bare.stdout);
    }

    install(&crm);
    let good = all_in_one.cli(&["check", "--connect"]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.stdout.contains("Lead has TextUs_Contact_Id__c, SMS_Opted_Out__c"), "{}", good.stdout);
    assert!(good.stdout.contains("Installed Packages"), "{}", good.stdout);
    for private in [&secret, &crm.tokens_issued()[0]] {
        assert!(!good.stdout.contains(private.as_str()) && !good.stderr.contains(private.as_str()));
    }

    crm.configure(|options| options.has_run_as_user = false);
    let refused = all_in_one.cli(&["check", "--connect"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("run-as user"), "{}", refused.stdout);
    for object in [Object::Task, Object::Contact, Object::Lead] {
        assert_eq!(crm.requests_to(SalesforceEndpoint::Upsert(object)), 0, "nothing is written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_takes_a_key_in_place_of_a_secret() {
    let crm = Salesforce::start(SalesforceOptions::default()).await.expect("the stand-in starts");
    install(&crm);
    let mut all_in_one = AllInOne::start().await;
    let file = all_in_one.dir().join("salesforce.key");
    std::fs::write(&file, PRIVATE_KEY).expect("a file");
    for (key, value) in [
        ("KIND", "salesforce"),
        ("SALESFORCE__BASE_URL", crm.base_url().as_str()),
        ("SALESFORCE__CLIENT_ID", "synthetic-client-id"),
        ("SALESFORCE__JWT_KEY", &format!("file:{}", file.display())),
        ("SALESFORCE__USERNAME", "integration@example.com"),
    ] {
        all_in_one.set(&format!("HOOKLINE__SYSTEM_OF_RECORD__{key}"), value);
    }

    let ran = all_in_one.cli(&["check", "--connect"]).await;

    assert_eq!(ran.code, Some(0), "{ran:?}");
}
