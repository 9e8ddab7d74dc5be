package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"tuxwatch/firmware/clock"
)

// Status is what a connection is doing.
type Status string

// The values of [State.Status].
const (
	NotConfigured Status = "not configured" // dialect none
	Connecting    Status = "connecting"
	Connected     Status = "connected"
	Waiting       Status = "waiting" // for the next attempt
	Refused       Status = "refused" // waiting, because the hub refused the credentials
	Stopped       Status = "stopped"
)

// State says how the connection to the hub is doing. It never holds a secret.
type State struct {
	Dialect string    `json:"dialect"`
	Hub     string    `json:"hub,omitempty"`
	Device  string    `json:"device,omitempty"`
	Status  Status    `json:"status"`
	Since   time.Time `json:"since,omitzero"`

	// Error is why the last connection failed or ended, Remedy what to do about
	// it; both are empty once connected.
	Error  string `json:"error,omitempty"`
	Remedy string `json:"remedy,omitempty"`
	// NextAttempt is when the connection is tried again, Failures how often it
	// failed or was lost since one last held for backoff.stable_after.
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	Failures    int       `json:"failures,omitempty"`
	// TokenExpires is when the token of this connection ends.
	TokenExpires time.Time `json:"token_expires,omitzero"`

	// Counters from the start on: connections made, messages sent, acknowledged,
	// sent again, and set aside; InFlight is how many are on their way now.
	Connections int64 `json:"connections"`
	Sent        int64 `json:"sent"`
	Acked       int64 `json:"acked"`
	Resent      int64 `json:"resent"`
	SetAside    int64 `json:"set_aside"`
	InFlight    int   `json:"in_flight"`

	// DesiredVersion is the version of the desired properties last applied.
	DesiredVersion int64 `json:"desired_version,omitempty"`
	// TwinError is why the twin is not in step with the hub.
	TwinError string `json:"twin_error,omitempty"`
}

// refusal is an error of a hub that does not accept the credentials.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// plausibleClock is before any moment at which this program runs with a clock
// that is set.
var plausibleClock = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// remedy says in words what to do about a connection's error.
func remedy(err error, l login, now time.Time) string {
	clock := "the device's clock says " + now.UTC().Format(time.RFC3339)
	var (
		invalid   x509.CertificateInvalidError
		hostname  x509.HostnameError
		authority x509.UnknownAuthorityError
		header    tls.RecordHeaderError
		dns       *net.DNSError
		refused   refusal
	)
	switch {
	case errors.As(err, &refused):
		if now.Before(plausibleClock) {
			return clock + ", which is wrong, so its tokens are not valid; it is tried again once the clock is set"
		}
		return fmt.Sprintf("check that the device %q exists at %s and is enabled, and that %s; it is tried again when that changes, and now and then. "+
			"Messages are kept meanwhile (%s)", l.device, l.hub, l.credential, clock)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if now.Before(plausibleClock) || now.Before(invalid.Cert.NotBefore) {
			return fmt.Sprintf("%s, but the hub's certificate is valid from %s on: set the clock (NTP); it is tried again meanwhile",
				clock, invalid.Cert.NotBefore.UTC().Format(time.RFC3339))
		}
		return fmt.Sprintf("the hub's certificate ended on %s and %s: renew the certificate, or set the clock",
			invalid.Cert.NotAfter.UTC().Format(time.RFC3339), clock)
	case errors.As(err, &hostname):
		return "the hub's certificate is for another name: check the host name, and that nothing sits in between"
	case errors.As(err, &authority):
		return "the hub's certificate comes from an authority that is not trusted here: for a hub of your own, set ca_file to its CA certificate"
	case errors.As(err, &header):
		return "the hub does not answer with TLS on this port: check the address"
	case errors.As(err, &dns):
		return "check the network, the DNS server and the host name"
	case errors.Is(err, os.ErrNotExist):
		return "create the file, or correct the path in the configuration"
	case errors.Is(err, os.ErrPermission):
		return "let the daemon's user read the file"
	}
	return ""
}

// connackError turns what the client says about a failed CONNECT into an error
// of ours (MQTT 3.1.1, section 3.2.2.3).
func connackError(code byte, err error, l login) error {
	switch code {
	case packets.ErrRefusedBadUsernameOrPassword, packets.ErrRefusedNotAuthorised, packets.ErrRefusedIDRejected:
		return refusal{fmt.Errorf("%s refused the credentials of device %q (CONNACK %d: %s)", l.hub, l.device, code, packets.ConnackReturnCodes[code])}
	case packets.ErrRefusedServerUnavailable, packets.ErrRefusedBadProtocolVersion:
		return fmt.Errorf("%s does not take the connection (CONNACK %d: %s)", l.hub, code, packets.ConnackReturnCodes[code])
	}
	return fmt.Errorf("connecting to %s at %s: %w", l.hub, l.address, err)
}

// State returns the present state.
func (c *Connection) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.state
	if !state.Since.IsZero() {
		state.Since = clock.Then(state.Since, c.now())
	}
	return state
}

func (c *Connection) update(change func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.state.Status
	change(&c.state)
	if c.state.Status != before {
		c.state.Since = c.now()
	}
}

// cause is why ctx ended, where someone said so.
func cause(ctx context.Context) error { return context.Cause(ctx) }
