package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/modules"
)

// effectLimit is how long config edit waits for the daemon, which promises a
// change within two seconds; a machine under load gets some more.
const effectLimit = 5 * time.Second

func newConfigEditCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "edit [FILE]",
		Short: "Edit the configuration: checked before it is saved, in effect when it ends",
		Long: `Edit the configuration in $VISUAL, $EDITOR or sensible-editor. What is written is
checked before it is saved: where something is wrong you may edit again. Once it
is saved, the command waits until the daemon says that it is in effect.

Without FILE it is the file that the daemon uses, or ` + config.DefaultPath + `.
The exit status is 0 if the configuration is in effect, saved without a daemon,
or unchanged, 3 if it is invalid and was not saved or the daemon refuses it, and
1 if something else failed.`,
		Example: "  sudo tuxwatch config edit",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongUse("tuxwatch config edit takes one file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			e := &editing{
				daemon: control.Client{Socket: socket},
				stdin:  cmd.InOrStdin(), answers: bufio.NewReader(cmd.InOrStdin()),
				out: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr(),
			}
			if len(args) > 0 {
				e.file = args[0]
			}
			return e.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", socketUsage)
	return cmd
}

// editing is one run of config edit.
type editing struct {
	daemon      control.Client
	stdin       io.Reader
	answers     *bufio.Reader
	out, stderr io.Writer

	file   string // as the operator and the daemon call it
	target string // where it leads, if it is a link
	before []byte
	info   fs.FileInfo // nil where there is no file yet
	draft  string      // the copy that is edited
}

// newFile is what the editor shows where there is no configuration yet.
const newFile = `# What tuxwatchd runs: only what differs from the defaults, which
# "tuxwatch config show --defaults" lists. See tuxwatch.yaml(5).
`

func (e *editing) run(ctx context.Context) error {
	status, err := e.daemon.Status(ctx)
	running := err == nil
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		return failed("%w", err)
	}
	if e.file == "" {
		e.file = config.DefaultPath
		if running {
			e.file = status.Config.File
		}
	}
	if err := e.read(); err != nil {
		return failed("%w", err)
	}
	dir, err := os.MkdirTemp("", "tuxwatch-edit-*")
	if err != nil {
		return failed("making a place for the copy: %w", err)
	}
	// Where work would be lost, the folder stays and is named.
	e.draft = filepath.Join(dir, filepath.Base(e.target))
	text := e.before
	if e.info == nil {
		text = []byte(newFile)
	}
	if err := os.WriteFile(e.draft, text, 0o600); err != nil {
		os.RemoveAll(dir)
		return failed("making the copy: %w", err)
	}
	text, err = e.untilValid(ctx, text)
	if err != nil {
		return err
	}
	if text == nil {
		os.RemoveAll(dir)
		fmt.Fprintf(e.out, "%s: unchanged\n", e.file)
		return nil
	}
	saved := time.Now()
	if err := e.save(text); err != nil {
		return failed("saving %s: %w; what you wrote is kept in %s", e.file, err, e.draft)
	}
	os.RemoveAll(dir)
	return e.inEffect(ctx, running, status, saved)
}

// read takes the file as it is, and sees that it can be written before anyone
// takes pains with it.
func (e *editing) read() error {
	e.target = e.file
	if target, err := filepath.EvalSymlinks(e.file); err == nil {
		e.target = target
	}
	var err error
	e.before, err = config.Read(e.target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run it with sudo", err)
	case err != nil:
		return err
	default:
		if e.info, err = os.Stat(e.target); err != nil {
			return err
		}
	}
	probe, err := renameio.NewPendingFile(e.target, renameio.WithTempDir(filepath.Dir(e.target)))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s cannot be saved: %w; run it with sudo", e.file, err)
	case err != nil:
		return fmt.Errorf("%s cannot be saved: %w", e.file, err)
	}
	return probe.Cleanup()
}

// untilValid has the copy edited until it is valid. It returns nil when nothing
// was changed, and an error when the operator gives up; a copy worth keeping is
// kept.
func (e *editing) untilValid(ctx context.Context, start []byte) ([]byte, error) {
	for {
		if err := e.edit(); err != nil {
			return nil, e.keep(start, exitError{code: 1, err: fmt.Errorf("%w; nothing was saved", err)})
		}
		if err := context.Cause(ctx); err != nil {
			return nil, e.keep(start, exitError{code: 1, err: fmt.Errorf("%w; nothing was saved", err)})
		}
		text, err := config.Read(e.draft)
		if err != nil {
			return nil, failed("%w; nothing was saved", err)
		}
		if bytes.Equal(text, start) {
			return nil, nil
		}
		cfg, err := config.Parse(e.file, text, modules.Kinds(nil))
		if err == nil {
			for _, w := range cfg.Warnings {
				fmt.Fprintf(e.stderr, "%v (warning)\n", w)
			}
			return text, nil
		}
		fmt.Fprintln(e.stderr, err)
		again, asked := e.again()
		switch {
		case again:
		case asked:
			os.RemoveAll(filepath.Dir(e.draft))
			return nil, exitError{code: 3, err: fmt.Errorf("%s is as it was: what you wrote is discarded", e.file)}
		default:
			return nil, e.keep(start, exitError{code: 3, err: fmt.Errorf("%s is as it was: what you wrote is invalid", e.file)})
		}
	}
}

// again asks what to do about mistakes. asked is false when there is nobody to
// answer.
func (e *editing) again() (again, asked bool) {
	for {
		fmt.Fprint(e.stderr, "Edit again or discard? [E/d] ")
		answer, err := e.answers.ReadString('\n')
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "e", "edit":
			return true, true
		case "d", "discard":
			return false, true
		case "":
			if err == nil {
				return true, true
			}
		}
		if err != nil {
			fmt.Fprintln(e.stderr)
			return false, false
		}
	}
}

// keep says where the copy is, if there is work in it.
func (e *editing) keep(start []byte, err exitError) error {
	text, readErr := os.ReadFile(e.draft)
	if readErr != nil || bytes.Equal(text, start) {
		os.RemoveAll(filepath.Dir(e.draft))
		return err
	}
	return exitError{code: err.code, err: fmt.Errorf("%w; it is kept in %s", err.err, e.draft)}
}

// edit runs the editor, which may be a command with arguments.
func (e *editing) edit() error {
	editor := ""
	for _, choice := range []string{os.Getenv("VISUAL"), os.Getenv("EDITOR")} {
		if editor == "" {
			editor = choice
		}
	}
	for _, program := range []string{"sensible-editor", "editor", "nano", "vi"} {
		if editor != "" {
			break
		}
		if _, err := exec.LookPath(program); err == nil {
			editor = program
		}
	}
	if editor == "" {
		return errors.New("there is no editor: name one in $EDITOR")
	}
	cmd := exec.Command("sh", "-c", editor+` "$1"`, editor, e.draft)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.stdin, e.out, e.stderr
	if _, ok := e.stdin.(*os.File); !ok {
		cmd.Stdin = nil // it would read the answers that are for us
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the editor %q: %w", editor, err)
	}
	return nil
}

// save replaces the file in one step, with its mode and owner.
func (e *editing) save(text []byte) error {
	now, err := config.Read(e.target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(now, e.before) || errors.Is(err, fs.ErrNotExist) != (e.info == nil) {
		return errors.New("somebody else has changed it meanwhile")
	}
	mode := fs.FileMode(0o644)
	if e.info != nil {
		mode = e.info.Mode().Perm()
	}
	f, err := renameio.NewPendingFile(e.target, renameio.WithTempDir(filepath.Dir(e.target)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if e.info != nil {
		owner := e.info.Sys().(*syscall.Stat_t)
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
		// Changing the owner takes the set-id bits away, and nothing else.
		if err := f.Chmod(mode); err != nil {
			return err
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(e.target))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// inEffect waits for the daemon's word.
func (e *editing) inEffect(ctx context.Context, running bool, before *control.Status, saved time.Time) error {
	if !running {
		fmt.Fprintf(e.out, "%s: saved; tuxwatchd is not running and reads it when it starts\n", e.file)
		return nil
	}
	if !same(before.Config.File, e.file) {
		fmt.Fprintf(e.out, "%s: saved; the running tuxwatchd uses %s\n", e.file, before.Config.File)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, effectLimit)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		status, err := e.daemon.Status(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			return failed("%s is saved, but whether it is in effect is not known: %w", e.file, err)
		case err == nil && status.Config.RefusedAt.After(saved):
			for _, p := range status.Config.Problems {
				fmt.Fprintln(e.stderr, p)
			}
			return exitError{code: 3, err: fmt.Errorf("%s is saved, but tuxwatchd refuses it; the configuration before stays in effect", e.file)}
		case err == nil && status.Config.LoadedAt.After(saved):
			fmt.Fprintf(e.out, "%s: saved and in effect\n", e.file)
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return failed("%s is saved, but tuxwatchd has not read it within %v; see tuxwatch status", e.file, effectLimit)
		}
	}
}

// same tells whether two paths lead to one file.
func same(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return a == b
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}
