//go:build tensorflow

package savedmodel

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	tf "github.com/tensorflow/tensorflow/tensorflow/go"
	"google.golang.org/protobuf/encoding/protowire"

	"tuxwatch/firmware/vision"
)

// ErrNotBuilt is what Load returns in programs that were built without
// TensorFlow; this one was built with it.
var ErrNotBuilt = errors.New("this program was built without TensorFlow")

// Available is whether this program was built with TensorFlow.
const Available = true

// Load gives the runtime. TensorFlow is linked with the program; the error is nil.
func Load() (vision.Runtime, error) {
	return runtime{}, nil
}

type runtime struct{}

func (runtime) Name() string { return "TensorFlow " + tf.Version() }

// Open loads the SavedModel in a folder.
func (runtime) Open(dir string, threads int) (vision.Model, error) {
	s, err := readSignature(dir)
	if err != nil {
		return nil, err
	}
	if len(s.outputs) == 0 {
		return nil, fmt.Errorf("SavedModel %s: it has no output", dir)
	}
	loaded, err := tf.LoadSavedModel(dir, []string{servingTag}, &tf.SessionOptions{Config: configuration(threads)})
	if err != nil {
		return nil, fmt.Errorf("loading the SavedModel %s: %w", dir, err)
	}
	m := &model{dir: dir, signature: s, session: loaded.Session}
	find := func(e endpoint) tf.Output {
		name, index, _ := strings.Cut(e.operation, ":")
		i, numberErr := strconv.Atoi(index)
		operation := loaded.Graph.Operation(name)
		if operation == nil || index != "" && (numberErr != nil || i < 0 || i >= operation.NumOutputs()) {
			err = fmt.Errorf("SavedModel %s: its signature names %s, which its graph does not have", dir, e.operation)
			return tf.Output{}
		}
		return operation.Output(i)
	}
	for _, in := range s.inputs {
		m.feeds = append(m.feeds, find(in))
	}
	for _, out := range s.outputs {
		m.fetches = append(m.fetches, find(out))
	}
	if err == nil {
		err = m.try()
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// try runs the model on zeros. TensorFlow loads a model whose weights are
// missing; it shows only now. The first run is also by far the slowest.
func (m *model) try() error {
	buffers := func(endpoints []endpoint) (list [][]byte) {
		for _, e := range endpoints {
			list = append(list, make([]byte, e.tensor.Bytes()))
		}
		return list
	}
	for _, e := range slices.Concat(m.signature.inputs, m.signature.outputs) {
		if e.tensor.Type == vision.OtherType {
			return nil // the classifier says why it cannot use it
		}
	}
	return m.Invoke(buffers(m.signature.inputs), buffers(m.signature.outputs))
}

// configuration is a serialized ConfigProto of TensorFlow's config.proto: so
// many threads in an operation, and one operation at a time.
func configuration(threads int) []byte {
	var b []byte
	b = protowire.AppendTag(b, 2, protowire.VarintType) // intra_op_parallelism_threads
	b = protowire.AppendVarint(b, uint64(threads))
	b = protowire.AppendTag(b, 5, protowire.VarintType) // inter_op_parallelism_threads
	b = protowire.AppendVarint(b, 1)
	b = protowire.AppendTag(b, 9, protowire.VarintType) // use_per_session_threads
	return protowire.AppendVarint(b, 1)
}

type model struct {
	dir            string
	signature      signature
	session        *tf.Session
	feeds, fetches []tf.Output
}

func tensors(endpoints []endpoint) []vision.Tensor {
	var list []vision.Tensor
	for _, e := range endpoints {
		list = append(list, e.tensor)
	}
	return list
}

func (m *model) Inputs() []vision.Tensor  { return tensors(m.signature.inputs) }
func (m *model) Outputs() []vision.Tensor { return tensors(m.signature.outputs) }

func (m *model) Invoke(inputs, outputs [][]byte) error {
	feeds := map[tf.Output]*tf.Tensor{}
	for i, in := range m.signature.inputs {
		tensor, err := tf.ReadTensor(tf.DataType(in.kind), in.shape, bytes.NewReader(inputs[i]))
		if err != nil {
			return fmt.Errorf("SavedModel %s: input %v: %w", m.dir, in.tensor, err)
		}
		feeds[m.feeds[i]] = tensor
	}
	results, err := m.session.Run(feeds, m.fetches, nil)
	if err != nil {
		return fmt.Errorf("running the SavedModel %s: %w", m.dir, err)
	}
	for i, result := range results {
		var data bytes.Buffer
		if _, err := result.WriteContentsTo(&data); err != nil {
			return fmt.Errorf("SavedModel %s: output %v: %w", m.dir, m.signature.outputs[i].tensor, err)
		}
		if data.Len() != len(outputs[i]) {
			return fmt.Errorf("SavedModel %s: output %v came as shape %v", m.dir, m.signature.outputs[i].tensor, result.Shape())
		}
		copy(outputs[i], data.Bytes())
	}
	return nil
}

func (m *model) Close() error { return m.session.Close() }
