use proptest::prelude::*;

use super::*;

fn text(template: Option<&str>, format: Format, limit: usize) -> NoteText {
    NoteText::new(template, format, TimeZone::UTC, limit).unwrap()
}

fn received(body: &str) -> NoteMessage {
    NoteMessage { body: body.to_owned(), media: Vec::new(), ..sample().messages[0].clone() }
}

#[test]
fn a_note_shows_who_wrote_what_and_when() {
    let parts = text(None, Format::Plain, 10_000).parts(&sample()).unwrap();

    assert_eq!(
        parts,
        ["Texts with +14155550123 through +14155550100, 2026-11-02\n\n\
          15:04 Received: Is the job still open? [picture]\n\
          15:04 Sent: It is. [picture]\n\
          15:04 Not delivered, sent by Ana Rivera: Can you come at 3? [picture]\n\
          15:04 Received, opts out: STOP [picture]"]
    );
}

#[test]
fn no_note_is_empty_and_a_stop_is_seen() {
    let stop = NoteMessage { is_stop: true, ..received("STOP") };
    let thread =
        NoteThread { contact_number: None, business_number: None, messages: vec![received(""), stop], ..sample() };

    let parts = text(None, Format::Plain, 10_000).parts(&thread).unwrap();

    let expected = "Texts with this contact, 2026-11-02\n\n15:04 Received: (no text)\n15:04 Received, opts out: STOP";
    assert_eq!(parts, [expected]);
}

#[test]
fn html_shows_markup_of_a_text_as_text() {
    let link = Media { media_type: None, url: Some("https://x.example/?a=1&b=2".to_owned()) };
    let message = NoteMessage { media: vec![link], ..received("<b>1 < 2</b>\n& more") };
    let thread = NoteThread { account: "<i>".to_owned(), messages: vec![message], ..sample() };

    let part = &text(None, Format::Html, 10_000).parts(&thread).unwrap()[0];
    let own = text(Some("{{ account }}{% for m in messages %}{{ m.text }}{% endfor %}"), Format::Html, 10_000);

    let shown = "&lt;b&gt;1 &lt; 2&lt;/b&gt;<br>&amp; more [file https://x.example/?a=1&amp;b=2]";
    assert!(part.ends_with(&format!("<br>15:04 Received: {shown}")), "{part}");
    assert_eq!(own.parts(&thread).unwrap(), [format!("&lt;i&gt;{shown}")]);
}

#[test]
fn a_long_thread_becomes_numbered_parts() {
    let messages: Vec<NoteMessage> = (0..40).map(|n| received(&format!("text {n:02}"))).collect();
    let thread = NoteThread { messages, ..sample() };
    let limit = 200;

    let parts = text(None, Format::Plain, limit).parts(&thread).unwrap();

    assert!(parts.len() > 5 && parts.iter().all(|part| part.len() <= limit), "{parts:?}");
    assert!(parts[1].starts_with("Texts with +14155550123 through +14155550100, 2026-11-02, part 2\n"), "{parts:?}");
    let told: Vec<String> =
        parts.iter().flat_map(|part| part.lines().skip(2)).map(|line| line[16..].to_owned()).collect();
    assert_eq!(told, (0..40).map(|n| format!("text {n:02}")).collect::<Vec<_>>());
}

#[test]
fn a_template_that_leaves_no_room_is_told() {
    let error = text(None, Format::Plain, 20).parts(&sample()).unwrap_err();

    assert_eq!(error.what, "it leaves no room for a text: a note can have 20 characters");
}

#[test]
fn a_bad_template_is_told_with_its_place() {
    for (template, place, what) in [
        ("{{ day", Some((1, 4)), "syntax error"),
        ("a\n  {{ daay }}", Some((2, 6)), "undefined"),
        ("{% for m in messages %}{{ m.txt }}{% endfor %}", Some((1, 27)), "undefined"),
        ("{% for m in messages %}", None, "syntax error"),
        (
            "{% for m in messages %}{% if m.is_stop %}{{ m.boo }}{% endif %}{% endfor %}",
            None,
            "undefined value: `m.boo`",
        ),
        ("{% for m in messages %}{{ m.text }}{% endfor %}{% if part > 1 %}{{ oops }}{% endif %}", None, "`oops`"),
        ("{{ day | shout }}", Some((1, 10)), "unknown filter"),
        ("{% include 'x' %}", None, ""),
        ("{# nothing #}", None, "shows nothing"),
        ("", None, "shows nothing"),
    ] {
        let error = check(template).expect_err(template);
        assert!(error.to_string().contains(what), "{template}: {error}");
        assert!(place.is_none() || error.place == place, "{template}: {error}");
    }
    assert_eq!(check(PLAIN), Ok(()));
    assert_eq!(check(HTML), Ok(()));
}

proptest! {
    #[test]
    fn parts_fit_and_lose_nothing(bodies in proptest::collection::vec("[a-zé👩‍👩‍👧🇫🇷<& ]{0,300}", 1..20), limit in 160_usize..600) {
        for format in [Format::Plain, Format::Html] {
            let messages: Vec<NoteMessage> = bodies.iter().map(|body| received(body)).collect();
            let thread = NoteThread { messages, ..sample() };
            let template = "{{ part }}:{% for m in messages %}{{ m.text }}{% endfor %}";
            let parts = text(Some(template), format, limit).parts(&thread).unwrap();

            prop_assert!(parts.iter().all(|part| part.encode_utf16().count() <= limit));
            let told: String = parts.iter().map(|part| part.split_once(':').unwrap().1).collect();
            let shown = |body: &String| if body.is_empty() { "(no text)".to_owned() } else { body.clone() };
            let whole: String = bodies.iter().map(shown).collect();
            prop_assert_eq!(told, if format == Format::Html { escape(&whole) } else { whole });
        }
    }
}

#[test]
fn a_value_that_is_not_known_shows_as_nothing() {
    let template = "{{ business_number }}{% for message in messages %}[{{ message.author }}]{% endfor %}";
    for format in [Format::Plain, Format::Html] {
        let thread = NoteThread { business_number: None, ..sample() };
        let parts = text(Some(template), format, 10_000).parts(&thread).unwrap();
        assert_eq!(parts, ["[][][Ana Rivera][]"]);
    }
}
