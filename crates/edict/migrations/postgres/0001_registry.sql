CREATE TABLE policies (
    key text COLLATE "C" PRIMARY KEY,
    doc jsonb NOT NULL,
    revision bigint NOT NULL,
    name text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'name') STORED,
    version text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'version') STORED,
    release_tag text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'release_tag') STORED,
    tags text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'tags') STORED,
    type text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'type') STORED,
    created_at text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'created_at') STORED,
    updated_at text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'updated_at') STORED,
    code_digest text COLLATE "C" GENERATED ALWAYS AS (doc->>'code_digest') STORED
);
CREATE INDEX policies_name ON policies (name, version);
CREATE INDEX policies_release_tag ON policies (release_tag);
CREATE INDEX policies_type ON policies (type);
CREATE INDEX policies_created_at ON policies (created_at);
CREATE INDEX policies_updated_at ON policies (updated_at);
CREATE INDEX policies_code_digest ON policies (code_digest);
CREATE INDEX policies_doc ON policies USING gin (doc jsonb_path_ops);

CREATE TABLE executors (
    key text COLLATE "C" PRIMARY KEY,
    doc jsonb NOT NULL,
    revision bigint NOT NULL,
    executor_status text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'executor_status') STORED,
    created_at text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'created_at') STORED
);
CREATE INDEX executors_status ON executors (executor_status);

CREATE TABLE assets (
    key text COLLATE "C" PRIMARY KEY,
    doc jsonb NOT NULL,
    revision bigint NOT NULL,
    asset_id text COLLATE "C" NOT NULL UNIQUE GENERATED ALWAYS AS (doc->>'asset_id') STORED,
    asset_name text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'asset_name') STORED,
    created_at text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'created_at') STORED
);
CREATE INDEX assets_name ON assets (asset_name);
CREATE INDEX assets_doc ON assets USING gin (doc jsonb_path_ops);

CREATE TABLE bundles (
    digest text COLLATE "C" PRIMARY KEY,
    format text NOT NULL,
    content bytea NOT NULL,
    used_at bigint NOT NULL
);

CREATE TABLE context (
    scope text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text NOT NULL,
    expires_at bigint,
    PRIMARY KEY (scope, key)
);
CREATE INDEX context_expires_at ON context (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE policy_states (
    executor_id text COLLATE "C" NOT NULL,
    policy_rule_uri text COLLATE "C" NOT NULL,
    doc text NOT NULL,
    PRIMARY KEY (executor_id, policy_rule_uri)
);

CREATE TABLE heartbeats (
    executor_id text COLLATE "C" PRIMARY KEY,
    instance_id text NOT NULL,
    token text NOT NULL,
    seen_at bigint NOT NULL
);

-- Every server keeps compiled policies in memory; this tells the others which one changed. A new policy is in no memory
-- yet, and announcing it would make registrations wait for one another: PostgreSQL lets one transaction at a time commit
-- an announcement.
CREATE FUNCTION edict_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('edict_policies', to_jsonb(OLD) ->> TG_ARGV[0]);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('edict_policies', to_jsonb(NEW) ->> TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER policies_announce AFTER UPDATE OR DELETE ON policies
    FOR EACH ROW EXECUTE FUNCTION edict_announce('key');
CREATE TRIGGER policy_states_announce AFTER INSERT OR UPDATE OR DELETE ON policy_states
    FOR EACH ROW EXECUTE FUNCTION edict_announce('policy_rule_uri');
