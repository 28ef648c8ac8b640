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
		{"the newest results of the ledger", `SELECT * FROM results ORDER BY sequence DESC LIMIT 10;`},
	}
}

func tryClickHouse(u *url.URL) []Try {
	return []Try{
		{"open a session", `clickhouse client --host ` + u.Hostname() + ` --port ` + u.Port()},
		{"verdicts of the payments", `SELECT verdict, count(), sum(amount) FROM payments GROUP BY verdict ORDER BY 2 DESC`},
		{"payments declined last", `SELECT * FROM payments WHERE verdict = 'decline' ORDER BY event_time DESC LIMIT 10 FORMAT Vertical`},
		{"customers in each value tier", `SELECT tier, count() FROM customer_tiers GROUP BY tier`},
		{"why records were set aside", `SELECT reason, count() FROM dead_letters GROUP BY reason ORDER BY 2 DESC`},
	}
}

func tryKafka(brokers string) []Try {
	return []Try{
		{"topics and partitions", `kcat -b ` + brokers + ` -L`},
		{"the last verdicts, with position", `kcat -b ` + brokers + ` -C -t payments.decided -o -5 -e -f '%k %h\n'`},
	}
}
