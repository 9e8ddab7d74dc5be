package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/agnivade/levenshtein"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/edge"
)

// Options say where to work.
type Options struct {
	// Card is the folder where the FAT partition is mounted, Root the device's
	// root file system. Nothing outside of the two is written.
	Card, Root string
	// DryRun reports what would be done and changes nothing.
	DryRun bool
	// Now is the time; time.Now if nil.
	Now func() time.Time
	// Kinds of modules that a configuration is checked against.
	Kinds []edge.Kind
	// SetHostname gives the running system the name that it would otherwise have
	// only after the next start. Not done if nil.
	SetHostname func(name string) error

	cardFault, deviceFault func() error // see disk.fault
}

// Run applies what is on the card. Mistakes in files and failures to write are
// in the report; an error is only that one of the two folders cannot be opened,
// or that ctx ended, between two files.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	cardRoot, err := os.OpenRoot(o.Card)
	if err != nil {
		return nil, fmt.Errorf("opening the card: %w", err)
	}
	defer cardRoot.Close()
	deviceRoot, err := os.OpenRoot(o.Root)
	if err != nil {
		return nil, fmt.Errorf("opening the root file system: %w", err)
	}
	defer deviceRoot.Close()
	r := &run{
		options: o, now: o.Now().UTC().Truncate(time.Second),
		card:   &card{disk{root: cardRoot, dry: o.DryRun, fault: o.cardFault}},
		device: &device{disk{root: deviceRoot, dry: o.DryRun, fault: o.deviceFault}},
	}
	r.report = &Report{At: r.now, DryRun: o.DryRun, Entries: []Entry{}}
	if r.state, err = loadState(r.device); err != nil {
		r.attention("%v", err)
	}
	for _, step := range []func(){r.imager, r.authority, r.configuration, r.keys, r.wifi, r.network, r.hostname, r.connection, r.others} {
		if err := context.Cause(ctx); err != nil {
			return r.report, err
		}
		step()
	}
	r.runningName()
	r.finish()
	return r.report, nil
}

// run is one run.
type run struct {
	options Options
	now     time.Time
	card    *card
	device  *device
	state   state
	report  *Report
}

func (r *run) attention(format string, args ...any) {
	r.report.Problems = append(r.report.Problems, fmt.Sprintf(format, args...))
}

// outcome is what came of applying one file.
type outcome struct {
	notes    []string
	problems []Problem
	// applied tells whether anything of it is in effect.
	applied bool
	// secret is whether the file holds one.
	secret bool
	// failed is why the device could not take it; it is tried again next time.
	failed error
}

func (o *outcome) note(format string, args ...any) {
	o.notes = append(o.notes, fmt.Sprintf(format, args...))
}

// file applies the file that is looked for as name, unless it has been before.
// It tells whether the file is on the card.
func (r *run) file(name string, limit int64, secret bool, apply func(text string) outcome) bool {
	f, err := r.card.find(name, limit)
	before, known := r.state.Applied[name]
	if f == nil && err == nil {
		if known {
			r.gone(name, before)
		}
		return false
	}
	entry := Entry{File: name, Secret: secret}
	if f != nil {
		entry.File = f.path
	}
	if err != nil {
		r.wrong(entry, Problem{Message: err.Error()})
		return true
	}
	if known && before.Entry.Secret && f.erasing() {
		// The power went while it was being erased.
		r.erase(name, f.path, &before)
		return true
	}
	if known && before.SHA256 == hash(f.data) && !before.Entry.Removed {
		before.Entry.File = f.path
		r.settle(name, f.path, before)
		return true
	}
	text, problem := decodeText(f.data)
	if problem != nil {
		r.wrong(entry, *problem)
		return true
	}
	out := apply(text)
	entry.Notes, entry.Problems, entry.Secret = out.notes, out.problems, out.secret
	if out.failed != nil {
		entry.Result, entry.Problems = Failed, append(out.problems, Problem{Message: out.failed.Error()})
		r.report.Entries = append(r.report.Entries, entry)
		return true
	}
	switch {
	case !out.applied && len(out.problems) > 0:
		r.wrong(entry, out.problems...)
		return true
	case !out.applied:
		entry.Result = Ignored
	case len(out.problems) > 0:
		entry.Result, entry.At = Partly, &r.now
	default:
		entry.Result, entry.At = Applied, &r.now
	}
	now := record{SHA256: hash(f.data), Entry: entry}
	r.state.Applied[name] = now
	if err := r.state.save(r.device); err != nil {
		// Not remembered is applied again, so the secret may as well stay.
		r.report.Entries = append(r.report.Entries, entry)
		r.attention("%v", err)
		return true
	}
	r.settle(name, f.path, now)
	return true
}

func (r *run) wrong(entry Entry, problems ...Problem) {
	entry.Result, entry.Problems = Wrong, problems
	r.report.Entries = append(r.report.Entries, entry)
}

// gone deals with a file that was applied and is no longer there.
func (r *run) gone(name string, before record) {
	if !before.Entry.Secret {
		// Put there again it is to be applied again.
		delete(r.state.Applied, name)
		return
	}
	before.Entry.Removed = true
	r.state.Applied[name] = before
	r.report.Entries = append(r.report.Entries, before.Entry)
}

// settle reports a file that has been applied, and removes a secret without
// mistakes, now that it is kept elsewhere.
func (r *run) settle(name, onCard string, rec record) {
	if rec.Entry.Secret && len(rec.Entry.Problems) == 0 {
		r.erase(name, onCard, &rec)
		return
	}
	r.report.Entries = append(r.report.Entries, rec.Entry)
}

// erase removes a secret from the card.
func (r *run) erase(name, onCard string, rec *record) {
	if r.card.dry {
		r.report.Entries = append(r.report.Entries, rec.Entry)
		return
	}
	err := r.card.erase(onCard)
	switch {
	case err == nil:
		rec.Entry.Removed = true
		r.state.Applied[name] = *rec
	case errors.Is(err, syscall.EROFS):
		r.attention("The card is read-only: %s could not be removed from it. Delete it on another computer.", onCard)
	default:
		r.attention("%s could not be removed from the card: %v. Delete it on another computer.", onCard, err)
	}
	r.report.Entries = append(r.report.Entries, rec.Entry)
}

// imager applies what Raspberry Pi Imager and its like write, and says what
// became of their other files. What is in the folder tuxwatch as well, and right
// there, goes first.
func (r *run) imager() {
	for _, f := range []struct {
		name  string
		parse func(text string) imagerPlan
	}{
		{imagerSettings, parseImager},
		{imagerFirstRun, parseFirstRun},
		{imagerUserData, parseUserData},
		{imagerNetwork, parseNetworkConfig},
	} {
		r.file(f.name, maxTextBytes, true, func(text string) outcome { return r.applyImager(f.parse(text)) })
	}
	r.file(imagerUser, maxTextBytes, true, func(text string) (o outcome) {
		o.secret = true
		o.note("Not applied: the user and the password. This device has the user %s, who logs in over ssh with a key from %s.", LoginUser, cardKeys)
		return o
	})
	r.file(imagerSSH, maxTextBytes, false, func(string) (o outcome) {
		o.note("ssh is on if there is a key in %s, and off without one. This file is not needed.", cardKeys)
		return o
	})
	r.file(imagerMetaData, maxTextBytes, false, func(string) (o outcome) {
		o.note("It names the card's settings for cloud-init, which is not needed here.")
		return o
	})
}

func (r *run) applyImager(p imagerPlan) (o outcome) {
	o.problems, o.secret = p.problems, p.secret
	took := func(what string, err error) {
		if o.failed = errors.Join(o.failed, err); err == nil {
			o.applied = true
			o.note("%s", what)
		}
	}
	present := func(name, what string, right func(text string) bool) bool {
		f, err := r.card.find(name, maxTextBytes)
		if f == nil || err != nil {
			return false
		}
		if text, problem := decodeText(f.data); problem != nil || !right(text) {
			return false
		}
		o.note("Not applied: %s, since there is %s.", what, name)
		return true
	}
	if p.hostname != "" && !present(cardHostname, "the host name", func(text string) bool {
		_, problems := parseHostname(text)
		return len(problems) == 0
	}) {
		took(hostnameNote(p.hostname), r.putHostname(p.hostname))
	}
	if len(p.keys) > 0 && !present(cardKeys, "the ssh keys", func(text string) bool {
		keys, _ := parseKeys(text)
		return len(keys) > 0
	}) {
		took(keysNote(p.keys), r.putKeys(p.keys))
	}
	if p.wifi != nil && !present(cardWifi, "the wireless network", func(text string) bool {
		_, problems := parseWifi(text)
		return len(problems) == 0
	}) {
		took(wifiNote(*p.wifi), r.putWifi(*p.wifi))
	}
	o.notes = append(o.notes, p.notes...)
	return o
}

// authority applies the certificate of the hub's authority, before the
// configuration that names it.
func (r *run) authority() {
	r.file(cardAuthority, maxTextBytes, false, func(text string) (o outcome) {
		certificates, names, problems := parseAuthority(text)
		if o.problems = problems; len(problems) > 0 {
			o.secret = strings.Contains(text, "PRIVATE KEY")
			return o
		}
		if o.failed = r.device.put(place{path: AuthorityPath, mode: 0o644, dirMode: 0o755}, certificates); o.failed == nil {
			o.applied = true
			o.note("An authority that hub.ca_file: %s trusts: %s.", AuthorityPath, strings.Join(names, "; "))
		}
		return o
	})
}

func (r *run) configuration() {
	r.file(cardConfig, config.MaxBytes, false, func(text string) (o outcome) {
		c, err := config.Parse(path.Base(cardConfig), []byte(text), r.options.Kinds)
		var invalid *config.Error
		switch {
		case errors.As(err, &invalid):
			for _, p := range invalid.Problems {
				o.problems = append(o.problems, fromConfig(p))
			}
			return o
		case err != nil:
			o.problems = []Problem{{Message: err.Error()}}
			return o
		}
		old, err := r.device.get(ConfigPath)
		if err == nil && old != nil && !bytes.Equal(old, []byte(text)) {
			err = r.device.put(place{path: ConfigBackupPath, mode: 0o644, dirMode: 0o755}, old)
			o.note("The configuration before it is kept in %s.", ConfigBackupPath)
		}
		if err == nil {
			err = r.device.put(place{path: ConfigPath, mode: 0o644, dirMode: 0o755}, []byte(text))
		}
		if err != nil {
			return outcome{failed: err}
		}
		o.applied = true
		o.notes = slices.Insert(o.notes, 0, "It is the device's configuration, "+ConfigPath+".")
		for _, w := range c.Warnings {
			o.note("Doubtful: %v", fromConfig(w))
		}
		return o
	})
}

func fromConfig(p config.Problem) Problem {
	message := p.Message
	if p.Path != "" {
		message = p.Path + ": " + message
	}
	return Problem{p.Line, p.Column, message}
}

func (r *run) keys() {
	r.file(cardKeys, maxTextBytes, false, func(text string) (o outcome) {
		keys, problems := parseKeys(text)
		o.problems = problems
		for _, p := range problems {
			o.secret = o.secret || strings.Contains(p.Message, "private key")
		}
		// Keys that are right go in beside others that are not: the device may be
		// out of reach otherwise.
		if len(keys) > 0 {
			if o.failed = r.putKeys(keys); o.failed == nil {
				o.applied = true
				o.note("%s", keysNote(keys))
			}
		}
		return o
	})
}

func (r *run) putKeys(keys []string) error {
	return r.device.put(place{path: KeysPath, mode: 0o644, dirMode: 0o755}, []byte(strings.Join(keys, "\n")+"\n"))
}

func keysNote(keys []string) string {
	if len(keys) == 1 {
		return fmt.Sprintf("One key may log in over ssh as %s.", LoginUser)
	}
	return fmt.Sprintf("%d keys may log in over ssh as %s.", len(keys), LoginUser)
}

func (r *run) wifi() {
	r.file(cardWifi, maxTextBytes, true, func(text string) (o outcome) {
		o.secret = true
		w, problems := parseWifi(text)
		if o.problems = problems; len(problems) > 0 {
			return o
		}
		if o.failed = r.putWifi(w); o.failed == nil {
			o.applied = true
			o.note("%s", wifiNote(w))
		}
		return o
	})
}

func (r *run) putWifi(w wifi) error {
	return r.device.put(place{path: WifiPath, mode: 0o600, dirMode: 0o755}, w.file())
}

func wifiNote(w wifi) string {
	note := "Wireless network: " + w.names() + "."
	if w.country == "" {
		note += " Without a country only the channels are used that are allowed everywhere."
	}
	return note
}

// network applies the files for systemd-networkd, each on its own.
func (r *run) network() {
	names, err := r.card.list(cardNetwork)
	if err != nil {
		r.wrong(Entry{File: cardNetwork}, Problem{Message: err.Error()})
		return
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, ".") || strings.EqualFold(name, "README.txt")
	})
	if len(names) > maxNetworkFiles {
		r.wrong(Entry{File: cardNetwork}, Problem{Message: fmt.Sprintf("there are %d files; %d are the most", len(names), maxNetworkFiles)})
		return
	}
	looked := map[string]bool{}
	for _, onCard := range names {
		name := strings.TrimSuffix(onCard, ".txt")
		if looked[strings.ToLower(name)] {
			continue // find has taken the one without .txt
		}
		looked[strings.ToLower(name)] = true
		r.file(path.Join(cardNetwork, name), maxTextBytes, false, func(text string) (o outcome) {
			o.secret, o.problems = parseNetwork(name, text)
			if len(o.problems) > 0 {
				return o
			}
			p := place{path: path.Join(NetworkDir, name), mode: 0o644, dirMode: 0o755}
			if o.secret {
				p.mode, p.group = 0o640, "systemd-network"
			}
			if o.failed = r.device.put(p, []byte(text)); o.failed == nil {
				o.applied = true
				o.note("It is in %s; networkctl says what it makes of it.", NetworkDir)
			}
			return o
		})
	}
	// Those that were removed from the card as secrets stay in the report.
	for _, name := range sortedKeys(r.state.Applied) {
		if dir, base := path.Split(name); dir == cardNetwork+"/" && !looked[strings.ToLower(base)] {
			r.gone(name, r.state.Applied[name])
		}
	}
}

func (r *run) hostname() {
	r.file(cardHostname, maxTextBytes, false, func(text string) (o outcome) {
		name, problems := parseHostname(text)
		if o.problems = problems; len(problems) > 0 {
			return o
		}
		if o.failed = r.putHostname(name); o.failed == nil {
			o.applied = true
			o.note("%s", hostnameNote(name))
		}
		return o
	})
}

func (r *run) putHostname(name string) error {
	return r.device.put(place{path: HostnamePath, mode: 0o644, dirMode: 0o755}, []byte(name+"\n"))
}

func hostnameNote(name string) string {
	return fmt.Sprintf("The device's name is %s; in its network it is %s.local.", name, name)
}

// runningName gives the running system the name that is set, which may be on a
// file system that was not there yet when the first process looked.
func (r *run) runningName() {
	if r.options.SetHostname == nil || r.options.DryRun {
		return
	}
	data, err := r.device.get(HostnamePath)
	if err != nil || data == nil {
		return
	}
	name, problems := parseHostname(string(data))
	if len(problems) > 0 {
		return // systemd says so
	}
	if err := r.options.SetHostname(name); err != nil {
		r.attention("The name %s is in effect after the next start only: %v", name, err)
	}
}

func (r *run) connection() {
	r.file(cardConnection, maxTextBytes, true, func(text string) (o outcome) {
		o.secret = true
		value, device, hub, problems := parseConnectionString(text, r.now)
		if o.problems = problems; len(problems) > 0 {
			return o
		}
		p := place{path: ConnectionStringPath, mode: 0o600, dirMode: 0o700}
		if o.failed = r.device.put(p, []byte(value+"\n")); o.failed == nil {
			o.applied = true
			o.note("The device is %q at the hub %q.", device, hub)
		}
		return o
	})
}

// others names the files that nothing looks for, which are often misspelt.
func (r *run) others() {
	names, err := r.card.list(cardDir)
	if err != nil {
		r.wrong(Entry{File: cardDir}, Problem{Message: err.Error()})
		return
	}
	known := []string{cardConfig, cardKeys, cardWifi, cardHostname, cardConnection, cardAuthority, cardNetwork, cardReport, cardDir + "/README.txt", cardDir + "/examples"}
	reported, more := map[string]bool{}, 0
	for _, e := range r.report.Entries {
		reported[e.File] = true
	}
	for _, name := range names {
		full := path.Join(cardDir, name)
		is := func(k string) bool { return strings.EqualFold(k, full) }
		if strings.HasPrefix(name, ".") || slices.ContainsFunc(known, is) || reported[full] {
			continue
		}
		if more++; more > maxOthers {
			r.attention("There are more files in %s that nothing has a use for; they are not listed.", cardDir)
			break
		}
		note := "There is no use for a file of this name."
		for _, k := range known[:7] {
			if levenshtein.ComputeDistance(strings.ToLower(name), path.Base(k)) <= 3 {
				note += fmt.Sprintf(" Was it to be %s?", path.Base(k))
				break
			}
		}
		r.report.Entries = append(r.report.Entries, Entry{File: printable(full), Result: Ignored, Notes: []string{note}})
	}
}

// printable writes a name that may hold anything.
func printable(name string) string {
	quoted := fmt.Sprintf("%.100q", name)
	if plain := quoted[1 : len(quoted)-1]; plain == name {
		return name
	}
	return quoted
}

// finish remembers what was done and writes the report.
func (r *run) finish() {
	if err := r.state.save(r.device); err != nil && !slices.Contains(r.report.Problems, err.Error()) {
		r.attention("%v", err)
	}
	r.report.redact()
	// Where nobody uses any of this, the card is left alone.
	if entries, err := r.card.list(cardDir); err != nil || len(entries) == 0 && len(r.report.Entries) == 0 {
		return
	}
	err := r.card.writeReport(r.report.Text())
	switch {
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		r.attention("The card is read-only: %s could not be written to it.", cardReport)
	case err != nil:
		r.attention("%s could not be written to the card: %v", cardReport, err)
	}
	text := []byte(r.report.Text())
	if old, err := r.device.get(reportPath); err == nil && bytes.Equal(withoutDate(old), withoutDate(text)) {
		return
	}
	if err := r.device.put(place{path: reportPath, mode: 0o644, dirMode: 0o755}, text); err != nil {
		r.attention("%v", err)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
