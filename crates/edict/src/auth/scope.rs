//! Tokens that Edict gives out itself: each is good for one executor in a cluster, one function, or one attempt of a job, and
//! for nothing else.
//!
//! A token is its scope, in JSON, and a signature with a key that all servers on one database share; nothing has to be
//! stored for it. It ends with what it is for: the executor's infrastructure, the function, the attempt.

use crate::auth::Role;
use crate::error::{ApiError, Code};
use crate::store::{Statement, Store};
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::Method;
use axum::http::request::Parts;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// How tokens of this kind begin.
const PREFIX: &str = "edict-";

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// An executor whose infrastructure was made by this policy system: its own routes, the policies and what it needs of
    /// its functions.
    Executor {
        executor_id: String,
        /// Tells its infrastructure from one that was removed before.
        epoch: u64,
    },
    /// The replicas of a function: its record, its code, its context.
    Function {
        name: String,
        /// Tells the function from one that had its name before.
        created_at: String,
    },
    /// One attempt of a job: the job, its policy's code and context, its end.
    Attempt { job_id: String, revision: u64, policy: String },
}

/// Makes tokens and checks them.
pub(crate) struct Scopes {
    store: Store,
    key: Vec<u8>,
    system_id: String,
}

impl Scopes {
    /// Reads the key and this policy system's name, which the first server on a database makes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn open(store: Store) -> Result<Self, ApiError> {
        let key = kept(&store, "scopes", crate::server::random_token()).await?;
        let system_id = kept(&store, "system", uuid::Uuid::new_v4().simple().to_string()).await?;
        Ok(Self { store, key: key.into_bytes(), system_id })
    }

    /// Tells this policy system from others: a label's value.
    pub(crate) fn system_id(&self) -> &str {
        &self.system_id
    }

    /// A token for this.
    pub(crate) fn mint(&self, scope: &Scope) -> String {
        let text = serde_json::to_vec(scope).unwrap_or_default();
        let signature = self.sign(&text).finalize().into_bytes();
        format!("{PREFIX}{}.{}", hex::encode(&text), hex::encode(signature))
    }

    fn sign(&self, text: &[u8]) -> Hmac<Sha256> {
        // A key of any length will do.
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length");
        mac.update(text);
        mac
    }

    /// What a token is good for; None when it is none of these, or its signature is wrong.
    pub(crate) fn read(&self, token: &str) -> Option<Scope> {
        let (text, signature) = token.strip_prefix(PREFIX)?.split_once('.')?;
        let (text, signature) = (hex::decode(text).ok()?, hex::decode(signature).ok()?);
        self.sign(&text).verify_slice(&signature).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Lets a request in that its token is good for.
    ///
    /// # Errors
    /// 403 for every other request, 401 when what the token was for is over.
    pub(crate) async fn admit(&self, scope: &Scope, parts: &mut Parts, needed: Role) -> Result<(), ApiError> {
        if needed == Role::Admin || !self.covers(scope, parts).await? {
            let message = format!("the token is good for {} only", scope.words());
            return Err(ApiError::new(Code::Forbidden, message));
        }
        if self.is_alive(scope, parts).await? {
            return Ok(());
        }
        Err(ApiError::new(
            Code::Unauthorized,
            format!("the token was good for {}, which is over", scope.words()),
        ))
    }

    async fn covers(&self, scope: &Scope, parts: &mut Parts) -> Result<bool, ApiError> {
        let Some(route) = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()) else {
            return Ok(false);
        };
        let values = RawPathParams::from_request_parts(parts, &()).await.map_err(ApiError::internal)?;
        let first = values.iter().next().map(|(_, value)| value.to_owned()).unwrap_or_default();
        let method = parts.method.clone();
        Ok(match scope {
            Scope::Executor { executor_id, .. } => match route.as_str() {
                "/executor/{executor_id}/heartbeat"
                | "/executor/{executor_id}/functions"
                | "/executor/{executor_id}/jobs/claim"
                | "/executor/{executor_id}/jobs/renew"
                | "/executor/{executor_id}/jobs/waiting"
                | "/executor/{executor_id}/jobs/log"
                | "/executor/{executor_id}/jobs/finish"
                | "/executor/{executor_id}/policy_state/{policy_rule_uri}" => first == *executor_id,
                "/policy/{policy_rule_uri}" => method == Method::GET,
                "/policy/{policy_rule_uri}/code" | "/policy/{policy_rule_uri}/context" => true,
                "/jobs/{job_id}/attempt" => self.row("jobs", "executor_id", (&first, executor_id)).await?,
                route if for_functions(route, &method) => {
                    self.row("functions", "function_executor_id", (&first, executor_id)).await?
                }
                _ => false,
            },
            Scope::Function { name, .. } => match route.as_str() {
                "/function/{function_id}" | "/function/{function_id}/changes" => {
                    method == Method::GET && first == *name
                }
                "/function/{function_id}/code" | "/function/{function_id}/context" => first == *name,
                _ => false,
            },
            Scope::Attempt { job_id, policy, .. } => match route.as_str() {
                "/jobs/{job_id}/attempt" | "/jobs/{job_id}/attempt/log" | "/jobs/{job_id}/attempt/finish" => {
                    first == *job_id
                }
                "/policy/{policy_rule_uri}/code" | "/policy/{policy_rule_uri}/context" => first == *policy,
                _ => false,
            },
        })
    }

    /// Whether a table has a row with this key and this value in a column.
    async fn row(&self, table: &str, column: &str, (key, value): (&str, &str)) -> Result<bool, ApiError> {
        let sql = format!("SELECT key FROM {table} WHERE key = $1 AND {column} = $2");
        let statement = Statement::new(sql).bind(key).bind(value);
        Ok(self.store.fetch_one::<(String,)>(statement).await?.is_some())
    }

    /// Whether what a token is for is still there. Attempts may report their end at any time: who comes late is told so.
    async fn is_alive(&self, scope: &Scope, parts: &Parts) -> Result<bool, ApiError> {
        match scope {
            Scope::Executor { executor_id, epoch } => {
                let sql = "SELECT executor_id FROM executor_infra WHERE executor_id = $1 AND epoch = $2";
                let epoch = i64::try_from(*epoch).unwrap_or(i64::MAX);
                let statement = Statement::new(sql).bind(executor_id.as_str()).bind(epoch);
                Ok(self.store.fetch_one::<(String,)>(statement).await?.is_some())
            }
            Scope::Function { name, created_at } => {
                self.row("functions", "created_at", (name, created_at)).await
            }
            Scope::Attempt { .. } if parts.uri.path().ends_with("/attempt/finish") => Ok(true),
            Scope::Attempt { job_id, revision, .. } => {
                let sql = "SELECT key FROM jobs WHERE key = $1 AND revision = $2 AND job_status = 'running'";
                let revision = i64::try_from(*revision).unwrap_or(i64::MAX);
                let statement = Statement::new(sql).bind(job_id.as_str()).bind(revision);
                Ok(self.store.fetch_one::<(String,)>(statement).await?.is_some())
            }
        }
    }
}

/// What an executor does with the functions that are its own.
fn for_functions(route: &str, method: &Method) -> bool {
    match route {
        "/function/{function_id}" => *method == Method::GET,
        "/function/{function_id}/changes"
        | "/function/{function_id}/status"
        | "/function/{function_id}/code"
        | "/function/{function_id}/context"
        | "/function/{function_id}/token" => true,
        _ => false,
    }
}

impl Scope {
    fn words(&self) -> String {
        match self {
            Self::Executor { executor_id, .. } => format!("the executor `{executor_id}`"),
            Self::Function { name, .. } => format!("replicas of the function `{name}`"),
            Self::Attempt { job_id, .. } => format!("an attempt of job `{job_id}`"),
        }
    }
}

/// A value that the first server on a database makes and all others read.
async fn kept(store: &Store, name: &str, fresh: String) -> Result<String, ApiError> {
    let sql = "INSERT INTO server_values (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    store.execute(Statement::new(sql).bind(name).bind(fresh)).await?;
    let sql = "SELECT value FROM server_values WHERE name = $1";
    let row = store.fetch_one::<(String,)>(Statement::new(sql).bind(name)).await?;
    row.map(|(value,)| value).ok_or_else(|| ApiError::internal("a value of the server is gone"))
}
