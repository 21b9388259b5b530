//! Which fields of a document a reply shows.

use serde_json::{Map, Value};

use crate::{FilterError, path::Path};

const MAX_FIELDS: usize = 100;

/// The fields to keep, such as `a,b.c`. A path leads into the objects of arrays, too.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// Empty: keep everything.
    root: Tree,
}

/// What to keep below a field; nothing named means all of it.
#[derive(Debug, Clone, Default)]
struct Tree(std::collections::BTreeMap<String, Tree>);

impl Projection {
    /// Reads a comma-separated list of paths; empty to keep everything. Of `a` and `a.b` the wider one counts.
    ///
    /// # Errors
    /// `bad_path` for a malformed path, `too_complex` for more than 100.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut projection = Self::default();
        if text.is_empty() {
            return Ok(projection);
        }
        let mut paths =
            text.split(',').map(|path| Path::parse(path.trim())).collect::<Result<Vec<_>, _>>()?;
        if paths.len() > MAX_FIELDS {
            return Err(FilterError::too_complex(format!("name at most {MAX_FIELDS} fields")));
        }
        paths.sort_by_key(|path| path.segments().len());
        let mut kept: Vec<Path> = Vec::new();
        for path in paths {
            if !kept.iter().any(|wider| wider.overlaps(&path)) {
                projection.root.keep(&path);
                kept.push(path);
            }
        }
        Ok(projection)
    }

    /// The document with only these fields.
    pub fn apply(&self, document: &Value) -> Value {
        self.root.apply(document).unwrap_or(Value::Null)
    }
}

impl Tree {
    fn keep(&mut self, path: &Path) {
        let mut tree = self;
        for segment in path.segments() {
            tree = tree.0.entry(segment.key.clone()).or_default();
        }
    }

    /// `None` for a value that has no fields to keep.
    fn apply(&self, value: &Value) -> Option<Value> {
        if self.0.is_empty() {
            return Some(value.clone());
        }
        match value {
            Value::Object(fields) => {
                let kept = self
                    .0
                    .iter()
                    .filter_map(|(key, tree)| Some((key.clone(), tree.apply(fields.get(key)?)?)));
                Some(Value::Object(kept.collect::<Map<_, _>>()))
            }
            Value::Array(items) => Some(items.iter().filter_map(|item| self.apply(item)).collect()),
            _ => None,
        }
    }
}
