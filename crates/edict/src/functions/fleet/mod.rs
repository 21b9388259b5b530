//! The functions of one executor: a service each, brought up to what the policy system wants.

mod autoscale;
mod command;
mod deployed;
mod edition;
mod journal;
mod keeper;
mod meters;
mod pod;
mod replica;
mod seats;
mod service;
pub(crate) mod tenure;

pub(crate) use command::Answered;
pub(crate) use service::Service;

use crate::error::ApiError;
use crate::execution::{Home, Runner};
use crate::executors::pods::Pods;
use crate::executors::wake::{Bell, LOOK};
use crate::settings::Settings;
use dashmap::{DashMap, DashSet};
use deployed::DeployedKeeper;
use edict_client::records::{AssignedFunction, ManageFunction};
use keeper::{Keeper, Surroundings};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tenure::Tenure;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

/// The functions of this executor.
pub(crate) struct Fleet {
    around: Arc<Surroundings>,
    /// For `local`: whether this server is the one to run them.
    tenure: Option<Tenure>,
    services: DashMap<String, Arc<Service>>,
    keepers: Mutex<JoinSet<()>>,
    bell: Bell,
    /// Functions that are being removed from the cluster.
    clearing: Arc<DashSet<String>>,
    /// One look at a time; true when there is to be none any more.
    syncing: tokio::sync::Mutex<bool>,
}

impl Fleet {
    pub(crate) fn new(
        (runner, pods): (Arc<Runner>, Option<Arc<Pods>>),
        home: Arc<Home>,
        tenure: Option<Tenure>,
        bell: Bell,
        settings: &Settings,
    ) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let around = Arc::new(Surroundings {
            home,
            pods,
            leaving: AtomicBool::new(false),
            runner,
            places: Arc::new(Semaphore::new(settings.max_replicas as usize)),
            most: settings.max_replicas,
            starts: Arc::new(Semaphore::new(cores * 2)),
            queue: settings.function_queue,
            autoscale: Duration::from_secs(settings.autoscale_seconds),
            reports: Arc::default(),
        });
        Arc::new(Self {
            around,
            tenure,
            services: DashMap::new(),
            keepers: Mutex::default(),
            bell,
            clearing: Arc::default(),
            syncing: tokio::sync::Mutex::new(false),
        })
    }

    /// Rung when a status has been written.
    pub(crate) fn reports(&self) -> &Arc<Notify> {
        &self.around.reports
    }

    /// The server that runs the functions of `local`, for those that are not.
    pub(crate) fn tenure(&self) -> Option<&Tenure> {
        self.tenure.as_ref()
    }

    /// The service of a function that runs here.
    pub(crate) fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.services.get(name).map(|service| Arc::clone(&service))
    }

    /// Sends every replica of a function that runs here a management command.
    pub(crate) async fn manage(
        &self,
        service: &Service,
        command: ManageFunction,
    ) -> Result<Answered, ApiError> {
        let answered = service.manage(&self.around, command).await;
        // What was to be changed meanwhile has waited for it.
        self.bell.ring();
        answered
    }

    /// Keeps the functions as they are wanted, for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut rung = self.bell.listen();
        loop {
            if let Err(error) = self.sync().await {
                tracing::warn!(
                    error = error.message(),
                    "cannot look which functions are wanted; those here go on"
                );
            }
            tokio::time::timeout(LOOK, rung.changed()).await.ok();
        }
    }

    /// Brings the services up to what is wanted now.
    ///
    /// # Errors
    /// When the policy system or the database does not answer; then all stays as it is.
    pub(crate) async fn sync(&self) -> Result<(), ApiError> {
        let stopped = self.syncing.lock().await;
        if *stopped {
            return Ok(());
        }
        let holds = match &self.tenure {
            Some(tenure) => tenure.hold().await?,
            None => true,
        };
        let assigned = if holds { self.around.home.assigned_functions().await? } else { Vec::new() };
        let names: HashSet<&str> = assigned.iter().map(|entry| entry.function_id.as_str()).collect();
        self.services.retain(|name, service| {
            let stays = names.contains(name.as_str());
            if !stays {
                service.end();
            }
            stays
        });
        if let Some(pods) = &self.around.pods {
            self.clear_strays(pods, &names);
        }
        for entry in &assigned {
            if let Err(error) = self.bring_up(entry).await {
                tracing::warn!(
                    function = entry.function_id,
                    error = error.message(),
                    "cannot read a function"
                );
            }
        }
        Ok(())
    }

    /// Removes from the cluster what no function is wanted of: those that were removed, now or while this executor was away.
    fn clear_strays(&self, pods: &Arc<Pods>, wanted: &HashSet<&str>) {
        let strays = pods.workloads.functions().into_iter().filter(|name| !wanted.contains(name.as_str()));
        for name in strays {
            if !self.clearing.insert(name.clone()) {
                continue;
            }
            let (pods, clearing) = (Arc::clone(pods), Arc::clone(&self.clearing));
            tokio::spawn(async move {
                if let Err(error) = pods.workloads.remove_function(&name).await {
                    tracing::warn!(function = name, %error, "a function cannot be removed from the cluster yet");
                }
                clearing.remove(&name);
            });
        }
    }

    async fn bring_up(&self, entry: &AssignedFunction) -> Result<(), ApiError> {
        let name = entry.function_id.as_str();
        let known = self.service(name).filter(|service| {
            let same = service.created_at == entry.created_at;
            if !same {
                service.end();
            }
            same
        });
        let Some(service) = known else {
            let (function, changes) = self.around.home.function(name).await?;
            let (service, wanted) = Service::new(function, changes, &self.around)?;
            self.services.insert(name.to_owned(), Arc::clone(&service));
            let around = Arc::clone(&self.around);
            let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
            while keepers.try_join_next().is_some() {}
            match self.around.pods.clone() {
                None => keepers.spawn(Keeper::new(service, around, wanted).keep()),
                Some(pods) => keepers.spawn(DeployedKeeper::new(service, around, pods, wanted).keep()),
            };
            return Ok(());
        };
        // A command under way may have changed in the database what it has not made known here yet; its end rings.
        let Ok(_turn) = service.managing.try_lock() else { return Ok(()) };
        let (revision, version) = service.knows();
        if entry.revision > revision || entry.changes_version > version {
            let (function, changes) = self.around.home.function(name).await?;
            service.want(function, changes)?;
        }
        Ok(())
    }

    /// Lets calls under way finish, ends every replica, and gives the tenure up.
    pub(crate) async fn stop(&self, grace: Duration) {
        *self.syncing.lock().await = true;
        self.around.leaving.store(true, Ordering::SeqCst);
        for service in &self.services {
            service.end();
        }
        let mut keepers = std::mem::take(&mut *self.keepers.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while keepers.join_next().await.is_some() {} };
        tokio::time::timeout(grace, ended).await.ok();
        if let Some(tenure) = &self.tenure {
            tenure.release().await;
        }
    }
}
