//! The policies in force: those of the database and of the folder, compiled together and swapped as a whole.

use super::folder::Loaded;
use super::{DECISION_POLICIES, Decisions, record};
use crate::error::ApiError;
use crate::store::Statement;
use crate::store::documents::Collection;
use edict_engine::{Effect, Policy, PolicyError, PolicySet};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two attempts to put a change into force that failed.
const AGAIN: Duration = Duration::from_millis(500);

/// What decides, and what the API tells of it.
#[derive(Default)]
pub(super) struct InForce {
    pub(super) set: PolicySet,
    /// What this version cannot read of stored policies, by name.
    pub(super) unreadable: BTreeMap<String, String>,
    /// Names of the policies in the database.
    pub(super) stored: BTreeSet<String>,
    pub(super) folder: Arc<Loaded>,
    /// A name that is in the database and in the folder.
    pub(super) clash: Option<String>,
}

/// A change that is being committed.
///
/// INVARIANT (in force): whatever was committed gets into force, also when its caller goes away or the database fails
/// right after: the bell is rung unless [`Change::in_force`] has done it.
pub(super) struct Change<'d>(Option<&'d Decisions>);

impl Change<'_> {
    /// Puts the committed change into force here; other servers hear of it from the database.
    ///
    /// # Errors
    /// When the database does not answer; it is tried again then, until it does.
    pub(super) async fn in_force(mut self) -> Result<(), ApiError> {
        if let Some(decisions) = self.0 {
            decisions.reload().await?;
            self.0 = None;
        }
        Ok(())
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if let Some(decisions) = self.0 {
            decisions.heard();
        }
    }
}

impl Decisions {
    /// To be called before a change is committed.
    pub(super) fn change(&self) -> Change<'_> {
        Change(Some(self))
    }

    /// Policies may have changed: they are read again by [`Decisions::follow`].
    pub(crate) fn heard(&self) {
        self.bell.notify_one();
    }

    /// Puts into force what [`Decisions::heard`] tells of, for as long as it is polled.
    pub(crate) async fn follow(&self) {
        loop {
            self.bell.notified().await;
            while let Err(error) = self.reload().await {
                tracing::warn!(error = error.message(), "decision policies could not be read; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Puts into force what is committed when this is called. Of callers that come while another one is at it, one
    /// does it for all of them.
    ///
    /// # Errors
    /// When the database does not answer; what was in force stays then.
    pub(super) async fn reload(&self) -> Result<(), ApiError> {
        let wish = self.wishes.fetch_add(1, Ordering::SeqCst) + 1;
        let mut fulfilled = self.fulfilled.lock().await;
        if *fulfilled >= wish {
            return Ok(());
        }
        let upto = self.wishes.load(Ordering::SeqCst);
        let started = Instant::now();
        let doc = Collection::doc(self.store.dialect());
        let sql = format!("SELECT key, {doc} FROM {}", DECISION_POLICIES.name);
        let rows = self.store.fetch::<(String, String)>(Statement::new(sql)).await?;
        let folder = self.folder.loaded();
        let compile = tokio::task::spawn_blocking(move || InForce::compile(rows, folder));
        let fresh = Arc::new(compile.await.map_err(ApiError::internal)??);
        let old = self.force.swap(Arc::clone(&fresh));
        *fulfilled = upto;
        drop(fulfilled);
        fresh.tell(&old, started.elapsed());
        // Taking apart thousands of policies takes longer than requests should wait.
        tokio::task::spawn_blocking(move || drop(old));
        Ok(())
    }
}

impl InForce {
    /// Never refuses for what a policy says: a database that another version wrote to must not keep a server from
    /// deciding.
    fn compile(rows: Vec<(String, String)>, folder: Arc<Loaded>) -> Result<Self, ApiError> {
        let mut unreadable = BTreeMap::new();
        let mut stored = BTreeSet::new();
        let mut policies = Vec::with_capacity(rows.len() + folder.policies.len());
        for (key, doc) in rows {
            let mut value: Value = serde_json::from_str(&doc).map_err(ApiError::internal)?;
            let name = value.get("name").and_then(Value::as_str).unwrap_or(&key).to_owned();
            stored.insert(name.clone());
            match read(&mut value) {
                Ok(policy) => policies.push(policy),
                Err(why) => {
                    policies.extend(stand_in(&name, &value, &why));
                    unreadable.insert(name, why);
                }
            }
        }
        for filed in &folder.policies {
            let mut policy = filed.policy.clone();
            // Another server may have stored one with this name since: neither may drop out of force.
            if stored.contains(&policy.name) {
                policy.name = format!("{} ({})", policy.name, filed.file);
            }
            policies.push(policy);
        }
        let (set, faulty) = PolicySet::compile_stored(policies).map_err(|errors| {
            ApiError::internal(errors.iter().map(PolicyError::to_string).collect::<Vec<_>>().join("; "))
        })?;
        unreadable.extend(faulty.into_iter().map(|error| (error.policy.clone(), record::listed(&error))));
        let clash = folder.clash(&stored);
        Ok(Self { set, unreadable, stored, folder, clash })
    }

    fn tell(&self, old: &Self, took: Duration) {
        let (policies, milliseconds) = (self.set.len(), took.as_secs_f64() * 1e3);
        // At the start it is no news.
        if old.set.is_empty() {
            tracing::debug!(policies, milliseconds, "decision policies are in force");
        } else {
            tracing::info!(policies, milliseconds, "decision policies are in force");
        }
        for (name, why) in
            self.unreadable.iter().filter(|(name, why)| old.unreadable.get(*name) != Some(*why))
        {
            tracing::error!(
                policy = name,
                why,
                "a stored decision policy cannot be read; a deny denies, an allow does not apply"
            );
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of policies are far from where floats lose digits"
        )]
        let set = |name: &'static str, count: usize| metrics::gauge!(name).set(count as f64);
        set("edict_decision_policies", self.set.len());
        set("edict_decision_policies_unreadable", self.unreadable.len());
    }
}

/// A stored policy; what is wrong with its conditions is found out when all are compiled.
fn read(doc: &mut Value) -> Result<Policy, String> {
    if let Some(fields) = doc.as_object_mut() {
        for field in record::OWN_FIELDS {
            fields.remove(field);
        }
    }
    let policy = Policy::from_value(doc).map_err(|error| record::listed(&error))?;
    policy.check_but_conditions().map_err(|error| record::listed(&error))?;
    Ok(policy)
}

/// What stands for a stored policy that this version cannot read: a deny that denies wherever the parts that can be
/// read apply (INVARIANT fail closed). One that is an allow for sure does not apply.
fn stand_in(name: &str, doc: &Value, why: &str) -> Option<Policy> {
    let text = |field: &str| doc.get(field).and_then(Value::as_str);
    if text("effect") == Some("allow") {
        return None;
    }
    let mut conditions = doc.get("conditions").and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    conditions.insert("$unreadable".to_owned(), Value::from(why));
    let whole = |name: &str, description: &str| Policy {
        name: name.to_owned(),
        description: description.to_owned(),
        kind: "*".to_owned(),
        effect: Effect::Deny,
        priority: 0,
        conditions: conditions.clone(),
        actions: vec!["*".to_owned()],
        resources: vec!["*".to_owned()],
        is_active: doc.get("isActive") != Some(&Value::Bool(false)),
    };
    // Each part is taken over if a policy with it would be one.
    let mut policy = whole(name, "");
    for field in ["type", "actions", "resources", "description", "priority"] {
        let Some(value) = doc.get(field) else { continue };
        let tried = json!({
            "name": "tried", "type": "*", "effect": "deny", "actions": ["*"], "resources": ["*"],
        });
        let Value::Object(mut fields) = tried else { continue };
        fields.insert(field.to_owned(), value.clone());
        let Ok(read) = Policy::from_value(&Value::Object(fields)) else { continue };
        if read.check_but_conditions().is_err() {
            continue;
        }
        match field {
            "type" => policy.kind = read.kind,
            "actions" => policy.actions = read.actions,
            "resources" => policy.resources = read.resources,
            "description" => policy.description = read.description,
            _ => policy.priority = read.priority,
        }
    }
    Some(policy)
}
