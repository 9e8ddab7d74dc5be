// Package savedmodel runs TensorFlow SavedModels with TensorFlow itself. It
// implements vision.Runtime and is not meant for anything else: start with
// [Load].
//
// It is for workstations, where a model may be large, and for holding the model
// that devices run against the one it was made from. TensorFlow is 860 MB, so
// programs have this only when they are built for it (build tag tensorflow, on
// amd64; "make build-tensorflow" does all that is needed). Without it, Load says
// so.
//
// TensorFlow logs to the standard error output by itself; with
// TF_CPP_MIN_LOG_LEVEL=2 in the environment of the program it says little.
//
// # The model folder
//
// A SavedModel is a folder, with saved_model.pb and variables. The manifest
// model.yaml names it (model: saved_model), or lies in it together with
// labels.txt (model: .). The model's outputs are numbered in the alphabetical
// order of their names in its signature, since a SavedModel gives them no other.
package savedmodel
