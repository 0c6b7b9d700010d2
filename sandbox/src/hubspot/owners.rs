//! Owners: the account's users to whom records can be assigned. They can only be read.
//! <https://developers.hubspot.com/docs/api-reference/latest/crm/owners/guide>

use serde_json::{Value, json};

use super::account::Account;
use super::api::Call;
use super::error;
use crate::answer::Answer;

/// Each owner has two ids. Only the owner's own can be assigned to a record.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) id: u64,
    pub(crate) email: String,
    pub(crate) archived: bool,
}

impl Owner {
    fn user_id(&self) -> u64 {
        self.id + 50_000_000
    }

    fn body(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "email": self.email,
            "type": "PERSON",
            "firstName": "",
            "lastName": "",
            // An archived owner is no user any more.
            "userId": if self.archived { Value::Null } else { json!(self.user_id()) },
            "userIdIncludingInactive": self.user_id(),
            "createdAt": "2026-01-05T09:00:00.000Z",
            "updatedAt": "2026-01-05T09:00:00.000Z",
            "archived": self.archived,
        })
    }
}

pub(crate) fn list(account: &Account, call: &Call) -> Result<Answer, Answer> {
    call.takes_only(&["email", "after", "limit", "archived"])?;
    let archived = match call.query("archived") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(error::improper(400, "archived is true or false")),
    };
    let email = call.query("email").map(str::to_lowercase);
    let found = account.owners.iter().filter(|owner| owner.archived == archived);
    let found = found.filter(|owner| email.as_ref().is_none_or(|email| owner.email.to_lowercase() == *email));
    Ok(error::answer(200, json!({ "results": found.map(Owner::body).collect::<Vec<_>>() })))
}
