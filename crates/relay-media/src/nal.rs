//! NAL unit framing, common to H.264 and H.265: Annex B start codes and 4-byte lengths.
