package imagereceiver

import "sync"

// deliveries remembers which acknowledged-for publishes are being looked at, and
// which have been but whose handshake is not over, so that a publish that comes
// again is not looked at again.
//
// The broker itself knows a repeated QoS 2 publish once it has sent the PUBREC,
// and only on a session that was continued in time. It does not when a client
// gives up waiting, takes its session over on a new connection and delivers
// again while the first delivery is still being looked at. A publish counts as
// repeated only if the client says so (the DUP flag, MQTT 3.1.1, 3.3.1.1) and
// its contents are the same, so nothing new is ever taken for a repetition,
// whatever became of the session.
type deliveries struct {
	mu   sync.Mutex
	open map[deliveryKey]*delivery
}

// deliveryKey is what the handshake of a publish goes by.
type deliveryKey struct {
	client string
	packet uint16
}

// delivery is a publish.
type delivery struct {
	contents uint64        // hash of topic and payload
	done     chan struct{} // closed when it has been looked at
	taken    bool          // it may be acknowledged; valid once done is closed
}

// maxDeliveries bounds what is remembered.
const maxDeliveries = 4096

// begin returns the delivery that a publish belongs to, and whether it is the
// caller's to look at.
func (d *deliveries) begin(key deliveryKey, contents uint64, repeated bool) (*delivery, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.open[key]; known != nil && repeated && known.contents == contents {
		return known, false
	}
	if d.open == nil {
		d.open = make(map[deliveryKey]*delivery)
	}
	if len(d.open) >= maxDeliveries {
		for k := range d.open { // any one: clients that leave so many behind do not come back for them
			delete(d.open, k)
			break
		}
	}
	fresh := &delivery{contents: contents, done: make(chan struct{})}
	d.open[key] = fresh
	return fresh, true
}

// finish ends the caller's look at a delivery. One that was not taken is
// forgotten, so that the next attempt looks at it again.
func (d *deliveries) finish(key deliveryKey, one *delivery, taken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one.taken = taken
	close(one.done)
	if !taken && d.open[key] == one {
		delete(d.open, key)
	}
}

// complete forgets a delivery whose handshake is over.
func (d *deliveries) complete(key deliveryKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, key)
}

// forget forgets all deliveries of a client.
func (d *deliveries) forget(client string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k := range d.open {
		if k.client == client {
			delete(d.open, k)
		}
	}
}
