//! Where the planner's parts put their requests and events.

use std::collections::VecDeque;

use url::Url;

use super::event::{Event, Fetch, FetchId, Options, Output, Range, What};

/// What goes out, and what all parts share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) options: Options,
    pub(crate) rng: fastrand::Rng,
    /// The consumer has room for another segment.
    pub(crate) has_room: bool,
    ids: u64,
}

impl Desk {
    pub(crate) fn new(options: Options) -> Self {
        let rng = fastrand::Rng::with_seed(options.seed);
        Self { outputs: VecDeque::new(), options, rng, has_room: true, ids: 0 }
    }

    pub(crate) fn fetch(&mut self, what: What, url: Url, range: Option<Range>, fresh: bool) -> FetchId {
        self.ids += 1;
        let id = FetchId(self.ids);
        self.outputs.push_back(Output::Fetch(Fetch { id, url, range, what, fresh }));
        id
    }

    pub(crate) fn cancel(&mut self, id: FetchId) {
        self.outputs.push_back(Output::Cancel(id));
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
