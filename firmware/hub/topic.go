package hub

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Topics of Azure IoT Hub's MQTT interface.
const (
	topicTwinGet      = "$iothub/twin/GET/"
	topicTwinReported = "$iothub/twin/PATCH/properties/reported/"
	topicTwinDesired  = "$iothub/twin/PATCH/properties/desired/"
	topicTwinResponse = "$iothub/twin/res/"
	topicMethodCall   = "$iothub/methods/POST/"
	topicMethodAnswer = "$iothub/methods/res/"
)

func topicEvents(device string) string { return "devices/" + device + "/messages/events" }
func topicBound(device string) string  { return "devices/" + device + "/messages/devicebound/" }

// errTopic is for a topic that is not one of the device's own.
var errTopic = errors.New("not a topic of this device")

// userName is what a device calls itself in CONNECT:
// {host}/{device}/?api-version=…&DeviceClientType=…
type userName struct{ host, device string }

// parseUserName reads host and device and lets the rest be: SDKs put their
// version, a model id and more behind them.
func parseUserName(s string) (userName, error) {
	host, rest, ok := strings.Cut(s, "/")
	if !ok || host == "" {
		return userName{}, errors.New("the user name is not {host}/{device}/?api-version=…")
	}
	device, rest, _ := strings.Cut(rest, "/")
	if err := checkDeviceID(device); err != nil {
		return userName{}, fmt.Errorf("the user name's device: %w", err)
	}
	// {host}/{device}/{module}/?api-version=… signs in a module of IoT Edge.
	if head, _, more := strings.Cut(rest, "/"); more && !strings.ContainsAny(head, "?=") {
		return userName{}, errors.New("module identities are not supported, only devices")
	}
	return userName{host, device}, nil
}

type topicKind int

const (
	kindEvent topicKind = iota + 1
	kindTwinGet
	kindTwinReported
	kindMethodAnswer
)

// publishTopic is the topic of a publish by a device, taken apart.
type publishTopic struct {
	kind   topicKind
	bag    string // events: the property bag, still encoded
	rid    string // requests and answers: $rid, as the device wrote it
	status int    // method answers
}

// parsePublishTopic accepts the topics that device may publish on.
func parsePublishTopic(device, topic string) (publishTopic, error) {
	if rest, ok := strings.CutPrefix(topic, topicEvents(device)); ok && (rest == "" || rest[0] == '/') {
		// A SDK may mark the bag's beginning as a URL's query.
		bag := strings.TrimPrefix(strings.TrimPrefix(rest, "/"), "?")
		return publishTopic{kind: kindEvent, bag: bag}, nil
	}
	if rest, ok := strings.CutPrefix(topic, topicTwinGet); ok {
		rid, err := requestID(rest)
		return publishTopic{kind: kindTwinGet, rid: rid}, err
	}
	if rest, ok := strings.CutPrefix(topic, topicTwinReported); ok {
		rid, err := requestID(rest)
		return publishTopic{kind: kindTwinReported, rid: rid}, err
	}
	if rest, ok := strings.CutPrefix(topic, topicMethodAnswer); ok {
		number, query, _ := strings.Cut(rest, "/")
		status, err := strconv.Atoi(number)
		if err != nil {
			return publishTopic{}, fmt.Errorf("%w: status %q of a method's answer is not a number", errTopic, number)
		}
		rid, err := requestID(query)
		return publishTopic{kind: kindMethodAnswer, rid: rid, status: status}, err
	}
	return publishTopic{}, errTopic
}

// requestID finds $rid in "?$rid=…", where other fields may stand beside it.
func requestID(query string) (string, error) {
	for field := range strings.SplitSeq(strings.TrimPrefix(query, "?"), "&") {
		if rid, ok := strings.CutPrefix(field, "$rid="); ok && rid != "" {
			return rid, nil
		}
	}
	return "", fmt.Errorf("%w: $rid is missing", errTopic)
}

// mayReceive tells whether filter is one that device may subscribe to: one of
// the hub's topics for it, whole or with a narrower filter below.
func mayReceive(device, filter string) bool {
	for _, allowed := range []string{topicTwinResponse, topicTwinDesired, topicMethodCall, topicBound(device)} {
		if strings.HasPrefix(filter, allowed) {
			return true
		}
	}
	return false
}

// systemNames are the system properties as they stand in a property bag, and
// the names that IoT Hub's service side gives them.
var systemNames = map[string]string{
	"$.mid":   "messageId",
	"$.cid":   "correlationId",
	"$.uid":   "userId",
	"$.to":    "to",
	"$.ct":    "contentType",
	"$.ce":    "contentEncoding",
	"$.ctime": "creationTimeUtc",
	"$.on":    "outputName",
	"$.ifid":  "interfaceId",
	"$.sub":   "componentName",
	"$.exp":   "expiryTimeUtc",
}

// parseBag reads a property bag: name=value pairs joined by "&", both sides
// URL-encoded. A name without a value has an empty one. System properties come
// back under their service-side names; one that is not known keeps its own.
func parseBag(bag string) (system, application map[string]string, err error) {
	system, application = map[string]string{}, map[string]string{}
	// Some clients end the bag with "/", as the topic's last level.
	for pair := range strings.SplitSeq(strings.TrimSuffix(bag, "/"), "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := unescape(rawName)
		if err != nil {
			return nil, nil, err
		}
		value, err := unescape(rawValue)
		if err != nil {
			return nil, nil, err
		}
		switch known, ok := systemNames[name]; {
		case ok:
			system[known] = value
		case strings.HasPrefix(name, "$."):
			system[name] = value
		case name == "":
			return nil, nil, errors.New("property bag: a property without a name")
		default:
			application[name] = value
		}
	}
	return system, application, nil
}

// unescape undoes URL encoding; a "+" stays a plus, as it does at Azure.
func unescape(s string) (string, error) {
	v, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("property bag: %w", err)
	}
	if !utf8.ValidString(v) {
		return "", errors.New("property bag: not UTF-8 after decoding")
	}
	return v, nil
}

// formatBag is the inverse of parseBag, sorted, so that it is the same each time.
func formatBag(system, application map[string]string) string {
	var pairs []string
	for short, known := range systemNames {
		if v, ok := system[known]; ok {
			pairs = append(pairs, escape(short)+"="+escape(v))
		}
	}
	for name, v := range system {
		if strings.HasPrefix(name, "$.") {
			pairs = append(pairs, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	var own []string
	for name, v := range application {
		own = append(own, escape(name)+"="+escape(v))
	}
	slices.Sort(own)
	return strings.Join(append(pairs, own...), "&")
}

// escape writes a space as %20: in a topic, "+" is a plus (and a wildcard).
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
