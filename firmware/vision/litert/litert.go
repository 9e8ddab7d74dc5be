// Package litert runs TensorFlow Lite models with LiteRT 2.3.0, Google's
// runtime for them, through its C API. It implements vision.Runtime and is not
// meant for anything else: start with [Load].
//
// The library libLiteRt.so is opened when it is first needed rather than linked:
// programs build, start and cross-compile without it, and say plainly what to
// do when it is missing. scripts/fetch-litert gets it.
package litert

// #cgo CFLAGS: -std=c11 -Wall -Wextra -D_GNU_SOURCE
// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "runtime.h"
import "C"

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"tuxwatch/firmware/vision"
)

// Version of LiteRT that this package is written for.
const Version = "2.3.0"

const libraryName = "libLiteRt.so"

// ErrNoLibrary is returned by Load when there is no libLiteRt.so to load.
var ErrNoLibrary = errors.New("TensorFlow Lite library (" + libraryName + ") not found")

// Runtime is a loaded LiteRT library. It is safe for concurrent use.
type Runtime struct {
	path string
	lib  *C.lrt_library
}

var (
	loaded   = map[string]*Runtime{} // by path; a library stays loaded
	loadedMu sync.Mutex

	opening sync.Mutex // lrt_open is for one at a time
)

// SearchPath lists the files that Load looks for, in order: beside the program
// (../lib, as in build/ and in /usr/local), where the Debian package puts it,
// and build/lib of the source tree that the program was compiled from. A
// program compiled with -trimpath, as released ones are, has no such tree.
func SearchPath() []string {
	var files []string
	if program, err := os.Executable(); err == nil {
		if program, err = filepath.EvalSymlinks(program); err == nil {
			files = append(files, filepath.Join(filepath.Dir(program), "..", "lib", libraryName))
		}
	}
	files = append(files, filepath.Join("/usr/lib/tuxwatch", libraryName))
	if _, source, _, ok := runtime.Caller(0); ok && filepath.IsAbs(source) {
		root := filepath.Join(filepath.Dir(source), "..", "..", "..")
		files = append(files, filepath.Join(root, "build", "lib", libraryName))
	}
	return files
}

// Load loads the LiteRT library: the given file, or, when that is empty, the
// first one that exists in SearchPath. Loading the same file again gives the
// same Runtime. The error is ErrNoLibrary when there is none.
func Load(library string) (*Runtime, error) {
	if library == "" {
		searched := SearchPath()
		for _, file := range searched {
			if _, err := os.Stat(file); err == nil {
				library = file
				break
			}
		}
		if library == "" {
			return nil, fmt.Errorf("%w (looked for %s); install the package tuxwatch, or run make build in the source tree",
				ErrNoLibrary, strings.Join(searched, ", "))
		}
	}
	if _, err := os.Stat(library); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLibrary, err)
	}
	library, err := filepath.Abs(library)
	if err != nil {
		return nil, fmt.Errorf("loading the TensorFlow Lite library: %w", err)
	}

	loadedMu.Lock()
	defer loadedMu.Unlock()
	if r, ok := loaded[library]; ok {
		return r, nil
	}
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	var failure C.lrt_error
	lib := C.lrt_load(name, &failure)
	if lib == nil {
		return nil, fmt.Errorf("loading the TensorFlow Lite library %s: %w; it has to be LiteRT %s (scripts/fetch-litert gets it)",
			library, failed(&failure), Version)
	}
	r := &Runtime{path: library, lib: lib}
	loaded[library] = r
	return r, nil
}

// Name is "LiteRT 2.3.0".
func (r *Runtime) Name() string { return "LiteRT " + Version }

// Library is the file that was loaded.
func (r *Runtime) Library() string { return r.path }

// Open loads a .tflite file.
func (r *Runtime) Open(file string, threads int) (vision.Model, error) {
	if info, err := os.Stat(filepath.Join(file, "saved_model.pb")); err == nil && info.Mode().IsRegular() {
		return nil, fmt.Errorf("opening model %s: it is a SavedModel, which TensorFlow runs and TensorFlow Lite does not; "+
			"choose the runtime savedmodel, or convert it to a .tflite file", file)
	}
	content, size, err := read(file)
	if err != nil {
		return nil, fmt.Errorf("opening model %s: %w", file, err)
	}
	var failure C.lrt_error
	opening.Lock()
	handle := C.lrt_open(r.lib, content, C.size_t(size), C.int(max(threads, 1)), &failure)
	opening.Unlock()
	if handle == nil {
		return nil, fmt.Errorf("opening model %s: %w", file, failed(&failure))
	}
	m := &model{file: file, handle: handle}
	for i := range C.lrt_inputs(handle) {
		m.inputs = append(m.inputs, describe(C.lrt_input(handle, i)))
	}
	for i := range C.lrt_outputs(handle) {
		m.outputs = append(m.outputs, describe(C.lrt_output(handle, i)))
	}
	return m, nil
}

// read reads a file into memory that lrt_open takes over: a model is too large to
// lie in Go's heap as well, if only for a moment.
func read(file string) (content unsafe.Pointer, size int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, withoutPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, withoutPath(err)
	}
	if size = info.Size(); size == 0 {
		return nil, 0, fmt.Errorf("%s: the file is empty", statusText(statusInvalidModel))
	}
	if content = C.lrt_content(C.size_t(size)); content == nil {
		return nil, 0, errors.New("out of memory")
	}
	if _, err := io.ReadFull(f, unsafe.Slice((*byte)(content), size)); err != nil {
		C.free(content)
		return nil, 0, withoutPath(err)
	}
	return content, size, nil
}

// withoutPath drops the file's name from an error, where it is said already.
func withoutPath(err error) error {
	var onPath *os.PathError
	if errors.As(err, &onPath) {
		return fmt.Errorf("%s: %w", onPath.Op, onPath.Err)
	}
	return err
}

func describe(t *C.lrt_tensor) vision.Tensor {
	tensor := vision.Tensor{
		Name:      C.GoString(&t.name[0]),
		Scale:     float32(t.scale),
		ZeroPoint: int(t.zero_point),
	}
	for d := range t.rank {
		tensor.Shape = append(tensor.Shape, int(t.dims[d]))
	}
	switch t._type { // LiteRtElementType, litert_model_types.h
	case 1:
		tensor.Type = vision.Float32
	case 3:
		tensor.Type = vision.Uint8
	case 9:
		tensor.Type = vision.Int8
	default:
		tensor.Type = vision.OtherType
	}
	return tensor
}

type model struct {
	file            string
	handle          *C.lrt_model // nil once closed
	inputs, outputs []vision.Tensor
}

func (m *model) Inputs() []vision.Tensor  { return m.inputs }
func (m *model) Outputs() []vision.Tensor { return m.outputs }

func (m *model) Invoke(inputs, outputs [][]byte) error {
	if m.handle == nil {
		return fmt.Errorf("running model %s: it is closed", m.file)
	}
	if err := m.check(inputs, outputs); err != nil {
		return fmt.Errorf("running model %s: %w", m.file, err)
	}
	var failure C.lrt_error
	for i, data := range inputs {
		if C.lrt_write(m.handle, C.int(i), unsafe.Pointer(unsafe.SliceData(data)), &failure) != 0 {
			return fmt.Errorf("running model %s: input %d: %w", m.file, i, failed(&failure))
		}
	}
	if C.lrt_run(m.handle, &failure) != 0 {
		return fmt.Errorf("running model %s: %w", m.file, failed(&failure))
	}
	for i, data := range outputs {
		if C.lrt_read(m.handle, C.int(i), unsafe.Pointer(unsafe.SliceData(data)), &failure) != 0 {
			return fmt.Errorf("running model %s: output %d: %w", m.file, i, failed(&failure))
		}
	}
	return nil
}

// check holds the slices' sizes against LiteRT's own, since C copies that many.
func (m *model) check(inputs, outputs [][]byte) error {
	if len(inputs) != len(m.inputs) || len(outputs) != len(m.outputs) {
		return fmt.Errorf("it has %d inputs and %d outputs, but was given %d and %d",
			len(m.inputs), len(m.outputs), len(inputs), len(outputs))
	}
	for i, data := range inputs {
		if want := int(C.lrt_input(m.handle, C.int(i)).bytes); len(data) != want {
			return fmt.Errorf("input %d takes %d bytes, but was given %d", i, want, len(data))
		}
	}
	for i, data := range outputs {
		if want := int(C.lrt_output(m.handle, C.int(i)).bytes); len(data) != want {
			return fmt.Errorf("output %d has %d bytes, but was given room for %d", i, want, len(data))
		}
	}
	return nil
}

func (m *model) Close() error {
	if m.handle != nil {
		C.lrt_close(m.handle)
		m.handle = nil
	}
	return nil
}

// failed makes an error of what the C code reports. The step is the C call as
// it is written there; its name is enough.
func failed(e *C.lrt_error) error {
	step := C.GoString(e.step)
	text := C.GoString(&e.text[0])
	if e.status == 0 {
		if text != "" {
			return errors.New(text)
		}
		return errors.New(step)
	}
	step, _, _ = strings.Cut(step, "(")
	if text != "" {
		return fmt.Errorf("%s (%s: %s)", statusText(int(e.status)), step, text)
	}
	return fmt.Errorf("%s (%s)", statusText(int(e.status)), step)
}

const statusInvalidModel = 501

// statusText says what a LiteRtStatus means (litert_common.h).
func statusText(status int) string {
	switch status {
	case 1:
		return "LiteRT does not accept it: status 1"
	case 2:
		return "out of memory: status 2"
	case 3:
		return "it cannot be run as it is: status 3"
	case 5:
		return "it uses something that LiteRT does not support: status 5"
	case 500:
		return "it cannot be read: status 500"
	case statusInvalidModel:
		return "it is not a TensorFlow Lite model, or is damaged"
	case 504:
		return "it cannot be compiled for this processor: status 504"
	default:
		return fmt.Sprintf("LiteRT failed: status %d", status)
	}
}
