package main

import (
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{7}, 7}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 2}, 3}, {[]float64{100, 1, 3, 5}, 4}} {
		if got := median(c.values); got != c.want {
			t.Errorf("of %v: %v, want %v", c.values, got, c.want)
		}
	}
}

func TestSince(t *testing.T) {
	if ago, err := since("22500000\n31.75 12.00\n"); err != nil || ago != 9250*time.Millisecond {
		t.Errorf("%v %v", ago, err)
	}
	for _, said := range []string{"", "0\n31.75 12.00\n", "22500000\n", "22500000\n21.00 12.00\n"} {
		if ago, err := since(said); err == nil {
			t.Errorf("of %q: %v", said, ago)
		}
	}
}
