-- The audit trail of actions. An action is up to three entries: `pending`, `in_progress`, and `completed`, `failed` or
-- `rejected`; or a single `rejected`. `step` counts them. Each entry says only what was not known before. Entries with step 0
-- and status `trimmed` tell of older entries that retention has removed.
-- `hash` covers every other column, in the order in which they stand here, and so `prev_hash`, the hash of the entry before
-- (docs/operations.md says how). JSON is kept as the exact text that was hashed.
CREATE TABLE audit_entries (
    seq INTEGER PRIMARY KEY NOT NULL,
    at INTEGER NOT NULL,
    prev_hash TEXT NOT NULL,
    step INTEGER NOT NULL,
    action_id TEXT NOT NULL,
    status TEXT NOT NULL,
    instance TEXT NOT NULL,
    action_type TEXT,
    namespace TEXT,
    resource_type TEXT,
    resource_name TEXT,
    action_params TEXT,
    requested_by TEXT,
    policy_decision TEXT,
    signature TEXT,
    ip_address TEXT,
    dry_run BOOLEAN,
    kind TEXT,
    evidence TEXT,
    error_code TEXT,
    error_message TEXT,
    result TEXT,
    execution_ms INTEGER,
    hash TEXT NOT NULL
);
CREATE UNIQUE INDEX audit_entries_action ON audit_entries (action_id, step);
-- What the list and the count of repeated actions look for.
CREATE INDEX audit_entries_created ON audit_entries (at) WHERE step = 1;
CREATE INDEX audit_entries_requested ON audit_entries (requested_by, at) WHERE step = 1;
CREATE INDEX audit_entries_target ON audit_entries (resource_name, at) WHERE step = 1;
-- What rate limits count.
CREATE INDEX audit_entries_begun ON audit_entries (kind, at) WHERE status = 'in_progress';
CREATE INDEX audit_entries_trims ON audit_entries (seq) WHERE status = 'trimmed';

-- The last entry: the chain's end when rows are missing there.
CREATE TABLE audit_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Actions without an end, with the steps that they have taken.
CREATE TABLE audit_unfinished (
    action_id TEXT PRIMARY KEY NOT NULL,
    steps INTEGER NOT NULL,
    instance TEXT NOT NULL
) WITHOUT ROWID;

-- Servers that may be carrying out actions, and when each last said that it lives.
CREATE TABLE servers (
    instance TEXT PRIMARY KEY NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;

-- What the webhook has still to be told.
CREATE TABLE notifications (
    id TEXT PRIMARY KEY NOT NULL,
    event TEXT NOT NULL,
    action_id TEXT NOT NULL,
    times INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX notifications_due ON notifications (due_at);

-- Entries are only ever added. What may go is what a trim in the chain itself has recorded, and nothing of the last day.
CREATE TRIGGER audit_entries_only_added BEFORE UPDATE ON audit_entries
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only ever added to: UPDATE on audit_entries is refused');
END;
CREATE TRIGGER audit_entries_kept BEFORE DELETE ON audit_entries
WHEN OLD.at > CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - 86400000000
    OR OLD.seq > coalesce((
        SELECT json_extract(evidence, '$.through') FROM audit_entries WHERE status = 'trimmed' ORDER BY seq DESC LIMIT 1
    ), 0)
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only ever added to: DELETE of entries that no trim has recorded is refused');
END;
-- Without this, INSERT OR REPLACE would change an entry: it removes the old row without asking the trigger above.
CREATE TRIGGER audit_entries_not_replaced BEFORE INSERT ON audit_entries
WHEN NEW.seq <> (SELECT seq + 1 FROM audit_head)
    OR EXISTS (SELECT 1 FROM audit_entries WHERE action_id = NEW.action_id AND step = NEW.step)
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only ever added to: INSERT anywhere but at its end is refused');
END;
CREATE TRIGGER audit_head_kept BEFORE DELETE ON audit_head
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only ever added to: DELETE on audit_head is refused');
END;
CREATE TRIGGER audit_head_one BEFORE INSERT ON audit_head
BEGIN
    SELECT RAISE(ABORT, 'the audit trail is only ever added to: INSERT on audit_head is refused');
END;
CREATE TRIGGER audit_head_moves_on BEFORE UPDATE ON audit_head
WHEN NEW.seq <> OLD.seq + 1 OR NOT EXISTS (SELECT 1 FROM audit_entries WHERE seq = NEW.seq AND hash = NEW.hash)
BEGIN
    SELECT RAISE(ABORT, 'the head of the audit trail only moves on to the next entry');
END;

-- An action per row, as it is now.
CREATE VIEW action_audit_logs AS
SELECT
    first.action_id AS id,
    first.action_type AS "actionType",
    latest.status AS status,
    first.namespace AS namespace,
    first.resource_type AS "resourceType",
    first.resource_name AS "resourceName",
    first.action_params AS "actionParams",
    first.requested_by AS "requestedBy",
    coalesce(latest.policy_decision, first.policy_decision) AS "policyDecision",
    latest.execution_ms AS "executionDuration",
    latest.error_code AS "errorCode",
    latest.error_message AS "errorMessage",
    latest.result AS result,
    first.signature AS signature,
    first.ip_address AS "ipAddress",
    first.dry_run AS "dryRun",
    strftime('%Y-%m-%d %H:%M:%f', first.at / 1000000.0, 'unixepoch') AS "createdAt",
    CASE WHEN latest.status IN ('completed', 'failed', 'rejected')
        THEN strftime('%Y-%m-%d %H:%M:%f', latest.at / 1000000.0, 'unixepoch') END AS "completedAt"
FROM audit_entries AS first
JOIN audit_entries AS latest ON latest.action_id = first.action_id
    AND latest.step = (SELECT max(step) FROM audit_entries AS entry WHERE entry.action_id = first.action_id)
WHERE first.step = 1;
