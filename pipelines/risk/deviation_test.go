package risk

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"sluice/schemas/events"
)

// TestDeviationIsExact: against big integers, for amounts of any size, and split over tiles and partitions in any way.
func TestDeviationIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.SampledFrom([]int64{1, 3, 1000, 1_000_000, events.MaxAmount}).Draw(t, "most")
		amounts := rapid.SliceOfN(rapid.Int64Range(1, most), 1, 200).Draw(t, "amounts")
		parts := make([]tile, 3)
		n, sum, squares := big.NewInt(int64(len(amounts))), new(big.Int), new(big.Int)
		for _, x := range amounts {
			p := &parts[rapid.IntRange(0, 2).Draw(t, "part")]
			p.a, p.b, p.squares = p.a+1, p.b+x, p.squares.add(square(x))
			b := big.NewInt(x)
			sum.Add(sum, b)
			squares.Add(squares, b.Mul(b, b))
		}
		var all tile
		for _, p := range parts {
			all.a, all.b, all.squares = all.a+p.a, all.b+p.b, all.squares.add(p.squares)
		}
		// The square root of n Σx² - (Σx)², times 100, over n.
		want := new(big.Int).Mul(n, squares)
		want.Sub(want, sum.Mul(sum, sum)).Mul(want, big.NewInt(10_000)).Sqrt(want).Div(want, n)
		got, ok := deviation(all.a, all.b, all.squares)
		if !ok || got != want.Int64() {
			t.Fatalf("%d, %v; want %s", got, ok, want)
		}
	})
}

// TestDeviationOfNonsense: bytes that no amounts come to are unknown, or anything, but no panic.
func TestDeviationOfNonsense(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		deviation(rapid.Int64().Draw(t, "n"), rapid.Int64().Draw(t, "sum"), uint128{rapid.Uint64().Draw(t, "hi"), rapid.Uint64().Draw(t, "lo")})
	})
	if _, ok := deviation(0, 0, uint128{}); ok {
		t.Error("nothing has a deviation")
	}
	if _, ok := deviation(2, 3, maxUint128); ok {
		t.Error("squares that did not fit have a deviation")
	}
}
