package cloud

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"
)

// ErrNoHub is that a configuration has no hub.
var ErrNoHub = errors.New("no hub is configured")

// Endpoint is where a connection would be made, without its credentials.
type Endpoint struct {
	// Hub and Device as the status names them.
	Hub, Device string
	// Address is host:port.
	Address string
	// TLS is how the hub proves itself, and the device where it has a
	// certificate; nil where the connection is plain.
	TLS *tls.Config

	login login
}

// Endpoint reads the files that the configuration names, as a connection does,
// and says where it would go. ErrNoHub is the error of the dialect none.
func (c Config) Endpoint(now func() time.Time, log *slog.Logger) (Endpoint, error) {
	var d dialect
	switch c.Dialect {
	case DialectAzure:
		d = &azure{config: &c, log: log, now: now}
	case DialectMQTT:
		d = &plainMQTT{config: &c, log: log, now: now}
	default:
		return Endpoint{}, ErrNoHub
	}
	l, err := d.login(now())
	return Endpoint{Hub: l.hub, Device: l.device, Address: l.address, TLS: l.tls, login: l}, err
}

// Remedy says what to do about an error in reaching the endpoint, or nothing.
func (e Endpoint) Remedy(err error, now time.Time) string { return remedy(err, e.login, now) }
