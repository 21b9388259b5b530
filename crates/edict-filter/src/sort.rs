//! The order of results.

use crate::{Dialect, ErrorCode, FilterError, Kind, Sql, Table, path::Path, sql::Builder};

const MAX_FIELDS: usize = 10;

/// An order by fields, such as `a,-b`: ascending by `a`, then descending by `b`.
///
/// Values of different types are ordered null and missing, numbers, strings (by code point), objects, arrays,
/// booleans. Unlike in MongoDB an array is not ordered by its elements: all arrays are equal, as are all objects,
/// and paths do not lead through arrays.
#[derive(Debug, Clone, Default)]
pub struct Sort {
    fields: Vec<(Path, bool)>,
}

impl Sort {
    /// Reads a comma-separated list of paths, each with `-` before it for descending; empty for no order.
    ///
    /// # Errors
    /// `bad_path` for a malformed path, `too_complex` for more than 10.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let field = |field: &str| {
            let (path, descending) = match field.strip_prefix('-') {
                Some(path) => (path, true),
                None => (field, false),
            };
            Ok((Path::parse(path)?, descending))
        };
        let fields =
            text.split(',').map(|text| field(text.trim())).collect::<Result<Vec<_>, FilterError>>()?;
        if fields.len() > MAX_FIELDS {
            return Err(FilterError::new(
                ErrorCode::TooComplex,
                format!("sort by at most {MAX_FIELDS} fields"),
            ));
        }
        Ok(Self { fields })
    }

    /// What follows `ORDER BY`. `key` is the SQL of a unique column, which decides between equals so that pages do
    /// not overlap.
    ///
    /// # Errors
    /// `bad_path` for a key that SQLite cannot address (one with `"` or `\`).
    pub fn to_sql(
        &self,
        dialect: Dialect,
        table: &Table<'_>,
        key: &str,
        first_placeholder: usize,
    ) -> Result<Sql, FilterError> {
        let mut builder = Builder::new(dialect, first_placeholder);
        let mut terms = Vec::new();
        for (path, descending) in &self.fields {
            let direction = if *descending { "DESC" } else { "ASC" };
            let text = path.to_string();
            let by = match table.columns.iter().find(|column| column.path == text) {
                Some(column) => vec![match (dialect, column.kind) {
                    (Dialect::Postgres, Kind::Text) => format!("{} COLLATE \"C\"", column.sql),
                    _ => column.sql.to_owned(),
                }],
                None => match dialect {
                    Dialect::Sqlite => sqlite(&mut builder, table.doc, path)?,
                    Dialect::Postgres => postgres(&mut builder, table.doc, path),
                },
            };
            terms.extend(by.into_iter().map(|term| format!("{term} {direction}")));
        }
        terms.push(format!("{key} ASC"));
        Ok(Sql { text: terms.join(", "), args: builder.into_args()? })
    }
}

fn sqlite(builder: &mut Builder, doc: &str, path: &Path) -> Result<Vec<String>, FilterError> {
    let mut address = "$".to_owned();
    for segment in path.segments() {
        // SQLite's paths quote a key, and its versions differ in what an escape inside the quotes means.
        if segment.key.contains(['"', '\\']) {
            let path = path.to_string();
            return Err(FilterError::new(
                ErrorCode::BadPath,
                format!("cannot sort by `{}`: its name contains a quote or a backslash", path.escape_debug()),
            ));
        }
        address.push_str(&format!(".\"{}\"", segment.key));
    }
    let address = builder.text(address);
    let (kind, value) = (format!("json_type({doc}, {address})"), format!("json_extract({doc}, {address})"));
    let rank = format!(
        "CASE {kind} WHEN 'integer' THEN 1 WHEN 'real' THEN 1 WHEN 'text' THEN 2 WHEN 'object' THEN 3 \
         WHEN 'array' THEN 4 WHEN 'true' THEN 5 WHEN 'false' THEN 5 ELSE 0 END"
    );
    Ok(vec![rank, format!("CASE WHEN {kind} NOT IN ('object', 'array') THEN {value} END")])
}

fn postgres(builder: &mut Builder, doc: &str, path: &Path) -> Vec<String> {
    let mut value = doc.to_owned();
    for segment in path.segments() {
        value = format!("{value} -> {}", builder.text(&segment.key));
    }
    let kind = format!("jsonb_typeof({value})");
    vec![
        format!(
            "CASE {kind} WHEN 'number' THEN 1 WHEN 'string' THEN 2 WHEN 'object' THEN 3 WHEN 'array' THEN 4 \
             WHEN 'boolean' THEN 5 ELSE 0 END"
        ),
        format!("CASE WHEN {kind} IN ('number', 'boolean') THEN {value} END"),
        format!("CASE WHEN {kind} = 'string' THEN ({value}) #>> '{{}}' END COLLATE \"C\""),
    ]
}
