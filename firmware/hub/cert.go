package hub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

const (
	serverCertLife  = 397 * 24 * time.Hour // what strict clients accept at most
	serverCertRenew = 30 * 24 * time.Hour  // this long before it ends it is replaced
)

// The authority is valid over a span that does not depend on the clock: a Pi
// without a battery may make it when it believes to be in 1970. The end is the
// last year that every client's parser reads (RFC 5280, 4.1.2.5).
var (
	authorityBegin = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	authorityEnd   = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// certificates is the hub's own authority with the server certificate it signs.
// Both are files in the state folder, made when they are missing.
type certificates struct {
	dir   string
	names []string // DNS names and addresses that the server certificate must have
	now   func() time.Time

	authority    *x509.Certificate
	authorityKey crypto.Signer

	mu     sync.Mutex
	server *tls.Certificate
}

// loadCertificates reads or makes ca.pem, ca-key.pem, server.pem and server-key.pem in dir.
func loadCertificates(dir string, hosts []string, now func() time.Time) (*certificates, error) {
	c := &certificates{dir: dir, now: now}
	c.names = append(c.names, hosts...)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if !slices.Contains(c.names, name) {
			c.names = append(c.names, name)
		}
	}
	if err := c.loadAuthority(); err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	pair, err := tls.LoadX509KeyPair(c.path("server.pem"), c.path("server-key.pem"))
	if err == nil && c.fits(pair.Leaf) {
		c.server = &pair
	}
	// One that is missing, damaged or unfit is replaced: clients trust the authority.
	if _, err := c.certificate(nil); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificates) path(name string) string { return filepath.Join(c.dir, name) }

func (c *certificates) loadAuthority() error {
	pair, err := tls.LoadX509KeyPair(c.path("ca.pem"), c.path("ca-key.pem"))
	if err == nil {
		signer, ok := pair.PrivateKey.(crypto.Signer)
		if !ok || !pair.Leaf.IsCA {
			return errors.New("ca.pem is not a certificate authority's; move ca.pem and ca-key.pem away to have new ones made")
		}
		c.authority, c.authorityKey = pair.Leaf, signer
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		// Devices trust the one that was there, so it is not replaced without being told.
		return fmt.Errorf("%w; put ca.pem and ca-key.pem back, or move both away to have new ones made (devices then need the new ca.pem)", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serialNumber(),
		Subject:               pkix.Name{CommonName: "tuxhub authority", Organization: []string{"tuxwatch"}},
		NotBefore:             authorityBegin,
		NotAfter:              authorityEnd,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if c.authority, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	c.authorityKey = key
	return c.writePair("ca", der, key)
}

// fits tells whether a server certificate still does.
func (c *certificates) fits(cert *x509.Certificate) bool {
	now := c.now()
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter.Add(-serverCertRenew)) {
		return false
	}
	if cert.CheckSignatureFrom(c.authority) != nil {
		return false
	}
	for _, name := range c.names {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

// certificate is what a TLS handshake asks for. It renews the server
// certificate when its time comes, so a hub that runs for years stays reachable.
func (c *certificates) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil && c.fits(c.server.Leaf) {
		return c.server, nil
	}
	now := c.now()
	template := &x509.Certificate{
		SerialNumber: serialNumber(),
		Subject:      pkix.Name{CommonName: "tuxhub", Organization: []string{"tuxwatch"}},
		NotBefore:    now.Add(-24 * time.Hour), // clients' clocks are off, too
		NotAfter:     now.Add(serverCertLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range c.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the server certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.authority, key.Public(), c.authorityKey)
	if err != nil {
		return nil, fmt.Errorf("make the server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the server certificate: %w", err)
	}
	if err := c.writePair("server", der, key); err != nil {
		return nil, fmt.Errorf("make the server certificate: %w", err)
	}
	// The authority goes along, for clients that pin it by its fingerprint.
	c.server = &tls.Certificate{Certificate: [][]byte{der, c.authority.Raw}, PrivateKey: key, Leaf: leaf}
	return c.server, nil
}

func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.certificate}
}

// writePair writes the key first: a certificate without its key would be taken
// for damage, a key without its certificate is overwritten.
func (c *certificates) writePair(name string, der []byte, key *ecdsa.PrivateKey) error {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := renameio.WriteFile(c.path(name+"-key.pem"), keyPEM, 0o600); err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := renameio.WriteFile(c.path(name+".pem"), certPEM, 0o644); err != nil {
		return err
	}
	return syncFolder(c.dir)
}

func serialNumber() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}

// CAFile is the certificate authority that devices of the hub with its state in
// dir must trust. It is there once the hub has been started.
func CAFile(dir string) string { return filepath.Join(dir, "ca.pem") }

// ValidHost tells whether s can stand in a connection string and a certificate:
// a host name or an IP address.
func ValidHost(s string) bool {
	if net.ParseIP(s) != nil {
		return true
	}
	return len(s) <= 253 && hostName.MatchString(s)
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}[A-Za-z0-9_])?)*\.?$`)
