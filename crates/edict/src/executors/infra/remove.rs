//! `DELETE /executor/<executor_id>/remove-infra`

use super::claim::Claim;
use super::request::{Remove, connect, invalid, no_config, server};
use super::{plan, refusal};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, Code, ErrorBody};
use crate::executors::bring::bring;
use crate::executors::{EXECUTORS, LOCAL};
use crate::functions;
use crate::http::{Data, Path, RawBody, Reply};
use crate::jobs::cluster;
use crate::store::Statement;
use axum::extract::State;
use edict_client::records::{Executor, InfraState, RemoveInfra, RemovedInfra};
use serde_json::json;
use tracing::Instrument;

/// Removes what was made for an executor in a cluster, and what the executor made there. The executor's record stays, without
/// an address; its tokens are good for nothing from then on.
#[utoipa::path(
    delete,
    path = "/executor/{executor_id}/remove-infra",
    tag = "executors",
    params(("executor_id" = String, Path)),
    request_body = RemoveInfra,
    responses((status = 200, body = Reply<RemovedInfra>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn remove_infra(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    RawBody(body): RawBody,
) -> Result<Data<RemovedInfra>, ApiError> {
    let request = Remove::read(&body)?;
    let removing = remove(app, id, request).in_current_span();
    tokio::spawn(removing).await.map_err(ApiError::internal)?
}

async fn remove(app: App, executor_id: String, request: Remove) -> Result<Data<RemovedInfra>, ApiError> {
    let store = &app.registry.store;
    let known = Claim::peek(store, &executor_id).await?;
    // What was forgotten by force can be looked for once the cluster is back.
    let forgotten = request.namespace.is_some() && request.cluster_config.is_some();
    if known.is_none() && (!forgotten || executor_id == LOCAL) {
        EXECUTORS.get(store, &executor_id).await?;
        return Ok(Data::new(RemovedInfra { executor_id, removed: false }));
    }
    let mut claim = Claim::take(store, &plan::blank(&executor_id, InfraState::Removing)).await?;
    if let Err(error) = check(&mut claim, &request) {
        claim.abandon().await?;
        return Err(error);
    }
    let mut warnings = Vec::new();
    if claim.infra.made {
        let removed = claim.hold(&app, async |claim| take_down(&app, claim, &request).await).await;
        match removed {
            Ok(()) => {}
            Err(error) if matches!(error.code(), Code::InfraBusy | Code::ShuttingDown) => {
                return Err(claim.fail(error).await);
            }
            Err(error) if request.force => warnings.push(format!(
                "it was forgotten, and what it has in namespace `{}` may still be there: {}",
                claim.infra.namespace,
                error.message()
            )),
            // Nothing was known, so there is nothing to remember.
            Err(error) if claim.fresh => {
                claim.abandon().await?;
                return Err(error);
            }
            Err(error) => return Err(claim.fail(error).await),
        }
    }
    warnings.extend(forget(&app, &claim).await?);
    Ok(Data::new(RemovedInfra { executor_id, removed: true }).warnings(warnings))
}

/// Refuses a request that is not about what is known.
fn check(claim: &mut Claim, request: &Remove) -> Result<(), ApiError> {
    if let Some(namespace) = &request.namespace {
        if claim.fresh {
            claim.infra.namespace.clone_from(namespace);
            claim.infra.made = true;
        } else if *namespace != claim.infra.namespace {
            let problem = format!(
                "is `{namespace}`, but the infrastructure is in `{}`: leave the field out",
                claim.infra.namespace
            );
            return Err(invalid("namespace", &problem));
        }
    }
    let Some(config) = &request.cluster_config else {
        return if request.force || !claim.infra.made { Ok(()) } else { Err(no_config()) };
    };
    if claim.fresh || request.force {
        return Ok(());
    }
    plan::check_place(&claim.infra, server(config).as_deref(), &claim.infra.namespace)
}

/// Removes what is in the cluster.
async fn take_down(app: &App, claim: &mut Claim, request: &Remove) -> Result<(), ApiError> {
    let config = request.cluster_config.as_ref().ok_or_else(no_config)?;
    let cluster = connect(app, config).await?;
    claim.infra.infra_state = InfraState::Removing;
    claim.infra.error = None;
    claim.step("removing the objects").await?;
    let mark = plan::mark(app, &claim.infra.executor_id);
    let left = cluster
        .uninstall(&mark, &claim.infra.namespace, request.wait)
        .await
        .map_err(|fault| refusal(&fault))?;
    if left.is_empty() {
        return Ok(());
    }
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    let message = format!(
        "not everything in namespace `{}` went within {} s: {}; send the request again",
        claim.infra.namespace,
        request.wait.as_secs(),
        left.join(", ")
    );
    Err(ApiError::new(Code::InfraFailed, message).details(json!({"reason": "left", "left": left})))
}

/// Forgets the infrastructure: its tokens are good for nothing any more, the executor has no address, and its functions no
/// replicas. Returns what its user should know.
async fn forget(app: &App, claim: &Claim) -> Result<Vec<String>, ApiError> {
    let store = &app.registry.store;
    let id = claim.infra.executor_id.as_str();
    let heartbeats = || Statement::new("DELETE FROM heartbeats WHERE executor_id = $1").bind(id);
    let functions = || functions::status::forget(store.dialect(), id);
    let gone = || vec![claim.removal(), heartbeats(), cluster::release(id), functions()];
    let without_address = |old: Option<&Executor>| Some(Executor { executor_host_uri: None, ..old?.clone() });
    if bring(store, id, gone, without_address).await?.is_none() {
        let mut tx = store.begin().await?;
        for statement in gone() {
            tx.execute(statement).await?;
        }
        tx.commit().await?;
    }
    let sql = "SELECT key FROM functions WHERE function_executor_id = $1";
    let served = store.fetch::<(String,)>(Statement::new(sql).bind(id)).await?;
    let names: Vec<String> = served.into_iter().map(|(name,)| name).collect();
    Ok(match names.as_slice() {
        [] => Vec::new(),
        names => vec![format!(
            "nobody serves these functions until `{id}` has infrastructure again: {}",
            names.join(", ")
        )],
    })
}
