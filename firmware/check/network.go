package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/control"
)

// soon is how long before its end a certificate is worth a warning.
const soon = 30 * 24 * time.Hour

// network checks the way to the hub, step by step: a step that fails leaves the
// later ones out, since they would say nothing new.
func (c *checker) network(ctx context.Context) {
	endpoint, err := c.Config.Hub.Endpoint(c.System.Now, c.Log)
	if errors.Is(err, cloud.ErrNoHub) && c.Daemon != nil && c.Daemon.Hub.Status != cloud.NotConfigured {
		// The daemon's credentials are not ours to read.
		c.state()
		c.warn("certificate", "", "not checked: the connection string is a systemd credential", "run it with sudo")
		return
	}
	if errors.Is(err, cloud.ErrNoHub) {
		const none = "no hub is configured"
		c.ok("dns", "", none)
		c.warn("hub", "", none+": alerts only wait on disk", "set hub in the configuration, or put the connection string into the systemd credential hub-connection-string")
		c.ok("certificate", "", none)
		return
	}
	if err != nil {
		// The daemon may be allowed to read what this user is not.
		if errors.Is(err, fs.ErrPermission) && c.Daemon != nil {
			c.state()
			c.warn("certificate", "", err.Error(), "run it with sudo")
			return
		}
		remedy := endpoint.Remedy(err, c.System.Now())
		if errors.Is(err, fs.ErrPermission) {
			remedy = "run it with sudo"
		}
		c.fail("hub", "", err.Error(), remedy)
		return
	}
	if !c.dns(ctx, endpoint) {
		c.state()
		return
	}
	conn, err := c.greet(ctx, endpoint)
	reached := err == nil
	if reached {
		defer conn.Close()
	}
	switch {
	case c.Daemon != nil:
		// A second login under the device's name would end the daemon's own.
		c.state()
	case reached:
		c.ok("hub", "", fmt.Sprintf("%s answers at %s; the credentials were not tried, tuxwatchd does that", endpoint.Hub, endpoint.Address))
	case !isCertificate(err):
		c.fail("hub", "", fmt.Sprintf("%s does not answer at %s: %v", endpoint.Hub, endpoint.Address, err),
			cmp.Or(endpoint.Remedy(err, c.System.Now()), "check that the hub runs and that the network lets the device out to that port"))
	default:
		c.ok("hub", "", fmt.Sprintf("%s answers at %s", endpoint.Hub, endpoint.Address))
	}
	c.certificates(endpoint, conn, err)
}

// state reports the daemon's connection, where one runs.
func (c *checker) state() {
	if c.Daemon == nil {
		return
	}
	s := c.Daemon.Hub
	words := control.HubInWords(s)
	switch s.Status {
	case cloud.Connected:
		c.ok("hub", "", words)
	case cloud.Connecting:
		c.warn("hub", "", words, "check again in a moment")
	default:
		c.fail("hub", "", words, cmp.Or(s.Remedy, "see journalctl -u tuxwatchd; messages are kept meanwhile"))
	}
	if s.TwinError != "" {
		c.warn("hub", "twin", s.TwinError, "correct the desired properties at the hub")
	}
}

// dns resolves the hub's name; false when it cannot.
func (c *checker) dns(ctx context.Context, e cloud.Endpoint) bool {
	host, _, err := net.SplitHostPort(e.Address)
	if err != nil {
		host = e.Address
	}
	if net.ParseIP(host) != nil {
		c.ok("dns", "", host+" is an address and needs no name server")
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	addresses, err := c.System.Lookup(ctx, host)
	if err != nil {
		c.fail("dns", "", fmt.Sprintf("%s is not resolved: %v", host, err),
			"check the network (ip route), the name server (resolvectl status) and the hub's name")
		return false
	}
	c.ok("dns", "", fmt.Sprintf("%s is %s", host, strings.Join(addresses, ", ")))
	return true
}

// greet opens a connection to the hub, with TLS where it has it, and says no
// word of MQTT.
func (c *checker) greet(ctx context.Context, e cloud.Endpoint) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	if e.TLS == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", e.Address)
	}
	return (&tls.Dialer{Config: e.TLS}).DialContext(ctx, "tcp", e.Address)
}

// isCertificate tells whether a connection failed over the hub's certificate.
func isCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	return errors.As(err, &verification)
}

// certificates checks the hub's, which the handshake has verified or refused,
// and the files that the configuration names.
func (c *checker) certificates(e cloud.Endpoint, conn net.Conn, err error) {
	now := c.System.Now()
	if e.TLS == nil {
		c.warn("certificate", "", "the connection to the hub is not encrypted", "use TLS: mqtts:// in hub.mqtt.url, or hub.address without tcp://")
		return
	}
	secured, _ := conn.(*tls.Conn)
	switch {
	case isCertificate(err):
		c.fail("certificate", e.Hub, err.Error(), e.Remedy(err, now))
	case secured != nil:
		for i, cert := range secured.ConnectionState().VerifiedChains[0] {
			name := e.Hub
			if i > 0 {
				name = fmt.Sprintf("%s, its authority %q", e.Hub, cert.Subject.CommonName)
			}
			if i == 0 || now.After(cert.NotAfter.Add(-soon)) {
				c.validity(name, cert, "its operator has to renew it")
			}
		}
	}
	for _, file := range []struct{ path, remedy string }{
		{c.Config.Hub.CAFile, "get the new certificate from the hub's operator (tuxhub: ca.pem in its state folder)"},
		{c.Config.Hub.CertFile, "have a new certificate issued for the device"},
	} {
		if file.path == "" {
			continue
		}
		data, err := os.ReadFile(file.path)
		if err != nil {
			c.warn("certificate", file.path, err.Error(), "")
			continue
		}
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				c.fail("certificate", file.path, err.Error(), file.remedy)
				continue
			}
			c.validity(file.path, cert, file.remedy)
		}
	}
}

// validity reports until when a certificate is good.
func (c *checker) validity(subject string, cert *x509.Certificate, remedy string) {
	now := c.System.Now()
	until := "valid until " + cert.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case now.After(cert.NotAfter):
		c.fail("certificate", subject, "ended on "+cert.NotAfter.UTC().Format(time.DateOnly), remedy)
	case now.Before(cert.NotBefore):
		c.fail("certificate", subject, "valid only from "+cert.NotBefore.UTC().Format(time.DateOnly)+" on", "check the clock")
	case now.After(cert.NotAfter.Add(-soon)):
		c.warn("certificate", subject, until, remedy)
	default:
		c.ok("certificate", subject, until)
	}
}
