package hub

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"golang.org/x/sync/errgroup"
)

// Options say where the hub keeps its state and where it listens. Only State is
// needed; without an address the hub does not listen there.
type Options struct {
	// State is the folder for everything the hub keeps. See [OpenState].
	State string
	// TLSListen is the address for MQTT over TLS, as 127.0.0.1:8883; port 0 takes
	// a free one, which Hub.TLSAddr tells.
	TLSListen string
	// Listen is the address for MQTT without TLS.
	Listen string
	// HTTPListen is the address for the JSON API over TCP. Beyond loopback it
	// asks for the token in the file http-token of the state folder.
	HTTPListen string
	// Hosts are names and addresses that the server certificate must have,
	// besides localhost, 127.0.0.1 and ::1.
	Hosts []string
	// Retention bounds what is kept; the zero value is DefaultRetention.
	Retention Retention
	// Now is the hub's clock; nil is time.Now.
	Now func() time.Time
	// Log takes the hub's log; nil drops it. Secrets and bodies are never logged.
	Log *slog.Logger
	// Intercept, if set, sees every event before it is stored. With an error the
	// event is not stored, and the device is disconnected without a PUBACK for it,
	// though with those for everything before it: so a test plays a hub that
	// keeps refusing one message.
	Intercept func(Event) error
}

// Hub is a running hub. Make it with New, run it with Serve.
type Hub struct {
	*State
	opts Options
	log  *slog.Logger

	hook      *hook
	broker    *mqtt.Server
	listeners map[string]net.Listener // by what they are for
	tls       *certificates
	httpToken string // asked for by the JSON API over TCP, unless empty
	committer *committer
	methods   *methodCalls
	desired   sync.Mutex // held from storing desired properties until they are pushed

	mu       sync.Mutex
	sessions map[string]*session // by device
	served   bool

	closeOnce sync.Once
	closing   context.Context // ended by Close, which ends Serve
	endServe  context.CancelFunc
	done      chan struct{} // closed when Serve has ended
}

// Names of the listeners.
const (
	listenTLS   = "mqtt-tls"
	listenPlain = "mqtt"
	listenHTTP  = "http"
	listenAdmin = "admin"
)

// ErrListen is wrapped by errors of New about an address that cannot be had.
var ErrListen = errors.New("cannot listen")

// New opens the state and takes the addresses, so that errors about either are
// seen before anything runs. Call Serve next, or Close.
func New(opts Options) (_ *Hub, err error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Retention == (Retention{}) {
		opts.Retention = DefaultRetention
	}
	for _, host := range opts.Hosts {
		if !ValidHost(host) {
			return nil, fmt.Errorf("%q is not a host name or address for the certificate", host)
		}
	}
	h := &Hub{
		opts: opts, log: opts.Log,
		listeners: map[string]net.Listener{},
		methods:   newMethodCalls(),
		sessions:  map[string]*session{},
		done:      make(chan struct{}),
	}
	h.closing, h.endServe = context.WithCancel(context.Background())
	if h.State, err = OpenState(opts.State, opts.Now); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.committer, err = newCommitter(h.State, opts.Retention, h.log); err != nil {
		return nil, err
	}
	if h.tls, err = loadCertificates(h.Dir(), opts.Hosts, opts.Now); err != nil {
		return nil, err
	}
	for _, l := range []struct{ name, flag, address string }{
		{listenTLS, "--tls-listen", opts.TLSListen},
		{listenPlain, "--listen", opts.Listen},
		{listenHTTP, "--http", opts.HTTPListen},
	} {
		if l.address == "" {
			continue
		}
		nl, err := net.Listen("tcp", l.address)
		if err != nil {
			return nil, fmt.Errorf("%w on %s: %w (tuxhub serve %s changes the address)", ErrListen, l.address, err, l.flag)
		}
		h.listeners[l.name] = nl
	}
	if h.listeners[listenAdmin], err = listenUnix(h.Dir()); err != nil {
		return nil, err
	}
	if l := h.listeners[listenHTTP]; l != nil && !isLoopback(l) {
		if h.httpToken, err = loadToken(h.Dir()); err != nil {
			return nil, err
		}
	}
	h.hook = &hook{hub: h, log: h.log}
	if h.broker, err = newBroker(h.hook); err != nil {
		return nil, fmt.Errorf("set up the MQTT broker: %w", err)
	}
	return h, nil
}

// address of a listener, empty when there is none.
func (h *Hub) address(name string) string {
	if l := h.listeners[name]; l != nil {
		return l.Addr().String()
	}
	return ""
}

// TLSAddr is the address of MQTT over TLS, with the real port.
func (h *Hub) TLSAddr() string { return h.address(listenTLS) }

// Addr is the address of MQTT without TLS.
func (h *Hub) Addr() string { return h.address(listenPlain) }

// HTTPAddr is the address of the JSON API over TCP.
func (h *Hub) HTTPAddr() string { return h.address(listenHTTP) }

// CAFile is the certificate authority that devices must trust.
func (h *Hub) CAFile() string { return CAFile(h.Dir()) }

// Serve runs the hub until ctx ends or Close is called, and returns nil then.
// It runs once.
func (h *Hub) Serve(ctx context.Context) error {
	h.mu.Lock()
	if h.served {
		h.mu.Unlock()
		if h.closing.Err() != nil {
			return nil // Close was quicker
		}
		return errors.New("the hub has been served already")
	}
	h.served = true
	h.mu.Unlock()
	defer close(h.done)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unhook := context.AfterFunc(h.closing, cancel)
	defer unhook()

	// The committer ends last: what sessions gave it is still stored.
	var commits sync.WaitGroup
	commitCtx, endCommits := context.WithCancel(context.WithoutCancel(ctx))
	commits.Go(func() { h.committer.run(commitCtx) })
	defer commits.Wait()
	defer endCommits()

	g, gctx := errgroup.WithContext(ctx)
	if err := h.serveMQTT(g, gctx); err != nil {
		cancel()
		return errors.Join(err, g.Wait())
	}
	g.Go(func() error { return serveHTTP(gctx, h.listeners[listenAdmin], h.adminHandler()) })
	if l := h.listeners[listenHTTP]; l != nil {
		g.Go(func() error { return serveHTTP(gctx, l, h.tcpHandler()) })
	}
	g.Go(func() error { h.dropExpired(gctx); return nil })
	return g.Wait()
}

// serveMQTT runs the broker on the MQTT listeners until ctx ends.
func (h *Hub) serveMQTT(g *errgroup.Group, ctx context.Context) error {
	for _, name := range []string{listenTLS, listenPlain} {
		nl := h.listeners[name]
		if nl == nil {
			continue
		}
		if name == listenTLS {
			nl = tls.NewListener(nl, h.tls.config())
		}
		if err := h.broker.AddListener(newListener(name, nl, h.hook, h.log)); err != nil {
			return fmt.Errorf("set up the MQTT broker: %w", err)
		}
	}
	if err := h.broker.Serve(); err != nil {
		return fmt.Errorf("start the MQTT broker: %w", err)
	}
	g.Go(func() error {
		<-ctx.Done()
		return h.broker.Close()
	})
	return nil
}

// dropExpired ends the connections of devices whose token has run out, as IoT
// Hub does: the device signs in again with a new one.
func (h *Hub) dropExpired(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			now := h.now()
			for _, s := range h.allSessions() {
				if !now.Before(s.expiry) {
					s.stop(errSASExpired)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// Close ends Serve, waits for it, and lets go of the state. It may be called
// again, and without Serve.
func (h *Hub) Close() error {
	var err error
	h.closeOnce.Do(func() {
		h.endServe()
		h.mu.Lock()
		served := h.served
		h.served = true
		h.mu.Unlock()
		if served {
			<-h.done
		}
		for _, l := range h.listeners {
			if l != nil {
				l.Close()
			}
		}
		if h.State != nil {
			err = h.State.Close()
		}
	})
	return err
}

// session of a device that is connected, or nil.
func (h *Hub) session(device string) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[device]
}

func (h *Hub) allSessions() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.sessions))
}

// enter makes a session that is about to be accepted the device's one, so that
// a device that has its CONNACK is known to be there.
func (h *Hub) enter(s *session) {
	h.mu.Lock()
	old := h.sessions[s.device]
	h.sessions[s.device] = s
	h.mu.Unlock()
	if old != nil {
		old.stop(errTakenOver)
	}
}

// begin lets a session work, now that CONNACK has been sent.
func (h *Hub) begin(s *session) {
	s.start()
	h.log.Info("device connected", "device", s.device, "remote", s.cl.Net.Remote, "listener", s.cl.Net.Listener)
	// Between the check of its credentials and now it may have been shut out.
	if d, err := h.State.Device(s.device); err != nil || !d.Enabled || d.PrimaryKey != s.key {
		s.stop(errOrder)
		return
	}
	if err := s.deliver(); err != nil {
		s.stop(err)
	}
}

// leave ends a session whose connection has ended; err is why, nil when the
// device said goodbye.
func (h *Hub) leave(s *session, err error) {
	h.mu.Lock()
	if h.sessions[s.device] == s {
		delete(h.sessions, s.device)
	}
	h.mu.Unlock()
	s.close()
	if !s.started { // its CONNACK could not be sent
		return
	}
	if err != nil && s.will != nil {
		h.storeWill(s)
	}
	switch {
	case err == nil:
		h.log.Info("device disconnected", "device", s.device)
	case s.cause() != nil:
		h.log.Warn("device disconnected by the hub", "device", s.device, "error", err)
	default:
		h.log.Info("connection to device lost", "device", s.device, "error", err)
	}
}

// storeWill makes an event of a device's last will, marked as IoT Hub marks it.
func (h *Hub) storeWill(s *session) {
	t, err := parsePublishTopic(s.device, s.will.TopicName)
	if err == nil && t.kind != kindEvent {
		err = errTopic
	}
	var e Event
	if err == nil {
		e, err = s.event(t.bag, s.will.Payload, s.will.Retain)
	}
	if err == nil && e.size() > MaxEventSize {
		err = errTooLarge
	}
	if err != nil {
		h.log.Warn("last will dropped", "device", s.device, "error", err)
		return
	}
	e.Properties["iothub-MessageType"] = "Will"
	p := &pendingEvent{event: e, done: make(chan struct{})}
	h.committer.put(context.Background(), p)
	if <-p.done; p.err != nil {
		h.log.Warn("last will dropped", "device", s.device, "error", p.err)
	}
}

// stopDevice ends a device's connection, if there is one.
func (h *Hub) stopDevice(id string) {
	if s := h.session(id); s != nil {
		s.stop(errOrder)
	}
}

// DropConnections ends every device's connection; they may sign in again at once.
func (h *Hub) DropConnections() {
	for _, s := range h.allSessions() {
		s.stop(errOrder)
	}
}

// Connected tells whether a device is signed in.
func (h *Hub) Connected(device string) bool { return h.session(device) != nil }

// Device looks a device up; ErrDeviceNotFound when it is not registered.
func (h *Hub) Device(id string) (Device, error) {
	d, err := h.State.Device(id)
	d.Connected = err == nil && h.Connected(id)
	return d, err
}

// Devices lists the registry by id.
func (h *Hub) Devices() ([]Device, error) {
	devices, err := h.State.Devices()
	for i := range devices {
		devices[i].Connected = h.Connected(devices[i].ID)
	}
	return devices, err
}

// RemoveDevice forgets a device with its twin and what waits for it, and ends
// its connection. Its events stay.
func (h *Hub) RemoveDevice(id string) error {
	err := h.State.RemoveDevice(id)
	if err == nil {
		h.stopDevice(id)
	}
	return err
}

// SetEnabled lets a device sign in, or refuses it and ends its connection.
func (h *Hub) SetEnabled(id string, enabled bool) error {
	err := h.State.SetEnabled(id, enabled)
	if err == nil && !enabled {
		h.stopDevice(id)
	}
	return err
}

// RegenerateKeys replaces both keys and ends the device's connection.
func (h *Hub) RegenerateKeys(id string) (Device, error) {
	d, err := h.State.RegenerateKeys(id)
	if err == nil {
		h.stopDevice(id)
	}
	return d, err
}

// Events gives every event after the sequence number after, the stored ones
// first and then each as it arrives, until ctx ends or the hub does. Its error
// is that of the database; the end of ctx is none.
func (h *Hub) Events(ctx context.Context, after int64, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			news := h.committer.news() // before reading, so that nothing falls in between
			for {
				events, upTo, err := h.page(ctx, after, f)
				if ctx.Err() != nil || h.closing.Err() != nil {
					return
				}
				if err != nil {
					yield(Event{}, fmt.Errorf("read events: %w", err))
					return
				}
				for _, e := range events {
					if !yield(e, nil) {
						return
					}
				}
				after = upTo
				if len(events) < pageSize {
					break
				}
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			case <-h.closing.Done():
				return
			}
		}
	}
}

// Status is the hub's state in figures.
type Status struct {
	Store     string   `json:"store"` // id of the database
	TLSListen string   `json:"tlsListen,omitempty"`
	Listen    string   `json:"listen,omitempty"`
	HTTP      string   `json:"http,omitempty"`
	CAFile    string   `json:"caFile"`
	Connected []string `json:"connected"` // devices
	Refused   int64    `json:"refused"`   // connections refused for their credentials since the start
}

// Status tells where the hub listens and who is connected.
func (h *Hub) Status() Status {
	st := Status{Store: h.id, TLSListen: h.TLSAddr(), Listen: h.Addr(), HTTP: h.HTTPAddr(), CAFile: h.CAFile(), Refused: h.hook.refused.Load(), Connected: []string{}}
	for _, s := range h.allSessions() {
		st.Connected = append(st.Connected, s.device)
	}
	slices.Sort(st.Connected)
	return st
}

func newID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// serveHTTP runs an HTTP server until ctx ends; open streams end with it.
func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	}()
	err := server.Serve(l)
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		<-ended
		return nil
	}
	return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
}
