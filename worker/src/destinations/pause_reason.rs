//! Why a destination is paused where no operator paused it. The reason is a text in the store's row; how it begins tells
//! its kind.

/// The destination answered 401. Other processes read in the store that such a pause may be probed; an operator's never is.
pub(crate) const CREDENTIALS_REFUSED: &str = "credentials refused";
/// The sandbox answered a store that is for the real API, or the real API answered one that is the sandbox's.
pub(crate) const OTHER_WORLD: &str = "sandbox and real API meet";

/// Whether a pause with this reason may be probed.
pub(crate) fn is_probed(reason: &str) -> bool {
    reason.starts_with(CREDENTIALS_REFUSED)
}

/// Whether answers of another world caused a pause with this reason.
pub(crate) fn is_of_another_world(reason: &str) -> bool {
    reason.starts_with(OTHER_WORLD)
}
