package edge

import (
	"container/heap"
	"context"
	"errors"
	"sync"

	"tuxwatch/firmware/message"
)

// errRemoved ends the wait for an input whose module was taken out of the
// configuration.
var errRemoved = errors.New("the module was removed from the configuration")

type inputHandler func(ctx context.Context, m message.Message) error

// input lets one message at a time into a module's handler. Senders wait in
// the order of their route's priority, then of their arrival; they also wait
// while the module is being restarted.
type input struct {
	mu      sync.Mutex
	handler inputHandler // nil while the module is not there to take messages
	busy    bool
	removed bool
	waiting waiters
	arrived uint64
}

// acquire waits for the input's turn and returns the handler to call; the
// caller must call release afterwards.
func (in *input) acquire(ctx context.Context, priority int) (inputHandler, error) {
	in.mu.Lock()
	if in.removed {
		in.mu.Unlock()
		return nil, errRemoved
	}
	if in.handler != nil && !in.busy {
		in.busy = true
		h := in.handler
		in.mu.Unlock()
		return h, nil
	}
	in.arrived++
	w := &waiter{priority: priority, arrived: in.arrived, turn: make(chan inputHandler, 1)}
	heap.Push(&in.waiting, w)
	in.mu.Unlock()

	select {
	case h := <-w.turn:
		if h == nil {
			return nil, errRemoved
		}
		return h, nil
	case <-ctx.Done():
	}
	in.mu.Lock()
	if w.index >= 0 {
		heap.Remove(&in.waiting, w.index)
		in.mu.Unlock()
		return nil, context.Cause(ctx)
	}
	in.mu.Unlock()
	// The turn came at the same moment: pass it on.
	if h := <-w.turn; h != nil {
		in.release()
	}
	return nil, context.Cause(ctx)
}

// release ends the turn that acquire gave.
func (in *input) release() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.busy = false
	in.admit()
}

// setHandler makes h take the input's messages; nil makes them wait.
func (in *input) setHandler(h inputHandler) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.handler = h
	in.admit()
}

// remove turns away those who wait and those who come.
func (in *input) remove() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.removed = true
	in.handler = nil
	for in.waiting.Len() > 0 {
		heap.Pop(&in.waiting).(*waiter).turn <- nil
	}
}

// admit lets the first waiter in. The caller holds mu.
func (in *input) admit() {
	if in.busy || in.handler == nil || in.waiting.Len() == 0 {
		return
	}
	in.busy = true
	heap.Pop(&in.waiting).(*waiter).turn <- in.handler
}

// waiter is a sender in line.
type waiter struct {
	priority int
	arrived  uint64
	turn     chan inputHandler
	index    int // in the heap; -1 once out of it
}

// waiters is a heap: the highest priority (lowest number) first, then the
// earliest.
type waiters []*waiter

func (w waiters) Len() int { return len(w) }

func (w waiters) Less(i, j int) bool {
	if w[i].priority != w[j].priority {
		return w[i].priority < w[j].priority
	}
	return w[i].arrived < w[j].arrived
}

func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

func (w *waiters) Push(x any) {
	item := x.(*waiter)
	item.index = len(*w)
	*w = append(*w, item)
}

func (w *waiters) Pop() any {
	last := len(*w) - 1
	item := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	item.index = -1
	return item
}
