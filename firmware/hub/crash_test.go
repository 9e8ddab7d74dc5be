package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"tuxwatch/firmware/hub"
)

// serveForTest is the hub in a process that can be killed. TestMain calls it.
func serveForTest(dir string) {
	h, err := hub.New(hub.Options{State: dir, Listen: os.Getenv("TUXHUB_TEST_LISTEN"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(h.Addr())
	if err := h.Serve(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// spawn runs a hub in a process of its own and gives its address.
func spawn(t *testing.T, dir, listen string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TUXHUB_TEST_SERVE="+dir, "TUXHUB_TEST_LISTEN="+listen)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("the hub did not start: %v", err)
	}
	return cmd, strings.TrimSpace(line)
}

// The hub is killed at random moments while a device sends as fast as it can.
// Whatever it acknowledged is there afterwards, and whoever follows the events
// sees each of them once, in order.
func TestAcknowledgedEventsSurviveKills(t *testing.T) {
	const kills = 20
	dir := filepath.Join(t.TempDir(), "state")
	state, err := hub.OpenState(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := state.AddDevice("pi")
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Close(); err != nil {
		t.Fatal(err)
	}
	token, err := hub.NewSAS("localhost", "pi", d.PrimaryKey, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cmd, addr := spawn(t, dir, "127.0.0.1:0")
	defer func() { cmd.Process.Kill(); cmd.Wait() }()

	seen := map[int64]string{}
	followCtx, stopFollowing := context.WithCancel(context.Background())
	var follower sync.WaitGroup
	var mu sync.Mutex
	follower.Go(func() {
		var from hub.Cursor
		for followCtx.Err() == nil {
			for s, err := range hub.NewClient(dir).Events(followCtx, &from, hub.Filter{}, true) {
				if err != nil {
					break
				}
				if s.Event != nil {
					mu.Lock()
					if was, twice := seen[s.Event.Seq]; twice {
						t.Errorf("event %d seen twice, %s and %s", s.Event.Seq, was, s.Event.ID())
					}
					if s.Event.Seq <= from.Seq {
						t.Errorf("event %d after %d", s.Event.Seq, from.Seq)
					}
					seen[s.Event.Seq] = s.Event.ID()
					mu.Unlock()
				}
				from = s.Cursor
			}
			time.Sleep(5 * time.Millisecond)
		}
	})

	acknowledged := map[string]bool{}
	sent := 0
	for kill := range kills {
		o := paho.NewClientOptions().AddBroker("tcp://" + addr).SetProtocolVersion(4).SetAutoReconnect(false).
			SetClientID("pi").SetUsername("localhost/pi/?api-version=2021-04-12").SetPassword(token).SetConnectTimeout(patience)
		// A publish that meets the end of the connection waits this long in the client.
		o.SetWriteTimeout(100 * time.Millisecond)
		lost := make(chan struct{})
		o.SetConnectionLostHandler(func(paho.Client, error) { close(lost) })
		c := paho.NewClient(o)
		if tok := c.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
			t.Fatalf("connect after kill %d: %v", kill, tok.Error())
		}
		// Killed after a random number of acknowledgements rather than after some
		// time, so that a busy machine tests as much as an idle one.
		after := 1 + rand.IntN(60)
		acks := make(chan string, 4096)
		window := make(chan struct{}, 64) // sent and not acknowledged
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			var wg sync.WaitGroup
			defer wg.Wait()
			for {
				select {
				case <-stop:
					return
				case <-lost:
					return
				case window <- struct{}{}:
				}
				id := strconv.Itoa(sent)
				sent++
				tok := c.Publish("devices/pi/messages/events/$.mid="+id, 1, false, "x")
				wg.Go(func() {
					defer func() { <-window }()
					select {
					case <-tok.Done():
						// The client's tokens also end with a lost connection: only
						// those that end while it is there are acknowledgements.
						if tok.Error() == nil && c.IsConnectionOpen() {
							acks <- id
						}
					case <-lost:
					}
				})
			}
		}()
		for range after {
			acknowledged[next(t, acks)] = true
		}
		cmd.Process.Kill()
		cmd.Wait()
		close(stop)
		c.Disconnect(0)
		<-stopped
		cmd, addr = spawn(t, dir, addr)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		t.Fatalf("address %s", addr)
	}

	stored := map[string]bool{}
	var last int64
	for s, err := range hub.NewClient(dir).Events(ctx(t), &hub.Cursor{}, hub.Filter{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Event != nil {
			stored[s.Event.ID()] = true
			last = s.Event.Seq
		}
	}
	missing := 0
	for id := range acknowledged {
		if !stored[id] {
			missing++
		}
	}
	if missing > 0 || len(acknowledged) < kills {
		t.Errorf("%d of %d acknowledged events are missing", missing, len(acknowledged))
	}
	eventually(t, "the follower has seen everything", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return int64(len(seen)) == last
	})
	stopFollowing()
	follower.Wait()
	t.Logf("%d kills, %d acknowledged of %d sent, %d stored", kills, len(acknowledged), sent, last)
}
