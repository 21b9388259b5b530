//! `POST /executor/<executor_id>/create-infra`

use super::claim::Claim;
use super::request::{Create, connect, server};
use super::watch::Watch;
use super::{plan, refusal};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, Code, ErrorBody};
use crate::executors::bring::bring;
use crate::executors::update::builtin;
use crate::executors::{LOCAL, status};
use crate::http::{Data, Path, RawBody, Reply};
use crate::policies::record::check_name;
use axum::extract::State;
use edict_client::records::{CreateInfra, Executor, ExecutorInfra, ExecutorStatus, InfraState, Object};
use edict_kube::{Cluster, Infra, Right};
use serde_json::json;
use tracing::Instrument;

/// Makes what an executor needs in a Kubernetes cluster, and answers when it is healthy. Asked again, it goes on with what
/// is not finished, or changes what is there.
#[utoipa::path(
    post,
    path = "/executor/{executor_id}/create-infra",
    tag = "executors",
    params(("executor_id" = String, Path)),
    request_body = CreateInfra,
    responses((status = 200, body = Reply<ExecutorInfra>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create_infra(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    RawBody(body): RawBody,
) -> Result<Data<ExecutorInfra>, ApiError> {
    let request = Create::read(&body)?;
    check_name("executor_id", &id)?;
    if id == LOCAL {
        return Err(builtin("put into a cluster"));
    }
    // In a task of its own: a caller that goes away leaves nothing half-made.
    let making = create(app, id, request).in_current_span();
    tokio::spawn(making).await.map_err(ApiError::internal)?
}

async fn create(app: App, id: String, request: Create) -> Result<Data<ExecutorInfra>, ApiError> {
    let store = &app.registry.store;
    let cluster = connect(&app, &request.cluster_config).await?;
    let server = server(&request.cluster_config);
    drop(request.cluster_config);
    if Claim::peek(store, &id).await?.is_none() && status::alive(store, &id).await?.is_some() {
        return Err(ApiError::new(
            Code::ExecutorTaken,
            format!("an executor `{id}` that was started by hand is alive: stop it, or choose another id"),
        ));
    }
    let mut claim = Claim::take(store, &plan::blank(&id, InfraState::Creating)).await?;
    let infra = match plan::plan(&app, &mut claim, request.options, server) {
        Ok(infra) => infra,
        Err(error) => {
            claim.abandon().await?;
            return Err(error);
        }
    };
    let wait = request.wait;
    let made = claim
        .hold(&app, async |claim| {
            let (infra, warnings) = make(&app, claim, &cluster, infra).await?;
            Watch::new(&app, &cluster, &infra, wait).until_healthy(claim).await?;
            claim.infra.step = "the executor is healthy".to_owned();
            Ok(warnings)
        })
        .await;
    match made {
        Ok(warnings) => Ok(Data::new(claim.finish(InfraState::Ready).await?).warnings(warnings)),
        Err(error) => Err(claim.fail(error).await),
    }
}

/// Makes the objects, after it was looked whether the kubeconfig allows all of it: half of them is what nobody wants.
async fn make(
    app: &App,
    claim: &mut Claim,
    cluster: &Cluster,
    infra: Infra,
) -> Result<(Infra, Vec<String>), ApiError> {
    let address = claim.infra.executor_host_uri.clone();
    record(app, &claim.infra.executor_id, address.as_deref()).await?;
    claim.step("looking whether the kubeconfig has the rights").await?;
    let (infra, warnings) = permitted(cluster, infra).await?;
    claim.infra.made = true;
    claim.step("making the objects").await?;
    cluster.install(&infra).await.map_err(|fault| refusal(&fault))?;
    Ok((infra, warnings))
}

/// What may be made: without the look at nodes, if that is all that the kubeconfig does not allow.
async fn permitted(cluster: &Cluster, mut infra: Infra) -> Result<(Infra, Vec<String>), ApiError> {
    let missing = cluster.missing_rights(&infra).await.map_err(|fault| refusal(&fault))?;
    if missing.is_empty() {
        return Ok((infra, Vec::new()));
    }
    infra.node_access = false;
    let needed = cluster.missing_rights(&infra).await.map_err(|fault| refusal(&fault))?;
    if needed.is_empty() {
        let warning = format!(
            "the executor cannot look at the cluster's nodes, so that `node_selector` is not checked when a job is \
             submitted: the user of the kubeconfig may not {}",
            listed(&missing)
        );
        return Ok((infra, vec![warning]));
    }
    Err(ApiError::new(
        Code::ClusterRefused,
        format!(
            "the user of the kubeconfig may not {}: give it these rights, or use an administrator's kubeconfig",
            listed(&needed)
        ),
    )
    .details(json!({"missing": needed.iter().map(Right::to_string).collect::<Vec<_>>()})))
}

fn listed(rights: &[Right]) -> String {
    rights.iter().map(Right::to_string).collect::<Vec<_>>().join(", ")
}

/// Registers the executor, or brings its record to this address; without one the record stays as it is.
pub(super) async fn record(app: &App, id: &str, address: Option<&str>) -> Result<(), ApiError> {
    let address = address.map(str::to_owned);
    let changed = bring(&app.registry.store, id, Vec::new, |old| match old {
        Some(old) => {
            let executor_host_uri = address.clone().or_else(|| old.executor_host_uri.clone());
            Some(Executor { executor_host_uri, ..old.clone() })
        }
        None => Some(Executor {
            executor_id: id.to_owned(),
            executor_host_uri: address.clone(),
            executor_metadata: Object::new(),
            executor_hardware_info: Object::new(),
            executor_status: ExecutorStatus::Pending,
            cluster_public_ip: None,
            created_at: String::new(),
            updated_at: String::new(),
            revision: 0,
        }),
    });
    changed.await.map(drop)
}
