// Package ledger holds the Postgres tables of the book as forward-only migrations. It runs nothing: the poster does.
package ledger

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

//go:embed *.sql
var files embed.FS

// Migration is one step of the schema. Once released it never changes: a change is a further migration.
type Migration struct {
	Version  int    // from 1, without gaps
	Name     string // file name, "0001_book.sql"
	SQL      string
	Checksum string // SHA-256 of SQL in hex
}

// oneByOne is the first line of a migration whose statements each run by themselves, outside a transaction, as those must that
// build an index while others write. Each may be run again after it was cut off.
const oneByOne = "-- one by one, outside a transaction\n"

// Statements lists the statements of a migration that run one by one; nil of one that is a transaction.
func (m *Migration) Statements() []string {
	rest, is := strings.CutPrefix(m.SQL, oneByOne)
	if !is {
		return nil
	}
	var all []string
	for _, s := range strings.SplitAfter(rest, ";\n") {
		if strings.TrimSpace(s) != "" {
			all = append(all, s)
		}
	}
	return all
}

// Migrations lists every migration in order of version.
func Migrations() []Migration {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic("schemas/ledger: " + err.Error()) // embedded: cannot fail
	}
	all := make([]Migration, 0, len(entries))
	for i, e := range entries { // sorted by name
		m, err := read(e.Name())
		if err == nil && m.Version != i+1 {
			err = fmt.Errorf("%s is the migration number %d", m.Name, i+1)
		}
		if err != nil {
			panic("schemas/ledger: " + err.Error()) // a mistake in the program, caught by its test
		}
		all = append(all, m)
	}
	return all
}

func read(name string) (Migration, error) {
	text, err := files.ReadFile(name)
	if err != nil {
		return Migration{}, err
	}
	number, _, _ := strings.Cut(name, "_")
	version, err := strconv.Atoi(number)
	if err != nil {
		return Migration{}, fmt.Errorf("%s does not start with a version, as 0001_book.sql does", name)
	}
	sum := sha256.Sum256(text)
	return Migration{Version: version, Name: name, SQL: string(text), Checksum: hex.EncodeToString(sum[:])}, nil
}
