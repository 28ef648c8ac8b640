-- What an analyst needs to see why: the trace of each decision, the rulesets themselves, and what shadow rulesets say.

ALTER TABLE payments
    ADD COLUMN IF NOT EXISTS customer_name String COMMENT 'Who pays, as the channel says; for screening only' AFTER customer_id,
    ADD COLUMN IF NOT EXISTS customer_kyc_level Int32 COMMENT 'The customer''s know-your-customer level, 1 to 3; 0 when the channel did not say' AFTER customer_name,
    ADD COLUMN IF NOT EXISTS counterparty_name String COMMENT 'Who receives a transfer, as the customer wrote it; for screening only' AFTER counterparty_id,
    ADD COLUMN IF NOT EXISTS braked Array(LowCardinality(String)) COMMENT 'Those of rules that their brake held: they could ask for review only' AFTER reasons,
    ADD COLUMN IF NOT EXISTS snoozed Array(LowCardinality(String)) COMMENT 'Ids of rules that held but were snoozed; they are not in rules' AFTER braked,
    ADD COLUMN IF NOT EXISTS trace String COMMENT 'What the rules read and answered; sluice explain reads it' AFTER evidence,
    ADD INDEX IF NOT EXISTS by_offset offset TYPE minmax GRANULARITY 1;

ALTER TABLE loans
    ADD COLUMN IF NOT EXISTS customer_name String COMMENT 'The borrower, as the channel says; for screening only' AFTER customer_id,
    ADD COLUMN IF NOT EXISTS braked Array(LowCardinality(String)) COMMENT 'Those of rules that their brake held: they could ask for review only' AFTER reasons,
    ADD COLUMN IF NOT EXISTS snoozed Array(LowCardinality(String)) COMMENT 'Ids of rules that held but were snoozed; they are not in rules' AFTER braked,
    ADD COLUMN IF NOT EXISTS trace String COMMENT 'What the rules read and answered; sluice explain reads it' AFTER evidence,
    ADD INDEX IF NOT EXISTS by_offset offset TYPE minmax GRANULARITY 1;

CREATE TABLE IF NOT EXISTS shadow_verdicts (
    event_time DateTime64(6, 'UTC') COMMENT 'When it happened, as its channel says' CODEC(Delta, LZ4),
    event_id String COMMENT 'CloudEvents id; unique with source',
    source LowCardinality(String) COMMENT 'CloudEvents source: the channel''s name',
    type LowCardinality(String) COMMENT 'payment.initiated or loan.applied',
    customer_id String COMMENT 'Whose event it is',
    shadow LowCardinality(String) COMMENT 'Name under which the ruleset was published',
    ruleset LowCardinality(String) COMMENT 'Name and version of the shadow ruleset',
    verdict LowCardinality(String) COMMENT 'What it says: approve, review, decline. It had no effect',
    score Int32 COMMENT 'Sum of the scores of its rules that fired',
    rules Array(LowCardinality(String)) COMMENT 'Ids of its rules that fired',
    rule_scores Array(Int32) COMMENT 'Their scores, in the order of rules',
    reasons Array(LowCardinality(String)) COMMENT 'Their reason codes, in the order of rules',
    braked Array(LowCardinality(String)) COMMENT 'Those of rules that their brake held',
    snoozed Array(LowCardinality(String)) COMMENT 'Ids of its rules that held but were snoozed',
    trace String COMMENT 'What its rules read and answered; sluice explain reads it',
    live_ruleset LowCardinality(String) COMMENT 'Name and version of the ruleset that decided',
    live_verdict LowCardinality(String) COMMENT 'What the live ruleset said: the verdict that counts',
    live_score Int32 COMMENT 'Its score',
    label LowCardinality(String) COMMENT 'Ground truth of a simulated event; no rule saw it',
    decided_time DateTime64(3, 'UTC') COMMENT 'When Kafka took the verdict' CODEC(Delta, LZ4),
    topic LowCardinality(String) COMMENT 'Input topic of the event',
    partition Int32 COMMENT 'Partition of the event' CODEC(Delta, LZ4),
    offset Int64 COMMENT 'Offset of the event' CODEC(Delta, LZ4),
    shadow_partition Int32 COMMENT 'Partition of this verdict' CODEC(Delta, LZ4),
    shadow_offset Int64 COMMENT 'Offset of this verdict' CODEC(Delta, LZ4),
    inserted DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse took the row',
    decision_id String ALIAS concat(topic, '/', toString(partition), '/', toString(offset)) COMMENT 'topic/partition/offset of the event'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (shadow, shadow_partition, shadow_offset)
TTL inserted + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per decision and shadow ruleset that was asked beside it';

CREATE TABLE IF NOT EXISTS rulesets (
    id String COMMENT 'Name and version, as in the column ruleset of payments',
    key String COMMENT 'Under which it was published: default, or shadow/NAME',
    name String COMMENT 'Name of the ruleset',
    version Int64 COMMENT 'Its version',
    source String COMMENT 'The YAML, as it was published' CODEC(ZSTD),
    published DateTime64(3, 'UTC') COMMENT 'When Kafka took it',
    rules_offset Int64 COMMENT 'Its offset on the topic rules'
) ENGINE = ReplacingMergeTree
ORDER BY (id, rules_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every ruleset published, those that gates refused included';

CREATE VIEW IF NOT EXISTS shadow_differences AS
SELECT
    shadow, ruleset, live_ruleset, type, live_verdict, verdict, label,
    count() AS decisions, uniqExact(customer_id) AS customers, min(event_time) AS first_event, max(event_time) AS last_event
FROM shadow_verdicts
GROUP BY shadow, ruleset, live_ruleset, type, live_verdict, verdict, label;
