package risk

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// nth is a made-up identity; their order in the table is as good as random.
func nth(n int) identity {
	var id identity
	binary.LittleEndian.PutUint64(id[:8], uint64(n)*0x9e3779b97f4a7c15)
	binary.LittleEndian.PutUint64(id[8:], uint64(n))
	return id
}

// TestIdentities: the newest 262,144, less a chunk at most, are remembered, the older ones are not; and a ring restored from
// its records, in any order and with outdated ones before the newest, remembers the same.
func TestIdentities(t *testing.T) {
	now := clock{at: 42, votes: 3, low: 7}
	t.Parallel()
	var ring identities
	const total = 2*identitiesKept + 5*chunkIDs + 7
	disk := make([][]byte, chunks)
	var restored identities
	random := rand.New(rand.NewPCG(1, 1))
	for n := 0; n < total; {
		batch := min(1+random.IntN(3000), total-n)
		var staged []identity
		for i := range batch {
			if ring.has(nth(n+i), i) {
				t.Fatalf("%d is remembered before it came", n+i)
			}
			staged = append(staged, nth(n+i))
		}
		ring.records(staged, now, func(at int, value []byte) {
			if len(value) > chunkIDs*16+32 {
				t.Fatalf("a record of %d bytes", len(value))
			}
			disk[at] = value
			if random.IntN(50) == 0 { // what will be outdated
				if _, _, err := restored.restore(at, value); err != nil {
					t.Fatal(err)
				}
			}
		})
		for _, id := range staged {
			ring.add(id)
		}
		n += batch
	}
	for _, at := range random.Perm(chunks) {
		if c, _, err := restored.restore(at, disk[at]); err != nil || c != now {
			t.Fatal(c, err)
		}
	}
	oldest := total - identitiesKept + chunkIDs
	for n := range total {
		want := n >= oldest
		if n > oldest-chunkIDs && n < oldest {
			want = ring.has(nth(n), 0)
		}
		if ring.has(nth(n), 0) != want || restored.has(nth(n), 0) != want {
			t.Fatalf("%d of %d: remembered %v, restored %v; want %v", n, total, ring.has(nth(n), 0), restored.has(nth(n), 0), want)
		}
	}
	if ring.head != restored.head || ring.used != restored.used || ring.used > identitiesKept {
		t.Fatalf("%d added, %d kept; restored %d, %d", ring.head, ring.used, restored.head, restored.used)
	}
}

// TestIdentityKeepsSourceAndIDApart: ("a", "bc") is not ("ab", "c").
func TestIdentityKeepsSourceAndIDApart(t *testing.T) {
	t.Parallel()
	if identityOf("a", "bc") == identityOf("ab", "c") {
		t.Fatal("the same identity")
	}
}
