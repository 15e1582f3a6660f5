//! Clips by ffmpeg: what the built-in encoder does not make.

use std::{
    io::{self, Read},
    process::{Command, Stdio},
};

use super::{ClipError, ClipSpec, Coding};

/// Access units in Annex B framing, each with its composition offset in frames.
pub(super) fn units(spec: &ClipSpec) -> Result<Vec<(Vec<u8>, u32)>, ClipError> {
    let (coded, lines) = run(spec)?;
    let mut rest = coded.as_slice();
    let mut units = Vec::new();
    for (composition, size) in lines.lines().filter_map(framecrc_line) {
        let (unit, after) = rest.split_at_checked(size).ok_or(ClipError::Unusable("it is cut short"))?;
        rest = after;
        units.push((unit, composition));
    }
    // Whatever delay the encoder puts before the first picture is no composition.
    let least = units.iter().map(|(_, composition)| *composition).min().unwrap_or(0);
    Ok(units.into_iter().map(|(unit, at)| (unit.to_vec(), u32::try_from(at - least).unwrap_or(0))).collect())
}

/// The coded bytes, and a line for each packet.
fn run(spec: &ClipSpec) -> Result<(Vec<u8>, String), ClipError> {
    // tee writes the same packets twice: their bytes to stdout and one line each (times, size) to stderr.
    let format = if spec.coding.is_h265() { "hevc" } else { "h264" };
    let mut child = Command::new("ffmpeg")
        .args(arguments(spec))
        .args(["-map", "0:v", "-f", "tee", &format!("[f={format}]pipe\\:1|[f=framecrc]pipe\\:2")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ClipError::Spawn)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let lines = std::thread::spawn(move || read_all(stderr));
    let coded = read_all(stdout).map_err(ClipError::Spawn)?;
    let lines = lines.join().map_err(|_| ClipError::Unusable("its log"))?.map_err(ClipError::Spawn)?;
    let lines = String::from_utf8_lossy(&lines).into_owned();
    if !child.wait().map_err(ClipError::Spawn)?.success() {
        return Err(ClipError::Ffmpeg(lines.lines().last().unwrap_or("it said nothing").to_owned()));
    }
    Ok((coded, lines))
}

fn read_all(from: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.map_or(Ok(0), |mut from| from.read_to_end(&mut bytes))?;
    Ok(bytes)
}

/// Presentation minus decode time in frames, and the bytes, of one line of ffmpeg's framecrc muxer.
fn framecrc_line(line: &str) -> Option<(i64, usize)> {
    let mut fields = line.split(',').map(str::trim);
    let (stream, dts, pts) = (fields.next()?, fields.next()?, fields.next()?);
    let size = fields.nth(1)?.parse().ok()?;
    (stream == "0").then_some((pts.parse::<i64>().ok()? - dts.parse::<i64>().ok()?, size))
}

fn arguments(spec: &ClipSpec) -> Vec<String> {
    let ClipSpec { width, height, fps, gop_frames, bitrate_bps, .. } = spec;
    let frames = spec.frames();
    // Noise, because a clean test picture would not take up the bit rate asked for.
    let picture = format!("testsrc2=size={width}x{height}:rate={fps},noise=alls=12:allf=t");
    let codec = match spec.coding {
        Coding::H264Baseline => "libx264 -profile:v baseline -preset veryfast -sc_threshold 0".to_owned(),
        Coding::H264HighBFrames => "libx264 -profile:v high -preset veryfast -sc_threshold 0 -bf 2 -b_strategy 0 \
             -x264-params b-pyramid=none:open-gop=0"
            .to_owned(),
        Coding::H265 => format!(
            "libx265 -preset ultrafast -x265-params \
             log-level=error:bframes=0:open-gop=0:scenecut=0:min-keyint={gop_frames}:keyint={gop_frames}:repeat-headers=1"
        ),
    };
    format!(
        "-hide_banner -nostdin -loglevel error -f lavfi -i {picture} -frames:v {frames} -pix_fmt yuv420p -c:v {codec} \
         -g {gop_frames} -keyint_min {gop_frames} -b:v {bitrate_bps} -maxrate {bitrate_bps} -bufsize {bitrate_bps}"
    )
    .split_ascii_whitespace()
    .map(str::to_owned)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framecrc_lines_are_read_and_others_passed_over() {
        let rows = [
            ("0,         -1,          3,        1,    19152, 0x3ceb28ee, F=0x0, S=1,        8", Some((4, 19152))),
            ("0,          0,          0,        1,      123, 0x00000000", Some((0, 123))),
            ("#tb 0: 1/25", None),
            ("1,          0,          0,        1,      123, 0x00000000", None),
            ("", None),
        ];
        for (line, expected) in rows {
            assert_eq!(framecrc_line(line), expected, "{line}");
        }
    }
}
