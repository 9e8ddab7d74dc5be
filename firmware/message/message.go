// Package message holds the one thing that flows through tuxwatch: the
// [Message]. Sensors and cameras make messages, modules turn messages into
// messages, routes carry them, the outbox keeps them and the hub gets them.
//
// It also holds the JSON bodies that travel inside messages ([Climate],
// [Penguin], [ControlCommand]), so that the module that writes a body and the
// one that reads it agree without importing each other. It knows nothing of
// routes, storage or the network. Start with [Message].
package message

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// The content type and encoding that IoT Hub requires before a route may look
// into a body ("$body" in a condition).
const (
	ContentTypeJSON = "application/json"
	EncodingUTF8    = "utf-8"
)

// Message is the envelope that every module, route, queue and hub connection
// handles. Treat Body as immutable once the message has been sent: copies of a
// Message share it.
type Message struct {
	// ID names the message from its source to the hub, where it tells a
	// repeated delivery from a new message. The runtime fills it in when it is
	// empty.
	ID string
	// Body is the payload: JSON for telemetry, an encoded picture for frames.
	Body []byte
	// Properties are the application properties that conditions of routes can
	// name and that reach the hub with the message.
	Properties map[string]string
	// ContentType is the system property $contentType, a media type.
	ContentType string
	// ContentEncoding is the system property $contentEncoding, a charset.
	ContentEncoding string
	// Source is where the message comes from; the runtime sets it.
	Source Source
	// Created is when the message was made; the runtime sets it when it is zero.
	Created time.Time
}

// Source names the output of a module that a message left from. The zero value
// stands for the device itself.
type Source struct {
	Module string
	Output string
}

// JSON returns a message whose body is the JSON encoding of body, marked so
// that conditions of routes may look into it.
func JSON(body any) (Message, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return Message{}, fmt.Errorf("encoding a %T as the body of a message: %w", body, err)
	}
	return Message{Body: data, ContentType: ContentTypeJSON, ContentEncoding: EncodingUTF8}, nil
}

// With returns the message with one application property set. The receiver is
// left as it was.
func (m Message) With(name, value string) Message {
	m = m.Clone()
	if m.Properties == nil {
		m.Properties = make(map[string]string, 1)
	}
	m.Properties[name] = value
	return m
}

// Clone returns the message with its own map of properties. The body is
// shared.
func (m Message) Clone() Message {
	m.Properties = maps.Clone(m.Properties)
	return m
}
