package vision

import "fmt"

// A Runtime loads models of one file format and runs them. Package litert has
// the one for TensorFlow Lite files; tests put fakes in its place.
type Runtime interface {
	// Name says what runs the models, for logs: "LiteRT 2.3.0".
	Name() string
	// Open loads the model in a file, to run on so many threads (at least 1).
	// The caller closes it.
	Open(file string, threads int) (Model, error)
}

// A Model is a loaded network. It is not safe for concurrent use.
type Model interface {
	Inputs() []Tensor
	Outputs() []Tensor
	// Invoke runs the network once: inputs[i] is the data of Inputs()[i],
	// and outputs[i] receives the data of Outputs()[i]; each slice has
	// exactly the tensor's Bytes.
	Invoke(inputs, outputs [][]byte) error
	Close() error
}

// DataType is the type of a tensor's elements.
type DataType int

// The types that a classifier's input and output may have. Elements are stored
// in the machine's byte order (little-endian on all that are supported).
const (
	Float32 DataType = iota + 1
	Uint8
	Int8
	// OtherType is any type that a picture classifier cannot use.
	OtherType
)

func (t DataType) String() string {
	switch t {
	case Float32:
		return "float32"
	case Uint8:
		return "uint8"
	case Int8:
		return "int8"
	default:
		return "another type"
	}
}

func (t DataType) size() int {
	if t == Float32 {
		return 4
	}
	return 1
}

// Tensor describes an input or output of a model.
type Tensor struct {
	Name  string
	Shape []int // for pictures: batch, height, width, channels
	Type  DataType
	// Scale and ZeroPoint give a quantised element q the value
	// Scale × (q − ZeroPoint). Scale is 0 when the tensor is not quantised.
	Scale     float32
	ZeroPoint int
}

// Elements is the number of elements in the tensor.
func (t Tensor) Elements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Bytes is the size of the tensor's data.
func (t Tensor) Bytes() int { return t.Elements() * t.Type.size() }

func (t Tensor) String() string {
	return fmt.Sprintf("%q (%v, shape %v)", t.Name, t.Type, t.Shape)
}
