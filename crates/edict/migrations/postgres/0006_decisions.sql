CREATE TABLE decision_policies (
    key text COLLATE "C" PRIMARY KEY,
    doc jsonb NOT NULL,
    revision bigint NOT NULL,
    name text COLLATE "C" NOT NULL GENERATED ALWAYS AS (doc->>'name') STORED,
    type text COLLATE "C" GENERATED ALWAYS AS (doc->>'type') STORED,
    effect text COLLATE "C" GENERATED ALWAYS AS (doc->>'effect') STORED,
    created_at text COLLATE "C" GENERATED ALWAYS AS (doc->>'createdAt') STORED,
    updated_at text COLLATE "C" GENERATED ALWAYS AS (doc->>'updatedAt') STORED
);
CREATE UNIQUE INDEX decision_policies_name ON decision_policies (name);
CREATE INDEX decision_policies_type ON decision_policies (type);
CREATE INDEX decision_policies_doc ON decision_policies USING gin (doc jsonb_path_ops);

-- What happens once per database: the starter set is registered, so that what is deleted of it stays deleted.
CREATE TABLE decision_marks (
    mark text COLLATE "C" PRIMARY KEY
);

-- Every server keeps all decision policies in memory, compiled. Once per statement: what changes is the set.
CREATE FUNCTION edict_announce_decisions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('edict_decisions', '');
    RETURN NULL;
END $$;
CREATE TRIGGER decision_policies_announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON decision_policies
    FOR EACH STATEMENT EXECUTE FUNCTION edict_announce_decisions();
