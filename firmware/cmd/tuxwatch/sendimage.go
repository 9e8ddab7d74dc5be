package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"tuxwatch/firmware/vision"
)

// imageSending is what the flags of send-image say.
type imageSending struct {
	broker       string
	topic        string
	qos          int
	retain       bool
	raw          bool
	user         string
	passwordFile string
	repeat       int
	interval     time.Duration
	timeout      time.Duration
	asJSON       bool
}

// newSendImageCommand is "tuxwatch send-image": pictures sent as a camera sends
// them.
func newSendImageCommand() *cobra.Command {
	var o imageSending
	cmd := &cobra.Command{
		Use:   "send-image FILE…",
		Short: "Send pictures to the device as a camera would",
		Long: `Send pictures over MQTT to the module imageReceiveProcessModule, as a camera
would: each as one publish, in base64.

Pictures are JPEG or PNG files; - stands for the standard input. With QoS 1 or
2 (see --qos) the device acknowledges a picture when it has decided what it
shows and has stored the alert if there is one; the decision itself is seen at
the hub (tuxhub monitor) or with tuxwatch classify. A picture that the device
cannot use is acknowledged as well: its log says why it was not used.

With --json each line is one JSON object: "file", "topic", "qos", "bytes",
"acknowledged", "milliseconds", "warning" if there is one, or "file" and
"error" with "code" and "message".

The exit status is 0 if all pictures were sent, and with QoS 1 or 2
acknowledged, and 1 if not; a file that cannot be sent does not stop the
others.`,
		Example: `  tuxwatch send-image penguin.jpg
  tuxwatch send-image --broker tcp://tuxwatch.local:1888 --user camera --password-file pw *.jpg
  tuxwatch send-image --repeat 0 --interval 5s penguin.jpg`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUse("tuxwatch send-image needs at least one picture file, or - for the standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return o.send(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.broker, "broker", "tcp://127.0.0.1:1888", "where the device listens for cameras")
	f.StringVar(&o.topic, "topic", "cameras/send-image", "topic to publish to; the device takes any")
	f.IntVar(&o.qos, "qos", 1, "quality of service: 0 not acknowledged, 1 at least once, 2 exactly once")
	f.BoolVar(&o.retain, "retain", false, "mark the picture as retained, as some cameras do")
	f.BoolVar(&o.raw, "raw", false, "send the file's bytes as they are, not in base64")
	f.StringVar(&o.user, "user", "", "user to log in as")
	f.StringVar(&o.passwordFile, "password-file", "", "file whose first line is the password")
	f.IntVar(&o.repeat, "repeat", 1, "how often to send the files; 0: until interrupted")
	f.DurationVar(&o.interval, "interval", time.Second, "pause between two pictures when repeating")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait for the connection and for each acknowledgement")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object a line for each picture")
	return cmd
}

// check refuses what cannot work before anything is sent.
func (o *imageSending) check() error {
	if !strings.Contains(o.broker, "://") {
		o.broker = "tcp://" + o.broker
	}
	u, err := url.Parse(o.broker)
	switch {
	case err != nil:
		return wrongUse("--broker: %w; write it as tcp://HOST:1888", err)
	case u.Scheme != "tcp" && u.Scheme != "mqtt":
		return wrongUse("--broker %s: the device speaks plain MQTT; write tcp://HOST:1888", o.broker)
	case u.Hostname() == "":
		return wrongUse("--broker %s names no host; write tcp://HOST:1888", o.broker)
	case u.User != nil:
		return wrongUse("--broker: give user and password with --user and --password-file, where others cannot read them")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "1888")
		o.broker = u.String()
	}
	switch {
	case o.qos < 0 || o.qos > 2:
		return wrongUse("--qos %d is not one of 0, 1, 2", o.qos)
	case o.topic == "" || strings.ContainsAny(o.topic, "+#\x00") || len(o.topic) > 1024:
		return wrongUse("--topic %q cannot be published to: it has 1 to 1024 characters and none of + and #", o.topic)
	case strings.HasPrefix(o.topic, "$"):
		return wrongUse("--topic %s: topics that begin with $ are the broker's own", o.topic)
	case o.user == "" && o.passwordFile != "":
		return wrongUse("--password-file needs --user")
	case o.repeat < 0:
		return wrongUse("--repeat %d is negative; 0 repeats until interrupted", o.repeat)
	case o.interval < 0:
		return wrongUse("--interval %v is negative", o.interval)
	case o.timeout <= 0:
		return wrongUse("--timeout %v has to be positive", o.timeout)
	}
	return nil
}

// send connects and sends all files as often as wanted.
func (o *imageSending) send(cmd *cobra.Command, files []string) error {
	ctx := cmd.Context()
	client, err := o.connect(ctx)
	if err != nil {
		return failed("%w", err)
	}
	// The pause lets a picture without acknowledgement leave.
	defer func() { client.Disconnect(250) }()

	bad, count := false, 0
	var stdin []byte
	for round := 0; o.repeat == 0 || round < o.repeat; round++ {
		for _, file := range files {
			if count > 0 && (o.repeat != 1) && !sleep(ctx, o.interval) || ctx.Err() != nil {
				return o.interrupted(bad, count)
			}
			count++
			var picture []byte
			var err error
			if file == "-" && stdin != nil {
				picture = stdin
			} else if picture, err = readPicture(cmd, file); file == "-" {
				stdin = picture
			}
			var took time.Duration
			if err == nil && !client.IsConnectionOpen() {
				// The picture before may have been refused by closing it.
				if client, err = o.connect(ctx); err != nil {
					return failed("%s: %w", file, err)
				}
			}
			if err == nil {
				took, err = o.publish(ctx, client, picture)
			}
			if ctx.Err() != nil {
				return o.interrupted(bad, count-1)
			}
			bad = bad || err != nil
			if err := o.report(cmd, file, picture, took, err); err != nil {
				return failed("writing the result for %s: %w", file, err)
			}
		}
	}
	if bad {
		return exitError{code: 1}
	}
	return nil
}

// interrupted is how the command ends on Ctrl-C.
func (o *imageSending) interrupted(bad bool, sent int) error {
	if o.repeat == 0 && !bad {
		return nil // the only way it can end
	}
	return failed("interrupted after %d pictures", sent)
}

// sleep waits, and returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// connect connects to the device.
func (o *imageSending) connect(ctx context.Context) (paho.Client, error) {
	options := paho.NewClientOptions().
		AddBroker(o.broker).
		SetClientID("send-image-" + uuid.NewString()[:8]).
		SetConnectTimeout(o.timeout).
		SetWriteTimeout(o.timeout).
		// A token then ends with an error when its connection is lost, and
		// without one only when the picture was acknowledged.
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetCleanSession(true).
		// The library would try MQTT 3.1 after a refusal and hide its reason.
		SetProtocolVersion(4)
	if o.user != "" {
		options.SetUsername(o.user)
	}
	if o.passwordFile != "" {
		text, err := os.ReadFile(o.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		password, _, _ := strings.Cut(string(text), "\n")
		options.SetPassword(strings.TrimSuffix(password, "\r"))
	}
	client := paho.NewClient(options)
	token := client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		client.Disconnect(0)
		return nil, ctx.Err()
	}
	if err := token.Error(); err != nil {
		client.Disconnect(0)
		return nil, fmt.Errorf("connecting to %s: %w; %s", o.broker, plainly(err), connectRemedy(err))
	}
	return client, nil
}

// plainly is a failed connection's error without what the library puts around
// it.
func plainly(err error) error {
	var network *net.OpError
	switch {
	case errors.As(err, &network):
		return network
	case errors.Is(err, packets.ErrorNetworkError):
		return errors.New("the connection was closed without an answer in MQTT")
	}
	return err
}

// connectRemedy says what to do about a failed connection.
func connectRemedy(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return "give the device's user and password with --user and --password-file"
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return "too many cameras are connected (the setting max_connections of imageReceiveProcessModule)"
	case errors.As(err, &dns):
		return "check the host's name in --broker"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is tuxwatchd running there (tuxwatch status), and does its imageReceiveProcessModule listen on that address (its setting listen)? --broker names another"
	default:
		return "is it the address of imageReceiveProcessModule (its setting listen)? --broker names another"
	}
}

// publish sends one picture and returns how long its acknowledgement took.
func (o *imageSending) publish(ctx context.Context, client paho.Client, picture []byte) (time.Duration, error) {
	if len(picture) == 0 {
		return 0, errors.New("the file is empty")
	}
	if len(picture) > vision.DefaultMaxBytes {
		return 0, fmt.Errorf("%w: more than %d bytes, which no device takes by default", vision.ErrTooLarge, vision.DefaultMaxBytes)
	}
	payload := picture
	if !o.raw {
		payload = base64.StdEncoding.AppendEncode(nil, picture)
	}
	began := time.Now()
	token := client.Publish(o.topic, byte(o.qos), o.retain, payload)
	timeout := time.NewTimer(o.timeout)
	defer timeout.Stop()
	select {
	case <-token.Done():
	case <-timeout.C:
		client.Disconnect(0) // or it would be acknowledged as another one later
		return 0, fmt.Errorf("no acknowledgement within %v; the recognizer may be busy (tuxwatch status says), or wait longer with --timeout", o.timeout)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := token.Error(); err != nil {
		return 0, fmt.Errorf("%w; the device's log says why (journalctl -u tuxwatchd)", err)
	}
	return time.Since(began), nil
}

// report prints what became of one file.
func (o *imageSending) report(cmd *cobra.Command, file string, picture []byte, took time.Duration, err error) error {
	if err != nil {
		err = withoutPath(err)
		if !o.asJSON {
			_, err := fmt.Fprintf(cmd.ErrOrStderr(), "tuxwatch: %s: not sent: %v\n", file, err)
			return err
		}
		type failure struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}
		code := "Failed"
		switch {
		case errors.Is(err, vision.ErrTooLarge):
			code = "BadRequestImageSizeBytes"
		case errors.Is(err, os.ErrNotExist):
			code = "NotFound"
		}
		return printJSON(cmd.OutOrStdout(), struct {
			File  string  `json:"file"`
			Error failure `json:"error"`
		}{file, failure{code, err.Error()}})
	}
	warning := ""
	if kind := http.DetectContentType(picture); kind != "image/jpeg" && kind != "image/png" {
		warning = fmt.Sprintf("it is neither a JPEG nor a PNG (it looks like %s); the device cannot use it", kind)
	}
	if o.asJSON {
		return printJSON(cmd.OutOrStdout(), struct {
			File         string `json:"file"`
			Topic        string `json:"topic"`
			QoS          int    `json:"qos"`
			Bytes        int    `json:"bytes"`
			Acknowledged bool   `json:"acknowledged"`
			Milliseconds int64  `json:"milliseconds"`
			Warning      string `json:"warning,omitempty"`
		}{file, o.topic, o.qos, len(picture), o.qos > 0, took.Milliseconds(), warning})
	}
	if warning != "" {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "tuxwatch: %s: %s\n", file, warning); err != nil {
			return err
		}
	}
	how := fmt.Sprintf("acknowledged after %v", took.Round(time.Millisecond))
	if o.qos == 0 {
		how = "sent; QoS 0 is not acknowledged"
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s (%d bytes to %s)\n", file, how, len(picture), o.topic)
	return err
}
