package emulator_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"tuxwatch/scripts/emulator"
)

// powerCuts takes the power away at random moments, starting the device and at
// work, while the hub is away and a camera in the network sends pictures of
// penguins. Every picture that the device acknowledged has to arrive in the end.
// It runs as a Zero 2 W would, with 512 MB.
func (p *pi) powerCuts() {
	cuts := 3
	if os.Getenv("TUXWATCH_LONG") != "" {
		cuts = 10
	}
	seed := uint64(time.Now().UnixNano())
	p.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	before := p.identity()
	p.quiet(20)
	p.hub.Stop()
	camera := newCamera(p)
	defer camera.stop()
	camera.connect(p)

	// What a careless user puts on the card in between.
	mistakes := map[string]string{
		"tuxwatch.yaml":   "modules:\n  filterModule:\n    desired: {TemperatureThreshold: warm}\n",
		"authorized_keys": "this is no key\n",
		"hostname":        "not a name!\n",
		"wifi.conf":       "ssid\n",
	}
	memory := emulator.Options{Memory: 512}
	starting := false // whether the device has not been waited for
	for cut := range cuts {
		if starting {
			// Somewhere between U-Boot and the daemon at work.
			time.Sleep(time.Duration(random.Int64N(int64(p.took + 5*time.Second))))
		} else {
			camera.acknowledges(p, 3)
			time.Sleep(time.Duration(random.Int64N(int64(15 * time.Second))))
		}
		p.PowerCut()
		p.Logf("cut %d, starting %v: %d pictures acknowledged", cut+1, starting, camera.last())
		if cut == 0 {
			for name, content := range mistakes {
				p.put(name, content)
			}
		}
		p.switchOn(memory)
		camera.connect(p)
		// Every second cut is while it starts.
		if starting = cut%2 == 0 && cut < cuts-1; !starting {
			p.ready()
		}
	}
	camera.acknowledges(p, 1)
	camera.stop()
	last := camera.last()
	if err := p.hub.Start(); err != nil {
		p.fatal("%v", err)
	}
	p.watch()

	arrived, highest := map[int]bool{}, 0
	for !arrived[last] {
		e := p.arrives(fmt.Sprintf("picture %d of %d", len(arrived)+1, last), func(e emulator.Event) bool {
			topic, ok := penguin(e)
			return ok && strings.HasPrefix(topic, "load/")
		})
		topic, _ := penguin(e)
		n, err := strconv.Atoi(strings.TrimPrefix(topic, "load/"))
		if err != nil {
			p.fatal("%v", err)
		}
		if !arrived[n] && n < highest {
			p.Errorf("picture %d arrived after %d", n, highest)
		}
		arrived[n], highest = true, max(n, highest)
	}
	for n := 1; n <= last; n++ {
		if !arrived[n] {
			p.Errorf("picture %d was acknowledged and did not arrive", n)
		}
	}
	s, err := p.status()
	if err != nil {
		p.fatal("%v", err)
	}
	if s.Outbox.Damaged > 0 || s.Outbox.Fault != "" {
		p.Errorf("the outbox was damaged: %+v", s.Outbox)
	}
	p.Logf("%d cuts, %d pictures acknowledged, all arrived", cuts, last)

	p.bootsClean()
	if after := p.identity(); after != before {
		p.Errorf("the device has another identity after the cuts:\n%s\nbefore:\n%s", after, before)
	}
	if kilobytes, err := strconv.Atoi(p.sh("awk '/^MemTotal/ {print $2}' /proc/meminfo")); err != nil || kilobytes > 512*1024 {
		p.Errorf("the device has %d KiB of memory (%v)", kilobytes, err)
	}
	p.Logf("with 512 MB: %s", p.sh("free --mebi | sed -n 2p"))
	p.mistakesReported(mistakes)
}

// mistakesReported checks that each file that is wrong is in the report on the
// card, and that it has changed nothing.
func (p *pi) mistakesReported(mistakes map[string]string) {
	p.Helper()
	p.PowerCut()
	report := p.report()
	for name := range mistakes {
		if wrong := regexp.MustCompile(`(?m)^WRONG +tuxwatch/` + regexp.QuoteMeta(name) + `$`); !wrong.MatchString(strings.ReplaceAll(report, "\r", "")) {
			p.Errorf("REPORT.txt does not say that %s is wrong", name)
		}
	}
	for _, why := range []string{"warm", "line 3"} {
		if !strings.Contains(report, why) {
			p.Errorf("REPORT.txt does not have %q", why)
		}
	}
	if p.Failed() {
		p.Logf("REPORT.txt:\n%s", report)
	}
}

// camera is one in the network that sends penguins, the next one only when the
// last one was acknowledged.
type camera struct {
	picture []byte
	ended   chan struct{}
	quit    chan struct{}
	once    sync.Once

	mu           sync.Mutex
	port         int
	acknowledged int
}

func newCamera(p *pi) *camera {
	p.Helper()
	picture, err := os.ReadFile(sample("penguin-toy-desk.jpg"))
	if err != nil {
		p.Fatal(err)
	}
	c := &camera{picture: picture, ended: make(chan struct{}), quit: make(chan struct{})}
	go c.run()
	return c
}

// connect leads the camera to the device, which was switched on.
func (c *camera) connect(p *pi) {
	p.Helper()
	port, err := p.Forward(1888)
	if err != nil {
		p.fatal("%v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.port = port
}

func (c *camera) stop() {
	c.once.Do(func() { close(c.quit) })
	<-c.ended
}

// last is the number of the last picture that was acknowledged.
func (c *camera) last() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acknowledged
}

// acknowledges waits for n more.
func (c *camera) acknowledges(p *pi, n int) {
	p.Helper()
	first := c.last()
	p.eventually(fmt.Sprintf("%d pictures' being acknowledged", n), func() error {
		if now := c.last(); now < first+n {
			return fmt.Errorf("%d were", now-first)
		}
		return nil
	})
}

func (c *camera) run() {
	defer close(c.ended)
	for {
		c.mu.Lock()
		port := c.port
		c.mu.Unlock()
		if port != 0 {
			c.session(port)
		}
		select {
		case <-c.quit:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// session sends until the connection breaks.
func (c *camera) session(port int) {
	const patience = 20 * time.Second
	lost := make(chan struct{})
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).
		SetClientID("camera").SetCleanSession(true).SetAutoReconnect(false).
		SetConnectTimeout(patience).SetKeepAlive(patience).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
	connecting := client.Connect()
	if !connecting.WaitTimeout(patience) || connecting.Error() != nil {
		client.Disconnect(0)
		return
	}
	defer client.Disconnect(0)
	for {
		next := c.last() + 1
		sent := client.Publish(fmt.Sprintf("load/%d", next), 1, false, c.picture)
		select {
		case <-sent.Done():
			// A connection that broke ends it as well, with an error.
			if sent.Error() != nil {
				return
			}
		case <-lost:
			return
		case <-c.quit:
			return
		}
		c.mu.Lock()
		c.acknowledged = next
		c.mu.Unlock()
	}
}
