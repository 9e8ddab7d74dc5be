package cloud

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSecretFile is more than any connection string, password or certificate
// chain has.
const maxSecretFile = 1 << 20

// readSecret reads a file with a secret and warns when others may read it. systemd's
// copies of credentials are nobody else's, whatever their mode says (systemd.exec(5),
// LoadCredential=: the folder is the service's alone).
func readSecret(path string, log *slog.Logger) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSecretFile {
		return "", fmt.Errorf("%s is not a file with a secret", path)
	}
	credentials := os.Getenv("CREDENTIALS_DIRECTORY")
	systemds := credentials != "" && filepath.Dir(path) == filepath.Clean(credentials)
	if mode := info.Mode().Perm(); mode&0o077 != 0 && !systemds {
		log.Warn("Others may read a file with a secret; chmod it to 0600", "file", path, "mode", mode.String())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}

// connectionString is a device's connection string, taken apart.
type connectionString struct {
	host, device string
	gateway      string // where to connect in place of host
	key          []byte
	x509         bool
}

// connectionParts are the names in connection strings that mean something here,
// as Azure writes them; case does not matter when they are read.
var connectionParts = []string{
	"HostName", "DeviceId", "GatewayHostName", "SharedAccessKey", "x509", "ModuleId", "SharedAccessKeyName",
}

// parseConnectionString reads HostName=…;DeviceId=…;SharedAccessKey=…. Its
// errors never hold any of it.
func parseConnectionString(text string) (connectionString, error) {
	var c connectionString
	seen := map[string]bool{}
	for part := range strings.SplitSeq(strings.Trim(text, "; \t\r\n"), ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return c, errors.New("it must have the form HostName=…;DeviceId=…;SharedAccessKey=…")
		}
		i := slices.IndexFunc(connectionParts, func(n string) bool { return strings.EqualFold(n, name) })
		if i < 0 {
			continue
		}
		name = connectionParts[i]
		if seen[name] {
			return c, fmt.Errorf("%s is given twice", name)
		}
		seen[name] = true
		switch name {
		case "HostName":
			c.host = value
		case "DeviceId":
			c.device = value
		case "GatewayHostName":
			c.gateway = value
		case "SharedAccessKey":
			key, err := base64.StdEncoding.DecodeString(value)
			if err != nil || len(key) == 0 {
				return c, errors.New("SharedAccessKey is not base64; copy the whole connection string again")
			}
			c.key = key
		case "x509":
			c.x509 = strings.EqualFold(value, "true")
		case "ModuleId":
			return c, errors.New("it belongs to a module (ModuleId); take the one of the device")
		case "SharedAccessKeyName":
			return c, errors.New("it belongs to the hub's service side (SharedAccessKeyName); take the one of the device")
		}
	}
	switch {
	case c.host == "":
		return c, errors.New("HostName is missing")
	case c.device == "":
		return c, errors.New("DeviceId is missing")
	case strings.ContainsAny(c.device, "/+#"):
		return c, errors.New("DeviceId has a / + or #")
	case c.key == nil && !c.x509:
		return c, errors.New("SharedAccessKey is missing (or x509=true with cert_file and key_file)")
	}
	return c, nil
}

// sasToken makes a shared access signature for a device ("Control access to
// IoT Hub using shared access signatures", structure of a SAS token): the
// signature is over the encoded resource, a newline and the expiry.
func sasToken(host, device string, key []byte, expiry time.Time) string {
	resource := encodeProperty(host + "/devices/" + device)
	end := strconv.FormatInt(expiry.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(resource + "\n" + end))
	signature := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return "SharedAccessSignature sr=" + resource + "&sig=" + url.QueryEscape(signature) + "&se=" + end
}

// tlsConfig makes the TLS configuration, with the files read now.
func (c *Config) tlsConfig(serverName string, now func() time.Time, log *slog.Logger) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, Time: now}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		key, err := readSecret(c.KeyFile, log)
		if err != nil {
			return nil, fmt.Errorf("reading key_file: %w", err)
		}
		certificate, err := os.ReadFile(c.CertFile)
		if err != nil {
			return nil, fmt.Errorf("reading cert_file: %w", err)
		}
		pair, err := tls.X509KeyPair(certificate, []byte(key))
		if err != nil {
			return nil, fmt.Errorf("cert_file %s and key_file %s: %w", c.CertFile, c.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// secretFiles are the files whose change ends the pause after a refusal.
func (c *Config) secretFiles() (files []string) {
	for _, file := range []string{c.ConnectionStringFile, c.MQTT.PasswordFile, c.CAFile, c.CertFile, c.KeyFile} {
		if file != "" {
			files = append(files, file)
		}
	}
	return files
}

// fingerprint changes when one of the files does.
func fingerprint(files []string) string {
	var b strings.Builder
	for _, file := range files {
		if info, err := os.Stat(file); err != nil {
			b.WriteString("missing\n")
		} else {
			fmt.Fprintln(&b, info.ModTime().UnixNano(), info.Size())
		}
	}
	return b.String()
}
