//go:build race

package teach

const raceDetector = true
