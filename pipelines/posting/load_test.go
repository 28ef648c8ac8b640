package posting

import "testing"

// TestPacksLoad: what is shipped is fine.
func TestPacksLoad(t *testing.T) {
	t.Parallel()
	for _, name := range PackNames {
		source, ok := Pack(name)
		if !ok {
			t.Fatalf("no pack %s", name)
		}
		r, err := Load(name+".yaml", source)
		if err != nil {
			t.Fatal(err)
		}
		if r.Name != name {
			t.Errorf("the pack %s is called %s", name, r.ID())
		}
	}
}
