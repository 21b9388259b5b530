//! `/audit`: what was done to clusters, by whom, and that nobody has changed what the trail says of it. These routes are the
//! action executor's (port 4000).

use super::assets::Download;
use super::{Client, Listing};
use crate::Error;
use crate::records::{AuditLog, AuditStatistics, AuditStatus, AuditVerdict};
use reqwest::{Method, Url};
use serde::Serialize;
use serde_json::Value;

/// Which actions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditFilter {
    /// Who asked for it.
    pub requested_by: Option<String>,
    /// For example `restart_pod`.
    pub action_type: Option<String>,
    /// Where it stands now.
    pub status: Option<AuditStatus>,
    /// The target's namespace.
    pub namespace: Option<String>,
    /// `pod` or `deployment`.
    pub resource_type: Option<String>,
    /// The target's name.
    pub resource_name: Option<String>,
    /// Only dry runs, or none.
    pub dry_run: Option<bool>,
    /// Asked for at this time or later: RFC 3339, or how long ago, such as `24h`.
    pub since: Option<String>,
    /// Asked for before this time.
    pub until: Option<String>,
    /// At most so many; the server's default when `None`.
    pub limit: Option<u32>,
    /// Only those behind this one in the list: the id of the last one of the page before.
    pub before: Option<String>,
}

impl Client {
    /// Lists actions, the newest first.
    pub async fn audit_logs(&self, filter: &AuditFilter) -> Result<Listing<AuditLog>, Error> {
        let mut url = self.path(&["audit", "logs"])?;
        set(&mut url, filter)?;
        let reply = self.call(self.request(Method::GET, url)).await?;
        Ok(Listing { records: reply.data, has_more: reply.has_more })
    }

    /// Reads an action with its entries.
    pub async fn audit_log(&self, id: &str) -> Result<AuditLog, Error> {
        self.get(&["audit", "logs", id]).await
    }

    /// Figures of a time: the last 24 hours when neither end is named.
    pub async fn audit_statistics(
        &self,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<AuditStatistics, Error> {
        let mut url = self.path(&["audit", "statistics"])?;
        set(&mut url, &[("since", since), ("until", until)].into_iter().collect::<Pairs<'_>>())?;
        Ok(self.call(self.request(Method::GET, url)).await?.data)
    }

    /// Has the server look at the whole trail. `head` is a hash that was kept elsewhere and must still be in it.
    pub async fn verify_audit(&self, head: Option<&str>) -> Result<AuditVerdict, Error> {
        let mut url = self.path(&["audit", "verify"])?;
        set(&mut url, &[("head", head)].into_iter().collect::<Pairs<'_>>())?;
        Ok(self.call(self.request(Method::GET, url)).await?.data)
    }

    /// Opens the entries for reading: a line of JSON each ([`AuditEntry`](crate::records::AuditEntry)), the oldest first.
    pub async fn export_audit(&self, since: Option<&str>, until: Option<&str>) -> Result<Download, Error> {
        let mut url = self.path(&["audit", "export"])?;
        set(&mut url, &[("since", since), ("until", until)].into_iter().collect::<Pairs<'_>>())?;
        self.download(url).await
    }
}

type Pairs<'a> = std::collections::BTreeMap<&'static str, Option<&'a str>>;

/// Makes the fields that are given the query's parameters.
fn set(url: &mut Url, fields: &impl Serialize) -> Result<(), Error> {
    let invalid = |error: serde_json::Error| Error::Invalid(error.to_string());
    let fields = serde_json::to_value(fields).map_err(invalid)?;
    for (name, value) in fields.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) => drop(url.query_pairs_mut().append_pair(name, text)),
            other => drop(url.query_pairs_mut().append_pair(name, &other.to_string())),
        }
    }
    Ok(())
}
