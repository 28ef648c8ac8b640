-- Transfers stand in partitions by the month (UTC) of their event_time. What is there becomes the first partition as it is,
-- up to the bound of the migration before: nothing is copied, and the one look through it lets others write. What then needs the table
-- to itself writes the catalogue only. A poster of the release before goes on up to the bound; it opens no months.
ALTER TABLE transfers VALIDATE CONSTRAINT transfers_bound;
SET LOCAL lock_timeout = '10s';
LOCK TABLE transfers IN ACCESS EXCLUSIVE MODE;
ALTER TABLE transfers RENAME TO transfers_first;

-- No key covers the partitions: Postgres would have it contain event_time. Each partition has its own, and over all of them
-- the poster's compare-and-set of accounts.version and the primary key of batches have the last word.
CREATE TABLE transfers (
    shard          integer NOT NULL,   -- whose writer posted it
    number         bigint  NOT NULL,   -- gapless in the shard, from 1
    sequence       bigint  NOT NULL,   -- the result it belongs to, in the shard
    batch          bigint  NOT NULL,   -- in the shard
    debit_account  bigint  NOT NULL,
    debit_version  bigint  NOT NULL,   -- the account's version after it
    credit_account bigint  NOT NULL,
    credit_version bigint  NOT NULL,
    amount         bigint  NOT NULL,
    event_time     timestamptz NOT NULL,
    currency       text    COLLATE "C" NOT NULL,
    kind           text    COLLATE "C" NOT NULL,
    id             bigint  GENERATED ALWAYS AS ((number << 12) | shard::bigint) VIRTUAL,
    CONSTRAINT transfers_amount CHECK (amount > 0 AND debit_account <> credit_account)
) PARTITION BY RANGE (event_time);

-- The partitions: each takes the transfers from its first moment to before its last.
CREATE TABLE transfer_months (
    name  text COLLATE "C" NOT NULL UNIQUE,  -- of the partition
    first timestamptz PRIMARY KEY,
    until timestamptz NOT NULL
);

-- Those who could read the transfers can read them still.
DO $$
DECLARE
    g record;
BEGIN
    FOR g IN SELECT a.grantee, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = 'transfers_first'::regclass AND a.grantee <> c.relowner LOOP
        EXECUTE format('GRANT %s ON transfers TO %s', g.privilege_type, CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END);
    END LOOP;
END
$$;

-- Triggers of a statement fire for the table that it names: the whole and each partition have their own.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER closed_period AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION refuse_closed();
REVOKE UPDATE, DELETE, TRUNCATE ON transfers FROM PUBLIC, CURRENT_USER;

-- Opens the months of the given times that are not open yet. It runs with its owner's rights, so that a poster's user needs
-- none on the tables but to read and insert; whoever posts with a user of its own grants it EXECUTE.
CREATE FUNCTION open_transfer_months(times timestamptz[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    most CONSTANT integer := 600;  -- fifty years: who asks for more has got times wrong
    wanted timestamptz;
    month text;
BEGIN
    IF NOT EXISTS (SELECT FROM unnest(times) t WHERE NOT EXISTS (SELECT FROM transfer_months m WHERE m.first <= t AND t < m.until)) THEN
        RETURN;
    END IF;
    LOCK TABLE transfer_months IN SHARE ROW EXCLUSIVE MODE;  -- one opens, the others look again
    FOR wanted IN SELECT DISTINCT date_trunc('month', t, 'UTC') FROM unnest(times) t
            WHERE NOT EXISTS (SELECT FROM transfer_months m WHERE m.first <= t AND t < m.until) ORDER BY 1 LOOP
        IF (SELECT count(*) FROM transfer_months) >= most THEN
            RAISE EXCEPTION 'the book has transfers of % months and opens no further one for %', most, to_char(wanted AT TIME ZONE 'UTC', 'YYYY-MM')
                USING ERRCODE = 'program_limit_exceeded', HINT = 'Look for wrong event times: SELECT name FROM transfer_months ORDER BY first';
        END IF;
        IF extract(year FROM wanted AT TIME ZONE 'UTC') NOT BETWEEN 1 AND 9999 THEN
            RAISE EXCEPTION 'no month is opened for the year %', extract(year FROM wanted AT TIME ZONE 'UTC') USING ERRCODE = 'datetime_field_overflow';
        END IF;
        month := 'transfers_' || to_char(wanted AT TIME ZONE 'UTC', 'YYYY_MM');
        EXECUTE format('CREATE TABLE %I (LIKE transfers INCLUDING CONSTRAINTS INCLUDING GENERATED,
            PRIMARY KEY (shard, number), UNIQUE (debit_account, debit_version), UNIQUE (credit_account, credit_version))', month);
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', month);
        EXECUTE format('CREATE TRIGGER closed_period AFTER INSERT ON %I REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION refuse_closed()', month);
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %I FROM PUBLIC, CURRENT_USER', month);
        EXECUTE format('ALTER TABLE transfers ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', month, wanted, (wanted AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
        INSERT INTO transfer_months VALUES (month, wanted, (wanted AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION open_transfer_months FROM PUBLIC;

CREATE OR REPLACE VIEW journal AS
SELECT t.id, t.event_time, t.kind, d.key AS debit, c.key AS credit,
       round(t.amount::numeric / (10::numeric ^ d.exponent), d.exponent::int) AS amount, t.currency,
       r.payment_id, r.loan_id, r.event_source, r.event_id, t.shard, t.number, t.sequence, t.batch
FROM transfers t
JOIN accounts d ON d.id = t.debit_account
JOIN accounts c ON c.id = t.credit_account
JOIN results r ON r.shard = t.shard AND r.sequence = t.sequence;

-- A book without transfers begins with months.
DO $$
DECLARE
    bound timestamptz := (SELECT substring(pg_get_constraintdef(oid) FROM '''(.*)''::') FROM pg_constraint
                          WHERE conname = 'transfers_bound' AND conrelid = 'transfers_first'::regclass)::timestamptz;
BEGIN
    IF EXISTS (SELECT FROM transfers_first) THEN
        EXECUTE format('ALTER TABLE transfers ATTACH PARTITION transfers_first FOR VALUES FROM (MINVALUE) TO (%L)', bound);
        INSERT INTO transfer_months VALUES ('transfers_first', '-infinity', bound);
    ELSE
        DROP TABLE transfers_first;
    END IF;
END
$$;
