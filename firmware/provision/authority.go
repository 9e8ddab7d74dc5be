package provision

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// parseAuthority reads certificates in PEM (RFC 7468): those of the authority
// that a hub of one's own is signed by. It gives the certificates alone, and
// whom they are of.
func parseAuthority(text string) (certificates []byte, names []string, problems []Problem) {
	rest := []byte(text)
	for {
		line := 1 + strings.Count(text[:len(text)-len(rest)], "\n")
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		wrong := func(format string, args ...any) {
			problems = append(problems, Problem{line, 1, fmt.Sprintf(format, args...)})
		}
		if block.Type != "CERTIFICATE" {
			if strings.Contains(block.Type, "PRIVATE KEY") {
				wrong("there is a private key, which has to stay at the hub: put the certificate alone here")
			} else {
				wrong("there is something else than a certificate")
			}
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			wrong("the certificate is damaged; copy the file again")
		case !certificate.IsCA:
			wrong("the certificate of %.60q is not of an authority; take the one that the hub's is signed with (tuxhub: ca.pem)", certificate.Subject.CommonName)
		default:
			names = append(names, fmt.Sprintf("%.60q, until %s", certificate.Subject.CommonName, certificate.NotAfter.UTC().Format("2006-01-02")))
			certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	if len(names)+len(problems) == 0 {
		problems = []Problem{{Message: "there is no certificate in it: it has to begin with -----BEGIN CERTIFICATE-----"}}
	}
	if len(problems) > 0 {
		return nil, nil, problems
	}
	return certificates, names, nil
}
