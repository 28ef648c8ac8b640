-- The rulebook: every version of every ruleset, and the audit of what was done to it. What the steps mean is said in
-- rules/life; the constraints here are the last word on it, whoever writes.

-- One row: what the rulebook asks of everybody. Whoever writes a step or publishes holds its lock.
CREATE TABLE rulebook (
    one            boolean PRIMARY KEY DEFAULT true CHECK (one),
    require_review boolean NOT NULL DEFAULT false
);
INSERT INTO rulebook DEFAULT VALUES;

CREATE TABLE rulesets (
    name        text    COLLATE "C" NOT NULL,
    version     integer NOT NULL CHECK (version > 0),
    source      bytea   NOT NULL,              -- the YAML, byte for byte
    sha256      bytea   NOT NULL,
    author      text    NOT NULL CHECK (author <> ''),
    created_at  timestamptz NOT NULL,
    status      text    COLLATE "C" NOT NULL,  -- from here on: what its steps have made of it
    tested      boolean NOT NULL,
    approved_by text    NOT NULL,              -- '' until approved
    unreviewed  boolean NOT NULL,              -- went live by force
    in_shadow   boolean NOT NULL,
    changed_at  timestamptz NOT NULL,
    PRIMARY KEY (name, version),
    CONSTRAINT rulesets_source CHECK (sha256 = sha256(source)),
    CONSTRAINT rulesets_four_eyes CHECK (lower(approved_by) <> lower(author)),
    CONSTRAINT rulesets_reviewed CHECK (status <> 'live' OR unreviewed OR (tested AND approved_by <> ''))
);
CREATE UNIQUE INDEX rulesets_one_live ON rulesets ((true)) WHERE status = 'live';
CREATE UNIQUE INDEX rulesets_one_shadow ON rulesets (name) WHERE in_shadow;

-- What happened, in order. Each ruleset's steps are a chain: hash = SHA-256(hash of the step before, the step). The
-- canonical form of a step is documented at Step.Sum in rules/life.
CREATE TABLE ruleset_steps (
    name          text    COLLATE "C" NOT NULL,
    sequence      bigint  NOT NULL CHECK (sequence > 0),  -- gapless in the ruleset, from 1
    version       integer NOT NULL,
    action        text    COLLATE "C" NOT NULL,
    from_status   text    COLLATE "C" NOT NULL,           -- '' for submit
    to_status     text    COLLATE "C" NOT NULL,
    who           text    NOT NULL CHECK (who <> ''),
    at            timestamptz NOT NULL,
    why           text    NOT NULL,
    author        text    NOT NULL,                       -- of the version
    sha256        bytea   NOT NULL,                       -- of the version
    detail        jsonb   NOT NULL,                       -- an object of texts
    previous_hash bytea   NOT NULL CHECK (length(previous_hash) = 32),
    hash          bytea   NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (name, sequence),
    FOREIGN KEY (name, version) REFERENCES rulesets,
    CONSTRAINT ruleset_steps_four_eyes CHECK (action <> 'approve' OR lower(who) <> lower(author)),
    CONSTRAINT ruleset_steps_why CHECK (why <> '' OR action NOT IN ('approve', 'reject', 'promote', 'rollback'))
);

-- Where each ruleset's chain ends.
CREATE TABLE ruleset_chains (
    name     text   COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL,
    hash     bytea  NOT NULL CHECK (length(hash) = 32)
);

-- What was done stays done, and a version's text is what it was.
CREATE FUNCTION refuse_ruleset_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% keeps what was written: submit a new version instead', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ruleset_steps FOR EACH STATEMENT EXECUTE FUNCTION refuse_ruleset_change();
CREATE TRIGGER keep_all BEFORE DELETE OR TRUNCATE ON rulesets FOR EACH STATEMENT EXECUTE FUNCTION refuse_ruleset_change();
CREATE TRIGGER keep_text BEFORE UPDATE ON rulesets FOR EACH ROW
    WHEN ((OLD.name, OLD.version, OLD.source, OLD.sha256, OLD.author, OLD.created_at)
          IS DISTINCT FROM (NEW.name, NEW.version, NEW.source, NEW.sha256, NEW.author, NEW.created_at))
    EXECUTE FUNCTION refuse_ruleset_change();
CREATE TRIGGER keep_all BEFORE DELETE OR TRUNCATE ON ruleset_chains FOR EACH STATEMENT EXECUTE FUNCTION refuse_ruleset_change();
REVOKE UPDATE, DELETE, TRUNCATE ON ruleset_steps FROM PUBLIC, CURRENT_USER;
REVOKE DELETE, TRUNCATE ON rulesets, ruleset_chains FROM PUBLIC, CURRENT_USER;
