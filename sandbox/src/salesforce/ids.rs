//! Record ids: 15 characters in which case counts, and three more that let a reader without regard to case tell them
//! apart. <https://developer.salesforce.com/docs/platform/object-reference/guide/field-types.html>

/// The digits of an id's number, in the order of their bytes, so that ids sort by age. Ids whose numbers are 26 apart
/// may differ in case only.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// What the three last characters are made of.
const CHECKSUM: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// Makes the id of this number for a kind of object.
pub(crate) fn make(prefix: &str, number: u64) -> String {
    let mut digits = [b'0'; 7];
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(left % 62).unwrap_or(0)];
        left /= 62;
    }
    let digits: String = digits.iter().map(|byte| char::from(*byte)).collect();
    with_checksum(&format!("{prefix}5e000{digits}"))
}

/// Reads an id of 15 or 18 characters and returns it with 18. Returns `None` for anything else, for example an id in
/// another case than it was given out.
pub(crate) fn read(text: &str) -> Option<String> {
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    match text.len() {
        15 => Some(with_checksum(text)),
        18 => Some(with_checksum(&text[..15])).filter(|id| id == text),
        _ => None,
    }
}

fn with_checksum(id: &str) -> String {
    let mut whole = id.to_owned();
    for part in id.as_bytes().chunks(5) {
        let upper = part.iter().enumerate().filter(|(_, byte)| byte.is_ascii_uppercase());
        let sum: usize = upper.map(|(at, _)| 1 << at).sum();
        whole.push(char::from(CHECKSUM[sum]));
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_vendors() {
        // Ids from the vendor's pages.
        for id in ["00190000001pPvHAAU", "001D000000IqhSLIAZ", "003D000000QV9n2IAD"] {
            assert_eq!(read(&id[..15]).as_deref(), Some(id));
            assert_eq!(read(id).as_deref(), Some(id));
        }
        assert_eq!(read("001d000000iqhsliaz"), None);
        assert_eq!(read("001D000000IqhSLIAA"), None);
        assert_eq!(read("001D00000"), None);
        assert_eq!(read("001D000000IqhS'"), None);
    }

    #[test]
    fn ids_sort_by_age() {
        let ids: Vec<String> = (0..5_000).map(|number| make("003", number)).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.len() == 18 && read(id).as_ref() == Some(id)));
    }
}
