package main

import (
	"fmt"
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"
)

// newProgress shows a bar with speed and time left on a terminal, and a line now
// and then elsewhere.
func newProgress(out io.Writer, what string, total int64) progress {
	if file, ok := out.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err == nil {
			bars := mpb.New(mpb.WithOutput(out), mpb.WithWidth(40))
			return &barProgress{bars, bars.AddBar(total,
				mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-10s", what)), decor.CountersKiloByte("% .1f of % .1f", decor.WCSyncSpace)),
				mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1000(0), "% .1f"), decor.Name(", left "), decor.AverageETA(decor.ET_STYLE_GO)))}
		}
	}
	return &lineProgress{out: out, what: what, total: total}
}

type barProgress struct {
	bars *mpb.Progress
	bar  *mpb.Bar
}

func (p *barProgress) add(n int64) { p.bar.IncrInt64(n) }

func (p *barProgress) end() {
	p.bar.Abort(false) // nothing, if it is complete
	p.bars.Wait()
}

type lineProgress struct {
	out         io.Writer
	what        string
	done, total int64
	told        int64 // fifths
}

func (p *lineProgress) add(n int64) {
	p.done += n
	if fifth := 5 * p.done / max(p.total, 1); fifth > p.told {
		p.told = fifth
		fmt.Fprintf(p.out, "%s: %s of %s\n", p.what, bytesText(p.done), bytesText(p.total))
	}
}

func (p *lineProgress) end() {}
