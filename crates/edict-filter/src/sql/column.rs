//! Tests of fields that have a plain column: no JSON functions, so that an ordinary index serves them.

use serde_json::{Number, Value};

use super::{Builder, Column, Dialect, FALSE, Kind, TRUE, join};
use crate::{
    filter::{Comparison, Scalar, Test, Type},
    regex::Pattern,
    value::{compare_numbers, whole},
};

impl Builder {
    pub(super) fn column(&mut self, column: &Column<'_>, test: &Test) -> String {
        let sql = column.sql;
        match (test, column.kind) {
            (Test::Exists, _) => TRUE.to_owned(),
            (Test::In(operands), kind) => self.column_in(sql, kind, operands),
            (Test::Compare(comparison, Scalar::Text(text)), Kind::Text) => {
                format!("{}{} {} {}", sql, self.collate(), comparison.sql(), self.text(text))
            }
            (Test::Compare(comparison, Scalar::Number(number)), Kind::Integer) => {
                self.column_compare(sql, *comparison, number)
            }
            (Test::Regex(pattern), Kind::Text) => self.column_regex(sql, pattern),
            (Test::Mod { divisor, remainder }, Kind::Integer) => {
                format!("{sql} % {} = {}", self.integer(*divisor), self.integer(*remainder))
            }
            (Test::Type(types), kind) => {
                let types: Vec<_> = types.iter().map(|wanted| column_type(sql, kind, *wanted)).collect();
                join(&types, " OR ", FALSE)
            }
            _ => FALSE.to_owned(),
        }
    }

    fn collate(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => " COLLATE \"C\"",
        }
    }

    fn column_in(&mut self, sql: &str, kind: Kind, operands: &[Value]) -> String {
        let bind = |operand: &Value| match (kind, operand) {
            (Kind::Text, Value::String(text)) => Some(self.text(text)),
            (Kind::Integer, Value::Number(number)) => whole(number).map(|number| self.integer(number)),
            _ => None,
        };
        let operands: Vec<_> = operands.iter().filter_map(bind).collect();
        match operands.as_slice() {
            [] => FALSE.to_owned(),
            [only] => format!("{sql} = {only}"),
            _ => format!("{sql} IN ({})", operands.join(", ")),
        }
    }

    /// The column is whole, so a fraction is rounded to the whole number that divides it the same way; a float in
    /// the SQL would make the column's index useless.
    fn column_compare(&mut self, sql: &str, comparison: Comparison, number: &Number) -> String {
        if let Some(number) = whole(number) {
            return format!("{sql} {} {}", comparison.sql(), self.integer(number));
        }
        let zero = Number::from(0);
        let floor = number.as_f64().and_then(|float| whole(&Number::from_f64(float.floor())?));
        let greater = matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual);
        match floor {
            Some(floor) => format!("{sql} {} {}", if greater { ">" } else { "<=" }, self.integer(floor)),
            // Beyond what the column holds: every value is on the same side.
            None if compare_numbers(number, &zero).is_gt() != greater => TRUE.to_owned(),
            None => FALSE.to_owned(),
        }
    }

    fn column_regex(&mut self, sql: &str, pattern: &Pattern) -> String {
        match self.dialect {
            Dialect::Sqlite => format!("{sql} REGEXP {}", self.text(pattern.sqlite())),
            Dialect::Postgres => format!("{sql} COLLATE \"C\" ~ {}", self.text(pattern.postgres())),
        }
    }
}

fn column_type(sql: &str, kind: Kind, wanted: Type) -> String {
    match (kind, wanted) {
        (Kind::Text, Type::Text) | (Kind::Integer, Type::Number) => TRUE.to_owned(),
        (Kind::Integer, Type::Int) => format!("{sql} BETWEEN -2147483648 AND 2147483647"),
        (Kind::Integer, Type::Long) => format!("{sql} NOT BETWEEN -2147483648 AND 2147483647"),
        _ => FALSE.to_owned(),
    }
}
