//! One of a closed set of words.

use std::marker::PhantomData;

use serde_json::{Value as Json, json};

use super::{Kind, Scalar, Wrong};

pub(in super::super) trait Choices: Copy + PartialEq + 'static {
    const ALL: &'static [(&'static str, Self)];
}

/// Declares an enum with the word of each variant in `hookline.toml`.
macro_rules! choices {
    ($( $(#[$attribute:meta])* pub enum $Choice:ident { $( $Variant:ident = $word:literal, )+ } )+) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Choice { $( $Variant, )+ }

        impl Choices for $Choice {
            const ALL: &'static [(&'static str, Self)] = &[$( ($word, Self::$Variant), )+];
        }
    )+};
}
pub(in super::super) use choices;

pub(in super::super) struct OneOf<T>(PhantomData<T>);

pub(in super::super) fn one_of<T: Choices>() -> OneOf<T> {
    OneOf(PhantomData)
}

impl<T: Choices> Kind for OneOf<T> {
    type Value = T;

    fn wanted(&self) -> String {
        let words: Vec<_> = T::ALL.iter().map(|(word, _)| format!("{word:?}")).collect();
        words.join(" or ")
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<T, Wrong> {
        let text = scalar.text().unwrap_or_default().trim();
        let found = T::ALL.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| Wrong::not("one of the allowed values", self))
    }

    fn show(&self, value: &T) -> String {
        T::ALL.iter().find(|(_, choice)| choice == value).map_or_else(String::new, |(word, _)| (*word).to_owned())
    }

    fn schema(&self) -> Json {
        json!({ "enum": T::ALL.iter().map(|(word, _)| word).collect::<Vec<_>>() })
    }
}
