//! The chain: how entries are hashed, and what is found when they are looked at again.

use edict_client::records::{AuditEntry, AuditFault, AuditHead, AuditVerdict};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What stands for the hash before the first entry.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Status of an entry that tells of older ones which retention removed.
pub(crate) const TRIMMED: &str = "trimmed";

/// Faults that a verdict lists at most.
const MOST_FAULTS: usize = 100;

/// INVARIANT (chained): `hash` is the SHA-256 of the entry's compact JSON text without that field itself. The text holds every
/// other column, so none can change unnoticed, and `prev_hash` among them, so no entry can go, come or move.
pub(crate) fn hash(entry: &AuditEntry) -> String {
    hex::encode(Sha256::digest(text(entry).as_bytes()))
}

/// What is hashed.
fn text(entry: &AuditEntry) -> String {
    // An entry is numbers, text and a boolean: writing it cannot fail.
    let whole = serde_json::to_string(entry).unwrap_or_default();
    let hash = serde_json::to_string(&entry.hash).unwrap_or_default();
    let kept = whole.strip_suffix(&format!(",\"hash\":{hash}}}")).unwrap_or(&whole);
    format!("{kept}}}")
}

/// The part of the text that is known before the entry has its place in the chain.
pub(super) fn content(entry: &AuditEntry) -> String {
    let placeless = AuditEntry { seq: 0, at: 0, prev_hash: String::new(), step: 0, ..entry.clone() };
    let text = text(&placeless);
    let rest = text.strip_prefix("{\"seq\":0,\"at\":0,\"prev_hash\":\"\",\"step\":0,").unwrap_or(&text);
    format!("{{{rest}")
}

/// What an entry with status `trimmed` holds as evidence.
#[derive(Debug, Deserialize)]
struct Trim {
    through: i64,
    hash: String,
}

/// Looks at entries in their order and remembers little, so that a trail of any length can pass.
#[derive(Debug, Default)]
pub(crate) struct Verifier {
    entries: u64,
    first: Option<(i64, String)>,
    last: AuditHead,
    last_action: Option<String>,
    trims: Vec<Trim>,
    /// A hash that must occur, and whether it did.
    wanted: Option<(String, bool)>,
    faults: Vec<AuditFault>,
}

impl Verifier {
    /// Expects `hash`, which somebody kept, to be that of one of the entries.
    pub(crate) fn expecting(hash: Option<String>) -> Self {
        Self { wanted: hash.map(|hash| (hash, false)), ..Self::default() }
    }

    /// Looks at the next entry.
    pub(crate) fn look(&mut self, entry: &AuditEntry) {
        let fits = hash(entry) == entry.hash;
        if !fits {
            self.fault(
                entry.seq,
                Some(entry),
                "was changed: its hash does not belong to its content".to_owned(),
            );
        }
        match &self.first {
            None => self.first = Some((entry.seq, entry.prev_hash.clone())),
            Some(_) => self.follow(entry, fits),
        }
        if entry.status == TRIMMED
            && let Some(trim) = entry.evidence.as_deref().and_then(|text| serde_json::from_str(text).ok())
        {
            self.trims.push(trim);
        }
        if let Some((hash, found)) = &mut self.wanted {
            *found = *found || *hash == entry.hash;
        }
        self.entries += 1;
        self.last = AuditHead { seq: entry.seq, hash: entry.hash.clone() };
        self.last_action = Some(entry.action_id.clone());
    }

    /// Compares an entry with the one before.
    fn follow(&mut self, entry: &AuditEntry, fits: bool) {
        let (before, after) = (self.last.seq, entry.seq);
        if after <= before {
            self.fault(after, Some(entry), format!("stands after entry {before}: the order was changed"));
        } else if after > before + 1 {
            self.missing(before + 1, after - 1);
        } else if fits && entry.prev_hash != self.last.hash {
            // One of the two was written anew, with a hash that fits: the other one still knows what was there.
            let message = format!(
                "does not belong after entry {before}: one of them was replaced by an entry with a hash of its own"
            );
            self.fault(after, Some(entry), message);
        }
    }

    fn missing(&mut self, from: i64, to: i64) {
        let message = match from == to {
            true => "is missing".to_owned(),
            false => format!("is missing, and so are those through {to}"),
        };
        self.fault(from, None, message);
    }

    fn fault(&mut self, seq: i64, entry: Option<&AuditEntry>, message: String) {
        let action_id = entry.map(|entry| entry.action_id.clone());
        self.faults.push(AuditFault { seq, action_id, message });
        self.faults.truncate(MOST_FAULTS);
    }

    /// What was found. `head` is where the chain ends by what the database keeps beside it, and makes the entries the
    /// whole trail; without it they are a part, which may begin anywhere and end anywhere.
    pub(crate) fn finish(mut self, head: Option<&AuditHead>) -> AuditVerdict {
        self.check_start(head.is_some());
        if let Some(head) = head {
            self.check_end(head);
        }
        if let Some((hash, false)) = self.wanted.take() {
            let message =
                format!("no entry has the hash `{hash}` that was kept: the trail was cut or written anew");
            self.faults.push(AuditFault { seq: self.last.seq, action_id: None, message });
        }
        AuditVerdict {
            intact: self.faults.is_empty(),
            entries: self.entries,
            first: self.first.map_or(0, |(seq, _)| seq),
            head: self.last,
            faults: self.faults,
        }
    }

    /// A trail begins with entry 1, or behind what the chain itself says was trimmed.
    fn check_start(&mut self, whole: bool) {
        let Some((first, prev_hash)) = self.first.clone() else { return };
        if first == 1 {
            if prev_hash != GENESIS {
                let message = "claims that there was an entry before the first".to_owned();
                self.faults.push(AuditFault { seq: 1, action_id: None, message });
            }
            return;
        }
        let exact = self.trims.iter().find(|trim| trim.through == first - 1);
        match exact {
            Some(trim) if trim.hash != prev_hash => {
                let message = "does not belong after the entries that were trimmed".to_owned();
                self.faults.push(AuditFault { seq: first, action_id: None, message });
            }
            Some(_) => {}
            None if !whole || self.trims.iter().any(|trim| trim.through >= first) => {}
            None => {
                let trimmed = self.trims.iter().map(|trim| trim.through).max().unwrap_or(0);
                self.missing(trimmed + 1, first - 1);
            }
        }
    }

    fn check_end(&mut self, head: &AuditHead) {
        if self.last.seq < head.seq {
            self.missing(self.last.seq + 1, head.seq);
        } else if self.last.seq > head.seq {
            let action_id = self.last_action.clone();
            let message = format!("stands behind the trail's end, which is entry {}", head.seq);
            self.faults.push(AuditFault { seq: self.last.seq, action_id, message });
        } else if self.last.seq > 0 && self.last.hash != head.hash {
            let action_id = self.last_action.clone();
            let message = "is not the one that the trail ended with: it was replaced".to_owned();
            self.faults.push(AuditFault { seq: self.last.seq, action_id, message });
        }
    }
}
