//! SQLite: `json_each` and `json_tree` over JSON text.
//!
//! SQLite may evaluate conditions in any order, so what would fail on other types stands inside a CASE.

use serde_json::{Number, Value};

use super::{Builder, FALSE, Node, Walk, join};
use crate::{
    filter::{Scalar, Type},
    path::Segment,
    value::whole,
};

impl Builder {
    pub(super) fn sqlite_first_step(&mut self, root: &str, segment: &Segment) -> Walk {
        let alias = self.alias("n");
        let key = self.text(&segment.key);
        Walk {
            from: format!("json_each({root}) {alias}"),
            conditions: vec![format!("{alias}.key = {key}")],
            node: row(&alias),
            picked: None,
        }
    }

    pub(super) fn sqlite_candidates(&mut self, walk: &mut Walk) -> Node {
        let alias = self.alias("c");
        let Node { value, kind } = &walk.node;
        // Any scalar will do for one: no key can be applied to it.
        let opened = format!("CASE WHEN {kind} IN ('object', 'array') THEN {value} ELSE '0' END");
        walk.from.push_str(&format!(" CROSS JOIN json_tree({opened}) {alias}"));
        walk.conditions.push(format!(
            "({alias}.fullkey = '$' OR ({kind} = 'array' AND {alias}.path = '$' AND {alias}.type = 'object'))"
        ));
        row(&alias)
    }

    pub(super) fn sqlite_step(&mut self, mut walk: Walk, candidate: &Node, segment: &Segment) -> Walk {
        let alias = self.alias("n");
        let key = self.text(&segment.key);
        let key = match segment.index {
            // The keys of arrays are integers, those of objects are texts.
            Some(index) => format!("{alias}.key IN ({key}, {})", self.integer(index)),
            None => format!("{alias}.key = {key}"),
        };
        walk.from.push_str(&format!(" CROSS JOIN json_each({}) {alias}", container(candidate)));
        walk.conditions.push(key);
        let picked = segment.index.map(|_| format!("({} = 'array')", candidate.kind));
        Walk { node: row(&alias), picked, ..walk }
    }

    pub(super) fn sqlite_elements(&mut self, node: &Node) -> (String, Node) {
        let alias = self.alias("e");
        let Node { value, kind } = node;
        (format!("json_each(CASE WHEN {kind} = 'array' THEN {value} END) {alias}"), row(&alias))
    }

    pub(super) fn sqlite_lacks(&mut self, object: &str, key: &str) -> String {
        let (alias, key) = (self.alias("k"), self.text(key));
        format!("NOT EXISTS (SELECT 1 FROM json_each({object}) {alias} WHERE {alias}.key = {key})")
    }

    pub(super) fn sqlite_is_in(&mut self, node: &Node, operands: &[Value]) -> String {
        let (mut texts, mut numbers, mut ways) = (Vec::new(), Vec::new(), Vec::new());
        for operand in operands {
            match operand {
                Value::String(text) => texts.push(self.text(text)),
                Value::Number(number) => numbers.push(self.sqlite_number(number)),
                Value::Null => ways.push(format!("{} = 'null'", node.kind)),
                Value::Bool(bool) => ways.push(format!("{} = '{bool}'", node.kind)),
                Value::Array(_) | Value::Object(_) => ways.push(self.sqlite_equals(node, operand)),
            }
        }
        if !texts.is_empty() {
            ways.push(format!("({} = 'text' AND {} IN ({}))", node.kind, node.value, texts.join(", ")));
        }
        if !numbers.is_empty() {
            ways.push(format!("({} AND {} IN ({}))", is_number(node), node.value, numbers.join(", ")));
        }
        join(&ways, " OR ", FALSE)
    }

    /// Deep equality, element by element and field by field, since JSON text has no canonical form.
    fn sqlite_equals(&mut self, node: &Node, operand: &Value) -> String {
        let (kind, children): (_, Vec<(String, &Value)>) = match operand {
            Value::Array(items) => (
                "array",
                (0i64..).zip(items).map(|(position, item)| (self.integer(position), item)).collect(),
            ),
            Value::Object(fields) => {
                ("object", fields.iter().map(|(key, field)| (self.text(key), field)).collect())
            }
            _ => return self.sqlite_is_in(node, std::slice::from_ref(operand)),
        };
        let container = format!("CASE WHEN {} = '{kind}' THEN {} END", node.kind, node.value);
        let size = self.integer(i64::try_from(children.len()).unwrap_or(i64::MAX));
        let mut parts = vec![
            format!("{} = '{kind}'", node.kind),
            format!("(SELECT count(*) FROM json_each({container})) = {size}"),
        ];
        for (key, child) in children {
            let alias = self.alias("q");
            let equals = self.sqlite_equals(&row(&alias), child);
            parts.push(format!(
                "EXISTS (SELECT 1 FROM json_each({container}) {alias} WHERE {alias}.key = {key} AND {equals})"
            ));
        }
        join(&parts, " AND ", FALSE)
    }

    pub(super) fn sqlite_compare(&mut self, node: &Node, comparison: &str, operand: &Scalar) -> String {
        let Node { value, kind } = node;
        match operand {
            Scalar::Number(number) => {
                let number = self.sqlite_number(number);
                format!("({} AND {value} {comparison} {number})", is_number(node))
            }
            Scalar::Text(text) => {
                format!("({kind} = 'text' AND {value} {comparison} {})", self.text(text))
            }
            Scalar::Bool(bool) => {
                format!("({kind} IN ('true', 'false') AND {value} {comparison} {})", self.integer(*bool))
            }
        }
    }

    /// Floats are bound as text, so that SQLite reads them the way it reads those in documents.
    fn sqlite_number(&mut self, number: &Number) -> String {
        const EXACT: i64 = 1 << 53;
        match whole(number) {
            Some(integer) if number.is_i64() || (-EXACT..=EXACT).contains(&integer) => self.integer(integer),
            _ => format!("CAST({} AS REAL)", self.text(number.to_string())),
        }
    }
}

fn row(alias: &str) -> Node {
    Node { value: format!("{alias}.value"), kind: format!("{alias}.type") }
}

fn is_number(node: &Node) -> String {
    format!("{} IN ('integer', 'real')", node.kind)
}

/// The value where it is an object or an array, else NULL: only these are JSON text that can be opened.
pub(super) fn container(node: &Node) -> String {
    format!("CASE WHEN {} IN ('object', 'array') THEN {} END", node.kind, node.value)
}

pub(super) fn has_type(node: &Node, kind: Type) -> String {
    let Node { value, kind: name } = node;
    // The value decides, not its notation: `5.0` is whole, and an integer beyond 64 bits is read as a float.
    let integer = format!(
        "CASE WHEN {} AND {value} >= -9223372036854775808.0 AND {value} < 9223372036854775808.0 \
         AND {value} = CAST({value} AS INTEGER) THEN CAST({value} AS INTEGER) END",
        is_number(node)
    );
    match kind {
        Type::Null => format!("{name} = 'null'"),
        Type::Bool => format!("{name} IN ('true', 'false')"),
        Type::Text => format!("{name} = 'text'"),
        Type::Array => format!("{name} = 'array'"),
        Type::Object => format!("{name} = 'object'"),
        Type::Number => is_number(node),
        Type::Int => format!("coalesce({integer} BETWEEN -2147483648 AND 2147483647, {FALSE})"),
        Type::Long => format!("coalesce({integer} NOT BETWEEN -2147483648 AND 2147483647, {FALSE})"),
        Type::Double => format!("({} AND ({integer}) IS NULL)", is_number(node)),
    }
}

pub(super) fn has_size(node: &Node, size: &str) -> String {
    let Node { value, kind } = node;
    format!("CASE WHEN {kind} = 'array' THEN json_array_length({value}) = {size} ELSE {FALSE} END")
}

pub(super) fn modulo(node: &Node, divisor: &str, remainder: &str) -> String {
    let Node { value, .. } = node;
    format!(
        "({} AND {value} >= -9223372036854775808.0 AND {value} < 9223372036854775808.0 \
         AND CAST({value} AS INTEGER) % {divisor} = {remainder})",
        is_number(node)
    )
}
