package status

import (
	"net/url"
	"strings"
)

// Address is a Link as the page shows it.
type Address struct {
	Name string `json:"name"`
	URL  string `json:"url"`  // password hidden
	Open bool   `json:"open"` // a browser can open it
	Note string `json:"note"`
	Try  []Try  `json:"try"` // commands and queries to copy
}

// Try is something to copy into a terminal or a query window.
type Try struct {
	Say  string `json:"say"`
	Text string `json:"text"`
}

// addresses prepares links for the page.
func addresses(links []Link) []Address {
	out := make([]Address, 0, len(links))
	for _, l := range links {
		a := Address{Name: l.Name, URL: l.URL, Note: l.Note, Try: []Try{}}
		u, err := url.Parse(l.URL)
		if err != nil {
			a.URL = "(not an address)" // it may hold a password that cannot be found
			out = append(out, a)
			continue
		}
		a.URL = u.Redacted()
		switch u.Scheme {
		case "http", "https":
			a.Open = true
		case "":
			a.Open = strings.HasPrefix(l.URL, "/") && !strings.HasPrefix(l.URL, "//")
		case "postgres", "postgresql":
			a.Try = tryPostgres(a.URL)
		case "clickhouse":
			a.Try = tryClickHouse(u)
		case "kafka":
			a.Try = tryKafka(u.Host)
		}
		out = append(out, a)
	}
	return out
}

func tryPostgres(address string) []Try {
	return []Try{
		{"open a session", `psql "` + address + `"`},
		{"transfers posted last", `SELECT * FROM journal ORDER BY event_time DESC LIMIT 10;`},
		{"the richest wallets", `SELECT * FROM balances WHERE account LIKE 'wallet:%' ORDER BY balance DESC LIMIT 10;`},
		{"what the ledger said", `SELECT code, count(*) FROM results GROUP BY code ORDER BY 2 DESC;`},
	}
}

func tryClickHouse(u *url.URL) []Try {
	return []Try{
		{"open a session", `clickhouse client --host ` + u.Hostname() + ` --port ` + u.Port()},
		{"verdicts and money", `SELECT verdict, currency, count(), sum(amount) FROM payments GROUP BY verdict, currency ORDER BY count() DESC`},
		{"which rules fire", `SELECT arrayJoin(rules) AS rule, count(), countIf(verdict = 'decline') FROM verdicts GROUP BY rule ORDER BY 2 DESC`},
		{"declined last", `SELECT * FROM verdicts WHERE verdict = 'decline' ORDER BY decided_time DESC LIMIT 10 FORMAT Vertical`},
		{"what the ledger said", `SELECT code, count() FROM results GROUP BY code ORDER BY 2 DESC`},
		{"customers in each value tier", `SELECT tier, count() FROM customer_tiers GROUP BY tier ORDER BY 2 DESC`},
		{"why records were set aside", `SELECT reason, count() FROM dead_letters GROUP BY reason ORDER BY 2 DESC`},
	}
}

func tryKafka(brokers string) []Try {
	return []Try{
		{"topics and partitions", `kcat -b ` + brokers + ` -L`},
		{"the last verdicts, with position", `kcat -b ` + brokers + ` -C -t payments.decided -o -5 -e -f '%k %h\n'`},
	}
}
