// Package vision turns the bytes of a picture into predictions: it guards
// against what is not a picture, decodes, turns the picture upright, resizes it
// as the model was trained, fills the model's input, runs the model and reads
// its output.
//
//	JPEG, PNG ─ decode ─ resize ─ tensor ─ Runtime ─ predictions
//
// The one type to start with is [Service]: it holds the current model and is
// what modules and commands ask. A [Classifier] is one loaded model folder; a
// [Runtime] runs model files and is all that is known here of TensorFlow Lite
// (package litert implements it).
//
// The package knows nothing of messages, HTTP or where pictures come from, and
// it does not detect objects in a picture: it classifies the picture as a whole.
//
// # The model folder
//
// A model is a folder with model.tflite, labels.txt (one label a line, in the
// order of the model's output) and, if the defaults do not fit, model.yaml; see
// [Manifest]. A file SHA256SUMS beside them is checked. In a folder that was
// taught on the device a [Head] tells the labels apart.
package vision
