//! Variables: `EXT-X-DEFINE` and `{$name}` (RFC 8216bis §4.3, §4.4.2.3).

use std::{borrow::Cow, collections::BTreeMap};

use url::Url;

use super::attributes::Attributes;

/// The most variables of a playlist.
const VARIABLES_MAX: usize = 64;
/// The most bytes that a line may grow to: a URL with a token is a few hundred.
const LINE_MAX: usize = 16 << 10;

/// The variables of a playlist by their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Takes what an `EXT-X-DEFINE` tag says: a value of its own, one of the `imported` master's, or a parameter of the
    /// playlist's own `url`.
    pub(crate) fn define(&mut self, attributes: &str, imported: &Self, url: &Url) {
        let get = |name| Attributes::get(attributes, name);
        let (name, value) = if let Some(name) = get("NAME") {
            (name, get("VALUE").map(str::to_owned))
        } else if let Some(name) = get("IMPORT") {
            (name, imported.0.get(name).cloned())
        } else if let Some(name) = get("QUERYPARAM") {
            (name, url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()))
        } else {
            return;
        };
        if let Some(value) = value
            && self.0.len() < VARIABLES_MAX
            && value.len() <= LINE_MAX
        {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// `line` with its variables replaced; unknown ones stay as they are, and so does a line that would grow too long.
    pub(crate) fn expand<'a>(&self, line: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() || !line.contains("{$") {
            return Cow::Borrowed(line);
        }
        let (mut expanded, mut rest) = (String::new(), line);
        while let Some((before, after)) = rest.split_once("{$") {
            expanded.push_str(before);
            let value = after.split_once('}').and_then(|(name, after)| Some((self.0.get(name)?, after)));
            if let Some((value, after)) = value {
                expanded.push_str(value);
                rest = after;
            } else {
                expanded.push_str("{$");
                rest = after;
            }
            if expanded.len() > LINE_MAX {
                return Cow::Borrowed(line);
            }
        }
        expanded.push_str(rest);
        Cow::Owned(expanded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once() {
        let url = Url::parse("http://a/b.m3u8?t=q").unwrap();
        let (mut master, mut variables) = (Variables::default(), Variables::default());
        master.define("NAME=\"m\",VALUE=\"{$a}\"", &Variables::default(), &url);
        for tag in ["NAME=\"a\",VALUE=\"1\"", "IMPORT=\"m\"", "QUERYPARAM=\"t\"", "IMPORT=\"none\"", "X=\"1\""] {
            variables.define(tag, &master, &url);
        }
        for (line, expected) in [
            ("x", "x"),
            ("{$a}/{$t}.ts?{$a}", "1/q.ts?1"),
            ("{$m}", "{$a}"),
            ("{$none}{$a}", "{$none}1"),
            ("{$a", "{$a"),
        ] {
            assert_eq!(variables.expand(line), expected, "{line}");
        }
    }
}
