-- Value tiers by recency, frequency and monetary quintiles, as package pipelines/value defines them; computed anew at
-- every refresh, the whole table at once.

CREATE TABLE IF NOT EXISTS customer_tiers (
    customer_id String COMMENT 'The customer',
    tier LowCardinality(String) COMMENT 'platinum, gold, silver, bronze, dormant',
    recency UInt8 COMMENT 'Quintile of the last active day, 1 (low) to 5 (high)',
    frequency UInt8 COMMENT 'Quintile of the number of payments in the window',
    monetary UInt8 COMMENT 'Quintile of the money spent in the window, in the currency where it is highest',
    last_day Date COMMENT 'The last active day',
    payments Int64 COMMENT 'Payments in the window',
    as_of DateTime64(6, 'UTC') COMMENT 'The newest event of the customer that counts',
    refreshed DateTime64(3, 'UTC') COMMENT 'When the tiers were computed; the same in every row'
) ENGINE = MergeTree
ORDER BY customer_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Value tier of each customer; replaced whole at every refresh';

CREATE MATERIALIZED VIEW IF NOT EXISTS customer_tiers_refresh
REFRESH EVERY 1 MINUTE TO customer_tiers AS
WITH
    (
        SELECT max(day)
        FROM (
            SELECT day, uniqExact(customer_id) AS customers, max(customers) OVER () AS busiest
            FROM customer_days WHERE active > 0 GROUP BY day
        )
        WHERE 100 * customers >= busiest
    ) AS newest_day,
    customers AS (
        SELECT customer_id, max(day) AS last_day, sumIf(payments, day > newest_day - 90) AS payments, max(last_active) AS as_of
        FROM customer_days
        WHERE active > 0
        GROUP BY customer_id
    ),
    standing AS (
        SELECT
            customer_id, last_day, payments,
            toUInt8(1 + intDiv(5 * (rank() OVER (ORDER BY last_day) - 1), count() OVER ())) AS recency,
            toUInt8(1 + intDiv(5 * (rank() OVER (ORDER BY payments) - 1), count() OVER ())) AS frequency
        FROM customers
        WHERE last_day > newest_day - 90
    ),
    spending AS (
        SELECT customer_id, currency, sum(spent_minor) - sum(refunded_minor) AS net
        FROM customer_days
        WHERE day > newest_day - 90 AND currency != ''
        GROUP BY customer_id, currency
        HAVING net > 0
    ),
    money AS (
        SELECT customer_id, max(quintile) AS monetary
        FROM (
            SELECT customer_id, toUInt8(1 + intDiv(5 * (rank() OVER (PARTITION BY currency ORDER BY net) - 1), count() OVER (PARTITION BY currency))) AS quintile
            FROM spending
        )
        GROUP BY customer_id
    )
SELECT
    c.customer_id AS customer_id,
    multiIf(s.recency = 0, 'dormant',
        s.recency + s.frequency + greatest(m.monetary, 1) >= 14, 'platinum',
        s.recency + s.frequency + greatest(m.monetary, 1) >= 11, 'gold',
        s.recency + s.frequency + greatest(m.monetary, 1) >= 8, 'silver', 'bronze') AS tier,
    greatest(s.recency, 1) AS recency,
    greatest(s.frequency, 1) AS frequency,
    if(s.recency = 0, 1, greatest(m.monetary, 1)) AS monetary,
    c.last_day AS last_day,
    c.payments AS payments,
    c.as_of AS as_of,
    now64(3, 'UTC') AS refreshed
FROM customers AS c
LEFT JOIN standing AS s ON s.customer_id = c.customer_id
LEFT JOIN money AS m ON m.customer_id = c.customer_id
SETTINGS join_use_nulls = 0;
