//! A person has several numbers. An opt-out of any of them reaches the person, whatever comes first.

use futures::future::join_all;
use hookline_common::names::HandlerName::{FlagOptOut, LogNote, SyncContact};
use hookline_sandbox::samples::SampleFacts;

use crate::contacts::with_numbers;
use crate::helpers::{ACCOUNT, TestPipeline, ending, now, someone};

const OUT: &str = "contact.opted_out";
const IN: &str = "contact.opted_in";
const RECEIVED: &str = "message.received";

/// Returns the same person with another number.
fn at(person: &SampleFacts, phone: &str) -> SampleFacts {
    SampleFacts { phone: phone.to_owned(), embed_contact: true, ..now(person) }
}

/// Returns the numbers that are opted out.
async fn opted_out(pipeline: &TestPipeline) -> Vec<String> {
    pipeline.flags().await.into_iter().filter(|flag| flag.opted_out).map(|flag| flag.phone).collect()
}

#[tokio::test]
async fn an_opt_out_of_any_number_flags_the_person_whichever_comes_first() {
    // One second number is from abroad, and one has an extension.
    let second_numbers = [
        ("+13035550161", "(303) 555-0161"),
        ("+442079460958", "+44 20 7946 0958"),
        ("+13035550162", "303.555.0162 ext. 7"),
    ];
    for (number, written) in second_numbers {
        for contact_first in [true, false] {
            let case = format!("{written} {contact_first}");
            let pipeline = TestPipeline::start().await;
            let person = someone();
            let contact = with_numbers(&person, &[&person.phone, written]);

            if contact_first {
                pipeline.send(&contact).await;
                pipeline.quiet().await;
            }
            let opt_out = pipeline.send_sample(OUT, &at(&person, number)).await;
            pipeline.quiet().await;
            if !contact_first {
                let id = pipeline.send(&contact).await;
                pipeline.quiet().await;
                assert_eq!(ending(&pipeline.settled(&id).await, SyncContact), "done", "{case}");
            }

            let expected = if contact_first { "done" } else { "skipped: unknown_contact" };
            assert_eq!(ending(&pipeline.settled(&opt_out).await, FlagOptOut), expected, "{case}");
            assert_eq!(opted_out(&pipeline).await, [number], "{case}");
            assert_eq!(pipeline.people().await[0].phones, [person.phone.as_str(), number], "{case}");
        }
    }
}

#[tokio::test]
async fn an_opt_out_that_races_with_the_contact_is_never_lost() {
    let pipeline = TestPipeline::start().await;
    let people: Vec<_> = (0..40).map(|i| (someone(), format!("+1303555{:04}", 1000 + i))).collect();

    join_all(people.iter().map(|(person, second)| {
        let contact = with_numbers(person, &[&person.phone, second]);
        let pipeline = &pipeline;
        async move {
            let facts = at(person, second);
            tokio::join!(pipeline.send(&contact), pipeline.send_sample(OUT, &facts))
        }
    }))
    .await;
    pipeline.quiet().await;

    let flagged = opted_out(&pipeline).await;
    for (_, second) in &people {
        assert!(flagged.contains(second));
    }
    assert_eq!(pipeline.people().await.len(), people.len());
}

#[tokio::test]
async fn a_text_from_a_number_that_the_person_was_not_known_by_adds_it_and_flags_it() {
    let pipeline = TestPipeline::start().await;
    let person = someone();
    pipeline.send(&with_numbers(&person, &[&person.phone])).await;
    let opt_out = pipeline.send_sample(OUT, &at(&person, "+13035550161")).await;
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&opt_out).await, FlagOptOut), "skipped: unknown_contact");

    let text = pipeline.send_known(RECEIVED, &at(&person, "+13035550161")).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&text).await, LogNote), "done");
    assert_eq!(opted_out(&pipeline).await, ["+13035550161"]);
    let people = pipeline.people().await;
    assert_eq!(people.len(), 1);
    let mut phones = people[0].phones.clone();
    phones.sort();
    let mut expected = vec![person.phone.clone(), "+13035550161".to_owned()];
    expected.sort();
    assert_eq!(phones, expected);
    assert_eq!(pipeline.notes().await[0].person_id, people[0].record_id);
}

#[tokio::test]
async fn a_number_that_two_people_share_is_flagged_and_a_contact_id_tells_whose_text_it_is() {
    let pipeline = TestPipeline::start().await;
    let (one, other) = (someone(), someone());
    for person in [&one, &other] {
        pipeline.send(&with_numbers(person, &[&person.phone, "+13035550161"])).await;
    }
    pipeline.quiet().await;

    let opt_out = pipeline.send_sample(OUT, &at(&one, "+13035550161")).await;
    let known = hookline_sandbox::samples::sample(RECEIVED, &at(&other, "+13035550161"));
    pipeline.sandbox.learn(&known).expect("a sample's shape");
    let known = pipeline.send(&known).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&opt_out).await, FlagOptOut), "done");
    assert_eq!(opted_out(&pipeline).await, ["+13035550161"]);
    assert_eq!(ending(&pipeline.settled(&known).await, LogNote), "done");
    let theirs = pipeline.people().await.into_iter().find(|person| person.phones.contains(&other.phone));
    assert_eq!(pipeline.notes().await[0].person_id, theirs.expect("the other").record_id);
}

#[tokio::test]
async fn an_opt_in_of_one_number_leaves_the_others_opted_out() {
    let pipeline = TestPipeline::start().await;
    let person = SampleFacts { account: ACCOUNT.to_owned(), ..someone() };
    pipeline.send(&with_numbers(&person, &[&person.phone, "+13035550161"])).await;
    for phone in [person.phone.as_str(), "+13035550161"] {
        pipeline.send_sample(OUT, &at(&person, phone)).await;
    }
    pipeline.quiet().await;

    let opt_in = pipeline.send_sample(IN, &at(&person, &person.phone)).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&opt_in).await, FlagOptOut), "done");
    assert_eq!(opted_out(&pipeline).await, ["+13035550161"]);
}
