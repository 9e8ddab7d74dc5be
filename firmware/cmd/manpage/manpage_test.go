package manpage_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/cmd/manpage"
)

func program() *cobra.Command {
	run := func(*cobra.Command, []string) error { return nil }
	root := &cobra.Command{Use: "fishfeed", Short: "Feed the fish", Long: "Feeds the fish.\n\n.hidden is no request, 'nor this.\n\n  fishfeed now\n\nEnd of it."}
	root.PersistentFlags().String("tank", "north", "the `TANK` to feed")
	now := &cobra.Command{Use: "now [FISH…]", Short: "Feed them now", RunE: run, Example: "  fishfeed now \\o/"}
	now.Flags().IntP("grams", "g", 5, "how much in `GRAMS`")
	now.Flags().Bool("secret", false, "not for you")
	_ = now.Flags().MarkHidden("secret")
	plan := &cobra.Command{Use: "plan", Short: "Plans"}
	plan.AddCommand(&cobra.Command{Use: "show", Short: "Show the plan", RunE: run})
	root.AddCommand(now, plan, manpage.NewCommand(manpage.Text{
		Source:     "fishfeed 1.0",
		Files:      []manpage.Item{{Term: "/etc/fish.yaml", Meaning: "Which fish there are."}},
		ExitStatus: []manpage.Item{{Term: "1", Meaning: "They did not eat."}},
		SeeAlso:    []string{"cat(1)", "fish.yaml(5)"},
	}))
	return root
}

func page(t *testing.T) string {
	t.Helper()
	root := program()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"man", "--date", "2026-01-31"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPage(t *testing.T) {
	got := page(t)
	for _, want := range []string{
		`.TH "FISHFEED" "1" "2026-01-31" "fishfeed 1.0"`,
		"\\&.hidden is no request",
		".SS \"now [FISH...]\"\nFeed them now.\n",
		`\fB\-g\fR, \fB\-\-grams\fR \fIGRAMS\fR` + "\nhow much in GRAMS (default 5)\n",
		"fishfeed now \\eo/\n",
		".SS \"plan show\"\n",
		".SH \"GLOBAL OPTIONS\"\n",
		"\\fB/etc/fish.yaml\\fR\nWhich fish there are.\n",
		".BR cat (1),\n.BR fish.yaml (5)\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
	for _, unwanted := range []string{"secret", `.SS "man`, `.SS "plan"`, "ENVIRONMENT"} {
		if strings.Contains(got, unwanted) {
			t.Errorf("the page has %q:\n%s", unwanted, got)
		}
	}
}

// A formatter takes the page without a warning and shows what is meant.
func TestPageIsFormatted(t *testing.T) {
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("groff is not installed: the page is not formatted")
	}
	cmd := exec.Command("groff", "-man", "-Tascii", "-ww", "-P-cbou")
	cmd.Stdin = strings.NewReader(page(t))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("groff: %v\n%s", err, stderr.String())
	}
	for _, want := range []string{".hidden is no request", "    fishfeed now\n", "Example:\n\n           fishfeed now \\o/\n", "-g, --grams GRAMS"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("formatted, the page lacks %q:\n%s", want, out)
		}
	}
}
