package savedmodel

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"tuxwatch/firmware/vision"
)

// message puts fields together: field numbers, each followed by what the field
// holds: a number, or bytes.
func message(fields ...any) []byte {
	var b []byte
	for i := 0; i < len(fields); i += 2 {
		number := protowire.Number(fields[i].(int))
		switch value := fields[i+1].(type) {
		case int:
			b = protowire.AppendTag(b, number, protowire.VarintType)
			b = protowire.AppendVarint(b, uint64(value))
		case string:
			b = protowire.AppendTag(b, number, protowire.BytesType)
			b = protowire.AppendString(b, value)
		case []byte:
			b = protowire.AppendTag(b, number, protowire.BytesType)
			b = protowire.AppendBytes(b, value)
		}
	}
	return b
}

func tensor(operation string, kind int, shape ...int) []byte {
	var dims []any
	for _, size := range shape {
		dims = append(dims, 2, message(1, size, 2, "a dimension's name"))
	}
	return message(1, operation, 2, kind, 3, message(dims...))
}

// graph is a serialized SavedModel with one signature.
func graph(tag, name string, definition []byte) []byte {
	return message(1, 1, 2, message(1, message(4, "other", 4, tag), 2, "the graph itself", 5, message(1, name, 2, definition)))
}

func TestSignature(t *testing.T) {
	definition := message(
		1, message(1, "image", 2, tensor("serving_default_image:0", 1, -1, 224, 160, 3)),
		2, message(1, "probabilities", 2, tensor("Call:1", 1, -1, 2)),
		2, message(1, "embedding", 2, tensor("Call:0", 1, 1, 1280)),
		2, message(1, "bytes", 2, tensor("Call:2", 4, 1)),
		2, message(1, "text", 2, tensor("Call:3", 7, 1)),
		3, "tensorflow/serving/predict",
	)
	s, err := parseSignature(graph("serve", "serving_default", definition))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.inputs) != 1 || s.inputs[0].operation != "serving_default_image:0" || s.inputs[0].tensor.Name != "image" ||
		!slices.Equal(s.inputs[0].tensor.Shape, []int{1, 224, 160, 3}) || s.inputs[0].tensor.Type != vision.Float32 {
		t.Errorf("inputs %+v", s.inputs)
	}
	var names []string
	for _, out := range s.outputs {
		names = append(names, out.tensor.Name+"="+out.operation+" "+out.tensor.Type.String())
	}
	if got, want := strings.Join(names, ", "), "bytes=Call:2 uint8, embedding=Call:0 float32, probabilities=Call:1 float32, text=Call:3 another type"; got != want {
		t.Errorf("outputs %s, want %s", got, want)
	}
}

func TestSignaturesThatCannotBeUsed(t *testing.T) {
	picture := func(info []byte) []byte { return message(1, message(1, "image", 2, info)) }
	whole := graph("serve", "serving_default", picture(tensor("in", 1, 1, 8, 8, 3)))
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"empty":              {nil, "signature"},
		"for training":       {graph("train", "serving_default", picture(tensor("in", 1, 1, 8, 8, 3))), "serve"},
		"another signature":  {graph("serve", "other", picture(tensor("in", 1, 1, 8, 8, 3))), "serving_default"},
		"cut off":            {whole[:len(whole)-1], "damaged"},
		"any size":           {graph("serve", "serving_default", picture(tensor("in", 1, 1, -1, -1, 3))), "one size of picture"},
		"enormous":           {graph("serve", "serving_default", picture(tensor("in", 1, 1, 1<<40, 8, 3))), "fixed size"},
		"any rank":           {graph("serve", "serving_default", picture(message(1, "in", 2, 1, 3, message(3, 1)))), "known shape"},
		"not a dense tensor": {graph("serve", "serving_default", picture(message(4, "sparse", 2, 1))), "known shape"},
	} {
		if _, err := parseSignature(c.data); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadSignature(t *testing.T) {
	dir := t.TempDir()
	if _, err := readSignature(dir); err == nil || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), dir+" is not a SavedModel") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, graphFile), graph("serve", "serving_default", nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSignature(dir); err != nil {
		t.Error(err)
	}
}

func FuzzSignature(f *testing.F) {
	f.Add(graph("serve", "serving_default", message(1, message(1, "image", 2, tensor("in", 1, 1, 8, 8, 3)))))
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSignature(data)
		if err != nil {
			return
		}
		for _, e := range slices.Concat(s.inputs, s.outputs) {
			if e.operation == "" || len(e.tensor.Shape) != len(e.shape) {
				t.Errorf("%+v", e)
			}
		}
	})
}
