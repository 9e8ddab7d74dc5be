package vision

import (
	"fmt"
	"math"
	"slices"
)

// An Activation is what is still to be applied to a model's output to make it
// probabilities.
type Activation string

const (
	// Auto takes an output as it is where it is probabilities already: each
	// between 0 and 1, and 1 together. It applies Softmax to any other.
	Auto Activation = "auto"
	// None takes the output as it is, for models that end in a softmax or,
	// with several labels true at a time, a sigmoid.
	None Activation = "none"
	// Softmax is for models that end in logits of which one label is true.
	Softmax Activation = "softmax"
	// Sigmoid is for logits of which several labels may be true.
	Sigmoid Activation = "sigmoid"
)

func (a Activation) validate() error {
	if !slices.Contains([]Activation{Auto, None, Softmax, Sigmoid}, a) {
		return fmt.Errorf("unknown activation %q (auto, none, softmax, sigmoid)", a)
	}
	return nil
}

// resolve decides Auto beforehand where the output's type does: a quantised one
// that can only hold 0 … 1 holds probabilities.
func (a Activation) resolve(out Tensor) Activation {
	if a != Auto || out.Scale == 0 || out.Type == Float32 {
		return a
	}
	least, most := 0.0, 255.0
	if out.Type == Int8 {
		least, most = -128, 127
	}
	scale, zero := float64(out.Scale), float64(out.ZeroPoint)
	if scale*(least-zero) > -0.01 && scale*(most-zero) < 1.01 {
		return None
	}
	return Softmax
}

// apply returns values between 0 and 1. It may change its argument.
func (a Activation) apply(values []float64) []float64 {
	if a == Auto {
		a = Softmax
		if areProbabilities(values) {
			a = None
		}
	}
	switch a {
	case Softmax:
		highest := slices.Max(values)
		sum := 0.0
		for i, v := range values {
			values[i] = math.Exp(v - highest)
			sum += values[i]
		}
		for i := range values {
			values[i] /= sum
		}
	case Sigmoid:
		for i, v := range values {
			values[i] = 1 / (1 + math.Exp(-v))
		}
	default:
		for i, v := range values {
			values[i] = min(max(v, 0), 1)
		}
	}
	return values
}

func areProbabilities(values []float64) bool {
	const tolerance = 0.01
	sum := 0.0
	for _, v := range values {
		if v < -tolerance || v > 1+tolerance {
			return false
		}
		sum += v
	}
	return math.Abs(sum-1) < tolerance*float64(len(values))
}
