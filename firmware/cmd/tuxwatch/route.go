package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/edge/route"
)

// maxMessageFile bounds what route eval reads; the hub takes 256 KiB a message.
const maxMessageFile = 16 << 20

// newRouteCommand is "tuxwatch route": trying out routes and conditions
// without a daemon.
func newRouteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "route",
		Short: "Check routes and try conditions",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return wrongUse("tuxwatch route has no subcommand %q: use check or eval", args[0])
			}
			return wrongUse("tuxwatch route needs a subcommand: check or eval")
		},
	}
	cmd.AddCommand(newRouteCheckCommand(), newRouteEvalCommand())
	for _, sub := range append(cmd.Commands(), cmd) {
		sub.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
			return wrongUse("%w: see %s --help", err, cmd.CommandPath())
		})
	}
	return cmd
}

// jsonMistake is a mistake in a route or condition as JSON.
type jsonMistake struct {
	Message string `json:"message"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
}

// mistakes returns what is wrong with a route or condition; there is at least
// one mistake.
func mistakes(err error) []jsonMistake {
	var all route.Errors
	if !errors.As(err, &all) {
		return []jsonMistake{{Message: err.Error(), Line: 1, Column: 1}}
	}
	list := make([]jsonMistake, len(all))
	for i, one := range all {
		list[i] = jsonMistake{one.Message, one.Line, one.Column}
	}
	return list
}

func newRouteCheckCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check 'ROUTE'…",
		Short: "Tell whether routes are valid, and where they are not",
		Long: `Tell whether routes are valid, and where they are not.

Each route is one argument, so quote it:

  tuxwatch route check 'FROM /messages/modules/filterModule/outputs/* INTO $upstream'

The exit status is 0 if all routes are valid and 1 if not.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUse("tuxwatch route check needs at least one route, each as one quoted argument")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return checkRoutes(cmd.OutOrStdout(), args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line for each route")
	return cmd
}

// checkedRoute is what route check --json prints.
type checkedRoute struct {
	Route    string        `json:"route"`
	Valid    bool          `json:"valid"`
	Source   string        `json:"source,omitempty"`
	Where    string        `json:"condition,omitempty"`
	Endpoint string        `json:"endpoint,omitempty"`
	Errors   []jsonMistake `json:"errors,omitempty"`
}

func checkRoutes(out io.Writer, routes []string, asJSON bool) error {
	bad := 0
	lines := newLineEncoder(out)
	for _, text := range routes {
		parsed, err := route.Parse(text)
		checked := checkedRoute{Route: text, Valid: err == nil}
		if err != nil {
			bad++
			checked.Errors = mistakes(err)
		} else {
			checked.Source, checked.Endpoint = parsed.Source.String(), parsed.Endpoint.String()
			if parsed.Condition != nil {
				checked.Where = parsed.Condition.String()
			}
		}
		if asJSON {
			err = lines.Encode(checked)
		} else {
			_, err = io.WriteString(out, checked.String())
		}
		if err != nil {
			return failed("printing the result: %w", err)
		}
	}
	if bad > 0 {
		return failed("%d of %d routes not valid", bad, len(routes))
	}
	return nil
}

// String is the result for people: "ok" and the route, or each mistake with the
// line it is in and a caret under the place.
func (c checkedRoute) String() string {
	if c.Valid {
		return "ok     " + strings.Join(strings.Fields(c.Route), " ") + "\n"
	}
	var b strings.Builder
	lines := strings.Split(c.Route, "\n")
	for _, mistake := range c.Errors {
		fmt.Fprintf(&b, "error  line %d, column %d: %s\n", mistake.Line, mistake.Column, mistake.Message)
		line := []rune(strings.TrimSuffix(lines[mistake.Line-1], "\r"))
		indent := make([]rune, 0, mistake.Column)
		for i := range mistake.Column - 1 {
			if i < len(line) && line[i] == '\t' {
				indent = append(indent, '\t')
			} else {
				indent = append(indent, ' ')
			}
		}
		fmt.Fprintf(&b, "       %s\n       %s^\n", string(line), string(indent))
	}
	return b.String()
}

// newLineEncoder writes one JSON object a line and leaves <, > and & readable.
func newLineEncoder(out io.Writer) *json.Encoder {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder
}

func newRouteEvalCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "eval --message FILE -- CONDITION…",
		Short: "Evaluate conditions for a message",
		Long: `Evaluate conditions for a message.

FILE, or - for standard input, is the message as JSON:

  {"body": …, "properties": {"name": "text or null"}, "systemProperties": {…}}

systemProperties defaults to contentType application/json and contentEncoding
utf-8. Everything may be left out. For each condition, in order, one JSON object
is printed on a line: its result (true, false or "undefined") or its first error.

The exit status is 0 if all conditions could be evaluated and 1 if not.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUse("tuxwatch route eval needs at least one condition after --, each as one quoted argument")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return wrongUse("tuxwatch route eval needs --message FILE, or --message - for standard input")
			}
			message, err := readMessage(cmd.InOrStdin(), file)
			if err != nil {
				return exitError{code: 1, err: err}
			}
			return evalConditions(cmd.OutOrStdout(), message, args)
		},
	}
	cmd.Flags().StringVar(&file, "message", "", "the message, as JSON in `FILE`; - is standard input")
	cmd.Flags().Bool("json", true, "the result is always JSON")
	return cmd
}

// evaluated is what route eval prints for a condition: a result or an error.
type evaluated struct {
	Condition string        `json:"condition"`
	Result    *route.Result `json:"result,omitempty"`
	Error     *jsonMistake  `json:"error,omitempty"`
}

func evalConditions(out io.Writer, message *route.Input, conditions []string) error {
	bad := 0
	lines := newLineEncoder(out)
	for _, text := range conditions {
		line := evaluated{Condition: text}
		if condition, err := route.ParseCondition(text); err != nil {
			bad++
			line.Error = &mistakes(err)[0]
		} else {
			result := condition.Eval(message)
			line.Result = &result
		}
		if err := lines.Encode(line); err != nil {
			return failed("printing the result: %w", err)
		}
	}
	if bad > 0 {
		return failed("%d of %d conditions could not be evaluated", bad, len(conditions))
	}
	return nil
}

// messageFile is the form of the file that route eval reads.
type messageFile struct {
	Body             json.RawMessage    `json:"body"`
	Properties       map[string]*string `json:"properties"`
	SystemProperties map[string]*string `json:"systemProperties"`
}

func readMessage(stdin io.Reader, file string) (*route.Input, error) {
	source, name := stdin, "standard input"
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("reading the message: %w", err)
		}
		defer opened.Close()
		source, name = opened, file
	}
	data, err := io.ReadAll(io.LimitReader(source, maxMessageFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the message from %s: %w", name, err)
	}
	if len(data) > maxMessageFile {
		return nil, fmt.Errorf("reading the message from %s: it has more than %d bytes", name, maxMessageFile)
	}
	message, err := parseMessage(string(data))
	if err != nil {
		return nil, fmt.Errorf(`the message in %s is not of the form {"body": …, "properties": {"name": "text"}, "systemProperties": {…}}: %w`, name, err)
	}
	return message, nil
}

func parseMessage(data string) (*route.Input, error) {
	decoder := json.NewDecoder(strings.NewReader(data))
	decoder.DisallowUnknownFields()
	var file *messageFile
	if err := decoder.Decode(&file); err != nil {
		return nil, placed(data, err)
	}
	if file == nil {
		return nil, errors.New("it is null")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows after the message")
	}
	if file.SystemProperties == nil {
		json, utf8 := "application/json", "utf-8"
		file.SystemProperties = map[string]*string{"contentType": &json, "contentEncoding": &utf8}
	}
	return &route.Input{
		Body:       encodeBody(file.Body, file.SystemProperties),
		Properties: file.Properties,
		System:     file.SystemProperties,
	}, nil
}

// placed adds the line to an error of the JSON decoder that knows where it was.
func placed(data string, err error) error {
	var offset int64
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &mismatch):
		offset = mismatch.Offset
	case errors.Is(err, io.EOF):
		return errors.New("it is empty")
	default:
		return err
	}
	before := data[:min(offset, int64(len(data)))]
	return fmt.Errorf("line %d: %w", 1+strings.Count(before, "\n"), err)
}

// encodeBody brings the body, which is UTF-8 in the file, into the encoding that
// the message declares, as if a device had sent it so.
func encodeBody(body []byte, system map[string]*string) []byte {
	encoding := ""
	for name, text := range system {
		if strings.EqualFold(name, "contentEncoding") && text != nil {
			encoding = strings.ToLower(*text)
		}
	}
	var encoded []byte
	switch encoding {
	case "utf-16":
		for _, unit := range utf16.Encode([]rune(string(body))) {
			encoded = binary.LittleEndian.AppendUint16(encoded, unit)
		}
	case "utf-32":
		for _, r := range string(body) {
			encoded = binary.LittleEndian.AppendUint32(encoded, uint32(r))
		}
	default:
		encoded = body
	}
	return encoded
}
