//! Records kept as JSON documents: one table each, with `key`, `doc`, `revision` and columns generated from `doc`.

use super::{Arg, Statement, Store, StoreError, Tx};
use crate::error::{ApiError, Code};
use crate::http::{IfMatch, Page};
use edict_client::records::Object;
use edict_filter::{Dialect, Filter, FilterError, Projection, Sort, Table, Update};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// Records that a query returns unless it says otherwise.
const DEFAULT_LIMIT: u32 = 1000;
/// Records that a query returns at most.
const LARGEST_LIMIT: u32 = 10_000;

/// One kind of record: its table, and the codes of its errors.
pub(crate) struct Collection {
    /// Table and the columns that filters use instead of looking into documents.
    pub(crate) table: Table<'static>,
    pub(crate) name: &'static str,
    /// What a record is called in messages.
    pub(crate) noun: &'static str,
    /// Fields that only the server sets.
    pub(crate) own_fields: &'static [&'static str],
    pub(crate) not_found: Code,
    pub(crate) exists: Code,
}

/// What an update writes.
pub(crate) struct Change<R> {
    pub(crate) key: String,
    pub(crate) new: R,
    /// Further statements of the same transaction.
    pub(crate) also: Vec<Statement>,
}

/// What an update wrote.
pub(crate) struct Updated<R> {
    pub(crate) new: R,
    /// The record's new key, if it changed.
    pub(crate) moved_to: Option<String>,
}

/// A record as stored.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) doc: Box<RawValue>,
    pub(crate) revision: u64,
}

impl Collection {
    /// The error for a key that has no record.
    pub(crate) fn missing(&self, key: &str) -> ApiError {
        ApiError::new(self.not_found, format!("there is no {} `{}`", self.noun, crate::shorten(key)))
    }

    /// The error for a key that has a record already.
    pub(crate) fn taken(&self, key: &str) -> ApiError {
        ApiError::new(
            self.exists,
            format!(
                "there is a {} `{key}` already: update it with PUT, or choose another name or version",
                self.noun
            ),
        )
    }

    /// How a record's text is selected.
    pub(crate) const fn doc(dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => "doc",
            Dialect::Postgres => "doc::text",
        }
    }

    fn doc_argument(dialect: Dialect, number: usize) -> String {
        match dialect {
            Dialect::Sqlite => format!("${number}"),
            Dialect::Postgres => format!("${number}::jsonb"),
        }
    }

    /// The record with this key.
    ///
    /// # Errors
    /// The collection's 404 when there is none.
    pub(crate) async fn get(&self, store: &Store, key: &str) -> Result<Document, ApiError> {
        self.find(store, key).await?.ok_or_else(|| self.missing(key))
    }

    /// The record with this key, if there is one.
    pub(crate) async fn find(&self, store: &Store, key: &str) -> Result<Option<Document>, StoreError> {
        // No record has such a key, and PostgreSQL takes no text with NUL to compare with.
        if key.contains('\0') {
            return Ok(None);
        }
        let sql =
            format!("SELECT {}, revision FROM {} WHERE key = $1", Self::doc(store.dialect()), self.name);
        let row = store.fetch_one::<(String, i64)>(Statement::new(sql).bind(key)).await?;
        row.map(|(doc, revision)| document(doc, revision)).transpose()
    }

    /// Stores a new record.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the key is taken.
    pub(crate) async fn insert(
        &self,
        tx: &mut Tx,
        dialect: Dialect,
        key: &str,
        doc: &Value,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO {} (key, doc, revision) VALUES ($1, {}, 1)",
            self.name,
            Self::doc_argument(dialect, 2)
        );
        tx.execute(Statement::new(sql).bind(key).bind(doc.to_string())).await.map(|_| ())
    }

    /// Stores a new record, in a transaction of its own.
    ///
    /// # Errors
    /// 409 when the key is taken.
    pub(crate) async fn create(
        &self,
        store: &Store,
        key: &str,
        record: &impl Serialize,
    ) -> Result<(), ApiError> {
        let doc = to_document(record)?;
        let mut tx = store.begin().await?;
        match self.insert(&mut tx, store.dialect(), key, &doc).await {
            Err(StoreError::Exists) => return Err(self.taken(key)),
            done => done?,
        }
        Ok(tx.commit().await?)
    }

    /// Replaces a record, perhaps under a new key, if it still has the revision `from`. False when it has not.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the new key is taken.
    pub(crate) async fn replace(
        &self,
        tx: &mut Tx,
        dialect: Dialect,
        (key, from): (&str, u64),
        (new_key, doc): (&str, &Value),
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "UPDATE {} SET key = $1, doc = {}, revision = revision + 1 WHERE key = $3 AND revision = $4",
            self.name,
            Self::doc_argument(dialect, 2)
        );
        let statement = Statement::new(sql).bind(new_key).bind(doc.to_string()).bind(key).bind(signed(from));
        Ok(tx.execute(statement).await? == 1)
    }

    /// The record with this key, which nobody else changes until the transaction ends: whoever wants to waits, so that
    /// any number of updates at once all happen, one after the other.
    ///
    /// # Errors
    /// The collection's 404 when there is none.
    pub(crate) async fn lock(&self, tx: &mut Tx, dialect: Dialect, key: &str) -> Result<Document, ApiError> {
        let (doc, lock) = match dialect {
            // A transaction that writes has SQLite for itself.
            Dialect::Sqlite => ("doc", ""),
            Dialect::Postgres => ("doc::text", " FOR UPDATE"),
        };
        let sql = format!("SELECT {doc}, revision FROM {} WHERE key = $1{lock}", self.name);
        let row = tx.fetch::<(String, i64)>(Statement::new(sql).bind(key)).await?.into_iter().next();
        let (doc, revision) = row.ok_or_else(|| self.missing(key))?;
        Ok(document(doc, revision)?)
    }

    /// Changes a record by a full payload or update operators. `build` checks the new fields and says what is to be
    /// written.
    ///
    /// # Errors
    /// What `build` says; 404; 409 when the new key is taken; 412 when `If-Match` names another revision.
    pub(crate) async fn update<R: Serialize + DeserializeOwned>(
        &self,
        store: &Store,
        key: &str,
        if_match: IfMatch,
        payload: Value,
        build: impl FnOnce(Object, &R) -> Result<Change<R>, ApiError>,
    ) -> Result<Updated<R>, ApiError> {
        let update = Update::parse(&payload).map_err(invalid_update)?;
        refuse_own_fields(update.as_ref(), self.own_fields)?;
        let mut tx = store.begin().await?;
        let document = self.lock(&mut tx, store.dialect(), key).await?;
        if_match.check(document.revision)?;
        let old: R = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
        let Change { key: new_key, new, also } = build(changed(&old, update.as_ref(), &payload)?, &old)?;
        let doc = to_document(&new)?;
        match self.replace(&mut tx, store.dialect(), (key, document.revision), (&new_key, &doc)).await {
            Err(StoreError::Exists) => return Err(self.taken(&new_key)),
            Ok(false) => return Err(self.contended(key)),
            Ok(true) => {}
            Err(error) => return Err(error.into()),
        }
        for statement in also {
            tx.execute(statement).await?;
        }
        tx.commit().await?;
        Ok(Updated { new, moved_to: (new_key != key).then_some(new_key) })
    }

    /// The error for a record that changed although it was locked: an acknowledged change must not be a lost one.
    pub(crate) fn contended(&self, key: &str) -> ApiError {
        let shown = crate::shorten(key);
        ApiError::new(
            Code::RevisionConflict,
            format!("the {} `{shown}` was changed meanwhile; try again", self.noun),
        )
    }

    /// Removes a record; false when there was none (or it has another revision than `if_match`).
    pub(crate) async fn delete(
        &self,
        tx: &mut Tx,
        key: &str,
        if_match: Option<u64>,
    ) -> Result<bool, StoreError> {
        let mut statement = Statement::new(format!("DELETE FROM {} WHERE key = $1", self.name)).bind(key);
        if let Some(revision) = if_match {
            statement = Statement::new(format!("DELETE FROM {} WHERE key = $1 AND revision = $2", self.name))
                .bind(key)
                .bind(signed(revision));
        }
        Ok(tx.execute(statement).await? == 1)
    }

    /// Records that match a Mongo-style filter, and whether there are more than the page holds.
    ///
    /// # Errors
    /// 400 when the filter, the order or the projection cannot be understood.
    pub(crate) async fn query(
        &self,
        store: &Store,
        matching: &Value,
        page: &Page,
    ) -> Result<(Vec<Box<RawValue>>, bool), ApiError> {
        let limit = Self::limit(page)?;
        let dialect = store.dialect();
        let filter = Filter::parse(matching)?;
        let sort = Sort::parse(page.sort.as_deref().unwrap_or_default())?;
        let projection = page.fields.as_deref().map(Projection::parse).transpose()?;
        let condition = filter.to_sql(dialect, &self.table, 1)?;
        let order = sort.to_sql(dialect, &self.table, "key", condition.args.len() + 1)?;
        let (doc, name, order_by) = (Self::doc(dialect), self.name, order.text);
        let all = matching.as_object().is_some_and(Object::is_empty);
        let condition_text = match dialect {
            Dialect::Postgres => condition.text,
            // Every row: then only the order matters, and its index leads to the first ones without looking at the rest.
            Dialect::Sqlite if all => condition.text,
            // SQLite reads a row from its start: looking for keys first lets it stay in an index where the filter's
            // columns have one, and read whole documents only for what was found.
            Dialect::Sqlite => format!("rowid IN (SELECT rowid FROM {name} WHERE {})", condition.text),
        };
        let (rows, skipped) = (limit + 1, page.skip.unwrap_or(0));
        let sql = format!(
            "SELECT {doc} FROM {name} WHERE {condition_text} ORDER BY {order_by} LIMIT {rows} OFFSET {skipped}"
        );
        let args = condition.args.into_iter().chain(order.args).map(Arg::from);
        let mut rows = store.search::<(String,)>(Statement::new(sql).bind_all(args)).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let docs = rows.into_iter().map(|(doc,)| project(doc, projection.as_ref()));
        Ok((docs.collect::<Result<_, _>>()?, more))
    }
}

impl Collection {
    /// How many records a page holds.
    ///
    /// # Errors
    /// 400 when it is none or too many.
    pub(crate) fn limit(page: &Page) -> Result<u32, ApiError> {
        let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=LARGEST_LIMIT).contains(&limit) {
            return Ok(limit);
        }
        Err(ApiError::new(
            Code::InvalidParameter,
            format!("query parameter `limit` must be between 1 and {LARGEST_LIMIT}, got `{limit}`"),
        ))
    }

    /// How many records match a Mongo-style filter.
    ///
    /// # Errors
    /// 400 when the filter cannot be understood.
    pub(crate) async fn count(&self, store: &Store, matching: &Value) -> Result<u64, ApiError> {
        let condition = Filter::parse(matching)?.to_sql(store.dialect(), &self.table, 1)?;
        let sql = format!("SELECT CAST(COUNT(*) AS bigint) FROM {} WHERE {}", self.name, condition.text);
        let statement = Statement::new(sql).bind_all(condition.args.into_iter().map(Arg::from));
        let counted = store.search::<(i64,)>(statement).await?;
        Ok(counted.first().map_or(0, |(count,)| count.unsigned_abs()))
    }
}

/// A record as it is stored.
pub(crate) fn to_document(record: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(record).map_err(ApiError::internal)
}

/// A record's fields after a change: `payload` itself when it is a full record, else what the operators make of it.
pub(crate) fn changed<R: Serialize>(
    old: &R,
    update: Option<&Update>,
    payload: &Value,
) -> Result<Object, ApiError> {
    let new = match update {
        None => payload.clone(),
        Some(update) => {
            let mut document = to_document(old)?;
            update.apply(&mut document).map_err(invalid_update)?;
            document
        }
    };
    match new {
        Value::Object(fields) => Ok(fields),
        _ => Err(ApiError::new(
            Code::InvalidField,
            "the body must be a JSON object: a full record or update operators",
        )),
    }
}

fn project(doc: String, projection: Option<&Projection>) -> Result<Box<RawValue>, ApiError> {
    let doc = match projection {
        None => doc,
        Some(projection) => {
            let value: Value = serde_json::from_str(&doc).map_err(ApiError::internal)?;
            projection.apply(&value).to_string()
        }
    };
    RawValue::from_string(doc).map_err(ApiError::internal)
}

fn document(doc: String, revision: i64) -> Result<Document, StoreError> {
    let doc =
        RawValue::from_string(doc).map_err(|error| StoreError::Other(sqlx::Error::Decode(error.into())))?;
    Ok(Document { doc, revision: revision.unsigned_abs() })
}

/// Revisions start at 1 and grow by 1, so they never reach the end of the database's integers.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        let reason = error.code().as_str();
        Self::new(Code::InvalidQuery, error.to_string()).details(serde_json::json!({"reason": reason}))
    }
}

/// Update operators on a field that only the server sets are a mistake; in a full record it is just what was read.
pub(crate) fn refuse_own_fields(update: Option<&Update>, own: &[&str]) -> Result<(), ApiError> {
    let touched = update.into_iter().flat_map(Update::paths);
    let first = |path: String| path.split('.').next().unwrap_or_default().to_owned();
    match touched.map(first).find(|field| own.contains(&field.as_str())) {
        Some(field) => Err(ApiError::new(
            Code::InvalidUpdate,
            format!("field `{field}` is set by the server and cannot be changed"),
        )),
        None => Ok(()),
    }
}

/// The error for update operators that cannot be understood or applied.
pub(crate) fn invalid_update(error: FilterError) -> ApiError {
    let reason = error.code().as_str();
    ApiError::new(Code::InvalidUpdate, error.to_string()).details(serde_json::json!({"reason": reason}))
}

impl From<edict_filter::Arg> for Arg {
    fn from(arg: edict_filter::Arg) -> Self {
        match arg {
            edict_filter::Arg::Text(text) => Self::Text(text),
            edict_filter::Arg::Integer(number) => Self::Int(number),
        }
    }
}
