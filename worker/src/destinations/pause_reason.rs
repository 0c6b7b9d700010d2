//! The reasons for a pause that no operator made. A reason is a text in the store's row, and its beginning tells its
//! kind.

/// The destination answered 401. Other processes read in the store that such a pause may be probed. An operator's never is.
pub(crate) const CREDENTIALS_REFUSED: &str = "credentials refused";
/// The sandbox answered a process whose store is for the real API, or the real API answered one whose store is the sandbox's.
const OTHER_WORLD: &str = "sandbox and real API meet";
/// The reasons in full, with the remedy, as `hookline status` shows them.
pub(crate) const SANDBOX_ANSWERS: &str = "sandbox and real API meet: the sandbox answers, and this store is for the real \
    API, so nothing that it answers is proof; set [textus] base_url to the real API, start again, then `hookline resume \
    textus`";
pub(crate) const REAL_API_ANSWERS: &str = "sandbox and real API meet: the real API answers, and this store is the \
    sandbox's, so what it holds must not go there; give the real API a data_dir or a [store] url of its own, or set \
    [textus] base_url to the sandbox, start again, then `hookline resume textus`";

/// A receiver of documents answered 410.
pub(crate) const WANTS_NO_MORE: &str = "the receiver answered 410, which asks for no more documents: if it was a mistake, \
    mend the receiver, or set [system_of_record.http] url and start again; then `hookline resume system_of_record`";
/// An answer showed that the account lacks what the configuration names.
pub(crate) const HUBSPOT_PROPERTY_MISSING: &str = "its set-up is incomplete: HubSpot lacks a property that \
    [system_of_record.hubspot] names, or has it in another form; run `hookline check --connect --create-properties`, then \
    `hookline resume system_of_record`";

pub(crate) const SALESFORCE_SET_UP_INCOMPLETE: &str = "its set-up is incomplete: Salesforce lacks a field that \
    [system_of_record.salesforce] names, or Hookline's user may not see or write it; run `hookline check --connect`, mend what \
    it names, then `hookline resume system_of_record`";
pub(crate) const SALESFORCE_API_DISABLED: &str = "Salesforce answers that the API is switched off for this org or user: give \
    Hookline's user the permission \"API Enabled\", or an edition with API access, then `hookline resume system_of_record`";

/// Why Salesforce issues no token. Such a pause is probed every minute, so that it ends by itself.
pub(crate) const SALESFORCE_CLIENT_UNKNOWN: &str = "credentials refused: Salesforce does not know the consumer key; set \
    [system_of_record.salesforce] client_id to that of the external client app, and base_url to the org that has it";
pub(crate) const SALESFORCE_SECRET_REFUSED: &str = "credentials refused: Salesforce refuses the consumer secret; set \
    [system_of_record.salesforce] client_secret to that of the external client app";
pub(crate) const SALESFORCE_NO_RUN_AS_USER: &str = "credentials refused: the external client app has no run-as user; choose one \
    under its policies, at the flow of client credentials";
pub(crate) const SALESFORCE_NOT_APPROVED: &str = "credentials refused: the user is not approved for the external client app; under \
    its policies choose \"Admin approved users are pre-authorized\", and add the user's permission set";
pub(crate) const SALESFORCE_AUDIENCE: &str = "credentials refused: Salesforce refuses the audience of the JWT; set \
    [system_of_record.salesforce] audience to https://test.salesforce.com for a sandbox, and to https://login.salesforce.com \
    otherwise";
pub(crate) const SALESFORCE_ASSERTION_TIME: &str = "credentials refused: Salesforce takes the JWT for one that has ended; set this \
    machine's clock right";
pub(crate) const SALESFORCE_USER_INACTIVE: &str =
    "credentials refused: Hookline's user in Salesforce is inactive, frozen or locked";
pub(crate) const SALESFORCE_GRANT_REFUSED: &str = "credentials refused: Salesforce refuses the grant (invalid_grant); look at the \
    login history of Hookline's user, and whether jwt_key belongs to the certificate of the external client app";
pub(crate) const SALESFORCE_FLOW_OFF: &str = "credentials refused: the external client app does not allow this flow; switch on \
    the flow of client credentials, or that of JWT bearer if jwt_key is set";
pub(crate) const SALESFORCE_NO_TOKEN: &str = "credentials refused: Salesforce issues no token for a reason that Hookline does not \
    know; look at the login history of Hookline's user in Salesforce";
pub(crate) const SALESFORCE_STRANGE_INSTANCE: &str = "credentials refused: the token is for a host that is not Salesforce's, to which \
    it is not sent; check [system_of_record.salesforce] base_url";

/// Returns whether a pause with this reason may be probed.
pub(crate) fn is_probed(reason: &str) -> bool {
    reason.starts_with(CREDENTIALS_REFUSED)
}

/// The reasons that only a person can end.
const PERSONS: [&str; 4] =
    [WANTS_NO_MORE, HUBSPOT_PROPERTY_MISSING, SALESFORCE_SET_UP_INCOMPLETE, SALESFORCE_API_DISABLED];

/// Returns whether an answer caused a pause with this reason that only a person can end.
pub(crate) fn needs_a_person(reason: &str) -> bool {
    reason.starts_with(OTHER_WORLD) || PERSONS.contains(&reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_tells_its_kind_by_how_it_begins() {
        for reason in [SANDBOX_ANSWERS, REAL_API_ANSWERS].into_iter().chain(PERSONS) {
            assert!(needs_a_person(reason) && !is_probed(reason), "{reason}");
        }
        for reason in [CREDENTIALS_REFUSED, SALESFORCE_NO_RUN_AS_USER, SALESFORCE_STRANGE_INSTANCE] {
            assert!(is_probed(reason) && !needs_a_person(reason), "{reason}");
        }
    }
}
