-- Every decision. `id` is a UUID of version 7, so that its order is that of time; entries are added in about that order, a batch
-- at a time, and removed by age. `more` is JSON with what nobody filters by; as text, it keeps every digit.
CREATE TABLE decision_log (
    id text COLLATE "C" PRIMARY KEY,
    created_at bigint NOT NULL,
    action text COLLATE "C" NOT NULL,
    resource text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    user_id text COLLATE "C",
    allowed boolean NOT NULL,
    more text NOT NULL
);
CREATE INDEX decision_log_user_id ON decision_log (user_id, id);
CREATE INDEX decision_log_denied ON decision_log (id) WHERE NOT allowed;
