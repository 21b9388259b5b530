//! What a server does by itself, in the background.

use crate::actions::{self, Actions};
use crate::app::App;
use crate::audit::{self, Audit};
use crate::decisions::log::DecisionLog;
use crate::error::ApiError;
use crate::execution::Runner;
use crate::executors::status;
use crate::graphs::Graphs;
use crate::jobs::lease;
use crate::jobs::queue::Queue;
use crate::policies::context;
use crate::policies::registry::Registry;
use crate::store::Store;
use sqlx::postgres::PgListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Bytes of unpacked code that are kept beside what is in use.
const CODE_CACHE: u64 = 4 << 30;

/// Where the database announces changes.
const POLICIES: &str = "edict_policies";
const FUNCTIONS: &str = "edict_functions";
const GRAPHS: &str = "edict_graphs";
const JOBS: &str = "edict_jobs";
const DECISIONS: &str = "edict_decisions";

/// Starts the chores; they end when the set is dropped or aborted.
pub(crate) fn start(app: &App) -> JoinSet<()> {
    let mut chores = JoinSet::new();
    let store = || app.registry.store.clone();
    let registry = Arc::clone(&app.registry);
    chores.spawn(every(status::SWEEP, "looking for silent executors", store(), async |store: &Store| {
        status::sweep(store).await.map(|_| ())
    }));
    chores.spawn(every(
        Duration::from_secs(30),
        "removing expired context",
        store(),
        async |store: &Store| Ok(context::sweep_expired(store).await.map(|_| ())?),
    ));
    let swept = Arc::clone(&registry);
    chores.spawn(every(
        Duration::from_secs(600),
        "removing unused code",
        swept,
        async |registry: &Arc<Registry>| registry.sweep_bundles().await.map(|_| ()),
    ));
    let code = Arc::clone(&app.runner);
    chores.spawn(every(
        Duration::from_secs(3600),
        "trimming the cache of unpacked code",
        code,
        async |runner: &Arc<Runner>| {
            runner.tools.bundles.evict(CODE_CACHE).await.map(|_| ()).map_err(ApiError::internal)
        },
    ));
    let runner = Arc::clone(&app.runner);
    chores.spawn(every(Duration::from_secs(2), "measuring the executor", runner, async |runner: &Arc<_>| {
        runner.gauge();
        Ok(())
    }));
    chores.spawn(Arc::clone(&app.functions.fleet).run());
    let graphs = Arc::clone(&app.graphs);
    chores.spawn(async move { graphs.record_runs().await });
    let days = app.settings.graph_run_retention_days;
    if days > 0 {
        let (graphs, age) = (Arc::clone(&app.graphs), Duration::from_secs(days * 86_400));
        chores.spawn(every(
            Duration::from_secs(3600),
            "removing old runs of graphs",
            graphs,
            async move |graphs: &Arc<Graphs>| graphs.sweep_runs(age).await.map(|_| ()),
        ));
    }
    let log = Arc::clone(&app.decision_log);
    chores.spawn(async move { log.run().await });
    let log = Arc::clone(&app.decision_log);
    chores.spawn(every(
        Duration::from_secs(5),
        "measuring the log of decisions",
        log,
        async |log: &Arc<DecisionLog>| {
            log.gauge();
            Ok(())
        },
    ));
    let queue = || Arc::clone(&app.jobs.queue);
    chores.spawn(every(lease::SWEEP, "looking for lost jobs", queue(), async |queue: &Arc<Queue>| {
        queue.sweep().await
    }));
    chores.spawn(every(Duration::from_secs(5), "counting jobs", queue(), async |queue: &Arc<Queue>| {
        queue.gauge().await
    }));
    let keep = Duration::from_secs(u64::from(app.settings.job_retention_days) * 86_400);
    chores.spawn(every(
        Duration::from_secs(600),
        "removing old jobs",
        queue(),
        async move |queue: &Arc<Queue>| queue.forget_old(keep).await,
    ));
    let decisions = Arc::clone(&app.decisions);
    chores.spawn(async move { decisions.follow().await });
    let decisions = Arc::clone(&app.decisions);
    chores.spawn(async move { decisions.watch_folder().await });
    let trail = || Arc::clone(&app.audit);
    chores.spawn(every(
        audit::RENEW,
        "saying that this server lives",
        trail(),
        async |trail: &Arc<Audit>| trail.renew().await,
    ));
    let days = app.settings.audit_retention_days;
    if days > 0 {
        let age = Duration::from_secs(days * 86_400);
        chores.spawn(every(
            Duration::from_secs(3600),
            "trimming the audit trail",
            trail(),
            async move |trail: &Arc<Audit>| trail.trim(age).await.map(|_| ()),
        ));
    }

    let executor = || Arc::clone(&app.actions);
    chores.spawn(every(actions::SWEEP, "ending lost actions", executor(), async |actions: &Arc<Actions>| {
        actions.recover().await
    }));
    chores.spawn(every(
        Duration::from_secs(60),
        "forgetting old nonces",
        executor(),
        async |actions: &Arc<Actions>| actions.sweep_nonces().await,
    ));
    if let Store::Postgres(pool) = &app.registry.store {
        chores.spawn(follow_changes(pool.clone(), app.clone()));
    }
    chores
}

async fn every<T>(
    period: Duration,
    what: &'static str,
    on: T,
    chore: impl AsyncFn(&T) -> Result<(), ApiError>,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = chore(&on).await {
            tracing::warn!(error = error.message(), "{what} failed");
        }
    }
}

/// Drops from memory what other servers on the same database changed.
async fn follow_changes(pool: sqlx::PgPool, app: App) {
    loop {
        match PgListener::connect_with(&pool).await {
            Ok(mut listener) => {
                if let Err(error) = listen(&mut listener, &app).await {
                    tracing::warn!(%error, "lost the database's announcements");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot follow the database's announcements"),
        }
        // Whatever was announced while nobody listened is unknown.
        forget_all(&app);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn listen(listener: &mut PgListener, app: &App) -> sqlx::Result<()> {
    listener.listen_all([POLICIES, FUNCTIONS, GRAPHS, JOBS, DECISIONS]).await?;
    forget_all(app);
    // `try_recv` tells of a lost connection; `recv` would reconnect silently and hide what was missed.
    while let Some(announced) = listener.try_recv().await? {
        match announced.channel() {
            FUNCTIONS => app.functions.forget(announced.payload()),
            GRAPHS => app.graphs.forget(announced.payload()),
            DECISIONS => app.decisions.heard(),
            JOBS => app.jobs.heard(announced.payload()).await,
            _ => app.registry.forget(announced.payload()),
        }
    }
    Ok(())
}

fn forget_all(app: &App) {
    app.registry.forget_all();
    app.functions.forget_all();
    app.graphs.forget_all();
    app.decisions.heard();
}
