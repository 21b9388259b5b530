//! Updates in MongoDB's language.

mod apply;
mod parse;

use serde_json::{Number, Value};

use crate::{FilterError, parse::Condition, path::Path};

/// A parsed update: what to change, and where.
#[derive(Debug, Clone)]
pub struct Update {
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    /// The operator's name, for messages.
    operator: &'static str,
    path: Path,
    action: Action,
}

#[derive(Debug, Clone)]
enum Action {
    Set(Value),
    Unset,
    Inc(Number),
    Mul(Number),
    Min(Value),
    Max(Value),
    Rename(Path),
    Push(Vec<Value>),
    AddToSet(Vec<Value>),
    Pull(Condition),
    PopFirst,
    PopLast,
}

impl Update {
    /// The update with every path, `$rename`'s targets included, replaced by what `alias` makes of it.
    ///
    /// # Errors
    /// `bad_path` for a malformed path, `conflicting_paths` when two changes now write the same place.
    pub fn map_paths(self, alias: impl Fn(&str) -> String) -> Result<Self, FilterError> {
        let map = |path: &Path| Path::parse(&alias(&path.to_string()));
        let mut changes = Vec::with_capacity(self.changes.len());
        for mut change in self.changes {
            change.path = map(&change.path)?;
            if let Action::Rename(target) = &mut change.action {
                *target = map(target)?;
            }
            changes.push(change);
        }
        parse::check_conflicts(&changes)?;
        Ok(Self { changes })
    }

    /// The paths that the update writes, `$rename`'s targets included.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        self.changes.iter().flat_map(Change::writes).map(Path::to_string)
    }

    /// Changes the document, or leaves it as it is if any of the changes does not fit it.
    ///
    /// # Errors
    /// `cannot_apply`, naming the path and the type found.
    pub fn apply(&self, document: &mut Value) -> Result<(), FilterError> {
        let mut changed = document.clone();
        for change in &self.changes {
            change.apply(&mut changed)?;
        }
        *document = changed;
        Ok(())
    }
}

impl Change {
    fn writes(&self) -> impl Iterator<Item = &Path> {
        let target = match &self.action {
            Action::Rename(target) => Some(target),
            _ => None,
        };
        std::iter::once(&self.path).chain(target)
    }
}
