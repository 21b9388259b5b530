//! The table of contents: every route of every listener. A handler's name is its file's path. Routes and their
//! description in OpenAPI come from the same lines.

use crate::app::{App, Common};
use crate::error::{ApiError, Code};
use crate::executors::process::ExecutorApp;
use crate::functions::pod::ReplicaApp;
use crate::{actions, assets, audit, decisions, executors, functions, graphs, health, http, jobs, policies};
use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as OpenApiDocument;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

/// The policy system's routes.
fn system_routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(System::openapi())
        .routes(routes!(policies::create::create))
        .routes(routes!(policies::query::query))
        .routes(routes!(policies::read::read, policies::update::update, policies::delete::delete))
        .routes(routes!(policies::download::download))
        .routes(routes!(policies::context::operate))
        .routes(routes!(executors::create::create))
        .routes(routes!(executors::query::query))
        .routes(routes!(executors::read::read, executors::update::update, executors::delete::delete))
        .routes(routes!(executors::heartbeat::heartbeat))
        .routes(routes!(executors::state::read_state, executors::state::change_state))
        .routes(routes!(executors::execute::execute_policy))
        .routes(routes!(executors::execute::execute_mgmt_command))
        .routes(routes!(executors::infra::create::create_infra))
        .routes(routes!(executors::infra::remove::remove_infra))
        .routes(routes!(executors::infra::read::read_infra))
        .routes(routes!(functions::create::create))
        .routes(routes!(functions::create::create_anywhere))
        .routes(routes!(functions::create::create_on_no_executor))
        .routes(routes!(functions::update::update))
        .routes(routes!(functions::remove::remove))
        .routes(routes!(functions::call::call_function))
        .routes(routes!(functions::manage::manage))
        .routes(routes!(functions::query::query))
        .routes(routes!(functions::read::read))
        .routes(routes!(functions::logs::logs))
        .routes(routes!(functions::context::operate))
        .routes(routes!(functions::assigned::assigned))
        .routes(routes!(functions::changes::read_changes, functions::changes::change))
        .routes(routes!(functions::status::report))
        .routes(routes!(functions::code::download))
        .routes(routes!(functions::token::token))
        .routes(routes!(graphs::create::create))
        .routes(routes!(graphs::query::query))
        .routes(routes!(graphs::check::check))
        .routes(routes!(graphs::read::read, graphs::update::update, graphs::delete::delete))
        .routes(routes!(graphs::execute::execute_graph))
        .routes(routes!(graphs::read_run::read_run))
        .routes(routes!(graphs::query_runs::query_runs))
        .routes(routes!(jobs::submit::submit))
        .routes(routes!(jobs::submit::submit_anywhere))
        .routes(routes!(jobs::submit::submit_to_no_executor))
        .routes(routes!(jobs::query::query))
        .routes(routes!(jobs::read::read, jobs::cancel::cancel))
        .routes(routes!(jobs::logs::logs))
        .routes(routes!(jobs::claim::claim))
        .routes(routes!(jobs::renew::renew))
        .routes(routes!(jobs::waiting::waiting))
        .routes(routes!(jobs::log::log))
        .routes(routes!(jobs::finish::finish))
        .routes(routes!(jobs::own::read::read, jobs::own::begin::begin))
        .routes(routes!(jobs::own::log::log))
        .routes(routes!(jobs::own::finish::finish))
        .routes(routes!(assets::upload::upload))
        .routes(routes!(assets::create::create))
        .routes(routes!(assets::query::query))
        .routes(routes!(assets::read::read, assets::update::update, assets::delete::delete))
        .routes(routes!(assets::download::download))
}

/// The policy engine's routes.
fn engine_routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Engine::openapi())
        .routes(routes!(decisions::evaluate::evaluate, decisions::evaluate::evaluate_parameters))
        .routes(routes!(decisions::batch::evaluate_batch))
        .routes(routes!(decisions::create::create, decisions::list::list))
        .routes(routes!(decisions::query::query))
        .routes(routes!(decisions::import::import))
        .routes(routes!(decisions::folder::status::folder))
        .routes(routes!(decisions::read::read, decisions::update::update, decisions::delete::delete))
        .routes(routes!(decisions::log::query::query))
        .routes(routes!(decisions::log::read::read))
}

/// The action executor's routes.
fn actions_routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Actions::openapi())
        .routes(routes!(actions::execute::execute))
        .routes(routes!(actions::generate_signature::generate_signature))
        .routes(routes!(audit::query::query))
        .routes(routes!(audit::read::read))
        .routes(routes!(audit::statistics::statistics))
        .routes(routes!(audit::verify::verify))
        .routes(routes!(audit::export::export))
}

/// The routes of an executor that is a process of its own.
fn executor_routes() -> OpenApiRouter<ExecutorApp> {
    OpenApiRouter::with_openapi(Executor::openapi())
        .routes(routes!(executors::process::execute_policy))
        .routes(routes!(executors::process::execute_mgmt_command))
        .routes(routes!(executors::process::wake))
        .routes(routes!(functions::process::call_function))
        .routes(routes!(functions::process::manage_function))
        .routes(routes!(functions::process::function_logs))
}

/// The routes of a function's replica that is a process of its own.
fn replica_routes() -> OpenApiRouter<ReplicaApp> {
    OpenApiRouter::with_openapi(Replica::openapi())
        .routes(routes!(functions::pod::call))
        .routes(routes!(functions::pod::manage))
        .routes(routes!(functions::pod::state, functions::pod::confirm))
        .routes(routes!(functions::pod::logs))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Edict policy system",
        description = "Registers policies, finds them, and runs them on policy executors."
    ),
    modifiers(&Tokens),
    tags(
        (name = "policies", description = "Versioned Python code with its schemas, settings and parameters"),
        (name = "executors", description = "Where policies run"),
        (name = "functions", description = "Policies deployed as long-lived services"),
        (name = "graphs", description = "Functions that feed each other, and their runs"),
        (name = "jobs", description = "Runs that wait in a durable queue"),
        (name = "assets", description = "Stored files")
    )
)]
struct System;

#[derive(OpenApi)]
#[openapi(info(title = "Edict policy executor", description = "Runs policies."), modifiers(&Tokens))]
struct Executor;

#[derive(OpenApi)]
#[openapi(info(title = "Edict function", description = "One replica of a function."), modifiers(&Tokens))]
struct Replica;

#[derive(OpenApi)]
#[openapi(
    info(title = "Edict policy engine", description = "Decides what is allowed."),
    modifiers(&Tokens),
    tags(
        (name = "decisions", description = "Decisions, and the policies behind them"),
        (name = "log", description = "What was decided")
    )
)]
struct Engine;

#[derive(OpenApi)]
#[openapi(info(title = "Edict action executor", description = "Carries out what is allowed."), modifiers(&Tokens))]
struct Actions;

/// Says in the API's description how callers prove who they are.
struct Tokens;

impl utoipa::Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
        openapi.security = Some(vec![utoipa::openapi::SecurityRequirement::new("token", [""; 0])]);
    }
}

/// The policy system.
pub(crate) fn system(app: App) -> Router {
    let (routes, openapi) = described(system_routes());
    let ready = get(health::system_ready).with_state(app.clone());
    finish(routes.with_state(app.clone()), openapi, app.common.clone(), ready)
}

/// A policy executor.
pub(crate) fn executor(app: ExecutorApp) -> Router {
    let (routes, openapi) = described(executor_routes());
    let common = app.common();
    finish(routes.with_state(app), openapi, common.clone(), get(health::ready).with_state(common))
}

/// A function's replica.
pub(crate) fn replica(app: ReplicaApp) -> Router {
    let (routes, openapi) = described(replica_routes());
    let (common, ready) = (app.common(), get(functions::pod::ready).with_state(app.clone()));
    finish(routes.with_state(app), openapi, common, ready)
}

/// The policy engine.
pub(crate) fn engine(app: App) -> Router {
    let (routes, openapi) = described(engine_routes());
    let ready = get(health::system_ready).with_state(app.clone());
    finish(routes.with_state(app.clone()), openapi, app.common.clone(), ready)
}

/// The action executor.
pub(crate) fn actions(app: App) -> Router {
    let (routes, openapi) = described(actions_routes());
    let ready = get(health::system_ready).with_state(app.clone());
    finish(routes.with_state(app.clone()), openapi, app.common.clone(), ready)
}

/// Routes and their description. Handlers are named like their files, so that three are called `create`; generated
/// clients want names that differ, which the tag in front gives them.
fn described<S: Clone + Send + Sync + 'static>(routes: OpenApiRouter<S>) -> (Router<S>, OpenApiDocument) {
    let (routes, mut openapi) = routes.split_for_parts();
    for path in openapi.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
        for operation in operations.into_iter().flatten() {
            let tag = operation.tags.iter().flatten().next();
            if let (Some(tag), Some(name)) = (tag, &mut operation.operation_id) {
                *name = format!("{tag}_{name}");
            }
        }
    }
    (routes, openapi)
}

/// What every listener has: health, metrics, the API's description, and one shape for what does not exist.
fn finish(
    routes: Router,
    openapi: OpenApiDocument,
    common: Common,
    ready: axum::routing::MethodRouter,
) -> Router {
    routes
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi))
        .route("/healthz", get(health::live))
        .route("/readyz", ready)
        .route("/metrics", get(health::metrics).with_state(common.clone()))
        .fallback(missing)
        .method_not_allowed_fallback(not_allowed)
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(health::panicked))
        .layer(from_fn_with_state(common.leaving, http::track))
}

async fn missing(method: Method, uri: Uri) -> ApiError {
    let path = crate::shorten(uri.path());
    ApiError::new(
        Code::RouteNotFound,
        format!("there is no route `{method} {path}`; /docs lists what there is"),
    )
}

async fn not_allowed(method: Method, uri: Uri) -> ApiError {
    let path = crate::shorten(uri.path());
    ApiError::new(
        Code::MethodNotAllowed,
        format!("`{path}` does not take `{method}`; /docs lists what it takes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_differ_in_name_and_refer_to_what_exists() {
        let (_, openapi) = described(system_routes());
        let openapi = serde_json::to_value(openapi).unwrap();
        let operations = openapi["paths"].as_object().unwrap().values();
        let operations = operations.flat_map(|path| path.as_object().unwrap().values());
        let names: Vec<&str> =
            operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        let distinct: std::collections::HashSet<&&str> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        let text = openapi.to_string();
        for reference in text.split("\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(openapi.pointer(reference).is_some(), "nothing is at {reference}");
        }
    }

    /// The whole API in snapshots: a change of any route, field or status shows up in review.
    #[test]
    fn the_api_description_is_as_reviewed() {
        let (_, openapi) = described(system_routes());
        insta::assert_json_snapshot!(openapi);
    }

    #[test]
    fn the_description_of_the_policy_engine_is_as_reviewed() {
        let (_, openapi) = described(engine_routes());
        insta::assert_json_snapshot!(openapi);
    }

    #[test]
    fn the_description_of_the_action_executor_is_as_reviewed() {
        let (_, openapi) = described(actions_routes());
        insta::assert_json_snapshot!(openapi);
    }
}
