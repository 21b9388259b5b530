CREATE TABLE graphs (
    key TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    revision INTEGER NOT NULL,
    graph_name TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.graph_name')) STORED,
    graph_version TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.graph_version')) STORED,
    graph_release_tag TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.graph_release_tag')) STORED,
    created_at TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.created_at')) STORED,
    updated_at TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.updated_at')) STORED
);
CREATE INDEX graphs_name ON graphs (graph_name, graph_version);

-- Runs are only ever added, a batch at a time, and removed by age.
CREATE TABLE graph_runs (
    key TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    revision INTEGER NOT NULL,
    graph_uri TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.graph_uri')) STORED,
    run_status TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.run_status')) STORED,
    started_at TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.started_at')) STORED
);
CREATE INDEX graph_runs_graph ON graph_runs (graph_uri, started_at);
CREATE INDEX graph_runs_started_at ON graph_runs (started_at);
