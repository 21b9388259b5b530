//! PostgreSQL: functions over `jsonb`.
//!
//! PostgreSQL may evaluate conditions in any order, so what would fail on other types stands inside a CASE.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Builder, FALSE, Node, Walk, join};
use crate::{
    filter::{Scalar, Type},
    path::Segment,
};

impl Builder {
    pub(super) fn postgres_first_step(&mut self, root: &str, segment: &Segment) -> Walk {
        let (alias, key) = (self.alias("n"), self.text(&segment.key));
        Walk {
            from: format!("(SELECT {root} -> {key} AS v) {alias}"),
            conditions: vec![format!("{alias}.v IS NOT NULL")],
            node: row(&alias),
            picked: None,
        }
    }

    pub(super) fn postgres_candidates(&mut self, walk: &mut Walk) -> Node {
        let alias = self.alias("c");
        let (elements, element) = self.postgres_elements(&walk.node);
        walk.from.push_str(&format!(
            " CROSS JOIN LATERAL (SELECT {} UNION ALL SELECT {} FROM {elements} WHERE {} = 'object') {alias}(v)",
            walk.node.value, element.value, element.kind
        ));
        row(&alias)
    }

    pub(super) fn postgres_step(&mut self, mut walk: Walk, candidate: &Node, segment: &Segment) -> Walk {
        let (alias, key) = (self.alias("n"), self.text(&segment.key));
        let Node { value, kind } = candidate;
        let by_index = segment.index.map(|index| {
            let index = self.integer(index);
            format!(" WHEN 'array' THEN {value} -> {index}::int")
        });
        walk.from.push_str(&format!(
            " CROSS JOIN LATERAL (SELECT CASE {kind} WHEN 'object' THEN {value} -> {key}{} END) {alias}(v)",
            by_index.unwrap_or_default()
        ));
        walk.conditions.push(format!("{alias}.v IS NOT NULL"));
        let picked = segment.index.map(|_| format!("({kind} = 'array')"));
        Walk { node: row(&alias), picked, ..walk }
    }

    pub(super) fn postgres_elements(&mut self, node: &Node) -> (String, Node) {
        let alias = self.alias("e");
        let Node { value, kind } = node;
        let from = format!("jsonb_array_elements(CASE WHEN {kind} = 'array' THEN {value} END) {alias}(v)");
        (from, row(&alias))
    }

    pub(super) fn postgres_lacks(&mut self, object: &str, key: &str) -> String {
        format!("({object} -> {}) IS NULL", self.text(key))
    }

    /// A jsonpath that every document with one of these values at the path satisfies. Its lax mode looks into
    /// arrays one level deeper than Mongo does, so it is a superset; a GIN index with `jsonb_path_ops` answers it.
    pub(super) fn postgres_indexable(
        &mut self,
        doc: &str,
        path: &[Segment],
        operands: &[Value],
    ) -> Option<String> {
        let scalar = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
        let plain = path.iter().all(|segment| segment.index.is_none());
        if !plain || operands.is_empty() || !operands.iter().all(scalar) {
            return None;
        }
        // Written as JSON, a string is also a string of jsonpath; and the whole is bound.
        let mut jsonpath = "$".to_owned();
        for segment in path {
            // Writing to a string cannot fail.
            let _ = write!(jsonpath, ".{}", Value::from(segment.key.as_str()));
        }
        let equals: Vec<_> = operands.iter().map(|operand| format!("@ == {operand}")).collect();
        let _ = write!(jsonpath, " ? ({})", equals.join(" || "));
        Some(format!("{doc} @? {}::jsonpath", self.text(jsonpath)))
    }

    pub(super) fn postgres_is_in(&mut self, node: &Node, operands: &[Value]) -> String {
        let operands: Vec<_> =
            operands.iter().map(|operand| format!("{}::jsonb", self.text(operand.to_string()))).collect();
        if operands.is_empty() {
            FALSE.to_owned()
        } else {
            format!("{} IN ({})", node.value, operands.join(", "))
        }
    }

    pub(super) fn postgres_compare(&mut self, node: &Node, comparison: &str, operand: &Scalar) -> String {
        let Node { value, kind } = node;
        match operand {
            Scalar::Text(text) => {
                let text = self.text(text);
                format!("({kind} = 'string' AND ({value} #>> '{{}}') COLLATE \"C\" {comparison} {text})")
            }
            Scalar::Number(_) | Scalar::Bool(_) => {
                let name = if matches!(operand, Scalar::Bool(_)) { "boolean" } else { "number" };
                let operand = self.text(operand.to_value().to_string());
                format!("({kind} = '{name}' AND {value} {comparison} {operand}::jsonb)")
            }
        }
    }
}

fn row(alias: &str) -> Node {
    Node { value: format!("{alias}.v"), kind: format!("jsonb_typeof({alias}.v)") }
}

fn numeric(node: &Node) -> String {
    let Node { value, kind } = node;
    format!("CASE WHEN {kind} = 'number' THEN ({value} #>> '{{}}')::numeric END")
}

pub(super) fn has_type(node: &Node, kind: Type) -> String {
    let Node { kind: name, .. } = node;
    let number = numeric(node);
    let whole =
        format!("(({number}) % 1 = 0 AND ({number}) BETWEEN -9223372036854775808 AND 9223372036854775807)");
    let small = format!("({number}) BETWEEN -2147483648 AND 2147483647");
    match kind {
        Type::Null => format!("{name} = 'null'"),
        Type::Bool => format!("{name} = 'boolean'"),
        Type::Text => format!("{name} = 'string'"),
        Type::Array => format!("{name} = 'array'"),
        Type::Object => format!("{name} = 'object'"),
        Type::Number => format!("{name} = 'number'"),
        Type::Int => join(&[whole, small], " AND ", FALSE),
        Type::Long => format!("({whole} AND NOT {small})"),
        Type::Double => format!("({name} = 'number' AND NOT {whole})"),
    }
}

pub(super) fn has_size(node: &Node, size: &str) -> String {
    let Node { value, kind } = node;
    format!("CASE WHEN {kind} = 'array' THEN jsonb_array_length({value}) = {size} ELSE {FALSE} END")
}

pub(super) fn modulo(node: &Node, divisor: &str, remainder: &str) -> String {
    let number = numeric(node);
    format!(
        "(trunc({number}) BETWEEN -9223372036854775808 AND 9223372036854775807 \
         AND trunc({number}) % {divisor} = {remainder})"
    )
}
