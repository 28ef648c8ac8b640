-- The book. Names are unqualified: search_path decides the schema. Amounts are minor units of the row's currency.

CREATE TABLE accounts (
    id              bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key             text    COLLATE "C" NOT NULL UNIQUE,  -- wallet:C42:CNY
    type            text    COLLATE "C" NOT NULL,
    currency        text    COLLATE "C" NOT NULL CHECK (length(currency) = 3),
    exponent        smallint NOT NULL,                    -- decimals of the currency
    credit_normal   boolean NOT NULL,                     -- credits make the balance grow
    striped         boolean NOT NULL,                     -- one of several whose sum is the account
    floor           bigint,                               -- the balance may not fall below; NULL: it may
    debits_posted   bigint  NOT NULL DEFAULT 0,
    credits_posted  bigint  NOT NULL DEFAULT 0,
    debits_pending  bigint  NOT NULL DEFAULT 0,
    credits_pending bigint  NOT NULL DEFAULT 0,
    version         bigint  NOT NULL DEFAULT 0,           -- transfers posted on it so far
    opened_at       timestamptz NOT NULL DEFAULT now(),
    balance         bigint  GENERATED ALWAYS AS (
        CASE WHEN credit_normal THEN credits_posted - debits_posted ELSE debits_posted - credits_posted END) VIRTUAL,
    CONSTRAINT accounts_sums CHECK (
        debits_posted >= 0 AND credits_posted >= 0 AND debits_pending >= 0 AND credits_pending >= 0 AND version >= 0),
    CONSTRAINT accounts_floor CHECK (
        floor IS NULL OR
        CASE WHEN credit_normal THEN credits_posted - debits_posted - debits_pending
             ELSE debits_posted - credits_posted - credits_pending END >= floor)
) WITH (fillfactor = 60);  -- room for an update to stay on its page

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
    CONSTRAINT transfers_amount CHECK (amount > 0 AND debit_account <> credit_account),
    PRIMARY KEY (shard, number),
    CONSTRAINT transfers_debit UNIQUE (debit_account, debit_version),
    CONSTRAINT transfers_credit UNIQUE (credit_account, credit_version)
);

-- Each shard's batches are a chain: hash = SHA-256(hash of the batch before, transfers in order). The canonical form of
-- a transfer is documented at Chain in pipelines/ledger.
CREATE TABLE batches (
    shard          integer NOT NULL,
    number         bigint  NOT NULL,   -- gapless in the shard, from 1
    previous_hash  bytea   NOT NULL CHECK (length(previous_hash) = 32),
    hash           bytea   NOT NULL CHECK (length(hash) = 32),
    first_transfer bigint  NOT NULL,   -- transfers first_transfer .. first_transfer + transfers - 1
    transfers      integer NOT NULL,
    first_sequence bigint  NOT NULL,   -- results first_sequence .. first_sequence + results - 1
    results        integer NOT NULL,
    posted_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, number)
);

-- Where each shard's chain ends: the last batch, its hash, the last result and the last transfer.
CREATE TABLE shards (
    shard    integer PRIMARY KEY,
    batch    bigint  NOT NULL DEFAULT 0,
    hash     bytea   NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(hash) = 32),
    sequence bigint  NOT NULL DEFAULT 0,
    transfer bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- One row for each decided event: what became of it. Also the outbox: producers publish it in the order of sequence.
CREATE TABLE results (
    shard           integer NOT NULL,
    sequence        bigint  NOT NULL,  -- gapless in the shard, from 1
    batch           bigint  NOT NULL,
    input_partition integer NOT NULL,  -- where the event stood
    input_offset    bigint  NOT NULL,
    first_transfer  bigint  NOT NULL,  -- transfers first_transfer .. first_transfer + transfers - 1 of the shard
    transfers       smallint NOT NULL,
    counted         boolean NOT NULL,  -- false: a duplicate, or a record that could not be read
    event_time      timestamptz NOT NULL,
    input_topic     text    COLLATE "C" NOT NULL,
    event_source    text    COLLATE "C" NOT NULL,
    event_id        text    COLLATE "C" NOT NULL,
    event_type      text    COLLATE "C" NOT NULL,
    customer_id     text    COLLATE "C" NOT NULL,
    payment_id      text    COLLATE "C" NOT NULL,  -- '' where there is none
    loan_id         text    COLLATE "C" NOT NULL,
    code            text    COLLATE "C" NOT NULL,
    PRIMARY KEY (shard, sequence)
);

-- An event counts once: by its identity, and by where it stood.
CREATE UNIQUE INDEX results_identity ON results (event_source, event_id) WHERE counted;
CREATE UNIQUE INDEX results_position ON results (input_topic, input_partition, input_offset) WHERE counted;

-- The original of a result with code unreadable, until it has been published as a dead letter.
CREATE TABLE unreadable (
    shard         integer NOT NULL,
    sequence      bigint  NOT NULL,
    topic         text    COLLATE "C" NOT NULL,
    "partition"   integer NOT NULL,
    record_offset bigint  NOT NULL,
    record_time   timestamptz NOT NULL,
    key           bytea   NOT NULL,
    value         bytea   NOT NULL,
    header_keys   bytea[] NOT NULL,
    header_values bytea[] NOT NULL,
    reason        text    COLLATE "C" NOT NULL,
    detail        text    COLLATE "C" NOT NULL,
    PRIMARY KEY (shard, sequence)
);

CREATE TABLE payments (
    id              text    COLLATE "C" PRIMARY KEY,
    shard           integer NOT NULL,
    sequence        bigint  NOT NULL,  -- the result of the event that initiated it
    amount          bigint  NOT NULL CHECK (amount > 0),
    captured        bigint  NOT NULL,
    fee             bigint  NOT NULL,
    refunded        bigint  NOT NULL,
    charged_back    bigint  NOT NULL,
    reversed        bigint  NOT NULL,
    initiated_at    timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    customer_id     text    COLLATE "C" NOT NULL,
    account_id      text    COLLATE "C" NOT NULL,
    counterparty_id text    COLLATE "C" NOT NULL,
    merchant_id     text    COLLATE "C" NOT NULL,
    method          text    COLLATE "C" NOT NULL,
    purpose         text    COLLATE "C" NOT NULL,
    currency        text    COLLATE "C" NOT NULL,
    status          text    COLLATE "C" NOT NULL,
    code            text    COLLATE "C" NOT NULL,  -- why the book rejected it, '' if it did not
    CONSTRAINT payments_given_back CHECK (
        captured BETWEEN 0 AND amount AND refunded >= 0 AND charged_back >= 0 AND reversed >= 0 AND fee >= 0
        AND refunded + charged_back + reversed <= captured)
) WITH (fillfactor = 90);

CREATE TABLE loans (
    id              text    COLLATE "C" PRIMARY KEY,
    customer_id     text    COLLATE "C" NOT NULL,
    product         text    COLLATE "C" NOT NULL,
    currency        text    COLLATE "C" NOT NULL,
    status          text    COLLATE "C" NOT NULL,
    principal       bigint  NOT NULL CHECK (principal >= 0),
    annual_rate_ppm bigint  NOT NULL,  -- parts per million
    term_months     integer NOT NULL,
    applied_at      timestamptz,
    disbursed_at    timestamptz,
    closed_at       timestamptz,
    paid_interest   bigint  NOT NULL CHECK (paid_interest >= 0),
    paid_principal  bigint  NOT NULL CHECK (paid_principal BETWEEN 0 AND principal),
    detail          jsonb   NOT NULL   -- the whole loan as pipelines/lending keeps it
) WITH (fillfactor = 80);
CREATE INDEX loans_customer ON loans (customer_id);

-- How far each decided topic has been posted, and by whose right: a new owner takes the next epoch.
CREATE TABLE offsets (
    topic       text    COLLATE "C" NOT NULL,
    "partition" integer NOT NULL,
    next_offset bigint  NOT NULL,
    epoch       bigint  NOT NULL,
    PRIMARY KEY (topic, "partition")
) WITH (fillfactor = 50);

-- How far each shard's results have been published: a lower bound for the day when the topic's own records are gone.
CREATE TABLE publications (
    shard    integer PRIMARY KEY,
    sequence bigint  NOT NULL
) WITH (fillfactor = 50);

-- What is in the book stays in the book.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: post a transfer that corrects instead', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON batches   FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON results   FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON transfers, batches, results FROM PUBLIC, CURRENT_USER;

-- For people: each account once, stripes summed, in major units.
CREATE VIEW balances AS
SELECT account, type, currency,
       round(sum(balance)::numeric / (10::numeric ^ max(exponent)), max(exponent)::int) AS balance,
       round(sum(debits_posted)::numeric / (10::numeric ^ max(exponent)), max(exponent)::int) AS debits,
       round(sum(credits_posted)::numeric / (10::numeric ^ max(exponent)), max(exponent)::int) AS credits,
       sum(version)::bigint AS transfers
FROM (SELECT *, CASE WHEN striped THEN regexp_replace(key, '/[0-9]+(:[A-Z]{3})$', '\1') ELSE key END AS account FROM accounts) a
GROUP BY account, type, currency;

-- For people: each transfer with its accounts' keys, in major units.
CREATE VIEW journal AS
SELECT t.id, t.event_time, t.kind, d.key AS debit, c.key AS credit,
       round(t.amount::numeric / (10::numeric ^ d.exponent), d.exponent::int) AS amount, t.currency,
       r.payment_id, r.loan_id, r.event_source, r.event_id, t.shard, t.number, t.sequence, t.batch
FROM transfers t
JOIN accounts d ON d.id = t.debit_account
JOIN accounts c ON c.id = t.credit_account
JOIN results r ON r.shard = t.shard AND r.sequence = t.sequence;

-- For people: what is owed on each loan and when, in minor units.
CREATE VIEW instalments AS
SELECT l.id AS loan_id, l.customer_id, l.currency, i.number,
       to_timestamp((i.detail ->> 0)::bigint / 1000000.0) AS due,
       (i.detail ->> 1)::bigint AS principal, (i.detail ->> 2)::bigint AS interest,
       (i.detail ->> 3)::bigint AS paid_principal, (i.detail ->> 4)::bigint AS paid_interest
FROM loans l, jsonb_array_elements(l.detail -> 'schedule') WITH ORDINALITY AS i (detail, number);
