package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"tuxwatch/firmware/message"
	"tuxwatch/firmware/outbox"
)

const (
	outboxRound = time.Second
	producers   = 8
)

// alert is a message as it comes from filterModule.
func alert() message.Message {
	return message.Message{
		ID:              "7f9c24e5-1d0a-4a6b-9a52-7b8d3f6c1e04",
		Body:            []byte(`{"machine":{"temperature":31.27,"pressure":2.17},"ambient":{"temperature":20.8,"humidity":25},"timeCreated":"2026-11-22T11:02:03.123Z"}`),
		Properties:      map[string]string{"MessageType": "Alert"},
		ContentType:     "application/json",
		ContentEncoding: "utf-8",
		Source:          message.Source{Module: "filterModule", Output: "output1"},
	}
}

// keeper is somewhere that messages can be put, each on disk when put returns.
type keeper struct {
	name string
	open func(dir string) (put func() error, closeIt func() error, err error)
}

var (
	tuxwatchOutbox = keeper{"tuxwatch outbox", openOutbox}
	bboltUpdate    = keeper{"bbolt v1.4.3, a commit each", func(dir string) (func() error, func() error, error) {
		return openBbolt(dir, (*bbolt.DB).Update)
	}}
	bboltBatch = keeper{"bbolt v1.4.3, Batch", func(dir string) (func() error, func() error, error) {
		return openBbolt(dir, (*bbolt.DB).Batch)
	}}
)

func openOutbox(dir string) (put, closeIt func() error, err error) {
	o, err := outbox.Open(dir, outbox.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, nil, err
	}
	return func() error { return o.Put(context.Background(), alert(), 9, 0) }, o.Close, nil
}

func openBbolt(dir string, commit func(*bbolt.DB, func(*bbolt.Tx) error) error) (put, closeIt func() error, err error) {
	db, err := bbolt.Open(filepath.Join(dir, "peer.db"), 0o600, nil)
	if err != nil {
		return nil, nil, err
	}
	bucket := []byte("messages")
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	put = func() error {
		value, err := json.Marshal(alert())
		if err != nil {
			return err
		}
		return commit(db, func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			sequence, err := b.NextSequence()
			if err != nil {
				return err
			}
			return b.Put(binary.BigEndian.AppendUint64(nil, sequence), value)
		})
	}
	return put, db.Close, nil
}

// rate gives the puts per second of so many producers over the time.
func (k keeper) rate(ctx context.Context, dir string, producers int, long time.Duration) (float64, error) {
	put, closeIt, err := k.open(dir)
	if err != nil {
		return 0, fmt.Errorf("opening %s: %w", k.name, err)
	}
	for range 10 { // the files are there and have grown
		if err := put(); err != nil {
			return 0, errors.Join(fmt.Errorf("%s: %w", k.name, err), closeIt())
		}
	}
	var puts atomic.Int64
	var workers sync.WaitGroup
	failures := make(chan error, producers)
	start := time.Now()
	for range producers {
		workers.Go(func() {
			for time.Since(start) < long && ctx.Err() == nil {
				if err := put(); err != nil {
					failures <- err
					return
				}
				puts.Add(1)
			}
		})
	}
	workers.Wait()
	took := time.Since(start)
	close(failures)
	err = errors.Join(<-failures, closeIt(), ctx.Err())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", k.name, err)
	}
	return float64(puts.Load()) / took.Seconds(), nil
}

// outbox compares puts per second, each acknowledged when it is on disk, with
// bbolt.
func (b *bench) outbox(ctx context.Context) error {
	type side struct {
		keeper
		producers int
	}
	sides := []side{{tuxwatchOutbox, 1}, {bboltUpdate, 1}, {tuxwatchOutbox, producers}, {bboltUpdate, producers}, {bboltBatch, producers}}
	rates := make([][]float64, len(sides))
	flushed := make([]float64, len(sides))
	var latency []float64
	for round := range b.rounds {
		b.say("outbox: puts on stable storage, beside bbolt: round %d of %d", round+1, b.rounds)
		for i, s := range sides {
			dir, err := b.fresh("outbox")
			if err != nil {
				return err
			}
			before, counted := flushes(dir)
			rate, err := s.rate(ctx, dir, s.producers, outboxRound)
			if err != nil {
				return err
			}
			if after, _ := flushes(dir); counted {
				flushed[i] += float64(after-before) / (rate * outboxRound.Seconds()) / float64(b.rounds)
			}
			rates[i] = append(rates[i], rate)
		}
		took, err := syncLatency(b.dir, outboxRound/4)
		if err != nil {
			return err
		}
		latency = append(latency, took...)
	}
	if _, err := b.fresh("outbox"); err != nil { // what was written is of no use
		return err
	}
	sample := func(i int) Sample { return newSample(sides[i].name, rates[i]) }
	figure := func(what string, i int) Figure {
		return Figure{Part: "Outbox: puts on stable storage", What: what, Unit: "/s", Better: "higher", Tuxwatch: sample(i)}
	}
	b.add(
		figure("1 producer", 0).against(sample(1)),
		figure(fmt.Sprintf("%d producers", producers), 2).against(sample(3)),
		figure(fmt.Sprintf("%d producers", producers), 2).against(sample(4)),
	)
	l := newSample("", latency)
	b.note("Outbox and bbolt write a message of %d bytes of JSON and call fsync on the same disk before a put returns. "+
		"The disk takes %.0f µs (%.0f–%.0f) for 4 KiB and fdatasync.", len(alert().Body), l.Median*1e6, l.Min*1e6, l.Max*1e6)
	if flushed[0] > 0 {
		b.note("Flushes that the disk did for each put (other programs' among them): outbox %.2f and bbolt %.2f with 1 producer, %.2f and %.2f (Batch: %.2f) with %d.",
			flushed[0], flushed[1], flushed[2], flushed[3], flushed[4], producers)
	}
	return nil
}
