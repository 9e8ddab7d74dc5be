package teach

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The solution is the minimum: the gradient of the loss, worked out another way,
// is zero there.
func TestFitIsTheMinimum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const n, dim, penalty = 30, 5, 0.01
	var rows [][]float64
	var positive []bool
	var shares []float64
	for i := range n {
		row := make([]float64, dim)
		for j := range row {
			row[j] = r.NormFloat64()
		}
		rows = append(rows, row)
		positive = append(positive, row[0]+0.5*r.NormFloat64() > 0)
		shares = append(shares, 1+float64(i%3))
	}
	l, err := fitLogistic(rows, positive, shares, penalty, nil)
	if err != nil {
		t.Fatal(err)
	}
	loss := func(l logistic) float64 {
		sum := 0.0
		for _, w := range l.weights {
			sum += penalty / 2 * w * w
		}
		for i, row := range rows {
			p := sigmoid(l.logit(row))
			if !positive[i] {
				p = 1 - p
			}
			sum -= shares[i] * math.Log(p)
		}
		return sum
	}
	const h = 1e-5
	for j := range dim + 1 {
		shift := func(by float64) logistic {
			moved := logistic{append([]float64(nil), l.weights...), l.bias}
			if j < dim {
				moved.weights[j] += by
			} else {
				moved.bias += by
			}
			return moved
		}
		if slope := (loss(shift(h)) - loss(shift(-h))) / (2 * h); math.Abs(slope) > 1e-3 {
			t.Errorf("slope %v along %d", slope, j)
		}
	}
	if l.weights[0] < 1 {
		t.Errorf("weights %v: the first decides", l.weights)
	}
}

// The coordinates lose nothing: weights for embeddings say the same as the
// solution in the space, also with more embeddings than numbers in each.
func TestSpaceIsExact(t *testing.T) {
	for _, size := range []struct{ n, dim int }{{12, 40}, {60, 8}} {
		r := rand.New(rand.NewPCG(5, 6))
		var embeddings [][]float32
		var positive []bool
		shares := make([]float64, size.n)
		for i := range size.n {
			e := make([]float32, size.dim)
			for j := range e {
				e[j] = float32(3 + r.NormFloat64())
			}
			embeddings = append(embeddings, e)
			positive = append(positive, e[0] > 3)
			shares[i] = 1 / float64(size.n)
		}
		embeddings[1] = embeddings[0] // the same picture twice depends on itself
		positive[1] = positive[0]
		s, err := newSpace(embeddings)
		if err != nil {
			t.Fatal(err)
		}
		l, err := fitLogistic(s.rows, positive, shares, 0.01, nil)
		if err != nil {
			t.Fatal(err)
		}
		weights, bias := s.outside(l)
		for i, e := range embeddings {
			z := bias
			for j, v := range unit(e) {
				z += weights[j] * v
			}
			if want := l.logit(s.rows[i]); math.Abs(z-want) > 1e-3*max(1, math.Abs(want)) {
				t.Errorf("%v, embedding %d: %v outside, %v inside", size, i, z, want)
			}
		}
	}
	if _, err := newSpace([][]float32{{1, 2}, {1, 2}}); err == nil {
		t.Error("pictures that are all the same have no space")
	}
}

// A learner with pictures of which only the kind matters.
func ofKinds(kinds ...bool) *learner {
	l := &learner{}
	for i, k := range kinds {
		l.pictures = append(l.pictures, &picture{positive: k, group: i, sum: [32]byte{byte(i)}})
	}
	return l
}

func TestCalibrate(t *testing.T) {
	// Logits that claim four times too much: of the pictures with ±4, which
	// claims 98 %, one in four is wrong (logit 1.1).
	var kinds []bool
	var logits []float64
	for i := range 400 {
		positive := i%2 == 0
		z := 4.0
		if !positive {
			z = -4
		}
		if i%8 < 2 {
			z = -z
		}
		kinds, logits = append(kinds, positive), append(logits, z)
	}
	temperature, _ := ofKinds(kinds...).calibrate(logits)
	if said := sigmoid(4 / temperature); math.Abs(said-0.75) > 0.01 {
		t.Errorf("temperature %v says %v where 0.75 is right", temperature, said)
	}
	// Ten pictures that are all right prove no more than what Platt's targets
	// allow: (5+1)/(5+2).
	temperature, _ = ofKinds(true, true, true, true, true, false, false, false, false, false).calibrate([]float64{9, 9, 9, 9, 9, -9, -9, -9, -9, -9})
	if said := sigmoid(9 / temperature); math.Abs(said-6.0/7) > 0.01 {
		t.Errorf("five of five say %v", said)
	}
}

func TestChooseThreshold(t *testing.T) {
	logit := func(p float64) float64 { return math.Log(p / (1 - p)) }
	for name, c := range map[string]struct {
		probabilities []float64 // the first three positive
		want          float64
	}{
		"0.5 does":              {[]float64{0.9, 0.8, 0.6, 0.4, 0.2, 0.1}, 0.5},
		"lower":                 {[]float64{0.9, 0.8, 0.4, 0.3, 0.2, 0.1}, sigmoid((logit(0.4) + logit(0.3)) / 2)},
		"higher":                {[]float64{0.9, 0.8, 0.7, 0.6, 0.2, 0.1}, sigmoid((logit(0.7) + logit(0.6)) / 2)},
		"never beyond 0.2":      {[]float64{0.9, 0.8, 0.03, 0.02, 0.01, 0.01}, 0.5},
		"what cannot be parted": {[]float64{0.6, 0.6, 0.6, 0.6, 0.6, 0.6}, 0.5},
	} {
		var logits []float64
		for _, p := range c.probabilities {
			logits = append(logits, logit(p))
		}
		if got := ofKinds(true, true, true, false, false, false).chooseThreshold(logits); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Groups stay together, and each fold has pictures of both kinds to learn from
// and to be judged by.
func TestFolds(t *testing.T) {
	l := ofKinds(true, true, true, true, true, true, true, true, false, false, false, false)
	l.pictures[1].group, l.pictures[2].group = 0, 0
	fold, folds := l.fold()
	if folds != 4 {
		t.Fatalf("%d folds for six and four groups", folds)
	}
	if fold[0] != fold[1] || fold[0] != fold[2] {
		t.Errorf("a group was parted: %v", fold)
	}
	for k := range folds {
		var of [2]int
		for i, p := range l.pictures {
			if fold[i] == k {
				of[kindOf(p.positive)]++
			}
		}
		if of[0] == 0 || of[1] != 1 {
			t.Errorf("fold %d has %v: %v", k, of, fold)
		}
	}
}
