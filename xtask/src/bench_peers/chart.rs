//! The figures as bars: two panels, one group a number of cameras, one bar a program.

use super::Peer;
use super::report::Row;

const BAR: usize = 46;
const GAP: usize = 40;
const HEIGHT: f64 = 220.0;
const LEFT: usize = 30;
const PANEL_TOPS: [usize; 2] = [80, 390];

/// The chart as one SVG document that needs nothing from outside.
pub(super) fn svg(rows: &[Row], seconds: u64) -> String {
    let rows: Vec<_> = rows.iter().filter(|row| row.is_whole).collect();
    let mut groups: Vec<usize> = rows.iter().map(|row| row.cameras).collect();
    groups.dedup();
    let width = (2 * LEFT + rows.len() * BAR + groups.len() * GAP).max(560);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"680\" viewBox=\"0 0 {width} 680\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">RTSP cameras recorded to fragmented MP4, 720p25 at 2 Mbit/s, \
         {seconds} s</text>\n"
    );
    text += &legend();
    text += &panel(&rows, PANEL_TOPS[0], "CPU seconds a camera-minute", Row::cpu_per_camera_minute);
    text += &panel(&rows, PANEL_TOPS[1], "peak resident memory, MiB", Row::peak_mib);
    text + "</svg>\n"
}

fn legend() -> String {
    let peers = [Peer::Relayd, Peer::Ffmpeg, Peer::Gstreamer, Peer::Floor].into_iter().enumerate();
    let entry = |(index, peer): (usize, Peer)| {
        let x = LEFT + index * 110;
        let text = x + 18;
        format!(
            "<rect x=\"{x}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{text}\" y=\"49\">{peer}</text>\n",
            colour(peer)
        )
    };
    peers.map(entry).collect()
}

fn panel(rows: &[&Row], top: usize, title: &str, figure: impl Fn(&Row) -> f64) -> String {
    let highest = rows.iter().map(|row| figure(row)).fold(f64::MIN_POSITIVE, f64::max);
    let floor = top as f64 + 20.0 + HEIGHT;
    let mut text = format!("<text x=\"{LEFT}\" y=\"{top}\" font-weight=\"bold\">{title}</text>\n");
    let mut x = LEFT;
    let mut group = None;
    for row in rows {
        if group != Some(row.cameras) {
            x += if group.is_some() { GAP } else { 0 };
            group = Some(row.cameras);
            text += &format!("<text x=\"{x}\" y=\"{}\">{} camera(s)</text>\n", floor + 18.0, row.cameras);
        }
        let value = figure(row);
        let height = value / highest * (HEIGHT - 20.0);
        let digits = if value < 10.0 { 2 } else { 0 };
        text += &format!(
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"{}\" height=\"{height:.1}\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.digits$}</text>\n",
            floor - height,
            BAR - 6,
            colour(row.peer),
            x + (BAR - 6) / 2,
            floor - height - 5.0,
        );
        x += BAR;
    }
    text
}

fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Relayd => "#1f6feb",
        Peer::Ffmpeg => "#2da44e",
        Peer::Gstreamer => "#d4702a",
        Peer::Floor => "#9aa4af",
    }
}
