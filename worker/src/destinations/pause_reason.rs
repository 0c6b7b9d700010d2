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

/// Returns whether a pause with this reason may be probed.
pub(crate) fn is_probed(reason: &str) -> bool {
    reason.starts_with(CREDENTIALS_REFUSED)
}

/// Returns whether an answer caused a pause with this reason that only a person can end.
pub(crate) fn needs_a_person(reason: &str) -> bool {
    reason.starts_with(OTHER_WORLD) || [WANTS_NO_MORE, HUBSPOT_PROPERTY_MISSING].contains(&reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_tells_its_kind_by_how_it_begins() {
        for reason in [SANDBOX_ANSWERS, REAL_API_ANSWERS, WANTS_NO_MORE, HUBSPOT_PROPERTY_MISSING] {
            assert!(needs_a_person(reason) && !is_probed(reason), "{reason}");
        }
        assert!(is_probed(CREDENTIALS_REFUSED) && !needs_a_person(CREDENTIALS_REFUSED));
    }
}
