//! The decision policies that ship.

use super::{Decisions, record};
use crate::error::ApiError;
use crate::store::{Statement, StoreError};
use edict_client::records::Object;
use std::collections::BTreeSet;

const STARTER: &str = include_str!("../../../../policies/decisions/self-healing.yaml");

impl Decisions {
    /// Registers the starter set once per database: what is deleted or changed of it stays so. A policy whose name the
    /// database or the folder has is left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn register_starter(&self) -> Result<(), ApiError> {
        let mut tx = self.begin().await?;
        let marks = tx.fetch::<(i64,)>(Statement::new(
            "SELECT CAST(COUNT(*) AS bigint) FROM decision_marks WHERE mark = 'starter'",
        ));
        if marks.await?.iter().any(|(count,)| *count > 0) {
            return Ok(());
        }
        let names = tx.fetch::<(String,)>(Statement::new("SELECT name FROM decision_policies")).await?;
        let names: BTreeSet<String> = names.into_iter().map(|(name,)| name).collect();
        let payloads: Vec<Object> = serde_saphyr::from_str(STARTER).map_err(ApiError::internal)?;
        let mut policies = Vec::new();
        for payload in payloads {
            let policy = record::policy(payload)?;
            if !names.contains(&policy.name) && self.folder.loaded().named(&policy.name).is_none() {
                policies.push(record::new(policy));
            }
        }
        let stored: Result<(), StoreError> = self.insert(&mut tx, &policies).await;
        stored?;
        tx.execute(Statement::new("INSERT INTO decision_marks (mark) VALUES ('starter')")).await?;
        Ok(tx.commit().await?)
    }
}
