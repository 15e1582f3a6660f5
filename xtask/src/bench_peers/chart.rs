//! Figures as bars: panels one below the other, groups of programs side by side.

/// One program in one group.
pub(super) struct Bar {
    /// What the group has in common, such as `20 cameras`. Bars of a group follow each other.
    pub(super) group: String,
    /// The program.
    pub(super) program: String,
    /// A value for each panel.
    pub(super) values: Vec<f64>,
}

const BAR: usize = 46;
const GAP: usize = 40;
const HEIGHT: f64 = 220.0;
const LEFT: usize = 30;
const TOP: usize = 80;
/// From one panel's top to the next one's.
const PANEL: usize = 310;
const COLOURS: [&str; 5] = ["#1f6feb", "#2da44e", "#d4702a", "#9aa4af", "#8250df"];

/// The chart as one SVG document that needs nothing from outside.
pub(super) fn svg(title: &str, panels: &[&str], bars: &[Bar]) -> String {
    let mut groups: Vec<&str> = bars.iter().map(|bar| bar.group.as_str()).collect();
    groups.dedup();
    let width = (2 * LEFT + bars.len() * BAR + groups.len() * GAP).max(560);
    let height = TOP + panels.len() * PANEL - 20;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{title}</text>\n"
    );
    let mut programs: Vec<&str> = Vec::new();
    for bar in bars {
        if !programs.contains(&bar.program.as_str()) {
            programs.push(&bar.program);
        }
    }
    let colour = |program: &str| {
        let at = programs.iter().position(|known| *known == program).unwrap_or_default();
        COLOURS.get(at % COLOURS.len()).copied().unwrap_or_default()
    };
    for (index, program) in programs.iter().enumerate() {
        let x = LEFT + index * 110;
        text += &format!(
            "<rect x=\"{x}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"49\">{program}</text>\n",
            colour(program),
            x + 18
        );
    }
    for (index, title) in panels.iter().enumerate() {
        text += &panel(bars, TOP + index * PANEL, title, index, colour);
    }
    text + "</svg>\n"
}

fn panel<'a>(bars: &[Bar], top: usize, title: &str, index: usize, colour: impl Fn(&str) -> &'a str) -> String {
    let figure = |bar: &Bar| bar.values.get(index).copied().unwrap_or_default();
    let highest = bars.iter().map(figure).fold(f64::MIN_POSITIVE, f64::max);
    let floor = top as f64 + 20.0 + HEIGHT;
    let mut text = format!("<text x=\"{LEFT}\" y=\"{top}\" font-weight=\"bold\">{title}</text>\n");
    let mut x = LEFT;
    let mut group = None;
    for bar in bars {
        if group != Some(&bar.group) {
            x += if group.is_some() { GAP } else { 0 };
            group = Some(&bar.group);
            text += &format!("<text x=\"{x}\" y=\"{}\">{}</text>\n", floor + 18.0, bar.group);
        }
        let value = figure(bar);
        let height = value / highest * (HEIGHT - 20.0);
        let digits = match value {
            value if value < 1.0 => 3,
            value if value < 10.0 => 2,
            _ => 0,
        };
        text += &format!(
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"{}\" height=\"{height:.1}\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.digits$}</text>\n",
            floor - height,
            BAR - 6,
            colour(&bar.program),
            x + (BAR - 6) / 2,
            floor - height - 5.0,
        );
        x += BAR;
    }
    text
}
