//! Reads sessions, strictly, from pieces of any size.

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    BLOCK_BYTES_MAX, CODEC_PRIVATE_BYTES_MAX, Element, Fault, Info, ReadError, Session, TRACKS_MAX, Tag, TrackEntry,
    ebml::{Head, Vint, Whole, vint},
    header, tag, track,
};

/// An EBML header has eight small values.
const EBML_BYTES_MAX: usize = 1 << 10;
/// Info has a few names and numbers.
const INFO_BYTES_MAX: usize = 1 << 16;
/// The largest CodecPrivate for each track, and as much for everything else.
const TRACKS_BYTES_MAX: usize = (TRACKS_MAX + 1) * CODEC_PRIVATE_BYTES_MAX;
/// Ten tags of the service's limits are 4 KiB; other writers put down statistics.
const TAGS_BYTES_MAX: usize = 1 << 16;
/// A cluster's own time.
const TIMECODE_BYTES_MAX: usize = 8;
/// Track number, time and flags before a block's payload; in a BlockGroup durations and references too.
const BLOCK_EXTRA_BYTES_MAX: usize = 1 << 10;

/// How many sessions a stream may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// One: another EBML header is a fault, as it is in a PutMedia request.
    One,
    /// Any number, one behind the other.
    Concatenated,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session begins.
    Session(Session),
    /// What the Segment tells of itself, once and before the first cluster.
    Info(Info),
    /// Its tracks, once and before the first cluster.
    Tracks(Vec<TrackEntry>),
    /// A cluster begins and tells its time, in ticks of [`Info::timecode_scale_ns`].
    Cluster {
        /// The time.
        timecode: u64,
    },
    /// A block of the cluster that began last.
    Block(Block),
    /// Tags, which end a cluster of unknown size.
    Tags(Vec<Tag>),
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The number of its track, which is in the header.
    pub track: u64,
    /// Its time in ticks, not relative to the cluster any more.
    pub timecode: i64,
    /// A decoder can start here.
    pub is_key: bool,
    /// No other frame refers to it.
    pub is_discardable: bool,
    /// It is to be decoded, not shown.
    pub is_invisible: bool,
    /// The frame; it shares its memory with what stood around it.
    pub payload: Bytes,
}

/// Reads a stream of Matroska.
///
/// [`push`](Self::push) pieces of it and [`poll`](Self::poll) after each until there is no more; then no more is held
/// than the last piece and one unfinished element, whose size is bounded. The events are the same, whatever the
/// pieces. At the first fault it stops for good.
///
/// Elements that it doesn't know are passed over within Info, Tracks and Tags, as EBML wants it; in a Segment or a
/// Cluster, whose size need not be told, they are a fault.
#[derive(Debug)]
pub struct Reader {
    sessions: Sessions,
    buffer: BytesMut,
    /// Of the first byte in `buffer`.
    offset: u64,
    /// The element being passed over and how many of its bytes are yet to come.
    skip: (Element, u64),
    place: Place,
    has_info: bool,
    /// Their numbers, once the header told them.
    tracks: Option<Vec<u64>>,
    failed: Option<ReadError>,
}

/// Between two elements: which may come.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// An EBML header.
    Start,
    /// The Segment behind an EBML header.
    Segment,
    /// Whatever may stand in a Segment.
    InSegment(Extent),
    InCluster(Cluster),
    /// Nothing, or a session if several are allowed.
    Behind,
}

/// Where an element ends, if that is known.
#[derive(Clone, Copy, Debug)]
struct Extent {
    end: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    offset: u64,
    segment: Extent,
    extent: Extent,
    timecode: Option<u64>,
}

impl Place {
    /// Where the innermost element of known size ends.
    fn end(self) -> Option<u64> {
        match self {
            Self::InSegment(extent) => extent.end,
            Self::InCluster(cluster) => cluster.extent.end.or(cluster.segment.end),
            Self::Start | Self::Segment | Self::Behind => None,
        }
    }
}

/// What became of an element.
enum Turn {
    /// It was passed or entered, and there may be more.
    Next,
    /// It is not all there.
    Short,
    /// It said something.
    Event(u64, Event),
}

impl Reader {
    /// A reader at the start of a stream.
    pub fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            buffer: BytesMut::new(),
            offset: 0,
            skip: (Element::VOID, 0),
            place: Place::Start,
            has_info: false,
            tracks: None,
            failed: None,
        }
    }

    /// Takes the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(piece);
        }
    }

    /// The next event, with the offset in the stream at which its element begins; `None` if that takes another piece.
    ///
    /// # Errors
    /// The stream is malformed; from then on always the same.
    pub fn poll(&mut self) -> Result<Option<(u64, Event)>, ReadError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.advance();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.buffer = BytesMut::new();
        }
        result
    }

    /// Whether the stream may end here, all events polled.
    ///
    /// # Errors
    /// It was malformed, or it ends within an element whose size is known, or before a Segment.
    pub fn finish(mut self) -> Result<(), ReadError> {
        while self.poll()?.is_some() {}
        let within = match self.place {
            Place::Start => Element::EBML,
            Place::Segment => Element::SEGMENT,
            Place::InCluster(Cluster { timecode: None, .. }) => Element::CLUSTER,
            Place::InCluster(Cluster { extent: Extent { end: Some(_) }, .. }) => Element::CLUSTER,
            Place::InCluster(_) | Place::InSegment(_) if self.place.end().is_some() => Element::SEGMENT,
            _ if self.skip.1 > 0 => self.skip.0,
            _ if !self.buffer.is_empty() => self.unfinished(),
            _ => return Ok(()),
        };
        Err(Fault::Truncated(within).at(self.offset))
    }

    /// The element that is not all there, or what it is in if its own name is not.
    fn unfinished(&self) -> Element {
        match (Head::read(&self.buffer), self.place) {
            (Ok(Some(head)), _) => head.element,
            (_, Place::InCluster(_)) => Element::CLUSTER,
            _ => Element::SEGMENT,
        }
    }

    fn advance(&mut self) -> Result<Option<(u64, Event)>, ReadError> {
        loop {
            if !self.pass() {
                return Ok(None);
            }
            self.leave_whole()?;
            let Some(head) = Head::read(&self.buffer).map_err(|fault| fault.at(self.offset))? else {
                return Ok(None);
            };
            match self.turn(head)? {
                Turn::Next => {}
                Turn::Short => return Ok(None),
                Turn::Event(offset, event) => return Ok(Some((offset, event))),
            }
        }
    }

    /// Drops what is to be passed over; false if more of that is to come.
    fn pass(&mut self) -> bool {
        let here = usize::try_from(self.skip.1).unwrap_or(usize::MAX).min(self.buffer.len());
        self.consume(here);
        self.skip.1 -= here as u64;
        self.skip.1 == 0
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.offset += bytes as u64;
    }

    /// Leaves the elements that end exactly here.
    fn leave_whole(&mut self) -> Result<(), ReadError> {
        while self.place.end() == Some(self.offset) {
            self.place = match self.place {
                Place::InCluster(cluster) => self.leave_cluster(cluster)?,
                _ => Place::Behind,
            };
        }
        Ok(())
    }

    fn leave_cluster(&self, cluster: Cluster) -> Result<Place, ReadError> {
        match cluster.timecode {
            Some(_) => Ok(Place::InSegment(cluster.segment)),
            None => Err(Fault::Missing { element: Element::TIMECODE, parent: Element::CLUSTER }.at(cluster.offset)),
        }
    }

    fn turn(&mut self, head: Head) -> Result<Turn, ReadError> {
        let behind_head = self.offset + head.len as u64;
        let end = head.size.map_or(Some(behind_head), |size| behind_head.checked_add(size));
        if self.place.end().is_some_and(|parent| end.is_none_or(|end| end > parent)) {
            return Err(Fault::Overrun(head.element).at(self.offset));
        }
        let element = head.element;
        match self.place {
            Place::Start if element == Element::EBML => self.session(head),
            Place::Start => Err(Fault::NoHeader(element).at(self.offset)),
            Place::Behind if element == Element::EBML => self.session(head),
            Place::Behind => Err(Fault::Trailing(element).at(self.offset)),
            Place::Segment if element == Element::SEGMENT => {
                self.place = Place::InSegment(self.enter(head)?);
                Ok(Turn::Next)
            }
            Place::Segment => Err(Fault::Missing { element: Element::SEGMENT, parent: Element::EBML }.at(self.offset)),
            Place::InSegment(extent) => self.in_segment(head, extent),
            Place::InCluster(cluster) => self.in_cluster(head, cluster),
        }
    }

    /// Takes the head of an element whose children are read one by one.
    fn enter(&mut self, head: Head) -> Result<Extent, ReadError> {
        self.consume(head.len);
        let end = match head.size {
            Some(size) => {
                let end = self.offset.checked_add(size);
                Some(end.ok_or_else(|| Fault::Size(head.element).at(self.offset - head.len as u64))?)
            }
            None => None,
        };
        Ok(Extent { end })
    }

    fn session(&mut self, head: Head) -> Result<Turn, ReadError> {
        if !matches!(self.place, Place::Start) && self.sessions == Sessions::One {
            return Err(Fault::SecondSession.at(self.offset));
        }
        let Some(body) = self.take(head, EBML_BYTES_MAX)? else { return Ok(Turn::Short) };
        let session = header::read_ebml(&body.whole())?;
        (self.place, self.has_info, self.tracks) = (Place::Segment, false, None);
        Ok(body.says(Event::Session(session)))
    }

    fn in_segment(&mut self, head: Head, extent: Extent) -> Result<Turn, ReadError> {
        let element = head.element;
        match element {
            Element::EBML if extent.end.is_none() => self.session(head),
            Element::INFO if self.has_info => Err(Fault::Duplicate(element).at(self.offset)),
            Element::TRACKS if self.tracks.is_some() => Err(Fault::Duplicate(element).at(self.offset)),
            Element::INFO => {
                let Some(body) = self.take(head, INFO_BYTES_MAX)? else { return Ok(Turn::Short) };
                let info = header::read_info(&body.whole())?;
                self.has_info = true;
                Ok(body.says(Event::Info(info)))
            }
            Element::TRACKS => {
                let Some(body) = self.take(head, TRACKS_BYTES_MAX)? else { return Ok(Turn::Short) };
                let tracks = track::read(&body.whole())?;
                self.tracks = Some(tracks.iter().map(|track| track.number).collect());
                Ok(body.says(Event::Tracks(tracks)))
            }
            Element::TAGS => {
                let Some(body) = self.take(head, TAGS_BYTES_MAX)? else { return Ok(Turn::Short) };
                let tags = tag::read(&body.whole())?;
                Ok(body.says(Event::Tags(tags)))
            }
            Element::CLUSTER => {
                let needed = [(Element::INFO, self.has_info), (Element::TRACKS, self.tracks.is_some())];
                if let Some((element, _)) = needed.into_iter().find(|(_, is_there)| !is_there) {
                    return Err(Fault::Missing { element, parent: Element::SEGMENT }.at(self.offset));
                }
                let offset = self.offset;
                let cluster = Cluster { offset, segment: extent, extent: self.enter(head)?, timecode: None };
                self.place = Place::InCluster(cluster);
                Ok(Turn::Next)
            }
            _ if element.is_skipped_in_segment() => self.skip(head),
            _ => Err(Fault::Unexpected { element, parent: Element::SEGMENT }.at(self.offset)),
        }
    }

    fn in_cluster(&mut self, head: Head, cluster: Cluster) -> Result<Turn, ReadError> {
        let element = head.element;
        match (element, cluster.timecode) {
            (Element::TIMECODE, None) => {
                let Some(body) = self.take(head, TIMECODE_BYTES_MAX)? else { return Ok(Turn::Short) };
                let timecode = body.whole().uint()?;
                if i64::try_from(timecode).is_err() {
                    return Err(body.whole().wrong("beyond 63 bits"));
                }
                self.place = Place::InCluster(Cluster { timecode: Some(timecode), ..cluster });
                Ok(Turn::Event(cluster.offset, Event::Cluster { timecode }))
            }
            (Element::TIMECODE, Some(_)) => Err(Fault::Duplicate(element).at(self.offset)),
            (Element::SIMPLE_BLOCK | Element::BLOCK_GROUP, None) => {
                Err(Fault::Missing { element: Element::TIMECODE, parent: Element::CLUSTER }.at(cluster.offset))
            }
            (Element::SIMPLE_BLOCK | Element::BLOCK_GROUP, Some(timecode)) => self.block(head, timecode),
            _ if element.is_skipped_in_cluster() => self.skip(head),
            // A cluster of unknown size ends where something begins that can't be in it (RFC 8794 §6.2).
            _ if cluster.extent.end.is_none() && (element.is_top_level() || element == Element::EBML) => {
                self.place = self.leave_cluster(cluster)?;
                Ok(Turn::Next)
            }
            _ => Err(Fault::Unexpected { element, parent: Element::CLUSTER }.at(self.offset)),
        }
    }

    fn block(&mut self, head: Head, cluster: u64) -> Result<Turn, ReadError> {
        let Some(body) = self.take(head, BLOCK_BYTES_MAX + BLOCK_EXTRA_BYTES_MAX)? else { return Ok(Turn::Short) };
        let whole = body.whole();
        let block = if head.element == Element::SIMPLE_BLOCK {
            read_block(&whole, &body.bytes, cluster)?
        } else {
            read_group(&whole, &body.bytes, cluster)?
        };
        if !self.tracks.as_ref().is_some_and(|tracks| tracks.contains(&block.track)) {
            return Err(Fault::UnknownTrack(block.track).at(body.offset));
        }
        Ok(body.says(Event::Block(block)))
    }

    /// Passes over an element.
    fn skip(&mut self, head: Head) -> Result<Turn, ReadError> {
        let size = head.size.ok_or_else(|| Fault::UnknownSize(head.element).at(self.offset))?;
        self.consume(head.len);
        self.skip = (head.element, size);
        Ok(Turn::Next)
    }

    /// Takes a whole element of at most `max` bytes; `None` if it is not all there.
    fn take(&mut self, head: Head, max: usize) -> Result<Option<Body>, ReadError> {
        let (element, offset) = (head.element, self.offset);
        let size = head.size.ok_or_else(|| Fault::UnknownSize(element).at(offset))?;
        let fits = usize::try_from(size).ok().filter(|size| *size <= max);
        let Some(length) = fits else { return Err(Fault::TooLarge { element, size, max: max as u64 }.at(offset)) };
        if self.buffer.len() < head.len + length {
            return Ok(None);
        }
        self.consume(head.len);
        let body_offset = self.offset;
        self.offset += size;
        Ok(Some(Body { element, bytes: self.buffer.split_to(length).freeze(), offset, body_offset }))
    }
}

/// An element taken from the stream.
struct Body {
    element: Element,
    bytes: Bytes,
    offset: u64,
    body_offset: u64,
}

impl Body {
    fn whole(&self) -> Whole<'_> {
        let Self { element, ref bytes, offset, body_offset } = *self;
        Whole { element, body: bytes, offset, body_offset }
    }

    fn says(&self, event: Event) -> Turn {
        Turn::Event(self.offset, event)
    }
}

/// Reads a SimpleBlock, or a Block without its reference (RFC 9559 §10.1, §10.2); `bytes` hold its body.
fn read_block(block: &Whole<'_>, bytes: &Bytes, cluster: u64) -> Result<Block, ReadError> {
    /// SimpleBlock flags.
    const KEY: u8 = 0x80;
    const INVISIBLE: u8 = 0x08;
    const LACING: u8 = 0x06;
    const DISCARDABLE: u8 = 0x01;
    let Vint::Whole { value: Some(track), len } = vint(block.body) else {
        return Err(block.wrong("without a track number"));
    };
    let rest = block.body.get(len..).unwrap_or_default();
    let [high, low, flags, payload @ ..] = rest else { return Err(block.wrong("too short")) };
    if flags & LACING != 0 {
        return Err(Fault::Laced.at(block.offset));
    }
    if payload.is_empty() || payload.len() > BLOCK_BYTES_MAX {
        return Err(block.wrong("without a frame, or with one that is too large"));
    }
    let relative = i16::from_be_bytes([*high, *low]);
    let timecode = i64::try_from(cluster).ok().and_then(|cluster| cluster.checked_add(relative.into()));
    Ok(Block {
        track,
        timecode: timecode.ok_or_else(|| block.wrong("beyond 63 bits"))?,
        is_key: flags & KEY != 0,
        is_discardable: flags & DISCARDABLE != 0,
        is_invisible: flags & INVISIBLE != 0,
        payload: bytes.slice_ref(payload),
    })
}

/// Reads a BlockGroup (RFC 9559 §5.1.3.5), which says with a reference that a frame is no key frame.
fn read_group(group: &Whole<'_>, bytes: &Bytes, cluster: u64) -> Result<Block, ReadError> {
    let (mut block, mut refers) = (None, false);
    for child in group.children() {
        let child = child?;
        match child.element {
            Element::BLOCK => child.once(&mut block, |block| read_block(block, bytes, cluster))?,
            Element::REFERENCE_BLOCK => refers = true,
            _ => {}
        }
    }
    let block = group.must(block, Element::BLOCK)?;
    Ok(Block { is_key: !refers, is_discardable: false, ..block })
}

/// Reads a whole stream.
///
/// # Errors
/// It is malformed, or its end is missing.
pub fn read_all(stream: &[u8], sessions: Sessions) -> Result<Vec<Event>, ReadError> {
    let mut reader = Reader::new(sessions);
    reader.push(stream);
    let mut events = Vec::new();
    while let Some((_, event)) = reader.poll()? {
        events.push(event);
    }
    reader.finish()?;
    Ok(events)
}
