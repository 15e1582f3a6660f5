//! `[streams.NAME]`: a source and its sinks, in short or long form.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use relay_graph::NAME_MAX;
use schemars::JsonSchema;

use super::{
    mistake::Mistakes,
    reader::Table,
    sink::{Record, Sink, SinkKind},
    source::{Source, SourceForm},
    webrtc::{Viewing, ViewingForm},
};

/// `[streams.NAME]`: where the media comes from and where it goes.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Stream {
    /// Its name, the key of its table.
    #[schemars(skip)]
    pub(crate) name: String,
    /// Where its name stands in the file, in bytes.
    #[schemars(skip)]
    pub(crate) key_span: Range<usize>,
    /// A URL, or a table with `url` and what else there is to say.
    #[schemars(with = "SourceForm")]
    pub(crate) source: Source,
    /// Short for a sink named `record` of type `"record"` into this directory.
    #[schemars(with = "Option<String>")]
    #[expect(dead_code, reason = "read by the schema only")]
    record: Short,
    /// The sinks by name.
    #[schemars(default, with = "BTreeMap<String, SinkKind>")]
    pub(crate) sinks: Vec<Sink>,
    /// Whether it may be watched over WHEP, `true` unless said otherwise; or a table with what there is to say of it.
    #[schemars(with = "Option<ViewingForm>")]
    pub(crate) webrtc: Option<Viewing>,
}

/// A key that only says something in the file: a short form.
#[derive(Clone, Copy, Debug)]
struct Short;

/// The name of the sink that serves all viewers of a stream.
pub(crate) const VIEWERS: &str = "webrtc";

/// More sinks of a stream than this are refused: each keeps a cursor and a task.
const SINKS_MAX: usize = 64;

impl Stream {
    pub(super) fn read(name: &str, mut table: Table<'_, '_>) -> Option<Self> {
        let key_span = table.key_span();
        let mut sinks = Vec::new();
        if let Some(dir) = table.get::<PathBuf>("record") {
            let kind = SinkKind::Record(Record::into_dir(dir.value));
            sinks.push(Sink { name: "record".into(), key_span: dir.span, kind });
        }
        let source = Source::read(&mut table);
        if let Some(mut list) = table.table("sinks") {
            for (name, entry) in list.names() {
                let taken = sinks.iter().any(|sink| sink.name == name);
                if taken {
                    let message = "this sink's name is taken by record = \"…\": name it otherwise, or drop the other";
                    list.mistakes.add(&entry.key_span, message);
                }
                let named = check_name(name, &entry.key_span, list.mistakes) && !taken;
                let Some(sink) = list.open(name, &entry) else { continue };
                sinks.extend(Sink::read(name, sink).filter(|_| named));
            }
            if sinks.len() > SINKS_MAX {
                let message = format!("{} sinks: a stream may have at most {SINKS_MAX}", sinks.len());
                list.mistakes.add(&list.key_span(), message);
            }
        }
        let webrtc = Viewing::read(&mut table);
        if let Some(sink) = sinks.iter().find(|sink| sink.name == VIEWERS && webrtc.is_some()) {
            let message = format!("{VIEWERS:?} is the name of the viewers' sink: name this one otherwise");
            table.mistakes.add(&sink.key_span, message);
        }
        same_directory_twice(&sinks, name, table.mistakes);
        table.close();
        Some(Self { name: name.to_owned(), key_span, source: source?, record: Short, sinks, webrtc })
    }
}

/// Two recorders of one stream in one directory would write the same files.
fn same_directory_twice(sinks: &[Sink], stream: &str, mistakes: &mut Mistakes<'_>) {
    for (index, sink) in sinks.iter().enumerate() {
        let SinkKind::Record(record) = &sink.kind else { continue };
        let earlier = sinks
            .iter()
            .take(index)
            .find(|earlier| matches!(&earlier.kind, SinkKind::Record(earlier) if earlier.dir == record.dir));
        if let Some(earlier) = earlier {
            let message = format!(
                "{stream}: sinks {:?} and {:?} both record into {:?}: give one another dir",
                earlier.name, sink.name, record.dir
            );
            mistakes.add(&sink.key_span, message);
        }
    }
}

/// Whether a name may go into paths, URLs and metric labels as it is; noted if not.
pub(super) fn check_name(name: &str, span: &Range<usize>, mistakes: &mut Mistakes<'_>) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let valid = (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fits);
    if !valid {
        let rule = format!("use 1 to {NAME_MAX} of A-Z a-z 0-9 - _ . and no leading dot");
        mistakes.add(span, format!("{name:?} can't be a name: {rule}"));
    }
    valid
}
