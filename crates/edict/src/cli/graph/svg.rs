//! A graph as a picture, and a run on it: a file that needs nothing else.

use super::layout::{Layout, Place, layout};
use super::times::{Times, milliseconds, word};
use crate::graphs::Plan;
use edict_client::records::{GraphRun, NodeRun, RunStatus};
use std::fmt::Write;

const STYLE: &str = "\
svg{font:13px ui-monospace,Menlo,Consolas,monospace;--line:#6b7280;--box:#f8fafc;--text:#111827;--ok:#15803d;--bad:#b91c1c;--off:#9ca3af;background:#fff}\
@media(prefers-color-scheme:dark){svg{--line:#9ca3af;--box:#1f2937;--text:#f3f4f6;--ok:#4ade80;--bad:#f87171;--off:#6b7280;background:#111827}}\
text{fill:var(--text)}.small{font-size:11px}.middle{text-anchor:middle}\
rect{fill:var(--box);stroke:var(--line);stroke-width:1.2}path{fill:none;stroke:var(--line);stroke-width:1.2}marker path{fill:var(--line);stroke:none}\
.completed{stroke:var(--ok)}.failed{stroke:var(--bad);stroke-width:2.4}.cancelled,.skipped{stroke:var(--off);stroke-dasharray:4 3}\
.bar{stroke:none}.bar.completed{fill:var(--ok)}.bar.failed{fill:var(--bad)}.bar.cancelled{fill:var(--off)}";

/// Space around everything.
const MARGIN: i64 = 20;
/// Width of a letter.
const LETTER: i64 = 8;
/// Height of a node without, and with a line for its time.
const HEIGHTS: (i64, i64) = (34, 50);
/// Height between layers, for the edges.
const BETWEEN: i64 = 52;
/// Height of a node's row among the bars.
const ROW: i64 = 20;
/// Length of the bar of a node that took all of the run.
const BAR: i64 = 420;

/// Draws a graph, and the times of a run on it. None when it is too large to be of use.
pub(super) fn picture(title: &str, plan: &Plan, run: Option<&GraphRun>) -> Option<String> {
    let name = |node: usize| plan.nodes.get(node).map_or("", |node| node.name.as_str());
    let layout = layout(plan, 24, |node| signed(name(node).chars().count()).max(8) * LETTER + 24)?;
    let height = if run.is_some() { HEIGHTS.1 } else { HEIGHTS.0 };
    let graph_height = signed(layout.layers.len()) * (height + BETWEEN) - BETWEEN;
    let top = MARGIN + 28;
    let bars = run.map(|run| bars(run, top + graph_height + 36));
    let bars_height = run.map_or(0, |run| signed(run.nodes.len()) * ROW + 60);
    let bars_width = run.map_or(0, |run| longest(run) * LETTER + BAR + 110);
    let width = layout.width.max(bars_width).max(signed(title.chars().count()) * LETTER) + 2 * MARGIN;
    let total = top + graph_height + bars_height + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{total}\" viewBox=\"0 0 {width} {total}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"to\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"4\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n\
         <text x=\"{MARGIN}\" y=\"{MARGIN}\" dy=\".6em\">{title}</text>\n",
        title = escape(title),
    );
    let shift = MARGIN + (width - 2 * MARGIN - layout.width) / 2;
    let page = Page { layout: &layout, height, top, shift };
    page.edges(&mut svg);
    let times = run.map(Times::of_run);
    for (layer, places) in layout.layers.iter().enumerate() {
        for place in places.iter().filter_map(|place| layout.places.get(*place)) {
            if let Some(node) = place.node {
                let time = times.as_ref().and_then(|times| times.of(name(node)));
                page.node(&mut svg, layer, place, name(node), time.map(|time| time.run()));
            }
        }
    }
    svg.push_str(bars.as_deref().unwrap_or_default());
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Where things are on the page.
struct Page<'a> {
    layout: &'a Layout,
    height: i64,
    top: i64,
    shift: i64,
}

impl Page<'_> {
    fn y(&self, layer: usize) -> i64 {
        self.top + signed(layer) * (self.height + BETWEEN)
    }

    /// Every edge as one path, through the places where it passes layers.
    fn edges(&self, svg: &mut String) {
        for (layer, places) in self.layout.layers.iter().enumerate() {
            for place in places.iter().filter_map(|place| self.layout.places.get(*place)) {
                if place.node.is_none() {
                    continue;
                }
                for below in &place.below {
                    self.edge(svg, layer, place, *below);
                }
            }
        }
    }

    fn edge(&self, svg: &mut String, layer: usize, from: &Place, to: usize) {
        let (mut x, mut y) = (from.center + self.shift, self.y(layer) + self.height);
        let mut path = format!("M{x} {y}");
        let (mut next, mut layer) = (to, layer + 1);
        while let Some(place) = self.layout.places.get(next) {
            let (to_x, to_y, half) = (place.center + self.shift, self.y(layer), BETWEEN / 2);
            // Writing to text cannot fail.
            write!(path, "C{x} {} {to_x} {} {to_x} {to_y}", y + half, to_y - half).ok();
            (x, y) = (to_x, to_y);
            match place.below.first().filter(|_| place.node.is_none()) {
                Some(below) => {
                    y += self.height;
                    write!(path, "V{y}").ok();
                    next = *below;
                    layer += 1;
                }
                None => break,
            }
        }
        writeln!(svg, "<path d=\"{path}\" marker-end=\"url(#to)\"/>").ok();
    }

    fn node(&self, svg: &mut String, layer: usize, place: &Place, name: &str, run: Option<&NodeRun>) {
        let (center, y) = (place.center + self.shift, self.y(layer));
        let (x, width, height) = (center - place.width / 2, place.width, self.height);
        let class = run.map_or("", |run| word(run.status));
        let told = run.map(describe).unwrap_or_default();
        writeln!(
            svg,
            "<g><title>{}{}</title><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\
             <text class=\"middle\" x=\"{center}\" y=\"{}\">{}</text>",
            escape(name),
            escape(&told),
            y + 21,
            escape(name),
        )
        .ok();
        if let Some(run) = run {
            let mark = if run.status == RunStatus::Failed { "✗ " } else { "" };
            let took = run.duration_ms.map_or_else(|| class.to_owned(), milliseconds);
            writeln!(svg, "<text class=\"middle small\" x=\"{center}\" y=\"{}\">{mark}{took}</text>", y + 39)
                .ok();
        }
        svg.push_str("</g>\n");
    }
}

/// The nodes of a run below one another, each with a bar from its start to its end.
fn bars(run: &GraphRun, top: i64) -> String {
    let left = MARGIN + longest(run) * LETTER + 12;
    let all = run.duration_ms.max(0.001);
    let mut svg = format!(
        "<text x=\"{MARGIN}\" y=\"{top}\">run {} {} in {}</text>\n",
        escape(&run.run_id),
        word(run.run_status),
        milliseconds(run.duration_ms),
    );
    for (row, node) in run.nodes.iter().enumerate() {
        let y = top + 14 + signed(row) * ROW;
        let class = word(node.status);
        writeln!(
            svg,
            "<g><title>{}{}</title><text class=\"small\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
            escape(&node.node),
            escape(&describe(node)),
            y + 12,
            escape(&node.node),
        )
        .ok();
        let length = |ms: f64| pixels(ms.clamp(0.0, all) / all);
        match (node.started_ms, node.duration_ms) {
            (Some(started), Some(took)) => {
                let (start, width) = (left + length(started), length(took).max(2));
                writeln!(
                    svg,
                    "<rect class=\"bar {class}\" x=\"{start}\" y=\"{}\" width=\"{width}\" height=\"12\" rx=\"2\"/>\
                     <text class=\"small\" x=\"{}\" y=\"{}\">{}</text>",
                    y + 2,
                    start + width + 6,
                    y + 12,
                    milliseconds(took),
                )
                .ok();
            }
            _ => {
                writeln!(svg, "<text class=\"small\" x=\"{left}\" y=\"{}\">{class}</text>", y + 12).ok();
            }
        }
        svg.push_str("</g>\n");
    }
    svg
}

fn longest(run: &GraphRun) -> i64 {
    signed(run.nodes.iter().map(|node| node.node.chars().count()).max().unwrap_or_default())
}

fn describe(run: &NodeRun) -> String {
    let took = run.duration_ms.map(milliseconds).map(|took| format!(", {took}")).unwrap_or_default();
    let error = run.error.as_ref().map(|error| format!("\n{}: {}", error.code, error.message));
    format!(": {}{took}{}", word(run.status), error.unwrap_or_default())
}

/// Text as XML holds it. Characters that XML has no place for are replaced.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(letter),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            letter if letter.is_control() => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "a part of the length of a bar")]
#[expect(clippy::cast_precision_loss, reason = "a small constant")]
fn pixels(part: f64) -> i64 {
    (part * BAR as f64).round() as i64
}
