//! `PUT /function/deployments/<name>`

use super::wait::Wait;
use super::{FUNCTIONS, changes, create, record, room};
use crate::allocation;
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, Code, ErrorBody};
use crate::executors::EXECUTORS;
use crate::http::{Body, Data, IfMatch, Parameters, Path, Reply, document};
use crate::store::documents::{changed, invalid_update, refuse_own_fields, to_document};
use axum::extract::State;
use edict_client::records::{DeployFunction, Executor, Function, Object};
use edict_filter::Update;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// Changes a function: with some fields of a deployment, or with update operators on its record. Replicas are replaced
/// one by one, without failing a call, when its policy, parameters or settings change. Naming the policy, even the same
/// one, takes it as it is now.
#[utoipa::path(
    put,
    path = "/function/deployments/{name}",
    tag = "functions",
    params(("name" = String, Path), Wait, IfMatch),
    request_body(content = DeployFunction, example = json!({"policy_rule_uri": "ip_allowlist:1.1-beta"})),
    responses((status = 200, body = Reply<Function>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn update(
    _: Admin,
    State(app): State<App>,
    Path(name): Path<String>,
    Parameters(wait): Parameters<Wait>,
    if_match: IfMatch,
    Body(payload): Body<Value>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let change = Change::parse(payload)?;
    let store = &app.registry.store;
    loop {
        let found = FUNCTIONS.get(store, &name).await?;
        if_match.check(found.revision)?;
        let old: Function = serde_json::from_str(found.doc.get()).map_err(ApiError::internal)?;
        let mut new = change.apply(&old)?;
        if change.names_policy() {
            new.function_policy_data = create::snapshot(&app, &new.function_policy_rule_uri).await?;
        }
        record::check_replicas(new.replicas, new.autoscaling.as_ref())?;
        record::check_values(&new)?;
        if let Some(executor) = EXECUTORS.find(store, &new.function_executor_id).await? {
            let executor: Executor = serde_json::from_str(executor.doc.get()).map_err(ApiError::internal)?;
            if new.node_selector != old.node_selector {
                allocation::check(&app, &executor.executor_id, &new.node_selector).await?;
            }
            room::check(store, &executor, &new).await?;
            new.function_executor_uri = executor.executor_host_uri;
        }
        if write(&app, &change, &old, &new).await? {
            break;
        }
    }
    app.functions.changed(&name, &FUNCTIONS.get(store, &name).await?).await;
    let document = wait.settle(&app, &name).await?;
    Ok(Data::new(document.doc).revision(document.revision))
}

/// What a request changes.
enum Change {
    Fields(Object),
    Operators(Box<Update>, Value),
}

impl Change {
    fn parse(payload: Value) -> Result<Self, ApiError> {
        if let Some(update) = Update::parse(&payload).map_err(invalid_update)? {
            refuse_own_fields(Some(&update), FUNCTIONS.own_fields)?;
            return Ok(Self::Operators(Box::new(update), payload));
        }
        match payload {
            Value::Object(fields) => Ok(Self::Fields(fields)),
            _ => Err(ApiError::new(
                Code::InvalidField,
                "the body must be a JSON object: fields of a deployment, or update operators",
            )),
        }
    }

    /// The record after the change.
    fn apply(&self, old: &Function) -> Result<Function, ApiError> {
        let fields = match self {
            Self::Operators(update, payload) => changed(old, Some(update), payload)?,
            Self::Fields(fields) => merged(old, fields)?,
        };
        let mut new: Function = document(fields, Function::known_fields())?;
        new.updated_at = crate::now();
        new.revision = old.revision + 1;
        Ok(new)
    }

    fn names_policy(&self) -> bool {
        match self {
            Self::Fields(fields) => fields.contains_key("policy_rule_uri"),
            Self::Operators(update, _) => update.paths().any(|path| path == "function_policy_rule_uri"),
        }
    }

    /// Keys of `policy_rule_settings` or `policy_rule_parameters` that the request names.
    fn named(&self, field: &str) -> BTreeSet<String> {
        match self {
            Self::Fields(fields) => {
                let named = fields.get(field).and_then(Value::as_object);
                named.into_iter().flat_map(|keys| keys.keys().cloned()).collect()
            }
            Self::Operators(update, _) => {
                let key = |path: String| {
                    path.strip_prefix(field)?.strip_prefix('.')?.split('.').next().map(str::to_owned)
                };
                update.paths().filter_map(key).collect()
            }
        }
    }
}

/// The record with some fields of a deployment in place of its own.
fn merged(old: &Function, fields: &Object) -> Result<Object, ApiError> {
    let mut deployment = fields.clone();
    // So that a part of a deployment can be checked like a whole one.
    deployment.entry("name").or_insert_with(|| old.function_id.clone().into());
    deployment.entry("policy_rule_uri").or_insert_with(|| old.function_policy_rule_uri.clone().into());
    let checked: DeployFunction = document(deployment, DeployFunction::known_fields())?;
    let fixed = if checked.name != old.function_id {
        Some("`name` cannot be changed: deploy another function")
    } else if checked.alloc.is_some() {
        Some("`alloc` chooses where a function is deployed, and it is deployed already")
    } else {
        None
    };
    if let Some(problem) = fixed {
        return Err(ApiError::new(Code::InvalidField, format!("field {problem}")));
    }
    let Value::Object(mut record) = to_document(old)? else { return Err(ApiError::internal("no object")) };
    for (field, value) in fields {
        match (field.as_str(), value) {
            ("name" | "alloc", _) => None,
            ("policy_rule_uri", value) => record.insert("function_policy_rule_uri".to_owned(), value.clone()),
            ("replicas", Value::Null) => None,
            (field, Value::Null) => record.remove(field),
            (field, value) => record.insert(field.to_owned(), value.clone()),
        };
    }
    Ok(record)
}

/// Writes the new record, with what of the changes by management commands it leaves; false when somebody was faster.
async fn write(app: &App, change: &Change, old: &Function, new: &Function) -> Result<bool, ApiError> {
    let store = &app.registry.store;
    let (name, dialect) = (old.function_id.as_str(), store.dialect());
    let mut tx = store.begin().await?;
    let locked = FUNCTIONS.lock(&mut tx, dialect, name).await?;
    if locked.revision != old.revision {
        return Ok(false);
    }
    // What its executor has reported meanwhile is newer than what was read.
    let now: Function = serde_json::from_str(locked.doc.get()).map_err(ApiError::internal)?;
    if now.created_at != old.created_at {
        return Ok(false);
    }
    let new = Function { function_status: now.function_status, ..new.clone() };
    if !FUNCTIONS.replace(&mut tx, dialect, (name, old.revision), (name, &to_document(&new)?)).await? {
        return Ok(false);
    }
    let mut kept = changes::locked(&mut tx, name).await?;
    let before = kept.clone();
    let (old_settings, old_parameters) = record::values(old);
    let (new_settings, new_parameters) = record::values(&new);
    let settings = settled(&old_settings, &new_settings, change.named("policy_rule_settings"));
    let parameters = settled(&old_parameters, &new_parameters, change.named("policy_rule_parameters"));
    let state = &mut kept.changes;
    state.settings.retain(|key, _| !settings.contains(key));
    state.parameters.retain(|key, _| !parameters.contains(key));
    state.removed_settings.retain(|key| !settings.contains(key));
    state.removed_parameters.retain(|key| !parameters.contains(key));
    if kept != before {
        kept.version += 1;
        changes::write(&mut tx, name, &kept).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// The last writer wins: keys that an update names or changes no longer have the value that a management command gave
/// them.
fn settled(old: &Object, new: &Object, mut named: BTreeSet<String>) -> BTreeSet<String> {
    let keys = old.keys().chain(new.keys());
    named.extend(keys.filter(|key| old.get(*key) != new.get(*key)).cloned());
    named
}
