// Package teach learns to tell two kinds of pictures apart from a handful of
// each: it trains a small classifier, a [vision.Head], on the embedding of a
// model that is there already, which takes seconds on a Raspberry Pi.
//
//	pictures ─ changed copies ─ embeddings ─ cross-validation ─ head ─ model folder
//
// How strongly the head is held back (regularisation), how sure it is of itself
// (temperature) and from where on it says yes (threshold) are chosen by
// cross-validation: each is judged on pictures that the trained head has not
// seen, nor changed copies or near-duplicates of them. The same pictures, model
// and seed give the same folder.
//
// The package does not train networks (the Python in models/ does), knows no
// command line, and leaves measures and their display to package evaluate.
// Start with [Learn].
package teach
