package house

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sluice/deploy/config"
)

// TestPostingsAreRemembered: a poster that is told nothing posts by what the book was posted by last.
func TestPostingsAreRemembered(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a Postgres of its own")
	}
	c := config.Config{Data: filepath.Join(t.TempDir(), "data"), Partitions: 1}
	h, err := Open(t.Context(), c, Options{Needs: Postgres, Embed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseQuietly)
	file := filepath.Join(t.TempDir(), "house.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("postings: house\nversion: 1\n")
	takes := func(postings, want string) {
		t.Helper()
		h.Config.Postings = postings
		r, err := h.takePostings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.ID() != want {
			t.Errorf("--postings %q: it posts by %s, want %s", postings, r.ID(), want)
		}
	}
	takes("", "standard@1")
	takes("rewards", "rewards@1")
	takes("", "rewards@1")
	takes("rewards", "rewards@1") // the same again is no new entry
	takes(file, "house@1")
	takes("standard", "standard@1")
	takes(file, "house@1") // back to what was before
	takes("", "house@1")
	write("postings: house\nversion: 1\n# another text\n")
	h.Config.Postings = file
	if _, err := h.takePostings(t.Context()); err == nil || !strings.Contains(err.Error(), "give the file another version") {
		t.Errorf("the same id with another text: %v", err)
	}
	takes("", "house@1")
	asks := c
	asks.Postgres = h.Addresses.Postgres
	var out strings.Builder
	if err := PostingHistory(t.Context(), asks, &out, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(out.String()) {
		ids = append(ids, strings.Fields(line)[1])
	}
	if got := strings.Join(ids, " "); got != "RULES house@1 standard@1 house@1 rewards@1 standard@1" {
		t.Errorf("the history is %s", got)
	}
	out.Reset()
	if err := ShowBookPostings(t.Context(), asks, &out, slog.New(slog.DiscardHandler)); err != nil || !strings.Contains(out.String(), "house@1, checksum") {
		t.Errorf("the book is posted by %s, %v", out.String(), err)
	}
	err = h.withPostgres(t.Context(), func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), "UPDATE posting_rules SET by = 'somebody else'")
		return err
	})
	if err == nil {
		t.Error("the history can be changed")
	}
}
