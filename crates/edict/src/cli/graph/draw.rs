//! A graph as boxes and lines in a terminal.

use super::layout::{Layout, Place, layout};
use super::times::Times;
use crate::graphs::Plan;
use std::collections::BTreeMap;

/// Stages beyond which a list says more than a drawing that scrolls away.
const MOST_STAGES: usize = 30;

const UP: u8 = 1;
const RIGHT: u8 = 2;
const DOWN: u8 = 4;
const LEFT: u8 = 8;

/// Draws a graph, with the times of a run if there is one. None when it would be wider than `columns` or very long, or
/// when its lines cannot be told apart.
pub(super) fn draw(plan: &Plan, times: Option<&Times>, columns: usize) -> Option<String> {
    if plan.stages().len() > MOST_STAGES {
        return None;
    }
    let labels: Vec<Vec<String>> = (0..plan.nodes.len()).map(|node| label(plan, times, node)).collect();
    let width = |node: usize| {
        let longest = labels.get(node).into_iter().flatten().map(|line| line.chars().count()).max();
        let ports = plan.nodes.get(node).map_or(0, |node| node.parents.len());
        // Odd, so that there is a middle.
        signed((longest.unwrap_or_default() + 4).max(2 * ports + 1) | 1)
    };
    let layout = layout(plan, 2, width)?;
    if layout.width > signed(columns) {
        return None;
    }
    let height = labels.first().map_or(0, Vec::len) + 2;
    let mut canvas = Canvas::default();
    let mut row = 0;
    for layer in 0..layout.layers.len() {
        for place in layout.layers.get(layer)? {
            let place = layout.places.get(*place)?;
            match place.node.and_then(|node| labels.get(node)) {
                Some(label) => canvas.frame(row, place, label),
                None => (row..row + height).for_each(|row| canvas.put(row, place.center, '│')),
            }
        }
        row = route(&layout, layer)?.paint(&mut canvas, row + height);
    }
    Some(canvas.text())
}

fn label(plan: &Plan, times: Option<&Times>, node: usize) -> Vec<String> {
    let name = plan.nodes.get(node).map_or_else(String::new, |node| node.name.clone());
    let time = times.map(|times| times.of(&name).map_or_else(|| "–".to_owned(), |time| time.text()));
    std::iter::once(name).chain(time).collect()
}

/// Characters by row and column.
#[derive(Default)]
struct Canvas(BTreeMap<usize, BTreeMap<i64, char>>);

impl Canvas {
    fn put(&mut self, row: usize, column: i64, letter: char) {
        self.0.entry(row).or_default().insert(column, letter);
    }

    fn frame(&mut self, top: usize, place: &Place, label: &[String]) {
        let (left, right) = (place.center - place.width / 2, place.center + place.width / 2);
        let bottom = top + label.len() + 1;
        for column in left + 1..right {
            self.put(top, column, '─');
            self.put(bottom, column, '─');
        }
        for (row, letters) in [(top, ['┌', '┐']), (bottom, ['└', '┘'])] {
            self.put(row, left, letters[0]);
            self.put(row, right, letters[1]);
        }
        for (line, text) in label.iter().enumerate() {
            let row = top + 1 + line;
            self.put(row, left, '│');
            self.put(row, right, '│');
            let start = place.center - signed(text.chars().count()) / 2;
            for (at, letter) in text.chars().enumerate() {
                self.put(row, start + signed(at), letter);
            }
        }
        for port in ports(place.above.len()) {
            self.put(top, place.center + port, '┴');
        }
        if !place.below.is_empty() {
            self.put(bottom, place.center, '┬');
        }
    }

    fn text(&self) -> String {
        let line = |letters: &BTreeMap<i64, char>| {
            let mut line = String::new();
            let mut at = 0;
            for (column, letter) in letters {
                line.extend(std::iter::repeat_n(' ', usize::try_from(column - at).unwrap_or_default()));
                line.push(*letter);
                at = column + 1;
            }
            line
        };
        self.0.values().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Where lines enter a box, from its middle: one column apart, so that each line stays one line.
fn ports(count: usize) -> impl Iterator<Item = i64> {
    let count = signed(count);
    (0..count).map(move |port| 2 * port + 1 - count)
}

/// The lines between a layer and the one below.
struct Routes {
    lines: Vec<Line>,
    rows: usize,
}

/// The lines from one place: down from it, along a row, and down to each of its targets.
struct Line {
    from: i64,
    to: Vec<i64>,
    /// The row of its horizontal part; None when it leads straight down.
    row: Option<usize>,
}

impl Line {
    fn ends(&self) -> (i64, i64) {
        let all = || self.to.iter().copied().chain([self.from]);
        (all().min().unwrap_or_default(), all().max().unwrap_or_default())
    }

    /// Whether the line has to turn above `other`, which ends in the column where this one starts.
    fn before(&self, other: &Self) -> bool {
        other.to.contains(&self.from) && !self.to.contains(&self.from)
    }
}

/// Finds rows for the lines below a layer, such that none runs over another. None when there is no such order.
fn route(layout: &Layout, layer: usize) -> Option<Routes> {
    let mut lines: Vec<Line> = Vec::new();
    for place in layout.layers.get(layer)? {
        let from = layout.places.get(*place)?;
        let mut to = Vec::new();
        for target in &from.below {
            to.push(entry(layout, *place, *target)?);
        }
        if !to.is_empty() {
            lines.push(Line { from: from.center, to, row: None });
        }
    }
    let mut todo: Vec<usize> = (0..lines.len())
        .filter(|line| lines.get(*line).is_some_and(|line| line.ends().0 != line.ends().1))
        .collect();
    let mut rows: Vec<Vec<(i64, i64)>> = Vec::new();
    while !todo.is_empty() {
        let free = |line: &usize| {
            let line = lines.get(*line);
            !todo.iter().any(|other| match (lines.get(*other), line) {
                (Some(other), Some(line)) => other.before(line),
                _ => false,
            })
        };
        let next = todo.iter().position(free)?;
        let index = todo.remove(next);
        let line = lines.get(index)?;
        let lowest = lines.iter().filter(|other| other.before(line)).filter_map(|other| other.row).max();
        let (left, right) = line.ends();
        let mut row = lowest.map_or(0, |row| row + 1);
        let taken =
            |row: &Vec<(i64, i64)>| row.iter().any(|(start, end)| left <= end + 1 && *start <= right + 1);
        while rows.get(row).is_some_and(taken) {
            row += 1;
        }
        if rows.len() <= row {
            rows.resize_with(row + 1, Vec::new);
        }
        rows.get_mut(row)?.push((left, right));
        lines.get_mut(index)?.row = Some(row);
    }
    Some(Routes { rows: if lines.is_empty() { 0 } else { rows.len().max(1) }, lines })
}

/// The column in which a line from `place` enters `target`: lines from the left enter on the left.
fn entry(layout: &Layout, place: usize, target: usize) -> Option<i64> {
    let goal = layout.places.get(target)?;
    let mut from: Vec<(i64, usize)> =
        goal.above.iter().map(|above| (layout.center(*above), *above)).collect();
    from.sort_unstable();
    let port = from.iter().position(|(_, above)| *above == place)?;
    Some(goal.center + ports(from.len()).nth(port)?)
}

impl Routes {
    /// Paints the lines below `top`; returns the first row after them.
    fn paint(&self, canvas: &mut Canvas, top: usize) -> usize {
        // What each line does in a cell. Where two cross, the one that goes down is drawn: nothing joins there.
        let mut cells: BTreeMap<(usize, i64), u8> = BTreeMap::new();
        for line in &self.lines {
            let (left, right) = line.ends();
            if let Some(row) = line.row {
                for column in left..=right {
                    let sides = if column > left { LEFT } else { 0 } | if column < right { RIGHT } else { 0 };
                    let mut sides = sides;
                    if column == line.from {
                        sides |= UP;
                    }
                    if line.to.contains(&column) {
                        sides |= DOWN;
                    }
                    let cell = cells.entry((row, column)).or_default();
                    if *cell != UP | DOWN {
                        *cell = sides;
                    }
                }
            }
            let turn = line.row.unwrap_or(self.rows);
            for row in 0..turn {
                cells.insert((row, line.from), UP | DOWN);
            }
            for (row, column) in
                (turn + 1..self.rows).flat_map(|row| line.to.iter().map(move |to| (row, *to)))
            {
                cells.insert((row, column), UP | DOWN);
            }
        }
        for ((row, column), sides) in cells {
            canvas.put(top + row, column, glyph(sides));
        }
        top + self.rows
    }
}

fn glyph(sides: u8) -> char {
    const GLYPHS: [char; 16] =
        [' ', '│', '─', '└', '│', '│', '┌', '├', '─', '┘', '─', '┴', '┐', '┤', '┬', '┼'];
    GLYPHS.get(usize::from(sides)).copied().unwrap_or(' ')
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
