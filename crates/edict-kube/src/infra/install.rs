//! Makes what an executor needs, or brings it to what is wanted.

use super::json::at;
use super::manifests::{account, cluster_role, namespace};
use super::{EXECUTOR, Infra, PARTS, Part, cache};
use crate::{Cluster, Fault, Mark};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long the removal of a cache that is no longer wanted may take.
const PATIENCE: Duration = Duration::from_secs(60);

impl Cluster {
    /// Makes everything, or brings it to what is wanted; what is no longer wanted is removed. After a failure it can be done
    /// again, and goes on where it was. A namespace that is there already is used as it is.
    ///
    /// # Errors
    /// [`Fault::Conflict`] when an object of a name that is needed is not this executor's, or is being deleted; the API server
    /// does not take something.
    pub async fn install(&self, infra: &Infra) -> Result<(), Fault> {
        infra.check()?;
        let mark = &infra.mark;
        self.ensure_namespace(infra).await?;
        let wanted = infra.parts();
        let before = self.parts(mark, &infra.namespace).await?.unwrap_or_default();
        let all = &before | &wanted;
        self.put(mark, EXECUTOR, account(mark, &infra.namespace, &all)).await?;
        for (component, manifest) in infra.manifests() {
            self.put(mark, component, manifest).await?;
        }
        for part in before.difference(&wanted) {
            self.drop_part(infra, *part).await?;
        }
        if all != wanted {
            self.put(mark, EXECUTOR, account(mark, &infra.namespace, &wanted)).await?;
        }
        Ok(())
    }

    async fn ensure_namespace(&self, infra: &Infra) -> Result<(), Fault> {
        let manifest = namespace(&infra.namespace);
        let Some(found) = self.find(&manifest).await? else {
            return self.put(&infra.mark, EXECUTOR, manifest).await.map(drop);
        };
        if at(&found, "/metadata/deletionTimestamp").is_string() {
            let why = format!("namespace `{}` is being deleted: try again when it is gone", infra.namespace);
            return Err(Fault::Conflict { why });
        }
        Ok(())
    }

    /// The optional parts that there may be; None if there is no service account of ours that would say so.
    pub(super) async fn parts(&self, mark: &Mark, namespace: &str) -> Result<Option<BTreeSet<Part>>, Fault> {
        let found = self.find(&account(mark, namespace, &BTreeSet::new())).await?;
        let found = found.filter(|found| mark.is_on(found));
        let words = |found: &Value| {
            let words = at(found, "/metadata/annotations").get(PARTS).and_then(Value::as_str);
            Part::read(words.unwrap_or_default())
        };
        Ok(found.as_ref().map(words))
    }

    async fn drop_part(&self, infra: &Infra, part: Part) -> Result<(), Fault> {
        let (mark, namespace) = (&infra.mark, infra.namespace.as_str());
        let unwanted = match part {
            Part::Ingress => vec![json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": infra.name(), "namespace": namespace},
            })],
            Part::Cache => {
                if let Some(left) = self.clean_cache(mark, namespace, Instant::now() + PATIENCE).await? {
                    tracing::warn!(left, "a cache could not be removed everywhere");
                }
                vec![cache::place(mark, namespace)]
            }
            Part::Nodes => cluster_role(mark, namespace).into_iter().rev().collect(),
        };
        for manifest in unwanted {
            self.take_away(mark, &manifest).await?;
        }
        Ok(())
    }
}
