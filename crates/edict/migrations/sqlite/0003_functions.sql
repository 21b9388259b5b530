CREATE TABLE functions (
    key TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    revision INTEGER NOT NULL,
    function_executor_id TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.function_executor_id')) STORED,
    function_policy_rule_uri TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.function_policy_rule_uri')) STORED,
    state TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.function_status.state')) STORED,
    replicas INTEGER NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.replicas')) STORED,
    created_at TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.created_at')) STORED,
    code_digest TEXT GENERATED ALWAYS AS (json_extract(doc, '$.function_policy_data.code_digest')) STORED
);
CREATE INDEX functions_executor ON functions (function_executor_id);
CREATE INDEX functions_policy ON functions (function_policy_rule_uri);
CREATE INDEX functions_state ON functions (state);
CREATE INDEX functions_code_digest ON functions (code_digest);

CREATE TABLE function_changes (
    function_id TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

-- Where the process is reached that renews the row: other servers pass calls of its functions on to it.
ALTER TABLE heartbeats ADD COLUMN address TEXT NOT NULL DEFAULT '';
