CREATE TABLE policies (
    key TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    revision INTEGER NOT NULL,
    name TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.name')) STORED,
    version TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.version')) STORED,
    release_tag TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.release_tag')) STORED,
    tags TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.tags')) STORED,
    type TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.type')) STORED,
    created_at TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.created_at')) STORED,
    updated_at TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.updated_at')) STORED,
    code_digest TEXT GENERATED ALWAYS AS (json_extract(doc, '$.code_digest')) STORED
);
CREATE INDEX policies_name ON policies (name, version);
CREATE INDEX policies_release_tag ON policies (release_tag);
CREATE INDEX policies_tags ON policies (tags);
CREATE INDEX policies_type ON policies (type);
CREATE INDEX policies_created_at ON policies (created_at);
CREATE INDEX policies_updated_at ON policies (updated_at);
CREATE INDEX policies_code_digest ON policies (code_digest);

CREATE TABLE executors (
    key TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    revision INTEGER NOT NULL,
    executor_status TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.executor_status')) STORED,
    created_at TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.created_at')) STORED
);
CREATE INDEX executors_status ON executors (executor_status);

CREATE TABLE assets (
    key TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    revision INTEGER NOT NULL,
    asset_id TEXT NOT NULL UNIQUE GENERATED ALWAYS AS (json_extract(doc, '$.asset_id')) STORED,
    asset_name TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.asset_name')) STORED,
    created_at TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.created_at')) STORED
);
CREATE INDEX assets_name ON assets (asset_name);

CREATE TABLE bundles (
    digest TEXT PRIMARY KEY NOT NULL,
    format TEXT NOT NULL,
    content BLOB NOT NULL,
    used_at INTEGER NOT NULL
);

CREATE TABLE context (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX context_expires_at ON context (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE policy_states (
    executor_id TEXT NOT NULL,
    policy_rule_uri TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY (executor_id, policy_rule_uri)
) WITHOUT ROWID;

CREATE TABLE heartbeats (
    executor_id TEXT PRIMARY KEY NOT NULL,
    instance_id TEXT NOT NULL,
    token TEXT NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;
