-- The audit trail of actions. An action is up to three entries: `pending`, `in_progress`, and `completed`, `failed` or
-- `rejected`; or a single `rejected`. `step` counts them. Each entry says only what was not known before. Entries with step 0
-- and status `trimmed` tell of older entries that retention has removed.
-- `hash` covers every other column, in the order in which they stand here, and so `prev_hash`, the hash of the entry before
-- (docs/operations.md says how). JSON is kept as the exact text that was hashed.
CREATE TABLE audit_entries (
    seq bigint PRIMARY KEY,
    at bigint NOT NULL,
    prev_hash text COLLATE "C" NOT NULL,
    step bigint NOT NULL,
    action_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    instance text COLLATE "C" NOT NULL,
    action_type text COLLATE "C",
    namespace text COLLATE "C",
    resource_type text COLLATE "C",
    resource_name text COLLATE "C",
    action_params text,
    requested_by text COLLATE "C",
    policy_decision text,
    signature text,
    ip_address text,
    dry_run boolean,
    kind text COLLATE "C",
    evidence text,
    error_code text COLLATE "C",
    error_message text,
    result text,
    execution_ms bigint,
    hash text COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX audit_entries_action ON audit_entries (action_id, step);
-- What the view's users, the list and the count of repeated actions look for.
CREATE INDEX audit_entries_created ON audit_entries (to_timestamp(at::float8 / 1000000)) WHERE step = 1;
CREATE INDEX audit_entries_requested ON audit_entries (requested_by, to_timestamp(at::float8 / 1000000)) WHERE step = 1;
CREATE INDEX audit_entries_target ON audit_entries (resource_name, at) WHERE step = 1;
-- What rate limits count.
CREATE INDEX audit_entries_begun ON audit_entries (kind, at) WHERE status = 'in_progress';
CREATE INDEX audit_entries_trims ON audit_entries (seq) WHERE status = 'trimmed';

-- The last entry. Whoever appends locks this row: it is the chain's lock, and its end when rows are missing there.
CREATE TABLE audit_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL,
    hash text COLLATE "C" NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, repeat('0', 64));

-- Actions without an end, with the steps that they have taken.
CREATE TABLE audit_unfinished (
    action_id text COLLATE "C" PRIMARY KEY,
    steps bigint NOT NULL,
    instance text COLLATE "C" NOT NULL
);

-- Servers that may be carrying out actions, and when each last said that it lives.
CREATE TABLE servers (
    instance text COLLATE "C" PRIMARY KEY,
    seen_at bigint NOT NULL
);

-- What the webhook has still to be told.
CREATE TABLE notifications (
    id text COLLATE "C" PRIMARY KEY,
    event text NOT NULL,
    action_id text COLLATE "C" NOT NULL,
    times bigint NOT NULL,
    created_at bigint NOT NULL,
    due_at bigint NOT NULL,
    attempts bigint NOT NULL
);
CREATE INDEX notifications_due ON notifications (due_at);

-- Appends an entry: one trip, and the chain is locked only as long as the database itself works, so that a server that is
-- stopped in the middle of it holds up nobody.
-- `entry` is the JSON text of the columns from `action_id` to `execution_ms`. `place`: `first`, `begin` (of what is pending),
-- `end` (of what has none), `trim`. `limit_kind`: at most `most` begun actions of this kind within `ttl`; entries dated
-- further than that into the future, by a clock that jumped, do not count. `event`: what to tell the webhook, if anything;
-- `repeats`: tell it of a completed action that is at least the so-manieth on its target within `span`.
-- It runs as its owner: what it calls that takes arguments of any type is named with its schema, so that nobody can put a
-- function of their own in between.
-- Gives the entry's number; nothing is written and `retry` says when there is room when the limit is reached; nothing is
-- written and both are null when the action is not where `place` wants it.
CREATE FUNCTION edict_audit_append(
    entry text, id text, place text, limit_kind text, ttl bigint, most bigint,
    event text, repeats bigint, span bigint, delivery text, OUT written bigint, OUT retry bigint
) LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    head audit_head%ROWTYPE;
    first audit_entries%ROWTYPE;
    now bigint;
    position bigint := 1;
    full_text text;
    digest text;
    told text := edict_audit_append.event;
    times bigint := 1;
BEGIN
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    now := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    IF place IN ('begin', 'end') THEN
        SELECT steps + 1 INTO position FROM audit_unfinished WHERE action_id = edict_audit_append.id;
        IF NOT FOUND OR (place = 'begin' AND position <> 2) THEN
            RETURN;
        END IF;
    ELSIF place = 'trim' THEN
        position := 0;
    END IF;
    IF limit_kind IS NOT NULL THEN
        retry := edict_audit_wait(limit_kind, ttl, most, now);
        IF retry IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    written := head.seq + 1;
    full_text := pg_catalog.format('{"seq":%s,"at":%s,"prev_hash":"%s","step":%s,%s', written, now, head.hash, position, substr(entry, 2));
    digest := encode(sha256(convert_to(full_text, 'UTF8')), 'hex');
    INSERT INTO audit_entries SELECT * FROM pg_catalog.json_populate_record(
        NULL::audit_entries, (left(full_text, -1) || ',"hash":"' || digest || '"}')::json);
    UPDATE audit_head SET seq = written, hash = digest;
    IF place = 'begin' THEN
        UPDATE audit_unfinished SET steps = position WHERE action_id = edict_audit_append.id;
    ELSIF place = 'end' THEN
        DELETE FROM audit_unfinished WHERE action_id = edict_audit_append.id;
    ELSIF entry::json->>'status' = 'pending' THEN
        INSERT INTO audit_unfinished VALUES (edict_audit_append.id, position, entry::json->>'instance');
    END IF;
    IF repeats > 0 THEN
        SELECT * INTO first FROM audit_entries WHERE action_id = edict_audit_append.id AND step = 1;
        SELECT count(*) INTO times FROM audit_entries AS other
        WHERE step = 1 AND resource_name = first.resource_name AND at > now - span AND namespace = first.namespace
            AND resource_type = first.resource_type AND action_type = first.action_type AND NOT dry_run AND EXISTS (
                SELECT FROM audit_entries AS done WHERE done.action_id = other.action_id AND done.status = 'completed');
        IF times >= repeats AND NOT first.dry_run THEN
            told := 'action.repeated';
        END IF;
    END IF;
    IF told IS NOT NULL THEN
        INSERT INTO notifications VALUES (delivery, told, edict_audit_append.id, times, now, now, 0);
    END IF;
END $$;

-- How long until another action of this kind may begin; null when one may now.
CREATE FUNCTION edict_audit_wait(limit_kind text, ttl bigint, most bigint, now bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT CASE WHEN most <= 0 THEN ttl ELSE (
        SELECT greatest(at + ttl - now, 1) FROM audit_entries
        WHERE status = 'in_progress' AND kind = limit_kind AND at > now - ttl AND at <= now + ttl
        ORDER BY at DESC LIMIT 1 OFFSET greatest(most - 1, 0)
    ) END
$$;

-- Removes up to `most` of the entries that a trim has recorded, the oldest first.
CREATE FUNCTION edict_audit_remove(most bigint, OUT removed bigint) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    through bigint := edict_audit_trimmed();
BEGIN
    DELETE FROM audit_entries WHERE seq <= through AND seq < (SELECT min(seq) FROM audit_entries) + most;
    GET DIAGNOSTICS removed = ROW_COUNT;
END $$;

-- Through which entry the last trim removes.
CREATE FUNCTION edict_audit_trimmed() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT coalesce(max((evidence::json->>'through')::bigint), 0) FROM audit_entries
    WHERE status = 'trimmed' AND seq = (SELECT max(seq) FROM audit_entries WHERE status = 'trimmed')
$$;

-- Entries are only ever added. What may go is what a trim in the chain itself has recorded, and nothing of the last day.
CREATE FUNCTION edict_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is only ever added to: % on % is refused', TG_OP, TG_TABLE_NAME;
END $$;
CREATE FUNCTION edict_audit_check_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM gone WHERE seq > edict_audit_trimmed()
            OR at > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - 86400000000
    ) THEN
        RAISE EXCEPTION 'the audit trail is only ever added to: DELETE of entries that no trim has recorded is refused';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION edict_audit_check_head() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq <> OLD.seq + 1 OR NOT EXISTS (SELECT FROM audit_entries WHERE seq = NEW.seq AND hash = NEW.hash) THEN
        RAISE EXCEPTION 'the head of the audit trail only moves on to the next entry';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_entries_only_added BEFORE UPDATE OR TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION edict_audit_refuse();
CREATE TRIGGER audit_entries_kept AFTER DELETE ON audit_entries REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION edict_audit_check_removal();
CREATE TRIGGER audit_head_kept BEFORE INSERT OR DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION edict_audit_refuse();
CREATE TRIGGER audit_head_moves_on BEFORE UPDATE ON audit_head
    FOR EACH ROW EXECUTE FUNCTION edict_audit_check_head();

-- The names in these functions are this schema's, whatever the caller has in front of it. And those that a role calls as
-- their owner it may call only when the owner says so.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT proname FROM pg_proc WHERE proname LIKE 'edict\_audit\_%' AND pronamespace = current_schema()::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %I SET search_path = %I, pg_temp', name, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %I FROM PUBLIC', name);
    END LOOP;
END $$;

-- Text as JSON; as a JSON string where `jsonb` refuses it, so that one hostile value does not break whole queries.
CREATE FUNCTION edict_json(content text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN content::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN to_jsonb(content);
END $$;

-- An action per row, as it is now.
CREATE VIEW action_audit_logs AS
SELECT
    first.action_id AS id,
    first.action_type AS "actionType",
    latest.status,
    first.namespace,
    first.resource_type AS "resourceType",
    first.resource_name AS "resourceName",
    edict_json(first.action_params) AS "actionParams",
    first.requested_by AS "requestedBy",
    edict_json(coalesce(latest.policy_decision, first.policy_decision)) AS "policyDecision",
    latest.execution_ms AS "executionDuration",
    latest.error_code AS "errorCode",
    latest.error_message AS "errorMessage",
    edict_json(latest.result) AS result,
    first.signature,
    first.ip_address AS "ipAddress",
    first.dry_run AS "dryRun",
    to_timestamp(first.at::float8 / 1000000) AS "createdAt",
    CASE WHEN latest.status IN ('completed', 'failed', 'rejected')
        THEN to_timestamp(latest.at::float8 / 1000000) END AS "completedAt"
FROM audit_entries AS first
CROSS JOIN LATERAL (
    SELECT * FROM audit_entries AS entry WHERE entry.action_id = first.action_id ORDER BY entry.step DESC LIMIT 1
) AS latest
WHERE first.step = 1;
