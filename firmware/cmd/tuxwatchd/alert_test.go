package main

import (
	"log/slog"
	"testing"
	"time"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/message"
)

func TestIsAlert(t *testing.T) {
	marked := func(name, value string) message.Message {
		return message.Message{Body: []byte(`{"machine":{"temperature":31.5}}`)}.With(name, value)
	}
	with := func(body any) message.Message {
		m, err := message.JSON(body)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for what, c := range map[string]struct {
		m    message.Message
		want bool
	}{
		"a filter's alert":              {marked("MessageType", "Alert"), true},
		"as another language writes it": {marked("messagetype", "Alert"), true},
		"back to normal":                {marked("MessageType", "Normal"), false},
		"a measurement":                 {marked("unit", "C"), false},
		"a penguin":                     {with(message.Penguin{IsPenguin: true}), true},
		"no penguin":                    {with(message.Penguin{}), false},
		"a sighting":                    {with(message.Sighting{IsPenguin: true, Event: message.SightingStart}), true},
		"the end of one":                {with(message.Sighting{Event: message.SightingEnd}), false},
		"a word":                        {message.Message{Body: []byte(`"IsPenguin"`)}, false},
		"no JSON":                       {message.Message{Body: []byte(`IsPenguin: true`)}, false},
		"marked as normal":              {with(message.Penguin{IsPenguin: true}).With("MessageType", "Normal"), false},
		"nothing":                       {message.Message{}, false},
	} {
		if got := isAlert(c.m); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// Only what is on the card counts.
func TestStoreRemembersTheLastAlert(t *testing.T) {
	s, err := openStore(t.TempDir(), config.Outbox{MaxBytes: 1 << 20, MaxAge: time.Hour}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	put := func(id string, m message.Message) error {
		m.ID, m.Created, m.Source = id, at, message.Source{Module: "filterModule", Output: "output1"}
		return s.Put(t.Context(), m, 0, 0)
	}
	if err := put("1", message.Message{Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if got := s.lastAlert.Load(); got != nil {
		t.Errorf("a measurement counts: %+v", got)
	}
	alert := message.Message{Body: []byte("{}")}.With("MessageType", "Alert")
	if err := put("2", alert); err != nil {
		t.Fatal(err)
	}
	want := control.Alert{Time: at, Module: "filterModule", Output: "output1"}
	if got := s.lastAlert.Load(); got == nil || *got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.close()
	at = at.Add(time.Hour)
	if err := put("3", alert); err == nil {
		t.Fatal("a closed outbox takes a message")
	}
	if got := s.lastAlert.Load(); !got.Time.Equal(want.Time) {
		t.Errorf("one that was not stored counts: %+v", got)
	}
}

// What the filter lets through to the hub is told to those who ask.
func TestStatusHasTheLastAlert(t *testing.T) {
	p := start(t, t.TempDir(), `modules:
  camera: null
  imageReceiveProcessModule: null
  recognizer: null
  tempSensor: {desired: {SendInterval: 0.1}}
  filterModule: {desired: {TemperatureThreshold: 1000}}
routes: {cameraToRecognition: null, penguinsToHub: null}
`)
	p.eventually("measurements", func(s *control.Status) bool { return s.Edge.Messages > 3 })
	if s, err := p.status(); err != nil || s.LastAlert != nil {
		t.Fatalf("without an alert: %+v %v", s.LastAlert, err)
	}
	began := time.Now().Add(-time.Second)
	p.write(`modules:
  camera: null
  imageReceiveProcessModule: null
  recognizer: null
  tempSensor: {desired: {SendInterval: 0.1}}
  filterModule: {desired: {TemperatureThreshold: -100}}
routes: {cameraToRecognition: null, penguinsToHub: null}
`)
	s := p.eventually("an alert", func(s *control.Status) bool { return s.LastAlert != nil })
	if a := s.LastAlert; a.Module != "filterModule" || a.Output != "output1" || a.Time.Before(began) || a.Time.After(time.Now()) {
		t.Errorf("%+v", a)
	}
}
