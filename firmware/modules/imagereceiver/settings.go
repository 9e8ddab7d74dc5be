package imagereceiver

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	"tuxwatch/firmware/event"
)

// Settings are fixed while the module runs.
type Settings struct {
	// Listen is the address and port that cameras connect to. Beyond the
	// loopback interface it needs User and PasswordFile, or Anonymous.
	Listen string `yaml:"listen"`
	// User and PasswordFile are what cameras have to log in with; the password
	// is the file's first line.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	// Anonymous lets anyone who reaches Listen send pictures.
	Anonymous bool `yaml:"anonymous"`
	// MaxPictureBytes is the size of the largest picture, before base64.
	MaxPictureBytes int `yaml:"max_picture_bytes"`
	// MaxConnections is how many cameras may be connected.
	MaxConnections int `yaml:"max_connections"`
	// MaxPicturesPerSecond is how many pictures one camera may send; more are
	// delayed by not reading from its connection.
	MaxPicturesPerSecond float64 `yaml:"max_pictures_per_second"`
	// BusyTimeout is how long a picture waits for a recognizer that is busy or
	// has no model before it is dropped, and an alert for the outbox.
	BusyTimeout time.Duration `yaml:"busy_timeout"`
	// Regions are where the recognizer looks, one after another, in place of the
	// whole picture; the one where it is surest counts.
	Regions []Region `yaml:"regions"`
	// Masks are what it does not see: they are filled with grey, in thumbnails
	// as well.
	Masks []Mask `yaml:"masks"`
	// CamerasBy says which pictures are of one camera, where alerts are by
	// event: those of one MQTT "topic", of one "client", or of one client on one
	// topic ("both"). Programs such as mosquitto_pub are a new client each time.
	CamerasBy string `yaml:"cameras_by"`
	// MaxCameras is how many cameras are told apart at a time.
	MaxCameras int `yaml:"max_cameras"`
}

// Validate names every setting that cannot work.
func (s *Settings) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	host, _, err := net.SplitHostPort(s.Listen)
	switch {
	case err != nil:
		wrong("listen: %w; write address:port, as in 127.0.0.1:1888", err)
	case (s.User == "") != (s.PasswordFile == ""):
		wrong("user, password_file: one is of no use without the other")
	case !loopback(host) && s.User == "" && !s.Anonymous:
		wrong("listen: %s can be reached from other machines; set user and password_file, or anonymous: true to let anyone send pictures", s.Listen)
	}
	if s.MaxPictureBytes < 1024 || s.MaxPictureBytes > 64<<20 {
		wrong("max_picture_bytes: %d is not between 1024 and %d", s.MaxPictureBytes, 64<<20)
	}
	if s.MaxConnections < 1 || s.MaxConnections > 1000 {
		wrong("max_connections: %d is not between 1 and 1000", s.MaxConnections)
	}
	if !(s.MaxPicturesPerSecond > 0 && s.MaxPicturesPerSecond <= 1000) {
		wrong("max_pictures_per_second: %v is not above 0 and at most 1000", s.MaxPicturesPerSecond)
	}
	if s.BusyTimeout < 0 || s.BusyTimeout > 5*time.Minute {
		wrong("busy_timeout: %v is not between 0 and 5m", s.BusyTimeout)
	}
	if s.CamerasBy != byTopic && s.CamerasBy != byClient && s.CamerasBy != byBoth {
		wrong("cameras_by: %q can be %s, %s or %s", s.CamerasBy, byTopic, byClient, byBoth)
	}
	if s.MaxCameras < 1 || s.MaxCameras > 1000 {
		wrong("max_cameras: %d is not between 1 and 1000", s.MaxCameras)
	}
	return errors.Join(append(errs, validateRegions(s.Regions), validateMasks(s.Masks))...)
}

// The values of Settings.CamerasBy.
const (
	byTopic  = "topic"
	byClient = "client"
	byBoth   = "both"
)

// loopback reports whether a host is reachable from this machine only.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// Properties are the desired properties. A change takes effect with the next
// frame; an event under way goes on by the new rules.
type Properties struct {
	// Label is what the best prediction has to be for an alert.
	Label string `json:"Label"`
	// Threshold is what its probability has to be above, 0 to 1; of an event,
	// the median of the last frames' probabilities, for it to begin.
	Threshold float64 `json:"Threshold"`

	// AlertOn is "frame" for an alert (message.Penguin) with each frame that
	// shows the label, the workshop's rule, or "event" for messages about its
	// coming and going (message.Sighting). The properties that follow, down to
	// ThumbnailBytes, are for events; package event says how they go together.
	AlertOn string `json:"AlertOn"`
	// EndThreshold is what the median has to fall to for an event to end.
	EndThreshold float64 `json:"EndThreshold"`
	// Window is how many frames the median is of.
	Window int `json:"Window"`
	// MinFrames and MinDuration (seconds) are for how many frames and how long
	// the median has to be above Threshold for an event to begin.
	MinFrames   int     `json:"MinFrames"`
	MinDuration float64 `json:"MinDuration"`
	// CoolDown is how many seconds after an event's end none begins.
	CoolDown float64 `json:"CoolDown"`
	// Timeout is after how many seconds without a frame an event is over.
	Timeout float64 `json:"Timeout"`
	// UpdateInterval is every how many seconds there is a message about an event
	// under way; 0 for none.
	UpdateInterval float64 `json:"UpdateInterval"`
	// ThumbnailBytes is the size of the JPEG of the best frame that the messages
	// carry, at most; 0 for none. In base64 it becomes a third larger.
	ThumbnailBytes int `json:"ThumbnailBytes"`

	// NightFrames says what to do with frames that are taken in the dark: "off"
	// is not to find out, "classify" to count them only, "skip" not to look at
	// them, and "discount" to multiply their probability with NightConfidence.
	NightFrames string `json:"NightFrames"`
	// NightLuminance is the average luminance, 0 (black) to 1 (white), below
	// which a frame is dark.
	NightLuminance float64 `json:"NightLuminance"`
	// NightGrey takes frames without color, as infrared cameras make them, for
	// dark as well.
	NightGrey bool `json:"NightGrey"`
	// NightConfidence is 0 to 1.
	NightConfidence float64 `json:"NightConfidence"`
}

// The values of Properties.AlertOn.
const (
	onFrame = "frame"
	onEvent = "event"
)

// The values of Properties.NightFrames.
const (
	nightOff      = "off"
	nightClassify = "classify"
	nightSkip     = "skip"
	nightDiscount = "discount"
)

// The bounds of properties.
const (
	maxWindow  = 31
	maxSeconds = 24 * 60 * 60
	// A hub takes 256 KiB a message, and base64 makes four bytes of three.
	minThumbnail, maxThumbnail = 2 << 10, 128 << 10
)

func defaultProperties() *Properties {
	return &Properties{
		Label: "penguin", Threshold: 0.5,
		AlertOn: onFrame, EndThreshold: 0.35, Window: 5, MinFrames: 1, CoolDown: 10, Timeout: 30,
		NightFrames: nightOff, NightLuminance: 0.1, NightConfidence: 0.8,
	}
}

// Validate checks that there can be alerts.
func (p *Properties) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if strings.TrimSpace(p.Label) == "" {
		wrong("the Label is empty: name one of the model's labels, such as penguin")
	}
	if !(p.Threshold >= 0 && p.Threshold < 1) {
		wrong("the Threshold %v is not a probability from 0 to below 1", p.Threshold)
	}
	switch p.AlertOn {
	case onFrame:
	case onEvent:
		if p.EndThreshold > p.Threshold {
			wrong("EndThreshold %v is above Threshold %v: an event would end before it begins; set EndThreshold lower", p.EndThreshold, p.Threshold)
		}
	default:
		wrong("AlertOn %q can be %s or %s", p.AlertOn, onFrame, onEvent)
	}
	if !(p.EndThreshold >= 0 && p.EndThreshold < 1) {
		wrong("EndThreshold %v is not a probability from 0 to below 1", p.EndThreshold)
	}
	if p.Window < event.LeastScores || p.Window > maxWindow {
		wrong("Window %d is not a number of frames from %d to %d", p.Window, event.LeastScores, maxWindow)
	}
	if p.MinFrames < 1 || p.MinFrames > 10000 {
		wrong("MinFrames %d is not a number of frames from 1 to 10000", p.MinFrames)
	}
	for name, seconds := range map[string]float64{"MinDuration": p.MinDuration, "CoolDown": p.CoolDown, "UpdateInterval": p.UpdateInterval} {
		if !(seconds >= 0 && seconds <= maxSeconds) {
			wrong("%s %v is not a number of seconds from 0 to %d", name, seconds, maxSeconds)
		}
	}
	if !(p.Timeout > 0 && p.Timeout <= maxSeconds) {
		wrong("Timeout %v is not a number of seconds above 0 and at most %d", p.Timeout, maxSeconds)
	}
	if p.ThumbnailBytes != 0 && (p.ThumbnailBytes < minThumbnail || p.ThumbnailBytes > maxThumbnail) {
		wrong("ThumbnailBytes %d is neither 0, for none, nor from %d to %d", p.ThumbnailBytes, minThumbnail, maxThumbnail)
	}
	switch p.NightFrames {
	case nightOff, nightClassify, nightSkip, nightDiscount:
	default:
		wrong("NightFrames %q can be %s, %s, %s or %s", p.NightFrames, nightOff, nightClassify, nightSkip, nightDiscount)
	}
	if !(p.NightLuminance >= 0 && p.NightLuminance <= 1) {
		wrong("NightLuminance %v is not between 0 (black) and 1 (white)", p.NightLuminance)
	}
	if !(p.NightConfidence >= 0 && p.NightConfidence <= 1) {
		wrong("NightConfidence %v is not between 0 and 1", p.NightConfidence)
	}
	return errors.Join(errs...)
}

// rules are the properties as package event has them.
func (p *Properties) rules() event.Rules {
	return event.Rules{
		Start: p.Threshold, End: p.EndThreshold, Window: p.Window, MinFrames: p.MinFrames,
		MinDuration: seconds(p.MinDuration), CoolDown: seconds(p.CoolDown),
		Timeout: seconds(p.Timeout), Update: seconds(p.UpdateInterval),
	}
}

func seconds(n float64) time.Duration { return time.Duration(math.Round(n * float64(time.Second))) }
