//! What executors ask the policy system about the functions that they run.

use super::reply::{self, header};
use super::{Client, PolicyCode};
use crate::Error;
use crate::records::{
    AssignedFunction, ContextOp, Function, FunctionChanges, FunctionStatus, FunctionToken, PolicyState,
};
use reqwest::Method;
use serde::de::IgnoredAny;
use serde_json::Value;

impl Client {
    /// The functions that an executor is to run, as far as is needed to see which of them changed.
    pub async fn assigned_functions(&self, executor: &str) -> Result<Vec<AssignedFunction>, Error> {
        self.get(&["executor", executor, "functions"]).await
    }

    /// A function with what management commands changed of it.
    pub async fn assigned_function(&self, name: &str) -> Result<(Function, FunctionChanges), Error> {
        let function = self.get(&["function", name]).await?;
        Ok((function, self.get(&["function", name, "changes"]).await?))
    }

    /// Tells what a function's replicas are doing.
    pub async fn report_function(&self, name: &str, status: &FunctionStatus) -> Result<(), Error> {
        self.put::<IgnoredAny>(&["function", name, "status"], status, None).await.map(drop)
    }

    /// Keeps what a management command changed of a function, and returns all such changes together.
    pub async fn change_function(&self, name: &str, change: &PolicyState) -> Result<FunctionChanges, Error> {
        Ok(self.patch(&["function", name, "changes"], change).await?.data)
    }

    /// A token for a function's replicas.
    pub async fn function_token(&self, name: &str) -> Result<FunctionToken, Error> {
        Ok(self.post(&["function", name, "token"], &serde_json::json!({})).await?.data)
    }

    /// Downloads the code that a function's replicas run.
    pub async fn function_code(&self, name: &str) -> Result<PolicyCode, Error> {
        self.code(&["function", name, "code"]).await
    }

    /// Carries out one operation on a function's context; the reply's shape is told at [`ContextOp`].
    pub async fn function_context(&self, name: &str, operation: &ContextOp) -> Result<Value, Error> {
        Ok(self.post(&["function", name, "context"], operation).await?.data)
    }

    /// Downloads stored code.
    pub(super) async fn code(&self, segments: &[&str]) -> Result<PolicyCode, Error> {
        let request = self.request(Method::GET, self.path(segments)?);
        let response = reply::refused(self.send(request).await?, self.url()).await?;
        let (format, digest) = {
            let text = |name: &str| header(response.headers(), name).map(str::to_owned);
            (text("x-edict-code-format"), text("x-edict-code-digest"))
        };
        let (Some(format), Some(digest)) = (format, digest) else {
            return Err(Error::NotEdict {
                url: response.url().to_string(),
                status: response.status().as_u16(),
                reason: "the code comes without its format and digest".to_owned(),
            });
        };
        let content = response.bytes().await.map_err(|error| reply::unreachable(self.url(), error))?;
        Ok(PolicyCode { format, digest, content })
    }
}
