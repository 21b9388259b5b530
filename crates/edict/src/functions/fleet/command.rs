//! Management commands: to every replica, and to those that are born later.

use super::edition::Edition;
use super::keeper::Surroundings;
use super::replica::Body;
use super::service::{Member, PATIENCE, Service};
use crate::error::{ApiError, Code};
use edict_client::records::{FunctionChanges, ManageFunction, PolicyState, ReplicaAnswer};
use edict_runtime::Managed;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::pin::pin;
use std::sync::Arc;

/// What a command gave: the first replica's answer, and every replica's.
pub(crate) struct Answered {
    pub(crate) data: Box<RawValue>,
    pub(crate) replicas: Vec<ReplicaAnswer>,
}

impl Service {
    /// Sends every replica a management command. What the first one's settings and parameters are after it is kept
    /// before the others get it.
    ///
    /// # Errors
    /// 422 when there is no such command, 503 when there is no replica, and what the first replica fails with: then no
    /// other one is asked.
    pub(super) async fn manage(
        &self,
        around: &Surroundings,
        command: ManageFunction,
    ) -> Result<Answered, ApiError> {
        let _turn = self.managing.lock().await;
        let data = Value::Object(command.data.clone());
        self.crew().edition.compiled.check_command(&command.action, &data)?;
        let first = self.first().await?;
        let managed = self.tell(&first, &command).await?;
        let (others, version) = match self.keep(around, &first, &managed).await {
            Ok(kept) => kept,
            Err(error) => {
                // It has changed, and nobody else ever will.
                self.discard(first.number);
                return Err(error);
            }
        };
        let asked = others.iter().map(async |member| {
            let managed = self.tell(member, &command).await?;
            confirm(member, version).await;
            Ok(managed)
        });
        let (answers, ()) = tokio::join!(futures::future::join_all(asked), confirm(&first, version));
        let mut replicas = vec![answer(first.number, Ok(&managed))];
        for (member, told) in others.iter().zip(answers) {
            match told {
                Ok(managed) => replicas.push(answer(member.number, Ok(&managed))),
                Err(error) => {
                    replicas.push(answer(member.number, Err(&error)));
                    self.discard(member.number);
                }
            }
        }
        Ok(Answered { data: managed.result, replicas })
    }

    /// Sends one replica the command.
    async fn tell(&self, member: &Member, command: &ManageFunction) -> Result<Managed, ApiError> {
        match &member.replica {
            Body::Pod(pod) => pod.manage(command).await,
            Body::Process(replica) => {
                let data = to_raw_value(&command.data).map_err(ApiError::internal)?;
                let told = replica.manage(&command.action, &data).await;
                told.map_err(|error| self.explain(&member.edition.compiled.uri, error))
            }
        }
    }

    async fn pass_gate_if_empty(&self) -> Result<(), ApiError> {
        let empty = self.crew().members.is_empty();
        if empty { self.pass_gate().await } else { Ok(()) }
    }

    /// The replica whose answer counts. Where all have just ended, the next one is waited for.
    async fn first(&self) -> Result<Member, ApiError> {
        let mut gate = self.gate.subscribe();
        let found = async {
            loop {
                let mut joined = pin!(self.joined.notified());
                joined.as_mut().enable();
                gate.borrow_and_update();
                self.pass_gate_if_empty().await?;
                if let Some(member) = self.leader() {
                    return Ok(member);
                }
                tokio::select! {
                    () = joined => {}
                    _ = gate.changed() => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| {
            Err(ApiError::new(
                Code::FunctionUnavailable,
                format!(
                    "the replicas of function `{}` ended before the command reached one; try again",
                    self.name
                ),
            ))
        })
    }

    /// A replica of the current edition, if there is one, else any.
    fn leader(&self) -> Option<Member> {
        let crew = self.crew();
        let current = crew.members.iter().find(|member| member.edition.number == crew.edition.number);
        current.or(crew.members.first()).cloned()
    }

    /// Makes the first replica's changes last; returns the others, which have yet to follow, and the version of the changes
    /// that they and the first have then, if it is another one.
    async fn keep(
        &self,
        around: &Surroundings,
        first: &Member,
        managed: &Managed,
    ) -> Result<(Vec<Member>, Option<u64>), ApiError> {
        let change = change_of(&first.edition, managed)?;
        let kept = match change == PolicyState::default() {
            true => None,
            false => Some(around.home.change_function(&self.name, change).await?),
        };
        let mut crew = self.crew();
        let version = kept.as_ref().map(|changes| changes.version);
        if let Some(changes) = kept.filter(|changes| changes.version > crew.edition.changes_version) {
            self.advance(&mut crew, changes)?;
        }
        let others = crew.members.iter().filter(|member| member.number != first.number).cloned().collect();
        Ok((others, version))
    }

    /// Makes an edition with these changes current, and takes those of the one before along: they follow, or are
    /// discarded. See the invariant of [`super::service::Crew`].
    fn advance(&self, crew: &mut super::service::Crew, changes: FunctionChanges) -> Result<(), ApiError> {
        let old = Arc::clone(&crew.edition);
        let new = Edition::new(old.number + 1, Arc::clone(&old.function), changes)?;
        for member in crew.members.iter_mut().filter(|member| member.edition.number == old.number) {
            member.edition = Arc::clone(&new);
        }
        crew.edition = new;
        self.agree(crew);
        Ok(())
    }

    /// Replaces a replica that is not in the state it should be in.
    fn discard(&self, number: u64) {
        if let Some(replica) = self.leave(number) {
            let calls = self.calls.clone();
            tokio::spawn(async move { calls.retire(&replica, std::time::Duration::from_secs(30)).await });
            self.poke.notify_one();
        }
    }
}

/// Tells a pod which changes it has now: whoever meets it later, after a restart of this process, asks it. One that does not
/// hear it is replaced then.
async fn confirm(member: &Member, version: Option<u64>) {
    if let (Body::Pod(pod), Some(version)) = (&member.replica, version)
        && let Err(error) = pod.confirm(version).await
    {
        tracing::warn!(
            pod = pod.name,
            error = error.message(),
            "a pod does not know that it has a command's changes"
        );
    }
}

/// What a command changed, compared with what the replica was made from.
fn change_of(edition: &Edition, managed: &Managed) -> Result<PolicyState, ApiError> {
    let (compiled, mut change) = (&edition.compiled, PolicyState::default());
    if let Some(settings) = &managed.settings {
        (change.settings, change.removed_settings) = compiled.settings.changes(settings, &compiled.uri)?;
    }
    if let Some(parameters) = &managed.parameters {
        (change.parameters, change.removed_parameters) =
            compiled.parameters.changes(parameters, &compiled.uri)?;
    }
    Ok(change)
}

fn answer(replica: u64, told: Result<&Managed, &ApiError>) -> ReplicaAnswer {
    match told {
        Ok(managed) => {
            let data = serde_json::from_str(managed.result.get()).unwrap_or_default();
            ReplicaAnswer { replica, data, error: None }
        }
        Err(error) => ReplicaAnswer { replica, data: Value::Null, error: Some(error.clone().into()) },
    }
}
