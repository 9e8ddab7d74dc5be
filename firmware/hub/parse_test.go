package hub

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var testKey = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))

// The token was made by hand, by the published rule: HMAC-SHA256 over the
// URL-encoded resource, a newline and the expiry (RFC 2104 with Python's hmac).
func TestSASKnownToken(t *testing.T) {
	const known = "SharedAccessSignature sr=localhost%2Fdevices%2Fpi&sig=mGbCfgHWozVe%2FZJlykDkScdWlduGFRzTjoN7jotbLh8%3D&se=2000000000"
	made, err := NewSAS("localhost", "pi", testKey, time.Unix(2000000000, 0))
	if err != nil || made != known {
		t.Errorf("made %s, %v\nwant %s", made, err, known)
	}
	now := time.Unix(1900000000, 0)
	for _, s := range []string{
		known,
		"SharedAccessSignature se=2000000000&sr=localhost%2Fdevices%2Fpi&sig=mGbCfgHWozVe/ZJlykDkScdWlduGFRzTjoN7jotbLh8=&skn=",
	} {
		token, err := parseSAS(s)
		if err != nil {
			t.Fatal(err)
		}
		end, err := token.verify("LocalHost", "pi", now, "not base64!", testKey)
		if err != nil || end.Unix() != 2000000000 {
			t.Errorf("verify: %v, %v", end, err)
		}
		for _, wrong := range []struct {
			host, device, key string
			now               int64
			err               error
		}{
			{"localhost", "pi", testKey, 2000000000, errSASExpired},
			{"localhost", "pi", base64.StdEncoding.EncodeToString([]byte("another")), 1900000000, errSASSignature},
			{"localhost", "pi", "", 1900000000, errSASSignature},
			{"localhost", "pi2", testKey, 1900000000, errSASResource},
			{"elsewhere", "pi", testKey, 1900000000, errSASResource},
		} {
			if _, err := token.verify(wrong.host, wrong.device, time.Unix(wrong.now, 0), wrong.key); !errors.Is(err, wrong.err) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
	}
	// The expiry is signed with the rest.
	longer, err := parseSAS(strings.Replace(known, "se=2000000000", "se=2000000001", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := longer.verify("localhost", "pi", now, testKey); !errors.Is(err, errSASSignature) {
		t.Errorf("prolonged token: %v", err)
	}
}

func FuzzSAS(f *testing.F) {
	f.Add("SharedAccessSignature sr=localhost%2Fdevices%2Fpi&sig=mGbCfgHWozVe%2FZJlykDkScdWlduGFRzTjoN7jotbLh8%3D&se=2000000000")
	f.Add("SharedAccessSignature sr=%zz&sig=%3D&se=-1")
	f.Add("SharedAccessSignature sr=a&sr=b&sig=AAAA&se=9223372036854775807&skn=policy")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := parseSAS(s)
		if err != nil {
			if !errors.Is(err, errSASMalformed) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		// Nothing but a token that this key signed passes.
		if _, err := token.verify("localhost", "pi", time.Unix(0, 0), testKey); err == nil {
			made, err := NewSAS("localhost", "pi", testKey, time.Unix(token.expiry, 0))
			if err != nil {
				t.Fatal(err)
			}
			want, _ := parseSAS(made)
			if want.resource == token.resource && string(want.signature) != string(token.signature) {
				t.Errorf("accepted %q", s)
			}
		}
	})
}

func TestUserName(t *testing.T) {
	for in, want := range map[string]userName{
		"hub.azure-devices.net/pi/?api-version=2021-04-12":                  {"hub.azure-devices.net", "pi"},
		"hub/pi/api-version=2016-11-14&DeviceClientType=x":                  {"hub", "pi"},
		"localhost:18883/pi/?api-version=2020-09-30&x=a/b":                  {"localhost:18883", "pi"},
		"hub/a.b-c_d:e=@!?*(),'%$/?api-version=1":                           {"hub", "a.b-c_d:e=@!?*(),'%$"},
		"hub/pi/?DeviceClientType=Microsoft.Azure.Devices.Client%2F1.0 (/)": {"hub", "pi"},
	} {
		if got, err := parseUserName(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "hub", "/pi/?api-version=1", "hub//?api-version=1", "hub/p i/", "hub/pi+/", "hub/" + strings.Repeat("x", 129), "hub/pi/module/?api-version=1", "hub/ü/"} {
		if got, err := parseUserName(in); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func TestPropertyBag(t *testing.T) {
	type m = map[string]string
	for bag, want := range map[string]struct{ system, own m }{
		"":                                  {m{}, m{}},
		"a=b":                               {m{}, m{"a": "b"}},
		"a=b/":                              {m{}, m{"a": "b"}},
		"&a=b&&c=&d&":                       {m{}, m{"a": "b", "c": "", "d": ""}},
		"a=1&a=2":                           {m{}, m{"a": "2"}},
		"a=b=c":                             {m{}, m{"a": "b=c"}},
		"a%20b=c%26d%3D%2F%2B%23&%C3%BC=+":  {m{}, m{"a b": "c&d=/+#", "ü": "+"}},
		"$.mid=1&%24.ct=text%2Fplain&$.x=y": {m{"messageId": "1", "contentType": "text/plain", "$.x": "y"}, m{}},
		"$.cid=1&$.uid=2&$.ctime=3&$.ce=4&$.to=5&$.on=6&$.sub=7": {
			m{"correlationId": "1", "userId": "2", "creationTimeUtc": "3", "contentEncoding": "4", "to": "5", "outputName": "6", "componentName": "7"}, m{}},
	} {
		system, own, err := parseBag(bag)
		if err != nil || !maps.Equal(system, want.system) || !maps.Equal(own, want.own) {
			t.Errorf("%q: %v %v %v", bag, system, own, err)
		}
	}
	for _, bag := range []string{"=x", "a=%", "%zz=1", "a=%ff"} {
		if _, _, err := parseBag(bag); err == nil {
			t.Errorf("%q has no error", bag)
		}
	}
}

func TestPropertyBagRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Filter(func(s string) bool { return s != "" && !strings.HasPrefix(s, "$.") })
		own := rapid.MapOf(name, rapid.String()).Draw(t, "own")
		system := rapid.MapOf(rapid.SampledFrom([]string{"messageId", "contentType", "to", "$.x"}), rapid.String()).Draw(t, "system")
		bag := formatBag(system, own)
		if strings.ContainsAny(bag, "+#/ ") {
			t.Fatalf("%q cannot stand in a topic", bag)
		}
		gotSystem, gotOwn, err := parseBag(bag)
		if err != nil || !maps.Equal(gotSystem, system) || !maps.Equal(gotOwn, own) {
			t.Fatalf("%q: %v %v %v", bag, gotSystem, gotOwn, err)
		}
	})
}

func FuzzPublishTopic(f *testing.F) {
	for _, s := range []string{
		"devices/pi/messages/events/", "devices/pi/messages/events", "devices/pi/messages/events/?a=b", "devices/pi/messages/events/%24.ct=application%2Fjson&x=%zz",
		"$iothub/twin/GET/?$rid=1", "$iothub/twin/PATCH/properties/reported/?$version=1&$rid=2", "$iothub/methods/res/200/?$rid=a", "$iothub/methods/res/x/", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		p, err := parsePublishTopic("pi", topic)
		if err != nil {
			if !errors.Is(err, errTopic) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		if p.kind != kindEvent && p.rid == "" {
			t.Errorf("%q: no request id", topic)
		}
		if p.kind == kindEvent && !strings.HasPrefix(topic, "devices/pi/messages/events") {
			t.Errorf("%q is taken for an event", topic)
		}
		system, own, err := parseBag(p.bag)
		if err != nil {
			return
		}
		for k, v := range own {
			if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
				t.Errorf("property %q=%q", k, v)
			}
		}
		// What was read can be written, and read again.
		s2, o2, err := parseBag(formatBag(system, own))
		if err != nil || !maps.Equal(s2, system) || !maps.Equal(o2, own) {
			t.Errorf("%q does not come back: %v", p.bag, err)
		}
	})
}

func FuzzUserName(f *testing.F) {
	f.Add("localhost/pi/?api-version=2021-04-12&DeviceClientType=x")
	f.Add("a/b/c/?api-version=1")
	f.Add("//")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseUserName(s)
		if err == nil && (u.host == "" || strings.Contains(u.host, "/") || checkDeviceID(u.device) != nil) {
			t.Errorf("%q: %+v", s, u)
		}
	})
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		filter, topic string
		want          bool
	}{
		{"#", "a/b", true}, {"a/#", "a/b/c", true}, {"a/#", "a", true}, {"a/#", "b", false},
		{"a/+", "a/b", true}, {"a/+", "a/b/c", false}, {"a/+", "a", false}, {"a/+/c", "a/b/c", true},
		{"a/+/c", "a//c", true}, {"a/b", "a/b", true}, {"a/b", "a/b/", false}, {"a/b/", "a/b", false},
		{"$iothub/methods/POST/#", "$iothub/methods/POST/reset/?$rid=1", true},
		{"devices/pi/messages/devicebound/#", "devices/pi/messages/devicebound/", true},
	} {
		if got := matches(tt.filter, tt.topic); got != tt.want {
			t.Errorf("%s %s: %v", tt.filter, tt.topic, got)
		}
	}
}

func TestEventJSON(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 2, 3, 123e6, time.UTC)
	const head = `{"device":"pi","module":"","output":"","time":"2026-11-22T11:02:03.123Z","properties":{},"body":`
	for _, tt := range []struct{ kind, encoding, body, want string }{
		{"application/json", "utf-8", "{\n \"a\" : \"<&>\"\n}", `{"a":"<&>"}}`},
		{"application/json; charset=utf-8", "", `12345678901234567890`, `12345678901234567890}`},
		{"application/cloudevents+json", "UTF8", `"text"`, `"text"}`},
		{"application/json", "utf-8", `{broken`, `"{broken"}`},
		{"application/json", "utf-8", ``, `""}`},
		{"application/json", "utf-16", `{}`, `"{}"}`},
		{"application/json", "", "\"\xff\"", `"Iv8i","bodyEncoding":"base64"}`},
		{"text/plain", "", `{"a":1}`, `"{\"a\":1}"}`},
		{"", "", "grüße <3\n", `"grüße <3\n"}`},
		{"image/jpeg", "", "\xff\xd8\xff", `"/9j/","bodyEncoding":"base64"}`},
		{"%%%", "", "", `""}`},
	} {
		e := Event{Device: "pi", Time: at, System: map[string]string{"contentType": tt.kind, "contentEncoding": tt.encoding}, Body: []byte(tt.body)}
		got, err := marshalPlain(e)
		if err != nil || string(got) != head+tt.want {
			t.Errorf("%q\n got %s, %v\nwant %s", tt.body, got, err, head+tt.want)
		}
		var back Event
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		again, err := marshalPlain(back)
		if err != nil || string(again) != string(got) {
			t.Errorf("read and written again: %s, %v", again, err)
		}
	}
}

// RFC 7396, appendix A, as far as both sides are objects without null in arrays.
func TestMerge(t *testing.T) {
	for _, tt := range []struct{ doc, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"a":"foo"}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		doc, err := parsePatch([]byte(tt.doc))
		if err != nil {
			t.Fatal(err)
		}
		patch, err := parsePatch([]byte(tt.patch))
		if err != nil {
			t.Fatal(err)
		}
		before, _ := marshalPlain(doc)
		half, err := TwinProperties{Values: doc, Metadata: map[string]any{}, Version: 7}.apply(patch, time.Unix(0, 0), true)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := marshalPlain(half.Values); string(got) != tt.want || half.Version != 8 {
			t.Errorf("%s + %s = %s, want %s", tt.doc, tt.patch, got, tt.want)
		}
		if after, _ := marshalPlain(doc); string(after) != string(before) {
			t.Errorf("the patch changed its input to %s", after)
		}
	}
}

// Whatever is patched, metadata has the same keys as the document.
func FuzzTwinPatch(f *testing.F) {
	f.Add(`{"a":{"b":1}}`, `{"a":{"b":null,"c":[1,{"d":"e"}]}}`)
	f.Add(`{"a":1,"$version":4}`, `{"a":{"x":{"y":{}}}}`)
	f.Add(`{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{"i":{"j":1}}}}}}}}}}`, `{"a":null}`)
	f.Add(`[]`, `{"a.b":1}`)
	f.Fuzz(func(t *testing.T, first, second string) {
		half := TwinProperties{Values: map[string]any{}, Metadata: map[string]any{}, Version: 1}
		for _, s := range []string{first, second} {
			patch, err := parsePatch([]byte(s))
			if err == nil {
				var next TwinProperties
				if next, err = half.apply(patch, time.Unix(0, 0), false); err == nil {
					half = next
				}
			}
			if err != nil && !errors.Is(err, ErrTwinPatch) {
				t.Errorf("error of another kind: %v", err)
			}
		}
		var same func(doc, meta map[string]any)
		same = func(doc, meta map[string]any) {
			keys := map[string]bool{}
			for k := range meta {
				if !strings.HasPrefix(k, "$") {
					keys[k] = true
				}
			}
			for k, v := range doc {
				inner, ok := meta[k].(map[string]any)
				if !ok {
					t.Fatalf("no metadata for %q", k)
				}
				delete(keys, k)
				if object, ok := v.(map[string]any); ok {
					same(object, inner)
				}
			}
			if len(keys) > 0 {
				t.Fatalf("metadata without a value: %v", keys)
			}
		}
		same(half.Values, half.Metadata)
		b, err := marshalPlain(half.Values)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parsePatch(b)
		if err != nil || !reflect.DeepEqual(back, half.Values) {
			t.Fatalf("%s does not come back: %v", b, err)
		}
	})
}

func FuzzEventJSON(f *testing.F) {
	f.Add("application/json", []byte(`{"a":1}`))
	f.Add("text/plain", []byte("\xff"))
	f.Add("", []byte(`"x"`))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		b, err := marshalPlain(Event{Device: "pi", System: map[string]string{"contentType": kind}, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "\n") {
			t.Errorf("more than one line: %s", b)
		}
		var back Event
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
	})
}

func TestConnectionString(t *testing.T) {
	d := Device{ID: "pi", PrimaryKey: "KEY="}
	if got, want := d.ConnectionString("hub.local"), "HostName=hub.local;DeviceId=pi;SharedAccessKey=KEY="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "hub.example.org": true, "hub.example.org.": true, "10.0.2.2": true, "::1": true, "my_pi": true,
		"": false, "a b": false, "-a": false, "a..b": false, "a/b": false, "host:1": false, "a;b=c": false, strings.Repeat("a.", 127) + "aa": false,
	} {
		if got := ValidHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
