package provision

import "tuxwatch/firmware/config"

// Where things go on the device. Its root file system is read-only: each of these
// folders has to be a mount from the data partition, or the file a link to where
// it can be replaced by renaming. A folder may be a relative link, not an
// absolute one, which os.Root takes for a way out.
const (
	// ConfigPath is the daemon's configuration.
	ConfigPath = config.DefaultPath
	// ConfigBackupPath is the configuration that the card's replaced.
	ConfigBackupPath = ConfigPath + ".before-card"
	// AuthorityPath is the certificate of the hub's authority, for hub.ca_file.
	AuthorityPath = "/etc/tuxwatch/hub-ca.pem"
	// KeysPath holds the ssh keys that may log in as LoginUser. It belongs to
	// root, so that sshd's StrictModes takes it and no user can put a link in the
	// way; sshd needs "AuthorizedKeysFile .ssh/authorized_keys
	// /etc/ssh/authorized_keys.d/%u".
	KeysPath = "/etc/ssh/authorized_keys.d/" + LoginUser
	// HostnamePath is hostname(5).
	HostnamePath = "/etc/hostname"
	// WifiPath is what wpa_supplicant@wlan0.service reads.
	WifiPath = "/etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
	// NetworkDir is the administrator's folder of systemd-networkd.
	NetworkDir = "/etc/systemd/network"
	// ConnectionStringPath is where LoadCredential=hub-connection-string of
	// tuxwatchd.service finds it (systemd.exec(5)): readable by root alone, and
	// given to the daemon by systemd.
	ConnectionStringPath = "/etc/credstore/" + config.CredentialConnectionString
	// StateDir remembers what was applied, and keeps the last report.
	StateDir   = "/var/lib/tuxwatch-provision"
	statePath  = StateDir + "/applied.json"
	reportPath = StateDir + "/REPORT.txt"
)

// LoginUser is the user of the image who may log in over ssh.
const LoginUser = "tux"

// What is looked for on the card.
const (
	cardDir = "tuxwatch"

	cardConfig     = cardDir + "/tuxwatch.yaml"
	cardKeys       = cardDir + "/authorized_keys"
	cardWifi       = cardDir + "/wifi.conf"
	cardHostname   = cardDir + "/hostname"
	cardConnection = cardDir + "/hub-connection-string"
	cardAuthority  = cardDir + "/hub-ca.pem"
	cardNetwork    = cardDir + "/network"
	cardReport     = cardDir + "/REPORT.txt"

	// As Raspberry Pi Imager and its users know them.
	imagerSettings = "custom.toml"
	imagerUser     = "userconf.txt"
	imagerSSH      = "ssh"
	imagerFirstRun = "firstrun.sh"
	imagerUserData = "user-data"
	imagerNetwork  = "network-config"
	imagerMetaData = "meta-data"
)

// Limits on what is read: far more than any of it needs.
const (
	maxTextBytes    = 64 << 10
	maxNetworkFiles = 32
	maxOthers       = 20 // files of no use that a report lists
)
