package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// The commands go through a socket to the program that runs the device: a line
// with the command as a JSON array, and a line with the answer.

type answer struct {
	Said  string `json:"said,omitempty"`
	Error string `json:"error,omitempty"`
}

func (o *options) socket() string { return filepath.Join(o.state, "control.sock") }

// ask sends a command to the running device.
func (o *options) ask(out io.Writer, command []string) error {
	// The running program may be in another folder.
	if name := command[0]; name == "picture" || name == "screenshot" || name == "save" {
		file, err := filepath.Abs(command[1])
		if err != nil {
			return err
		}
		command[1] = file
	}
	conn, err := net.Dial("unix", o.socket())
	if err != nil {
		return fmt.Errorf("no emulated device runs here; make qemu starts one (%w)", err)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(command); err != nil {
		return err
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return fmt.Errorf("the emulated device ended meanwhile: %w", err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	if a.Said != "" {
		fmt.Fprintln(out, a.Said)
	}
	return nil
}

// listen makes the socket; it fails when another program runs a device here.
func (o *options) listen() (net.Listener, error) {
	if conn, err := net.Dial("unix", o.socket()); err == nil {
		conn.Close()
		return nil, fmt.Errorf("an emulated device runs already with %s; for another one choose a --state", o.state)
	}
	_ = os.Remove(o.socket()) // left over from a run that was killed
	return net.Listen("unix", o.socket())
}

func (s *session) serve(ctx context.Context, listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer conn.Close()
			var command []string
			if err := json.NewDecoder(conn).Decode(&command); err != nil || len(command) == 0 {
				return
			}
			said, err := s.carryOut(ctx, command)
			a := answer{Said: said}
			if err != nil {
				a.Error = err.Error()
			}
			_ = json.NewEncoder(conn).Encode(a) // who asked may be gone
		}()
	}
}

// carryOut does what a command says, one at a time.
func (s *session) carryOut(ctx context.Context, command []string) (said string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, args := command[0], append(command[1:], "", "")
	m := s.machine
	on := false
	if m != nil {
		select {
		case <-m.Done():
		default:
			on = true
		}
	}
	switch {
	case name == "power-on" && on:
		return "", errors.New("the device is on")
	case name == "power-on":
		return "", s.powerOn(ctx)
	case !on:
		return "", errors.New("the device is off; scripts/qemu power-on switches it on")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	switch name {
	case "temperature":
		celsius, err := strconv.ParseFloat(args[0], 64)
		if err != nil || celsius < -55 || celsius > 125 {
			return "", fmt.Errorf("the thermometer measures from -55 to 125 °C, not %q", args[0])
		}
		return "", m.SetTemperature(celsius)
	case "sensor":
		if args[0] == "off" {
			return "", m.RemoveSensor()
		}
		return "", m.AddSensor()
	case "picture":
		return "", m.ShowPicture(ctx, args[0])
	case "camera":
		if args[0] == "off" {
			return "", m.UnplugCamera(ctx)
		}
		return m.PlugCamera(ctx)
	case "camera-control":
		value, err := strconv.Atoi(args[1])
		if err != nil {
			return "", fmt.Errorf("a control takes a number, not %q", args[1])
		}
		return "", m.CameraControl(ctx, args[0], value)
	case "network":
		return "", m.Network(args[0] == "on")
	case "type":
		return "", m.Console.Type(args[0] + "\r")
	case "power-cut":
		close(s.off)
		m.PowerCut()
		return "", nil
	case "screenshot":
		return "", m.Screenshot(args[0])
	case "save":
		return "", m.Save(ctx, args[0])
	default:
		return "", fmt.Errorf("unknown command %q", name)
	}
}
