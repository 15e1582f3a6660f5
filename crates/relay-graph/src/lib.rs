//! Sources, transforms and sinks, and the pipeline that runs them for ever.
