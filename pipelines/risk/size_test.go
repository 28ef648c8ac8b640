package risk_test

import (
	"fmt"
	"sluice/pipelines/risk"
	"strings"
	"testing"
)

func TestSize(t *testing.T) {
	engine := defaultEngine(t)
	state := risk.NewState(engine)
	state.Assign(0)
	w := newTown(1000)
	disk := gateState{}
	for i := range 1000 * 6 * 30 {
		e := w.next()
		state.Decide(0, &e)
		if i%1000 == 999 {
			disk.take(state)
			state.Commit()
		}
	}
	n := map[string]int{}
	b := map[string]int{}
	for k, v := range disk[0] {
		pre, _, _ := strings.Cut(k, ":")
		n[pre]++
		b[pre] += len(v)
	}
	for k := range n {
		fmt.Println(k, n[k], b[k]/n[k])
	}
}
