//! The table of contents: every route of every listener. A handler's name is its file's path. Routes and their
//! description in OpenAPI come from the same lines.

use crate::app::{App, Common};
use crate::error::{ApiError, Code};
use crate::executors::process::ExecutorApp;
use crate::{assets, executors, health, http, policies};
use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::from_fn;
use axum::routing::get;
use utoipa::OpenApi;
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
        .routes(routes!(assets::upload::upload))
        .routes(routes!(assets::create::create))
        .routes(routes!(assets::query::query))
        .routes(routes!(assets::read::read, assets::update::update, assets::delete::delete))
        .routes(routes!(assets::download::download))
}

/// The routes of an executor that is a process of its own.
fn executor_routes() -> OpenApiRouter<ExecutorApp> {
    OpenApiRouter::with_openapi(Executor::openapi())
        .routes(routes!(executors::process::execute_policy))
        .routes(routes!(executors::process::execute_mgmt_command))
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
        (name = "assets", description = "Stored files")
    )
)]
struct System;

#[derive(OpenApi)]
#[openapi(info(title = "Edict policy executor", description = "Runs policies."), modifiers(&Tokens))]
struct Executor;

#[derive(OpenApi)]
#[openapi(info(title = "Edict policy engine", description = "Decides what is allowed."), modifiers(&Tokens))]
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
    let (routes, openapi) = system_routes().split_for_parts();
    let ready = get(health::system_ready).with_state(app.clone());
    finish(routes.with_state(app.clone()), openapi, app.common.clone(), ready)
}

/// A policy executor.
pub(crate) fn executor(app: ExecutorApp) -> Router {
    let (routes, openapi) = executor_routes().split_for_parts();
    let common = app.common();
    finish(routes.with_state(app), openapi, common, get(health::ready))
}

/// The policy engine.
pub(crate) fn engine(common: Common) -> Router {
    finish(Router::new(), Engine::openapi(), common, get(health::ready))
}

/// The action executor.
pub(crate) fn actions(common: Common) -> Router {
    finish(Router::new(), Actions::openapi(), common, get(health::ready))
}

/// What every listener has: health, metrics, the API's description, and one shape for what does not exist.
fn finish(
    routes: Router,
    openapi: utoipa::openapi::OpenApi,
    common: Common,
    ready: axum::routing::MethodRouter,
) -> Router {
    routes
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi))
        .route("/healthz", get(health::live))
        .route("/readyz", ready)
        .route("/metrics", get(health::metrics).with_state(common))
        .fallback(missing)
        .method_not_allowed_fallback(not_allowed)
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(health::panicked))
        .layer(from_fn(http::track))
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

    /// The whole API in one snapshot: a change of any route, field or status shows up in review.
    #[test]
    fn the_api_description_is_as_reviewed() {
        let (_, openapi) = system_routes().split_for_parts();
        insta::assert_json_snapshot!(openapi);
    }
}
