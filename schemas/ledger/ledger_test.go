package ledger

import "testing"

func TestMigrations(t *testing.T) {
	t.Parallel()
	all := Migrations()
	if len(all) == 0 {
		t.Fatal("no migrations")
	}
	for i, m := range all {
		if m.Version != i+1 || m.SQL == "" || len(m.Checksum) != 64 {
			t.Errorf("migration %d: %+v", i+1, m)
		}
	}
}
