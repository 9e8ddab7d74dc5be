package provision

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What Raspberry Pi Imager 2.0 writes into user-data and network-config with
// everything filled in; the keys are put in.
const imagerUserDataText = `#cloud-config
hostname: greenhouse
manage_etc_hosts: true
packages:
- avahi-daemon
apt:
  conf: |
    Acquire {
      Check-Date "false";
    };
timezone: Europe/Berlin
keyboard:
  model: pc105
  layout: "de"
enable_ssh: true
users:
- name: me
  groups: users,adm,dialout,audio,netdev,video,plugdev,cdrom,games,input,gpio,spi,i2c,render,sudo
  shell: /bin/bash
  lock_passwd: false
  passwd: $y$j9T$secret$secret
  ssh_authorized_keys:
    - %s
    - %s
  sudo: ALL=(ALL) NOPASSWD:ALL
ssh_pwauth: true
rpi:
  interfaces:
    i2c: true
`

var imagerPSK = strings.Repeat("ab", 32)

var imagerNetworkText = `network:
  version: 2
  ethernets:
    eth0:
      dhcp4: true
      dhcp6: true
      optional: true
  wifis:
    wlan0:
      dhcp4: true
      regulatory-domain: "DE"
      access-points:
        "Hall \"2\"":
          hidden: true
          password: "` + imagerPSK + `"
      optional: true
`

func TestUserData(t *testing.T) {
	p := parseUserData(fmt.Sprintf(imagerUserDataText, ed25519Key, rsaKey))
	if len(p.problems) > 0 || p.hostname != "greenhouse" || !p.secret {
		t.Errorf("%+v", p)
	}
	if diff := cmp.Diff([]string{ed25519Key, rsaKey}, p.keys); diff != "" {
		t.Error(diff)
	}
	notes := strings.Join(p.notes, "\n")
	for _, want := range []string{"the user", "ssh_pwauth", "timezone", "keyboard", "rpi"} {
		if !strings.Contains(notes, "Not applied: "+want) {
			t.Errorf("the notes lack %s:\n%s", want, notes)
		}
	}
	// Imager 2.0.10 has a single user; cloud-init's own forms besides.
	for _, text := range []string{
		"user:\n  name: me\n  ssh_authorized_keys:\n  - " + ed25519Key,
		"ssh_authorized_keys:\n- " + ed25519Key,
		"users:\n- default\n- name: me\n  ssh_authorized_keys: [\"" + ed25519Key + "\"]",
		"users:\n- name: me\n  ssh_authorized_keys: |\n    " + ed25519Key + "\n",
	} {
		if p := parseUserData(text); len(p.problems) > 0 || p.secret || !cmp.Equal(p.keys, []string{ed25519Key}) {
			t.Errorf("%s\n%+v", text, p)
		}
	}
	if p := parseUserData("#cloud-config\nruncmd:\n- [sh, -c, \"echo hunter22 > token\"]\n"); !p.secret || !strings.Contains(strings.Join(p.notes, ""), `"runcmd"`) {
		t.Errorf("commands: %+v", p)
	}
	if p := parseUserData("#cloud-config\n"); len(p.problems)+len(p.notes) > 0 || p.secret {
		t.Errorf("empty: %+v", p)
	}
	for text, want := range map[string]string{
		"hostname: my pi": "hostname: ' ' cannot be",
		"users:\n- ssh_authorized_keys: [ssh-rsa x]\n  passwd: hunter22": "users[0].ssh_authorized_keys: key 1: ",
		"#!/bin/sh\necho pi:hunter22 | chpasswd":                         "line 1, column 1: only #cloud-config",
		"a: b: passwd: hunter22":                                         "not valid YAML",
		"a: &a hunter22\npassword: *a":                                   "references",
		strings.Repeat("- ", 40) + "hunter22 passwd":                     "nested too deep",
		"a: " + strings.Repeat("[", 40) + "password":                     "nested too deep",
		"- hunter22 passwd":                                              "not valid YAML",
	} {
		p := parseUserData(text)
		if got := problemText(p.problems); !strings.Contains(got, want) || strings.Contains(got, "hunter") {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if strings.Contains(text, "passw") && !p.secret {
			t.Errorf("%q: the password is not seen", text)
		}
	}
}

func TestNetworkConfig(t *testing.T) {
	p := parseNetworkConfig(imagerNetworkText)
	if len(p.problems)+len(p.notes) > 0 || !p.secret || p.wifi == nil || p.wifi.country != "DE" || p.wifi.networks[0].ssid != `Hall "2"` {
		t.Fatalf("%+v", p)
	}
	if diff := cmp.Diff([]string{"ssid=48616c6c20223222", "scan_ssid=1", "psk=" + imagerPSK, "key_mgmt=WPA-PSK"}, p.wifi.networks[0].settings); diff != "" {
		t.Error(diff)
	}
	const point = "version: 2\nwifis:\n  wlan0:\n    dhcp4: true\n    access-points:\n      \"a\": "
	for text, want := range map[string][]string{
		point + `{password: ""}`:                                      {`ssid="a"`, "key_mgmt=NONE"},
		point + `{auth: {key-management: none}}`:                      {`ssid="a"`, "key_mgmt=NONE"},
		point + "{}":                                                  {`ssid="a"`, "key_mgmt=NONE"},
		point + `{password: "hunter22"}`:                              {`ssid="a"`, `psk="hunter22"`, "key_mgmt=WPA-PSK"},
		point + `{auth: {key-management: sae, password: "hunter22"}}`: {`ssid="a"`, `psk="hunter22"`, "key_mgmt=SAE", "ieee80211w=2"},
	} {
		p := parseNetworkConfig(text)
		if len(p.problems) > 0 || p.wifi == nil || p.secret != strings.Contains(text, "hunter") {
			t.Errorf("%s\n%+v", text, p)
			continue
		}
		if diff := cmp.Diff(want, p.wifi.networks[0].settings); diff != "" {
			t.Errorf("%s\n%s", text, diff)
		}
	}
	if p := parseNetworkConfig(point + "{password: \"hunter22\"}\n      \"b\": {}\n"); p.wifi == nil || len(p.wifi.networks) != 2 {
		t.Errorf("two networks: %+v", p)
	}
	if p := parseNetworkConfig("version: 2\nethernets:\n  eth0:\n    dhcp4: false\n    addresses: [10.0.0.2/24]\n"); p.wifi != nil || len(p.problems) > 0 || !strings.Contains(strings.Join(p.notes, "\n"), `"addresses" of "eth0"`) || !strings.Contains(strings.Join(p.notes, "\n"), `"dhcp4"`) {
		t.Errorf("an address of its own: %+v", p)
	}
	for text, want := range map[string]string{
		"version: 1\npassword: hunter22": "version is 1",
		"":                               "version is <nil>",
		point + `{password: "hunter2"}`:  "psk has 7 characters",
		point + `{password: 12345678}`:   "put the password in quotes",
		point + `{auth: {key-management: eap, password: "hunter22"}}`:     `"eap", is not known here`,
		strings.Replace(point, `"a"`, `""`, 1) + `{password: "hunter22"}`: "ssid, the network's name, is missing",
		"wifis: {a: [hunter22 password":                                   "not valid YAML",
	} {
		p := parseNetworkConfig(text)
		if got := problemText(p.problems); !strings.Contains(got, want) || strings.Contains(got, "hunter") {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if strings.Contains(text, "passw") && !p.secret {
			t.Errorf("%q: the password is not seen", text)
		}
	}
}

// What Raspberry Pi Imager 1.8 writes for a file of one's own: each setting for
// imager_custom, and then for systems without it.
const firstRunText = `#!/bin/sh

set +e

CURRENT_HOSTNAME=$(cat /etc/hostname | tr -d " \t\n\r")
if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then
   /usr/lib/raspberrypi-sys-mods/imager_custom set_hostname greenhouse
else
   echo greenhouse >/etc/hostname
   sed -i "s/127.0.1.1.*$CURRENT_HOSTNAME/127.0.1.1\tgreenhouse/g" /etc/hosts
fi
FIRSTUSER=$(getent passwd 1000 | cut -d: -f1)
if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then
   /usr/lib/raspberrypi-sys-mods/imager_custom enable_ssh -k '%s' '%s'
else
   install -o "$FIRSTUSER" -m 700 -d "$FIRSTUSERHOME/.ssh"
fi
if [ -f /usr/lib/userconf-pi/userconf ]; then
   /usr/lib/userconf-pi/userconf 'me' '$5$secret'
fi
if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then
   /usr/lib/raspberrypi-sys-mods/imager_custom set_wlan  -h 'Anna'"'"'s hall' '%s' 'DE'
fi
if [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then
   /usr/lib/raspberrypi-sys-mods/imager_custom set_keymap 'de'
   /usr/lib/raspberrypi-sys-mods/imager_custom set_timezone 'Europe/Berlin'
fi
rm -f /boot/firstrun.sh
exit 0
`

func TestFirstRun(t *testing.T) {
	p := parseFirstRun(fmt.Sprintf(firstRunText, ed25519Key, rsaKey, imagerPSK))
	if len(p.problems) > 0 || p.hostname != "greenhouse" || !p.secret || !cmp.Equal(p.keys, []string{ed25519Key, rsaKey}) || p.wifi == nil {
		t.Fatalf("%+v", p)
	}
	if diff := cmp.Diff([]string{`ssid="Anna's hall"`, "scan_ssid=1", "psk=" + imagerPSK, "key_mgmt=WPA-PSK"}, p.wifi.networks[0].settings); diff != "" || p.wifi.country != "DE" {
		t.Error(p.wifi.country, diff)
	}
	if notes := strings.Join(p.notes, "\n"); !strings.Contains(notes, "the user") || !strings.Contains(notes, "set_keymap") || !strings.Contains(notes, "set_timezone") {
		t.Error(notes)
	}
	for line, want := range map[string]string{
		"set_hostname my.pi":           "set_hostname: a host name has no dot",
		"set_hostname $(reboot)":       "line 1, column 1: this line cannot be understood",
		"set_wlan 'a' 'hunter22":       "line 1, column 1: this line cannot be understood",
		"set_wlan 'a' 'hunter2' ''":    "set_wlan: psk has 7 characters",
		"set_wlan":                     "set_wlan: ssid",
		"enable_ssh -k 'x' 'hunter22'": "key 1: this is not a public key",
	} {
		p := parseFirstRun(imagerCustom + " " + line)
		if got := problemText(p.problems); !strings.Contains(got, want) || strings.Contains(got, "hunter") {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	for line, want := range map[string]string{"enable_ssh": "with a password", "set_other 1": `"set_other"`} {
		if p := parseFirstRun(imagerCustom + " " + line); len(p.problems) > 0 || !strings.Contains(strings.Join(p.notes, ""), want) {
			t.Errorf("%q: %+v", line, p)
		}
	}
}

// A card as Imager 2 leaves it: applied, and nothing secret stays.
func TestImager2(t *testing.T) {
	b := newBench(t, map[string]string{
		imagerUserData: fmt.Sprintf(imagerUserDataText, ed25519Key, rsaKey), imagerNetwork: imagerNetworkText, imagerMetaData: "instance-id: rpi-imager-1790623015181\n",
	})
	report := b.run()
	if b.onDevice(HostnamePath) != "greenhouse\n" || b.onDevice(KeysPath) != ed25519Key+"\n"+rsaKey+"\n" || !strings.Contains(b.onDevice(WifiPath), "psk="+imagerPSK) {
		t.Errorf("%v\n%s", tree(t, b.root), report.Text())
	}
	got := results(report)
	if got[imagerUserData] != Applied || got[imagerNetwork] != Applied || got[imagerMetaData] != Ignored {
		t.Errorf("%v\n%s", got, report.Text())
	}
	if b.onCard(imagerUserData) != "" || b.onCard(imagerNetwork) != "" || strings.Contains(report.Text(), imagerPSK) || strings.Contains(report.Text(), "$y$") {
		t.Errorf("a secret is still there\n%s", report.Text())
	}
	// The folder tuxwatch goes first.
	b = newBench(t, map[string]string{imagerFirstRun: fmt.Sprintf(firstRunText, ed25519Key, rsaKey, imagerPSK), cardHostname: "mine"})
	report = b.run()
	if b.onDevice(HostnamePath) != "mine\n" || !strings.Contains(b.onDevice(KeysPath), rsaKey) || b.onCard(imagerFirstRun) != "" || !strings.Contains(report.Text(), "since there is tuxwatch/hostname") {
		t.Error(report.Text())
	}
}

func FuzzCloudInit(f *testing.F) {
	f.Add(imagerUserDataText)
	f.Add(imagerNetworkText)
	f.Add(imagerCustom + " set_wlan 'a' 'hunter22' 'DE'\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > maxTextBytes {
			return
		}
		for _, p := range []imagerPlan{parseUserData(text), parseNetworkConfig(text), parseFirstRun(text)} {
			oneLineEach(t, p.problems)
			if p.wifi != nil && strings.Count(string(p.wifi.file()), "network={") != len(p.wifi.networks) {
				t.Errorf("%q breaks out of its network:\n%s", text, p.wifi.file())
			}
			if strings.ContainsAny(p.hostname+strings.Join(p.keys, "")+strings.Join(p.notes, ""), "\r\n") {
				t.Errorf("%q: a line break in %+v", text, p)
			}
		}
	})
}
