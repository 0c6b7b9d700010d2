//! The text of a note: a pure function of a thread's messages, a template, a time zone and a limit. The same set of
//! messages gives the same bytes, in whatever order the messages came.
//!
//! Templates are minijinja's (<https://docs.rs/minijinja/latest/minijinja/syntax/index.html>). docs/notes.md lists what
//! a template can show.

use minijinja::{AutoEscape, Environment, Value};
use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::template::{self, TemplateError, template_error};
use crate::time::Timestamp;
use crate::time_zone::TimeZone;

/// What a note looks like without a template of the user's. HTML has its own, because it has other line breaks.
const PLAIN: &str = "\
Texts with {{ contact_number or 'this contact' }}\
{% if business_number %} through {{ business_number }}{% endif %}, {{ day }}\
{% if part > 1 %}, part {{ part }}{% endif %}\n\
{% for message in messages %}\n{{ message.time }} {{ message.label }}: {{ message.text }}{% endfor %}";
const HTML: &str = "\
<strong>Texts with {{ contact_number or 'this contact' }}\
{% if business_number %} through {{ business_number }}{% endif %}, {{ day }}\
{% if part > 1 %}, part {{ part }}{% endif %}</strong>\
{% for message in messages %}<br>{{ message.time }} {{ message.label }}: {{ message.text }}{% endfor %}";

/// The name under which the environment holds the only template. Errors do not show it.
const NAME: &str = "note";

/// The markup that a system of record shows notes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Plain,
    Html,
}

/// How a text message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageOutcome {
    Received,
    Delivered,
    Failed,
}

impl MessageOutcome {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// Reads the name that [`MessageOutcome::as_str`] returns.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Received, Self::Delivered, Self::Failed].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// A picture or another file of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Media {
    /// The media type, such as `image/jpeg`, if the message states it.
    #[serde(rename = "type")]
    pub media_type: Option<String>,
    /// An https link, if the message has one.
    pub url: Option<String>,
}

impl Media {
    /// Describes the file in words, with its link: `picture https://…`.
    fn in_words(&self) -> String {
        let kind = match self.media_type.as_deref().unwrap_or_default().split('/').next().unwrap_or_default() {
            "image" => "picture",
            "video" => "video",
            "audio" => "recording",
            _ => "file",
        };
        match &self.url {
            Some(url) => format!("[{kind} {url}]"),
            None => format!("[{kind}]"),
        }
    }
}

/// One text message of a note.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteMessage {
    pub occurred_at: Timestamp,
    pub is_inbound: bool,
    pub outcome: MessageOutcome,
    pub body: String,
    /// The TextUs user who wrote an outbound message.
    pub author: Option<String>,
    pub media: Vec<Media>,
    /// Whether the whole text is a keyword that opts out.
    pub is_stop: bool,
}

/// The messages of one note and what they have in common.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteThread {
    pub account: String,
    /// In E.164.
    pub contact_number: Option<String>,
    pub business_number: Option<String>,
    /// The local date: `2026-11-02`.
    pub day: String,
    /// In the order of the note.
    pub messages: Vec<NoteMessage>,
}

/// Makes the texts of notes.
pub struct NoteText {
    environment: Environment<'static>,
    format: Format,
    time_zone: TimeZone,
    /// Most UTF-16 units of one note.
    limit: usize,
}

/// Checks the template of a note: its syntax, and that it shows a sample thread in both formats.
///
/// # Errors
/// Says what is wrong, with line and column.
pub fn check(template: &str) -> Result<(), TemplateError> {
    for format in [Format::Plain, Format::Html] {
        let (text, sample) = (NoteText::new(Some(template), format, TimeZone::UTC, usize::MAX)?, sample());
        // Also what a template may show of a later part.
        let parts = [text.render(&sample, &sample.messages, 1)?, text.render(&sample, &sample.messages, 2)?];
        if parts[0].trim().is_empty() {
            return Err(TemplateError { place: None, what: "it shows nothing of a thread".to_owned() });
        }
    }
    Ok(())
}

impl NoteText {
    /// `template` is the user's; `None` means the default of this format.
    ///
    /// # Errors
    /// When the template's syntax is wrong.
    pub fn new(
        template: Option<&str>,
        format: Format,
        time_zone: TimeZone,
        limit: usize,
    ) -> Result<Self, TemplateError> {
        let mut environment = template::environment();
        environment.set_auto_escape_callback(move |_name| match format {
            Format::Plain => AutoEscape::None,
            Format::Html => AutoEscape::Html,
        });
        let default = match format {
            Format::Plain => PLAIN,
            Format::Html => HTML,
        };
        let source = template.unwrap_or(default).to_owned();
        environment.add_template_owned(NAME, source.clone()).map_err(|error| template_error(&source, &error))?;
        Ok(Self { environment, format, time_zone, limit })
    }

    /// Returns the texts of a thread's notes: one, or several where one would exceed the limit. A part is never cut
    /// within a character. No two parts share a message, except a message that is too long for one.
    ///
    /// # Errors
    /// When the template fails for these messages, or leaves no room for a text.
    pub fn parts(&self, thread: &NoteThread) -> Result<Vec<String>, TemplateError> {
        let whole = self.render(thread, &thread.messages, 1)?;
        if self.fits(&whole) {
            return Ok(vec![whole]);
        }
        let mut messages = Vec::with_capacity(thread.messages.len());
        for message in &thread.messages {
            self.cut_message(thread, message, &mut messages)?;
        }
        let (mut parts, mut rest) = (Vec::new(), messages.as_slice());
        while !rest.is_empty() {
            let (text, count) = self.longest(thread, rest, parts.len() + 1)?;
            parts.push(text);
            rest = &rest[count..];
        }
        Ok(parts)
    }

    /// Returns the part with as many of the first messages as fit, and how many these are.
    fn longest(
        &self,
        thread: &NoteThread,
        messages: &[NoteMessage],
        part: usize,
    ) -> Result<(String, usize), TemplateError> {
        let (mut fits, mut too_many) = (1, messages.len() + 1);
        while too_many - fits > 1 {
            let middle = usize::midpoint(fits, too_many);
            if self.fits(&self.render(thread, &messages[..middle], part)?) { fits = middle } else { too_many = middle }
        }
        Ok((self.render(thread, &messages[..fits], part)?, fits))
    }

    /// Cuts a message that would not fit into a part of its own. A part's number may grow by some digits later.
    fn cut_message(
        &self,
        thread: &NoteThread,
        message: &NoteMessage,
        pieces: &mut Vec<NoteMessage>,
    ) -> Result<(), TemplateError> {
        const LARGE_NUMBER: usize = 9_999;
        if self.fits(&self.render(thread, std::slice::from_ref(message), LARGE_NUMBER)?) {
            pieces.push(message.clone());
            return Ok(());
        }
        let graphemes: Vec<&str> = message.body.graphemes(true).collect();
        if graphemes.len() < 2 {
            let what = format!("it leaves no room for a text: a note can have {} characters", self.limit);
            return Err(TemplateError { place: None, what });
        }
        let (first, second) = graphemes.split_at(graphemes.len() / 2);
        let first = NoteMessage { body: first.concat(), media: Vec::new(), ..message.clone() };
        self.cut_message(thread, &first, pieces)?;
        self.cut_message(thread, &NoteMessage { body: second.concat(), ..message.clone() }, pieces)
    }

    fn fits(&self, text: &str) -> bool {
        text.len() <= self.limit || text.encode_utf16().count() <= self.limit
    }

    fn render(&self, thread: &NoteThread, messages: &[NoteMessage], part: usize) -> Result<String, TemplateError> {
        let shown: Vec<Shown> = messages.iter().map(|message| self.shown(message)).collect();
        let context = minijinja::context! {
            account => thread.account,
            contact_number => thread.contact_number,
            business_number => thread.business_number,
            day => thread.day,
            part => part,
            messages => shown,
        };
        let template = self.environment.get_template(NAME).map_err(|error| template_error("", &error))?;
        let text = template.render(context).map_err(|error| template_error(template.source(), &error))?;
        Ok(match self.format {
            Format::Plain => text,
            // The line breaks of a template; those of texts are `<br>` already.
            Format::Html => text.trim_matches('\n').replace("\r\n", "<br>").replace('\n', "<br>"),
        })
    }

    fn shown(&self, message: &NoteMessage) -> Shown {
        let by = message.author.as_deref().map_or_else(String::new, |author| format!(" by {author}"));
        let label = match (message.outcome, message.is_inbound) {
            (MessageOutcome::Failed, _) => format!("Not delivered, sent{by}"),
            (_, true) if message.is_stop => "Received, opts out".to_owned(),
            (_, true) => "Received".to_owned(),
            (_, false) => format!("Sent{by}"),
        };
        let files = message.media.iter().map(Media::in_words);
        let text: Vec<String> =
            Some(message.body.clone()).filter(|body| !body.is_empty()).into_iter().chain(files).collect();
        let text = if text.is_empty() { "(no text)".to_owned() } else { text.join(" ") };
        Shown {
            time: self.time_zone.time_of_day(message.occurred_at),
            date: self.time_zone.day(message.occurred_at),
            direction: if message.is_inbound { "in" } else { "out" },
            outcome: message.outcome.as_str(),
            author: message.author.clone(),
            label,
            text: self.with_breaks(&text),
            media: message.media.clone(),
            is_stop: message.is_stop,
        }
    }

    /// HTML shows no line breaks of a text, so they become `<br>`.
    fn with_breaks(&self, text: &str) -> Value {
        match self.format {
            Format::Plain => Value::from(text),
            Format::Html => Value::from_safe_string(escape(text).replace("\r\n", "<br>").replace('\n', "<br>")),
        }
    }
}

/// A message as a template sees it.
#[derive(Serialize)]
struct Shown {
    time: String,
    date: String,
    direction: &'static str,
    outcome: &'static str,
    author: Option<String>,
    label: String,
    text: Value,
    media: Vec<Media>,
    is_stop: bool,
}

/// Escapes what HTML reads as markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

fn sample() -> NoteThread {
    let message = |is_inbound, outcome, body: &str| NoteMessage {
        occurred_at: Timestamp::from_millis(1_762_095_845_000),
        is_inbound,
        outcome,
        body: body.to_owned(),
        author: (body != "It is." && !is_inbound).then(|| "Ana Rivera".to_owned()),
        media: vec![Media { media_type: Some("image/jpeg".to_owned()), url: None }],
        is_stop: body == "STOP",
    };
    NoteThread {
        account: "acme".to_owned(),
        contact_number: Some("+14155550123".to_owned()),
        business_number: Some("+14155550100".to_owned()),
        day: "2026-11-02".to_owned(),
        messages: vec![
            message(true, MessageOutcome::Received, "Is the job still open?"),
            message(false, MessageOutcome::Delivered, "It is."),
            message(false, MessageOutcome::Failed, "Can you come at 3?"),
            message(true, MessageOutcome::Received, "STOP"),
        ],
    }
}

#[cfg(test)]
mod tests;
