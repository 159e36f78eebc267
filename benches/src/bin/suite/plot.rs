//! Line plots as SVG: one panel per figure, written without a library, because three polylines need
//! none.

use std::fmt::Write;

/// One line in a panel.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One panel: x on a logarithmic scale, y from zero.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) series: Vec<Series>,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 45.0;
const TOP: f64 = 30.0;
const RIGHT: f64 = 15.0;
const COLOURS: [&str; 3] = ["#1f6feb", "#d9730d", "#57606a"];

/// All panels side by side.
pub(crate) fn svg(panels: &[Panel]) -> String {
    let columns = panels.len().min(3);
    let rows = panels.len().div_ceil(3);
    #[allow(clippy::cast_precision_loss)]
    let (width, height) = (WIDTH * columns as f64, HEIGHT * rows as f64);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        #[allow(clippy::cast_precision_loss)]
        let (x, y) = ((index % 3) as f64 * WIDTH, (index / 3) as f64 * HEIGHT);
        let _ = writeln!(text, "<g transform=\"translate({x},{y})\">{}</g>", panel.draw());
    }
    text.push_str("</svg>\n");
    text
}

impl Panel {
    fn draw(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let low = points().map(|point| point.0).fold(f64::INFINITY, f64::min).max(1e-9).ln();
        let high = points().map(|point| point.0).fold(0.0, f64::max).max(1e-9).ln();
        let top = points().map(|point| point.1).fold(0.0, f64::max).max(1e-9) * 1.1;
        let place = |(x, y): (f64, f64)| {
            let along = if high > low { (x.ln() - low) / (high - low) } else { 0.5 };
            (
                LEFT + along * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - y / top * (HEIGHT - BOTTOM - TOP),
            )
        };
        let mut text =
            format!("<text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{}</text>", self.title);
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let y = place((1.0, value)).1;
            let _ = write!(
                text,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                short(value)
            );
        }
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let line: Vec<String> = series
                .points
                .iter()
                .map(|point| place(*point))
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let _ = write!(
                text,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                line.join(" ")
            );
            for point in &series.points {
                let (x, y) = place(*point);
                let _ =
                    write!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
                if number == 0 {
                    let _ = write!(
                        text,
                        "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                        HEIGHT - BOTTOM + 15.0,
                        short(point.0)
                    );
                }
            }
            #[allow(clippy::cast_precision_loss)]
            let x = LEFT + 110.0 * number as f64;
            let _ = write!(
                text,
                "<text x=\"{x}\" y=\"{}\" fill=\"{colour}\">{}</text>",
                HEIGHT - 8.0,
                series.name
            );
        }
        let _ = write!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            HEIGHT - 8.0,
            self.x
        );
        text
    }
}

/// 1500 as 1.5k.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", trim(v / 1e6)),
        v if v >= 1e3 => format!("{}k", trim(v / 1e3)),
        v => trim(v),
    }
}

fn trim(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}
