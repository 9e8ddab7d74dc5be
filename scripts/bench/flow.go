package main

import (
	"context"
	"fmt"
	"time"
)

const (
	flowRound = 4 * time.Second
	// Node-RED's share: memory messages in a round, and fewer with each on disk.
	nodeMemory, nodeDisk = 20_000, 4_000
)

// flow compares messages per second, from the sensors through a filter to the
// hub, with Node-RED and Mosquitto.
func (b *bench) flow(ctx context.Context) error {
	one := group{"one", 150, 1}
	many := group{"many", 300, 16}
	device, err := b.startDevice(ctx, flowConfig([]group{one, many}))
	if err != nil {
		return err
	}
	defer device.stop()
	peer, err := b.startNodeRED(ctx)
	if err != nil {
		return err
	}
	defer peer.stop()

	groups := []group{one, many}
	flows := []struct {
		path  string
		count int
	}{{"/memory", nodeMemory}, {"/disk", nodeDisk}}
	ours, theirs := make([][]float64, 2), make([][]float64, 2)
	var total, duplicates int64
	var nodeTotal int
	for round := range b.rounds + 1 {
		if round == 0 {
			b.say("flow: warming up")
		} else {
			b.say("flow: sensor, filter, hub, beside Node-RED with Mosquitto: round %d of %d", round, b.rounds)
		}
		for i := range 2 {
			a, err := device.round(ctx, groups[i], flowRound)
			if err != nil {
				return fmt.Errorf("tuxwatch: %w", err)
			}
			rate, err := peer.round(ctx, flows[i].path, flows[i].count)
			if err != nil {
				return fmt.Errorf("Node-RED: %w", err)
			}
			total, duplicates, nodeTotal = total+a.distinct, duplicates+a.duplicates, nodeTotal+flows[i].count
			if round == 0 {
				continue
			}
			ours[i], theirs[i] = append(ours[i], a.rate()), append(theirs[i], rate)
			if a.rate() > 0.95*groups[i].offered() {
				return fmt.Errorf("tuxwatch took all that its %d sensors send; there have to be more of them", groups[i].sensors)
			}
		}
	}
	rss, err := peer.node.megabytes("VmRSS")
	if err != nil {
		return err
	}
	memory := newSample("Node-RED 5.0.7 after the flow", []float64{rss})
	b.nodeRED = &memory

	const part = "Messages: sensor → filter → hub"
	figure := func(what string, i int) Figure {
		return Figure{Part: part, What: what, Unit: "/s", Better: "higher", Tuxwatch: newSample("tuxwatch", ours[i])}
	}
	inMemory := newSample("Node-RED 5.0.7, Mosquitto, kept in memory", theirs[0])
	onDisk := newSample("the same, fdatasync before it is sent", theirs[1])
	b.add(
		figure("1 filter", 0).against(inMemory), figure("1 filter", 0).against(onDisk),
		figure(fmt.Sprintf("%d filters", many.filters), 1).against(inMemory), figure(fmt.Sprintf("%d filters", many.filters), 1).against(onDisk),
	)
	b.note("tuxwatch calls fsync for every message before the filter's message counts as sent (one filter: one after the other; %d filters share), "+
		"speaks TLS, and tuxhub stores what arrives in SQLite. Node-RED as it comes keeps messages in memory, speaks TCP without TLS, and loses them in a power cut.", many.filters)
	b.note("Every message was counted: %d of %d at the hub (%d duplicates), %d of %d at Mosquitto's subscriber, all with QoS 1. "+
		"A sensor sends at most 20 a second, so there are %d for one filter and %d for %d. The daemon's max_rate (100/s by default) is off.",
		total, total, duplicates, nodeTotal, nodeTotal, one.sensors, many.sensors, many.filters)
	b.note("Mosquitto: persistence on, queues and messages under way without bound; QoS 1, MQTT 3.1.1. Node-RED: one generating function node, switch, change, mqtt out; the editor is off.")
	return nil
}

// round lets a group of sensors send for so long and waits until the hub has
// everything that they sent.
func (d *device) round(ctx context.Context, g group, long time.Duration) (arrivals, error) {
	from, err := d.cursor(ctx)
	if err != nil {
		return arrivals{}, err
	}
	before, _, err := d.sent(ctx)
	if err != nil {
		return arrivals{}, err
	}
	if err := d.send(ctx, g.names(), true); err != nil {
		return arrivals{}, err
	}
	select {
	case <-time.After(long):
	case <-d.daemon.done:
		return arrivals{}, fmt.Errorf("the daemon ended (%v):\n%s", d.daemon.err, d.daemon.tail())
	case <-ctx.Done():
		return arrivals{}, ctx.Err()
	}
	if err := d.send(ctx, g.names(), false); err != nil {
		return arrivals{}, err
	}
	after, err := d.drained(ctx)
	if err != nil {
		return arrivals{}, err
	}
	a, err := d.arrived(ctx, from)
	if err == nil && a.distinct != after-before {
		err = fmt.Errorf("%d messages went into the outbox, and %d are at the hub", after-before, a.distinct)
	}
	return a, err
}
