//! What is wrong with a file, and where: collected, sorted, told all at once.

use std::{collections::BTreeSet, fmt, ops::Range};

/// Collects remarks while a file is read.
#[derive(Debug)]
pub(crate) struct Mistakes<'t> {
    text: &'t str,
    file: &'t str,
    mistakes: Vec<(usize, String)>,
    notes: Vec<(usize, String)>,
}

impl<'t> Mistakes<'t> {
    /// None yet in `text`, which is called `file` when told.
    pub(crate) fn new(text: &'t str, file: &'t str) -> Self {
        Self { text, file, mistakes: Vec::new(), notes: Vec::new() }
    }

    /// Something that must be mended, at `span` (bytes).
    pub(crate) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.mistakes.push((span.start, message.into()));
    }

    /// Something worth knowing that stops nothing.
    pub(crate) fn note(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.notes.push((span.start, message.into()));
    }

    /// How many were added so far.
    pub(crate) fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// Whether something at `span` must be mended already.
    pub(crate) fn told(&self, span: &Range<usize>) -> bool {
        self.mistakes.iter().any(|(offset, _)| *offset == span.start)
    }

    /// The text at `span` as written, cut short, without secrets.
    pub(crate) fn seen(&self, span: &Range<usize>) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let mut shown: String = redact(line).chars().take(SEEN_MAX).collect();
        if shown.len() < line.len() && line.chars().count() > SEEN_MAX || text.lines().count() > 1 {
            shown.push('…');
        }
        shown
    }

    /// Drops what was added after the first `syntax` mistakes on a line that one of those is about: a consequence.
    pub(crate) fn forget_consequences(&mut self, syntax: usize) {
        let line = |offset: usize| self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count();
        let broken: BTreeSet<usize> = self.mistakes.iter().take(syntax).map(|(offset, _)| line(*offset)).collect();
        let kept = self.mistakes.iter().enumerate();
        let kept = kept.filter(|(index, (offset, _))| *index < syntax || !broken.contains(&line(*offset)));
        self.mistakes = kept.map(|(_, mistake)| mistake.clone()).collect();
    }

    /// Everything found, in the order of the file: mistakes, then notes.
    pub(crate) fn finish(self) -> (Vec<Remark>, Vec<Remark>) {
        let tell = |mut remarks: Vec<(usize, String)>| {
            remarks.sort_by_key(|(offset, _)| *offset);
            remarks.dedup();
            remarks.into_iter().map(|(offset, message)| Remark::new(self.text, self.file, offset, message)).collect()
        };
        (tell(self.mistakes), tell(self.notes))
    }
}

/// More of a value than this is not repeated in a message.
const SEEN_MAX: usize = 60;

/// One remark on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// The file as it was named.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// What was seen and what would be right.
    pub(crate) message: String,
}

impl Remark {
    /// A remark on the byte at `offset` of `text`.
    pub(crate) fn new(text: &str, file: &str, offset: usize, message: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).map_or(0, |line| line.chars().count()) + 1;
        Self { file: file.to_owned(), line, column, message }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// `text` with whatever may be a secret in a URL replaced by `***`: the password, and the values of its query.
///
/// The user name stays, and so do queries of `test://`, which hold no secrets.
pub(crate) fn redact(text: &str) -> String {
    let authority = text.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = text.split_at(authority);
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let mut shown = scheme.to_owned();
    match rest.rsplit_once('@') {
        Some((userinfo, host)) => {
            let user = userinfo.split_once(':').map_or("***", |(user, _)| user);
            shown.push_str(user);
            shown.push_str(if user == "***" { "@" } else { ":***@" });
            shown.push_str(host);
        }
        None => shown.push_str(rest),
    }
    match query {
        Some(query) if scheme.ends_with("test://") => {
            shown.push('?');
            shown.push_str(query);
        }
        Some(_) => shown.push_str("?***"),
        None => {}
    }
    shown
}

/// The known word nearest to `word`, if it is near enough to be meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distances = known.into_iter().map(|known| (strsim::osa_distance(&word.to_lowercase(), known), known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may differ, two in a short word.
    (distance <= (known.len() / 3).max(2) && distance < known.len()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacts_what_may_be_secret_in_a_url() {
        for (text, shown) in [
            ("rtsp://10.0.0.5/ch0", "rtsp://10.0.0.5/ch0"),
            ("rtsp://user:secret@10.0.0.5/ch0", "rtsp://user:***@10.0.0.5/ch0"),
            ("\"rtsp://user:se@cret@10.0.0.5/ch0\"", "\"rtsp://user:***@10.0.0.5/ch0\""),
            ("rtsp://secret@10.0.0.5", "rtsp://***@10.0.0.5"),
            ("user:secret@10.0.0.5", "user:***@10.0.0.5"),
            ("srt://host:9000?passphrase=secret", "srt://host:9000?***"),
            ("test://pattern?fps=25", "test://pattern?fps=25"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn finds_the_word_that_was_meant() {
        let known = ["source", "record", "sinks", "webrtc"];
        for (word, expected) in
            [("sorce", Some("source")), ("Source", Some("source")), ("recrod", Some("record")), ("zebra", None)]
        {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
