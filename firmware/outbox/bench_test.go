package outbox

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"tuxwatch/firmware/message"
)

// The body of a temperature message with its envelope, near enough.
var benchmarkBody = make([]byte, 160)

func benchmarkOutbox(b *testing.B) *Outbox {
	return open(b, b.TempDir(), Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

// BenchmarkPut is one put after the other, each with its own fsync.
func BenchmarkPut(b *testing.B) {
	o := benchmarkOutbox(b)
	for b.Loop() {
		put(b, o, message.Message{ID: "0123456789abcdef", Body: benchmarkBody}, 9)
	}
}

// BenchmarkPutConcurrently shows what sharing an fsync gives.
func BenchmarkPutConcurrently(b *testing.B) {
	o := benchmarkOutbox(b)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := o.Put(context.Background(), message.Message{ID: "0123456789abcdef", Body: benchmarkBody}, 9, 0); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkPutAndDelete is the life of a message while the hub answers.
func BenchmarkPutAndDelete(b *testing.B) {
	o := benchmarkOutbox(b)
	reader := o.NewReader()
	for b.Loop() {
		put(b, o, message.Message{ID: "0123456789abcdef", Body: benchmarkBody}, 9)
		records, err := reader.Next(b.Context(), 1)
		if err != nil {
			b.Fatal(err)
		}
		o.Delete(records[0].ID)
	}
}

// BenchmarkBboltPut is the peer: bbolt with one commit for each put.
func BenchmarkBboltPut(b *testing.B) {
	db := benchmarkBbolt(b)
	for b.Loop() {
		if err := db.Update(bboltPut); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBboltBatchConcurrently is bbolt's own way of sharing commits.
func BenchmarkBboltBatchConcurrently(b *testing.B) {
	db := benchmarkBbolt(b)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := db.Batch(bboltPut); err != nil {
				b.Error(err)
			}
		}
	})
}

func benchmarkBbolt(b *testing.B) *bbolt.DB {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "peer.db"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("messages"))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return db
}

func bboltPut(tx *bbolt.Tx) error {
	bucket := tx.Bucket([]byte("messages"))
	sequence, err := bucket.NextSequence()
	if err != nil {
		return err
	}
	return bucket.Put(binary.BigEndian.AppendUint64(nil, sequence), benchmarkBody)
}
