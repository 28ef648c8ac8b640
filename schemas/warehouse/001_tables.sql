-- What crosses into ClickHouse: one row per decided event, ledger result, transfer and dead letter, in the database of the
-- connection. Every table has its own deduplication window: an insert that is sent again with its token counts once, here
-- and in every table a materialized view fills. 10,000 blocks are minutes of full load from every partition.
-- Old rows leave by the time ClickHouse took them, never by the event's own time: replayed history must stay.
-- Payments, loans and behaviours stand in order of arrival: sorting these wide rows by customer made merging them cost
-- several times as much. Who asks by customer, payment, loan or time is helped by the indexes.
-- Times are UTC.

CREATE TABLE IF NOT EXISTS payments (
    event_time DateTime64(6, 'UTC') COMMENT 'When it happened, as its channel says' CODEC(Delta, LZ4),
    event_id String COMMENT 'CloudEvents id; unique with source',
    source LowCardinality(String) COMMENT 'CloudEvents source: the channel''s name',
    type LowCardinality(String) COMMENT 'payment.initiated, payment.captured, …',
    customer_id String COMMENT 'Who pays, or is paid for a top-up',
    payment_id String COMMENT 'The same through the payment''s whole life',
    account_id String COMMENT 'The customer''s account; empty is the wallet',
    counterparty_id String COMMENT 'The customer who receives a transfer',
    merchant_id String COMMENT 'The merchant who is paid',
    merchant_category LowCardinality(String) COMMENT 'ISO 18245, four digits',
    channel LowCardinality(String) COMMENT 'app, web, pos, an acquirer''s name',
    method LowCardinality(String) COMMENT 'wallet, card, bank_transfer, quick_pay; empty unknown',
    purpose LowCardinality(String) COMMENT 'top_up, transfer, purchase, withdrawal',
    amount_minor Int64 COMMENT 'Minor units of currency',
    currency LowCardinality(String) COMMENT 'ISO 4217',
    amount Decimal(38, 4) DEFAULT toDecimal128(amount_minor, 4) / {minor_per_major:currency} COMMENT 'Major units, exact',
    card_token String COMMENT 'Stands for the card; never a card number',
    device_id String COMMENT 'The device the customer used',
    ip String COMMENT 'IPv4 or IPv6 address of the device',
    country LowCardinality(String) COMMENT 'ISO 3166-1 alpha-2, where the device was',
    located Bool COMMENT 'Whether latitude and longitude are known',
    latitude Float64 COMMENT 'Degrees, WGS 84',
    longitude Float64 COMMENT 'Degrees, WGS 84',
    reason LowCardinality(String) COMMENT 'Why it was voided, refunded, charged back or failed',
    verdict LowCardinality(String) COMMENT 'observed, approve, review, decline, duplicate (had no effect; count it nowhere)',
    score Int32 COMMENT 'Sum of the scores of the rules that fired',
    rules Array(LowCardinality(String)) COMMENT 'Ids of the rules that fired',
    rule_scores Array(Int32) COMMENT 'Their scores, in the order of rules',
    reasons Array(LowCardinality(String)) COMMENT 'Their reason codes, in the order of rules',
    ruleset LowCardinality(String) COMMENT 'Name and version of the ruleset that decided',
    evidence Map(LowCardinality(String), String) COMMENT 'Aggregates the rules that fired have read, as they were; empty text is absent',
    tier LowCardinality(String) COMMENT 'Value tier of the customer at that moment; empty unknown',
    label LowCardinality(String) COMMENT 'Ground truth of a simulated event; no rule saw it',
    received_time DateTime64(6, 'UTC') COMMENT 'When Kafka took the event' CODEC(Delta, LZ4),
    decided_time DateTime64(3, 'UTC') COMMENT 'When Kafka took the decision' CODEC(Delta, LZ4),
    topic LowCardinality(String) COMMENT 'Input topic of the event',
    partition Int32 COMMENT 'Partition of the event and of its decision' CODEC(Delta, LZ4),
    offset Int64 COMMENT 'Offset of the event' CODEC(Delta, LZ4),
    decided_partition Int32 COMMENT 'Partition of the decision' CODEC(Delta, LZ4),
    decided_offset Int64 COMMENT 'Offset of the decision' CODEC(Delta, LZ4),
    inserted DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse took the row',
    decision_id String ALIAS concat(topic, '/', toString(partition), '/', toString(offset)) COMMENT 'topic/partition/offset of the event',
    INDEX by_customer customer_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_payment payment_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_time event_time TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (decided_partition, decided_offset)
TTL inserted + INTERVAL 5 YEAR
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per decided payment event';

CREATE TABLE IF NOT EXISTS loans (
    event_time DateTime64(6, 'UTC') COMMENT 'When it happened, as its channel says' CODEC(Delta, LZ4),
    event_id String COMMENT 'CloudEvents id; unique with source',
    source LowCardinality(String) COMMENT 'CloudEvents source: the channel''s name',
    type LowCardinality(String) COMMENT 'loan.applied, loan.repaid, …',
    customer_id String COMMENT 'The borrower',
    loan_id String COMMENT 'The same from application to the last repayment',
    product LowCardinality(String) COMMENT 'The product applied for',
    amount_minor Int64 COMMENT 'Principal, or the money paid; minor units of currency',
    currency LowCardinality(String) COMMENT 'ISO 4217',
    amount Decimal(38, 4) DEFAULT toDecimal128(amount_minor, 4) / {minor_per_major:currency} COMMENT 'Major units, exact',
    term_months Int32 COMMENT 'Number of equal monthly instalments',
    annual_rate_ppm Int64 COMMENT 'Nominal yearly rate in parts per million',
    annual_rate Decimal(18, 6) DEFAULT toDecimal64(annual_rate_ppm, 6) / 1000000 COMMENT 'Nominal yearly rate, 0.18 is 18 %',
    purpose LowCardinality(String) COMMENT 'What the money is for',
    monthly_income_minor Int64 COMMENT 'As stated; minor units of currency',
    outstanding_debt_minor Int64 COMMENT 'Debt elsewhere; minor units of currency',
    age Int32 COMMENT 'Years',
    employment_months Int32 COMMENT 'Months in the present job',
    bureau_score Int32 COMMENT '300 to 850; 0 unknown',
    channel LowCardinality(String) COMMENT 'The channel it came through',
    device_id String COMMENT 'The device the customer used',
    ip String COMMENT 'IPv4 or IPv6 address of the device',
    country LowCardinality(String) COMMENT 'ISO 3166-1 alpha-2, where the device was',
    located Bool COMMENT 'Whether latitude and longitude are known',
    latitude Float64 COMMENT 'Degrees, WGS 84',
    longitude Float64 COMMENT 'Degrees, WGS 84',
    reason LowCardinality(String) COMMENT 'Why it was cancelled or written off',
    verdict LowCardinality(String) COMMENT 'observed, approve, review, decline, duplicate (had no effect; count it nowhere)',
    score Int32 COMMENT 'Sum of the scores of the rules that fired',
    rules Array(LowCardinality(String)) COMMENT 'Ids of the rules that fired',
    rule_scores Array(Int32) COMMENT 'Their scores, in the order of rules',
    reasons Array(LowCardinality(String)) COMMENT 'Their reason codes, in the order of rules',
    ruleset LowCardinality(String) COMMENT 'Name and version of the ruleset that decided',
    evidence Map(LowCardinality(String), String) COMMENT 'Aggregates the rules that fired have read, as they were; empty text is absent',
    tier LowCardinality(String) COMMENT 'Value tier of the customer at that moment; empty unknown',
    label LowCardinality(String) COMMENT 'Ground truth of a simulated event; no rule saw it',
    received_time DateTime64(6, 'UTC') COMMENT 'When Kafka took the event' CODEC(Delta, LZ4),
    decided_time DateTime64(3, 'UTC') COMMENT 'When Kafka took the decision' CODEC(Delta, LZ4),
    topic LowCardinality(String) COMMENT 'Input topic of the event',
    partition Int32 COMMENT 'Partition of the event' CODEC(Delta, LZ4),
    offset Int64 COMMENT 'Offset of the event' CODEC(Delta, LZ4),
    decided_partition Int32 COMMENT 'Partition of the decision' CODEC(Delta, LZ4),
    decided_offset Int64 COMMENT 'Offset of the decision' CODEC(Delta, LZ4),
    inserted DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse took the row',
    decision_id String ALIAS concat(topic, '/', toString(partition), '/', toString(offset)) COMMENT 'topic/partition/offset of the event',
    INDEX by_customer customer_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_loan loan_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_time event_time TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (decided_partition, decided_offset)
TTL inserted + INTERVAL 10 YEAR
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per decided loan event';

CREATE TABLE IF NOT EXISTS behaviors (
    event_time DateTime64(6, 'UTC') COMMENT 'When it happened, as its channel says' CODEC(Delta, LZ4),
    event_id String COMMENT 'CloudEvents id; unique with source',
    source LowCardinality(String) COMMENT 'CloudEvents source: the channel''s name',
    type LowCardinality(String) COMMENT 'behavior.signed_in, behavior.viewed, …',
    customer_id String COMMENT 'Who did it',
    channel LowCardinality(String) COMMENT 'The channel it was done in',
    session_id String COMMENT 'The visit it belongs to',
    subject String COMMENT 'What was viewed, complained of or changed',
    payee_id String COMMENT 'The payee added',
    document_hash String COMMENT 'Salted hash of the identity document',
    kyc_level Int32 COMMENT 'Know-your-customer level after verification, 0 to 3',
    text String COMMENT 'Free words of a complaint',
    device_id String COMMENT 'The device it was done on',
    ip String COMMENT 'IPv4 or IPv6 address of the device',
    country LowCardinality(String) COMMENT 'ISO 3166-1 alpha-2, where the device was',
    located Bool COMMENT 'Whether latitude and longitude are known',
    latitude Float64 COMMENT 'Degrees, WGS 84',
    longitude Float64 COMMENT 'Degrees, WGS 84',
    verdict LowCardinality(String) COMMENT 'observed, or duplicate (had no effect; count it nowhere)',
    score Int32 COMMENT 'Sum of the scores of the rules that fired',
    rules Array(LowCardinality(String)) COMMENT 'Ids of the rules that fired',
    rule_scores Array(Int32) COMMENT 'Their scores, in the order of rules',
    reasons Array(LowCardinality(String)) COMMENT 'Their reason codes, in the order of rules',
    ruleset LowCardinality(String) COMMENT 'Name and version of the ruleset that decided',
    evidence Map(LowCardinality(String), String) COMMENT 'Aggregates the rules that fired have read, as they were; empty text is absent',
    tier LowCardinality(String) COMMENT 'Value tier of the customer at that moment; empty unknown',
    label LowCardinality(String) COMMENT 'Ground truth of a simulated event; no rule saw it',
    received_time DateTime64(6, 'UTC') COMMENT 'When Kafka took the event' CODEC(Delta, LZ4),
    decided_time DateTime64(3, 'UTC') COMMENT 'When Kafka took the decision' CODEC(Delta, LZ4),
    topic LowCardinality(String) COMMENT 'Input topic of the event',
    partition Int32 COMMENT 'Partition of the event' CODEC(Delta, LZ4),
    offset Int64 COMMENT 'Offset of the event' CODEC(Delta, LZ4),
    decided_partition Int32 COMMENT 'Partition of the decision' CODEC(Delta, LZ4),
    decided_offset Int64 COMMENT 'Offset of the decision' CODEC(Delta, LZ4),
    inserted DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse took the row',
    decision_id String ALIAS concat(topic, '/', toString(partition), '/', toString(offset)) COMMENT 'topic/partition/offset of the event',
    INDEX by_customer customer_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_time event_time TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (decided_partition, decided_offset)
TTL inserted + INTERVAL 2 YEAR
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per behaviour event';

CREATE TABLE IF NOT EXISTS results (
    event_time DateTime64(6, 'UTC') COMMENT 'When the event happened, as its channel says' CODEC(Delta, LZ4),
    shard Int32 COMMENT 'The shard whose writer posted it' CODEC(Delta, LZ4),
    sequence Int64 COMMENT 'Its gapless number in the shard, from 1' CODEC(Delta, LZ4),
    decision_id String COMMENT 'topic/partition/offset of the event',
    event_id String COMMENT 'CloudEvents id of the event',
    source LowCardinality(String) COMMENT 'CloudEvents source of the event',
    type LowCardinality(String) COMMENT 'CloudEvents type of the event',
    customer_id String COMMENT 'The customer',
    payment_id String COMMENT 'The payment it belongs to',
    loan_id String COMMENT 'The loan it belongs to',
    code LowCardinality(String) COMMENT 'posted, ignored (nothing to move), or why not: insufficient_funds, duplicate, …',
    transfers Int32 COMMENT 'How many transfers were made',
    published_time DateTime64(3, 'UTC') COMMENT 'When Kafka took the result' CODEC(Delta, LZ4),
    result_partition Int32 COMMENT 'Where the result stood' CODEC(Delta, LZ4),
    result_offset Int64 COMMENT 'Where the result stood' CODEC(Delta, LZ4),
    inserted DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse took the row'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (shard, sequence)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per outcome of a decided event in the book';

CREATE TABLE IF NOT EXISTS postings (
    event_time DateTime64(6, 'UTC') COMMENT 'When the event happened, as its channel says' CODEC(Delta, LZ4),
    shard Int32 COMMENT 'The shard whose writer posted it' CODEC(Delta, LZ4),
    sequence Int64 COMMENT 'Number of its result in the shard' CODEC(Delta, LZ4),
    number Int32 COMMENT 'Its place in the result, from 1',
    transfer_id Int64 COMMENT 'The transfer''s id in the book',
    debit_account String COMMENT 'Account debited, wallet:C42:CNY',
    credit_account String COMMENT 'Account credited',
    amount_minor Int64 COMMENT 'Minor units of currency',
    currency LowCardinality(String) COMMENT 'ISO 4217',
    amount Decimal(38, 4) DEFAULT toDecimal128(amount_minor, 4) / {minor_per_major:currency} COMMENT 'Major units, exact',
    kind LowCardinality(String) COMMENT 'top_up, purchase, fee, interest, …',
    decision_id String COMMENT 'topic/partition/offset of the event',
    customer_id String COMMENT 'The customer',
    payment_id String COMMENT 'The payment it belongs to',
    loan_id String COMMENT 'The loan it belongs to',
    result_partition Int32 COMMENT 'Where the result stood' CODEC(Delta, LZ4),
    result_offset Int64 COMMENT 'Where the result stood' CODEC(Delta, LZ4),
    inserted DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse took the row'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (shard, sequence, number)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per transfer in the book';

CREATE TABLE IF NOT EXISTS dead_letters (
    letter_time DateTime64(3, 'UTC') COMMENT 'When Kafka took the dead letter, or the record that could not be read' CODEC(Delta, LZ4),
    reason LowCardinality(String) COMMENT 'Why it could not be read or applied: a code',
    detail String COMMENT 'The same in a sentence',
    part LowCardinality(String) COMMENT 'Who could not read or apply it',
    topic LowCardinality(String) COMMENT 'Where the record stood',
    partition Int32 COMMENT 'Where the record stood',
    offset Int64 COMMENT 'Where the record stood',
    record_time DateTime64(3, 'UTC') COMMENT 'The record''s own timestamp',
    key String COMMENT 'The record''s key',
    value String COMMENT 'The record''s bytes; a full card number in them is masked',
    headers Array(Tuple(name String, value String)) COMMENT 'The record''s headers, in order',
    letter_topic LowCardinality(String) COMMENT 'deadletters; the record''s own topic where the warehouse itself could not read it',
    letter_partition Int32 COMMENT 'Where the dead letter stands',
    letter_offset Int64 COMMENT 'Where the dead letter stands',
    inserted DateTime('UTC') DEFAULT now() COMMENT 'When ClickHouse took the row',
    size UInt64 ALIAS length(value) COMMENT 'Bytes'
) ENGINE = MergeTree
PARTITION BY toYYYYMM(letter_time)
ORDER BY (letter_time, topic, partition, offset)
TTL inserted + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Whatever could not be read or applied';
