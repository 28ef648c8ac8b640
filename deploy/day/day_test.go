package day

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/deploy/config"
	"sluice/deploy/embedded/enginestest"
	"sluice/deploy/reconciliation"
	made "sluice/producers/simulator/day"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// ofItsOwn are the settings of a house that no other test shares.
func ofItsOwn(t *testing.T) config.Config {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka, enginestest.Postgres, enginestest.ClickHouse)
	return config.Config{Data: t.TempDir(), Kafka: strings.Join(env.Kafka, ","), Prefix: env.Prefix, Postgres: env.PostgresURL, ClickHouse: env.ClickHouseURL, Partitions: 4}
}

// A small day of each of several seeds: the house finds the planted errors and nothing else, and every promise holds.
func TestADay(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs whole houses; -short leaves it out")
	}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			o := Options{Config: ofItsOwn(t), Day: made.Config{Seed: seed, Payments: 2_000, Errors: 40 + 15*int(seed)}, Out: out}
			report, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var table bytes.Buffer
			if err := report.Table(&table); err != nil {
				t.Fatal(err)
			}
			t.Logf("\n%s", table.String())
			if !report.OK() {
				t.Error("something differs")
			}
			checkFiles(t, out, o.Day.Errors)
			if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "has payments already") {
				t.Errorf("a day in a house that has payments: %v", err)
			}
		})
	}
}

// checkFiles wants every planted error in planted.csv, and the statements beside it.
func checkFiles(t *testing.T, out string, errors int) {
	t.Helper()
	f, err := os.Open(filepath.Join(out, plantedFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) != errors+1 {
		t.Errorf("%s: %d rows, %v", plantedFile, len(rows), err)
	}
	for _, name := range []string{"acquirer-a-2026-03-02.csv", "acquirer-a.yaml", "bank-b-2026-03-02.xml", rulesFile} {
		if st, err := os.Stat(filepath.Join(out, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// found are the breaks that a reconciliation without a fault finds of a day.
func found(d *made.Day, channel string) []reconciliation.Break {
	var all []reconciliation.Break
	for _, p := range d.Planted() {
		if p.Channel == channel {
			all = append(all, reconciliation.Break{Channel: p.Channel, Class: p.Class, Reference: p.Reference, Amount: p.Amount, Currency: p.Currency.Code(), Position: p.Line})
		}
	}
	return all
}

// Whatever differs between what was planted and what was found is told: one too few, one too many, another class, amount,
// reference, line or currency.
func TestWhatDiffersIsTold(t *testing.T) {
	t.Parallel()
	d, err := made.Make(made.Config{Seed: 3, Payments: made.LeastPayments, Errors: 30})
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, differ int, spoil func([]reconciliation.Break) []reconciliation.Break) {
		t.Helper()
		var r Report
		for i, channel := range made.Channels() {
			all := found(d, channel)
			if i == 0 {
				all = spoil(all)
			}
			r.compare(d, channel, all)
		}
		if r.Differ != differ || r.OK() != (differ == 0) || len(r.Differences) != differ {
			t.Errorf("%s: %d differences, want %d: %q", name, r.Differ, differ, r.Differences)
		}
	}
	spoilt := func(do func(*reconciliation.Break)) func([]reconciliation.Break) []reconciliation.Break {
		return func(all []reconciliation.Break) []reconciliation.Break {
			do(&all[0])
			return all
		}
	}
	f("nothing", 0, func(all []reconciliation.Break) []reconciliation.Break { return all })
	f("one too few", 1, func(all []reconciliation.Break) []reconciliation.Break { return all[1:] })
	f("one too many", 1, func(all []reconciliation.Break) []reconciliation.Break { return append(all, all[0]) })
	f("another class", 2, spoilt(func(b *reconciliation.Break) { b.Class = "timing" }))
	f("another amount", 2, spoilt(func(b *reconciliation.Break) { b.Amount++ }))
	f("another reference", 2, spoilt(func(b *reconciliation.Break) { b.Reference += "1" }))
	f("another line", 2, spoilt(func(b *reconciliation.Break) { b.Position++ }))
	f("another currency", 2, spoilt(func(b *reconciliation.Break) { b.Currency = "EUR" }))
	f("none at all", 15, func([]reconciliation.Break) []reconciliation.Break { return nil })
}

func TestTheReportForPrograms(t *testing.T) {
	t.Parallel()
	d, err := made.Make(made.Config{Seed: 3, Payments: made.LeastPayments, Errors: 10})
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	r.compare(d, made.BankB, found(d, made.BankB))
	var b bytes.Buffer
	var back Report
	if err := r.JSON(&b); err != nil || json.Unmarshal(b.Bytes(), &back) != nil || len(back.Rows) != 5 || back.Rows[0].Planted != 1 || back.Rows[0].Found != 1 {
		t.Errorf("%v %s", err, b.String())
	}
}
