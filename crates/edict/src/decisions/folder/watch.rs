//! Watching the folder.

use super::super::Decisions;
use super::files::{self, Look};
use super::read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks. The files' times are looked at, since the kernel's own announcements do not reach across network
/// file systems.
const PERIOD: Duration = Duration::from_millis(500);
/// Looks after which a faulty folder is read again although it looks the same: what stood in the way may be gone.
const AGAIN: u32 = 10;

impl Decisions {
    /// Takes over what changes in the folder, for as long as it is polled; returns at once when there is none.
    pub(crate) async fn watch_folder(&self) {
        let Some(dir) = self.folder.dir.clone() else { return };
        let (mut tried, mut seen, mut fault, mut faulty_for) = (None, None, None, 0_u32);
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = look(dir.clone()).await;
            faulty_for = if fault.is_some() { faulty_for + 1 } else { 0 };
            let again = fault.is_some() && faulty_for % AGAIN == 0;
            // What still changes is left alone: half a file may be a list without its denies.
            let stands_still = seen.as_ref() == Some(&now);
            if stands_still && (again || tried.as_ref() != Some(&now)) {
                fault = self.take_over(&dir, &now).await.err();
                tried = Some(now.clone());
            }
            seen = Some(now);
            self.folder.report(fault.clone().or_else(|| self.in_force().clash.clone()));
        }
    }

    async fn take_over(&self, dir: &Path, look: &Result<Look, String>) -> Result<(), String> {
        look.as_ref().map_err(Clone::clone)?;
        let fresh = read(dir.to_path_buf()).await?;
        if let Some(fault) = fresh.clash(&self.in_force().stored) {
            return Err(fault);
        }
        if fresh.policies != self.folder.loaded().policies {
            self.folder.loaded.store(Arc::new(fresh));
            self.reload().await.map_err(|error| {
                self.heard();
                error.message().to_owned()
            })?;
        }
        Ok(())
    }
}

async fn look(dir: PathBuf) -> Result<Look, String> {
    tokio::task::spawn_blocking(move || files::look(&dir)).await.map_err(|error| error.to_string())?
}
