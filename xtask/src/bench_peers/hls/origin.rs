//! The live origin of a round: one nginx, segments made beforehand, and a thread that lets the playlists' windows move on
//! in real time. What it costs is a rename a stream every two seconds.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::FPS;
use crate::shell;

/// Of each segment.
pub(super) const SEGMENT: Duration = Duration::from_secs(2);
/// Segments that a playlist lists: 12 s of them, as ffmpeg and packagers have it.
const LISTED: usize = 6;
/// Frames of the clip that is played over and over.
const CLIP_FRAMES: usize = 200;
/// Until nginx answers.
const START: Duration = Duration::from_secs(10);

/// How the segments of a stream are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// MPEG-TS.
    Ts,
    /// Fragmented MP4.
    Fmp4,
}

impl Packing {
    fn name(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Fmp4 => "fmp4",
        }
    }
}

/// A live stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Where its playlist is.
    pub(super) url: String,
    /// How its segments are packed.
    pub(super) packing: Packing,
}

/// The running origin; it ends when this is dropped.
pub(super) struct Origin {
    nginx: Child,
    streams: Vec<Stream>,
    is_over: Arc<AtomicBool>,
    windows: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Origin {
    /// Starts `count` live streams from `dir`, half of them packed in either way, each `lasts` at least. All begin now.
    ///
    /// # Errors
    /// When the segments can't be made, or nginx doesn't start.
    pub(super) fn start(count: usize, bitrate: u64, lasts: Duration, dir: &Path) -> anyhow::Result<Self> {
        let www = dir.join("www");
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        let make = |packing| Film::make(packing, bitrate, lasts, &www);
        let [ts, fmp4] = [make(Packing::Ts)?, make(Packing::Fmp4)?];
        let mut playlists = Vec::new();
        for index in 0..count {
            let film = if index < count.div_ceil(2) { &ts } else { &fmp4 };
            playlists.push(Playlist { film: film.clone(), path: www.join(format!("{index:03}.m3u8")) });
        }
        playlists.iter().try_for_each(|playlist| playlist.write(LISTED))?;
        let (nginx, port) = nginx(dir)?;
        let stream = |(index, playlist): (usize, &Playlist)| Stream {
            url: format!("http://127.0.0.1:{port}/{index:03}.m3u8"),
            packing: playlist.film.packing,
        };
        let streams = playlists.iter().enumerate().map(stream).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let windows = std::thread::spawn({
            let is_over = is_over.clone();
            move || advance(&playlists, &is_over)
        });
        Ok(Self { nginx, streams, is_over, windows: Some(windows) })
    }

    /// Its streams.
    pub(super) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The process that serves them all.
    pub(super) fn pid(&self) -> u32 {
        self.nginx.id()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.windows.take().map(JoinHandle::join) {
            println!("the origin's playlists: {error:#}");
        }
        // It may have ended already; then there is nothing left to do.
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

/// Lets the windows of all streams move on, one stream after the other within the time of a segment, as live streams
/// that know nothing of each other do.
fn advance(playlists: &[Playlist], is_over: &AtomicBool) -> anyhow::Result<()> {
    let begun = Instant::now();
    let apart = SEGMENT / u32::try_from(playlists.len()).unwrap_or(1).max(1);
    for newest in LISTED + 1.. {
        for (playlist, nth) in playlists.iter().zip(0..) {
            let due = SEGMENT * u32::try_from(newest - LISTED)? + apart * nth;
            while begun.elapsed() < due {
                if is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                std::thread::sleep((due.saturating_sub(begun.elapsed())).min(Duration::from_millis(50)));
            }
            playlist.write(newest)?;
        }
    }
    Ok(())
}

/// A live stream's playlist.
struct Playlist {
    film: Arc<Film>,
    path: PathBuf,
}

impl Playlist {
    /// Replaces it by one whose window ends before segment `end`; after the film's last, it stays.
    fn write(&self, end: usize) -> anyhow::Result<()> {
        let Some(listed) = self.film.segments.get(end.saturating_sub(LISTED)..end) else { return Ok(()) };
        let target = SEGMENT.as_secs();
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:{}\n{}",
            end - LISTED,
            self.film.map
        );
        for segment in listed {
            writeln!(text, "#EXTINF:{target}.000,\n{segment}")?;
        }
        let new = self.path.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, &self.path).with_context(|| format!("write {}", self.path.display()))
    }
}

/// Segments made beforehand, that streams share.
struct Film {
    packing: Packing,
    /// The tag for the initialisation section, and its line's end.
    map: String,
    segments: Vec<String>,
}

impl Film {
    /// By ffmpeg: a clip coded once, copied over and over with timestamps that go on.
    fn make(packing: Packing, bitrate: u64, lasts: Duration, www: &Path) -> anyhow::Result<Arc<Self>> {
        let name = packing.name();
        let dir = www.join(name);
        std::fs::create_dir_all(&dir)?;
        let clip = www.join("clip.mp4");
        if !clip.is_file() {
            shell::run(&mut encoder(bitrate, &clip))?;
        }
        let count = usize::try_from(lasts.as_secs() / SEGMENT.as_secs())? + LISTED;
        let loops = count * usize::try_from(SEGMENT.as_secs())? * FPS as usize / CLIP_FRAMES;
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-y", "-stream_loop", &loops.to_string(), "-i"]).arg(&clip);
        ffmpeg.args(["-c", "copy", "-f", "hls", "-hls_list_size", "0", "-hls_time", &SEGMENT.as_secs().to_string()]);
        if packing == Packing::Fmp4 {
            ffmpeg.args(["-hls_segment_type", "fmp4"]);
        }
        shell::run(ffmpeg.arg(dir.join("all.m3u8")))?;
        let all = std::fs::read_to_string(dir.join("all.m3u8"))?;
        let segments: Vec<_> =
            all.lines().filter(|line| !line.starts_with('#')).map(|file| format!("{name}/{file}")).collect();
        if segments.len() < count {
            bail!("{} segments were made, not {count}", segments.len());
        }
        let map =
            if packing == Packing::Fmp4 { format!("#EXT-X-MAP:URI=\"{name}/init.mp4\"\n") } else { String::new() };
        Ok(Arc::new(Self { packing, map, segments }))
    }
}

/// A test picture with noise, which takes up the bit rate, and a key frame at the beginning of each segment.
fn encoder(bitrate: u64, clip: &Path) -> Command {
    let picture = format!("testsrc2=size=1280x720:rate={FPS},noise=alls=12:allf=t");
    let gop = SEGMENT.as_secs() * u64::from(FPS);
    let options = format!(
        "-frames:v {CLIP_FRAMES} -pix_fmt yuv420p -c:v libx264 -profile:v baseline -preset ultrafast -sc_threshold 0 \
         -g {gop} -keyint_min {gop} -b:v {bitrate} -maxrate {bitrate} -bufsize {bitrate}"
    );
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &picture]);
    ffmpeg.args(options.split_whitespace()).arg(clip);
    ffmpeg
}

/// Starts nginx on `dir/www`, one worker in its one process, and waits until it answers.
fn nginx(dir: &Path) -> anyhow::Result<(Child, u16)> {
    // A free port: found by binding, and free again by the time nginx binds it.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // Root's nginx would else work as somebody who can't read the files.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let configuration = format!(
        "{user} daemon off; master_process off; pid nginx.pid; error_log error.log warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_timeout 60s;\n\
         types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; video/mp4 mp4 m4s; }}\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi; root www; server {{ listen 127.0.0.1:{port}; }} }}\n"
    );
    std::fs::write(dir.join("nginx.conf"), configuration)?;
    let mut command = Command::new("nginx");
    command.args(["-e", "error.log", "-c", "nginx.conf", "-p"]).arg(dir).stdin(Stdio::null());
    let mut nginx = command.spawn().context("start nginx")?;
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if nginx.try_wait()?.is_some() || started.elapsed() > START {
            // Killed, if it is still there.
            let _ = nginx.kill();
            bail!("nginx: {}", std::fs::read_to_string(dir.join("error.log")).unwrap_or_default().trim());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((nginx, port))
}
