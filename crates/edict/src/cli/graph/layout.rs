//! Where the nodes of a graph stand when it is drawn: in layers, one per stage, ordered and moved so that edges are short
//! and cross seldom. An edge that passes a layer has a place in it, too.

use crate::graphs::Plan;

/// Places in all layers together, beyond which a drawing would help nobody.
const MOST_PLACES: usize = 5_000;
/// Times that the order of the layers is improved.
const SWEEPS: usize = 8;

/// A graph with places for its nodes.
pub(super) struct Layout {
    pub(super) places: Vec<Place>,
    /// The places of each layer, from left to right.
    pub(super) layers: Vec<Vec<usize>>,
    /// The right end of what is furthest to the right; the left end of all is 0.
    pub(super) width: i64,
}

/// A node, or the point where an edge passes a layer.
pub(super) struct Place {
    /// None: an edge that passes.
    pub(super) node: Option<usize>,
    pub(super) width: i64,
    /// Where its middle is.
    pub(super) center: i64,
    /// Places in the layer above that lead here.
    pub(super) above: Vec<usize>,
    /// Places in the layer below that this leads to.
    pub(super) below: Vec<usize>,
}

/// Lays a graph out. `width` is how wide a node is; `gap` keeps places of a layer apart. None when there is too much.
pub(super) fn layout(plan: &Plan, gap: i64, width: impl Fn(usize) -> i64) -> Option<Layout> {
    let mut layout = placed(plan, width)?;
    layout.order();
    layout.spread(gap);
    Some(layout)
}

/// Every node and every passing edge, in the layer of its stage.
fn placed(plan: &Plan, width: impl Fn(usize) -> i64) -> Option<Layout> {
    let stages = plan.stages();
    let mut stage_of = vec![0; plan.nodes.len()];
    let mut places: Vec<Place> = Vec::new();
    for node in 0..plan.nodes.len() {
        places.push(Place { node: Some(node), width: width(node), ..Place::passing() });
    }
    for (stage, nodes) in stages.iter().enumerate() {
        for node in nodes {
            *stage_of.get_mut(*node)? = stage;
        }
    }
    let mut layers = stages.clone();
    for (from, node) in plan.nodes.iter().enumerate() {
        for to in &node.children {
            let mut last = from;
            for layer in *stage_of.get(from)? + 1..*stage_of.get(*to)? {
                if places.len() >= MOST_PLACES {
                    return None;
                }
                let passing = places.len();
                places.push(Place::passing());
                layers.get_mut(layer)?.push(passing);
                join(&mut places, last, passing);
                last = passing;
            }
            join(&mut places, last, *to);
        }
    }
    (places.len() < MOST_PLACES).then_some(Layout { places, layers, width: 0 })
}

fn join(places: &mut [Place], above: usize, below: usize) {
    if let Some(place) = places.get_mut(above) {
        place.below.push(below);
    }
    if let Some(place) = places.get_mut(below) {
        place.above.push(above);
    }
}

impl Place {
    fn passing() -> Self {
        Self { node: None, width: 1, center: 0, above: Vec::new(), below: Vec::new() }
    }
}

impl Layout {
    pub(super) fn center(&self, place: usize) -> i64 {
        self.places.get(place).map_or(0, |place| place.center)
    }

    /// Puts each layer into the order of the means of its neighbours, downwards and upwards in turn, and keeps the
    /// order with the fewest crossings.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.layers.clone());
        for sweep in 0..SWEEPS {
            if best.0 == 0 {
                break;
            }
            let down = sweep % 2 == 0;
            let layers: Vec<usize> = match down {
                true => (1..self.layers.len()).collect(),
                false => (0..self.layers.len().saturating_sub(1)).rev().collect(),
            };
            for layer in layers {
                let neighbours = if down { layer - 1 } else { layer + 1 };
                self.sort(layer, neighbours, down);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
    }

    fn sort(&mut self, layer: usize, neighbours: usize, down: bool) {
        let rank = self.ranks(neighbours);
        let mean = |(own, place): (usize, &usize)| {
            let place = self.places.get(*place);
            let linked = place.map_or(&[][..], |place| if down { &place.above } else { &place.below });
            (mean(linked.iter().filter_map(|other| rank.get(*other).copied().flatten())), own)
        };
        let Some(members) = self.layers.get(layer) else { return };
        let mut keyed: Vec<(f64, usize)> = members
            .iter()
            .enumerate()
            .map(|(own, place)| {
                let (mean, own) = mean((own, place));
                (mean.unwrap_or(float(own)), *place)
            })
            .collect();
        keyed.sort_by(|one, other| one.0.total_cmp(&other.0));
        if let Some(members) = self.layers.get_mut(layer) {
            *members = keyed.into_iter().map(|(_, place)| place).collect();
        }
    }

    /// For each place of a layer, how many are left of it.
    fn ranks(&self, layer: usize) -> Vec<Option<f64>> {
        let mut ranks = vec![None; self.places.len()];
        for (rank, place) in self.layers.get(layer).into_iter().flatten().enumerate() {
            if let Some(own) = ranks.get_mut(*place) {
                *own = Some(float(rank));
            }
        }
        ranks
    }

    fn crossings(&self) -> usize {
        (1..self.layers.len()).map(|layer| self.crossings_above(layer)).sum()
    }

    /// Inversions among the edges into a layer, in the order of their upper ends.
    fn crossings_above(&self, layer: usize) -> usize {
        let rank = self.ranks(layer);
        let above = layer.checked_sub(1).and_then(|above| self.layers.get(above)).into_iter().flatten();
        let mut seen: Vec<f64> = Vec::new();
        let mut crossings = 0;
        for place in above {
            let below = self.places.get(*place).map_or(&[][..], |place| &place.below);
            let mut lower: Vec<f64> =
                below.iter().filter_map(|other| rank.get(*other).copied().flatten()).collect();
            lower.sort_by(f64::total_cmp);
            for rank in &lower {
                crossings += seen.len() - seen.partition_point(|other| other <= rank);
            }
            for rank in lower {
                let at = seen.partition_point(|other| *other <= rank);
                seen.insert(at, rank);
            }
        }
        crossings
    }

    /// Moves places as near to their neighbours as the order and the gap let them.
    fn spread(&mut self, gap: i64) {
        for layer in 0..self.layers.len() {
            self.settle(layer, gap, |_| None);
        }
        let count = self.layers.len();
        for _ in 0..4 {
            for layer in 1..count {
                self.settle(layer, gap, |place| Some(&place.above));
            }
            for layer in (0..count.saturating_sub(1)).rev() {
                self.settle(layer, gap, |place| Some(&place.below));
            }
        }
        let left = self.places.iter().map(|place| place.center - place.width / 2).min().unwrap_or_default();
        for place in &mut self.places {
            place.center -= left;
        }
        self.width =
            self.places.iter().map(|place| place.center + place.width / 2 + 1).max().unwrap_or_default();
    }

    /// The best places in one layer: those with the least sum of squared distances to what `linked` names, given the
    /// order and the gap. (Subtract what must lie to the left of each; then it is a monotone regression.)
    fn settle(&mut self, layer: usize, gap: i64, linked: impl Fn(&Place) -> Option<&Vec<usize>>) {
        let Some(members) = self.layers.get(layer) else { return };
        let mut offsets = Vec::new();
        let mut blocks: Vec<(f64, usize)> = Vec::new();
        let (mut offset, mut previous) = (0, None);
        for member in members {
            let Some(place) = self.places.get(*member) else { continue };
            if let Some(width) = previous {
                offset += (width + place.width + 1) / 2 + gap;
            }
            previous = Some(place.width);
            offsets.push(offset);
            let others = linked(place).into_iter().flatten();
            let wanted = mean(others.map(|other| wide(self.center(*other)))).unwrap_or(wide(place.center));
            let mut block = (wanted - wide(offset), 1_usize);
            while let Some((value, count)) = blocks.last().copied().filter(|(value, _)| *value > block.0) {
                blocks.pop();
                let total = count + block.1;
                block = ((value * float(count) + block.0 * float(block.1)) / float(total), total);
            }
            blocks.push(block);
        }
        let values = blocks.into_iter().flat_map(|(value, count)| std::iter::repeat_n(value, count));
        let centers: Vec<i64> = values.zip(&offsets).map(|(value, offset)| whole(value) + offset).collect();
        for (member, center) in members.iter().zip(centers) {
            if let Some(place) = self.places.get_mut(*member) {
                place.center = center;
            }
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / float(count))
}

#[expect(clippy::cast_precision_loss, reason = "places of drawings are far from where floats lose digits")]
fn float(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "places of drawings are far from where floats lose digits")]
fn wide(place: i64) -> f64 {
    place as f64
}

#[expect(clippy::cast_possible_truncation, reason = "places of drawings are small")]
fn whole(place: f64) -> i64 {
    place.round() as i64
}
