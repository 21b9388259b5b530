CREATE TABLE decision_policies (
    key TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    revision INTEGER NOT NULL,
    name TEXT NOT NULL GENERATED ALWAYS AS (json_extract(doc, '$.name')) STORED,
    type TEXT GENERATED ALWAYS AS (json_extract(doc, '$.type')) STORED,
    effect TEXT GENERATED ALWAYS AS (json_extract(doc, '$.effect')) STORED,
    created_at TEXT GENERATED ALWAYS AS (json_extract(doc, '$.createdAt')) STORED,
    updated_at TEXT GENERATED ALWAYS AS (json_extract(doc, '$.updatedAt')) STORED
);
CREATE UNIQUE INDEX decision_policies_name ON decision_policies (name);
CREATE INDEX decision_policies_type ON decision_policies (type);

-- What happens once per database: the starter set is registered, so that what is deleted of it stays deleted.
CREATE TABLE decision_marks (
    mark TEXT PRIMARY KEY NOT NULL
) WITHOUT ROWID;
