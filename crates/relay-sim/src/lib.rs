//! Cameras, impairments and checking readers for tests and benches; never part of the product.
#![expect(
    clippy::disallowed_methods,
    reason = "simulated peers live outside the relay: they keep time and run tasks of their own"
)]

mod camera;
mod clip;
mod farm;
mod request;
mod session;

pub mod floor;
pub mod verify;

pub use camera::{Camera, CameraOptions, Fault, SentSession, utc_nanos};
pub use clip::{Clip, ClipOptions, Unit};
pub use farm::Farm;
