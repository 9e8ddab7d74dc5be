package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/google/renameio/v2"

	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/vision"
)

// collection is a folder of uncertain pictures, within bounds. The uncertainty
// stands in each file's name, so the folder needs no other record, and sorted by
// name the most uncertain come last.
type collection struct {
	dir         string
	maxPictures int
	maxBytes    int64
	kept        []collected // the most certain first, the oldest of them first
}

type collected struct {
	name      string
	thousands int // of uncertainty
	bytes     int64
	embedding []float32 // nil if it is not known
}

var collectedName = regexp.MustCompile(`^unsure-([01]\d{3})-[0-9.-]+\.(jpg|png)$`)

// alikeEnough is the cosine of embeddings from which on two pictures count as
// the same scene.
const alikeEnough = 0.96

// openCollection opens a folder and counts what earlier runs have kept in it.
func openCollection(dir string, maxPictures int, maxBytes int64) (*collection, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder for the pictures: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the folder of kept pictures: %w", err)
	}
	c := &collection{dir: dir, maxPictures: maxPictures, maxBytes: maxBytes}
	for _, e := range entries {
		match := collectedName.FindStringSubmatch(e.Name())
		if match == nil || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // moved away by its owner this moment
		}
		thousands, _ := strconv.Atoi(match[1]) // four digits
		c.add(collected{name: e.Name(), thousands: thousands, bytes: info.Size()})
	}
	// The bounds may have been wider the last time.
	for len(c.kept) > c.maxPictures || c.bytes() > c.maxBytes {
		if err := c.remove(0); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// remember looks at the pictures that are kept already, so that the same scenes
// are not kept again.
func (c *collection) remember(ctx context.Context, classifier *vision.Classifier) error {
	for i := range c.kept {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := pictures.File{Path: filepath.Join(c.dir, c.kept[i].name)}.Read(vision.DefaultMaxBytes)
		if err != nil {
			continue
		}
		if result, err := classifier.Classify(data); err == nil {
			c.kept[i].embedding = result.Embedding
		}
	}
	return nil
}

func (c *collection) add(p collected) {
	at, _ := slices.BinarySearchFunc(c.kept, p, func(a, b collected) int {
		return cmp.Or(cmp.Compare(a.thousands, b.thousands), cmp.Compare(a.name, b.name))
	})
	c.kept = slices.Insert(c.kept, at, p)
}

func (c *collection) bytes() (sum int64) {
	for _, p := range c.kept {
		sum += p.bytes
	}
	return sum
}

func (c *collection) size() (pictures int, bytes int64) { return len(c.kept), c.bytes() }

// remove removes a picture; one that its owner has moved away is forgotten.
func (c *collection) remove(at int) error {
	err := os.Remove(filepath.Join(c.dir, c.kept[at].name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	c.kept = slices.Delete(c.kept, at, at+1)
	return nil
}

// forgetMissing forgets the pictures that their owner has moved away.
func (c *collection) forgetMissing() {
	c.kept = slices.DeleteFunc(c.kept, func(p collected) bool {
		_, err := os.Lstat(filepath.Join(c.dir, p.name))
		return errors.Is(err, os.ErrNotExist)
	})
}

// offer keeps a picture if it belongs to the most uncertain ones that the bounds
// allow. It gives the name of the picture that it is almost the same as, or the
// names of those that were removed for it and its own; no name when it was not
// kept.
func (c *collection) offer(data []byte, unsure float64, embedding []float32, taken time.Time) (like string, removed []string, name string, err error) {
	c.forgetMissing()
	for _, p := range c.kept {
		if cosine(p.embedding, embedding) >= alikeEnough {
			return p.name, nil, "", nil
		}
	}
	thousands := int(math.Round(unsure * 1000))
	// How many of the most certain have to go.
	leave, free := 0, c.maxBytes-c.bytes()
	for len(c.kept)-leave+1 > c.maxPictures || free < int64(len(data)) {
		if leave == len(c.kept) || c.kept[leave].thousands >= thousands {
			return "", nil, "", nil
		}
		free += c.kept[leave].bytes
		leave++
	}
	for range leave {
		removed = append(removed, c.kept[0].name)
		if err := c.remove(0); err != nil {
			return "", nil, "", err
		}
	}
	ending := "jpg"
	if len(data) > 0 && data[0] == 0x89 {
		ending = "png"
	}
	name = fmt.Sprintf("unsure-%04d-%s.%s", thousands, taken.UTC().Format("20060102-150405.000000"), ending)
	if err := renameio.WriteFile(filepath.Join(c.dir, name), data, 0o644); err != nil {
		return "", nil, "", err
	}
	c.add(collected{name, thousands, int64(len(data)), embedding})
	return "", removed, name, nil
}

// cosine of two embeddings; 0 where one is not known.
func cosine(a, b []float32) float64 {
	if len(a) == 0 || len(a) != len(b) {
		return 0
	}
	dot, aa, bb := 0.0, 0.0, 0.0
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return dot / math.Sqrt(aa*bb)
}
