//! `POST /api/v1/policy/import`

use super::{Decisions, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Body, Parameters};
use crate::store::{Statement, StoreError, Tx};
use axum::Json;
use axum::extract::State;
use edict_client::records::{DecisionPolicy, ImportDecisionPolicies, ImportedDecisionPolicies, Object};
use edict_engine::Policy;
use edict_filter::Dialect;
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::IntoParams;

/// Policies that are written with one statement.
const TOGETHER: usize = 1_000;
/// Faulty policies that are listed; who imports thousands has made the same mistake in all of them.
const LISTED: usize = 100;

/// What to do about names that are taken.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replace {
    /// Take the place of the decision policies with the same names, instead of being refused.
    #[serde(default)]
    replace: bool,
}

/// Policies to store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Import {
    policies: Vec<Object>,
}

/// What is known of a stored policy whose place another one takes.
type Known = BTreeMap<String, (String, Option<String>, u64)>;

/// Stores decision policies, all or none. They come into force together, before the reply leaves.
#[utoipa::path(
    post,
    path = "/api/v1/policy/import",
    tag = "decisions",
    params(Replace),
    request_body = ImportDecisionPolicies,
    responses((status = 200, body = ImportedDecisionPolicies), (status = "default", body = ErrorBody))
)]
pub(crate) async fn import(
    _: Admin,
    State(app): State<App>,
    Parameters(Replace { replace }): Parameters<Replace>,
    Body(Import { policies }): Body<Import>,
) -> Result<Json<ImportedDecisionPolicies>, ApiError> {
    let decisions = &app.decisions;
    let checked = tokio::task::spawn_blocking(move || check(policies)).await.map_err(ApiError::internal)?;
    let policies = checked?;
    for policy in &policies {
        decisions.check_free(&policy.name)?;
    }
    let mut tx = decisions.begin().await?;
    let known = if replace { known(&mut tx, &policies).await? } else { Known::new() };
    let (mut fresh, mut replacing) = (Vec::new(), Vec::new());
    for policy in policies {
        match known.get(&policy.name) {
            Some((id, created_at, revision)) => {
                replacing.push(record::next(policy, id, created_at.clone(), *revision));
            }
            None => fresh.push(record::new(policy)),
        }
    }
    let dialect = decisions.store.dialect();
    write(&mut tx, insertion(dialect), &fresh).await.map_err(|error| match error {
        StoreError::Exists => ApiError::new(
            Code::DecisionPolicyExists,
            "there is a decision policy with the name of one of these already; `?replace=true` takes its place",
        ),
        error => error.into(),
    })?;
    write(&mut tx, replacement(dialect), &replacing).await?;
    let change = decisions.change();
    tx.commit().await?;
    change.in_force().await?;
    let warnings = decisions.warnings(fresh.iter().chain(&replacing)).await?;
    let (created, replaced) = (fresh.len() as u64, replacing.len() as u64);
    Ok(Json(ImportedDecisionPolicies { created, replaced, warnings }))
}

/// Checks all of them, so that one reply tells of everything that is wrong.
fn check(payloads: Vec<Object>) -> Result<Vec<Policy>, ApiError> {
    let (mut policies, mut faulty) = (Vec::with_capacity(payloads.len()), Vec::new());
    let mut names = BTreeSet::new();
    for (position, payload) in payloads.into_iter().enumerate() {
        let checked = record::policy(payload).and_then(|policy| match names.insert(policy.name.clone()) {
            true => Ok(policy),
            false => Err(ApiError::new(
                Code::InvalidDecisionPolicy,
                format!("`name` is `{}`, like that of an earlier one", crate::shorten(&policy.name)),
            )),
        });
        match checked {
            Ok(policy) => policies.push(policy),
            Err(error) => faulty.push((position, error)),
        }
    }
    let Some((first, error)) = faulty.first() else { return Ok(policies) };
    let others = match faulty.len() {
        1 => String::new(),
        count => format!(" (and {} others are faulty, too)", count - 1),
    };
    let (code, message) = (error.code(), format!("`policies.{first}`: {}{others}", error.message()));
    let listed = faulty.iter().take(LISTED);
    let faults = listed.map(|(position, error)| json!({"policy": position, "message": error.message()}));
    Err(ApiError::new(code, message).details(json!({"faults": faults.collect::<Vec<_>>()})))
}

async fn known(tx: &mut Tx, policies: &[Policy]) -> Result<Known, ApiError> {
    let names: BTreeSet<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
    let sql = "SELECT name, key, created_at, revision FROM decision_policies";
    let rows = tx.fetch::<(String, String, Option<String>, i64)>(Statement::new(sql)).await?;
    let ours = rows.into_iter().filter(|(name, ..)| names.contains(name.as_str()));
    Ok(ours.map(|(name, key, created, revision)| (name, (key, created, revision.unsigned_abs()))).collect())
}

async fn write(tx: &mut Tx, sql: &str, policies: &[DecisionPolicy]) -> Result<(), StoreError> {
    for some in policies.chunks(TOGETHER) {
        let docs = serde_json::to_string(some)
            .map_err(|error| StoreError::Other(sqlx::Error::Encode(error.into())))?;
        tx.execute(Statement::new(sql).bind(docs)).await?;
    }
    Ok(())
}

const fn insertion(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => {
            "INSERT INTO decision_policies (key, doc, revision) \
             SELECT json_extract(value, '$.id'), value, 1 FROM json_each($1)"
        }
        Dialect::Postgres => {
            "INSERT INTO decision_policies (key, doc, revision) \
             SELECT value->>'id', value, 1 FROM jsonb_array_elements($1::jsonb)"
        }
    }
}

const fn replacement(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => {
            "UPDATE decision_policies SET doc = new.value, revision = decision_policies.revision + 1 \
             FROM json_each($1) AS new WHERE decision_policies.key = json_extract(new.value, '$.id')"
        }
        Dialect::Postgres => {
            "UPDATE decision_policies SET doc = new.value, revision = decision_policies.revision + 1 \
             FROM jsonb_array_elements($1::jsonb) AS new WHERE decision_policies.key = new.value->>'id'"
        }
    }
}

impl Decisions {
    /// Stores new policies, for which there is no policy with their name.
    pub(super) async fn insert(&self, tx: &mut Tx, policies: &[DecisionPolicy]) -> Result<(), StoreError> {
        write(tx, insertion(self.store.dialect()), policies).await
    }
}
