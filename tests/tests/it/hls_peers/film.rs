//! Films with a counter in every picture, for ffmpeg to play live with `-c copy`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use relay_media::stamp::Stamp;
use relay_media::{Codec, Flags, Kind, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin};
use relay_mp4::{Muxer, Run, Sample, Start};
use relay_ts::{AfterLoss, Demuxer, Unit};

/// Pictures a second, and from one key frame to the next.
pub(crate) const FPS: u32 = 25;
/// Ticks of 90 kHz.
const PICTURE_TICKS: u32 = 90_000 / FPS;
/// Samples of an AAC frame.
const AAC_FRAME: u32 = 1_024;

/// What a film is; with AAC at 48 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Film {
    /// Pixels a row and rows.
    pub(crate) size: (u32, u32),
    /// Pictures shown in another order than they are decoded in, between others.
    pub(crate) b_frames: u32,
    /// How long it lasts.
    pub(crate) seconds: u32,
    /// The counter of its first picture.
    pub(crate) first: u64,
}

impl Film {
    /// Pictures.
    pub(crate) fn pictures(&self) -> u64 {
        u64::from(self.seconds * FPS)
    }

    /// The counter after its last picture's.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.pictures()
    }

    /// Writes it as `dir/NAME.mp4`: coded by ffmpeg, stamped in decoding order here.
    pub(crate) fn make(&self, dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let coded = dir.join(format!("{name}.ts"));
        self.encode(&coded)?;
        let mut demuxer = Demuxer::new(AfterLoss::WaitForKey);
        demuxer.push(&std::fs::read(&coded)?);
        demuxer.finish();
        let units: Vec<_> = std::iter::from_fn(|| demuxer.poll()).collect();
        let path = dir.join(format!("{name}.mp4"));
        std::fs::write(&path, self.stamped(&units)?)?;
        Ok(path)
    }

    fn encode(&self, path: &Path) -> anyhow::Result<()> {
        let Self { size: (width, height), b_frames, seconds, .. } = self;
        let inputs =
            format!("-f lavfi -i testsrc2=s={width}x{height}:r={FPS}:d={seconds} -f lavfi -i sine=r=48000:d={seconds}");
        let coding = format!(
            "-pix_fmt yuv420p -c:v libx264 -preset ultrafast -g {FPS} -keyint_min {FPS} -sc_threshold 0 \
             -bf {b_frames} -x264-params b-adapt=0:open-gop=0 -c:a aac -b:a 64k -f mpegts"
        );
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-y"]);
        ffmpeg.args(inputs.split_whitespace()).args(coding.split_whitespace()).arg(path);
        let output = ffmpeg.output().context("start ffmpeg")?;
        if !output.status.success() {
            bail!("ffmpeg made no film: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "when a packet arrived is not written down")]
    fn stamped(&self, units: &[Unit]) -> anyhow::Result<Vec<u8>> {
        let tracks = [
            track(units, 1, |codec| codec.kind() == Kind::Video)?,
            track(units, 2, |codec| codec.kind() == Kind::Audio)?,
        ];
        let [(video, pid), (audio, _)] = &tracks;
        let first = units.iter().find(|unit| unit.pid == *pid).context("no picture")?;
        let at = |ticks| Timestamp::new(ticks, Timebase::VIDEO);
        let start = Start {
            tracks: vec![video.clone(), audio.clone()],
            zero: at(first.dts),
            presentation: at(first.pts),
            utc: UtcTime::from_unix_nanos(0),
        };
        let (mut muxer, mut file) = Muxer::new(start)?;
        let mut samples: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
        let (mut counter, begun) = (self.first, Instant::now());
        // What the encoder primes its sound with lies before the first picture.
        for unit in units.iter().filter(|unit| unit.pts >= first.dts) {
            let is_picture = unit.pid == *pid;
            if is_picture && unit.flags.contains(Flags::KEY) && !samples[0].is_empty() {
                write(&mut muxer, std::mem::take(&mut samples), &mut file)?;
            }
            let stamp = Stamp { counter, utc_nanos: 0 };
            let (track, payload, duration) = match is_picture {
                true => (video, with_stamp(stamp, &unit.payload), PICTURE_TICKS),
                false => (audio, unit.payload.clone(), AAC_FRAME),
            };
            counter += u64::from(is_picture);
            let packet = Packet {
                track: track.clone(),
                dts: at(unit.dts).rescale(track.timebase),
                pts: at(unit.pts).rescale(track.timebase),
                duration: Some(duration),
                arrival: begun,
                wall: Wall { utc: UtcTime::from_unix_nanos(0), origin: WallOrigin::Arrival },
                flags: unit.flags,
                payload,
            };
            samples[usize::from(!is_picture)].push(Sample { packet: Arc::new(packet), duration });
        }
        write(&mut muxer, samples, &mut file)?;
        if counter != self.end() {
            bail!("{} pictures, not {}", counter - self.first, self.pictures());
        }
        Ok(file)
    }
}

/// The track of the first unit that tells such a codec, and where its units are.
fn track(units: &[Unit], id: u32, wanted: impl Fn(&Codec) -> bool) -> anyhow::Result<(Arc<Track>, u16)> {
    let told = units.iter().find_map(|unit| Some((unit.codec.clone().filter(&wanted)?, unit.pid)));
    let (codec, pid) = told.context("a track is missing")?;
    let timebase =
        if codec.kind() == Kind::Video { Timebase::VIDEO } else { Timebase::new(48_000).context("48 kHz")? };
    Ok((Arc::new(Track { id: TrackId(id), codec, timebase }), pid))
}

fn with_stamp(stamp: Stamp, payload: &[u8]) -> Bytes {
    let nal = stamp.to_nal();
    [&(nal.len() as u32).to_be_bytes(), &nal[..], payload].concat().into()
}

fn write(muxer: &mut Muxer, samples: [Vec<Sample>; 2], file: &mut Vec<u8>) -> anyhow::Result<()> {
    let runs: Vec<_> = (0..).zip(samples).map(|(track, samples)| Run { track, samples }).collect();
    let fragment = muxer.fragment(&runs)?;
    file.extend_from_slice(fragment.header());
    runs.iter().flat_map(|run| &run.samples).for_each(|sample| file.extend_from_slice(&sample.packet.payload));
    muxer.commit(fragment);
    Ok(())
}
