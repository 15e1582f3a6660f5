//! Cameras, impairments and checking readers for tests and benches; never part of the product.
//!
//! A [`Farm`] serves any number of RTSP cameras from one thread, cheaply enough that a bench on two cores measures the
//! relay and not the cameras: each plays a [`Clip`] coded beforehand, and each frame carries a
//! [`Stamp`](relay_media::stamp::Stamp) whose counter rises by one for as long as the camera lives. A
//! [`CameraHandle`] injects [`Fault`]s and tells what was sent; [`verify`] reads the counters back from recordings.

mod audio;
mod auth;
mod camera;
mod clip;
mod clock;
mod connection;
mod farm;
mod fault;
mod malformed;
mod poller;
mod rtsp;
mod sdp;
mod session;
mod stage;
mod truth;
mod wire;

#[cfg(test)]
mod tests;

pub mod floor;
pub mod hls_origin;
pub mod kvs;
pub mod link;
pub mod verify;
pub mod whep;

pub use audio::Audio;
pub use auth::{Auth, Credentials};
pub use camera::{CameraConfig, CameraHandle, Join, Transports};
pub use clip::{Clip, ClipError, ClipSpec, Coding};
pub use farm::{Farm, FarmConfig, Ports};
pub use fault::{Event, Fault, ScriptError, ScriptLine, Step, Trouble};
pub use truth::{SentFrame, SessionEnd, SessionLog};

/// Locks, and goes on where a thread panicked holding the lock: a simulated camera has no state worth losing a test for.
fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
