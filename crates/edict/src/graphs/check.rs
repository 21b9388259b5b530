//! `POST /graphs/check`

use super::plan::Plan;
use super::{GRAPHS, record};
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Reply};
use axum::extract::State;
use edict_client::records::{Graph, GraphPlan, Object};

/// Checks a graph as registering it would, and answers how it would run. Nothing is stored.
#[utoipa::path(
    post,
    path = "/graphs/check",
    tag = "graphs",
    request_body = Graph,
    responses((status = 200, body = Reply<GraphPlan>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn check(
    _: Viewer,
    State(app): State<App>,
    Body(payload): Body<Object>,
) -> Result<Data<GraphPlan>, ApiError> {
    let store = &app.registry.store;
    let (graph, plan) = record::from_payload(payload, None)?;
    record::check_functions(store, &graph).await?;
    let exists = GRAPHS.find(store, &graph.graph_uri).await?.is_some();
    Ok(Data::new(answer(graph.graph_uri, exists, &plan)))
}

fn answer(graph_uri: String, exists: bool, plan: &Plan) -> GraphPlan {
    let names = |places: &mut dyn Iterator<Item = usize>| -> Vec<String> {
        places.filter_map(|place| Some(plan.nodes.get(place)?.name.clone())).collect()
    };
    GraphPlan {
        graph_uri,
        exists,
        roots: names(&mut plan.roots()),
        leaves: names(&mut plan.leaves()),
        stages: plan.stages().into_iter().map(|stage| names(&mut stage.into_iter())).collect(),
    }
}
