-- Every decision. `id` is a UUID of version 7, so that its order is that of time; entries are added in about that order, a batch
-- at a time, and removed by age. `more` is JSON with what nobody filters by.
CREATE TABLE decision_log (
    id TEXT PRIMARY KEY NOT NULL,
    created_at INTEGER NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    type TEXT NOT NULL,
    user_id TEXT,
    allowed INTEGER NOT NULL,
    more TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX decision_log_user_id ON decision_log (user_id, id);
CREATE INDEX decision_log_denied ON decision_log (id) WHERE NOT allowed;
