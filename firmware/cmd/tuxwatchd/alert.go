package main

import (
	"bytes"
	"encoding/json"
	"strings"

	"tuxwatch/firmware/message"
	"tuxwatch/firmware/modules/filter"
)

// isAlert tells whether a message for the hub is an alert. Routes may send there
// what else they like, measurements for example. What is marked is what it is
// marked as; without a mark it is the body that says that there is a penguin, or
// what else is looked for.
func isAlert(m message.Message) bool {
	for name, value := range m.Properties {
		if strings.EqualFold(name, filter.MessageType) {
			return value == filter.Alert
		}
	}
	if !bytes.Contains(m.Body, []byte("IsPenguin")) {
		return false
	}
	var body struct{ IsPenguin bool }
	return json.Unmarshal(m.Body, &body) == nil && body.IsPenguin
}
