package hub

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Errors about devices; test for them with errors.Is.
var (
	ErrDeviceNotFound = errors.New("no such device")
	ErrDeviceExists   = errors.New("the device is there already")
	ErrDeviceID       = errors.New("not a device id")
)

// Device is an entry of the device registry. It holds secrets.
type Device struct {
	ID           string    `json:"deviceId"`
	PrimaryKey   string    `json:"primaryKey"` // base64 of 32 bytes; either key signs tokens
	SecondaryKey string    `json:"secondaryKey"`
	Enabled      bool      `json:"enabled"` // a disabled device is refused
	Created      time.Time `json:"created"`
	// Connected tells whether it is signed in now; always false without a running hub.
	Connected bool `json:"connected"`
}

// ConnectionString is what the device is given to sign in with, at the hub that
// it reaches under the name host.
func (d Device) ConnectionString(host string) string {
	return "HostName=" + host + ";DeviceId=" + d.ID + ";SharedAccessKey=" + d.PrimaryKey
}

// Azure's rule for device ids: up to 128 of these characters.
var deviceID = regexp.MustCompile(`^[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}$`)

func checkDeviceID(id string) error {
	if !deviceID.MatchString(id) {
		return fmt.Errorf("%w: %q (1 to 128 letters, digits and any of - . _ : = @ ! ? * ( ) , ' %% $)", ErrDeviceID, id)
	}
	return nil
}

func newKey() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails; crypto/rand ends the program instead
	return base64.StdEncoding.EncodeToString(key)
}

// AddDevice registers a device and makes its keys.
func (s *State) AddDevice(id string) (Device, error) {
	if err := checkDeviceID(id); err != nil {
		return Device{}, err
	}
	d := Device{ID: id, PrimaryKey: newKey(), SecondaryKey: newKey(), Enabled: true, Created: s.now().UTC().Truncate(time.Millisecond)}
	res, err := s.write.Exec(`INSERT INTO devices (id, primary_key, secondary_key, enabled, created)
		VALUES (?, ?, ?, 1, ?) ON CONFLICT DO NOTHING`, d.ID, d.PrimaryKey, d.SecondaryKey, d.Created.UnixMilli())
	if err != nil {
		return Device{}, fmt.Errorf("add device %q: %w", id, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return Device{}, fmt.Errorf("add device %q: %w", id, ErrDeviceExists)
	}
	return d, nil
}

const deviceColumns = `SELECT id, primary_key, secondary_key, enabled, created FROM devices `

func scanDevice(row interface{ Scan(...any) error }) (Device, error) {
	var d Device
	var created int64
	err := row.Scan(&d.ID, &d.PrimaryKey, &d.SecondaryKey, &d.Enabled, &created)
	d.Created = time.UnixMilli(created).UTC()
	return d, err
}

// Device looks a device up; ErrDeviceNotFound when it is not registered.
func (s *State) Device(id string) (Device, error) {
	d, err := scanDevice(s.read.QueryRow(deviceColumns+`WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return Device{}, fmt.Errorf("device %q: %w", id, ErrDeviceNotFound)
	}
	if err != nil {
		return Device{}, fmt.Errorf("look up device %q: %w", id, err)
	}
	return d, nil
}

// Devices lists the registry by id.
func (s *State) Devices() ([]Device, error) {
	rows, err := s.read.Query(deviceColumns + `ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	defer rows.Close()
	devices := []Device{}
	for rows.Next() {
		d, err := scanDevice(rows)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		devices = append(devices, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return devices, nil
}

// RemoveDevice forgets a device with its twin and what waits for it. Its events stay.
func (s *State) RemoveDevice(id string) error {
	return s.change("remove", id, `DELETE FROM devices WHERE id = ?`, id)
}

// SetEnabled lets a device sign in, or refuses it.
func (s *State) SetEnabled(id string, enabled bool) error {
	return s.change("change", id, `UPDATE devices SET enabled = ? WHERE id = ?`, enabled, id)
}

// RegenerateKeys replaces both keys; tokens made with the old ones end.
func (s *State) RegenerateKeys(id string) (Device, error) {
	err := s.change("give new keys to", id, `UPDATE devices SET primary_key = ?, secondary_key = ? WHERE id = ?`, newKey(), newKey(), id)
	if err != nil {
		return Device{}, err
	}
	return s.Device(id)
}

// change runs a statement that must meet exactly the device id.
func (s *State) change(what, id, statement string, args ...any) error {
	res, err := s.write.ExecContext(context.Background(), statement, args...)
	if err != nil {
		return fmt.Errorf("%s device %q: %w", what, id, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("%s device %q: %w", what, id, ErrDeviceNotFound)
	}
	return nil
}
