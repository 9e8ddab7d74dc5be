// Package manpage writes the manual page of a program out of its commands, so
// that the page and --help say the same. It is for the programs beside it and
// knows nothing of what they do; pages of file formats are written by hand.
// Start with [NewCommand].
package manpage

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Text is what a page says beyond what the commands say themselves.
type Text struct {
	// Source is the program's name and version, for the foot of the page.
	Source string
	// Files, Environment and ExitStatus are the sections of those names, item by
	// item; an empty section is left out.
	Files, Environment, ExitStatus []Item
	// SeeAlso names related pages, as in "tuxwatchd(8)".
	SeeAlso []string
}

// Item is a term and what it means.
type Item struct{ Term, Meaning string }

// NewCommand makes the hidden subcommand "man" that prints the page of the
// program it is added to.
func NewCommand(text Text) *cobra.Command {
	var date string
	cmd := &cobra.Command{
		Use:    "man",
		Short:  "Print the manual page",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return Write(cmd.OutOrStdout(), cmd.Root(), date, text)
		},
	}
	cmd.Flags().StringVar(&date, "date", "", "the page's `DATE`, as in 2026-01-31")
	return cmd
}

// Write writes the page of root and all its subcommands, in the man(7) macros,
// section 1. The date (year-month-day) may be empty.
func Write(w io.Writer, root *cobra.Command, date string, text Text) error {
	out := bufio.NewWriter(w)
	p := page{out}
	p.printf(".TH \"%s\" \"1\" \"%s\" \"%s\" \"User commands\"\n", escape(strings.ToUpper(root.Name())), date, escape(text.Source))
	p.macro("SH", "NAME")
	p.line(fmt.Sprintf("%s \\- %s", escape(root.Name()), escape(root.Short)))
	p.macro("SH", "SYNOPSIS")
	p.printf(".B %s\n.I command\n[\\fIoptions\\fR] [\\fIarguments\\fR]\n", escape(root.Name()))
	if root.Long != "" {
		p.macro("SH", "DESCRIPTION")
		p.text(root.Long)
	}
	p.macro("SH", "COMMANDS")
	p.commands(root)
	p.flagSection("GLOBAL OPTIONS", root.PersistentFlags())
	p.items("FILES", text.Files)
	p.items("ENVIRONMENT", text.Environment)
	p.items("EXIT STATUS", text.ExitStatus)
	if len(text.SeeAlso) > 0 {
		p.macro("SH", "SEE ALSO")
		for i, name := range text.SeeAlso {
			title, section, _ := strings.Cut(strings.TrimSuffix(name, ")"), "(")
			end := ","
			if i == len(text.SeeAlso)-1 {
				end = ""
			}
			p.printf(".BR %s (%s)%s\n", escape(title), section, end)
		}
	}
	return out.Flush()
}

// page writes roff. Errors are kept by the writer below.
type page struct{ *bufio.Writer }

func (p page) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// macro writes a request and its arguments.
func (p page) macro(name string, args ...string) {
	p.printf(".%s", name)
	for _, a := range args {
		p.printf(` "%s"`, strings.ReplaceAll(escape(a), `"`, `\(dq`))
	}
	p.printf("\n")
}

// line writes a line of running text that is escaped already.
func (p page) line(s string) {
	// A line that begins like a request is text all the same.
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	p.printf("%s\n", s)
}

// text writes help: paragraphs, and as they stand the lines that are indented.
func (p page) text(s string) {
	literal, gap := false, false
	for line := range strings.Lines(strings.Trim(s, "\n")) {
		line = strings.TrimRight(line, "\n ")
		if line == "" {
			gap = true
			continue
		}
		indented := strings.HasPrefix(line, "  ")
		switch {
		case indented && !literal:
			p.printf(".PP\n.nf\n.RS 4\n")
		case !indented && literal:
			p.printf(".RE\n.fi\n.PP\n")
		case gap && literal:
			p.printf("\n")
		case gap:
			p.macro("PP")
		}
		literal, gap = indented, false
		p.line(escape(strings.TrimPrefix(line, "  ")))
	}
	if literal {
		p.printf(".RE\n.fi\n")
	}
}

func (p page) items(title string, items []Item) {
	if len(items) == 0 {
		return
	}
	p.macro("SH", title)
	for _, i := range items {
		p.macro("TP")
		p.line(`\fB` + escape(i.Term) + `\fR`)
		p.line(escape(i.Meaning))
	}
}

// commands writes every command that does something, in the order of --help.
func (p page) commands(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() || sub.Name() == "help" {
			continue
		}
		if sub.Name() == "completion" { // one shell is as the other
			p.macro("SS", "completion bash|zsh|fish")
			p.text("Print the script that completes the program's arguments in a shell.")
			continue
		}
		if sub.HasAvailableSubCommands() {
			p.commands(sub)
			continue
		}
		// "tuxwatch config show": without the program's name.
		_, path, _ := strings.Cut(sub.CommandPath(), " ")
		_, arguments, _ := strings.Cut(sub.Use, " ")
		p.macro("SS", strings.TrimSpace(path+" "+arguments))
		if sub.Long != "" {
			p.text(sub.Long)
		} else {
			p.text(strings.TrimSuffix(sub.Short, ".") + ".")
		}
		p.flags(sub.LocalNonPersistentFlags())
		if sub.Example != "" {
			p.macro("PP")
			p.text("Example:\n" + sub.Example)
		}
	}
}

func (p page) flagSection(title string, flags *pflag.FlagSet) {
	if flags.HasAvailableFlags() {
		p.macro("SH", title)
		p.flags(flags)
	}
}

func (p page) flags(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		term := `\fB` + escape("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			term = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + term
		}
		if name != "" {
			term += ` \fI` + escape(name) + `\fR`
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		p.macro("TP")
		p.line(term)
		p.line(escape(usage))
	})
}

// escape makes text safe for roff: what is meant as a hyphen-minus or backslash
// comes out as one.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "→", `\->`).Replace(s)
}
