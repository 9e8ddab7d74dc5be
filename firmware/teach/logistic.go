package teach

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize"
)

// logistic is a logistic regression's solution in the space it was fitted in.
type logistic struct {
	weights []float64
	bias    float64
}

func (l logistic) logit(row []float64) float64 { return floats.Dot(l.weights, row) + l.bias }

// fitLogistic minimises
//
//	Σ share_i · log(1 + exp(−y_i (w·x_i + b))) + penalty/2 · |w|²
//
// over the given rows with L-BFGS. The shares make the classes, and within them
// the pictures, weigh the same; they sum to 1. The bias is not held back. start
// may be nil.
func fitLogistic(rows [][]float64, positive []bool, shares []float64, penalty float64, start *logistic) (logistic, error) {
	dim := len(rows[0])
	// The optimiser asks for the loss and for its gradient in turn, mostly at the
	// same place; they are worked out together.
	residual := make([]float64, len(rows))
	at, gradient := make([]float64, dim+1), make([]float64, dim+1)
	loss, known := 0.0, false
	evaluate := func(x []float64) {
		if known && floats.Equal(x, at) {
			return
		}
		copy(at, x)
		known = true
		w, b := at[:dim], at[dim]
		loss = penalty / 2 * floats.Dot(w, w)
		for i, row := range rows {
			z := floats.Dot(w, row) + b
			y := -1.0
			if positive[i] {
				y = 1
			}
			loss += shares[i] * softplus(-y*z)
			residual[i] = -y * shares[i] * sigmoid(-y*z)
		}
		floats.ScaleTo(gradient[:dim], penalty, w)
		for i, row := range rows {
			floats.AddScaled(gradient[:dim], residual[i], row)
		}
		gradient[dim] = floats.Sum(residual)
	}
	initial := make([]float64, dim+1)
	if start != nil {
		copy(initial, start.weights)
		initial[dim] = start.bias
	}
	problem := optimize.Problem{
		Func: func(x []float64) float64 { evaluate(x); return loss },
		Grad: func(grad, x []float64) { evaluate(x); copy(grad, gradient) },
	}
	result, err := optimize.Minimize(problem, initial, &optimize.Settings{
		GradientThreshold: 1e-6,
		MajorIterations:   300,
		Converger:         &optimize.FunctionConverge{Absolute: 1e-9, Iterations: 5},
	}, &optimize.LBFGS{})
	if err != nil && (result == nil || !usable(result.X)) {
		return logistic{}, fmt.Errorf("fitting the classifier: %w", err)
	}
	// The line search also gives up where the numbers have no more digits to
	// give; what it found is the minimum then.
	if !usable(result.X) {
		return logistic{}, errors.New("fitting the classifier: the result is not a number")
	}
	return logistic{weights: result.X[:dim], bias: result.X[dim]}, nil
}

func usable(x []float64) bool {
	for _, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// softplus is log(1 + exp(x)), without overflow.
func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// space is the embeddings in coordinates of their own: as many as there are
// embeddings, if that is fewer than an embedding has numbers. The solution of a
// regression held back by its length lies in the span of its data, so nothing
// is lost, and fitting takes a fraction of the time.
type space struct {
	mean   []float64
	scale  float64     // root of the mean squared distance from the mean
	rows   [][]float64 // coordinates of each embedding
	data   *mat.Dense  // centred and scaled embeddings
	factor *mat.Cholesky
}

func newSpace(embeddings [][]float32) (*space, error) {
	n, dim := len(embeddings), len(embeddings[0])
	s := &space{mean: make([]float64, dim), data: mat.NewDense(n, dim, nil)}
	for i, e := range embeddings {
		row := s.data.RawRowView(i)
		for j, v := range unit(e) {
			row[j] = v
			s.mean[j] += v / float64(n)
		}
	}
	square := 0.0
	for i := range n {
		row := s.data.RawRowView(i)
		floats.Sub(row, s.mean)
		square += floats.Dot(row, row) / float64(n)
	}
	s.scale = math.Sqrt(square)
	if s.scale < 1e-9 {
		return nil, errors.New("all pictures look exactly the same to the model")
	}
	s.data.Scale(1/s.scale, s.data)
	s.rows = make([][]float64, n)
	if n > dim {
		for i := range n {
			s.rows[i] = s.data.RawRowView(i)
		}
		return s, nil
	}
	// Rows of the Cholesky factor have the inner products of the embeddings. The
	// jitter makes up for embeddings that depend on each other.
	var gram mat.SymDense
	gram.SymOuterK(1, s.data)
	for i := range n {
		gram.SetSym(i, i, gram.At(i, i)+1e-6)
	}
	s.factor = new(mat.Cholesky)
	if !s.factor.Factorize(&gram) {
		return nil, errors.New("the embeddings' inner products cannot be factorised")
	}
	var lower mat.TriDense
	s.factor.LTo(&lower)
	for i := range n {
		s.rows[i] = mat.Row(nil, i, &lower)
	}
	return s, nil
}

// unit is an embedding as a vector of length 1.
func unit(e []float32) []float64 {
	v := make([]float64, len(e))
	square := 0.0
	for j, x := range e {
		v[j] = float64(x)
		square += v[j] * v[j]
	}
	if square > 0 {
		floats.Scale(1/math.Sqrt(square), v)
	}
	return v
}

// outside turns a solution in the space's coordinates into weights and bias for
// embeddings of length 1.
func (s *space) outside(l logistic) (weights []float64, bias float64) {
	weights = make([]float64, len(s.mean))
	if s.factor == nil {
		copy(weights, l.weights)
	} else {
		// w = Xᵀ L⁻ᵀ v, with the coordinates L and the solution v.
		var lower mat.TriDense
		s.factor.LTo(&lower)
		var alpha mat.VecDense
		if err := alpha.SolveVec(lower.T(), mat.NewVecDense(len(l.weights), l.weights)); err != nil {
			var ill mat.Condition
			if !errors.As(err, &ill) {
				panic(fmt.Sprintf("a triangular matrix with a positive diagonal cannot be solved: %v", err))
			}
		}
		var w mat.VecDense
		w.MulVec(s.data.T(), &alpha)
		copy(weights, w.RawVector().Data)
	}
	floats.Scale(1/s.scale, weights)
	return weights, l.bias - floats.Dot(weights, s.mean)
}
