CREATE TABLE graphs (
    key text COLLATE "C" PRIMARY KEY,
    doc jsonb NOT NULL,
    revision bigint NOT NULL,
    graph_name text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'graph_name') STORED,
    graph_version text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'graph_version') STORED,
    graph_release_tag text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'graph_release_tag') STORED,
    created_at text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'created_at') STORED,
    updated_at text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'updated_at') STORED
);
CREATE INDEX graphs_name ON graphs (graph_name, graph_version);
CREATE INDEX graphs_doc ON graphs USING gin (doc jsonb_path_ops);

-- Runs are only ever added, a batch at a time, and removed by age.
CREATE TABLE graph_runs (
    key text COLLATE "C" PRIMARY KEY,
    doc jsonb NOT NULL,
    revision bigint NOT NULL,
    graph_uri text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'graph_uri') STORED,
    run_status text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'run_status') STORED,
    started_at text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'started_at') STORED
);
CREATE INDEX graph_runs_graph ON graph_runs (graph_uri, started_at);
CREATE INDEX graph_runs_started_at ON graph_runs (started_at);

-- Every server keeps graphs in memory, ready to run; this tells the others which one changed, see 0001_registry.sql.
CREATE FUNCTION edict_announce_graph() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('edict_graphs', OLD.key);
    IF TG_OP = 'UPDATE' THEN
        PERFORM pg_notify('edict_graphs', NEW.key);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER graphs_announce AFTER UPDATE OR DELETE ON graphs
    FOR EACH ROW EXECUTE FUNCTION edict_announce_graph();
