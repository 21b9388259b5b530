//! Filters as SQL: the shape both databases share.
//!
//! A field is compiled to the walk of [`crate::path::any`] written as joins: each step of the path joins the
//! candidates (the value itself, or the objects in it when it is an array) with what the key picks from them.

mod column;
mod postgres;
mod sqlite;

use std::collections::HashMap;

use serde_json::Value;

use crate::{
    Filter, FilterError,
    filter::{Expr, Field, Scalar, Test},
    path::Segment,
};

/// SQLite binds at most 32,766 values.
const MAX_ARGS: usize = 30_000;
/// Planning takes longer than a request should beyond this.
const MAX_TEXT: usize = 2_000_000;
/// SQLite adds up the heights of the expressions of nested queries and stops at 1,000.
const MAX_NESTING: usize = 500;

/// The database the SQL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.46 or later, with a `REGEXP` function that is the Rust `regex` crate.
    Sqlite,
    /// PostgreSQL 15 or later, with a database in UTF-8.
    Postgres,
}

/// Where the documents are. The names are SQL text of the program's own, never a caller's.
#[derive(Debug, Clone, Copy)]
pub struct Table<'t> {
    /// The column with the document, such as `p.doc`: JSON text in SQLite, `jsonb` in PostgreSQL; an object, never
    /// NULL.
    pub doc: &'t str,
    /// Fields that have a column of their own beside the document.
    pub columns: &'t [Column<'t>],
}

/// A field of every document that has a plain column, so that filters can use its index.
#[derive(Debug, Clone, Copy)]
pub struct Column<'t> {
    /// The path in the document, such as `name`.
    pub path: &'t str,
    /// The column, such as `p.name`; never NULL and always equal to the value in the document.
    pub sql: &'t str,
    /// What it holds.
    pub kind: Kind,
}

/// The type of a plain column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string: `TEXT` in SQLite, `text COLLATE "C"` in PostgreSQL (another collation would not use the index).
    Text,
    /// A whole number of 64 bits: `INTEGER`, `bigint`.
    Integer,
}

/// A piece of SQL with the values to bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// The text, with placeholders `$n` that count on from the first one asked for.
    pub text: String,
    /// The values, in the order of the placeholders; one may be used several times.
    pub args: Vec<Arg>,
}

/// A value to bind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Arg {
    /// Bind as a string (`TEXT`).
    Text(String),
    /// Bind as a 64-bit integer (`bigint`).
    Integer(i64),
}

impl Filter {
    /// The filter as a boolean SQL expression in parentheses, true exactly for the rows whose document
    /// [`matches`](Filter::matches).
    ///
    /// # Errors
    /// `too_complex` when the expression would be larger than the databases take.
    pub fn to_sql(
        &self,
        dialect: Dialect,
        table: &Table<'_>,
        first_placeholder: usize,
    ) -> Result<Sql, FilterError> {
        let mut builder = Builder::new(dialect, first_placeholder);
        let text = builder.filter(&self.root, &Scope::Row(table))?;
        let text = format!("({text})");
        if dialect == Dialect::Sqlite && nesting(&text) > MAX_NESTING {
            return Err(too_large());
        }
        Ok(Sql { text, args: builder.into_args()? })
    }
}

/// What a filter is about: a row, or an object inside an array.
#[derive(Clone, Copy)]
enum Scope<'s> {
    Row(&'s Table<'s>),
    /// SQL of an object.
    Object(&'s str),
}

/// A JSON value in SQL.
struct Node {
    /// SQL of the value: `jsonb` in PostgreSQL; in SQLite what `json_each` gives as `value`.
    value: String,
    /// SQL of the name of its type, as the database has it.
    kind: String,
}

/// The joins that lead to the values of the first steps of a path.
struct Walk {
    from: String,
    conditions: Vec<String>,
    node: Node,
    /// SQL that is true when an index picked the node from an array; `None`: never.
    picked: Option<String>,
}

pub(crate) struct Builder {
    dialect: Dialect,
    first: usize,
    args: Vec<Arg>,
    /// A value bound once is used again: the keys of paths repeat a lot.
    placeholders: HashMap<Arg, String>,
    aliases: usize,
    text: usize,
}

impl Builder {
    pub(crate) fn new(dialect: Dialect, first: usize) -> Self {
        Self { dialect, first, args: Vec::new(), placeholders: HashMap::new(), aliases: 0, text: 0 }
    }

    pub(crate) fn into_args(self) -> Result<Vec<Arg>, FilterError> {
        if self.args.len() > MAX_ARGS {
            return Err(too_large());
        }
        Ok(self.args)
    }

    /// INVARIANT (bound) is upheld here: this is the only way for a caller's text into a query.
    fn bind(&mut self, arg: Arg) -> String {
        if let Some(placeholder) = self.placeholders.get(&arg) {
            return placeholder.clone();
        }
        let placeholder = format!("${}", self.first + self.args.len());
        self.args.push(arg.clone());
        self.placeholders.insert(arg, placeholder.clone());
        placeholder
    }

    pub(crate) fn text(&mut self, text: impl Into<String>) -> String {
        self.bind(Arg::Text(text.into()))
    }

    fn integer(&mut self, integer: impl Into<i64>) -> String {
        self.bind(Arg::Integer(integer.into()))
    }

    fn alias(&mut self, prefix: &str) -> String {
        self.aliases += 1;
        format!("{prefix}{}", self.aliases)
    }

    fn filter(&mut self, filter: &Expr<Field>, scope: &Scope<'_>) -> Result<String, FilterError> {
        self.expr(filter, &|builder, field| builder.field(field, scope))
    }

    fn expr<L>(
        &mut self,
        expr: &Expr<L>,
        leaf: &impl Fn(&mut Self, &L) -> Result<String, FilterError>,
    ) -> Result<String, FilterError> {
        let mut each = |parts: &[Expr<L>]| {
            parts.iter().map(|part| self.expr(part, leaf)).collect::<Result<Vec<_>, FilterError>>()
        };
        Ok(match expr {
            Expr::And(parts) => join(&each(parts)?, " AND ", TRUE),
            Expr::Or(parts) => join(&each(parts)?, " OR ", FALSE),
            // A test of a value of another type may give NULL, which NOT would keep.
            Expr::Not(part) => format!("(NOT coalesce({}, {FALSE}))", self.expr(part, leaf)?),
            Expr::Leaf(test) => {
                let text = leaf(self, test)?;
                self.text += text.len();
                if self.text > MAX_TEXT {
                    return Err(too_large());
                }
                text
            }
        })
    }

    fn field(&mut self, field: &Field, scope: &Scope<'_>) -> Result<String, FilterError> {
        if let Scope::Row(table) = scope {
            let path = field.path.to_string();
            if let Some(column) = table.columns.iter().find(|column| column.path == path) {
                return Ok(self.column(column, &field.test));
            }
        }
        let segments = field.path.segments();
        let mut ways = Vec::new();
        if let Some(present) = self.present(segments, &field.test, scope)? {
            ways.push(present);
        }
        if field.test.accepts_missing() {
            ways.extend((0..segments.len()).map(|steps| self.missing(segments, steps, scope)));
        }
        Ok(join(&ways, " OR ", FALSE))
    }

    /// True when the path leads to a value that passes.
    fn present(
        &mut self,
        path: &[Segment],
        test: &Test,
        scope: &Scope<'_>,
    ) -> Result<Option<String>, FilterError> {
        if matches!(test, Test::In(operands) if operands.is_empty()) {
            return Ok(None);
        }
        let Some(walk) = self.walk(path, scope) else { return Ok(None) };
        let mut passes = self.test(&walk.node, test)?;
        if test.by_element() && !matches!(test, Test::Exists) {
            let (from, element) = self.elements(&walk.node);
            let by_element = format!("EXISTS (SELECT 1 FROM {from} WHERE {})", self.test(&element, test)?);
            passes = match &walk.picked {
                None => format!("({passes} OR {by_element})"),
                Some(picked) => format!("({passes} OR (NOT {picked} AND {by_element}))"),
            };
        }
        let exists = walk.exists(passes);
        Ok(Some(match self.indexable(path, test, scope) {
            Some(indexable) => format!("({indexable} AND {exists})"),
            None => exists,
        }))
    }

    /// True when the path ends for want of a field after so many steps.
    fn missing(&mut self, path: &[Segment], steps: usize, scope: &Scope<'_>) -> String {
        let (before, after) = path.split_at(steps);
        let Some(next) = after.first() else { return FALSE.to_owned() };
        let Some(mut walk) = self.walk(before, scope) else {
            return self.lacks(self.root(scope), &next.key);
        };
        let candidate = self.candidates(&mut walk);
        let lacks = self.lacks(&candidate.value, &next.key);
        let scalar = format!("{} NOT IN ('object', 'array')", candidate.kind);
        let scalar = match walk.picked.take() {
            None => scalar,
            Some(picked) => format!("({scalar} AND NOT {picked})"),
        };
        walk.exists(format!("(({} = 'object' AND {lacks}) OR {scalar})", candidate.kind))
    }

    /// `None` for no steps at all.
    fn walk(&mut self, path: &[Segment], scope: &Scope<'_>) -> Option<Walk> {
        let (first, rest) = path.split_first()?;
        let mut walk = self.first_step(first, scope);
        for segment in rest {
            let candidate = self.candidates(&mut walk);
            walk = self.step(walk, &candidate, segment);
        }
        Some(walk)
    }

    fn root<'s>(&self, scope: &Scope<'s>) -> &'s str {
        match scope {
            Scope::Row(table) => table.doc,
            Scope::Object(object) => object,
        }
    }

    fn test(&mut self, node: &Node, test: &Test) -> Result<String, FilterError> {
        Ok(match test {
            Test::Exists => TRUE.to_owned(),
            Test::In(operands) => self.is_in(node, operands),
            Test::Compare(comparison, operand) => self.compare(node, comparison.sql(), operand),
            Test::Type(types) => {
                let types: Vec<_> = types.iter().map(|kind| self.has_type(node, *kind)).collect();
                join(&types, " OR ", FALSE)
            }
            Test::Size(size) => self.has_size(node, *size),
            Test::Mod { divisor, remainder } => self.modulo(node, *divisor, *remainder),
            Test::Regex(pattern) => self.regex(node, pattern),
            Test::AnyElement(tests) => {
                let (from, element) = self.elements(node);
                let passes = self.expr(tests, &|builder, test| builder.test(&element, test))?;
                format!("EXISTS (SELECT 1 FROM {from} WHERE {passes})")
            }
            Test::AnyObject(filter) => {
                let (from, element) = self.elements(node);
                let object = self.object(&element);
                let passes = self.filter(filter, &Scope::Object(&object))?;
                format!("EXISTS (SELECT 1 FROM {from} WHERE {} = 'object' AND {passes})", element.kind)
            }
        })
    }
}

/// What differs between the databases.
impl Builder {
    /// From the root of a document to its first field.
    fn first_step(&mut self, segment: &Segment, scope: &Scope<'_>) -> Walk {
        let root = self.root(scope);
        match self.dialect {
            Dialect::Sqlite => self.sqlite_first_step(root, segment),
            Dialect::Postgres => self.postgres_first_step(root, segment),
        }
    }

    /// Joins what the next key is applied to: the value itself, and the objects in it when it is an array.
    fn candidates(&mut self, walk: &mut Walk) -> Node {
        match self.dialect {
            Dialect::Sqlite => self.sqlite_candidates(walk),
            Dialect::Postgres => self.postgres_candidates(walk),
        }
    }

    /// Joins what a key picks from a candidate.
    fn step(&mut self, walk: Walk, candidate: &Node, segment: &Segment) -> Walk {
        match self.dialect {
            Dialect::Sqlite => self.sqlite_step(walk, candidate, segment),
            Dialect::Postgres => self.postgres_step(walk, candidate, segment),
        }
    }

    /// The elements of a value that is an array: what to select from, and the element.
    fn elements(&mut self, node: &Node) -> (String, Node) {
        match self.dialect {
            Dialect::Sqlite => self.sqlite_elements(node),
            Dialect::Postgres => self.postgres_elements(node),
        }
    }

    /// SQL of an object for use as the root of a filter.
    fn object(&self, node: &Node) -> String {
        match self.dialect {
            Dialect::Sqlite => sqlite::container(node),
            Dialect::Postgres => node.value.clone(),
        }
    }

    fn lacks(&mut self, object: &str, key: &str) -> String {
        match self.dialect {
            Dialect::Sqlite => self.sqlite_lacks(object, key),
            Dialect::Postgres => self.postgres_lacks(object, key),
        }
    }

    /// A condition that is implied and that an index over the documents can answer.
    fn indexable(&mut self, path: &[Segment], test: &Test, scope: &Scope<'_>) -> Option<String> {
        match (self.dialect, scope, test) {
            (Dialect::Postgres, Scope::Row(table), Test::In(operands)) => {
                self.postgres_indexable(table.doc, path, operands)
            }
            _ => None,
        }
    }

    fn is_in(&mut self, node: &Node, operands: &[Value]) -> String {
        match self.dialect {
            Dialect::Sqlite => self.sqlite_is_in(node, operands),
            Dialect::Postgres => self.postgres_is_in(node, operands),
        }
    }

    fn compare(&mut self, node: &Node, comparison: &str, operand: &Scalar) -> String {
        match self.dialect {
            Dialect::Sqlite => self.sqlite_compare(node, comparison, operand),
            Dialect::Postgres => self.postgres_compare(node, comparison, operand),
        }
    }

    fn has_type(&mut self, node: &Node, kind: crate::filter::Type) -> String {
        match self.dialect {
            Dialect::Sqlite => sqlite::has_type(node, kind),
            Dialect::Postgres => postgres::has_type(node, kind),
        }
    }

    fn has_size(&mut self, node: &Node, size: i64) -> String {
        let size = self.integer(size);
        match self.dialect {
            Dialect::Sqlite => sqlite::has_size(node, &size),
            Dialect::Postgres => postgres::has_size(node, &size),
        }
    }

    fn modulo(&mut self, node: &Node, divisor: i64, remainder: i64) -> String {
        let (divisor, remainder) = (self.integer(divisor), self.integer(remainder));
        match self.dialect {
            Dialect::Sqlite => sqlite::modulo(node, &divisor, &remainder),
            Dialect::Postgres => postgres::modulo(node, &divisor, &remainder),
        }
    }

    fn regex(&mut self, node: &Node, pattern: &crate::regex::Pattern) -> String {
        match self.dialect {
            Dialect::Sqlite => {
                let pattern = self.text(pattern.sqlite());
                format!("({} = 'text' AND {} REGEXP {pattern})", node.kind, node.value)
            }
            Dialect::Postgres => {
                let pattern = self.text(pattern.postgres());
                format!(
                    "({} = 'string' AND ({} #>> '{{}}') COLLATE \"C\" ~ {pattern})",
                    node.kind, node.value
                )
            }
        }
    }
}

impl Walk {
    fn exists(mut self, condition: String) -> String {
        self.conditions.push(condition);
        format!("EXISTS (SELECT 1 FROM {} WHERE {})", self.from, self.conditions.join(" AND "))
    }
}

/// Constants both databases read as boolean expressions.
const TRUE: &str = "(1 = 1)";
const FALSE: &str = "(1 = 0)";

/// Nested by halves: a flat chain of a thousand would exceed the depth of expressions SQLite takes.
fn join(parts: &[String], operator: &str, none: &str) -> String {
    match parts {
        [] => none.to_owned(),
        [only] => only.clone(),
        _ => {
            let (left, right) = parts.split_at(parts.len() / 2);
            format!("({}{operator}{})", join(left, operator, none), join(right, operator, none))
        }
    }
}

/// Levels of parentheses times levels of queries. No caller's text is in the SQL, so its parentheses are ours.
fn nesting(sql: &str) -> usize {
    let (mut open, mut queries, mut depth, mut levels) = (Vec::new(), 0, 0, 0);
    for (position, c) in sql.char_indices() {
        match c {
            '(' => {
                let query = sql.get(position..).is_some_and(|rest| rest.starts_with("(SELECT"));
                queries += usize::from(query);
                open.push(query);
                (depth, levels) = (depth.max(open.len()), levels.max(queries));
            }
            ')' => queries -= usize::from(open.pop().unwrap_or_default()),
            _ => {}
        }
    }
    depth * levels
}

fn too_large() -> FilterError {
    FilterError::too_complex("the filter is too large for the database; use fewer clauses or shorter paths")
}
