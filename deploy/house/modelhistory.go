package house

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/pipelines/models"
	"sluice/schemas/warehouse"
)

// historyWait bounds the reading of the history to train on.
const historyWait = 10 * time.Minute

// historyQuery gives a row for each payment that was initiated, its columns named as in the language of rules, with the
// customer's payments of the 24 hours before and with it, the newest first.
const historyQuery = `SELECT * EXCEPT (event_time, event_id) FROM (SELECT
    toFloat64(amount), toUInt8(toHour(event_time)), toUInt8(toDayOfWeek(event_time)), method, purpose, channel, merchant_category,
    count() OVER day, toFloat64(sum(amount) OVER money), toFloat64(max(amount) OVER money),
    customer_id, toInt64(toRelativeDayNum(event_time)), %s, event_time, event_id
FROM payments
WHERE type = 'payment.initiated' AND verdict != 'duplicate'
WINDOW
    day AS (PARTITION BY customer_id ORDER BY toUnixTimestamp(event_time) RANGE BETWEEN 86399 PRECEDING AND CURRENT ROW),
    money AS (PARTITION BY customer_id, currency ORDER BY toUnixTimestamp(event_time) RANGE BETWEEN 86399 PRECEDING AND CURRENT ROW)
)
WHERE event_time >= ?
ORDER BY event_time DESC, event_id
LIMIT %d`

// historyOutcomes are what can make a payment a bad one.
var historyOutcomes = map[string]string{
	"charged_back": "payment_id IN (SELECT payment_id FROM payments WHERE type = 'payment.charged_back' AND payment_id != '')",
	"label":        "label != ''",
}

// warehouseAggregates are the aggregates that the features of historyQuery stand for.
const warehouseAggregates = `aggregates:
  payments_24h: {count: payment.initiated, by: customer, window: 24h}
  spent_24h: {sum: payment.amount, of: payment.initiated, by: customer, window: 24h}
  largest_24h: {max: payment.amount, of: payment.initiated, by: customer, window: 24h}
`

// warehouseTable reads the payments in ClickHouse, of and after a time, with their outcome; the newest models.MaxRows if there
// are more. from is a ClickHouse URL, or the data folder of a running house.
func warehouseTable(ctx context.Context, from, outcome string, since time.Time) (*models.Table, error) {
	url, err := warehouseURL(from)
	if err != nil {
		return nil, err
	}
	bad, ok := historyOutcomes[outcome]
	if !ok {
		return nil, fmt.Errorf("--outcome %s: write charged_back or label", outcome)
	}
	ctx, cancel := context.WithTimeout(ctx, historyWait)
	defer cancel()
	conn, err := warehouse.Open(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	rows, err := conn.Query(ctx, fmt.Sprintf(historyQuery, bad, models.MaxRows), since)
	if err != nil {
		return nil, fmt.Errorf("read the payments: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var amount, hour, weekday, payments, spent, largest []float64
	var method, purpose, channel, category []string
	t := &models.Table{}
	for rows.Next() {
		var a, s, l float64
		var h, w, isBad uint8
		var m, p, c, k, customer string
		var n uint64
		var day int64
		if err := rows.Scan(&a, &h, &w, &m, &p, &c, &k, &n, &s, &l, &customer, &day, &isBad); err != nil {
			return nil, fmt.Errorf("read the payments: %w", err)
		}
		amount, hour, weekday = append(amount, a), append(hour, float64(h)), append(weekday, float64(w))
		payments, spent, largest = append(payments, float64(n)), append(spent, s), append(largest, l)
		method, purpose, channel, category = append(method, m), append(purpose, p), append(channel, c), append(category, k)
		t.Customers, t.Days, t.Bad = append(t.Customers, customer), append(t.Days, int(day)), append(t.Bad, isBad == 1)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the payments: %w", err)
	}
	t.Columns = []models.Column{
		{Name: "payment.amount", Numbers: amount}, {Name: "event.hour", Numbers: hour}, {Name: "event.weekday", Numbers: weekday},
		{Name: "payment.method", Words: method}, {Name: "payment.purpose", Words: purpose}, {Name: "event.channel", Words: channel},
		{Name: "payment.merchant_category", Words: category}, {Name: "payments_24h", Numbers: payments}, {Name: "spent_24h", Numbers: spent},
		{Name: "largest_24h", Numbers: largest},
	}
	return t, nil
}

func warehouseURL(from string) (string, error) {
	if strings.Contains(from, "://") {
		return from, nil
	}
	running, ok := readAddresses(from)
	if !ok || running.ClickHouse == "" {
		return "", fmt.Errorf("no house runs on the folder %s: start `sluice up` or `sluice engines` on it, or give a clickhouse:// URL", from)
	}
	return running.ClickHouse, nil
}

// TrainFromWarehouse trains on the payments in ClickHouse. The outcome is what makes one bad: charged_back or label. from is a
// ClickHouse URL, or the data folder of a running house.
func TrainFromWarehouse(ctx context.Context, from, outcome string, since time.Time, o TrainOptions) error {
	t, err := warehouseTable(ctx, from, outcome, since)
	if err != nil {
		return err
	}
	o.Data.Path, o.Data.Bad = "payments in ClickHouse", outcome
	o.aggregates = warehouseAggregates
	return train(t, o)
}

// WatchModel says how far the scores of the payments in ClickHouse have moved since a model was trained, and how good they are
// as far as the outcomes are known.
func WatchModel(ctx context.Context, path, from, outcome string, since time.Time, out io.Writer) error {
	m, _, err := ReadModel(path)
	if err != nil {
		return err
	}
	t, err := warehouseTable(ctx, from, outcome, since)
	if err != nil {
		return err
	}
	scores, err := models.Scores(m, t)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s payments\n", thousands(int64(len(scores))))
	return sayMeasures(out, scores, t, distributionOf(m))
}
