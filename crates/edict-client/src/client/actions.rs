//! `/executor/execute` of the action executor: changes to a cluster.

use super::{Client, reply};
use crate::Error;
use crate::records::{ActionReply, ExecuteAction, GeneratedSignature, Seconds};
use reqwest::Method;

impl Client {
    /// Asks the action executor (this client's address is its) for an action, and returns its answer: a refused or failed
    /// action is one, too, with `success` false, a code and the id under which the audit trail has it. The error is for
    /// calls that it did not look at: it cannot be reached, or the token is missing.
    pub async fn execute_action(&self, action: &ExecuteAction) -> Result<ActionReply, Error> {
        let wait = action.wait.map(Seconds::duration).unwrap_or_default();
        let request = self
            .request_without_timeout(Method::POST, self.path(&["executor", "execute"])?)
            .timeout(self.inner.timeout + wait)
            .json(action);
        let response = self.send(request).await?;
        reply::action(response, self.url()).await
    }

    /// Has a server on this machine sign an action with its own secret.
    pub async fn generate_signature(&self, action: &ExecuteAction) -> Result<GeneratedSignature, Error> {
        let request =
            self.request(Method::POST, self.path(&["executor", "generate-signature"])?).json(action);
        let response = reply::refused(self.send(request).await?, self.url()).await?;
        reply::read(response, self.url()).await
    }
}
