package sensor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"tuxwatch/firmware/message"
)

// parseControl reads the body of a control message, [{"command":0}] or
// {"command":0}, and tells whether one of the commands is to reset. Either all
// commands are understood or there is an error.
func parseControl(body []byte) (reset bool, err error) {
	var commands []message.ControlCommand
	body = bytes.TrimSpace(body)
	if bytes.HasPrefix(body, []byte("{")) {
		commands = make([]message.ControlCommand, 1)
		err = json.Unmarshal(body, &commands[0])
	} else {
		err = json.Unmarshal(body, &commands)
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("a control message is JSON like [{\"command\":0}]: %w", err)
	case len(commands) == 0:
		return false, errors.New("a control message without a command; it is JSON like [{\"command\":0}]")
	}
	for _, c := range commands {
		switch {
		case c.Command == nil:
			return false, errors.New(`an element of a control message has no "command"`)
		case *c.Command == message.CommandReset:
			reset = true
		case *c.Command == message.CommandNoOperation:
		default:
			return false, fmt.Errorf("command %d is not known; %d is reset, %d is no operation", *c.Command, message.CommandReset, message.CommandNoOperation)
		}
	}
	return reset, nil
}
