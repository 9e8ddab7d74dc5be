package event

import (
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func rules() Rules {
	return Rules{Start: 0.5, End: 0.35, Window: 5, MinFrames: 1, Timeout: 10 * time.Second}
}

func second(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }

// names gives events the names 1, 2, …
func names() func() string {
	n := 0
	return func() string { n++; return fmt.Sprint(n) }
}

// play shows frames, one a second, and returns the notices as
// "frame:what:reason".
func play(r Rules, scores ...float64) []string {
	var t Track
	var told []string
	id := names()
	for i, score := range scores {
		var notices []Notice
		t, notices = t.Observe(Frame{At: second(i), Score: score}, r, id)
		for _, n := range notices {
			told = append(told, fmt.Sprintf("%d:%s:%s", i, n.What, n.Reason))
		}
	}
	return told
}

func TestSequences(t *testing.T) {
	const hi, lo, mid = 0.9, 0.1, 0.45
	with := func(change func(*Rules)) Rules {
		r := rules()
		change(&r)
		return r
	}
	three := with(func(r *Rules) { r.Window = 3 })
	for _, c := range []struct {
		name   string
		rules  Rules
		scores []float64
		want   []string
	}{
		{"nothing", rules(), []float64{lo, lo, lo, lo, lo}, nil},
		{"two frames are no median", rules(), []float64{hi, hi}, nil},
		{"comes and goes", rules(), []float64{lo, lo, lo, hi, hi, hi, lo, lo, lo}, []string{"5:start:", "8:end:gone"}},
		{"comes and goes, median of three", three, []float64{lo, lo, hi, hi, hi, lo, lo}, []string{"3:start:", "6:end:gone"}},
		{"one flicker up", three, []float64{lo, lo, hi, lo, lo, hi, lo, lo}, nil},
		{"one flicker down", three, []float64{hi, hi, hi, lo, hi, hi, lo, hi}, []string{"2:start:"}},
		{"a flicker at the very beginning", three, []float64{hi, lo, lo}, nil},
		{"at the threshold is not above it", three, []float64{0.5, 0.5, 0.5, 0.5}, nil},
		{"between the thresholds it goes on", three, []float64{hi, hi, hi, mid, mid, mid, hi, mid, mid}, []string{"2:start:"}},
		{"between the thresholds it does not begin", three, []float64{mid, mid, mid, mid}, nil},
		{"at the lower threshold it ends", three, []float64{hi, hi, hi, 0.35, 0.35}, []string{"2:start:", "4:end:gone"}},
		{"halfway between the middle ones of four", rules(), []float64{lo, 0.3, 0.8, 0.8}, []string{"3:start:"}},
		{"not a number counts as nothing", three, []float64{math.NaN(), hi, math.NaN(), hi, hi}, []string{"3:start:"}},
		{
			"enough frames", with(func(r *Rules) { r.Window, r.MinFrames = 3, 3 }),
			[]float64{hi, hi, hi, lo, lo, hi, hi, hi, hi}, []string{"8:start:"},
		},
		{
			"long enough", with(func(r *Rules) { r.Window, r.MinDuration = 3, 4*time.Second }),
			[]float64{hi, hi, hi, hi, hi, hi, hi, hi}, []string{"6:start:"},
		},
		{
			"cool-down", with(func(r *Rules) { r.Window, r.CoolDown = 3, 6*time.Second }),
			[]float64{hi, hi, hi, lo, lo, hi, hi, hi, hi, hi, hi, hi}, []string{"2:start:", "4:end:gone", "10:start:"},
		},
		{
			"news", with(func(r *Rules) { r.Window, r.Update = 3, 2*time.Second }),
			[]float64{hi, hi, hi, hi, hi, hi, hi, lo, lo}, []string{"2:start:", "4:update:", "6:update:", "8:end:gone"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, play(c.rules, c.scores...)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestEventHoldsItsFrames(t *testing.T) {
	r := rules()
	r.Window = 3
	var track Track
	var all []Notice
	for i, score := range []float64{0.6, 0.1, 0.1, 0.7, 0.95, 0.8, 0.95, 0.1, 0.2} {
		var notices []Notice
		frame := Frame{At: second(i), Score: score, Region: fmt.Sprint("r", i), Thumbnail: []byte{byte(i)}}
		track, notices = track.Observe(frame, r, names())
		all = append(all, notices...)
	}
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	start, end := all[0], all[1]
	if e := start.Event; e.ID != "1" || !e.Started.Equal(second(3)) || !e.Ended.IsZero() || e.Frames != 2 || e.Median != 0.7 || e.Best.Region != "r4" || !start.NewBest {
		t.Errorf("start: %+v", start)
	}
	if e := end.Event; e.ID != "1" || !e.Started.Equal(second(3)) || !e.Ended.Equal(second(8)) || e.Frames != 6 || e.Median != 0.2 ||
		e.Best.Region != "r4" || string(e.Best.Thumbnail) != "\x04" || end.NewBest || e.Last.Region != "r8" || e.Last.Thumbnail != nil {
		t.Errorf("end: %+v", end)
	}
}

func TestSilenceEndsAnEvent(t *testing.T) {
	r := rules()
	r.CoolDown = 30 * time.Second
	var track Track
	for i := range 4 {
		track, _ = track.Observe(Frame{At: second(i), Score: 0.9}, r, names())
	}
	if _, open := track.Open(); !open {
		t.Fatal("no event")
	}
	same, notices := track.Tick(second(12), r)
	if _, open := same.Open(); !open || len(notices) != 0 {
		t.Errorf("ended early: %+v", notices)
	}
	// By the clock, and by the frame after the gap.
	ticked, notices := track.Tick(second(13), r)
	if len(notices) != 1 || notices[0].What != End || notices[0].Reason != Silence || !notices[0].Event.Ended.Equal(second(3)) || !notices[0].At.Equal(second(13)) {
		t.Errorf("%+v", notices)
	}
	if ticked.Idle(second(42), r) || !ticked.Idle(second(43), r) {
		t.Error("it has to be remembered for the cool-down, and no longer")
	}
	_, notices = track.Observe(Frame{At: second(20), Score: 0.9}, r, names())
	if len(notices) != 1 || notices[0].Reason != Silence {
		t.Errorf("%+v", notices)
	}
	// Without an event, silence makes it forget.
	lone, _ := Track{}.Observe(Frame{At: noon, Score: 0.9, Key: 7}, r, names())
	if !lone.Holds(7) || lone.Holds(8) || lone.Holds(0) || lone.Idle(second(1), r) {
		t.Error("what the window holds")
	}
	lone, notices = lone.Tick(second(10), r)
	if len(notices) != 0 || lone.Holds(7) || !lone.Idle(second(10), r) {
		t.Errorf("%+v", notices)
	}
}

// What did not become an event is no part of the next one.
func TestFalseStart(t *testing.T) {
	r := rules()
	r.Window, r.MinFrames = 3, 3
	var track Track
	var told []Notice
	for i, score := range []float64{0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.6, 0.7, 0.8, 0.8, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6, 0.6} {
		var notices []Notice
		track, notices = track.Observe(Frame{At: second(i), Score: score}, r, names())
		told = append(told, notices...)
	}
	if len(told) != 3 {
		t.Fatalf("%+v", told)
	}
	if e := told[0].Event; !e.Started.Equal(second(6)) || e.Frames != 4 || e.Best.Score != 0.8 {
		t.Errorf("%+v", e)
	}
	// The best frame of the next event is new, although it is not better.
	if n := told[2]; n.What != Start || n.Event.Best.Score != 0.6 || !n.NewBest {
		t.Errorf("%+v", n)
	}
}

// Two connections of one camera may overtake each other.
func TestFramesOutOfOrder(t *testing.T) {
	r := rules()
	r.Window, r.Update = 3, time.Second
	var track Track
	var last time.Time
	for i, at := range []int{3, 1, 2, 4, 0, 5, 1, 7, 6} {
		score := 0.9
		if i > 6 {
			score = 0.1
		}
		var notices []Notice
		track, notices = track.Observe(Frame{At: second(at), Score: score}, r, names())
		for _, n := range notices {
			if n.At.Before(last) || n.Event.Last.At.Before(n.Event.Started) {
				t.Errorf("%s at %v after %v", n.What, n.At, last)
			}
			last = n.At
		}
	}
	if !last.Equal(second(7)) {
		t.Errorf("the last notice was at %v", last)
	}
}

func TestClose(t *testing.T) {
	r := rules()
	var track Track
	if _, notices := track.Close(Stopped, noon); notices != nil {
		t.Errorf("%+v", notices)
	}
	for i := range 4 {
		track, _ = track.Observe(Frame{At: second(i), Score: 0.9}, r, names())
	}
	track, notices := track.Close(OtherLabel, second(9))
	if len(notices) != 1 || notices[0].Reason != OtherLabel || !notices[0].Event.Ended.Equal(second(3)) {
		t.Errorf("%+v", notices)
	}
	if _, notices := track.Close(Stopped, second(10)); notices != nil {
		t.Errorf("ended twice: %+v", notices)
	}
}

func TestRulesChangeUnderWay(t *testing.T) {
	r := rules()
	var track Track
	see := func(i int, score float64) (told []What) {
		var notices []Notice
		track, notices = track.Observe(Frame{At: second(i), Score: score}, r, names())
		for _, n := range notices {
			told = append(told, n.What)
		}
		return told
	}
	for i := range 6 {
		see(i, 0.8)
	}
	began, _ := track.Open()
	r.Start, r.End, r.Window, r.MinFrames = 0.9, 0.7, 3, 20
	for i := 6; i < 9; i++ {
		if told := see(i, 0.8); told != nil {
			t.Fatalf("%v", told)
		}
	}
	if e, open := track.Open(); !open || e.ID != began.ID || e.Frames != 9 {
		t.Errorf("%+v", e)
	}
	r.End = 0.85
	if told := see(9, 0.8); !reflect.DeepEqual(told, []What{End}) {
		t.Errorf("%v", told)
	}
}

// anyRules draws rules in which End is not above Start.
func anyRules(t *rapid.T) Rules {
	r := Rules{
		Start:       rapid.Float64Range(0.2, 0.9).Draw(t, "start"),
		Window:      rapid.IntRange(3, 9).Draw(t, "window"),
		MinFrames:   rapid.IntRange(1, 4).Draw(t, "minFrames"),
		MinDuration: time.Duration(rapid.IntRange(0, 4).Draw(t, "minDuration")) * time.Second,
		CoolDown:    time.Duration(rapid.IntRange(0, 12).Draw(t, "coolDown")) * time.Second,
		Timeout:     time.Duration(rapid.IntRange(2, 8).Draw(t, "timeout")) * time.Second,
		Update:      time.Duration(rapid.IntRange(0, 5).Draw(t, "update")) * time.Second,
	}
	r.End = r.Start * rapid.Float64Range(0, 1).Draw(t, "end")
	return r
}

// anyFrames draws a scene that changes now and then, flickers, and has gaps.
func anyFrames(t *rapid.T) []Frame {
	var frames []Frame
	at := noon
	for range rapid.IntRange(1, 8).Draw(t, "scenes") {
		base := rapid.SampledFrom([]float64{0.02, 0.3, 0.6, 0.95}).Draw(t, "base")
		for range rapid.IntRange(1, 12).Draw(t, "frames") {
			score := min(1, max(0, base+rapid.Float64Range(-0.1, 0.1).Draw(t, "noise")))
			if rapid.IntRange(0, 6).Draw(t, "flicker") == 0 {
				score = 1 - score
			}
			frames = append(frames, Frame{At: at, Score: score, Region: fmt.Sprint(len(frames))})
			at = at.Add(time.Duration(rapid.SampledFrom([]int{200, 1000, 1000, 1000, 5000}).Draw(t, "gap")) * time.Millisecond)
		}
	}
	return frames
}

// What holds for every sequence of frames.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, frames := anyRules(t), anyFrames(t)
		var track Track
		var open *Notice
		var lastEnd, lastNotice *Notice
		id := names()
		check := func(n Notice, i int) {
			if lastNotice != nil && n.At.Before(lastNotice.At) {
				t.Fatalf("notices are out of order: %v after %v", n.At, lastNotice.At)
			}
			lastNotice = &n
			if (n.What == Start) != (open == nil) {
				t.Fatalf("%s with an event open: %v", n.What, open != nil)
			}
			var own []Frame // the event's frames, found without the track
			for _, f := range frames[:i+1] {
				if !f.At.Before(n.Event.Started) && (n.Reason != Silence || !f.At.After(n.Event.Ended)) {
					own = append(own, f)
				}
			}
			best := own[0]
			for _, f := range own {
				if f.Score > best.Score {
					best = f
				}
			}
			if n.Event.Frames != len(own) || n.Event.Best.Region != best.Region || n.Event.Last.Region != own[len(own)-1].Region {
				t.Fatalf("%s: %d frames, best %s, last %s; want %d, %s, %s", n.What, n.Event.Frames, n.Event.Best.Region,
					n.Event.Last.Region, len(own), best.Region, own[len(own)-1].Region)
			}
			if own[0].Score <= r.Start {
				t.Fatalf("the first frame, with %v, is not above %v", own[0].Score, r.Start)
			}
			switch n.What {
			case Start:
				if !(n.Event.Median > r.Start) || n.Event.Frames < r.MinFrames {
					t.Fatalf("it began with the median %v after %d frames", n.Event.Median, n.Event.Frames)
				}
				if n.At.Sub(n.Event.Started) < r.MinDuration {
					t.Fatalf("it began too soon: %v after %v", n.At, n.Event.Started)
				}
				if lastEnd != nil && n.At.Sub(lastEnd.At) < r.CoolDown {
					t.Fatalf("it began %v after the last ended", n.At.Sub(lastEnd.At))
				}
				if lastEnd != nil && !n.Event.Started.After(lastEnd.Event.Ended) {
					t.Fatal("a frame belongs to two events")
				}
				open = &n
			case Update:
				if r.Update == 0 {
					t.Fatal("unwanted news")
				}
				fallthrough
			case End:
				if n.Event.ID != open.Event.ID || !n.Event.Started.Equal(open.Event.Started) || n.Event.Best.Score < open.Event.Best.Score {
					t.Fatalf("%+v\ndoes not go with\n%+v", n, *open)
				}
			}
			if n.What == End {
				if n.Event.Ended.Before(n.Event.Started) || n.Reason == Gone && !(n.Event.Median <= r.End) {
					t.Fatalf("%+v", n)
				}
				lastEnd, open = &n, nil
			}
		}
		for i, f := range frames {
			before := track
			// A step that is not kept leaves no trace.
			discarded, _ := track.Observe(Frame{At: f.At, Score: 1 - f.Score}, r, names())
			discarded.Observe(f, r, names())
			if !reflect.DeepEqual(before, track) {
				t.Fatal("observing changed the track itself")
			}
			idle := track.Idle(f.At, r)
			var notices []Notice
			track, notices = track.Observe(f, r, id)
			if _, fresh := (Track{}).Observe(f, r, names()); idle && len(notices)+len(fresh) > 0 {
				t.Fatal("there was something to remember")
			}
			for k, n := range notices {
				seen := i
				if n.Reason == Silence && k == 0 {
					seen = i - 1
				}
				check(n, seen)
			}
			if _, told := track.Open(); told != (open != nil) {
				t.Fatalf("open: %v, told: %v", told, open != nil)
			}
			if len(track.window) > r.Window {
				t.Fatalf("%d frames are remembered", len(track.window))
			}
		}
		_, notices := track.Tick(frames[len(frames)-1].At.Add(r.Timeout), r)
		for _, n := range notices {
			check(n, len(frames)-1)
		}
		if open != nil {
			t.Fatal("an event is left over for ever")
		}
	})
}

// One frame that differs from those around it neither begins nor ends an event.
func TestOneFlickerChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t)
		r.Timeout = time.Hour
		there := rapid.Bool().Draw(t, "there")
		var track Track
		calm := 0
		n := rapid.IntRange(20, 60).Draw(t, "frames")
		begun := 0
		for i := range n {
			low := rapid.Float64Range(0, r.Start).Draw(t, "low")
			high := rapid.Float64Range(math.Nextafter(r.Start, 1), 1).Draw(t, "high")
			score, other := low, high
			if there {
				score, other = high, low
			}
			if calm >= r.Window && rapid.Bool().Draw(t, "flicker") {
				score, calm = other, 0
			} else {
				calm++
			}
			var notices []Notice
			track, notices = track.Observe(Frame{At: second(i), Score: score}, r, names())
			for _, notice := range notices {
				switch {
				case notice.What == Start && there:
					begun++
				case notice.What != Update:
					t.Fatalf("frame %d: %s", i, notice.What)
				}
			}
		}
		if want := map[bool]int{true: 1}[there]; begun != want {
			t.Fatalf("%d events began, want %d", begun, want)
		}
	})
}

// A frame that Wants turned away never becomes the best one.
func TestWants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules(t)
		var track Track
		for _, f := range anyFrames(t) {
			ticked, _ := track.Tick(f.At, r)
			if ticked.Wants(f.Score, r) {
				f.Thumbnail = []byte("picture")
			}
			var notices []Notice
			track, notices = track.Observe(f, r, names())
			for _, n := range notices {
				if n.Event.Best.Thumbnail == nil {
					t.Fatalf("%s: the best frame has no thumbnail", n.What)
				}
			}
		}
	})
}
