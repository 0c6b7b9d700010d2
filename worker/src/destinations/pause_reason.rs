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

/// Returns whether a pause with this reason may be probed.
pub(crate) fn is_probed(reason: &str) -> bool {
    reason.starts_with(CREDENTIALS_REFUSED)
}

/// Returns whether answers of the other world caused a pause with this reason.
pub(crate) fn is_of_another_world(reason: &str) -> bool {
    reason.starts_with(OTHER_WORLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_tells_its_kind_by_how_it_begins() {
        for reason in [SANDBOX_ANSWERS, REAL_API_ANSWERS] {
            assert!(is_of_another_world(reason) && !is_probed(reason), "{reason}");
        }
        assert!(is_probed(CREDENTIALS_REFUSED) && !is_of_another_world(CREDENTIALS_REFUSED));
    }
}
