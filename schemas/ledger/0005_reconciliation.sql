-- Reconciliation: statements of channels, what of them matches the book, what does not, and what became of that. The book's
-- tables are only read. Amounts are minor units of the row's currency; positive is towards the house.

CREATE TABLE reconciliation_files (
    id          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel     text    COLLATE "C" NOT NULL CHECK (channel <> ''),
    sha256      bytea   NOT NULL CHECK (length(sha256) = 32),  -- of the file
    name        text    NOT NULL,
    format      text    COLLATE "C" NOT NULL,
    profile     text    NOT NULL,                    -- '' for none
    lines       integer NOT NULL,                    -- in the file; those that came before in another are in that one
    ignored     integer NOT NULL,
    from_day    date    NOT NULL,
    to_day      date    NOT NULL,
    balances    jsonb   NOT NULL,                    -- {"CNY": [opening, closing]}, held against the lines
    imported_at timestamptz NOT NULL DEFAULT now(),
    imported_by text    NOT NULL CHECK (imported_by <> ''),
    UNIQUE (channel, sha256)
);

CREATE TABLE reconciliation_lines (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file       bigint  NOT NULL,                     -- without a foreign key, which would be looked up for each of a million rows
    amount     bigint  NOT NULL,
    fee        bigint  NOT NULL,
    position   integer NOT NULL,                     -- line of the file
    count      integer NOT NULL,                     -- payments it stands for; 0: not said
    booked     date    NOT NULL,
    value_date date,
    collective boolean NOT NULL,
    channel    text    COLLATE "C" NOT NULL,
    currency   text    COLLATE "C" NOT NULL,
    key        text    COLLATE "C" NOT NULL,         -- reference, normalised as pipelines/reconcile does
    identity   bytea   NOT NULL CHECK (length(identity) = 16),  -- its day, what it says, and how often before in its file
    reference  text    COLLATE "C" NOT NULL,         -- '' for none
    text       text    NOT NULL,
    UNIQUE (channel, identity)
);
CREATE INDEX reconciliation_lines_booked ON reconciliation_lines (channel, booked);

CREATE TABLE reconciliation_runs (
    id       bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel  text    COLLATE "C" NOT NULL,
    file     bigint  NOT NULL REFERENCES reconciliation_files,
    from_day date    NOT NULL,
    to_day   date    NOT NULL,
    imported integer NOT NULL,                       -- lines
    matched  integer NOT NULL,                       -- matches
    opened   integer NOT NULL,                       -- breaks
    closed   integer NOT NULL,
    ran_at   timestamptz NOT NULL DEFAULT now(),
    ran_by   text    NOT NULL CHECK (ran_by <> '')
);

-- Each match is one row for each line of its longer side. A line and a transfer are matched at most once.
CREATE TABLE reconciliation_matches (
    run      bigint  NOT NULL,
    line     bigint,                                 -- of the statement
    transfer bigint,                                 -- transfers.id
    match    integer NOT NULL,                       -- in the run, from 1
    channel  text    COLLATE "C" NOT NULL,
    stage    text    COLLATE "C" NOT NULL CHECK (stage IN ('exact', 'tolerant', 'one_to_many', 'many_to_one', 'late')),
    CONSTRAINT reconciliation_matches_something CHECK (line IS NOT NULL OR transfer IS NOT NULL),
    CONSTRAINT reconciliation_matches_line UNIQUE (line),
    CONSTRAINT reconciliation_matches_transfer UNIQUE (transfer, channel)
);

CREATE TABLE reconciliation_breaks (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run        bigint  NOT NULL,                     -- that found it
    line       bigint,                               -- of the statement
    transfer   bigint,                               -- transfers.id
    twin       bigint,                               -- of a duplicate: the line or transfer it repeats
    amount     bigint  NOT NULL,                     -- at stake: an amount's difference, else the line's own
    day        date    NOT NULL,                     -- it ages from here
    channel    text    COLLATE "C" NOT NULL,
    exponent   smallint NOT NULL,                    -- decimals of the currency
    class      text    COLLATE "C" NOT NULL CHECK (class IN ('missing_here', 'missing_there', 'amount', 'duplicate', 'timing')),
    currency   text    COLLATE "C" NOT NULL,
    reference  text    COLLATE "C" NOT NULL,
    status     text    COLLATE "C" NOT NULL CHECK (status IN ('open', 'resolved', 'closed')),
    CONSTRAINT reconciliation_breaks_something CHECK (line IS NOT NULL OR transfer IS NOT NULL),
    CONSTRAINT reconciliation_breaks_once UNIQUE NULLS NOT DISTINCT (channel, class, line, transfer)
) WITH (fillfactor = 80);
CREATE INDEX reconciliation_breaks_open ON reconciliation_breaks (channel) WHERE status = 'open';

-- The audit: what happened to each break after it was found.
CREATE TABLE reconciliation_resolutions (
    break  bigint  NOT NULL REFERENCES reconciliation_breaks,
    number integer NOT NULL CHECK (number > 0),      -- gapless in the break, from 1
    action text    COLLATE "C" NOT NULL CHECK (action IN ('resolved', 'closed', 'reopened')),
    at     timestamptz NOT NULL DEFAULT now(),
    who    text    NOT NULL CHECK (who <> ''),
    why    text    NOT NULL CHECK (why <> ''),
    entry  text    NOT NULL,                         -- the entry that corrects it, '' for none; it is named, not posted
    PRIMARY KEY (break, number)
);

CREATE FUNCTION refuse_reconciliation_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% keeps what was written: resolve the break instead', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_files FOR EACH STATEMENT EXECUTE FUNCTION refuse_reconciliation_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_lines FOR EACH STATEMENT EXECUTE FUNCTION refuse_reconciliation_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_runs FOR EACH STATEMENT EXECUTE FUNCTION refuse_reconciliation_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_matches FOR EACH STATEMENT EXECUTE FUNCTION refuse_reconciliation_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_resolutions FOR EACH STATEMENT EXECUTE FUNCTION refuse_reconciliation_change();
CREATE TRIGGER keep_all BEFORE DELETE OR TRUNCATE ON reconciliation_breaks FOR EACH STATEMENT EXECUTE FUNCTION refuse_reconciliation_change();
CREATE TRIGGER keep_what_it_was BEFORE UPDATE ON reconciliation_breaks FOR EACH ROW
    WHEN ((OLD.id, OLD.run, OLD.line, OLD.transfer, OLD.twin, OLD.amount, OLD.day, OLD.channel, OLD.class, OLD.currency, OLD.exponent, OLD.reference)
          IS DISTINCT FROM (NEW.id, NEW.run, NEW.line, NEW.transfer, NEW.twin, NEW.amount, NEW.day, NEW.channel, NEW.class, NEW.currency, NEW.exponent, NEW.reference))
    EXECUTE FUNCTION refuse_reconciliation_change();

-- A break's status is what its last step says, checked when the transaction ends.
CREATE FUNCTION check_break_status() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    said text := (SELECT CASE action WHEN 'reopened' THEN 'open' ELSE action END FROM reconciliation_resolutions
                  WHERE break = NEW.id ORDER BY number DESC LIMIT 1);
BEGIN
    IF (SELECT status FROM reconciliation_breaks WHERE id = NEW.id) <> coalesce(said, 'open') THEN
        RAISE EXCEPTION 'break % does not stand where its steps have brought it', NEW.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER follows_steps AFTER UPDATE ON reconciliation_breaks DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_break_status();

REVOKE UPDATE, DELETE, TRUNCATE ON reconciliation_files, reconciliation_lines, reconciliation_runs, reconciliation_matches,
    reconciliation_resolutions FROM PUBLIC, CURRENT_USER;
REVOKE DELETE, TRUNCATE ON reconciliation_breaks FROM PUBLIC, CURRENT_USER;

-- For people and dashboards: the open breaks by class and age, in major units.
CREATE VIEW reconciliation_open AS
SELECT b.channel, b.class, b.currency,
       CASE WHEN current_date - b.day <= 1 THEN '0-1' WHEN current_date - b.day <= 7 THEN '2-7' WHEN current_date - b.day <= 30 THEN '8-30'
            WHEN current_date - b.day <= 90 THEN '31-90' ELSE 'over 90' END AS age_days,
       count(*) AS breaks,
       round(sum(abs(b.amount)) / (10::numeric ^ max(b.exponent)), max(b.exponent)::int) AS amount,
       min(b.day) AS oldest
FROM reconciliation_breaks b
WHERE b.status = 'open'
GROUP BY 1, 2, 3, 4;
