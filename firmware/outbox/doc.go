// Package outbox is the durable store-and-forward queue between the device and
// its hub: what routes send to $upstream is put here first and leaves only when
// the hub has acknowledged it.
//
// A message counts as put when it is on stable storage ([Outbox.Put] returns
// nil after the fsync, never before). Records come out by priority (0 first)
// and, within a priority, in the order in which they were put. The store is
// bounded by bytes and by age: the oldest message of the lowest priority goes
// first, and every drop is counted by its [Reason]. A full disk, a record that
// cannot be decoded and a damaged database are conditions that the outbox
// lives with and reports, not reasons to stop.
//
// It is not a message broker and knows nothing of the network: package cloud
// takes records from a [Reader] and deletes them. Nor is it a database for
// others: one process has it open, everything is reached through [Outbox], the
// type to start with.
//
// # On disk
//
// One directory, owned by the process that opened it:
//
//	outbox.db, outbox.db-wal     SQLite in WAL mode, synchronous=FULL
//	reserve                      blocks held back so that a full disk can be left again
//	outbox.db.damaged-TIME       a database that was found damaged, kept to be looked at
//	outbox.db.salvaging, outbox.db.salvaged
//	                             its successor while it is being made, see damage.go
//
// All of it together stays within [Options.MaxBytes], damaged databases
// excepted.
package outbox
