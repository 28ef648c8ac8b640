package models

// Contributions are Shapley values of the margin by the covers of the nodes: TreeSHAP, algorithm 2 of Lundberg, Erion, Lee,
// Consistent Individualized Feature Attribution for Tree Ensembles (arXiv:1802.03888). The base is the mean margin of the
// training rows. It takes O(leaves × depth²) for each tree.
func (m *Trees) Contributions(x, out []float64) float64 {
	clear(out)
	base := m.base
	w := walk{model: m, x: x, out: out}
	for _, t := range m.trees {
		base += t.mean(0)
		w.tree = t
		w.visit(0, nil, 1, 1, -1)
	}
	for i := range out {
		out[i] *= m.scale
	}
	return base * m.scale
}

// mean is the expected value below a node, by covers.
func (t tree) mean(i int32) float64 {
	n := &t[i]
	if n.leaf {
		return n.threshold
	}
	l, r := t.shares(n)
	return l*t.mean(n.left) + r*t.mean(n.right)
}

// shares are the parts of a split's cover that went left and right.
func (t tree) shares(n *node) (left, right float64) {
	if n.cover <= 0 {
		return 0.5, 0.5
	}
	return t[n.left].cover / n.cover, t[n.right].cover / n.cover
}

// step is one feature on the path to a node: which share of the rows passes its splits when it is unknown and when it is
// known, and the weight of the subsets of the path of each size.
type step struct {
	feature            int32
	zero, one, weights float64
}

type walk struct {
	model  *Trees
	tree   tree
	x, out []float64
}

func (w *walk) visit(i int32, path []step, zero, one float64, feature int32) {
	path = extend(path, zero, one, feature)
	n := &w.tree[i]
	if n.leaf {
		for k := 1; k < len(path); k++ {
			w.out[path[k].feature] += unwoundSum(path, k) * (path[k].one - path[k].zero) * n.threshold
		}
		return
	}
	hot, cold := n.left, n.right
	hotShare, coldShare := w.tree.shares(n)
	if !w.model.goesLeft(n, w.x[n.feature]) {
		hot, cold, hotShare, coldShare = cold, hot, coldShare, hotShare
	}
	zeroBefore, oneBefore := 1.0, 1.0
	for k := 1; k < len(path); k++ {
		if path[k].feature == n.feature {
			zeroBefore, oneBefore = path[k].zero, path[k].one
			path = unwind(path, k)
			break
		}
	}
	w.visit(hot, path, zeroBefore*hotShare, oneBefore, n.feature)
	w.visit(cold, path, zeroBefore*coldShare, 0, n.feature)
}

// extend returns the path with one more step.
func extend(path []step, zero, one float64, feature int32) []step {
	n := len(path)
	longer := make([]step, n+1)
	copy(longer, path)
	longer[n] = step{feature: feature, zero: zero, one: one}
	if n == 0 {
		longer[0].weights = 1
	}
	for i := n - 1; i >= 0; i-- {
		longer[i+1].weights += one * longer[i].weights * float64(i+1) / float64(n+1)
		longer[i].weights *= zero * float64(n-i) / float64(n+1)
	}
	return longer
}

// unwind returns the path as if step k had never been taken.
func unwind(path []step, k int) []step {
	n := len(path) - 1
	shorter := make([]step, n)
	copy(shorter, path[:n])
	one, zero := path[k].one, path[k].zero
	next := path[n].weights
	for i := n - 1; i >= 0; i-- {
		if one != 0 {
			before := path[i].weights
			shorter[i].weights = next * float64(n+1) / (float64(i+1) * one)
			next = before - shorter[i].weights*zero*float64(n-i)/float64(n+1)
		} else if zero != 0 {
			shorter[i].weights = path[i].weights * float64(n+1) / (zero * float64(n-i))
		}
	}
	for i := k; i < n; i++ {
		shorter[i].feature, shorter[i].zero, shorter[i].one = path[i+1].feature, path[i+1].zero, path[i+1].one
	}
	return shorter
}

// unwoundSum is the total weight of the path as if step k had never been taken.
func unwoundSum(path []step, k int) float64 {
	sum := 0.0
	for _, s := range unwind(path, k) {
		sum += s.weights
	}
	return sum
}
