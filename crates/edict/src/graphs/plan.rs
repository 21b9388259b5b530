//! What follows from a graph's nodes and edges: who feeds whom, and that it can run at all.

use std::collections::{BTreeMap, HashMap};

/// Nodes that a graph has at most.
const MOST_NODES: usize = 10_000;

/// A graph without cycles. Nodes are told by their place in `graph_function_ids`.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
}

/// A function's place in a graph.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// In the order of `graph_function_ids`, which is the order of their outputs in this node's input.
    pub(crate) parents: Vec<usize>,
    pub(crate) children: Vec<usize>,
}

/// Why a graph cannot run, and the nodes at fault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) nodes: Vec<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, nodes: &[&str]) -> Self {
        Self { message: message.into(), nodes: nodes.iter().map(|node| crate::shorten(node)).collect() }
    }
}

impl Plan {
    /// Reads nodes and, for each, those that get its output.
    pub(crate) fn new(ids: &[String], connections: &BTreeMap<String, Vec<String>>) -> Result<Self, Fault> {
        if ids.is_empty() {
            return Err(Fault::new("field `graph_function_ids` is empty: a graph needs a node", &[]));
        }
        if ids.len() > MOST_NODES {
            let message = format!("the graph has {} nodes; {MOST_NODES} are the most", ids.len());
            return Err(Fault::new(message, &[]));
        }
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            if places.insert(id, place).is_some() {
                let shown = crate::shorten(id);
                return Err(Fault::new(format!("node `{shown}` is in `graph_function_ids` twice"), &[id]));
            }
        }
        let mut nodes: Vec<Node> = ids
            .iter()
            .map(|id| Node { name: id.clone(), parents: Vec::new(), children: Vec::new() })
            .collect();
        for (from, targets) in connections {
            let parent = place(&places, from)?;
            for to in targets {
                let child = place(&places, to)?;
                if parent == child {
                    let message = format!("node `{from}` gets its own output: a graph has no cycles");
                    return Err(Fault::new(message, &[from]));
                }
                connect(&mut nodes, parent, child)?;
            }
        }
        for node in &mut nodes {
            node.parents.sort_unstable();
        }
        let plan = Self { nodes };
        match plan.cycle() {
            None => Ok(plan),
            Some(cycle) => {
                let message = format!("the graph has the cycle {}: take one of its edges away", way(&cycle));
                Err(Fault::new(message, &cycle))
            }
        }
    }

    /// Nodes that get the graph's input.
    pub(crate) fn roots(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.parents.is_empty()).map(|(place, _)| place)
    }

    /// Nodes whose output is the graph's.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.children.is_empty()).map(|(place, _)| place)
    }

    /// The nodes by how many come before them on the longest way.
    pub(crate) fn stages(&self) -> Vec<Vec<usize>> {
        let mut stages: Vec<Vec<usize>> = Vec::new();
        let mut stage_of = vec![0_usize; self.nodes.len()];
        for place in self.order() {
            let Some(node) = self.nodes.get(place) else { continue };
            let before = node.parents.iter().filter_map(|parent| stage_of.get(*parent)).max();
            let stage = before.map_or(0, |stage| stage + 1);
            if let Some(mine) = stage_of.get_mut(place) {
                *mine = stage;
            }
            if stages.len() <= stage {
                stages.resize_with(stage + 1, Vec::new);
            }
            if let Some(members) = stages.get_mut(stage) {
                members.push(place);
            }
        }
        stages.iter_mut().for_each(|members| members.sort_unstable());
        stages
    }

    /// Every node that is not behind a cycle, parents before their children.
    fn order(&self) -> Vec<usize> {
        let mut missing: Vec<usize> = self.nodes.iter().map(|node| node.parents.len()).collect();
        let mut order: Vec<usize> = self.roots().collect();
        let mut next = 0;
        while let Some(node) = order.get(next).and_then(|place| self.nodes.get(*place)) {
            next += 1;
            for child in &node.children {
                if let Some(missing) = missing.get_mut(*child) {
                    *missing -= 1;
                    if *missing == 0 {
                        order.push(*child);
                    }
                }
            }
        }
        order
    }

    /// A cycle, from its first node back to that node.
    fn cycle(&self) -> Option<Vec<&str>> {
        let mut stuck = vec![true; self.nodes.len()];
        for place in self.order() {
            if let Some(stuck) = stuck.get_mut(place) {
                *stuck = false;
            }
        }
        let is_stuck = |place: usize| stuck.get(place).copied().unwrap_or_default();
        let mut place = (0..self.nodes.len()).find(|place| is_stuck(*place))?;
        // Each of them has a parent among them: going from parent to parent leads into a cycle, and around it.
        let mut way: Vec<usize> = Vec::new();
        let start = loop {
            if let Some(start) = way.iter().position(|seen| *seen == place) {
                break start;
            }
            way.push(place);
            place = *self.nodes.get(place)?.parents.iter().find(|parent| is_stuck(**parent))?;
        };
        let mut cycle = way.split_off(start);
        cycle.reverse();
        let first = cycle.iter().enumerate().min_by_key(|(_, place)| **place).map_or(0, |(at, _)| at);
        cycle.rotate_left(first);
        cycle.extend(cycle.first().copied());
        Some(cycle.into_iter().filter_map(|place| Some(self.nodes.get(place)?.name.as_str())).collect())
    }
}

/// A way through nodes; the middle of a long one is left out.
fn way(nodes: &[&str]) -> String {
    const SHOWN: usize = 20;
    match (nodes.get(..SHOWN), nodes.last()) {
        (Some(start), Some(end)) if nodes.len() > SHOWN + 1 => {
            format!("{} -> … -> {end}", start.join(" -> "))
        }
        _ => nodes.join(" -> "),
    }
}

fn place(places: &HashMap<&str, usize>, name: &str) -> Result<usize, Fault> {
    places.get(name).copied().ok_or_else(|| {
        let shown = crate::shorten(name);
        let nearest = crate::nearest(name, places.keys().copied());
        let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        let message =
            format!("node `{shown}` is in `graph_connection_data`, but not in `graph_function_ids`{hint}");
        Fault::new(message, &[name])
    })
}

fn connect(nodes: &mut [Node], parent: usize, child: usize) -> Result<(), Fault> {
    let Some(target) = nodes.get_mut(child) else { return Ok(()) };
    // Edges come grouped by their parent, so that a repeated one is the last.
    let repeated = target.parents.last() == Some(&parent);
    let to = target.name.clone();
    target.parents.push(parent);
    let Some(source) = nodes.get_mut(parent) else { return Ok(()) };
    if repeated {
        let message = format!("node `{}` feeds `{to}` twice", source.name);
        return Err(Fault::new(message, &[&source.name, &to]));
    }
    source.children.push(child);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(ids: &str, edges: &[(&str, &str)]) -> Result<Plan, Fault> {
        let ids: Vec<String> = ids.split_whitespace().map(str::to_owned).collect();
        let edges = edges.iter().map(|(from, to)| {
            ((*from).to_owned(), to.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        });
        Plan::new(&ids, &edges.collect())
    }

    fn fault(ids: &str, edges: &[(&str, &str)]) -> (String, Vec<String>) {
        let fault = plan(ids, edges).unwrap_err();
        (fault.message, fault.nodes)
    }

    #[test]
    fn the_diamond_has_three_stages() {
        let plan = plan("a b c d", &[("a", "b c"), ("b", "d"), ("c", "d")]).unwrap();
        assert_eq!(plan.roots().collect::<Vec<_>>(), [0]);
        assert_eq!(plan.leaves().collect::<Vec<_>>(), [3]);
        assert_eq!(plan.stages(), [vec![0], vec![1, 2], vec![3]]);
        assert_eq!(plan.nodes[3].parents, [1, 2]);
    }

    #[test]
    fn parents_are_in_the_order_of_the_nodes() {
        let plan = plan("z y x w", &[("w", "z"), ("y", "z"), ("x", "z")]).unwrap();
        assert_eq!(plan.nodes[0].parents, [1, 2, 3]);
        assert_eq!(plan.leaves().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn faults_name_the_nodes() {
        let (message, nodes) = fault("a b c d e", &[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b e")]);
        assert!(message.contains("cycle b -> c -> d -> b"), "{message}");
        assert_eq!(nodes, ["b", "c", "d", "b"]);
        let (message, _) = fault("b a", &[("a", "b"), ("b", "a")]);
        assert!(message.contains("b -> a -> b"), "{message}");
        let (message, nodes) = fault("a b", &[("a", "a")]);
        assert!(message.contains("`a` gets its own output"), "{message}");
        assert_eq!(nodes, ["a"]);
        assert!(fault("a b a", &[]).0.contains("`a` is in `graph_function_ids` twice"));
        assert!(fault("funcA funcB", &[("funcA", "funkB")]).0.contains("did you mean `funcB`?"));
        assert!(fault("a", &[("x", "a")]).0.contains("node `x`"));
        assert!(fault("a b", &[("a", "b b")]).0.contains("feeds `b` twice"));
        assert!(fault("", &[]).0.contains("is empty"));
    }

    #[test]
    fn long_and_wide_graphs_are_read_quickly() {
        let ids: Vec<String> = (0..MOST_NODES).map(|place| format!("n{place}")).collect();
        let chain: BTreeMap<_, _> =
            ids.windows(2).map(|pair| (pair[0].clone(), vec![pair[1].clone()])).collect();
        assert_eq!(Plan::new(&ids, &chain).unwrap().stages().len(), MOST_NODES);
        let star = BTreeMap::from([(ids[0].clone(), ids[1..].to_vec())]);
        assert_eq!(Plan::new(&ids, &star).unwrap().stages().len(), 2);
        let mut ring = chain;
        ring.insert(ids[MOST_NODES - 1].clone(), vec![ids[0].clone()]);
        assert_eq!(Plan::new(&ids, &ring).unwrap_err().nodes.len(), MOST_NODES + 1);
        assert!(Plan::new(&[ids, vec!["more".to_owned()]].concat(), &BTreeMap::new()).is_err());
    }
}
