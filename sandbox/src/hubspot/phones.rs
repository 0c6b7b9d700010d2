//! The numbers that HubSpot computes from what was typed. On purpose this module shares no code with Hookline.

use super::record::Properties;
use crate::phone::Number;

/// The typed property, the normalised one, and the searchable one.
const COMPUTED: [(&str, &str, &str); 2] = [
    ("phone", "hs_calculated_phone_number", "hs_searchable_calculated_phone_number"),
    ("mobilephone", "hs_calculated_mobile_number", "hs_searchable_calculated_mobile_number"),
];

/// Computes the normalised numbers anew. A text that is no number of ten digits and has no country code has none.
pub(crate) fn compute(properties: &mut Properties) {
    for (typed, calculated, searchable) in COMPUTED {
        match properties.get(typed).and_then(|text| Number::parse(text)) {
            Some(number) => {
                properties.insert(searchable.to_owned(), national(&number.e164).to_owned());
                properties.insert(calculated.to_owned(), number.e164);
            }
            None => {
                properties.remove(calculated);
                properties.remove(searchable);
            }
        }
    }
}

/// Returns area code and local number, that is a number in E.164 without its country code. A search must leave the
/// country code out too. <https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm>
fn national(e164: &str) -> &str {
    let digits = e164.trim_start_matches('+');
    digits.get(country_code_length(digits)..).unwrap_or_default()
}

/// Country codes have one digit (1 and 7), two, or three: <https://www.itu.int/pub/T-SP-E.164D>
fn country_code_length(digits: &str) -> usize {
    let two: u32 = digits.get(..2).and_then(|text| text.parse().ok()).unwrap_or_default();
    match two {
        10..=19 | 70..=79 => 1,
        20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_country_code_is_dropped() {
        for (e164, expected) in [
            ("+14155550123", "4155550123"),
            ("+442079460958", "2079460958"),
            ("+79161234567", "9161234567"),
            ("+6561234567", "61234567"),
            ("+35315550123", "15550123"),
        ] {
            assert_eq!(national(e164), expected, "{e164}");
        }
    }
}
