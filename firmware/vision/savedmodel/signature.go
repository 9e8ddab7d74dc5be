package savedmodel

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"tuxwatch/firmware/vision"
)

// A signature says by which operations of its graph a SavedModel takes its
// inputs and gives its outputs. TensorFlow's Go binding does not tell, so it is
// read from saved_model.pb.
type signature struct {
	inputs, outputs []endpoint // in the alphabetical order of their names
}

// endpoint is one input or output.
type endpoint struct {
	tensor    vision.Tensor
	operation string // "serving_default_image:0"
	kind      uint64 // number in TensorFlow's enumeration DataType
	shape     []int64
}

const (
	graphFile   = "saved_model.pb"
	servingTag  = "serve"
	servingName = "serving_default"
	// maxGraph bounds what is read: the weights are in other files.
	maxGraph = 1 << 30
)

// readSignature reads the signature for serving of a SavedModel in a folder.
func readSignature(dir string) (signature, error) {
	info, err := os.Stat(filepath.Join(dir, graphFile))
	if err != nil {
		return signature{}, fmt.Errorf("%s is not a SavedModel, a folder with %s: %w", dir, graphFile, err)
	}
	if info.Size() > maxGraph {
		return signature{}, fmt.Errorf("SavedModel %s: %s has %d bytes, more than a graph can have", dir, graphFile, info.Size())
	}
	data, err := os.ReadFile(filepath.Join(dir, graphFile))
	if err != nil {
		return signature{}, fmt.Errorf("SavedModel %s: %w", dir, err)
	}
	s, err := parseSignature(data)
	if err != nil {
		return signature{}, fmt.Errorf("SavedModel %s: %s: %w", dir, graphFile, err)
	}
	return s, nil
}

var errNotServing = errors.New("it has no signature " + servingName + " with the tag " + servingTag + "; export it for serving (Keras: model.export)")

// parseSignature finds the signature in a serialized SavedModel. The numbers of
// fields are those of TensorFlow's saved_model.proto and meta_graph.proto.
func parseSignature(data []byte) (signature, error) {
	var found *signature
	err := fields(data, func(number protowire.Number, graph []byte, _ uint64) error {
		if number != 2 || found != nil { // SavedModel.meta_graphs
			return nil
		}
		serving := false
		var named signature
		has := false
		err := fields(graph, func(number protowire.Number, value []byte, _ uint64) error {
			switch number {
			case 1: // MetaGraphDef.meta_info_def
				return fields(value, func(number protowire.Number, tag []byte, _ uint64) error {
					serving = serving || number == 4 && string(tag) == servingTag // MetaInfoDef.tags
					return nil
				})
			case 5: // MetaGraphDef.signature_def
				name, definition, err := entry(value)
				if err != nil || name != servingName {
					return err
				}
				has = true
				named, err = parseDefinition(definition)
				return err
			}
			return nil
		})
		if serving && has {
			found = &named
		}
		return err
	})
	if err != nil {
		return signature{}, err
	}
	if found == nil {
		return signature{}, errNotServing
	}
	return *found, nil
}

// parseDefinition reads a SignatureDef.
func parseDefinition(data []byte) (signature, error) {
	inputs, outputs := map[string]endpoint{}, map[string]endpoint{}
	err := fields(data, func(number protowire.Number, value []byte, _ uint64) error {
		into := map[protowire.Number]map[string]endpoint{1: inputs, 2: outputs}[number]
		if into == nil {
			return nil
		}
		name, info, err := entry(value)
		if err != nil {
			return err
		}
		into[name], err = parseEndpoint(name, info)
		return err
	})
	inOrder := func(m map[string]endpoint) (list []endpoint) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			list = append(list, m[name])
		}
		return list
	}
	return signature{inOrder(inputs), inOrder(outputs)}, err
}

// parseEndpoint reads a TensorInfo.
func parseEndpoint(name string, data []byte) (endpoint, error) {
	e := endpoint{tensor: vision.Tensor{Name: name}}
	known := false
	err := fields(data, func(number protowire.Number, value []byte, n uint64) error {
		switch number {
		case 1: // TensorInfo.name
			e.operation = string(value)
		case 2: // TensorInfo.dtype
			e.kind = n
		case 3: // TensorInfo.tensor_shape
			known = true
			return fields(value, func(number protowire.Number, value []byte, n uint64) error {
				switch number {
				case 2: // TensorShapeProto.dim
					size := int64(0)
					err := fields(value, func(number protowire.Number, _ []byte, n uint64) error {
						if number == 1 { // Dim.size
							size = int64(n)
						}
						return nil
					})
					e.shape = append(e.shape, size)
					return err
				case 3: // TensorShapeProto.unknown_rank
					known = n == 0
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return e, err
	}
	if e.operation == "" || !known || len(e.shape) > 8 {
		return e, fmt.Errorf("%q is not a tensor of known shape", name)
	}
	for i := range e.shape {
		if i == 0 && e.shape[i] < 0 {
			e.shape[i] = 1 // the batch: one picture at a time
		}
		if e.shape[i] < 1 || e.shape[i] > 1<<16 {
			return e, fmt.Errorf("%q has no fixed size along dimension %d; export the model for one size of picture", name, i)
		}
		e.tensor.Shape = append(e.tensor.Shape, int(e.shape[i]))
	}
	// The numbers of TensorFlow's types.proto.
	types := map[uint64]vision.DataType{1: vision.Float32, 4: vision.Uint8, 6: vision.Int8}
	if e.tensor.Type = types[e.kind]; e.tensor.Type == 0 {
		e.tensor.Type = vision.OtherType
	}
	return e, nil
}

// entry reads an entry of a protobuf map whose key is a string.
func entry(data []byte) (key string, value []byte, err error) {
	err = fields(data, func(number protowire.Number, bytes []byte, _ uint64) error {
		switch number {
		case 1:
			key = string(bytes)
		case 2:
			value = bytes
		}
		return nil
	})
	return key, value, err
}

// fields calls visit for each field of a protobuf message: with its bytes, or
// with its number where it has that.
func fields(data []byte, visit func(number protowire.Number, bytes []byte, n uint64) error) error {
	for len(data) > 0 {
		number, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return fmt.Errorf("it is damaged: %w", protowire.ParseError(size))
		}
		data = data[size:]
		var bytes []byte
		var n uint64
		switch kind {
		case protowire.BytesType:
			bytes, size = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(data)
		default:
			size = protowire.ConsumeFieldValue(number, kind, data)
		}
		if size < 0 {
			return fmt.Errorf("it is damaged: %w", protowire.ParseError(size))
		}
		if err := visit(number, bytes, n); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}
