-- What the action executor must remember beside the trail.

-- Nonces of signed requests that were taken; `seen_at` in microseconds since 1970.
CREATE TABLE action_nonces (
    nonce TEXT NOT NULL PRIMARY KEY,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX action_nonces_seen_at ON action_nonces (seen_at);
