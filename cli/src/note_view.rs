//! Notes as their readers see them, for terminals.

/// Shows HTML as a browser does: white space collapsed, `<br>` as a line break, entities as the characters that they stand
/// for.
pub(crate) fn rendered(html: &str) -> String {
    let collapsed = html.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = String::new();
    let mut rest = collapsed.replace("<br>", "\n").replace("<br/>", "\n").replace("<br />", "\n");
    while let Some(start) = rest.find('<') {
        let end = rest[start..].find('>').map_or(rest.len(), |end| start + end + 1);
        text.push_str(&rest[..start]);
        rest = rest[end..].to_owned();
    }
    text.push_str(&rest);
    const ENTITIES: [(&str, &str); 7] = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&#x2f;", "/"),
        ("&amp;", "&"),
    ];
    for (entity, character) in ENTITIES {
        text = text.replace(entity, character);
    }
    text
}

/// Puts a text of several lines into one.
pub(crate) fn in_one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_shown_as_its_reader_sees_it() {
        let html = "<strong>Texts with +1</strong><br>09:31\n Received: 1 &lt; 2 &amp;amp; &#39;x&#39; &#x2f;";

        assert_eq!(rendered(html), "Texts with +1\n09:31 Received: 1 < 2 &amp; 'x' /");
        assert_eq!(in_one_line("a\n\nb\n"), "a / b");
    }
}
