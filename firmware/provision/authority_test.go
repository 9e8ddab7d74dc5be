package provision

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// certificate makes one in PEM, always the same.
func certificate(t testing.TB, name string, isCA bool) string {
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", ed25519.SeedSize)))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: start, NotAfter: start.Add(365 * 24 * time.Hour),
		IsCA: isCA, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestAuthority(t *testing.T) {
	ca := certificate(t, "my hub", true)
	b := newBench(t, map[string]string{"tuxwatch/hub-ca.pem.txt": "what openssl says\r\n" + strings.ReplaceAll(ca, "\n", "\r\n")})
	report := b.run()
	if diff := cmp.Diff(ca, b.onDevice(AuthorityPath)); diff != "" {
		t.Errorf("%s\n%s", diff, report.Text())
	}
	if !strings.Contains(report.Text(), `"my hub", until 2027-11-22`) {
		t.Error(report.Text())
	}
	key := "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
	for text, want := range map[string]string{
		"":                           "there is no certificate",
		"hello":                      "there is no certificate",
		ca[:100]:                     "there is no certificate",
		ca + key:                     "there is a private key",
		certificate(t, "hub", false): `line 1, column 1: the certificate of "hub" is not of an authority`,
		ca + strings.Replace(key, "PRIVATE KEY", "X", 2):                          "something else",
		ca + "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n": "the certificate is damaged",
	} {
		certificates, _, problems := parseAuthority(text)
		if got := problemText(problems); certificates != nil || !strings.Contains(got, want) || strings.Contains(got, "c2Vj") {
			t.Errorf("%.40q: %q, want %q", text, got, want)
		}
	}
	// A private key on the card is pointed out, and stays to be dealt with.
	b = newBench(t, map[string]string{cardAuthority: ca + key})
	if report := b.run(); !strings.Contains(report.Text(), "STILL ON THE CARD") || b.onDevice(AuthorityPath) != "" {
		t.Error(report.Text())
	}
}

func FuzzAuthority(f *testing.F) {
	f.Add(certificate(f, "my hub", true))
	f.Fuzz(func(t *testing.T, text string) {
		certificates, names, problems := parseAuthority(text)
		oneLineEach(t, problems)
		if (len(names) > 0) == (len(problems) > 0) || (len(certificates) > 0) != (len(names) > 0) {
			t.Errorf("%q: %v %v", text, names, problems)
		}
	})
}
