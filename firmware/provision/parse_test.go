package provision

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// problemText writes problems as the report does.
func problemText(problems []Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func TestHostname(t *testing.T) {
	for text, want := range map[string]string{
		"pi": "pi", "# a\n\n  Pi-2 \n": "pi-2", "3d": "3d", strings.Repeat("a", 63): strings.Repeat("a", 63),
	} {
		if got, problems := parseHostname(text); got != want || len(problems) > 0 {
			t.Errorf("%q: %q, %v", text, got, problems)
		}
	}
	for text, want := range map[string]string{
		"":                      "there is no name",
		"# only":                "there is no name",
		"a\nb":                  "line 2, column 1: there is more than one line",
		"pi.local":              "line 1, column 3: a host name has no dot",
		" my pi":                "line 1, column 4: ' ' cannot be",
		"-pi":                   "line 1, column 1: a host name neither begins",
		"pi-":                   "line 1, column 3: a host name neither begins",
		"größe":                 "line 1, column 3: 'ö' cannot be",
		"../../etc/passwd":      "column 1: a host name has no dot",
		"LocalHost":             "localhost is",
		strings.Repeat("a", 64): "column 64: the host name has 64 characters",
	} {
		if got, problems := parseHostname(text); got != "" || !strings.Contains(problemText(problems), want) {
			t.Errorf("%q: %q, %v, want %q", text, got, problems, want)
		}
	}
}

func TestKeys(t *testing.T) {
	const options = `from="10.0.0.0/8,a b",command="say \"hi there\"",no-pty `
	sk := "sk-ssh-ed25519@openssh.com " + wire("sk-ssh-ed25519@openssh.com", strings.Repeat("k", 32), "ssh:")
	all := []string{ed25519Key, ecdsaKey, rsaKey, options + ed25519Key, sk}
	keys, problems := parseKeys(strings.Join(all, "\n") + "\n\n# again\n" + sk)
	if diff := cmp.Diff(all, keys); diff != "" || len(problems) > 0 {
		t.Errorf("%s %v", diff, problems)
	}
	for text, want := range map[string]string{
		"":                                    "there is no key",
		"hello":                               "line 1, column 1: this is not a public key",
		"ssh-dss " + wire("ssh-dss", "x"):     `line 1, column 1: keys of the type "ssh-dss" are not accepted`,
		"# x\n  ssh-ed25519 AAAA!":            "line 2, column 15: the key is damaged or cut off: it is not base64",
		"ssh-ed25519":                         "it is not base64",
		"ssh-ed25519 " + wire("ssh-rsa", "k"): "it is not of the type ssh-ed25519",
		"ssh-ed25519 " + wire("ssh-ed25519", "short"):                             "damaged or cut off",
		"ssh-ed25519 " + wire("ssh-ed25519", strings.Repeat("k", 32), "more"):     "damaged or cut off",
		"ssh-rsa " + wire("ssh-rsa", "\x01\x00\x01", strings.Repeat("\xab", 128)): "column 9: the RSA key has about 1024 bits",
		`command="x ` + ed25519Key:                                                "a quote is not closed",
		`no-pty  ssh-ed25519 AAAA!`:                                               "column 21: the key is damaged",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END":                     "line 1, column 1: this is a private key",
		"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA":                                   "ssh-keygen -i -f",
	} {
		keys, problems := parseKeys(text)
		if len(keys) > 0 || len(problems) != 1 || !strings.Contains(problemText(problems), want) {
			t.Errorf("%q: %v %v, want %q", text, keys, problems, want)
		}
	}
}

func TestWifi(t *testing.T) {
	psk := strings.Repeat("0A", 32)
	for text, want := range map[string][]string{
		"ssid = \"My Net\" \npsk='pass word'\n":                                 {`ssid="My Net"`, `psk="pass word"`, "key_mgmt=WPA-PSK"},
		"SSID=a\nPASSWORD=12345678\nhidden=yes":                                 {`ssid="a"`, "scan_ssid=1", `psk="12345678"`, "key_mgmt=WPA-PSK"},
		"ssid=a\npsk=" + psk:                                                    {`ssid="a"`, "psk=" + strings.ToLower(psk), "key_mgmt=WPA-PSK"},
		"ssid=a\nopen=yes":                                                      {`ssid="a"`, "key_mgmt=NONE"},
		"ssid=a\npsk=\"12345678\nwpa3=true":                                     {`ssid="a"`, `psk=""12345678"`, "key_mgmt=SAE", "ieee80211w=2"},
		"ssid=Café\npsk=12345678":                                               {"ssid=436166c3a9", `psk="12345678"`, "key_mgmt=WPA-PSK"},
		"country=us\nap_scan=1\nnetwork = {\n ssid=6162\n}":                     {"ssid=6162"},
		"network={\nssid=\"a\"\npsk=\"12345678\"\neap=PEAP\nidentity=\"me\"\n}": {`ssid="a"`, `psk="12345678"`, "eap=PEAP", `identity="me"`},
	} {
		w, problems := parseWifi(text)
		if len(w.networks) != 1 || len(problems) > 0 {
			t.Errorf("%q: %+v %v", text, w, problems)
			continue
		}
		if diff := cmp.Diff(want, w.networks[0].settings); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"":                                                 "there is nothing in it",
		"psk=12345678":                                     "ssid, the network's name, is missing",
		"ssid=\npsk=12345678":                              "line 1, column 6: ssid",
		"ssid=" + strings.Repeat("é", 17):                  "line 1, column 6: ssid has 34 bytes",
		"ssid=a":                                           "psk, the password, is missing",
		"ssid=a\npsk = 1234567":                            "line 2, column 7: psk has 7 characters",
		"ssid=a\npsk=1234567é":                             "not in ASCII",
		"ssid=a\npsk=12345678\nopen=yes":                   "line 3, column 6: open=yes is for",
		"ssid=a\npsk=" + psk + "\nwpa3=yes":                "wpa3 needs the password",
		"ssid=a\npsk=12345678\ncountry=Deutsc":             "line 3, column 9: country is two letters",
		"ssid=a\npsk=12345678\nhidden=maybe":               "line 3, column 8: hidden: write yes or no",
		"ssid=a\nssid=b":                                   "line 2, column 1: ssid is given twice",
		"ssid=a\nkey=12345678":                             "line 2, column 1: there is no setting of this name",
		"Garden":                                           "line 1, column 1: this is not name=value",
		"network={\nssid=\"a\"":                            "line 1, column 1: this network is not closed",
		"network={\nnetwork={\nssid=\"a\"\n}":              "line 2, column 1: the network before, in line 1",
		"network={\n}":                                     "line 1, column 1: this network has no ssid",
		"network={\nssid=a b\n}":                           "line 2, column 6: ssid: put the name in quotes",
		"network={\nssid=\"a\n}":                           "line 2, column 6: ssid: the quote is not closed",
		"network={\nssid=\"a\"\npsk=hello\n}":              "line 3, column 5: psk: put the password in quotes",
		"network={\nssid=\"a\"\nssid=\"b\"\n}":             "line 3, column 1: ssid is given twice",
		"network={\nssid=\"a\"\nopensc_engine_path=/x\n}":  "line 3, column 1: a network has no setting",
		"pkcs11_module_path=/x\nnetwork={\nssid=\"a\"\n}":  "line 1, column 1: a setting of this name is not taken over",
		"network={ ssid=\"a\" }\nnetwork={\nssid=\"a\"\n}": "line 1",
	} {
		if _, problems := parseWifi(text); !strings.Contains(problemText(problems), want) {
			t.Errorf("%q: %v, want %q", text, problems, want)
		}
	}
}

func TestConnectionString(t *testing.T) {
	value, device, hub, problems := parseConnectionString("# mine\n \""+hubString+"\" \n", start)
	if value != hubString || device != "greenhouse-1" || hub != "hub.example.com" || len(problems) > 0 {
		t.Errorf("%q %q %q %v", value, device, hub, problems)
	}
	for text, want := range map[string]string{
		"":                     "there is no connection string",
		hubString + "\n" + "x": "line 2, column 1: there is more than one line",
		"hello":                "line 1, column 1: it must have the form",
		strings.Replace(hubString, "DeviceId", "ModuleId", 1): "belongs to a module",
		strings.Replace(hubString, secretKey, "???", 1):       "SharedAccessKey is not base64",
		"HostName=h;SharedAccessKey=" + secretKey:             "DeviceId is missing",
	} {
		value, _, _, problems := parseConnectionString(text, start)
		got := problemText(problems)
		if value != "" || !strings.Contains(got, want) || strings.Contains(got, "/proc") || strings.Contains(got, secretKey) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	for name, text := range map[string]string{
		"10-eth0.network": "# x\n[Match]\nName=eth0\n[Network]\nDHCP=yes\nDNS=1.1.1.1 \\\n  8.8.8.8\n",
		"a.link":          "[Match]\nMACAddress=00:11:22:33:44:55\n[Link]\nName=lan\n",
		"br0.netdev":      "[NetDev]\nName=br0\nKind=bridge\n",
	} {
		if secret, problems := parseNetwork(name, text); secret || len(problems) > 0 {
			t.Errorf("%s: %v %v", name, secret, problems)
		}
	}
	if secret, problems := parseNetwork("wg.netdev", everything["tuxwatch/network/wg0.netdev"]); !secret || len(problems) > 0 {
		t.Errorf("a private key: %v %v", secret, problems)
	}
	for _, test := range []struct{ name, text, want string }{
		{"x.conf", "[Match]\nName=a", "is no name for it"},
		{".network", "[Match]\nName=a", "is no name for it"},
		{"../x.network", "[Match]\nName=a", "is no name for it"},
		{"x.network", "[Network]\nDHCP=yes", "[Match] is missing or empty"},
		{"x.network", "[Match]\n[Network]\nDHCP=yes", "[Match] is missing or empty"},
		{"x.netdev", "[Match]\nName=a", "[NetDev] is missing or empty"},
		{"x.network", "[Match\nName=a", "line 1, column 1: a section stands in brackets, as [Match]"},
		{"x.network", "[Match]\n  Name eth0", "line 2, column 3: this is neither Setting=value"},
		{"x.network", "Name=a\n[Match]", "line 1, column 1: this setting stands before"},
	} {
		if _, problems := parseNetwork(test.name, test.text); !strings.Contains(problemText(problems), test.want) {
			t.Errorf("%s %q: %v, want %q", test.name, test.text, problems, test.want)
		}
	}
}

func TestImagerFile(t *testing.T) {
	for text, want := range map[string]string{
		"config_version = 2": "config_version is 2; version 1 is known",
		"":                   "config_version is 0",
		"config_version = 1\n[wlan]\npassword = hunter":                                              "line 3, column ",
		"config_version = 1\n[system]\nhostname = 5":                                                 "not valid TOML",
		"config_version = 1\n[system]\nhostname = \"\"":                                              "system.hostname: the host name is empty",
		"config_version = 1\n[ssh]\nauthorized_keys = [\"" + ed25519Key + "\", \"x\"]":               "key 2: this is not a public key",
		"config_version = 1\n[ssh]\nauthorized_keys = [\"" + ed25519Key + "\\nssh-rsa x\"]":          "key 1 has a line break",
		"config_version = 1\n[wlan]\nssid = \"a\"\npassword = \"hunter2\"":                           "wlan: psk has 7 characters",
		"config_version = 1\n[wlan]\nssid = \"a\"\npassword = \"hunter22\"\npassword_encrypted=true": "wlan.password is not the 64",
		"config_version = 1\n[wlan]\npassword = \"hunter22\"":                                        "wlan: ssid",
	} {
		p := parseImager(text)
		got := problemText(p.problems)
		if !strings.Contains(got, want) || strings.Contains(got, "hunter") {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if strings.Contains(text, "hunter") && !p.secret {
			t.Errorf("%q: the password is not seen", text)
		}
	}
	p := parseImager("config_version = 1\n[wlan]\nssid = \"a\"\nhidden = true\n[ssh]\nenabled = false\nssh_import_id = \"gh:me\"\n[extra]\nx = 1\n")
	if p.wifi == nil || p.secret || !cmp.Equal(p.wifi.networks[0].settings, []string{`ssid="a"`, "scan_ssid=1", "key_mgmt=NONE"}) {
		t.Errorf("an open network: %+v", p)
	}
	notes := strings.Join(p.notes, "\n")
	for _, want := range []string{"ssh.enabled = false", "ssh_import_id", `"extra.x"`} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
}

// What is put on the card as an example is right when the # in front of it is
// taken away, is found under its name, and is for Notepad, too.
func TestExamples(t *testing.T) {
	const folder = "../../rootfs/usr/share/tuxwatch/card"
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if strings.Count(text, "\n") != strings.Count(text, "\r\n") {
			t.Errorf("%s: its lines do not end in CR LF", name)
		}
		return text
	}
	b := newBench(t, nil)
	readme := read("README.txt")
	for _, name := range []string{cardConfig, cardKeys, cardWifi, cardHostname, cardConnection, cardNetwork + "/10-eth0.network"} {
		base := strings.TrimPrefix(name, cardDir+"/")
		text := read("examples/" + base)
		// Explanations have a blank after the #, examples have none or several.
		b.put(name, regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAllString(text, "$1"))
		if first, _, _ := strings.Cut(base, "/"); !strings.Contains(readme, "\n  "+first) {
			t.Errorf("README.txt does not explain %s", first)
		}
	}
	report := b.run()
	if len(report.Entries) != 6 {
		t.Errorf("%d files", len(report.Entries))
	}
	for _, e := range report.Entries {
		if e.Result != Applied {
			t.Errorf("%+v", e)
		}
	}
	if got := b.onDevice(WifiPath); !strings.Contains(got, "country=DE") || !strings.Contains(got, "scan_ssid=1") {
		t.Errorf("the wireless network: %s", got)
	}
}

// oneLineEach fails for problems that would break the report's form.
func oneLineEach(t *testing.T, problems []Problem) {
	for _, p := range problems {
		if p.Message == "" || strings.ContainsAny(p.Message, "\r\n\x00\x1b") || (p.Line == 0) != (p.Column == 0) {
			t.Errorf("%+v", p)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"a\r\n", "\xff\xfea\x00", "\xfe\xff\x00a", "a\x00b\x00", "\xef\xbb\xbfa", "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, problem := decodeText(data)
		if problem != nil {
			oneLineEach(t, []Problem{*problem})
		}
		if again, problem := decodeText([]byte(text)); problem == nil && strings.ContainsAny(again, "\r\x00") {
			t.Errorf("%q became %q", data, again)
		}
	})
}

func FuzzHostname(f *testing.F) {
	f.Add("pi-1\n")
	f.Add("# x\n..")
	valid := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, text string) {
		name, problems := parseHostname(text)
		oneLineEach(t, problems)
		if (name == "") != (len(problems) > 0) || name != "" && !valid.MatchString(name) {
			t.Errorf("%q: %q %v", text, name, problems)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add(ed25519Key + "\n" + rsaKey)
	f.Add(`command="a b" ` + ecdsaKey)
	f.Fuzz(func(t *testing.T, text string) {
		text, problem := decodeText([]byte(text))
		if problem != nil {
			return
		}
		keys, problems := parseKeys(text)
		oneLineEach(t, problems)
		if len(keys)+len(problems) == 0 {
			t.Error("neither keys nor problems")
		}
		again, problems := parseKeys(strings.Join(keys, "\n"))
		if len(keys) > 0 && (!cmp.Equal(keys, again) || len(problems) > 0) {
			t.Errorf("%q: %q became %q %v", text, keys, again, problems)
		}
	})
}

func FuzzWifi(f *testing.F) {
	f.Add(wifiText)
	f.Add("country=de\nnetwork={\nssid=\"a\"\npsk=\"12345678\"\n}")
	f.Fuzz(func(t *testing.T, text string) {
		text, problem := decodeText([]byte(text))
		if problem != nil {
			return
		}
		w, problems := parseWifi(text)
		oneLineEach(t, problems)
		if len(problems) > 0 {
			return
		}
		// What is written is read as the same: nothing gets out of its line.
		again, problems := parseWifi(string(w.file()))
		if len(problems) > 0 {
			t.Fatalf("%q: %q: %v", text, w.file(), problems)
		}
		if string(again.file()) != string(w.file()) {
			t.Errorf("%q: %q became %q", text, w.file(), again.file())
		}
	})
}

func FuzzNetwork(f *testing.F) {
	f.Add("a.network", "[Match]\nName=a\n")
	f.Add("..", "[")
	f.Fuzz(func(t *testing.T, name, text string) {
		_, problems := parseNetwork(name, text)
		oneLineEach(t, problems)
		if len(problems) == 0 && (filepath.Base(name) != name || !filepath.IsLocal(name)) {
			t.Errorf("the name %q is taken", name)
		}
	})
}

func FuzzConnectionString(f *testing.F) {
	f.Add(hubString)
	f.Fuzz(func(t *testing.T, text string) {
		value, _, _, problems := parseConnectionString(text, time.Unix(0, 0))
		oneLineEach(t, problems)
		if (value == "") != (len(problems) > 0) || strings.Contains(value, "\n") {
			t.Errorf("%q: %q %v", text, value, problems)
		}
	})
}

func FuzzImager(f *testing.F) {
	f.Add("config_version = 1\n[system]\nhostname = \"a\"\n[wlan]\nssid = \"b\"\npassword = \"12345678\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		p := parseImager(text)
		oneLineEach(t, p.problems)
		for _, n := range p.notes {
			if strings.ContainsAny(n, "\r\n") {
				t.Errorf("%q", n)
			}
		}
		if p.wifi != nil {
			if _, problems := parseWifi(string(p.wifi.file())); len(problems) > 0 {
				t.Errorf("%q: %v", p.wifi.file(), problems)
			}
		}
	})
}
