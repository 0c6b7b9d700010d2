//! Recognises texts that are only a keyword: STOP, or START (<https://help.next.textus.com/en/articles/2856342>). Only
//! the whole text counts: "please stop by at noon" says nothing about texts.

use std::collections::BTreeSet;

use crate::event::Keyword;

/// The default of `[handlers.record_opt_out] keywords`, which opt out.
pub const STOP: [&str; 9] = ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT", "OPT OUT"];
/// The keywords that ask for texts again.
pub const START: [&str; 3] = ["START", "YES", "UNSTOP"];

/// The longest text that we check, without what stands around it. It is longer than any keyword.
const MAX_BYTES: usize = 1024;

/// The keywords to look for.
#[derive(Clone, Debug, Default)]
pub struct Keywords {
    stop: BTreeSet<String>,
    start: BTreeSet<String>,
}

impl Keywords {
    /// Uses `stop` as the keywords that opt out. If `stop` is empty, no text is a keyword, not even START.
    #[must_use]
    pub fn new(stop: &[String]) -> Self {
        let start: &[&str] = if stop.is_empty() { &[] } else { &START };
        Self {
            stop: stop.iter().map(|word| compared(word)).collect(),
            start: start.iter().map(|word| compared(word)).collect(),
        }
    }

    /// The keyword that the whole text is, if any.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<Keyword> {
        if self.stop.is_empty() || bare(text).len() > MAX_BYTES {
            return None;
        }
        let text = compared(text);
        if self.stop.contains(&text) {
            Some(Keyword::Stop)
        } else {
            self.start.contains(&text).then_some(Keyword::Start)
        }
    }
}

/// The form in which keywords are compared: upper case, trimmed of blanks, quotes and closing punctuation, with single
/// spaces.
#[must_use]
pub fn compared(text: &str) -> String {
    let words: Vec<String> = bare(text)
        .split(is_blank)
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().flat_map(char::to_uppercase).collect())
        .collect();
    words.join(" ")
}

/// Removes spaces and quotes around a text, and punctuation at its end.
fn bare(text: &str) -> &str {
    let opens = |c: char| is_blank(c) || is_quote(c);
    let closes = |c: char| opens(c) || ".!?,;:…。！？，；：".contains(c);
    text.trim_start_matches(opens).trim_end_matches(closes)
}

/// Whether a character is a space or invisible; telephones add invisible ones.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '“' | '”' | '„' | '‘' | '’' | '«' | '»')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keywords(stop: &[&str]) -> Keywords {
        Keywords::new(&stop.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_a_keyword_alone_is_one() {
        let by_default = keywords(&STOP);
        for word in STOP {
            assert_eq!(by_default.read(word), Some(Keyword::Stop), "{word}");
            assert_eq!(by_default.read(&word.to_lowercase()), Some(Keyword::Stop), "{word}");
        }
        for word in START {
            assert_eq!(by_default.read(word), Some(Keyword::Start), "{word}");
        }
        for (text, keyword) in [
            (" Stop ", Some(Keyword::Stop)),
            ("sToP.", Some(Keyword::Stop)),
            ("STOP!!! ", Some(Keyword::Stop)),
            ("\n“Stop”.\r\n", Some(Keyword::Stop)),
            ("\u{feff}stop\u{200b}\0", Some(Keyword::Stop)),
            ("Stop…", Some(Keyword::Stop)),
            ("stop ?", Some(Keyword::Stop)),
            ("opt\u{a0}  out", Some(Keyword::Stop)),
            ("yes!", Some(Keyword::Start)),
            ("unstop", Some(Keyword::Start)),
            ("", None),
            (" . ", None),
            ("STOP ALL", None),
            ("S T O P", None),
            ("please stop", None),
            ("Stop by at noon", None),
            ("stopp", None),
            ("NONSTOP", None),
            ("yes please", None),
            ("Liked “STOP”", None),
            ("-STOP", None),
            ("СТОП", None),
        ] {
            assert_eq!(by_default.read(text), keyword, "{text:?}");
        }
        assert_eq!(by_default.read(&"STOP ".repeat(100_000)), None);
    }

    #[test]
    fn the_keywords_are_those_that_are_configured_and_none_is_off() {
        let own = keywords(&["arrêt", "ne plus", "ſtopp."]);
        for text in ["ARRÊT", "Ne  Plus.", "stopp"] {
            assert_eq!(own.read(text), Some(Keyword::Stop), "{text}");
        }
        assert_eq!((own.read("STOP"), own.read("start")), (None, Some(Keyword::Start)));

        let off = keywords(&[]);
        for text in ["STOP", "START", ""] {
            assert_eq!(off.read(text), None, "{text}");
        }
    }
}
