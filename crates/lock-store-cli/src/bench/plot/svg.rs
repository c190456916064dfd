//! Shapes and texts of a picture.

use std::fmt::Write as _;

/// What is there on most machines; digits of equal width where the font has
/// them.
const FONT: &str =
    "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// A picture, growing.
pub(super) struct Svg(String);

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    size: f64,
    colour: &'static str,
    bold: bool,
    halo: bool,
}

/// Which point of a text is placed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Style {
    pub(super) fn new(size: f64, colour: &'static str) -> Self {
        Self {
            size,
            colour,
            bold: false,
            halo: false,
        }
    }

    pub(super) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// Can be read also over lines and shapes.
    pub(super) fn over_others(self) -> Self {
        Self { halo: true, ..self }
    }
}

impl Svg {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self(String::with_capacity(32 * 1024));
        let _ = writeln!(
            svg.0,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"{FONT}\" role=\"img\">\n<title>{}</title>",
            escaped(title)
        );
        svg.rect((0.0, 0.0), (width, height), "#ffffff");
        svg
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" \
             fill=\"{fill}\"/>"
        );
    }

    /// `dashes` as SVG has them; empty for a line without gaps.
    pub(super) fn line(
        &mut self,
        (x1, y1): (f64, f64),
        (x2, y2): (f64, f64),
        (colour, width): (&str, f64),
        dashes: &str,
    ) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\" \
             stroke=\"{colour}\" stroke-width=\"{width}\"{}/>",
            dashed(dashes)
        );
    }

    /// Points joined by lines.
    pub(super) fn path(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let data = data(points);
        let _ = writeln!(
            self.0,
            "<path d=\"{data}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\"/>"
        );
    }

    /// What points enclose.
    pub(super) fn area(&mut self, points: &[(f64, f64)], colour: &str, opacity: f64) {
        let data = data(points);
        let _ = writeln!(
            self.0,
            "<path d=\"{data}Z\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>"
        );
    }

    pub(super) fn text(&mut self, x: f64, y: f64, style: Style, anchor: Anchor, text: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.2}\" y=\"{y:.2}\"{}>{}</text>",
            attributes(style, anchor),
            escaped(text)
        );
    }

    /// A text that is read from below.
    pub(super) fn upright(&mut self, x: f64, y: f64, style: Style, text: &str) {
        let _ = writeln!(
            self.0,
            "<text transform=\"translate({x:.2} {y:.2}) rotate(-90)\"{}>{}</text>",
            attributes(style, Anchor::Middle),
            escaped(text)
        );
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn attributes(style: Style, anchor: Anchor) -> String {
    let Style {
        size,
        colour,
        bold,
        halo,
    } = style;
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let bold = if bold { " font-weight=\"600\"" } else { "" };
    let halo = if halo {
        " stroke=\"#ffffff\" stroke-width=\"3\" stroke-linejoin=\"round\" paint-order=\"stroke\""
    } else {
        ""
    };
    format!(" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\"{bold}{halo}")
}

fn dashed(dashes: &str) -> String {
    if dashes.is_empty() {
        return String::new();
    }
    format!(" stroke-dasharray=\"{dashes}\"")
}

fn data(points: &[(f64, f64)]) -> String {
    let mut data = String::with_capacity(points.len() * 14);
    for (index, (x, y)) in points.iter().enumerate() {
        let step = if index == 0 { 'M' } else { 'L' };
        let _ = write!(data, "{step}{x:.2} {y:.2}");
    }
    data
}

/// What XML allows in a text.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ if character.is_control() => escaped.extend(character.escape_default()),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_markup() {
        assert_eq!(
            escaped("a<b> & \"c\"\u{1b}"),
            "a&lt;b&gt; &amp; &quot;c&quot;\\u{1b}"
        );
    }
}
