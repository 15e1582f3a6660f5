//! Low-latency HLS (RFC 8216bis §4.4.4.9, §4.4.5.3): a segment piece by piece, before it is whole.

use super::{
    desk::Desk,
    playlist::{HintKind, MediaPlaylist, Part, Pending, Segment, Span},
    work::{Bond, Piece, Work},
};

/// After so many failures of a part the whole segment is taken, once it is there.
const PART_TRIES: u32 = 2;

/// What comes after a part.
pub(crate) enum Next {
    /// It is still being fetched, or the next one is not yet known.
    Stay,
    Piece(Piece),
    /// The segment is whole: all of its parts were had.
    Complete,
    /// Parts cannot be had any more; the whole segment can.
    Whole,
}

/// Parts are taken from this playlist.
pub(crate) fn are_used(list: &MediaPlaylist, desk: &Desk) -> bool {
    desk.options.low_latency && list.part_target.is_some() && list.control.can_block_reload && !list.ended
}

/// The beginning of the segment that is not whole yet, if that is `sequence` and its first part can be had.
pub(crate) fn first(list: &MediaPlaylist, sequence: u64, desk: &Desk) -> Option<(Segment, Piece)> {
    let pending = &list.pending;
    // With AES-128 the whole segment is one chain of blocks: it is taken when it is whole.
    if !are_used(list, desk) || sequence != list.end() || pending.key.is_some() {
        return None;
    }
    let piece = match pending.parts.first() {
        Some(part) => part_piece(part, list)?,
        None => hint_piece(pending, list)?,
    };
    let segment = Segment {
        uri: String::new(),
        span: None,
        duration: list.target_duration,
        discontinuity: pending.discontinuity,
        gap: false,
        wall: pending.wall,
        key: None,
        map: pending.map.clone(),
        parts: Vec::new(),
    };
    Some((segment, piece))
}

/// What to do after, or about, the part that `work` is at.
pub(crate) fn next(work: &mut Work, list: &MediaPlaylist, desk: &Desk) -> Next {
    let Some(at) = work.parts else { return Next::Stay };
    let whole = list.segment(work.sequence);
    if !work.is_piece_done() {
        let is_hopeless = work.waits.failures() >= PART_TRIES && whole.is_some();
        return if is_hopeless { Next::Whole } else { Next::Stay };
    }
    let known = match whole {
        Some(segment) => &segment.parts,
        None if list.end() == work.sequence && work.bond == Bond::Listed => &list.pending.parts,
        // Numbered anew, or long gone: there is no more to be had.
        None if list.media_sequence > work.sequence || work.bond != Bond::Listed => return Next::Complete,
        // An older copy of the playlist.
        None => return Next::Stay,
    };
    let index = at + 1;
    if let Some(part) = known.get(index) {
        let Some(piece) = part_piece(part, list) else { return Next::Stay };
        work.parts = Some(index);
        return Next::Piece(piece);
    }
    match whole {
        Some(_) if known.len() == index => Next::Complete,
        Some(_) => Next::Whole,
        None if known.len() == index && are_used(list, desk) => match hint_piece(&list.pending, list) {
            Some(piece) if piece != work.piece => {
                work.parts = Some(index);
                Next::Piece(piece)
            }
            _ => Next::Stay,
        },
        None => Next::Stay,
    }
}

fn part_piece(part: &Part, list: &MediaPlaylist) -> Option<Piece> {
    (!part.gap).then(|| list.resolve(&part.uri)).flatten().map(|url| Piece::new(url, part.span))
}

fn hint_piece(pending: &Pending, list: &MediaPlaylist) -> Option<Piece> {
    let hint = pending.hints.iter().find(|hint| hint.kind == HintKind::Part)?;
    let url = list.resolve(&hint.uri)?;
    let span = hint.length.map(|length| Span { offset: hint.start, length });
    Some(Piece { start: hint.start, ..Piece::new(url, span) })
}
