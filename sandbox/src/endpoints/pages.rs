//! Paged collections. A client follows `view.next` verbatim until it is null.
//! <https://apidocs.next.textus.com/overview/collections/>

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::shapes::context;
use crate::state::{Call, State};

/// Returns the page that the call asks for. Its links contain the query as it was sent and the page's number;
/// `totalItems` counts the members of all pages.
pub(super) fn page(state: &State, call: &Call<'_>, members: Vec<Value>) -> Answer {
    let size = state.options.page_size.max(1);
    let total = members.len();
    let pages = total.div_ceil(size).max(1);
    let number = match call.query("page").map(str::parse::<usize>) {
        None => 1,
        Some(Ok(number)) if (1..=pages).contains(&number) => number,
        Some(_) => return Answer::improper(400, "there is no such page"),
    };
    let members: Vec<Value> = members.into_iter().skip((number - 1) * size).take(size).collect();
    let link = |number: usize| link(call, number);
    Answer::resource(
        200,
        json!({
            "@type": "hydra:Collection",
            "id": link(1),
            "@context": context("hydra:Collection"),
            "totalItems": total,
            "members": members,
            "view": {
                "@type": "hydra:PartialCollectionView",
                "id": link(number),
                "@context": context("hydra:PartialCollectionView"),
                "first": link(1),
                "next": (number < pages).then(|| link(number + 1)),
                "previous": (number > 1).then(|| link(number - 1)),
            },
        }),
    )
}

fn link(call: &Call<'_>, number: usize) -> String {
    let sent = call.head.uri.query().unwrap_or_default().split('&');
    let mut query: Vec<String> =
        sent.filter(|pair| !pair.is_empty() && !pair.starts_with("page=")).map(str::to_owned).collect();
    if number > 1 {
        query.push(format!("page={number}"));
    }
    let path = call.head.uri.path();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}
