package hub

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// sasPrefix begins every token; the rest are sr, sig, se and perhaps skn, in any order.
const sasPrefix = "SharedAccessSignature "

// Why a token was refused. The reasons are for the hub's log: a device only
// learns that it was refused.
var (
	errSASMalformed = errors.New("malformed SAS token")
	errSASExpired   = errors.New("SAS token has expired")
	errSASResource  = errors.New("SAS token is for another resource")
	errSASSignature = errors.New("SAS token's signature fits neither key of the device")
)

// sasToken is a shared access signature as IoT Hub defines it: sig is the
// base64 of HMAC-SHA256 over "{sr}\n{se}" with the device's decoded key.
type sasToken struct {
	resource  string // sr as it was signed: URL-encoded
	signature []byte
	expiry    int64 // se, seconds since 1970 UTC
}

// parseSAS takes a token apart without judging it.
func parseSAS(s string) (sasToken, error) {
	fields, ok := strings.CutPrefix(s, sasPrefix)
	if !ok {
		return sasToken{}, fmt.Errorf("%w: it does not begin with %q", errSASMalformed, strings.TrimSpace(sasPrefix))
	}
	values := make(map[string]string)
	for field := range strings.SplitSeq(fields, "&") {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return sasToken{}, fmt.Errorf("%w: a field without a value", errSASMalformed)
		}
		if _, twice := values[name]; twice {
			return sasToken{}, fmt.Errorf("%w: a field is there twice", errSASMalformed)
		}
		values[name] = value
	}
	t := sasToken{resource: values["sr"]}
	if t.resource == "" {
		return sasToken{}, fmt.Errorf("%w: no sr", errSASMalformed)
	}
	// A path's unescape, since some clients leave the signature's "+" as it is.
	sig, err := url.PathUnescape(values["sig"])
	if err != nil {
		return sasToken{}, fmt.Errorf("%w: sig is not URL-encoded", errSASMalformed)
	}
	if t.signature, err = base64.StdEncoding.DecodeString(sig); err != nil || len(t.signature) == 0 {
		return sasToken{}, fmt.Errorf("%w: sig is not base64", errSASMalformed)
	}
	if t.expiry, err = strconv.ParseInt(values["se"], 10, 64); err != nil {
		return sasToken{}, fmt.Errorf("%w: se is not a number of seconds", errSASMalformed)
	}
	return t, nil
}

// verify checks that the token lets device in at host at the time now, signed by
// one of keys (base64). It gives the moment at which the token ends.
func (t sasToken) verify(host, device string, now time.Time, keys ...string) (time.Time, error) {
	resource, err := url.PathUnescape(t.resource)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: sr is not URL-encoded", errSASMalformed)
	}
	// Signature first: what an unsigned token claims is not worth reporting on.
	text := t.resource + "\n" + strconv.FormatInt(t.expiry, 10)
	signed := false
	for _, key := range keys {
		secret, err := base64.StdEncoding.DecodeString(key)
		if err != nil || len(secret) == 0 {
			continue
		}
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		signed = hmac.Equal(mac.Sum(nil), t.signature) || signed
	}
	if !signed {
		return time.Time{}, errSASSignature
	}
	gotHost, path, _ := strings.Cut(resource, "/")
	if !strings.EqualFold(gotHost, host) || path != "devices/"+device {
		return time.Time{}, errSASResource
	}
	if now.Unix() >= t.expiry {
		return time.Time{}, fmt.Errorf("%w at %s", errSASExpired, time.Unix(t.expiry, 0).UTC().Format(time.RFC3339))
	}
	// Beyond what time.Time adds up safely, "never" will do.
	return time.Unix(min(t.expiry, 1<<40), 0), nil
}

// NewSAS makes the password with which device signs in at the hub named host
// until expiry; key is the device's primary or secondary key in base64.
func NewSAS(host, device, key string, expiry time.Time) (string, error) {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return "", fmt.Errorf("make a SAS token for device %q: the key is not base64", device)
	}
	resource := url.QueryEscape(host + "/devices/" + device)
	se := strconv.FormatInt(expiry.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(resource + "\n" + se))
	sig := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return sasPrefix + "sr=" + resource + "&sig=" + url.QueryEscape(sig) + "&se=" + se, nil
}
