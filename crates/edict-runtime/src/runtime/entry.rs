//! What is kept warm for one policy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Limits;
use crate::template::{Child, Template};

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Process,
    Instance,
    Check,
    /// A function's replica.
    Function,
}

impl Kind {
    /// The worker's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Instance => "instance",
            Self::Check => "check",
            Self::Function => "function",
        }
    }
}

/// What must be the same for two runs to share a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// Whose it is, where runs share a process: another policy with the same code gets one of its own.
    pub(crate) owner: Option<String>,
    pub(crate) digest: String,
    pub(crate) environment: Option<String>,
    pub(crate) limits: Limits,
}

/// A subject's templates: one, or for a module with threads one per run and one ahead.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) subject: Subject,
    /// Held while a template starts, so that one start serves all who wait.
    pub(crate) starting: tokio::sync::Mutex<()>,
    state: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    shared: Option<Arc<Template>>,
    solo: bool,
    spare: Option<Arc<Template>>,
    used: Instant,
    ended: bool,
}

/// A template for one run. One of its own ends with the run, however that goes.
pub(crate) enum Lease {
    Shared(Arc<Template>),
    Own(Arc<Template>),
}

impl Lease {
    pub(crate) async fn take(&self) -> Option<Child> {
        let (Self::Shared(template) | Self::Own(template)) = self;
        template.take().await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Self::Own(template) = self {
            template.kill();
        }
    }
}

impl Entry {
    pub(crate) fn new(subject: Subject) -> Self {
        let kept = Kept { shared: None, solo: false, spare: None, used: Instant::now(), ended: false };
        Self { subject, starting: tokio::sync::Mutex::default(), state: Mutex::new(kept) }
    }

    /// What is there, if anything.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let mut kept = self.kept();
        kept.used = Instant::now();
        if kept.solo {
            return kept.spare.take().filter(|template| !template.is_over()).map(Lease::Own);
        }
        kept.shared
            .as_ref()
            .filter(|template| !template.is_over())
            .map(|template| Lease::Shared(Arc::clone(template)))
    }

    /// Keep a template that has just started. False when the entry has been given up meanwhile.
    pub(crate) fn keep(&self, template: &Arc<Template>, solo: bool) -> bool {
        let mut kept = self.kept();
        kept.solo = solo;
        let place = if solo { &mut kept.spare } else { &mut kept.shared };
        let before = place.replace(Arc::clone(template));
        if let Some(before) = before {
            before.kill();
        }
        if kept.ended {
            template.kill();
        }
        !kept.ended
    }

    /// Whether a template should be started ahead of the next run.
    pub(crate) fn wants_spare(&self) -> bool {
        let kept = self.kept();
        kept.solo && kept.spare.is_none() && !kept.ended
    }

    pub(crate) fn templates(&self) -> Vec<Arc<Template>> {
        let kept = self.kept();
        kept.shared.iter().chain(&kept.spare).filter(|template| !template.is_over()).cloned().collect()
    }

    pub(crate) fn unused_for(&self) -> Duration {
        let active = self.templates().iter().any(|template| template.active() > 0);
        if active { Duration::ZERO } else { self.kept().used.elapsed() }
    }

    pub(crate) fn relax(&self) {
        self.templates().iter().for_each(|template| template.relax());
    }

    /// End its processes; no new ones are kept.
    pub(crate) fn end(&self) {
        let mut kept = self.kept();
        kept.ended = true;
        for template in kept.shared.take().into_iter().chain(kept.spare.take()) {
            template.kill();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
