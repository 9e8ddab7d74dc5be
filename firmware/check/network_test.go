package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/control"
)

// authority signs certificates for hub.test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t *testing.T, until time.Time) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: noon.AddDate(-5, 0, 0), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) issue(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: noon.AddDate(-4, 0, 0), NotAfter: until, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// hub is a server that notes what clients say after the handshake, which for a
// check is nothing.
func hub(t *testing.T, config *tls.Config) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				if config == nil {
					_, _ = io.WriteString(conn, "no TLS here\r\n")
					return
				}
				secured := tls.Server(conn, config)
				if secured.Handshake() != nil {
					return
				}
				if said, _ := io.ReadAll(secured); len(said) > 0 {
					t.Errorf("the check said %q to the hub", said)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// to is a configuration for the hub at address.
func to(t *testing.T, address, ca string) Options {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/connection-string", "HostName=hub.test;DeviceId=d;SharedAccessKey=c2VjcmV0")
	write(t, dir+"/ca.pem", ca)
	o := options(t, quiet+fmt.Sprintf("hub: {dialect: azure, connection_string_file: %q, address: %q, ca_file: %q}\n", dir+"/connection-string", address, dir+"/ca.pem"))
	return o
}

func serving(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }

func TestHub(t *testing.T) {
	ca := newAuthority(t, noon.AddDate(10, 0, 0))
	year := noon.AddDate(1, 0, 0)

	o := to(t, hub(t, serving(ca.issue(t, "hub.test", year))), ca.pem)
	all := run(t, o)
	all.has(t, "dns", "", OK, "127.0.0.1")
	all.has(t, "hub", "", OK, "hub.test answers", "credentials were not tried")
	all.has(t, "certificate", "hub.test", OK, "valid until 2027-07-01")
	all.has(t, "certificate", o.Config.Hub.CAFile, OK, "valid until 2036-07-01")

	run(t, to(t, hub(t, serving(ca.issue(t, "hub.test", noon.AddDate(0, 0, 10)))), ca.pem)).
		has(t, "certificate", "hub.test", Warn, "valid until 2026-07-11", "renew")
	all = run(t, to(t, hub(t, serving(ca.issue(t, "hub.test", noon.AddDate(0, 0, -1)))), ca.pem))
	all.has(t, "hub", "", OK, "hub.test answers")
	all.has(t, "certificate", "hub.test", Fail, "expired", "renew the certificate, or set the clock")
	run(t, to(t, hub(t, serving(ca.issue(t, "hub.test", year))), newAuthority(t, year).pem)).
		has(t, "certificate", "hub.test", Fail, "unknown authority", "ca_file")
	run(t, to(t, hub(t, serving(ca.issue(t, "other.test", year))), ca.pem)).
		has(t, "certificate", "hub.test", Fail, "other.test", "another name")
	run(t, to(t, hub(t, nil), ca.pem)).has(t, "hub", "", Fail, "does not answer", "TLS")

	old := newAuthority(t, noon.AddDate(0, 0, 5))
	o = to(t, hub(t, serving(old.issue(t, "hub.test", year))), old.pem)
	all = run(t, o)
	all.has(t, "certificate", `hub.test, its authority "Test CA"`, Warn, "valid until 2026-07-06")
	all.has(t, "certificate", o.Config.Hub.CAFile, Warn, "valid until 2026-07-06", "ca.pem")

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	run(t, to(t, closed.Addr().String(), ca.pem)).has(t, "hub", "", Fail, "refused", "network lets the device out")
}

func TestNameServer(t *testing.T) {
	ca := newAuthority(t, noon.AddDate(10, 0, 0))
	o := to(t, "hub.test:8883", ca.pem)
	o.System.Lookup = func(_ context.Context, host string) ([]string, error) {
		return nil, fmt.Errorf("%s: no such host", host)
	}
	all := run(t, o)
	all.has(t, "dns", "", Fail, "hub.test: no such host", "resolvectl")
	for _, f := range all {
		if f.Check == "hub" || f.Check == "certificate" {
			t.Errorf("without a name server there is nothing to find, but %+v", f)
		}
	}
}

func TestConnectionString(t *testing.T) {
	o := to(t, "127.0.0.1:1", newAuthority(t, noon.AddDate(1, 0, 0)).pem)
	write(t, o.Config.Hub.ConnectionStringFile, "HostName=hub.test")
	run(t, o).has(t, "hub", "", Fail, "DeviceId is missing")
	o.Config.Hub.ConnectionStringFile = filepath.Join(t.TempDir(), "missing")
	run(t, o).has(t, "hub", "", Fail, "no such file", "create the file")
}

// A running daemon's connection is not disturbed, and its word is what counts.
func TestDaemonsConnection(t *testing.T) {
	ca := newAuthority(t, noon.AddDate(10, 0, 0))
	o := to(t, hub(t, serving(ca.issue(t, "hub.test", noon.AddDate(1, 0, 0)))), ca.pem)
	for _, c := range []struct {
		state  cloud.State
		result Result
		words  []string
	}{
		{cloud.State{Status: cloud.Connected}, OK, []string{"connected to hub.test"}},
		{cloud.State{Status: cloud.Connecting}, Warn, []string{"in a moment"}},
		{cloud.State{Status: cloud.Refused, Error: "CONNACK 5", Remedy: "check the key"}, Fail, []string{"CONNACK 5", "check the key"}},
		{cloud.State{Status: cloud.Waiting, Error: "connection reset"}, Fail, []string{"connection reset", "journalctl"}},
	} {
		c.state.Hub = "hub.test"
		o.Daemon = &control.Status{Hub: c.state}
		all := run(t, o)
		all.has(t, "hub", "", c.result, c.words...)
		all.has(t, "certificate", "hub.test", OK)
	}
	o.Daemon.Hub.TwinError = "SendInterval is not a number"
	run(t, o).has(t, "hub", "twin", Warn, "SendInterval")

	// Its connection string is a credential that this user cannot see.
	o.Config.Hub = cloud.DefaultConfig()
	all := run(t, o)
	all.has(t, "hub", "", Fail, "connection reset")
	all.has(t, "certificate", "", Warn, "sudo")
}

func TestPlainConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := options(t, quiet+fmt.Sprintf("hub: {dialect: mqtt, mqtt: {url: \"mqtt://%s\", device_id: d}}\n", l.Addr()))
	all := run(t, o)
	all.has(t, "hub", "", OK, l.Addr().String())
	all.has(t, "certificate", "", Warn, "not encrypted", "mqtts://")
}

// The device's own certificate ends as well.
func TestOwnCertificate(t *testing.T) {
	ca := newAuthority(t, noon.AddDate(10, 0, 0))
	own := ca.issue(t, "d", noon.AddDate(0, 0, -3))
	dir := t.TempDir()
	write(t, dir+"/cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})))
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	o := to(t, hub(t, serving(ca.issue(t, "hub.test", noon.AddDate(1, 0, 0)))), ca.pem)
	o.Config.Hub.CertFile, o.Config.Hub.KeyFile = dir+"/cert.pem", dir+"/key.pem"
	run(t, o).has(t, "certificate", dir+"/cert.pem", Fail, "ended on 2026-06-28", "issued for the device")
	o.System.Now = func() time.Time { return noon.AddDate(-6, 0, 0) }
	run(t, o).has(t, "certificate", dir+"/cert.pem", Fail, "valid only from", "clock")
}

func TestSecretsStaySecret(t *testing.T) {
	o := to(t, "127.0.0.1:1", newAuthority(t, noon.AddDate(1, 0, 0)).pem)
	for _, f := range run(t, o) {
		if strings.Contains(f.Text+f.Remedy, "c2VjcmV0") {
			t.Errorf("%+v", f)
		}
	}
	if _, err := (cloud.Config{Dialect: cloud.DialectNone}).Endpoint(time.Now, nil); !errors.Is(err, cloud.ErrNoHub) {
		t.Errorf("without a hub: %v", err)
	}
}
