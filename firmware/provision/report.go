package provision

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Result is what became of a file.
type Result string

// The results.
const (
	// Applied is a file of which everything is in effect.
	Applied Result = "applied"
	// Partly is a file with mistakes, of which the rest is in effect.
	Partly Result = "partly"
	// Wrong is a file of which nothing is in effect; what was there before is.
	Wrong Result = "wrong"
	// Failed is a file that is right and that the device could not take, its
	// storage being full or damaged. It is tried again at the next start.
	Failed Result = "failed"
	// Ignored is a file that has no use here.
	Ignored Result = "ignored"
)

// Problem is one thing that is wrong in a file.
type Problem struct {
	// Line and Column count from 1, in characters; 0 where the problem has no
	// place in the file.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Message says what is wrong and what would be right, and no secret.
	Message string `json:"message"`
}

// String gives the problem with its place.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, p.Message)
}

// Entry is what became of one file of the card.
type Entry struct {
	// File is its name on the card.
	File   string `json:"file"`
	Result Result `json:"result"`
	// At is when it was applied.
	At *time.Time `json:"at,omitempty"`
	// Notes say what was applied, and what was not and why.
	Notes    []string  `json:"notes,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
	// Secret tells that the file holds one, and Removed that it is no longer on
	// the card.
	Secret  bool `json:"secret,omitempty"`
	Removed bool `json:"removed,omitempty"`
}

// Report is the outcome of a run.
type Report struct {
	// At is when the run was.
	At     time.Time `json:"at"`
	DryRun bool      `json:"dry_run,omitempty"`
	// Entries in the order in which the files were looked at.
	Entries []Entry `json:"entries"`
	// Problems are those of no single file: the card is read-only, the device's
	// storage is full.
	Problems []string `json:"problems,omitempty"`
}

const reportDate = "Written "

// Text is the report as REPORT.txt has it, with line feeds.
func (r *Report) Text() string {
	var b strings.Builder
	b.WriteString("tuxwatch: what was found on this card, and what became of it.\n")
	fmt.Fprintf(&b, "%s%s by the device's clock.\n", reportDate, stamp(r.At))
	if r.DryRun {
		b.WriteString("This was a trial: nothing was changed.\n")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "\nATTENTION  %s\n", p)
	}
	if len(r.Entries) == 0 {
		b.WriteString("\nThere was nothing to apply. README.txt says what there can be.\n")
	}
	for _, e := range r.Entries {
		fmt.Fprintf(&b, "\n%-10s %s\n", strings.ToUpper(string(e.Result)), e.File)
		say := func(format string, args ...any) { fmt.Fprintf(&b, "           %s\n", fmt.Sprintf(format, args...)) }
		for _, n := range e.Notes {
			say("%s", n)
		}
		for _, p := range e.Problems {
			say("%v", p)
		}
		switch {
		case e.Result == Wrong:
			say("Nothing of it is in effect. Correct it and start the device again.")
		case e.Result == Partly:
			say("The rest of it is in effect. Correct it and start the device again.")
		case e.Result == Failed:
			say("It may be in effect in part. It is tried again at the next start.")
		}
		if e.At != nil {
			say("In effect since %s.", stamp(*e.At))
		}
		switch {
		case e.Secret && e.Removed:
			say("It holds a secret and was removed from the card.")
		case e.Secret:
			say("IT HOLDS A SECRET AND IS STILL ON THE CARD.")
		}
	}
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Messages about a file are made without its secrets. What somebody wrote where
// no secret belongs may still come up in one: this takes out what can be told
// by its form.
var secretForms = regexp.MustCompile(`(?i)(SharedAccessKey|SharedAccessSignature|PrivateKey|PresharedKey|password|psk)(\s*[=:]\s*)[^\n]+`)

func (r *Report) redact() {
	hide := func(text *string) { *text = secretForms.ReplaceAllString(*text, "$1$2(hidden)") }
	for _, e := range r.Entries {
		for i := range e.Notes {
			hide(&e.Notes[i])
		}
		for i := range e.Problems {
			hide(&e.Problems[i].Message)
		}
	}
}
