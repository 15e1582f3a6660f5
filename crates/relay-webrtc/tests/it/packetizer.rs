//! Payloads, read back by relay-rtp.

use std::sync::Arc;

use proptest::prelude::*;
use relay_media::{Codec, Flags, Kind, Timebase, Timestamp, Track, TrackId, aac, h265, nal::split_length_prefixed};
use relay_rtp::{AfterLoss, Depacketizer, Format, RtpPacket};
use relay_webrtc::{PAYLOAD_MAX, Packetizer, RtpUnit};

use super::{
    camera::{h264_track, hex, opus_track, packet},
    simulation::epoch,
};

fn h265_track() -> Arc<Track> {
    let config = h265::Config::parse(
        &hex("40010c01ffff01600000030090000003000003003f928090"),
        &hex("42010101600000030090000003000003003fa0050201696592a4932bc05a020000030002000003001e10"),
        &hex("4401c172b46240"),
    );
    Arc::new(Track { id: TrackId(1), codec: Codec::H265(config.unwrap()), timebase: Timebase::VIDEO })
}

fn lengths(nals: &[Vec<u8>]) -> Vec<u8> {
    nals.iter().flat_map(|nal| [&u32::try_from(nal.len()).unwrap().to_be_bytes(), nal.as_slice()].concat()).collect()
}

/// What relay-rtp makes of a unit's payloads.
fn read_back(name: &str, unit: &RtpUnit) -> Vec<Vec<u8>> {
    let format = Format::parse(name, 90_000, None, "").unwrap();
    let mut depacketizer = Depacketizer::new(&format, AfterLoss::PassOn);
    for (index, payload) in unit.payloads.iter().enumerate() {
        let (timestamp, marker) = (unit.pts.ticks(), index + 1 == unit.payloads.len());
        depacketizer.push(RtpPacket { payload, timestamp, marker, lost_before: 0, arrival: unit.arrival });
    }
    depacketizer.finish();
    let read = depacketizer.poll().map(|unit| unit.payload).unwrap_or_default();
    split_length_prefixed(&read).map(<[u8]>::to_vec).collect()
}

/// An H.264 picture: SEI, then slices of the given lengths.
fn h264_picture(key: bool, sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut nals = vec![vec![0x06, 0x05, 0x03, 0xaa, 0xbb, 0xcc, 0x80]];
    for (index, &size) in sizes.iter().enumerate() {
        let mut slice = vec![0x55; size.max(8)];
        // first_mb_in_slice 0 in the first slice, 1 in the others; slice_type I or P; pic_parameter_set_id 0.
        let first = if index == 0 { [0x88, 0x84] } else { [0x44, 0x42] };
        slice[0] = if key { 0x65 } else { 0x41 };
        slice[1..3].copy_from_slice(&first);
        nals.push(slice);
    }
    nals
}

fn h265_picture(sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut nals = vec![vec![0x4e, 0x01, 0x05, 0x03, 0xaa, 0xbb, 0xcc, 0x80]];
    for (index, &size) in sizes.iter().enumerate() {
        let mut slice = vec![0x55; size.max(8)];
        slice[..3].copy_from_slice(&[0x26, 0x01, if index == 0 { 0xaf } else { 0x2f }]);
        nals.push(slice);
    }
    nals
}

fn check(name: &str, track: &Arc<Track>, nals: &[Vec<u8>]) {
    let at = Timestamp::new(3_600, Timebase::VIDEO);
    let unit = Packetizer::new().packetize(&packet(track, at, lengths(nals), Flags::KEY, epoch())).unwrap();
    assert_eq!(read_back(name, &unit), nals, "{name}");
    assert_eq!((unit.kind, unit.key), (Kind::Video, true));
    assert!(unit.payloads.iter().all(|payload| !payload.is_empty() && payload.len() <= PAYLOAD_MAX));
    assert_eq!(unit.bytes, unit.payloads.iter().map(|payload| payload.len()).sum::<usize>());
}

proptest! {
    /// Whatever the sizes of the slices, what was packetized is what is read.
    #[test]
    fn pictures_round_trip(sizes in prop::collection::vec(prop_oneof![8..300_usize, 1_000..1_200_usize, 0..40_000_usize], 1..6)) {
        check("h264", &h264_track(), &h264_picture(true, &sizes));
        check("h265", &h265_track(), &h265_picture(&sizes));
    }

    /// Any bytes as a payload of any track.
    #[test]
    fn any_payload_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..3_000), key: bool) {
        for track in [h264_track(), h265_track(), opus_track()] {
            let flags = if key { Flags::KEY } else { Flags::empty() };
            let at = Timestamp::new(0, track.timebase);
            let unit = Packetizer::new().packetize(&packet(&track, at, bytes.clone(), flags, epoch()));
            if let Some(unit) = unit {
                prop_assert!(!unit.payloads.is_empty() && unit.payloads.iter().all(|payload| payload.len() <= 1_386));
            }
        }
    }
}

/// The shapes that matter.
#[test]
fn payloads_have_the_wanted_shapes() {
    let track = h264_track();
    let mut packetizer = Packetizer::new();
    let mut unit = |nals: &[Vec<u8>], key| {
        let flags = if key { Flags::KEY } else { Flags::empty() };
        packetizer.packetize(&packet(&track, Timestamp::new(0, Timebase::VIDEO), lengths(nals), flags, epoch()))
    };
    // A key frame begins with the parameter sets and the SEI in one packet; the fragments are of one length.
    let key = unit(&h264_picture(true, &[50_000]), true).unwrap();
    assert_eq!(key.payloads[0][0] & 0x1f, 24);
    let (last, fragments) = key.payloads[1..].split_last().unwrap();
    assert!(fragments.iter().all(|payload| payload.len() == fragments[0].len() && payload[0] & 0x1f == 28));
    assert!(last.len() <= fragments[0].len() && last.len() + 50 > fragments[0].len());
    // Parameter sets stand apart from slices even where all would fit.
    let small = unit(&h264_picture(true, &[20]), true).unwrap();
    assert_eq!(small.payloads.len(), 2);
    // Those that the unit has itself are not doubled.
    let own = [vec![hex("6742c01fd9005005bb011000000300100000030320f1832480")], h264_picture(true, &[20])].concat();
    let own = unit(&own, true).unwrap();
    assert_eq!(own.payloads[0].windows(4).filter(|bytes| *bytes == [0x67, 0x42, 0xc0, 0x1f]).count(), 1);
    // Other pictures carry none; delimiters and filler are left out.
    let plain = [vec![vec![0x09, 0xf0]], h264_picture(false, &[2_000])[1..].to_vec(), vec![vec![0x0c, 0xff, 0x80]]];
    let plain = unit(&plain.concat(), false).unwrap();
    assert_eq!(plain.payloads.len(), 2);
    assert!(plain.payloads.iter().all(|payload| payload[0] & 0x1f == 28));
    assert!(unit(&[vec![0x09, 0xf0]], false).is_none());
    assert!(unit(&[], true).is_none());
}

#[test]
fn sound_is_one_packet_and_aac_none() {
    let mut packetizer = Packetizer::new();
    let opus = opus_track();
    let at = Timestamp::new(0, opus.timebase);
    let sound = packetizer.packetize(&packet(&opus, at, vec![0xfc; 160], Flags::empty(), epoch())).unwrap();
    assert_eq!((sound.kind, sound.payloads.len(), sound.bytes), (Kind::Audio, 1, 160));
    let codec = Codec::Aac(aac::Config::new(aac::LOW_COMPLEXITY, 48_000, 2).unwrap());
    let aac = Arc::new(Track { id: TrackId(2), codec, timebase: opus.timebase });
    assert!(packetizer.packetize(&packet(&aac, at, vec![1; 160], Flags::empty(), epoch())).is_none());
}
