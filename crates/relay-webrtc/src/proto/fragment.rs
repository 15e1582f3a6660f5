//! Trickled candidates (RFC 8840), for the diagnosis of a connection that fails.

use super::offer::{CANDIDATE_LEN_MAX, Transport, is_candidate, keep_candidate};

/// The most bytes of a fragment that are read: the candidates of a big machine.
const FRAGMENT_MAX: usize = 16 * 1_024;

/// Why a fragment was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FragmentError {
    /// It is no `application/trickle-ice-sdpfrag` (HTTP 400).
    #[error("not an SDP fragment of RFC 8840: {0}")]
    Malformed(&'static str),
    /// It asks for an ICE restart (HTTP 422, WHEP draft §4.3).
    #[error("ICE restarts are not supported; open a new session instead")]
    IceRestart,
}

/// Reads a fragment; candidates are added to `candidates`.
///
/// The server is ICE-lite: it answers checks from wherever they come (RFC 8445 §2.5) and needs no candidate of the
/// viewer to do so.
///
/// # Errors
/// It is no fragment, or has another ufrag than the offer: nothing has been added.
pub(super) fn read(text: &str, viewer: &Transport, candidates: &mut Vec<String>) -> Result<(), FragmentError> {
    if text.len() > FRAGMENT_MAX {
        return Err(FragmentError::Malformed("too long"));
    }
    let (mut found, mut useful) = (Vec::new(), false);
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let (kind, value) = line.split_once('=').ok_or(FragmentError::Malformed("a line is not letter=value"))?;
        if kind.len() != 1 {
            return Err(FragmentError::Malformed("a line is not letter=value"));
        }
        let (name, value) = value.split_once(':').unwrap_or((value, ""));
        match (kind, name) {
            ("a", "ice-ufrag") if viewer.ufrag.as_deref() != Some(value.trim()) => {
                return Err(FragmentError::IceRestart);
            }
            ("a", "ice-pwd") if viewer.password.as_deref() != Some(value.trim()) => {
                return Err(FragmentError::IceRestart);
            }
            ("a", "candidate") if value.len() > CANDIDATE_LEN_MAX || !is_candidate(value) => {
                // Chromium ends with an empty candidate where it should say end-of-candidates.
                if !value.trim().is_empty() {
                    return Err(FragmentError::Malformed("a damaged candidate"));
                }
            }
            ("a", "candidate") => found.push(value.trim()),
            ("a", "ice-ufrag" | "ice-pwd" | "end-of-candidates") => {}
            _ => continue,
        }
        useful = true;
    }
    if !useful {
        return Err(FragmentError::Malformed("neither candidates nor credentials"));
    }
    for value in found {
        keep_candidate(candidates, value);
    }
    Ok(())
}
