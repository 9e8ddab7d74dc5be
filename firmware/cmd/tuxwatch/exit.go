package main

import "fmt"

// exitError carries the status that the process ends with beside the error
// that explains it: 1 the work failed, 2 the command was used wrongly, 3 the
// configuration is invalid.
//
// A nil err ends the process silently with that status: the command has
// already shown its findings as part of its results.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// Unwrap gives the error that explains the status, so that errors.Is and
// errors.As look through it.
func (e exitError) Unwrap() error { return e.err }

// wrongUse is the error of a command that was called wrongly.
func wrongUse(format string, args ...any) error {
	return exitError{code: 2, err: fmt.Errorf(format, args...)}
}

// failed is the error of a command that could not do its work.
func failed(format string, args ...any) error {
	return exitError{code: 1, err: fmt.Errorf(format, args...)}
}
