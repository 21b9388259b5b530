-- What an executor said last of its load (JSON); it changes with every heartbeat, which a record's revision must not.
ALTER TABLE heartbeats ADD COLUMN load text;
