-- Events that came before what they build on: a capture before its authorization, a decision before its dispute. Each is applied
-- with the event it waited for. Everything is new, so a poster of the release before may run meanwhile; it keeps none.
CREATE TABLE early_events (
    payment_id       text    COLLATE "C" NOT NULL,
    shard            integer NOT NULL,
    sequence         bigint  NOT NULL,             -- its own result, in the shard
    event_time       timestamptz NOT NULL,
    due_at           timestamptz NOT NULL,         -- by when what it waits for has to come, by event time; later it is not applied
    event_type       text    COLLATE "C" NOT NULL,
    decision         bytea   NOT NULL,             -- the record of the decided topic
    applied_sequence bigint,                       -- the result with which it took effect, in the shard; NULL: it waits
    code             text    COLLATE "C" NOT NULL, -- its answer then, '' while it waits
    PRIMARY KEY (payment_id, shard, sequence),
    CONSTRAINT early_events_applied CHECK ((applied_sequence IS NULL) = (code = ''))
);
CREATE INDEX early_events_waiting ON early_events (payment_id, shard) WHERE applied_sequence IS NULL;
CREATE INDEX early_events_due ON early_events (due_at) WHERE applied_sequence IS NULL;

-- For people: what waits longer than it should, by event time, in major units. A payment's limit is in due_at; an early event waits
-- for another event of its payment.
CREATE VIEW stuck_payments AS
SELECT p.id, p.status, '' AS event_type, p.customer_id, p.merchant_id, p.method, p.purpose, p.payment_channel, p.currency,
       p.amount AS amount_minor, p.changed_at AS since, p.due_at, s.clock AS at
FROM payments p JOIN shards s ON s.shard = p.shard
WHERE p.due_at < (SELECT max(clock) FROM shards) AND p.due_at < s.clock
UNION ALL
SELECT e.payment_id, 'early', e.event_type, '', '', '', '', '', '', NULL, e.event_time, e.due_at, s.clock
FROM early_events e JOIN shards s ON s.shard = e.shard
WHERE e.applied_sequence IS NULL AND e.due_at < s.clock;
