-- By which posting rules the book was posted, since when. The newest row is what a poster takes that is told nothing else, so that
-- all posters of a house, and one that starts again, post by the same.
CREATE TABLE posting_rules (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id       text   COLLATE "C" NOT NULL CHECK (id <> ''),  -- "house@3"
    checksum text   COLLATE "C" NOT NULL,                   -- as logs and `sluice postings check` show it
    source   bytea  NOT NULL,                               -- the YAML, byte for byte
    since    timestamptz NOT NULL DEFAULT now(),
    by       text   NOT NULL CHECK (by <> ''),
    CONSTRAINT posting_rules_source CHECK (checksum = left(encode(sha256(source), 'hex'), 12))
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON posting_rules FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON posting_rules FROM PUBLIC, CURRENT_USER;
