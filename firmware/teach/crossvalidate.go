package teach

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// penalties are how strongly weights are held back, from much to little. Fitting
// begins with the previous one's solution.
var penalties = []float64{1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4}

// mostFolds is how many parts cross-validation makes of the pictures, if there
// are so many of each kind.
const mostFolds = 5

// choice is what cross-validation decided.
type choice struct {
	space       *space
	final       logistic // fitted to everything
	folds       int
	penalty     float64
	temperature float64
	threshold   float64
	// probabilities that each picture is positive, by a head that was trained
	// without it, with temperature and threshold applied.
	probabilities []float64
}

// rows are all embeddings in a row, with what is known of each.
type rows struct {
	of       []int // picture
	own      []int // of each picture, the row of its own embedding
	positive []bool
}

func (l *learner) crossValidate(ctx context.Context) (*choice, error) {
	var r rows
	var embeddings [][]float32
	for i, p := range l.pictures {
		r.own = append(r.own, len(embeddings))
		for _, e := range p.embeddings {
			embeddings = append(embeddings, e)
			r.of = append(r.of, i)
			r.positive = append(r.positive, p.positive)
		}
	}
	s, err := newSpace(embeddings)
	if err != nil {
		return nil, err
	}
	fold, folds := l.fold()
	c := &choice{space: s, folds: folds}

	// The logits of pictures by heads that have not seen them, for each penalty.
	unseen := make([][]float64, len(penalties))
	for i := range unseen {
		unseen[i] = make([]float64, len(l.pictures))
	}
	for k := range folds {
		var start *logistic
		for i, penalty := range penalties {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			head, err := l.fit(s, r, penalty, start, func(picture int) bool { return fold[picture] != k })
			if err != nil {
				return nil, err
			}
			start = &head
			for p := range l.pictures {
				if fold[p] == k {
					unseen[i][p] = head.logit(s.rows[r.own[p]])
				}
			}
		}
	}

	// Each penalty is judged with the temperature that suits it: how well the
	// probabilities fit the truth, both kinds weighing the same.
	best := math.Inf(1)
	var logits []float64
	for i, penalty := range penalties {
		temperature, loss := l.calibrate(unseen[i])
		// A stronger hold is the safer one where little is known: a weaker one
		// has to be better by more than a trifle.
		if loss < best-0.005 {
			best, logits = loss, unseen[i]
			c.penalty, c.temperature = penalty, temperature
		}
	}
	for p := range logits {
		logits[p] /= c.temperature
	}
	c.threshold = l.chooseThreshold(logits)
	offset := math.Log(c.threshold / (1 - c.threshold))
	for _, z := range logits {
		c.probabilities = append(c.probabilities, sigmoid(z-offset))
	}
	c.final, err = l.fit(s, r, c.penalty, nil, func(int) bool { return true })
	return c, err
}

// fit fits a head to the pictures that are in.
func (l *learner) fit(s *space, r rows, penalty float64, start *logistic, in func(picture int) bool) (logistic, error) {
	var data [][]float64
	var positive []bool
	var of [2]int
	for i, row := range s.rows {
		if in(r.of[i]) {
			data = append(data, row)
			positive = append(positive, r.positive[i])
			of[kindOf(r.positive[i])]++
		}
	}
	shares := make([]float64, len(data))
	for i := range data {
		shares[i] = 0.5 / float64(of[kindOf(positive[i])])
	}
	return fitLogistic(data, positive, shares, penalty, start)
}

func kindOf(positive bool) int {
	if positive {
		return 0
	}
	return 1
}

// fold deals the pictures out, group by group, so that each fold has of both
// kinds what there is. The same seed deals the same.
func (l *learner) fold() (fold []int, folds int) {
	random := rand.New(rand.NewPCG(l.Seed, 0x666f6c64))
	groups := map[bool][][]int{}
	place := map[int]int{} // of a group in its list
	for p, picture := range l.pictures {
		positive, group := picture.positive, picture.group
		at, known := place[group]
		if !known {
			at = len(groups[positive])
			place[group] = at
			groups[positive] = append(groups[positive], nil)
		}
		groups[positive][at] = append(groups[positive][at], p)
	}
	folds = min(mostFolds, len(groups[true]), len(groups[false]))
	fold = make([]int, len(l.pictures))
	for _, positive := range []bool{true, false} {
		list := groups[positive]
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		// The largest groups first, each to the fold that has least.
		slices.SortStableFunc(list, func(a, b []int) int { return cmp.Compare(len(b), len(a)) })
		size := make([]float64, folds)
		for _, group := range list {
			k := floats.MinIdx(size)
			size[k] += float64(len(group))
			for _, p := range group {
				fold[p] = k
			}
		}
	}
	return fold, folds
}

// calibrate finds the temperature with which logits of unseen pictures fit the
// truth best, and the loss with it.
//
// A few pictures that are all told apart would ask for endless confidence.
// Platt's targets, which are short of 0 and 1 by as much as the number of
// pictures leaves open, keep it within what they prove.
func (l *learner) calibrate(logits []float64) (temperature, loss float64) {
	var of [2]float64
	for _, p := range l.pictures {
		of[kindOf(p.positive)]++
	}
	target := [2]float64{(of[0] + 1) / (of[0] + 2), 1 / (of[1] + 2)}
	at := func(temperature float64) float64 {
		loss := 0.0
		for i, p := range l.pictures {
			k := kindOf(p.positive)
			z := logits[i] / temperature
			loss += (target[k]*softplus(-z) + (1-target[k])*softplus(z)) / of[k] / 2
		}
		return loss
	}
	// The loss is convex in 1/temperature; a fine grid is exact enough, and
	// gives the same on every machine.
	const steps = 200
	loss = math.Inf(1)
	for i := range steps + 1 {
		t := math.Exp(math.Log(1.0/50) + float64(i)/steps*math.Log(50*20))
		if at := at(t); at < loss {
			temperature, loss = t, at
		}
	}
	return temperature, loss
}

// chooseThreshold gives the probability from which on a picture is better taken
// for positive: it maximises the balanced accuracy of unseen pictures. Among
// thresholds that do as well it is the nearest to 0.5, and it stays between 0.2
// and 0.8, since a few pictures cannot prove more.
func (l *learner) chooseThreshold(logits []float64) float64 {
	const least, most = 0.2, 0.8
	ordered := slices.Clone(logits)
	slices.Sort(ordered)
	candidates := []float64{0.5}
	for i := 1; i < len(ordered); i++ {
		// In the middle of a gap, where the next picture is least likely to
		// fall on the wrong side.
		if t := sigmoid((ordered[i-1] + ordered[i]) / 2); t > least && t < most {
			candidates = append(candidates, t)
		}
	}
	balanced := func(threshold float64) float64 {
		var right, of [2]float64
		for i, p := range l.pictures {
			k := kindOf(p.positive)
			of[k]++
			if (sigmoid(logits[i]) > threshold) == p.positive {
				right[k]++
			}
		}
		return stat.Mean([]float64{right[0] / of[0], right[1] / of[1]}, nil)
	}
	best := candidates[0]
	for _, t := range candidates[1:] {
		d := balanced(t) - balanced(best)
		if d > 1e-9 || d > -1e-9 && math.Abs(t-0.5) < math.Abs(best-0.5) {
			best = t
		}
	}
	return best
}
