package litert_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

const testdata = "../testdata"

type goldenTensor struct {
	Name      string
	Shape     []int
	Type      string
	Scale     float64
	ZeroPoint int `json:"zero_point"`
	Data      []float64
}

type goldenModel struct {
	Input   goldenTensor
	Outputs []goldenTensor
}

func loadGolden(t *testing.T) map[string]goldenModel {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testdata, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Models map[string]goldenModel }
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	return golden.Models
}

func load(t testing.TB) *litert.Runtime {
	t.Helper()
	lib, err := litert.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func modelFile(name string) string { return filepath.Join(testdata, "models", name, "model.tflite") }

// pattern is the input that testdata/make.py gave to Python's interpreter.
func pattern(tensor vision.Tensor) []byte {
	var data []byte
	for i := range tensor.Elements() {
		value := (i*37 + i/29*11) % 256
		switch tensor.Type {
		case vision.Float32:
			data = binary.NativeEndian.AppendUint32(data, math.Float32bits(float32(value)/127.5-1))
		case vision.Int8:
			data = append(data, byte(int8(value-128)))
		default:
			data = append(data, byte(value))
		}
	}
	return data
}

func numbers(tensor vision.Tensor, data []byte) []float64 {
	values := make([]float64, tensor.Elements())
	for i := range values {
		switch tensor.Type {
		case vision.Float32:
			values[i] = float64(math.Float32frombits(binary.NativeEndian.Uint32(data[4*i:])))
		case vision.Int8:
			values[i] = float64(int8(data[i]))
		default:
			values[i] = float64(data[i])
		}
	}
	return values
}

func outputsOf(m vision.Model) [][]byte {
	var outputs [][]byte
	for _, tensor := range m.Outputs() {
		outputs = append(outputs, make([]byte, tensor.Bytes()))
	}
	return outputs
}

func describes(tensor vision.Tensor, golden goldenTensor) bool {
	return slices.Equal(tensor.Shape, golden.Shape) && tensor.Type.String() == golden.Type &&
		tensor.Scale == float32(golden.Scale) && tensor.ZeroPoint == golden.ZeroPoint
}

// TestGolden holds the pinned library against what Python's interpreter of the
// same release answered: the functions are declared by hand, so a library that
// differs must not go unnoticed.
func TestGolden(t *testing.T) {
	lib := load(t)
	for name, golden := range loadGolden(t) {
		for threads := 1; threads <= 2; threads++ {
			t.Run(fmt.Sprintf("%s/%d threads", name, threads), func(t *testing.T) {
				model, err := lib.Open(modelFile(name), threads)
				if err != nil {
					t.Fatal(err)
				}
				defer model.Close()
				if len(model.Inputs()) != 1 || !describes(model.Inputs()[0], golden.Input) {
					t.Fatalf("inputs %+v, want %+v", model.Inputs(), golden.Input)
				}
				outputs := outputsOf(model)
				if err := model.Invoke([][]byte{pattern(model.Inputs()[0])}, outputs); err != nil {
					t.Fatal(err)
				}
				if len(outputs) != len(golden.Outputs) {
					t.Fatalf("%d outputs, want %d", len(outputs), len(golden.Outputs))
				}
				for _, want := range golden.Outputs {
					// The signature may list them in another order.
					i := slices.IndexFunc(model.Outputs(), func(o vision.Tensor) bool { return describes(o, want) })
					if i < 0 {
						t.Fatalf("no output like %s %v in %+v", want.Name, want.Shape, model.Outputs())
					}
					tolerance := 0.0 // quantised: to the last bit
					if model.Outputs()[i].Type == vision.Float32 {
						tolerance = 1e-5
					}
					for j, got := range numbers(model.Outputs()[i], outputs[i]) {
						if math.Abs(got-want.Data[j]) > tolerance {
							t.Errorf("output %s[%d] = %v, want %v", want.Name, j, got, want.Data[j])
						}
					}
				}
			})
		}
	}
}

func TestBadModelFiles(t *testing.T) {
	lib := load(t)
	whole, err := os.ReadFile(modelFile("uint8"))
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 5000)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(random)
	for name, content := range map[string][]byte{
		"empty":                nil,
		"text":                 []byte("this is not a model"),
		"random":               random,
		"random with the mark": append([]byte("\x1c\x00\x00\x00TFL3"), random...),
		"half":                 whole[:len(whole)/2],
		"last byte missing":    whole[:len(whole)-1],
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "model.tflite")
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			model, err := lib.Open(file, 1)
			if err == nil {
				model.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "not a TensorFlow Lite model") {
				t.Errorf("the error does not name the file and what is wrong: %v", err)
			}
		})
	}
	if _, err := lib.Open(filepath.Join(t.TempDir(), "none.tflite"), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestInvokeChecksSizes(t *testing.T) {
	model, err := load(t).Open(modelFile("int8"), 1)
	if err != nil {
		t.Fatal(err)
	}
	good := pattern(model.Inputs()[0])
	for name, call := range map[string]func() error{
		"no input":       func() error { return model.Invoke(nil, outputsOf(model)) },
		"short input":    func() error { return model.Invoke([][]byte{good[1:]}, outputsOf(model)) },
		"long input":     func() error { return model.Invoke([][]byte{append(good, 0)}, outputsOf(model)) },
		"no output":      func() error { return model.Invoke([][]byte{good}, nil) },
		"short output":   func() error { return model.Invoke([][]byte{good}, [][]byte{make([]byte, 1)}) },
		"two for one in": func() error { return model.Invoke([][]byte{good, good}, outputsOf(model)) },
	} {
		if err := call(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := model.Invoke([][]byte{good}, outputsOf(model)); err != nil {
		t.Error(err)
	}
	model.Close()
	model.Close()
	if err := model.Invoke([][]byte{good}, outputsOf(model)); err == nil {
		t.Error("ran after Close")
	}
}

func TestLoad(t *testing.T) {
	first := load(t)
	if again := load(t); again != first {
		t.Error("a second Load loaded the library again")
	}
	missing := filepath.Join(t.TempDir(), "libLiteRt.so")
	if _, err := litert.Load(missing); !errors.Is(err, litert.ErrNoLibrary) {
		t.Errorf("missing library: %v", err)
	}
	if err := os.WriteFile(missing, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := litert.Load(missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("damaged library: %v", err)
	}
	another := map[string]string{"amd64": "/lib/x86_64-linux-gnu/libm.so.6", "arm64": "/lib/aarch64-linux-gnu/libm.so.6"}[runtime.GOARCH]
	if _, err := os.Stat(another); err == nil {
		if _, err := litert.Load(another); err == nil || !strings.Contains(err.Error(), "does not have the function") {
			t.Errorf("another library: %v", err)
		}
	}
}

// TestOpenCloseLeaks opens and closes models, good and bad, and expects the
// process not to grow: the daemon reloads models for years.
func TestOpenCloseLeaks(t *testing.T) {
	lib := load(t)
	bad := filepath.Join(t.TempDir(), "model.tflite")
	if err := os.WriteFile(bad, []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	cycles := func(n int) {
		for range n {
			for _, name := range []string{"uint8", "float3", "int8"} {
				model, err := lib.Open(modelFile(name), 2)
				if err != nil {
					t.Fatal(err)
				}
				if err := model.Invoke([][]byte{pattern(model.Inputs()[0])}, outputsOf(model)); err != nil {
					t.Fatal(err)
				}
				model.Close()
			}
			if _, err := lib.Open(bad, 2); err == nil {
				t.Fatal("opened a bad model")
			}
		}
	}
	cycles(200) // until the allocator's pools have their size
	// A leak is there each time; Go's heap and the allocator's pools grow once in
	// a while.
	var grown []int
	for range 5 {
		before := residentKiB(t)
		cycles(100)
		grown = append(grown, residentKiB(t)-before)
		if grown[len(grown)-1] <= 1024 { // 300 copies of the models alone would be 1200
			return
		}
	}
	t.Errorf("each 300 open/close cycles made the process grow, by %v KiB", grown)
}

func residentKiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmRSS in /proc/self/status")
	return 0
}
