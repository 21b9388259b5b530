CREATE TABLE functions (
    key text COLLATE "C" PRIMARY KEY,
    doc jsonb NOT NULL,
    revision bigint NOT NULL,
    function_executor_id text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'function_executor_id') STORED,
    function_policy_rule_uri text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'function_policy_rule_uri') STORED,
    state text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->'function_status'->>'state') STORED,
    replicas bigint NOT NULL GENERATED ALWAYS AS ((doc->>'replicas')::bigint) STORED,
    created_at text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'created_at') STORED,
    code_digest text COLLATE "C" GENERATED ALWAYS AS (doc->'function_policy_data'->>'code_digest') STORED
);
CREATE INDEX functions_executor ON functions (function_executor_id);
CREATE INDEX functions_policy ON functions (function_policy_rule_uri);
CREATE INDEX functions_state ON functions (state);
CREATE INDEX functions_code_digest ON functions (code_digest);
CREATE INDEX functions_doc ON functions USING gin (doc jsonb_path_ops);

CREATE TABLE function_changes (
    function_id text COLLATE "C" PRIMARY KEY,
    doc text NOT NULL,
    version bigint NOT NULL
);

-- Where the process is reached that renews the row: other servers pass calls of its functions on to it.
ALTER TABLE heartbeats ADD COLUMN address text NOT NULL DEFAULT '';

-- Servers keep in memory where functions run, and one of them runs those of `local`. Replicas that come and go (the
-- revision stays) are nothing to announce.
CREATE FUNCTION edict_announce_function() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('edict_functions', CASE TG_OP WHEN 'DELETE' THEN OLD.key ELSE NEW.key END);
    RETURN NULL;
END $$;
CREATE TRIGGER functions_announce AFTER INSERT OR DELETE ON functions
    FOR EACH ROW EXECUTE FUNCTION edict_announce_function();
CREATE TRIGGER functions_announce_update AFTER UPDATE ON functions
    FOR EACH ROW WHEN (OLD.revision <> NEW.revision) EXECUTE FUNCTION edict_announce_function();
